"""Holding rejects.jsonl against the topics."""

from houses.audit import REJECTS, Audit
from houses.errors import MessageError
from houses.evidence import DOUBLE, FINE, NO_ID, PartitionLog, raw_hashes
from houses.records.blocks import Block, integers
from houses.records.lines import gap_range, parse_reject_line
from houses.records.message import PARTS, STORNO, Reject, peek_id

_REASONS = {*NO_ID, "duplicate", "evicted"}

_Row = tuple[int, Reject]
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


def _claim(audit: Audit, block: Block, partition: int, rows: list[_Row]) -> None:
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
