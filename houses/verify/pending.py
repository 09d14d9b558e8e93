"""The pending houses: at given positions, rebuilt from the files and from what has no line yet; and what they lack now."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pyroaring import BitMap64

from houses.config.config import Config
from houses.errors import MessageError
from houses.kafka.reader import read_ranges
from houses.records.blocks import Block, blocks, claimed_columns
from houses.records.decode import decode_parts
from houses.records.lines import parse_house_line, parse_reject_line, split_lines
from houses.records.message import PART_NAMES, PARTS, STORNO, Reject, peek_id
from houses.records.metrics import last_metrics
from houses.verify.snapshot import Snapshot, take_snapshot
from houses.verify.topic_log import PartitionLog

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PendingSet:
    """The incomplete houses at a moment."""

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


@dataclass(slots=True)
class _State:
    """What is gathered on the way."""

    snapshot: Snapshot
    positions: tuple[int, ...]
    pending: BitMap64 = field(default_factory=BitMap64)
    closed: BitMap64 = field(default_factory=BitMap64)
    came: tuple[BitMap64, BitMap64, BitMap64] = field(default_factory=lambda: (BitMap64(), BitMap64(), BitMap64()))
    """Per partition, ids of which a part lies below the position; at least the pending ones."""
    highest: list[int] = field(default_factory=lambda: [-1, -1, -1])
    """Highest id below the position, per partition."""
    with_line: tuple[BitMap64, BitMap64, BitMap64] = field(default_factory=lambda: (BitMap64(), BitMap64(), BitMap64()))
    """Offsets that have a line and that a restart would read again."""
    evicted: dict[int, dict[int, int]] = field(default_factory=dict)
    """Id -> partition -> lowest offset of its part."""

    def low(self, partition: int) -> int:
        """From where on the topic holds records without a line."""
        checkpoint = self.snapshot.checkpoint
        return max(checkpoint.low[partition] if checkpoint else 0, self.snapshot.marks[partition][0])


def pending_at(config: Config, positions: Sequence[int]) -> PendingSet:
    """The houses of which the records below `positions` hold one or two parts.

    Args:
        positions: next offset to read, per partition, as a line of metrics.jsonl gives them.
    Raises:
        PositionError, BrokerError: see `snapshot.take_snapshot`.
    """
    state = _State(take_snapshot(config), tuple(positions))
    for path, length in list(zip(state.snapshot.files, state.snapshot.lengths, strict=True))[:2]:
        for block in blocks(path, length):
            _add_houses(state, block)
            LOG.debug(f"{block.end:,} of {length:,} bytes of {path.name} read")
    for block in blocks(state.snapshot.files[2], state.snapshot.lengths[2]):
        _add_rejects(state, block)
    LOG.debug(f"reading {state.snapshot.topics[0]}")
    _add_unwritten(config, state)
    return _result(state)


def _add_houses(state: _State, block: Block) -> None:
    columns = None if block.is_torn else claimed_columns(block.data)
    if columns is None:
        _add_house_lines(state, block)
        return
    below = [offsets < position for offsets, position in zip(columns.offsets, state.positions, strict=True)]
    split = (below[0] | below[1] | below[2]) & ~(below[0] & below[1] & below[2])
    state.pending.update(columns.ids[split].tolist())
    state.closed.update(columns.ids.tolist())
    for p, offsets in enumerate(columns.offsets):
        state.came[p].update(columns.ids[split & below[p]].tolist())
        state.highest[p] = max(state.highest[p], int(np.max(columns.ids[below[p]], initial=-1)))
        state.with_line[p].update(offsets[offsets >= state.low(p)].tolist())


def _add_house_lines(state: _State, block: Block) -> None:
    for data in split_lines(block.data):
        try:
            line = parse_house_line(data)
        except MessageError:  # what is no line is for verify to report
            continue
        if not line.late:
            _note_parts(state, line.id, dict(line.offsets))
            state.closed.add(line.id)
            if len({offset < state.positions[p] for p, offset in line.offsets.items()}) > 1:
                state.pending.add(line.id)


def _note_parts(state: _State, house_id: int, offsets: dict[int, int]) -> None:
    for p, offset in offsets.items():
        if offset < state.positions[p]:
            state.highest[p] = max(state.highest[p], house_id)
            state.came[p].add(house_id)
        if offset >= state.low(p):
            state.with_line[p].add(offset)


def _add_rejects(state: _State, block: Block) -> None:
    for data in split_lines(block.data):
        try:
            reject = parse_reject_line(data, state.snapshot.topics)
        except MessageError:
            continue
        if reject.partition != STORNO and reject.reason != "gap":
            _add_reject(state, reject)


def _add_reject(state: _State, reject: Reject) -> None:
    if reject.offset >= state.low(reject.partition):
        state.with_line[reject.partition].add(reject.offset)
    house_id = peek_id(reject.raw)
    if reject.reason == "evicted" and house_id is not None:
        parts = state.evicted.setdefault(house_id, {})
        parts[reject.partition] = min(reject.offset, parts.get(reject.partition, reject.offset))
        _note_parts(state, house_id, {reject.partition: reject.offset})


def _add_unwritten(config: Config, state: _State) -> None:
    """Records without a line, below the positions: the houses that wait still, or that the consumer has not come to."""
    parts: dict[int, set[int]] = defaultdict(set)
    ranges = {
        p.partition: (state.low(p.partition), min(state.positions[p.partition], state.snapshot.marks[p.partition][1]))
        for p in PARTS
    }
    logs = {p: PartitionLog(low, end) for p, (low, end) in ranges.items()}
    for run in read_ranges(config.kafka, state.snapshot.topics[0], ranges):
        logs[run.partition].add(run)
    for p, log in logs.items():
        state.highest[p] = max(state.highest[p], int(np.max(log.ids, initial=-1)))
        for at in np.flatnonzero(log.ids >= 0).tolist():
            if at + log.first not in state.with_line[p]:
                parts[int(log.ids[at])].add(p)
                state.came[p].add(int(log.ids[at]))
    waiting = (i for i, present in parts.items() if len(present) < len(PARTS))
    state.pending.update(i for i in waiting if i not in state.closed and i not in state.evicted)


def _result(state: _State) -> PendingSet:
    uncertain = BitMap64()
    for house_id, offsets in state.evicted.items():
        present = {p for p, offset in offsets.items() if offset < state.positions[p]}
        lacking = {part.partition for part in PARTS} - present
        if not present or not lacking:  # not begun; or given up before the last of them came
            continue
        # Only when all that it lacks had been passed over, it could have been given up by then.
        passed_over = all(house_id < state.highest[p] for p in lacking)
        (uncertain if passed_over else state.pending).add(house_id)
    first, second, third = (came & state.pending for came in state.came)
    return PendingSet(state.positions, state.pending, uncertain, (first, second, third))


@dataclass(frozen=True, slots=True)
class WaitingHouse:
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


def waiting_houses(config: Config) -> list[WaitingHouse]:
    """The houses that are incomplete where the consumer stands now, by id.

    Args:
    Raises:
        PositionError, BrokerError: see `snapshot.take_snapshot`.
    """
    snapshot = take_snapshot(config)
    said = last_metrics(config.metrics_path) or {}
    # What it said last may be later than its checkpoint.
    positions = [*map(max, snapshot.position, said.get("position", (0, 0, 0)))]
    pending = pending_at(config, positions).ids
    low = snapshot.checkpoint.low if snapshot.checkpoint else (0, 0, 0)
    ranges = {p: (max(low[p], snapshot.marks[p][0]), positions[p]) for p in range(len(PARTS))}
    offsets: dict[int, dict[str, int]] = defaultdict(dict)
    for run in read_ranges(config.kafka, snapshot.topics[0], ranges):
        batch = decode_parts(run.partition, run.offsets, run.values())
        for house_id, entry in zip(batch.ids, batch.entries, strict=True):
            if house_id in pending:
                offsets[house_id].setdefault(PARTS[run.partition].name, entry[0])
    return [WaitingHouse(house_id, offsets[house_id]) for house_id in pending]
