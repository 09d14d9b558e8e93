"""Why a notebook did not come to its end, in a few lines that need no colours."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
