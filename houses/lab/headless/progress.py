"""Where a headless run stands: its sections and cells, how long the rest takes, and why it ended early."""

import glob
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from houses.lab.headless.kernel import StopGuard
from houses.lab.headless.notebooks import heading_of, read_cells

PARAMETERS_NAME = "parameters.json"
"""Beside the executed notebook: the values of all its parameters."""
_INJECTED = "injected-parameters"
_EXPECTED = "raises-exception"
"""Tag of a cell that is to fail; the next ones run."""


class Step(NamedTuple):
    """Where a run stands when a code cell begins."""

    done: int
    """Code cells behind it."""
    total: int
    section: str
    left_s: float | None
    """About how long the rest takes: as in the last run with the same parameters; None where there is none."""


ShowStep = Callable[[Step], None]


def seconds_of_cells(folder: Path, name: str, values: Mapping[str, Any]) -> list[float]:
    """How long each code cell of this notebook took in the newest whole run beside this one that had the same parameters.

    Other parameters make other seconds, so that a run without such a one has no forecast.
    """
    wanted = json.loads(json.dumps(values, default=str))  # as a file holds them
    for path in sorted(folder.parent.glob(f"*/{glob.escape(name)}"), reverse=True):
        with suppress(OSError, ValueError, KeyError, TypeError):  # of a run that was cut off, or that goes on just now
            record = json.loads(path.read_bytes())
            whole = not record["metadata"]["papermill"]["exception"]
            if whole and json.loads((path.parent / PARAMETERS_NAME).read_bytes()) == wanted:
                return _durations(record, lambda cell: not _is_injected(cell))
    return []


def seconds_in_cells(record: Mapping[str, Any]) -> float:
    """How long all code cells of a notebook took together, as papermill notes it; 0.0 when it was never begun."""
    return sum(_durations(record, lambda cell: cell["metadata"]["papermill"]["duration"]))


def _durations(record: Mapping[str, Any], wanted: Callable[[Any], Any]) -> list[float]:
    cells = (cell for cell in record["cells"] if cell["cell_type"] == "code" and wanted(cell))
    return [float(cell["metadata"]["papermill"]["duration"]) for cell in cells]


def _is_injected(cell: Mapping[str, Any]) -> bool:
    return _INJECTED in cell["metadata"].get("tags", ())


class StoppedError(Exception):
    """A signal came: no further cell begins."""


class CellWatch:
    """Follows a run from cell to cell: tells of it, and lets no cell begin after a signal."""

    def __init__(self, source: Path, show: ShowStep, guard: StopGuard, earlier_s: list[float]) -> None:
        """The clock starts. `earlier_s`: how long each code cell takes; empty when that is not known."""
        self._total = sum(cell.kind == "code" for cell in read_cells(source))
        self._earlier_s = earlier_s if len(earlier_s) == self._total else []
        self._show = show
        self._guard = guard
        self.begun_s = time.monotonic()
        self.cell_seconds = 0.0
        """How long the code cells took; set at the end."""
        self.failure: Failure | None = None
        self.section = ""
        self.number = 0
        """Of the code cell that runs, from 1."""

    def on_cell_start(self, cell: Any, cell_index: int) -> None:
        """The client calls this before each cell, by these names."""
        if self._guard.asked:
            raise StoppedError
        if cell.cell_type == "markdown":
            self.section = heading_of(cell.source) or self.section
        elif cell.cell_type == "code" and not _is_injected(cell):
            self.number += 1
            done = self.number - 1
            left_s = sum(self._earlier_s[done:]) if self._earlier_s else None
            self._show(Step(done, self._total, self.section, left_s))

    def on_cell_error(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """The client calls this after a cell that failed, also one that is expected to."""
        if _EXPECTED not in cell.metadata.get("tags", ()):
            content = execute_reply["content"]
            self.fail(content["ename"], content["evalue"], short_frames(content["traceback"]))

    def fail(self, kind: str, message: str, frames: tuple[str, ...] = ()) -> None:
        """Note why the cell that runs is the last one."""
        self.failure = Failure(self.section, self.number, kind, plain(message), frames)


_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_FRAME = re.compile(r"\s*(Cell In\[|File )")
_ARROW = re.compile(r"-+> *\d+")
_MOST_FRAMES = 3
_MOST_LINES = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """Where a notebook failed, and how."""

    section: str
    """The last heading above the cell."""
    cell: int
    """Its place among the code cells, from 1; 0: before the first."""
    kind: str
    """Name of the exception."""
    message: str
    frames: tuple[str, ...] = ()
    """The line of the cell that failed and the last places below it, outermost first."""

    def lines(self) -> list[str]:
        """A short traceback for people."""
        where = f'in section "{self.section}", code cell {self.cell}' if self.cell else "before the first cell"
        said = f"{self.kind}: {self.message}".splitlines()
        more = [f"... {len(said) - _MOST_LINES} lines more"] if len(said) > _MOST_LINES else []
        return [f"failed {where}", *(f"  {frame}" for frame in self.frames), *said[:_MOST_LINES], *more]

    def to_json(self) -> dict[str, Any]:
        """For summary.json."""
        return {name: getattr(self, name) for name in self.__slots__}


def plain(text: str) -> str:
    """A text without the control sequences of terminals."""
    return _ANSI.sub("", text)


def short_frames(traceback: Sequence[str]) -> tuple[str, ...]:
    """From IPython's traceback: the frame of the cell and the last ones, each a place and its line of code."""
    lines = plain("\n".join(traceback)).splitlines()
    frames = [_frame(lines, at) for at, line in enumerate(lines) if _FRAME.match(line)]
    chosen = frames if len(frames) <= _MOST_FRAMES else [frames[0], *frames[1 - _MOST_FRAMES :]]
    return tuple(line for frame in chosen for line in frame)


def _frame(lines: Sequence[str], at: int) -> list[str]:
    """The place in a line, and the line of code that it stands for: behind an arrow, or, of a SyntaxError, the next one."""
    for line in lines[at + 1 :]:
        if _FRAME.match(line) or not line.strip():
            break
        if _ARROW.match(line):
            return [lines[at].strip(), line.rstrip()]
    return [lines[at].strip(), *(line.rstrip() for line in lines[at + 1 : at + 2])]
