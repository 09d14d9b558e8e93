"""Proof from outside that every record has exactly one outcome.

Shares nothing with the consumer but the decoding of messages and lines.
"""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from pyroaring import BitMap64

from houses.config.config import Config
from houses.records.blocks import Ints, integers
from houses.records.message import PARTS, STORNO
from houses.system.text import counted
from houses.verify.audit import Audit, audit_cancelled, audit_houses, audit_rejects
from houses.verify.certificate import Certificate, Findings
from houses.verify.snapshot import Snapshot, take_snapshot
from houses.verify.stornos import StornoAudit
from houses.verify.topic_log import BLANK, MALFORMED, Flags, PartitionLog, read_parts, read_stornos

LOG = logging.getLogger(__name__)


def verify(config: Config) -> Certificate:
    """Compare the three files, the register and the checkpoint with the topics, as they are now.

    1. The snapshot: positions, file lengths and ends of topics that fit together, while a consumer may run.
    2. The topics: what every offset holds, 25 bytes of memory a record.
    3. The files: each line must say what the records at its offsets hold; no offset may have two lines, no id two houses.
    4. The storno states: topic, register and lines must agree.
    5. The checkpoint: its positions must lie within the topics, its lengths within the files.
    6. The records without a line: from the checkpoint's position on they are unread. Below it each must be a part of a
       pending house, which a restart from the checkpoint reads again; else its outcome is missing.

    Raises:
        PositionError: the topics are not those of the folder, or records are deleted while they are read.
        BrokerError: no Kafka, or no such topics.
    """
    with _without_gc():
        # 1. the snapshot
        snapshot = take_snapshot(config)
        # 2. the topics
        logs = read_parts(config.kafka, snapshot.topics[0], snapshot.marks[:STORNO])
        stornos = read_stornos(config.kafka, snapshot.topics[1], *snapshot.marks[STORNO], snapshot.storno_position)
        # 3. the files
        LOG.debug("reading the files")
        audit = Audit(snapshot, logs, stornos)
        states = StornoAudit(snapshot, stornos, audit.findings)
        audit_houses(audit)
        audit_cancelled(audit, states)
        audit_rejects(audit)
        # 4. the storno states
        states.finish(audit.written)
        # 5. the checkpoint
        _check_checkpoint(snapshot, audit.findings)
        # 6. the records without a line
        return _certificate(audit, [_check_without_line(audit, part.partition) for part in PARTS])


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


def _check_checkpoint(snapshot: Snapshot, findings: Findings) -> None:
    if snapshot.problem:
        findings.add("checkpoint", "checkpoint", snapshot.problem)
    if snapshot.checkpoint is None:
        return
    positions = (*snapshot.position, snapshot.storno_position)
    for p, (position, (_, end)) in enumerate(zip(positions, snapshot.marks, strict=True)):
        if position > end:
            where = snapshot.topics[1] if p == STORNO else f"{snapshot.topics[0]} partition {p}"
            findings.add("checkpoint", where, f"position {position} is behind the end {end}")
    for path, length, synced in zip(snapshot.files, snapshot.lengths, snapshot.checkpoint.synced, strict=True):
        if length < synced:
            what = f"{length} bytes long, but {synced} were on the disk at the last checkpoint"
            findings.add("checkpoint", path.name, what)


class _WithoutLine(NamedTuple):
    """The records of one partition that have no line and need none yet."""

    pending: Ints
    """Ids of the parts below the position that wait for the rest of their house."""
    unread: int


def _check_without_line(audit: Audit, partition: int) -> _WithoutLine:
    """Sort the records without a line into pending, unread and missing; the missing ones are findings."""
    log, position, low = audit.logs[partition], audit.snapshot.position[partition], audit.snapshot.low[partition]
    without = np.flatnonzero(~log.has_line & (log.ids != BLANK))
    # An older line has its part excluded, and does not give its offset.
    implied = log.is_first[without] & np.isin(log.ids[without], integers(audit.implied[partition]))
    without = without[~implied]
    below = without[without < position - log.first]
    is_pending = _is_pending(audit, log, below)
    for at in below[~is_pending].tolist():
        audit.findings.add("missing", audit.at(partition, at + log.first), _missing_text(log, at))
    for at in below[is_pending & (below < low - log.first)].tolist():
        what = f"no line, and a restart begins at offset {low}: it would be lost"
        audit.findings.add("checkpoint", audit.at(partition, at + log.first), what)
    return _WithoutLine(log.ids[below[is_pending]], len(without) - len(below))


def _is_pending(audit: Audit, log: PartitionLog, at: Ints) -> Flags:
    """Whether records may be pending: the first of their id, which is not closed and of which a part was not read yet."""
    ids = log.ids[at]
    # Malformed records have no id, and BitMap64 refuses negative numbers.
    closed = np.array([i < 0 or i in audit.written or i in audit.evicted for i in ids.tolist()], np.bool_)
    complete = np.ones(len(ids), np.bool_)
    for other, position in zip(audit.logs, audit.snapshot.position, strict=True):
        complete &= np.isin(ids, other.ids_below(position))
    return log.is_first[at] & ~closed & ~complete


def _missing_text(log: PartitionLog, at: int) -> str:
    house_id = int(log.ids[at])
    if house_id < 0:
        return f"{'malformed' if house_id == MALFORMED else 'in the wrong partition'}, without a line"
    return f"a part of house {house_id}, without a line" + ("" if log.is_first[at] else " (it is a duplicate)")


def _certificate(audit: Audit, without_line: list[_WithoutLine]) -> Certificate:
    snapshot, logs, stornos = audit.snapshot, audit.logs, audit.stornos
    pending = np.concatenate([ids for ids, _ in without_line])
    return Certificate(
        topics=snapshot.topics,
        position=snapshot.position,
        storno_position=snapshot.storno_position,
        end=tuple(log.end for log in logs),
        storno_end=stornos.end,
        offsets=sum(int(np.count_nonzero(log.ids != BLANK)) for log in logs),
        houses=audit.houses,
        cancelled=audit.cancelled,
        late=audit.late,
        rejects=dict(audit.rejects),
        pending_ids=len(np.unique(pending)),
        pending_parts=len(pending),
        unread=sum(unread for _, unread in without_line),
        expired=sum(log.first for log in logs),
        expired_with_line=sum(len(log.expired_lines) for log in logs),
        lost=_lost(audit),
        stornos=stornos.valid,
        unread_stornos=stornos.unread,
        register=len(snapshot.register.masks),
        problems=dict(audit.findings.counts),
        culprits=audit.findings.first(),
        notes=(*_notes(snapshot), *audit.notes),
    )


def _lost(audit: Audit) -> int:
    """Offsets in gap lines that have no line of their own and that Kafka no longer has; gaps may overlap."""
    lost = [BitMap64() for _ in PARTS]
    for (partition, start), end in audit.gaps.items():
        if partition != STORNO:
            lost[partition].add_range(start, min(end, audit.logs[partition].first))
    return sum(len(offsets - log.expired_lines) for offsets, log in zip(lost, audit.logs, strict=True))


def _notes(snapshot: Snapshot) -> list[str]:
    notes = []
    if snapshot.is_running:
        notes.append("a consumer runs: judged by its last checkpoint")
    if snapshot.checkpoint is None:
        notes.append("no checkpoint: only what the files say is checked, nothing counts as read")
    if first := snapshot.marks[STORNO][0]:
        gone = counted(first, "storno is", "stornos are")
        notes.append(f"{gone} gone from Kafka: states that come from them are not checkable")
    return notes
