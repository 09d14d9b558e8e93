"""Where a headless run stands: its sections and cells, and why it ended early."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from houses.lab.headless.kernel import StopGuard
from houses.lab.headless.notebooks import headings

LOG = logging.getLogger(__name__)

_INJECTED = "injected-parameters"
_EXPECTED = "raises-exception"
"""Tag of a cell that is to fail; the next ones run."""


class StoppedError(Exception):
    """A signal came: no further cell begins."""


class CellWatch:
    """Follows a run from cell to cell: logs where it stands, and lets no cell begin after a signal."""

    def __init__(self, label: str, guard: StopGuard) -> None:
        """`label`: what the run is called in the log."""
        self._label = label
        self._guard = guard
        self._total = 0
        self.failure: Failure | None = None
        self.section = ""
        self.number = 0
        """Of the code cell that runs, from 1."""

    def on_notebook_start(self, notebook: Any) -> None:
        """The client calls this when the kernel is ready, by these names; and what is below."""
        self._total = sum(_is_step(cell) for cell in notebook.cells)

    def on_cell_start(self, cell: Any, cell_index: int) -> None:
        """Before each cell."""
        if self._guard.asked:
            raise StoppedError
        if cell.cell_type == "markdown":
            self.section = (headings(cell.source) or [self.section])[-1]
        elif _is_step(cell):
            self.number += 1
            where = f"{self._label}: code cell {self.number}/{self._total}"
            LOG.debug(f"{where}: {self.section}" if self.section else where)

    def on_cell_error(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """After a cell that failed, also one that is expected to."""
        if _EXPECTED not in cell.metadata.get("tags", ()):
            content = execute_reply["content"]
            self.fail(content["ename"], content["evalue"], short_frames(content["traceback"]))

    def fail(self, kind: str, message: str, frames: tuple[str, ...] = ()) -> None:
        """Note why the cell that runs is the last one."""
        self.failure = Failure(self.section, self.number, kind, plain(message), frames)


def _is_step(cell: Any) -> bool:
    """Whether people count it: a code cell of theirs, not the parameters that papermill has put in."""
    return bool(cell.cell_type == "code" and _INJECTED not in cell.metadata.get("tags", ()))


_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
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

    def __str__(self) -> str:
        """A short traceback for people, of several lines."""
        where = f'in section "{self.section}", code cell {self.cell}' if self.cell else "before the first cell"
        said = f"{self.kind}: {self.message}".splitlines()
        more = [f"... {len(said) - _MOST_LINES} lines more"] if len(said) > _MOST_LINES else []
        return "\n".join([f"failed {where}", *(f"  {frame}" for frame in self.frames), *said[:_MOST_LINES], *more])


def plain(text: str) -> str:
    """A text without the control sequences of terminals."""
    return _ANSI.sub("", text)


def short_frames(traceback: Sequence[str]) -> tuple[str, ...]:
    """From IPython's traceback: the frame of the cell and the last ones, each a place and its line of code."""
    texts = [plain(text).strip() for text in traceback]
    frames = [_short(text.splitlines()) for text in texts if text.startswith(("Cell In[", "File "))]
    chosen = frames if len(frames) <= _MOST_FRAMES else [frames[0], *frames[1 - _MOST_FRAMES :]]
    return tuple(line for frame in chosen for line in frame)


def _short(frame: Sequence[str]) -> list[str]:
    """The place, and the line of code that it stands for: behind an arrow, or, of a SyntaxError, the next one."""
    place, *code = frame
    arrow = next((line for line in code if _ARROW.match(line)), None)
    return [place, *(line.rstrip() for line in ([arrow] if arrow else code[:1]))]
