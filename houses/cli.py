"""The command line `houses`: its verbs, and what errors and Ctrl-C turn into. The verbs themselves are in cli_*.py.

Each of these modules is imported when a verb of it is called, so that `houses --help` and `houses consume` start fast.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click

from houses.errors import EXIT_ERROR, EXIT_INTERRUPTED, HousesError
from houses.terminal import complain


class Verb(NamedTuple):
    """The module that holds a verb, and what it does in a few words."""

    module: str
    help: str


VERBS = {
    "demo": Verb("cli_run", "Everything once, with a crash in the middle and a proof at the end."),
    "kafka": Verb("cli_run", "Start, stop or look at the local Kafka."),
    "produce": Verb("cli_send", "Send the parts of houses."),
    "consume": Verb("cli_run", "Join parts to houses until stopped."),
    "storno": Verb("cli_send", "Cancel a house, or one part of it."),
    "storno-loop": Verb("cli_send", "Cancel a random recent house every so many seconds."),
    "status": Verb("cli_look", "Say how things stand, in plain words."),
    "show": Verb("cli_look", "Show houses as a table, the pending ones, or one house's story."),
    "peek": Verb("cli_look", "Print raw messages of a topic."),
    "stop": Verb("cli_admin", "Stop this project's producers and consumers."),
    "reset": Verb("cli_admin", "Start anew: topics, output files, checkpoint."),
    "verify": Verb("cli_look", "Prove that every message has exactly one outcome."),
    "compact": Verb("cli_look", "Write houses_live.jsonl, without the cancelled houses."),
    "hello": Verb("cli_admin", "First steps: send and hear a few hellos."),
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
    except BrokenPipeError:  # houses show | head; nothing may be flushed into the pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (HousesError, OSError) as error:
        complain(f"Error: {error}")
        return EXIT_ERROR


def _aborted(error: click.exceptions.Abort) -> int:
    """Ctrl-C, or a question that nobody could answer."""
    if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    complain("Error: nobody answers the question, nothing was changed; --yes is the answer of a script")
    return EXIT_ERROR
