"""Where a headless run stands: its sections and cells, how long the rest takes, and why it ended early."""

import glob
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from houses.failure import Failure, plain, short_frames
from houses.kernel import StopGuard
from houses.notebooks import heading_of, read_cells

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
