"""Each line of the three files compared with the records of the topics."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from pyroaring import BitMap64

from houses.errors import MessageError
from houses.records.blocks import Block, Ints, claimed_columns, integers, part_hash
from houses.records.lines import HouseLine, gap_range, parse_house_line, parse_reject_line, split_lines
from houses.records.message import FULL, PARTS, STORNO, Reject, peek_id
from houses.verify.certificate import Findings
from houses.verify.snapshot import CANCELLED, HOUSES, REJECTS, Snapshot, offset_columns
from houses.verify.stornos import StornoAudit
from houses.verify.topic_log import DOUBLE, NO_ID, VERDICTS, Flags, Logs, PartitionLog, StornoLog, Verdicts, raw_hashes

T = TypeVar("T")


@dataclass(slots=True)
class Audit:
    """One check of a folder: what is compared, what is wrong, and what the files hold."""

    snapshot: Snapshot
    logs: Logs
    stornos: StornoLog
    findings: Findings = field(default_factory=Findings)
    notes: list[str] = field(default_factory=list)
    houses: int = 0
    cancelled: int = 0
    late: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    """Lines by reason."""
    written: BitMap64 = field(default_factory=BitMap64)
    """Ids with a house line in either file."""
    evicted: dict[int, str] = field(default_factory=dict)
    """Id -> where its first line is."""
    implied: tuple[BitMap64, BitMap64, BitMap64] = field(default_factory=lambda: (BitMap64(), BitMap64(), BitMap64()))
    """Per partition the ids of older lines, which do not give the offset of an excluded part."""
    storno_lines: set[int] = field(default_factory=set)
    """Offsets of the storno topic that have a line."""
    gaps: dict[tuple[int, int], int] = field(default_factory=dict)
    """Partition (STORNO: the storno topic) and first lost offset -> one past the last."""
    _cut: set[int] = field(default_factory=set)
    """Files of which the rest is not read."""

    def blocks(self, file: int) -> Iterator[Block]:
        """The lines of a file, block by block, up to where the next start of a stopped consumer would cut it off."""
        for block in self.snapshot.blocks(file):
            yield block
            if file in self._cut:
                return

    def parsed(self, file: int, block: Block, parse: Callable[[bytes], T]) -> Iterator[tuple[int, T]]:
        """Number and content of each line of a block; one that is no line is a finding, or what a power cut left."""
        for number, line in enumerate(split_lines(block.data)):
            try:
                if block.is_torn:
                    raise MessageError(f"the last line has no end: {line[:60]!r}")
                yield number, parse(line)
            except MessageError as error:
                self._note_bad_line(file, block, number, error)
                if file in self._cut:
                    return

    def _note_bad_line(self, file: int, block: Block, number: int, error: MessageError) -> None:
        name, byte = self.snapshot.files[file].name, block.byte_of(number)
        checkpoint, is_running = self.snapshot.checkpoint, self.snapshot.is_running
        is_synced = checkpoint is not None and byte < checkpoint.synced[file]
        if is_synced or (not block.is_torn and (is_running or checkpoint is None)):
            self.findings.add("foreign", self.where(file, block, number), str(error))
        elif is_running:
            self.notes.append(f"{name}: a line is being written at byte {byte}")
        else:
            rest = f"{self.snapshot.lengths[file] - byte} bytes from byte {byte} on are no whole lines"
            self.notes.append(f"{name}: {rest}; the consumer cuts them off when it starts")
            self._cut.add(file)

    def where(self, file: int, block: Block, number: int) -> str:
        """A line, as culprits name it."""
        return f"{self.snapshot.files[file].name} byte {block.byte_of(number)}"

    def at(self, partition: int, offset: int) -> str:
        """An offset, as culprits name it; the parts topic is named with its partition."""
        if partition == STORNO:
            return f"{self.snapshot.topics[1]} offset {offset}"
        return f"{self.snapshot.topics[0]} partition {partition} offset {offset}"

    def note_verdicts(
        self, file: int, block: Block, partition: int, numbers: Ints, offsets: Ints, verdicts: Verdicts
    ) -> None:
        """Turn the verdicts on lines about a partition into findings.

        Args:
            numbers: of the lines in the block; `offsets` are those that they speak of.
        """
        for index in np.flatnonzero(verdicts).tolist():
            where, at = self.where(file, block, int(numbers[index])), self.at(partition, int(offsets[index]))
            verdict = int(verdicts[index])
            for kind, what in (VERDICTS[flag] for flag in (verdict & ~DOUBLE, verdict & DOUBLE) if flag):
                self.findings.add(kind, where, f"{at}: {what}")
        self._check_tail(file, block, partition, numbers, offsets)

    def _check_tail(self, file: int, block: Block, partition: int, numbers: Ints, offsets: Ints) -> None:
        """A restart reads a file from the checkpoint's tail on: no line before it may speak of what will be read again."""
        checkpoint = self.snapshot.checkpoint
        if checkpoint is None or block.start >= checkpoint.tail[file]:
            return
        read_again = (offsets >= checkpoint.low[partition]) & (offsets < self.logs[partition].end)
        for number, offset in zip(numbers[read_again].tolist(), offsets[read_again].tolist(), strict=True):
            if block.byte_of(number) < checkpoint.tail[file]:
                at = self.at(partition, offset)
                what = f"a restart reads {at} again, but this file only from byte {checkpoint.tail[file]}"
                self.findings.add("checkpoint", self.where(file, block, number), what)


# --- houses.jsonl and storno_houses.jsonl ---


class _Houses(NamedTuple):
    """The lines of a block that hold a house, column by column."""

    numbers: Ints
    """Of the lines in the block."""
    ids: Ints
    offsets: Sequence[Ints]
    """Per partition; -1 where an older line does not give that of an excluded part."""
    contents: Sequence[Ints]
    """Per partition; 0 where a line does not hold the part."""
    is_older: Flags


def _columns(rows: list[tuple[int, HouseLine]]) -> _Houses:
    lines = [line for _, line in rows]
    contents = [integers(part_hash(line, part.number) for line in lines) for part in PARTS]
    is_older = np.array([_is_older(line) for line in lines], np.bool_)
    return _Houses(integers(number for number, _ in rows), *offset_columns(lines), contents, is_older)


def audit_houses(audit: Audit) -> None:
    """Check each line of houses.jsonl."""
    for block in audit.blocks(HOUSES):
        if columns := claimed_columns(block.data):
            size = len(columns.ids)
            houses = _Houses(np.arange(size), *columns, np.zeros(size, np.bool_))
        else:
            houses = _columns(list(audit.parsed(HOUSES, block, parse_written)))
        _note_written(audit, HOUSES, block, houses.numbers, houses.ids)
        _compare_houses(audit, HOUSES, block, houses)
        audit.houses += len(houses.ids)


def audit_cancelled(audit: Audit, states: StornoAudit) -> None:
    """Check each line of storno_houses.jsonl; houses.jsonl has been read."""
    for block in audit.blocks(CANCELLED):
        rows = list(audit.parsed(CANCELLED, block, parse_cancelled))
        for number, line in rows:  # a late line follows the line of its house, which may be in the same block
            states.line(line, audit.where(CANCELLED, block, number), is_written=line.id in audit.written)
            if not line.late:
                _note_written(audit, CANCELLED, block, integers([number]), integers([line.id]))
        houses = _columns([row for row in rows if not row[1].late])
        _compare_houses(audit, CANCELLED, block, houses)
        audit.cancelled += len(houses.ids)
        audit.late += len(rows) - len(houses.ids)


def _note_written(audit: Audit, file: int, block: Block, numbers: Ints, ids: Ints) -> None:
    """Each id may be written once, in either file."""
    written, batch = audit.written, BitMap64(ids.tolist())
    if len(batch) == len(ids) and not written.intersect(batch):
        written |= batch  # in place
        return
    for number, house_id in zip(numbers.tolist(), ids.tolist(), strict=True):
        if house_id in written:
            audit.findings.add("double", audit.where(file, block, number), f"house {house_id} is written already")
        written.add(house_id)


def _compare_houses(audit: Audit, file: int, block: Block, houses: _Houses) -> None:
    """Compare the parts of houses with the records at their offsets."""
    for p, log in enumerate(audit.logs):
        given = houses.offsets[p] >= 0
        audit.implied[p].update(houses.ids[~given].tolist())
        offsets = houses.offsets[p][given]
        verdicts = log.compare_parts(offsets, houses.ids[given], houses.contents[p][given], houses.is_older[given])
        audit.note_verdicts(file, block, p, houses.numbers[given], offsets, verdicts)


def _is_older(line: HouseLine) -> bool:
    """Whether a house line is of the older program."""
    return line.completed_at is None and not line.late


def parse_written(data: bytes) -> HouseLine:
    """A line of houses.jsonl; `MessageError` when it is none."""
    line = _parse(data)
    if line.mask or line.late or len(line.parts) < len(PARTS):
        raise MessageError(f"not a line of a finished house: {data[:80]!r}")
    return line


def parse_cancelled(data: bytes) -> HouseLine:
    """A line of storno_houses.jsonl; `MessageError` when it is none."""
    line = _parse(data)
    shown = {f"partition_{part.number}" for part in PARTS if line.mask == FULL or not line.mask & part.mask}
    complete = len(line.offsets) == len(PARTS) or _is_older(line)
    if not line.mask or (line.parts if line.late else line.parts.keys() != shown or not complete):
        raise MessageError(f"not a line of a cancelled house: {data[:80]!r}")
    return line


def _parse(data: bytes) -> HouseLine:
    line = parse_house_line(data)
    if any(part["offset"] != line.offsets[int(name[-1]) - 1] for name, part in line.parts.items()):
        raise MessageError(f"numbers that cannot be: {data[:80]!r}")
    return line


# --- rejects.jsonl ---


def audit_rejects(audit: Audit) -> None:
    """Check each line of rejects.jsonl; the files of houses have been read."""
    for block in audit.blocks(REJECTS):
        rows = list(audit.parsed(REJECTS, block, lambda line: parse_reject_line(line, audit.snapshot.topics)))
        for number, reject in rows:
            is_storno = reject.partition == STORNO
            audit.rejects[f"{reject.reason} storno" if is_storno else reject.reason] += 1
            if reject.reason == "gap":
                _check_gap(audit, audit.where(REJECTS, block, number), reject)
            elif is_storno:
                _check_storno(audit, audit.where(REJECTS, block, number), reject)
        for p in range(len(PARTS)):
            mine = [row for row in rows if row[1].partition == p and row[1].reason != "gap"]
            _compare_rejects(audit, block, p, mine)
    for offset in sorted(audit.stornos.malformed.keys() - audit.storno_lines):
        if offset < audit.snapshot.storno_position:
            audit.findings.add("missing", audit.at(STORNO, offset), "a malformed storno without a line")
    _check_evicted(audit)


def _compare_rejects(audit: Audit, block: Block, partition: int, rows: list[tuple[int, Reject]]) -> None:
    """Compare reject lines with the records at their offsets."""
    log = audit.logs[partition]
    numbers = integers(number for number, _ in rows)
    offsets = integers(reject.offset for _, reject in rows)
    verdicts = log.compare_rejects(offsets, raw_hashes([reject.raw for _, reject in rows]))
    audit.note_verdicts(REJECTS, block, partition, numbers, offsets, verdicts)
    for (number, reject), verdict in zip(rows, verdicts.tolist(), strict=True):
        if not verdict & ~DOUBLE:  # it is this record's line
            _check_reason(audit, audit.where(REJECTS, block, number), reject, log)


def _check_reason(audit: Audit, where: str, reject: Reject, log: PartitionLog) -> None:
    house_id = log.id_at(reject.offset)
    if not _is_right(audit, reject, house_id, log):
        what = f"{audit.at(reject.partition, reject.offset)}: the reason is not {reject.reason!r}"
        audit.findings.add("wrong", where, what)
    elif reject.reason == "evicted":
        evicted = peek_id(reject.raw) if house_id is None else house_id
        if evicted is not None:
            audit.evicted.setdefault(evicted, where)


def _is_right(audit: Audit, reject: Reject, house_id: int | None, log: PartitionLog) -> bool:
    """Whether the reason of a reject fits the record, `house_id` being what stands there; None when it is expired."""
    if house_id is None:
        return reject.reason in (*NO_ID, "duplicate", "evicted")
    if house_id < 0 or reject.reason in NO_ID:
        return house_id == NO_ID.get(reject.reason)
    if reject.reason == "duplicate":  # what has expired may have held the first one
        return log.has_earlier(reject.offset) or house_id in audit.written or log.first > 0
    return reject.reason == "evicted"


def _check_evicted(audit: Audit) -> None:
    """An id that was given up is written nowhere, and some partition had passed it over."""
    for house_id, where in audit.evicted.items():
        if house_id in audit.written:
            audit.findings.add("double", where, f"house {house_id} is evicted here, and written")
        elif not any(log.was_passed_over(house_id) for log in audit.logs):
            what = f"house {house_id} is evicted, but no partition held a higher id before its part"
            audit.findings.add("wrong", where, what)


def _check_gap(audit: Audit, where: str, reject: Reject) -> None:
    """A gap line declares lost what Kafka no longer has."""
    try:
        start, end = gap_range(reject)
    except MessageError as error:
        audit.findings.add("foreign", where, str(error))
        return
    key, first = (reject.partition, start), audit.snapshot.marks[reject.partition][0]
    if end > first:
        what = f"declares offsets {start} to {end - 1} lost; Kafka has them from {first} on"
        audit.findings.add("wrong", where, what)
    if key in audit.gaps:
        audit.findings.add("double", where, f"the gap at offset {start} has a line already")
    audit.gaps[key] = max(end, audit.gaps.get(key, 0))


def _check_storno(audit: Audit, where: str, reject: Reject) -> None:
    """A line about the storno topic is about a malformed record, and the only one."""
    log, offset, at = audit.stornos, reject.offset, audit.at(STORNO, reject.offset)
    if offset in audit.storno_lines:
        audit.findings.add("double", where, f"{at}: has a line already")
    elif offset >= log.end:
        audit.findings.add("foreign", where, f"{at}: the topic has no such offset")
    elif offset >= log.first and (reject.reason != "malformed" or offset not in log.malformed):
        audit.findings.add("wrong", where, f"{at}: the reason is not {reject.reason!r}")
    elif offset >= log.first and int(raw_hashes([reject.raw])[0]) != log.malformed[offset]:
        audit.findings.add("wrong", where, f"{at}: the record there holds something else")
    audit.storno_lines.add(offset)
