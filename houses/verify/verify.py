"""Proof from outside that every record has exactly one outcome.

Shares nothing with the consumer but the decoding of messages and lines.
"""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from houses.config.config import Config
from houses.records.blocks import Ints
from houses.records.message import PARTS, STORNO
from houses.system.text import counted
from houses.verify.audit import Audit, audit_cancelled, audit_houses, audit_rejects
from houses.verify.certificate import Certificate, Findings
from houses.verify.snapshot import Snapshot, take_snapshot
from houses.verify.stornos import StornoAudit
from houses.verify.topic_log import BLANK, MALFORMED, PartitionLog, read_parts, read_stornos

LOG = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    """What has no line in one partition."""

    pending: Ints
    """Ids of the parts below the position that wait for the rest of their house."""
    unread: int


def verify(config: Config) -> Certificate:
    """Hold the three files, the register and the checkpoint against the topics, as they are now.

    Below the checkpoint's position every record must have exactly one line, or be a part whose house is incomplete. What
    lies above it may have a line; a consumer may run meanwhile. Memory: 25 bytes a record.

    Args:
    Raises:
        PositionError: the topics are not those of the folder, or records are deleted while they are read.
        BrokerError: no Kafka, or no such topics.
    """
    with _without_gc():
        return _certificate(*_checked(config))


@contextmanager
def _without_gc() -> Iterator[None]:
    """Millions of small objects come and go here, none in a cycle; looking for cycles would take a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _checked(config: Config) -> tuple[Audit, list[_Waiting]]:
    snapshot = take_snapshot(config)
    logs = read_parts(config.kafka, snapshot.topics[0], dict(enumerate(snapshot.marks[:STORNO])))
    stornos = read_stornos(config.kafka, snapshot.topics[1], *snapshot.marks[STORNO], snapshot.storno_position)
    audit = Audit(snapshot, logs, stornos)
    states = StornoAudit(snapshot, stornos, audit.findings)
    LOG.debug("reading the files")
    audit_houses(audit)
    audit_cancelled(audit, states)
    audit_rejects(audit)
    states.finish(audit.tally.written)
    _check_checkpoint(snapshot, audit.findings)
    return audit, [_find_missing(audit, part.partition) for part in PARTS]


def _check_checkpoint(snapshot: Snapshot, findings: Findings) -> None:
    checkpoint = snapshot.checkpoint
    if snapshot.problem:
        findings.add("checkpoint", "checkpoint", snapshot.problem)
    if checkpoint is None:
        return
    for index, (position, (_, end)) in enumerate(
        zip((*checkpoint.next, checkpoint.storno_next), snapshot.marks, strict=True)
    ):
        if position > end:
            where = snapshot.topics[1] if index == STORNO else f"{snapshot.topics[0]} partition {index}"
            findings.add("checkpoint", where, f"position {position} is behind the end {end}")
    for path, length, synced in zip(snapshot.files, snapshot.lengths, checkpoint.synced, strict=True):
        if length < synced:
            findings.add(
                "checkpoint", path.name, f"{length} bytes long, but {synced} were on the disk at the last checkpoint"
            )


def _find_missing(audit: Audit, partition: int) -> _Waiting:
    """Sort the records without a line into pending, unread and missing."""
    log, position = audit.logs[partition], audit.snapshot.position[partition]
    limit = max(0, position - log.first)
    without = np.flatnonzero((log.lines == 0) & (log.ids != BLANK))
    without = without[~_is_implied(audit, partition, without)]
    below = without[without < limit]
    is_pending = _is_pending(audit, log, below)
    for at in below[~is_pending].tolist():
        audit.findings.add("missing", audit.at(partition, at + log.first), _missing_text(log, at))
    _check_low(audit, partition, below[is_pending])
    return _Waiting(log.ids[below[is_pending]], len(without) - len(below))


def _is_implied(audit: Audit, partition: int, at: Ints) -> NDArray[np.bool_]:
    """Whether a record is covered by an older line, which does not give the offsets of excluded parts."""
    log, implied = audit.logs[partition], audit.tally.implied[partition]
    if not implied:
        return np.zeros(len(at), np.bool_)
    return log.is_first[at] & np.isin(log.ids[at], np.fromiter(implied, np.int64, len(implied)))


def _is_pending(audit: Audit, log: PartitionLog, at: Ints) -> NDArray[np.bool_]:
    """Whether records may still wait: the first of their id, which is not closed and of which a part was not read yet."""
    ids, tally = log.ids[at], audit.tally
    # Malformed records have no id, and BitMap64 refuses negative numbers.
    closed = np.array([i < 0 or i in tally.written or i in tally.evicted for i in ids.tolist()], np.bool_)
    complete = np.ones(len(ids), np.bool_)
    for other, position in zip(audit.logs, audit.snapshot.position, strict=True):
        complete &= np.isin(ids, other.ids_below(position))
    return log.is_first[at] & ~closed & ~complete


def _missing_text(log: PartitionLog, at: int) -> str:
    house_id = int(log.ids[at])
    if house_id < 0:
        return f"{'malformed' if house_id == MALFORMED else 'in the wrong partition'}, without a line"
    return f"a part of house {house_id}, without a line" + ("" if log.is_first[at] else " (it is a duplicate)")


def _check_low(audit: Audit, partition: int, pending: Ints) -> None:
    checkpoint, first = audit.snapshot.checkpoint, audit.logs[partition].first
    low = checkpoint.low[partition] if checkpoint else 0
    for at in pending[pending + first < low].tolist():
        what = f"no line, and a restart begins at offset {low}: it would be lost"
        audit.findings.add("checkpoint", audit.at(partition, at + first), what)


def _certificate(audit: Audit, waiting: list[_Waiting]) -> Certificate:
    snapshot, tally, logs = audit.snapshot, audit.tally, audit.logs
    pending = [ids for ids, _ in waiting]
    with_line = [log.expired_lines for log in logs]
    return Certificate(
        topics=snapshot.topics,
        position=snapshot.position,
        storno_position=snapshot.storno_position,
        end=tuple(log.end for log in logs),
        storno_end=audit.stornos.end,
        offsets=sum(int(np.count_nonzero(log.ids != BLANK)) for log in logs),
        houses=tally.houses,
        cancelled=tally.cancelled,
        late=tally.late,
        rejects=dict(tally.rejects),
        pending_ids=len(np.unique(np.concatenate(pending))),
        pending_parts=sum(map(len, pending)),
        unread=sum(unread for _, unread in waiting),
        expired=sum(log.first for log in logs),
        expired_with_line=sum(map(len, with_line)),
        lost=_lost(audit),
        stornos=audit.stornos.valid,
        unread_stornos=audit.stornos.unread,
        register=len(snapshot.register.masks),
        problems={kind: count for kind, count in audit.findings.counts.items() if count},
        culprits=audit.findings.first(),
        notes=(*_notes(snapshot), *audit.notes),
    )


def _lost(audit: Audit) -> int:
    """Offsets in gap lines that have no line of their own; gaps may overlap."""
    lost = 0
    for part in PARTS:
        with_line, reached = audit.logs[part.partition].expired_lines, 0
        for (_, start), end in sorted(item for item in audit.tally.gaps.items() if item[0][0] == part.partition):
            begin, reached = max(start, reached), max(end, reached)
            lost += reached - begin - with_line.range_cardinality(begin, reached)
    return lost


def _notes(snapshot: Snapshot) -> list[str]:
    notes = []
    if snapshot.is_running:
        notes.append("a consumer runs: judged by its last checkpoint")
    if snapshot.checkpoint is None:
        notes.append("no checkpoint: only what the files say is checked, nothing counts as read")
    if first := snapshot.marks[STORNO][0]:
        notes.append(
            f"{counted(first, 'storno is', 'stornos are')} gone from Kafka: states that come from them are not checkable"
        )
    return notes
