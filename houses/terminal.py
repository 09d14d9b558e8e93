"""What the verbs of the command line share: the configuration, and lines for people."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from houses.config import Config


def say(line: str) -> None:
    """Print a line at once. A reader that has gone away (a closed pipe) is no reason to stop working."""
    with suppress(BrokenPipeError):
        click.echo(line)


def configured(ctx: click.Context) -> "Config":
    """The configuration that --config names; what its author should know is said once, on stderr."""
    from houses.config import load

    path: Path | None = ctx.find_root().obj
    config = load(path)
    for note in config.notes:
        click.echo(f"Note: {note}", err=True)
    return config
