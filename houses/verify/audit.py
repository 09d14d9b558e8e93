"""Each line of the three files compared with the records of the topics."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64

from houses.errors import MessageError
from houses.records.blocks import Block, HouseColumns, Ints, blocks, claimed_columns, integers, part_hash
from houses.records.lines import HouseLine, gap_range, parse_house_line, parse_reject_line, split_lines
from houses.records.message import FULL, PARTS, STORNO, Reason, Reject, peek_id
from houses.verify import topic_log as evidence
from houses.verify.certificate import Findings, Kind
from houses.verify.snapshot import Snapshot
from houses.verify.stornos import StornoAudit
from houses.verify.topic_log import DOUBLE, FINE, NO_ID, Logs, PartitionLog, StornoLog, raw_hashes

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


class _Row(NamedTuple):
    number: int
    """Of the line in its block."""
    line: HouseLine


def audit_houses(audit: Audit) -> None:
    """Check each line of houses.jsonl."""
    for block in audit.blocks(HOUSES):
        columns = claimed_columns(block.data)
        if columns is not None:
            _claim_columns(audit, block, columns)
        else:
            rows = [_Row(number, line) for number, line in audit.parsed(HOUSES, block, parse_written)]
            _once(audit, HOUSES, block, _numbers(rows), integers(row.line.id for row in rows))
            _claim_rows(audit, HOUSES, block, rows)
            audit.tally.houses += len(rows)


def audit_cancelled(audit: Audit, states: StornoAudit) -> None:
    """Check each line of storno_houses.jsonl; houses.jsonl has been read."""
    for block in audit.blocks(CANCELLED):
        rows = [_Row(number, line) for number, line in audit.parsed(CANCELLED, block, parse_cancelled)]
        _follow_states(audit, states, block, rows)
        houses = [row for row in rows if not row.line.late]
        _claim_rows(audit, CANCELLED, block, houses)
        audit.tally.cancelled += len(houses)
        audit.tally.late += len(rows) - len(houses)


def _follow_states(audit: Audit, states: StornoAudit, block: Block, rows: list[_Row]) -> None:
    """Line by line: a late line follows the line of its house, which may be in the same block."""
    for row in rows:
        states.line(row.line, audit.where(CANCELLED, block, row.number), is_written=row.line.id in audit.tally.written)
        if not row.line.late:
            _once(audit, CANCELLED, block, _numbers([row]), integers([row.line.id]))


def _claim_columns(audit: Audit, block: Block, columns: HouseColumns) -> None:
    numbers = np.arange(len(columns.ids))
    _once(audit, HOUSES, block, numbers, columns.ids)
    for partition, log in enumerate(audit.logs):
        offsets = columns.offsets[partition]
        verdicts = log.claim(offsets, columns.ids, columns.contents[partition])
        audit.judge(HOUSES, block, partition, numbers, offsets, verdicts)
    audit.tally.houses += len(columns.ids)


def _claim_rows(audit: Audit, file: int, block: Block, rows: list[_Row]) -> None:
    """Hold the parts of houses against the records at their offsets."""
    for legacy in (False, True):
        chosen = [row for row in rows if is_older(row.line) == legacy]
        for part in PARTS if chosen else ():
            _claim_part(audit, file, block, part.partition, chosen, legacy=legacy)


def _claim_part(audit: Audit, file: int, block: Block, partition: int, rows: list[_Row], *, legacy: bool) -> None:
    audit.tally.implied[partition].update(row.line.id for row in rows if partition not in row.line.offsets)
    rows = [row for row in rows if partition in row.line.offsets]
    offsets = integers(row.line.offsets[partition] for row in rows)
    ids = integers(row.line.id for row in rows)
    contents = integers(part_hash(row.line, partition + 1) for row in rows)
    verdicts = audit.logs[partition].claim(offsets, ids, contents, legacy=legacy)
    audit.judge(file, block, partition, _numbers(rows), offsets, verdicts)


def _numbers(rows: list[_Row]) -> Ints:
    return integers(row.number for row in rows)


def _once(audit: Audit, file: int, block: Block, numbers: Ints, ids: Ints) -> None:
    """Note written ids; each may be written once, in either file."""
    written, batch = audit.tally.written, BitMap64(ids.tolist())
    if len(batch) == len(ids) and not written.intersect(batch):
        written |= batch  # in place
        return
    for number, house_id in zip(numbers.tolist(), ids.tolist(), strict=True):
        if house_id in written:
            audit.findings.add("double", audit.where(file, block, number), f"house {house_id} is written already")
        written.add(house_id)


def is_older(line: HouseLine) -> bool:
    """Whether a house line is of the older program."""
    return line.completed_at is None and not line.late


def parse_written(data: bytes) -> HouseLine:
    """A line of houses.jsonl; `MessageError` when it is none."""
    line = _parse(data)
    if line.mask or line.late or line.parts.keys() != {f"partition_{part.number}" for part in PARTS}:
        raise MessageError(f"not a line of a finished house: {data[:80]!r}")
    return line


def parse_cancelled(data: bytes) -> HouseLine:
    """A line of storno_houses.jsonl; `MessageError` when it is none."""
    line = _parse(data)
    shown = {f"partition_{part.number}" for part in PARTS if line.mask == FULL or not line.mask & part.mask}
    complete = line.offsets.keys() == {0, 1, 2} or is_older(line)
    if not line.mask or (line.parts if line.late else line.parts.keys() != shown or not complete):
        raise MessageError(f"not a line of a cancelled house: {data[:80]!r}")
    return line


def _parse(data: bytes) -> HouseLine:
    line = parse_house_line(data)
    offsets_agree = all(part["offset"] == line.offsets[int(name[-1]) - 1] for name, part in line.parts.items())
    if not offsets_agree:
        raise MessageError(f"numbers that cannot be: {data[:80]!r}")
    return line


_REASONS: set[Reason] = {*NO_ID, "duplicate", "evicted"}

_RejectRow = tuple[int, Reject]
"""Number of a line in its block, and what it says."""


def audit_rejects(audit: Audit) -> None:
    """Check each line of rejects.jsonl; the files of houses have been read."""
    storno_offsets: set[int] = set()
    for block in audit.blocks(REJECTS):
        rows = list(audit.parsed(REJECTS, block, lambda line: parse_reject_line(line, audit.snapshot.topics)))
        audit.tally.rejects.update(_label(reject) for _, reject in rows)
        for number, reject in rows:
            if reject.reason == "gap":
                _note_gap(audit, audit.where(REJECTS, block, number), reject)
            elif reject.partition == STORNO:
                _check_storno(audit, audit.where(REJECTS, block, number), reject, storno_offsets)
        for part in PARTS:
            mine = [row for row in rows if row[1].partition == part.partition and row[1].reason != "gap"]
            _claim(audit, block, part.partition, mine)
    _find_missing_stornos(audit, storno_offsets)
    _check_evicted(audit)


def _label(reject: Reject) -> str:
    return f"{reject.reason} storno" if reject.partition == STORNO else reject.reason


def _claim(audit: Audit, block: Block, partition: int, rows: list[_RejectRow]) -> None:
    if not rows:
        return
    log = audit.logs[partition]
    numbers = integers(number for number, _ in rows)
    offsets = integers(reject.offset for _, reject in rows)
    verdicts = log.claim_rejects(offsets, raw_hashes([reject.raw for _, reject in rows]))
    audit.judge(REJECTS, block, partition, numbers, offsets, verdicts)
    for (number, reject), verdict in zip(rows, verdicts.tolist(), strict=True):
        if verdict in (FINE, DOUBLE):
            _check_reason(audit, block, number, reject, log)


def _check_reason(audit: Audit, block: Block, number: int, reject: Reject, log: PartitionLog) -> None:
    house_id = log.id_at(reject.offset)
    if not _reason_is_right(audit, reject, house_id, log):
        what = f"{audit.at(reject.partition, reject.offset)}: the reason is not {reject.reason!r}"
        audit.findings.add("wrong", audit.where(REJECTS, block, number), what)
    elif reject.reason == "evicted":
        known = house_id if house_id is not None else peek_id(reject.raw)
        if known is not None and known not in audit.tally.evicted:
            audit.tally.evicted[known] = audit.where(REJECTS, block, number)


def _reason_is_right(audit: Audit, reject: Reject, house_id: int | None, log: PartitionLog) -> bool:
    if house_id is None:  # expired
        return reject.reason in _REASONS
    if reject.reason == "duplicate":
        return house_id >= 0 and (log.has_earlier(reject.offset) or house_id in audit.tally.written or log.first > 0)
    if reject.reason == "evicted":
        return house_id >= 0
    return house_id == NO_ID.get(reject.reason)


def _check_evicted(audit: Audit) -> None:
    """An id that was given up is written nowhere, and some partition had passed it over."""
    for house_id, where in audit.tally.evicted.items():
        if house_id in audit.tally.written:
            audit.findings.add("double", where, f"house {house_id} is evicted here, and written")
        elif not any(log.was_passed_over(house_id) for log in audit.logs):
            audit.findings.add(
                "wrong", where, f"house {house_id} is evicted, but no partition held a higher id before its part"
            )


def _note_gap(audit: Audit, where: str, reject: Reject) -> None:
    """A gap line declares lost what Kafka no longer has."""
    try:
        start, end = gap_range(reject)
    except MessageError as error:
        audit.findings.add("foreign", where, str(error))
        return
    key = reject.partition, start
    first = audit.snapshot.marks[reject.partition][0]
    if end > first:
        audit.findings.add(
            "wrong", where, f"declares offsets {start} to {end - 1} lost; Kafka has them from {first} on"
        )
    if key in audit.tally.gaps:
        audit.findings.add("double", where, f"the gap at offset {start} has a line already")
    audit.tally.gaps[key] = max(end, audit.tally.gaps.get(key, 0))


def _check_storno(audit: Audit, where: str, reject: Reject, seen: set[int]) -> None:
    log, offset = audit.stornos, reject.offset
    at = f"{audit.snapshot.topics[1]} offset {offset}"
    if offset in seen:
        audit.findings.add("double", where, f"{at}: has a line already")
    elif not 0 <= offset < log.end:
        audit.findings.add("foreign", where, f"{at}: the topic has no such offset")
    elif offset >= log.first and (reject.reason != "malformed" or offset not in log.malformed):
        audit.findings.add("wrong", where, f"{at}: the reason is not {reject.reason!r}")
    elif offset >= log.first and int(raw_hashes([reject.raw])[0]) != log.malformed[offset]:
        audit.findings.add("wrong", where, f"{at}: the record there holds something else")
    seen.add(offset)


def _find_missing_stornos(audit: Audit, seen: set[int]) -> None:
    for offset in sorted(audit.stornos.malformed.keys() - seen):
        if offset < audit.snapshot.storno_position:
            audit.findings.add(
                "missing", f"{audit.snapshot.topics[1]} offset {offset}", "a malformed storno without a line"
            )
