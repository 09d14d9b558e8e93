"""What Kafka holds, offset by offset, as `verify` compares it with the files: 25 bytes a record of the parts topic."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64

from houses.config.models import KafkaConfig
from houses.errors import MessageError
from houses.kafka.reader import Run, read_ranges
from houses.records.blocks import Ints, hashes
from houses.records.decode import decode_parts
from houses.records.lines import RAW_CAP_BYTES
from houses.records.message import Reason, decode_storno
from houses.verify.certificate import Kind

LOG = logging.getLogger(__name__)

BLANK, MALFORMED, WRONG_PARTITION = -1, -2, -3
"""In the place of a house id: no record at this offset; one that is no part; a part of another partition."""
FINE, FOREIGN, NO_RECORD, OTHER_ID, OTHER_CONTENT, NOT_FIRST = range(6)
"""Verdicts on a line about an offset."""
DOUBLE = 8
"""Added to a verdict: the offset has a line already."""
VERDICTS: dict[int, tuple[Kind, str]] = {
    FOREIGN: ("foreign", "the topic has no such offset"),
    NO_RECORD: ("foreign", "there is no record at this offset"),
    OTHER_ID: ("wrong", "the record there is not of this house"),
    OTHER_CONTENT: ("wrong", "the record there holds something else"),
    NOT_FIRST: ("wrong", "the partition holds this part at an earlier offset, which counts"),
    DOUBLE: ("double", "the offset has a line already"),
}
"""The kind of problem that a verdict is, and its text."""

Flags = NDArray[np.bool_]
Verdicts = NDArray[np.uint8]

_SAY_EVERY = 500_000
NO_ID: dict[Reason, int] = {"malformed": MALFORMED, "wrong_partition": WRONG_PARTITION}


class PartitionLog:
    """The records of one partition of the parts topic, and which of them have a line."""

    def __init__(self, first: int, end: int) -> None:
        """Nothing is read yet. `first`: the first offset that Kafka still has; `end`: one past the last."""
        self.first, self.end = first, max(first, end)
        size = self.end - first
        self.ids: Ints = np.full(size, BLANK, np.int64)
        """House id per offset from `first` on, or BLANK, MALFORMED, WRONG_PARTITION."""
        self._contents: Ints = np.zeros(size, np.int64)
        self._raws: Ints = np.zeros(size, np.int64)
        self.has_line: Flags = np.zeros(size, np.bool_)
        """Whether a line speaks of the offset."""
        self.expired_lines = BitMap64()
        """Offsets below `first` that have a line."""

    def add(self, run: Run) -> None:
        """Note the next records."""
        values = run.values()
        batch = decode_parts(run.partition, run.offsets, values)
        offsets, _, _ = zip(*batch.entries, strict=True) if batch.entries else ((), (), ())
        at = np.array(offsets, np.int64) - self.first
        self.ids[at] = batch.ids
        self._contents[at] = hashes([entry[1] for entry in batch.entries])
        self._raws[np.array(run.offsets, np.int64) - self.first] = raw_hashes(values)
        for reject in batch.rejects:
            self.ids[reject.offset - self.first] = NO_ID[reject.reason]

    @cached_property
    def _firsts(self) -> tuple[Ints, Ints]:
        """All ids, ascending, and the index of the first record of each. Not to be asked for before all records are there."""
        valid = np.flatnonzero(self.ids >= 0)
        ids, at = np.unique(self.ids[valid], return_index=True)
        return ids, valid[at]

    @cached_property
    def is_first(self) -> Flags:
        """Whether a record is the first of its id in the partition."""
        is_first = np.zeros(len(self.ids), np.bool_)
        is_first[self._firsts[1]] = True
        return is_first

    def compare_parts(self, offsets: Ints, ids: Ints, contents: Ints, is_older: Flags) -> Verdicts:
        """Compare lines of houses with the records at the offsets of a part: a verdict for each line.

        The offsets have their line then. One that Kafka no longer has can only be checked for a second line.

        Args:
            contents: `blocks.hashes` of the fragments; 0 where the line does not state the part's members.
            is_older: of the older program, which took the last part that came, not the first.
        """
        inside, at = self._known(offsets)
        found = np.full(len(at), FINE, np.uint8)
        found[~self.is_first[at] & ~is_older[inside]] = NOT_FIRST
        found[(contents[inside] != self._contents[at]) & (contents[inside] != 0)] = OTHER_CONTENT
        found[self.ids[at] != ids[inside]] = OTHER_ID
        return self._count(offsets, inside, at, found)

    def compare_rejects(self, offsets: Ints, raws: Ints) -> Verdicts:
        """The same for lines of rejects, `raws` being `raw_hashes` of what the lines hold."""
        inside, at = self._known(offsets)
        found = np.where(self._raws[at] == raws[inside], FINE, OTHER_CONTENT).astype(np.uint8)
        return self._count(offsets, inside, at, found)

    def _known(self, offsets: Ints) -> tuple[Flags, Ints]:
        """Which offsets Kafka still has, and their places in the arrays."""
        inside = (offsets >= self.first) & (offsets < self.end)
        return inside, offsets[inside] - self.first

    def _count(self, offsets: Ints, inside: Flags, at: Ints, found: Verdicts) -> Verdicts:
        """Note that the offsets have a line, and add what is known without its content; `found` belongs to `at`."""
        found[self.ids[at] == BLANK] = NO_RECORD
        again = np.ones(len(at), np.bool_)
        again[np.unique(at, return_index=True)[1]] = False
        found[again | self.has_line[at]] |= DOUBLE
        self.has_line[at] = True
        verdicts = np.where(offsets < self.first, FINE, FOREIGN).astype(np.uint8)
        verdicts[inside] = found
        for index in np.flatnonzero(offsets < self.first):
            if (offset := int(offsets[index])) in self.expired_lines:
                verdicts[index] = DOUBLE
            self.expired_lines.add(offset)
        return verdicts

    def id_at(self, offset: int) -> int | None:
        """What stands at an offset: an id, or BLANK, MALFORMED, WRONG_PARTITION; None when Kafka does not have it."""
        return int(self.ids[offset - self.first]) if self.first <= offset < self.end else None

    def has_earlier(self, offset: int) -> bool:
        """Whether the id at an offset came before; the offset is one that Kafka has."""
        return not self.is_first[offset - self.first]

    def ids_below(self, position: int) -> Ints:
        """The ids, ascending, whose first record is below an offset."""
        ids, first_at = self._firsts
        return ids[first_at < position - self.first]

    def was_passed_over(self, house_id: int) -> bool:
        """Whether a higher id came before this one's first part, or without one: only then can it be overdue."""
        ids, first_at = self._firsts
        at = int(np.searchsorted(ids, house_id))
        before = int(first_at[at]) if at < len(ids) and ids[at] == house_id else len(self.ids)
        # What has expired may have held it.
        return self.first > 0 or (before > 0 and bool(self._highest[before - 1] > house_id))

    @cached_property
    def _highest(self) -> Ints:
        return np.maximum.accumulate(self.ids)


def raw_hashes(values: Sequence[bytes | None]) -> Ints:
    """64 bits for each message, as far as a reject line keeps it."""
    return hashes([(value or b"")[:RAW_CAP_BYTES] for value in values])


@dataclass(slots=True)
class StornoLog:
    """The records of the storno topic."""

    first: int
    end: int
    changes: dict[int, dict[int, int]] = field(default_factory=dict)
    """House id -> each mask of excluded parts that it has had, ascending -> offset of the storno that made it so."""
    malformed: dict[int, int] = field(default_factory=dict)
    """Offset -> hash of the message."""
    valid: int = 0
    unread: int = 0
    """Records at or above the consumer's position."""

    def add(self, run: Run, position: int) -> None:
        """Note the next records; `position` is the consumer's."""
        for offset, value in zip(run.offsets, run.values(), strict=True):
            self.unread += offset >= position
            try:
                storno = decode_storno(value)
            except MessageError:
                self.malformed[offset] = int(raw_hashes([value])[0])
                continue
            self.valid += 1
            # A mask that it has had already keeps the offset that made it so.
            self.changes.setdefault(storno.id, {}).setdefault(self.mask(storno.id) | storno.mask, offset)

    def mask(self, house_id: int, end: int | None = None) -> int:
        """The union of a house's stornos below the offset `end`; of all when None."""
        changes = self.changes.get(house_id, {})
        return max((mask for mask, offset in changes.items() if end is None or offset < end), default=0)

    @property
    def is_whole(self) -> bool:
        """Whether Kafka still has every storno that ever was."""
        return self.first == 0


Logs = list[PartitionLog]


def read_parts(kafka: KafkaConfig, topic: str, marks: Sequence[tuple[int, int]]) -> Logs:
    """The three partitions of the parts topic, each from its first offset to its end."""
    logs = [PartitionLog(first, end) for first, end in marks]
    total = sum(len(log.ids) for log in logs)
    done, due = 0, _SAY_EVERY
    for run in read_ranges(kafka, topic, dict(enumerate(marks))):
        logs[run.partition].add(run)
        done += len(run.offsets)
        if done >= due:
            LOG.debug(f"read {done:,} of {total:,} offsets of {topic}")
            due = done + _SAY_EVERY
    return logs


def read_stornos(kafka: KafkaConfig, topic: str, first: int, end: int, position: int) -> StornoLog:
    """The storno topic from its first offset to its end; the consumer has read what is below `position`."""
    log = StornoLog(first, end)
    for run in read_ranges(kafka, topic, {0: (first, end)}):
        log.add(run, position)
    return log
