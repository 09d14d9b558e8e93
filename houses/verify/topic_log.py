"""What Kafka holds, offset by offset, as `verify` holds it against the files: 25 bytes a record of the parts topic."""

import logging
from collections.abc import Mapping, Sequence
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
from houses.records.message import PARTS, Reason, decode_storno

LOG = logging.getLogger(__name__)

BLANK, MALFORMED, WRONG_PARTITION = -1, -2, -3
"""In the place of a house id: no record at this offset; one that is no part; a part of another partition."""
FINE, FOREIGN, NO_RECORD, OTHER_ID, OTHER_CONTENT, NOT_FIRST = range(6)
"""Verdicts on a line about an offset."""
DOUBLE = 8
"""Added to a verdict: the offset has a line already."""

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
        self.lines: NDArray[np.uint8] = np.zeros(size, np.uint8)
        """Lines that speak of the offset, 2 standing for more."""
        self.expired_lines = BitMap64()
        """Offsets below `first` that have a line."""
        self.unique_ids: Ints = np.zeros(0, np.int64)
        """All ids, ascending; known after `index`."""
        self.first_at: Ints = np.zeros(0, np.int64)
        """For each of `unique_ids` the index of its first record."""
        self.is_first: NDArray[np.bool_] = np.zeros(0, np.bool_)
        """Whether a record is the first of its id in the partition."""

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

    def index(self) -> None:
        """Find the first record of each id, once all are there."""
        valid = np.flatnonzero(self.ids >= 0)
        self.unique_ids, at = np.unique(self.ids[valid], return_index=True)
        self.first_at = valid[at]
        self.is_first = np.zeros(len(self.ids), np.bool_)
        self.is_first[self.first_at] = True

    def claim(self, offsets: Ints, ids: Ints, contents: Ints, *, legacy: bool = False) -> NDArray[np.uint8]:
        """Count lines of houses for their offsets; a verdict for each. An offset that has expired cannot be checked.

        Args:
            contents: `linescan.hashes` of the fragments; 0 where the line does not state the part's members.
            legacy: the older program took the last part that came, not the first.
        """
        verdicts, inside = self._begin(offsets)
        at = offsets[inside] - self.first
        found = verdicts[inside]
        if not legacy:
            found[~self.is_first[at]] = NOT_FIRST
        found[(contents[inside] != self._contents[at]) & (contents[inside] != 0)] = OTHER_CONTENT
        found[self.ids[at] != ids[inside]] = OTHER_ID
        return self._finish(verdicts, inside, at, found)

    def claim_rejects(self, offsets: Ints, raws: Ints) -> NDArray[np.uint8]:
        """Count lines of rejects for their offsets; a verdict for each, `raws` being `raw_hashes` of what the lines hold."""
        verdicts, inside = self._begin(offsets)
        at = offsets[inside] - self.first
        found = verdicts[inside]
        found[self._raws[at] != raws[inside]] = OTHER_CONTENT
        return self._finish(verdicts, inside, at, found)

    def _begin(self, offsets: Ints) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        verdicts = np.full(len(offsets), FINE, np.uint8)
        verdicts[(offsets < 0) | (offsets >= self.end)] = FOREIGN
        expired = (offsets >= 0) & (offsets < self.first)
        for index in np.flatnonzero(expired):
            if (offset := int(offsets[index])) in self.expired_lines:
                verdicts[index] |= DOUBLE
            self.expired_lines.add(offset)
        return verdicts, (offsets >= self.first) & (offsets < self.end)

    def _finish(
        self, verdicts: NDArray[np.uint8], inside: NDArray[np.bool_], at: Ints, found: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        found[self.ids[at] == BLANK] = NO_RECORD
        once, earliest = np.unique(at, return_index=True)
        again = np.ones(len(at), np.bool_)
        again[earliest] = False
        found[again | (self.lines[at] > 0)] |= DOUBLE
        self.lines[once] = np.minimum(self.lines[once] + 1, 2)
        verdicts[inside] = found
        return verdicts

    def id_at(self, offset: int) -> int | None:
        """What stands at an offset: an id, or BLANK, MALFORMED, WRONG_PARTITION; None when Kafka does not have it."""
        return int(self.ids[offset - self.first]) if self.first <= offset < self.end else None

    def has_earlier(self, offset: int) -> bool:
        """Whether the id at an offset came before; the offset is one that Kafka has."""
        return not self.is_first[offset - self.first]

    def first_of(self, house_id: int) -> int | None:
        """Offset of the first record of an id, or None."""
        at = int(np.searchsorted(self.unique_ids, house_id))
        if at == len(self.unique_ids) or self.unique_ids[at] != house_id:
            return None
        return int(self.first_at[at]) + self.first

    def ids_below(self, position: int) -> Ints:
        """The ids, ascending, whose first record is below an offset."""
        return self.unique_ids[self.first_at < position - self.first]

    def was_passed_over(self, house_id: int) -> bool:
        """Whether a higher id came before this one's first part, or without one: only then can it be overdue."""
        offset = self.first_of(house_id)
        before = len(self.ids) if offset is None else offset - self.first
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
    changes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """House id -> offset and mask of excluded parts after it, for each storno that changed its state."""
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
            changes = self.changes.setdefault(storno.id, [])
            before = changes[-1][1] if changes else 0
            if before | storno.mask != before:
                changes.append((offset, before | storno.mask))

    def mask_before(self, house_id: int, position: int) -> int:
        """The union of a house's stornos below an offset."""
        return next((mask for offset, mask in reversed(self.changes.get(house_id, [])) if offset < position), 0)

    def mask(self, house_id: int) -> int:
        """The union of all stornos of a house."""
        changes = self.changes.get(house_id)
        return changes[-1][1] if changes else 0

    @property
    def is_whole(self) -> bool:
        """Whether Kafka still has every storno that ever was."""
        return self.first == 0


Logs = tuple[PartitionLog, PartitionLog, PartitionLog]


def read_parts(kafka: KafkaConfig, topic: str, marks: Mapping[int, tuple[int, int]]) -> Logs:
    """The three partitions of the parts topic, each from its first offset to its end."""
    logs = (PartitionLog(*marks[0]), PartitionLog(*marks[1]), PartitionLog(*marks[2]))
    total = sum(len(log.ids) for log in logs)
    done, due = 0, _SAY_EVERY
    for run in read_ranges(kafka, topic, {part.partition: marks[part.partition] for part in PARTS}):
        logs[run.partition].add(run)
        done += len(run.offsets)
        if done >= due:
            LOG.debug(f"read {done:,} of {total:,} offsets of {topic}")
            due = done + _SAY_EVERY
    for log in logs:
        log.index()
    return logs


def read_stornos(kafka: KafkaConfig, topic: str, first: int, end: int, position: int) -> StornoLog:
    """The storno topic from its first offset to its end; the consumer has read what is below `position`."""
    log = StornoLog(first, end)
    for run in read_ranges(kafka, topic, {0: (first, end)}):
        log.add(run, position)
    return log
