"""The command line `houses`: its verbs, and what errors and Ctrl-C turn into. The verbs themselves are in cli_*.py.

Each module is imported when its verb is called, so that `houses --help` and `houses consume` start fast.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click

from houses.errors import HousesError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


class Verb(NamedTuple):
    """Where a verb is, and what it does in a few words."""

    module: str
    help: str


VERBS = {
    "consume": Verb("cli_run", "Join parts to houses until stopped."),
}


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
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The config.yaml to use, for example of an experiment (output/runs/NAME/config.yaml).  [default: the project's]",
)
@click.pass_context
def cli(ctx: click.Context, path: Path | None) -> None:
    """Houses from three parts: a Kafka stream-join lab.

    \b
    Example: houses demo
             houses consume --help
    """
    ctx.obj = path


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 fine, 1 an error, 2 wrong usage, 130 Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text files
    try:
        result: Any = cli.main(arguments, prog_name="houses", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort as error:
        return _aborted(error)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # houses show | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (HousesError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        return EXIT_ERROR


def _aborted(error: click.exceptions.Abort) -> int:
    if isinstance(error.__cause__, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    click.echo("Error: no answer: nothing was changed; --yes answers the question", err=True)
    return EXIT_ERROR
