"""Holding houses.jsonl and storno_houses.jsonl against the topics."""

from typing import NamedTuple

import numpy as np
from pyroaring import BitMap64

from houses.audit import CANCELLED, HOUSES, Audit
from houses.audit_storno import StornoAudit
from houses.errors import MessageError
from houses.records.blocks import Block, HouseColumns, Ints, claimed_columns, integers, part_hash
from houses.records.lines import HouseLine, parse_house_line
from houses.records.message import FULL, PARTS


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
