"""Reading the JSONL files from outside the consumer, block by block; the usual house lines column by column."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from houses.records.decode import fragment
from houses.records.lines import TEXT, HouseLine, house_form, members_form

Ints = NDArray[np.int64]
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class Block:
    """A stretch of a file that ends with a whole line; only the last block of a file may be without its line feed."""

    start: int
    """Byte of the file at which it begins."""
    data: bytes

    @property
    def is_torn(self) -> bool:
        """Whether the line feed is missing: the rest of a line that was never finished."""
        return not self.data.endswith(b"\n")

    def byte_of(self, line: int) -> int:
        """Byte of the file at which the line with this number (from 0) in the block begins."""
        return self.start + (int(self._ends[line - 1]) if line else 0)

    @property
    def end(self) -> int:
        """Byte of the file behind it."""
        return self.start + len(self.data)

    @cached_property
    def _ends(self) -> Ints:
        return np.flatnonzero(np.frombuffer(self.data, np.uint8) == 0x0A) + 1


def file_length(path: Path) -> int:
    """Bytes of a file; 0 when it is absent."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def blocks(path: Path, length: int | None = None) -> Iterator[Block]:
    """The first `length` bytes of a file (all when None; none when it is absent); a torn last line is a block of its own."""
    length = file_length(path) if length is None else length
    if length == 0:
        return
    with path.open("rb") as file:
        start, rest = 0, b""
        while chunk := file.read(min(_BLOCK_BYTES, length - start - len(rest))):
            data = rest + chunk
            whole = data.rfind(b"\n") + 1
            if whole:
                yield Block(start, data[:whole])
            start, rest = start + whole, data[whole:]
    if rest:
        yield Block(start, rest)


class HouseColumns(NamedTuple):
    """Lines of houses.jsonl, column by column."""

    ids: Ints
    offsets: tuple[Ints, Ints, Ints]
    """Of the parts in Kafka partitions 0, 1 and 2."""
    contents: tuple[Ints, Ints, Ints]
    """`hashes` of the parts."""


_HOUSE = re.compile(house_form(f"({members_form(TEXT, TEXT)})", TEXT))


def claimed_columns(data: bytes) -> HouseColumns | None:
    """The columns of whole lines of houses.jsonl; None when one of them is not in the form that is written today."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return None
    rows = _HOUSE.findall(text)
    if not rows or len(rows) != text.count("\n"):
        return None
    ids, f1, o1, f2, o2, f3, o3 = zip(*rows, strict=True)
    return HouseColumns(
        integers(map(int, ids)),
        (integers(map(int, o1)), integers(map(int, o2)), integers(map(int, o3))),
        (hashes(f1), hashes(f2), hashes(f3)),
    )


def integers(values: Iterable[int]) -> Ints:
    """Whole numbers as an array."""
    return np.array(list(values), np.int64)  # twice as fast as np.fromiter


def hashes(values: Sequence[str] | Sequence[bytes]) -> Ints:
    """64 bits for each text, equal for different ones only by chance, 1 in 10^19.

    For parts it is taken of the fragment, see `message.PartEntry`.
    """
    # Python's own hash: as good as any within one process, and cached in shared strings.
    return integers(map(hash, values))


def part_hash(line: HouseLine, number: int) -> int:
    """What `hashes` gives for one part of a parsed line; 0 when the line does not hold the part."""
    part = line.parts.get(f"partition_{number}")
    if part is None:
        return 0
    return hash(fragment(part["ts"], part["name"], part["task"]))
