"""What the verbs of the command line share: the configuration, and lines, tables and progress for people.

A terminal gets colours and bars from rich; a pipe or a file gets plain lines, without any control sequence.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from houses.system.log import progress_shown
from houses.system.text import visible

if TYPE_CHECKING:
    from houses.config.config import Config
    from houses.system.locks import Role
    from houses.system.stopping import StopRequest

_PLAIN_EVERY_S = 5.0
_SHOWN_CHARACTERS = 40
_BAR_SHARE = 6
"""The bar takes one part in so many of the terminal's width: what is said beside it matters more."""


def house_id(text: str) -> int:
    """An id as messages have it: ASCII digits only, where Python's own numbers may have signs, underscores and other digits."""
    from houses.records.message import MAX_ID_DIGITS, parse_house_id

    if (found := parse_house_id(text)) is None:
        raise click.BadParameter(f"house id {text[:_SHOWN_CHARACTERS]!r}: must be 1 to {MAX_ID_DIGITS} digits")
    return found


class Seconds(click.FloatRange):
    """A time that can be waited for, which NaN and a thousand years cannot."""

    def __init__(self, *, min_open: bool = False) -> None:
        """Zero or more; with `min_open`, more than zero."""
        super().__init__(min=0, max=1e9, min_open=min_open)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


Count = click.IntRange(1, 10**15)
"""How many: far from what any loop can count to, and within what all of them take."""

ShowProgress = Callable[[float, str], None]
"""Told how much is done, in the unit of the total, and what to say about it."""


def say(line: str, *, err: bool = False) -> None:
    """Print a line at once. A reader that has gone away (a closed pipe) is no reason to stop working."""
    with suppress(BrokenPipeError):
        click.echo(visible(line), err=err)


complain = partial(say, err=True)
"""Print a line on stderr."""


def print_json(record: Mapping[str, Any]) -> None:
    """Print a record as one line of ASCII JSON."""
    text = json.dumps(record, separators=(",", ":"))
    click.echo(text.replace("\x7f", "\\u007f"))  # the one that json leaves as it is


def tell(found: Any, as_json: bool) -> None:
    """Say what was found, or print it as JSON."""
    if as_json:
        print_json(found.to_json())
    else:
        say(str(found))


def configured(ctx: click.Context) -> "Config":
    """The configuration that --config names; what its author should know is said once, on stderr."""
    from houses.config.config import load

    config = load(ctx.find_root().obj)
    for note in config.notes:
        complain(f"Note: {note}")
    return config


def until_stopped(
    work: Callable[["StopRequest"], object],
    folder: Path | None = None,
    role: "Role" = "consumer",
    *,
    stdin: bool = False,
    early: str = "",
) -> int:
    """Do work that looks at stop requests; returns the exit status.

    Args:
        work: a request that comes before its loop runs ends it at once.
        folder: where its lock `role` is, for `houses stop`.
        stdin: its end is a request too, and so is that of the parent process; none ends the work early.
        early: what is said when it was ended before its loop ran.
    """
    from houses.system.stopping import StoppedEarly, StopRequest

    request = StopRequest(folder, role)
    if stdin:  # nobody waits at a terminal: what is there is still read
        request.begin()
    try:
        request.listen(stdin=stdin)
        work(request)
    except StoppedEarly:
        if early:
            say(early)
    return request.exit_status


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; the cells are text as they are, never markup."""
    cells = [["" if cell is None else visible(str(cell), keep="") for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
        for row in (headers, *cells):
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(*headers, box=box.SIMPLE_HEAD)
    for each in cells:
        shown.add_row(*map(Text, each))
    Console().print(shown)


@contextmanager
def progress(
    title: str, total: float | None, *, err: bool = False, every_s: float = _PLAIN_EVERY_S
) -> Iterator[ShowProgress]:
    """Shows how far long work has come: a bar on a terminal, plain lines elsewhere.

    Args:
        total: what `done` comes to at the end; None when that is not known.
        err: on stderr, where stdout is for a result.
        every_s: seconds between two plain lines at least; 0: a line for whatever is shown.
    """
    if (sys.stderr if err else sys.stdout).isatty():
        yield from _bar(title, total, err)
        return
    said_s = time.monotonic()  # nothing is said of what is over before

    def show(done: float, text: str) -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= every_s:
            said_s = time.monotonic()
            say(f"{title}: {text}" if total is None else f"{title}: {done / total:.0%}, {text}", err=err)

    yield show


@contextmanager
def work_shown(title: str, *, err: bool = True) -> Iterator[None]:
    """`progress` of whatever logs how far it has come, for the time of a `with` block."""
    with progress(title, None, err=err) as show, progress_shown(lambda line: show(0, line)):
        yield


def _bar(title: str, total: float | None, err: bool) -> Iterator[ShowProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    console = Console(stderr=err)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(console.width // _BAR_SHARE),
        TimeElapsedColumn(),
        TextColumn(
            "{task.fields[text]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        task = bar.add_task(visible(title, keep=""), total=total, text="")
        yield lambda done, text: bar.update(task, completed=done, text=visible(text, keep=""))
