"""The pending houses: at given positions, rebuilt from the files and from what has no line yet; and what they lack now."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pyroaring import BitMap64

from houses.config.config import Config
from houses.kafka.reader import read_ranges
from houses.records.blocks import Ints, claimed_columns
from houses.records.decode import decode_parts
from houses.records.lines import parse_house_line
from houses.records.message import PART_NAMES, PARTS, STORNO, Reject, peek_id
from houses.verify.snapshot import CANCELLED, HOUSES, Snapshot, known_lines, offset_columns, take_snapshot

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PendingSet:
    """The pending houses of a moment."""

    positions: tuple[int, ...]
    """Next offset to read, per partition, at that moment."""
    ids: BitMap64
    uncertain: BitMap64
    """Houses that were given up about then: files and topics do not tell whether before that moment. Not in `ids`."""
    came: tuple[BitMap64, BitMap64, BitMap64]
    """Per partition, the ids of which the part had come by that moment."""

    @property
    def count(self) -> int:
        """How many, as metrics.jsonl counts them."""
        return len(self.ids)

    @property
    def id_sum(self) -> int:
        """The sum of their ids, by which a metrics line can be compared."""
        return sum(self.ids)


@dataclass(frozen=True, slots=True)
class PendingHouse:
    """A house of which one or two parts have come."""

    id: int
    offsets: Mapping[str, int]
    """Name of each part that has come -> offset of its record."""

    @property
    def missing(self) -> list[str]:
        """Names of the parts that have not come."""
        return [name for name in PART_NAMES if name not in self.offsets]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"id": self.id, "offsets": dict(self.offsets), "missing": self.missing}


@dataclass(slots=True)
class _Seen:
    """What files and topics hold below the positions, as far as it tells which houses are pending."""

    snapshot: Snapshot
    positions: tuple[int, ...]
    split: BitMap64 = field(default_factory=BitMap64)
    """Written houses of which some parts lie below the positions, some not."""
    written: BitMap64 = field(default_factory=BitMap64)
    evicted: BitMap64 = field(default_factory=BitMap64)
    offsets: tuple[dict[int, int], dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}, {}))
    """Per partition, id -> offset of its part below the position: of `split`, of evicted houses, and without a line."""
    highest: list[int] = field(default_factory=lambda: [-1, -1, -1])
    """Highest id below the position, per partition."""
    with_line: tuple[BitMap64, BitMap64, BitMap64] = field(default_factory=lambda: (BitMap64(), BitMap64(), BitMap64()))
    """Offsets that have a line and that a restart would read again."""

    def note(self, partition: int, house_id: int, offset: int) -> None:
        """Note the part of an evicted house, or one without a line."""
        if offset < self.positions[partition]:
            self.highest[partition] = max(self.highest[partition], house_id)
            self.offsets[partition][house_id] = min(offset, self.offsets[partition].get(house_id, offset))


def pending_at(config: Config, positions: Sequence[int]) -> PendingSet:
    """The houses of which the records below `positions` hold one or two parts.

    Args:
        positions: next offset to read, per partition, as a line of metrics.jsonl gives them.
    Raises:
        PositionError, BrokerError: see `snapshot.take_snapshot`.
    """
    return _pending(_look(config, take_snapshot(config), tuple(positions)))


def pending_houses(config: Config) -> list[PendingHouse]:
    """The houses that are pending where the consumer stands now, by id.

    Raises:
        PositionError, BrokerError: see `snapshot.take_snapshot`.
    """
    snapshot = take_snapshot(config)
    seen = _look(config, snapshot, snapshot.reached[:STORNO])
    came = list(zip(PART_NAMES, seen.offsets, strict=True))
    return [PendingHouse(i, {name: at[i] for name, at in came if i in at}) for i in _pending(seen).ids]


def _look(config: Config, snapshot: Snapshot, positions: tuple[int, ...]) -> _Seen:
    seen = _Seen(snapshot, positions)
    for file in (HOUSES, CANCELLED):
        for block in snapshot.blocks(file):
            if columns := claimed_columns(block.data):
                _add_houses(seen, columns.ids, columns.offsets)
            else:
                lines = [line for line in known_lines(block, parse_house_line) if not line.late]
                _add_houses(seen, *offset_columns(lines))
            LOG.debug(f"{block.end:,} of {snapshot.lengths[file]:,} bytes of {snapshot.files[file].name} read")
    for reject in snapshot.rejects():
        _add_reject(seen, reject)
    LOG.debug(f"reading {snapshot.topics[0]}")
    _add_unwritten(config, seen)
    return seen


def _add_houses(seen: _Seen, ids: Ints, offsets: Sequence[Ints]) -> None:
    below = [(column >= 0) & (column < position) for column, position in zip(offsets, seen.positions, strict=True)]
    above = [column >= position for column, position in zip(offsets, seen.positions, strict=True)]
    split = np.any(below, axis=0) & np.any(above, axis=0)
    seen.split.update(ids[split].tolist())
    seen.written.update(ids.tolist())
    for p, column in enumerate(offsets):
        came = split & below[p]
        seen.offsets[p].update(zip(ids[came].tolist(), column[came].tolist(), strict=True))
        seen.highest[p] = max(seen.highest[p], int(np.max(ids[below[p]], initial=-1)))
        seen.with_line[p].update(column[column >= seen.snapshot.low[p]].tolist())


def _add_reject(seen: _Seen, reject: Reject) -> None:
    if reject.offset >= seen.snapshot.low[reject.partition]:
        seen.with_line[reject.partition].add(reject.offset)
    house_id = peek_id(reject.raw)
    if reject.reason == "evicted" and house_id is not None:
        seen.evicted.add(house_id)
        seen.note(reject.partition, house_id, reject.offset)


def _add_unwritten(config: Config, seen: _Seen) -> None:
    """Records without a line, below the positions: of pending houses, or that the consumer has not come to."""
    ends = [min(position, mark[1]) for position, mark in zip(seen.positions, seen.snapshot.marks, strict=False)]
    for run in read_ranges(
        config.kafka, seen.snapshot.topics[0], dict(enumerate(zip(seen.snapshot.low, ends, strict=True)))
    ):
        p, with_line = run.partition, seen.with_line[run.partition]
        batch = decode_parts(p, run.offsets, run.values())
        seen.highest[p] = max([seen.highest[p], *batch.ids])
        for house_id, (offset, *_) in zip(batch.ids, batch.entries, strict=True):
            if offset not in with_line:
                seen.note(p, house_id, offset)


def _pending(seen: _Seen) -> PendingSet:
    """One or two parts have come; but what was evicted may have been given up by then already."""
    first, second, third = (BitMap64(offsets) for offsets in seen.offsets)
    begun = (first | second | third) - (first & second & third) - seen.written
    # Only when all that it lacks had been passed over, it could have been given up by then.
    uncertain = BitMap64(i for i in begun & seen.evicted if _was_passed_over(seen, i))
    ids = seen.split | (begun - uncertain)
    return PendingSet(seen.positions, ids, uncertain, (first & ids, second & ids, third & ids))


def _was_passed_over(seen: _Seen, house_id: int) -> bool:
    """Whether each part that had not come was behind a higher id."""
    return all(house_id < seen.highest[p] for p in range(len(PARTS)) if house_id not in seen.offsets[p])
