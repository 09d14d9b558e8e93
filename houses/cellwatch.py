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
    """About how long the rest takes: as in the last run beside this one, else as the cells before; None at the first."""


ShowStep = Callable[[Step], None]


def seconds_of_cells(folder: Path, name: str) -> list[float]:
    """How long each code cell of this notebook took in the newest whole run beside this one."""
    for path in sorted(folder.parent.glob(f"*/{glob.escape(name)}"), reverse=True):
        with suppress(ValueError, KeyError, TypeError):  # of a run that was cut off, or that goes on just now
            record = json.loads(path.read_bytes())
            if not record["metadata"]["papermill"]["exception"]:
                return _durations(record, lambda cell: not _is_injected(cell))
    return []


def seconds_in_cells(notebook: Path) -> float:
    """How long all code cells of an executed notebook took together; 0.0 when it was never begun."""
    if not notebook.exists():
        return 0.0
    return sum(_durations(json.loads(notebook.read_bytes()), lambda cell: cell["metadata"]["papermill"]["duration"]))


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
        """The clock starts. `earlier_s`: how long each code cell took the last time; empty when that is not known."""
        self._total = sum(cell.kind == "code" for cell in read_cells(source))
        self._earlier_s = earlier_s if len(earlier_s) == self._total else []
        self._show = show
        self._guard = guard
        self.begun_s = time.monotonic()
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
            self._show(Step(self.number - 1, self._total, self.section, self._left_s()))

    def _left_s(self) -> float | None:
        done = self.number - 1
        if self._earlier_s:
            return sum(self._earlier_s[done:])
        return (time.monotonic() - self.begun_s) / done * (self._total - done) if done else None

    def on_cell_error(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """The client calls this after a cell that failed, also one that is expected to."""
        if _EXPECTED not in cell.metadata.get("tags", ()):
            content = execute_reply["content"]
            self.fail(content["ename"], content["evalue"], short_frames(content["traceback"]))

    def fail(self, kind: str, message: str, frames: tuple[str, ...] = ()) -> None:
        """Note why the cell that runs is the last one."""
        self.failure = Failure(self.section, self.number, kind, plain(message), frames)
