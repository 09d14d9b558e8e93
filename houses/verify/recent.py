"""The newest houses in the output files, read from their ends."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from houses.errors import FolderError, MessageError
from houses.records.lines import HouseLine, is_late, parse_house_line
from houses.records.message import FULL, PARTS, parse_time, part_names

_BLOCK_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class RecentHouse:
    """A house of the files."""

    line: HouseLine
    mask: int
    """Its cancelled parts as the files know them now: a late storno counts."""

    @property
    def latency_ms(self) -> float | None:
        """Last part sent -> completed; None when a part is left out, or names no time zone (older programs)."""
        known = [ts for part in self.line.parts.values() if (ts := parse_time(part["ts"]))]
        completed = parse_time(self.line.completed_at)
        # A partial storno leaves parts out of the line, and one of these may have come last.
        if completed is None or len(known) < len(PARTS):
            return None
        return (completed - max(known)).total_seconds() * 1000

    @property
    def state(self) -> str:
        """`finished`, `cancelled`, or which parts are."""
        partial = f"cancelled {'+'.join(part_names(self.mask))}"
        return {0: "finished", FULL: "cancelled"}.get(self.mask, partial)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; latency in milliseconds."""
        return {
            "id": self.line.id,
            "state": self.state,
            "house": dict(self.line.parts),
            "completed_at": self.line.completed_at,
            "latency_ms": self.latency_ms,
        }


def recent_houses(houses: Path, storno_houses: Path, count: int) -> list[RecentHouse]:
    """The `count` houses completed last, of both files, the newest last; the files may be growing.

    Raises:
        FolderError: a line cannot be read.
    """
    written = islice(_parsed(houses), count)
    cancelled = islice((line for line in _parsed(storno_houses) if not line.late), count)
    # Reversed: houses of one batch share their time, and the sort keeps their order.
    lines = [*reversed(list(written)), *reversed(list(cancelled))]
    newest = sorted(lines, key=lambda line: line.completed_at or "")[-count:]
    late = _late_masks(storno_houses, {line.id for line in newest})
    return [RecentHouse(line, late.get(line.id, line.mask)) for line in newest]


def _parsed(path: Path) -> Iterator[HouseLine]:
    for line in lines_from_end(path):
        try:
            yield parse_house_line(line)
        except MessageError as error:
            raise FolderError(f"{path}: {error}: restore the file, or see what is lost: houses verify") from None


def _late_masks(path: Path, ids: set[int]) -> dict[int, int]:
    """Cancelled parts of those houses that were cancelled late; the last line of each counts."""
    masks: dict[int, int] = {}
    for line in lines_from_end(path) if ids else ():
        if is_late(line):
            late = parse_house_line(line)
            if late.id in ids:
                masks.setdefault(late.id, late.mask)
    return masks


def lines_from_end(path: Path) -> Iterator[bytes]:
    """The whole lines of a file without their line feeds, the last one first; none when it is absent.

    An unterminated last line is left out: it is being written.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        position, rest = file.seek(0, os.SEEK_END), b""
        whole = False
        while position > 0:
            length = min(_BLOCK_BYTES, position)
            position = file.seek(position - length)
            first, *lines = (file.read(length) + rest).split(b"\n")
            if lines and not whole:  # what stands behind the last line feed
                lines.pop()
                whole = True
            yield from reversed(lines)
            rest = first
        if whole:
            yield rest
