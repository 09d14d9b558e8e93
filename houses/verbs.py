"""The verbs of the command line by name, and how a command is written by whoever reads of it."""

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple


class Verb(NamedTuple):
    """The module that holds a verb, and what it does in a few words."""

    module: str
    help: str


VERBS = {
    "demo": Verb("cli_run", "Everything once, with a crash in the middle and a proof at the end."),
    "run": Verb("cli_notebooks", "Run a notebook, or all of them, without a browser."),
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
    "naive": Verb("cli_admin", "A join that loses and doubles houses when it is killed, to compare with."),
}

_COMMAND = re.compile(rf"(?<![\w./-])houses( --config \S+)?(?= (?:{'|'.join(VERBS)})\b)")
_config_option = ""


def program() -> str:
    """What is typed to run a verb: `houses`, or what HOUSES_PROGRAM says, which lab.py sets for those it runs."""
    return os.environ.get("HOUSES_PROGRAM") or "houses"


def remember_config(path: Path | None) -> None:
    """From now on commands in messages name the same configuration: without it they would work on another folder."""
    global _config_option  # noqa: PLW0603  # one command line a process
    _config_option = f" --config {shlex.quote(str(path))}" if path else ""


def as_typed(text: str, *, example: bool = False) -> str:
    """A text with each `houses VERB` in it as it is typed here; an example of the help needs no configuration."""
    option = "" if example else _config_option
    return _COMMAND.sub(lambda match: program() + (match[1] or option), text)
