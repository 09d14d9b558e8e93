"""The command line `houses`: its verbs, and what errors and Ctrl-C turn into. The verbs themselves are in cli_*.py.

Each of these modules is imported when a verb of it is called, so that `houses --help` and `houses consume` start fast.
"""

import io
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from houses.errors import EXIT_ERROR, EXIT_INTERRUPTED, HousesError
from houses.terminal import complain
from houses.verbs import VERBS, as_typed, program, remember_config


class LazyGroup(click.Group):
    """A group that knows its verbs by name and help, and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order in which one meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of a name; None when there is none."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"houses.{VERBS[cmd_name].module}"), cmd_name.replace("-", "_"))
        _tell_as_typed(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's own, which suggests the nearest name only of those that are loaded."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=VERBS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


def _tell_as_typed(command: click.Command) -> None:
    """Let the help of a verb, and of those below it, show commands as they are typed here."""
    command.help = as_typed(command.help or "", example=True)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _tell_as_typed(below)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    "path",
    metavar="PATH",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Another config.yaml, such as an experiment's, output/runs/NAME/config.yaml.",
)
@click.pass_context
def cli(ctx: click.Context, path: Path | None) -> None:
    """Houses from three parts: a Kafka stream-join lab.

    \b
    Examples:
      houses demo
      houses consume --help
      houses --config output/runs/first/config.yaml status
    """
    remember_config(path)
    ctx.obj = path


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 fine, 1 an error, 2 wrong usage, 130 Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text files
    os.umask(os.umask(0o077) | 0o022)  # whatever the shell says, only the owner may change what is written
    _tell_as_typed(cli)
    try:
        result: Any = cli.main(arguments, prog_name=program(), standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort as error:
        return _aborted(error)
    except click.ClickException as error:
        _show(_said_better(error))
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # houses show | head; nothing may be flushed into the pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (HousesError, OSError) as error:
        complain(f"Error: {error}")
        return EXIT_ERROR


def _said_better(error: click.ClickException) -> click.ClickException:
    """An option of the group after the verb is no typing error, but out of its place."""
    if not isinstance(error, click.NoSuchOption) or error.option_name != "--config" or error.ctx is None:
        return error
    verb = error.ctx.command_path.removeprefix(program())
    return click.UsageError(f"--config comes before the verb: {program()} --config PATH{verb}", error.ctx)


def _show(error: click.ClickException) -> None:
    """As click does, which quotes some words as they were typed."""
    said = io.StringIO()
    error.show(said)
    complain(said.getvalue().rstrip("\n"))


def _aborted(error: click.exceptions.Abort) -> int:
    """Ctrl-C, or a question that nobody could answer."""
    if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    complain("Error: nobody answers the question, nothing was changed; --yes is the answer of a script")
    return EXIT_ERROR
