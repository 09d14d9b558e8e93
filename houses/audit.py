"""What the checks of the three files share: reading a file as far as it counts, and turning verdicts into findings."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64

from houses import evidence
from houses.certificate import Findings, Kind
from houses.errors import MessageError
from houses.evidence import Logs, StornoLog
from houses.records.blocks import Block, Ints, blocks
from houses.records.lines import split_lines
from houses.snapshot import Snapshot

HOUSES, CANCELLED, REJECTS = range(3)
"""The files, in the order of journal.FILES."""

T = TypeVar("T")

_VERDICTS: dict[int, tuple[Kind, str]] = {
    evidence.FOREIGN: ("foreign", "the topic has no such offset"),
    evidence.NO_RECORD: ("foreign", "there is no record at this offset"),
    evidence.OTHER_ID: ("wrong", "the record there is not of this house"),
    evidence.OTHER_CONTENT: ("wrong", "the record there holds something else"),
    evidence.NOT_FIRST: ("wrong", "the partition holds this part at an earlier offset, which counts"),
    evidence.DOUBLE: ("double", "the offset has a line already"),
}


@dataclass(slots=True)
class Tally:
    """What the files hold."""

    houses: int = 0
    cancelled: int = 0
    late: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    written: BitMap64 = field(default_factory=BitMap64)
    """Ids with a house line in either file."""
    evicted: dict[int, str] = field(default_factory=dict)
    """Id -> where its first line is."""
    implied: tuple[BitMap64, BitMap64, BitMap64] = field(default_factory=lambda: (BitMap64(), BitMap64(), BitMap64()))
    """Per partition the ids of older lines, which do not give the offset of an excluded part."""
    gaps: dict[tuple[int, int], int] = field(default_factory=dict)
    """Partition (STORNO: the storno topic) and first lost offset -> one past the last."""


@dataclass(slots=True)
class Audit:
    """One check of a folder: what is held against what, and what came of it."""

    snapshot: Snapshot
    logs: Logs
    stornos: StornoLog
    findings: Findings = field(default_factory=Findings)
    tally: Tally = field(default_factory=Tally)
    notes: list[str] = field(default_factory=list)
    _cut: set[int] = field(default_factory=set)

    def blocks(self, file: int) -> Iterator[Block]:
        """The whole lines of a file, block by block, up to where the next start of a stopped consumer would cut it off."""
        for block in blocks(self.snapshot.files[file], self.snapshot.lengths[file]):
            if block.is_torn:
                self._torn(file, block)
            else:
                yield block
            if file in self._cut:
                return

    def parsed(self, file: int, block: Block, parse: Callable[[bytes], T]) -> Iterator[tuple[int, T]]:
        """Number and content of each line of a block; one that is no line is a finding, or debris of a power cut."""
        for number, line in enumerate(split_lines(block.data)):
            try:
                yield number, parse(line)
            except MessageError as error:
                if self._is_debris(file, block.byte_of(number)):
                    self._note_rest(file, block.byte_of(number))
                    return
                self.findings.add("foreign", self.where(file, block, number), str(error))

    def where(self, file: int, block: Block, number: int) -> str:
        """A line, as culprits name it."""
        return f"{self.snapshot.files[file].name} byte {block.byte_of(number)}"

    def _torn(self, file: int, block: Block) -> None:
        if self.snapshot.is_running and not self._is_synced(file, block.start):
            self.notes.append(f"{self.snapshot.files[file].name}: a line is being written at byte {block.start}")
        elif self._is_synced(file, block.start):
            self.findings.add("foreign", self.where(file, block, 0), f"the last line has no end: {block.data[:60]!r}")
        else:
            self._note_rest(file, block.start)

    def _is_synced(self, file: int, byte: int) -> bool:
        return self.snapshot.checkpoint is not None and byte < self.snapshot.checkpoint.synced[file]

    def _is_debris(self, file: int, byte: int) -> bool:
        stopped = self.snapshot.checkpoint is not None and not self.snapshot.is_running
        return stopped and not self._is_synced(file, byte)

    def _note_rest(self, file: int, byte: int) -> None:
        length = self.snapshot.lengths[file] - byte
        name = self.snapshot.files[file].name
        self.notes.append(
            f"{name}: {length} bytes from byte {byte} on are no whole lines; the consumer cuts them off when it starts"
        )
        self._cut.add(file)

    def judge(
        self, file: int, block: Block, partition: int, numbers: Ints, offsets: Ints, verdicts: NDArray[np.uint8]
    ) -> None:
        """Turn the verdicts on lines about a partition into findings.

        Args:
            numbers: of the lines in the block; `offsets` are those that they speak of.
        """
        for index in np.flatnonzero(verdicts):
            where, at = self.where(file, block, int(numbers[index])), self.at(partition, int(offsets[index]))
            verdict = int(verdicts[index])
            for kind, what in (
                _VERDICTS[flag] for flag in (verdict & ~evidence.DOUBLE, verdict & evidence.DOUBLE) if flag
            ):
                self.findings.add(kind, where, f"{at}: {what}")
        self._check_tail(file, block, partition, numbers, offsets)

    def at(self, partition: int, offset: int) -> str:
        """An offset of the parts topic, as culprits name it."""
        return f"{self.snapshot.topics[0]} partition {partition} offset {offset}"

    def _check_tail(self, file: int, block: Block, partition: int, numbers: Ints, offsets: Ints) -> None:
        """A restart reads a file from the checkpoint's tail on: no line before it may speak of what will be read again."""
        checkpoint = self.snapshot.checkpoint
        if checkpoint is None or block.start >= checkpoint.tail[file]:
            return
        read_again = (offsets >= checkpoint.low[partition]) & (offsets < self.logs[partition].end)
        for index in np.flatnonzero(read_again):
            if block.byte_of(int(numbers[index])) < checkpoint.tail[file]:
                at = self.at(partition, int(offsets[index]))
                what = f"a restart reads {at} again, but this file only from byte {checkpoint.tail[file]}"
                self.findings.add("checkpoint", self.where(file, block, int(numbers[index])), what)
