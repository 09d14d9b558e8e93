"""The command line `houses`: its verbs, and what errors and Ctrl-C turn into.

What a verb needs is imported when it is called, so that `houses --help` and `houses consume` start fast.
"""

import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from houses.cli.consume import consume, naive
from houses.cli.hello import hello
from houses.cli.look import compact, peek, show, status, verify
from houses.cli.manage import kafka, reset, stop
from houses.cli.produce import produce, storno, storno_loop
from houses.cli.run import demo, run
from houses.cli.terminal import complain, say
from houses.errors import EXIT_ERROR, EXIT_INTERRUPTED, HousesError
from houses.system.log import shown


class _InOrder(click.Group):
    """Lists the verbs in the order in which one meets them."""

    def list_commands(self, _: click.Context) -> list[str]:
        """As they were added."""
        return list(self.commands)


VERBS: tuple[click.Command, ...] = (
    *(demo, run, kafka, produce, consume, storno, storno_loop, status),
    *(show, peek, stop, reset, verify, compact, hello, naive),
)


@click.group(
    cls=_InOrder,
    commands=VERBS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
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
    ctx.obj = path


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 fine, 1 an error, 2 wrong usage, 130 Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text files
    os.umask(os.umask(0o077) | 0o022)  # whatever the shell says, only the owner may change what is written
    try:
        with shown(say):
            result: Any = cli.main(arguments, prog_name="houses", standalone_mode=False)
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
    verb = error.ctx.command_path.removeprefix("houses")
    return click.UsageError(f"--config comes before the verb: houses --config PATH{verb}", error.ctx)


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
