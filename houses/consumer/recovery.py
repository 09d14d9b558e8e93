"""From files and checkpoint back to a running state, after any kind of stop.

No Kafka in here: the facts come as a `BrokerView`.
"""

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field

from houses.config.config import Config
from houses.consumer.join import JoinTable
from houses.consumer.journal import FILES, Journal, JsonlFile
from houses.errors import FolderError, MessageError, PositionError
from houses.kafka.clients import TopicInfo
from houses.offsets.binding import Binding, bound_to, check_owner
from houses.offsets.checkpoint import Checkpoint, CheckpointStore
from houses.records.decode import PartBatch, entry_bytes
from houses.records.lines import RAW_CAP_BYTES, gap_range, gap_reject, parse_house_line, parse_reject_line
from houses.records.message import STORNO, Reject, Storno, peek_id
from houses.records.registers import ClosedIds, StornoRegister, load_closed_ids, load_stornos
from houses.system.files import FileOps

LOG = logging.getLogger(__name__)


class DoneOffsets:
    """Offsets that already have a line.

    A record read again is skipped only when it is the one that the line speaks of.
    """

    def __init__(self) -> None:
        """Nothing done."""
        self._lines: tuple[dict[int, int | bytes], ...] = ({}, {}, {}, {})

    def add(self, partition: int, offset: int, content: int | bytes) -> None:
        """Note a line: the house id of a written part, or the (capped) bytes of a rejected record."""
        self._lines[partition][offset] = content

    def forget(self) -> None:
        """Free the memory: nothing will be read again."""
        for lines in self._lines:
            lines.clear()

    def end(self, partition: int) -> int:
        """The offset behind the last one that has a line; 0 without any."""
        return max(self._lines[partition], default=-1) + 1

    def count(self, partition: int, start: int, end: int) -> int:
        """How many offsets from `start` on and below `end` have a line."""
        return sum(start <= done < end for done in self._lines[partition])

    def without_done(self, batch: PartBatch) -> PartBatch:
        """The batch without what is done already; `PositionError` when a record is not the one of its line."""
        ids, entries, lines = [], [], self._lines[batch.partition]
        for house_id, entry in zip(batch.ids, batch.entries, strict=True):
            if lines.get(entry[0]) == house_id:  # the usual case, without the bytes of the message
                continue
            if not self.is_done(batch.partition, entry[0], house_id, entry_bytes(batch.partition, house_id, entry)):
                ids.append(house_id)
                entries.append(entry)
        rejects = [r for r in batch.rejects if not self.is_done(batch.partition, r.offset, None, r.raw)]
        return PartBatch(batch.partition, ids, entries, rejects)

    def is_done(self, partition: int, offset: int, house_id: int | None, raw: bytes) -> bool:
        """Whether this very record has its line; `PositionError` when another record has."""
        content = self._lines[partition].get(offset)
        if content is None:
            return False
        if content in (house_id, raw[:RAW_CAP_BYTES]):
            return True
        where = "the storno topic" if partition == STORNO else f"partition {partition}"
        raise PositionError(
            f"offset {offset} of {where} holds {raw[:60]!r}, but the files say {content!r}: "
            "this is not the topic that they were written from; start anew with: houses reset --archive"
        )


_START = Checkpoint("", ("", ""), 0, (0, 0, 0), (0, 0, 0), 0, (0, 0, 0), (0, 0, 0))
"""Stands for the record that there is none of: nothing was read, nothing written."""
_WAYS_ON = "go on without them: houses consume --accept-gap; or start anew: houses reset --archive"


@dataclass(frozen=True, slots=True)
class BrokerView:
    """What the broker says at the start of the consumer."""

    parts: TopicInfo
    storno: TopicInfo
    watermarks: tuple[tuple[int, int], ...]
    """First offset and end of the three partitions and, last, of the storno topic."""


@dataclass(slots=True)
class Recovered:
    """A state from which the consumer goes on."""

    binding: Binding
    journal: Journal
    table: JoinTable
    done: DoneOffsets
    generation: int
    """Of the last checkpoint; 0 without one."""
    begin: list[int]
    """Offset to read from, per partition and of the storno topic, last."""
    replay_until: list[int]
    """Offsets below may have been consumed before, likewise."""
    tail: tuple[int, ...]
    """Byte per file from which lines may hold offsets at or above `begin`."""
    gaps: list[Reject] = field(default_factory=list)
    """One per partition that lost records: lines still to be written, once the user accepts."""
    known_gaps: tuple[list[tuple[int, int]], ...] = field(default_factory=lambda: ([], [], [], []))
    """Per partition and of the storno topic, last: first offset and end of the gaps that have their line."""

    @property
    def again(self) -> str:
        """From where to where the parts are read again, in one line; empty where nobody has read before."""
        parts = range(STORNO)
        if not any(self.replay_until[p] for p in parts):
            return ""
        start, end = (" / ".join(map(str, offsets[:STORNO])) for offsets in (self.begin, self.replay_until))
        done = sum(self.done.count(p, self.begin[p], self.replay_until[p]) for p in parts)
        of = sum(self.replay_until[p] - self.begin[p] for p in parts)
        if not of:
            return f"Recovered: goes on at offset {end}, reads nothing again"
        return f"Recovered: reads again from offset {start} up to {end}; {done} of these {of} messages have their line"


def recover(
    config: Config,
    ops: FileOps,
    store: CheckpointStore,
    broker: BrokerView,
    *,
    accept_gap: bool,
) -> Recovered:
    """Bring the output folder into a state that reading can go on from.

    1. Binding: the folder belongs to these topics.
    2. Checkpoint: it belongs to this folder; the files reach as far as it says, and a line ends there.
    3. Closed ids and stornos: from their side files, else from the whole files and the storno topic from 0.
    4. Lines from the tail on: what they hold is done; a torn line behind the synced length is cut off, a bad one before
    refused. 5. Bytes behind the synced length are written again and synced. 6. Positions: the topics still hold them.

    Raises:
        FolderError: the folder is damaged or belongs to other topics.
        PositionError: the topics no longer hold what would have to be read.
    """
    binding = bound_to(config, ops, broker.parts, broker.storno)
    checkpoint = store.load()
    synced = checkpoint.synced if checkpoint else _START.synced
    check_owner(checkpoint, binding, store.name)
    paths = (config.houses_path, config.storno_houses_path, config.rejects_path)
    journal = Journal(ops, paths, (broker.parts.name, broker.storno.name))
    with ExitStack() as when_refused:
        when_refused.callback(journal.close)
        check_files(synced, journal)
        was_cut = True
        while was_cut:  # the cache of closed ids may cover what was cut off: it is judged by the lengths that are left
            state = _load(config, ops, checkpoint, binding, journal, broker)
            was_cut = _read_tail(state, checkpoint, broker, accept_gap)
        for file, position in zip(journal.files, synced, strict=True):
            file.rewrite_from(position)
        state.replay_until = [max(n, state.done.end(p)) for p, n in enumerate(state.replay_until)]
        _check_positions(state, checkpoint, broker, accept_gap)
        when_refused.pop_all()
    if state.again:
        LOG.info(state.again)
    return state


def _load(
    config: Config,
    ops: FileOps,
    checkpoint: Checkpoint | None,
    binding: Binding,
    journal: Journal,
    broker: BrokerView,
) -> Recovered:
    """The state as the checkpoint and the side files tell it; what they cannot tell is to be read from the files."""
    start = checkpoint or _START
    tail = list(start.tail)
    closed, stornos = ClosedIds(), StornoRegister()
    if not (checkpoint and load_closed_ids(config, ops, closed, start.generation, tail, journal.lengths)):
        tail = [0, 0, 0]
    # The register says itself how far it goes, and it was saved after the lines that it caused: it counts without a
    # checkpoint too, or stornos that the topic no longer holds would be forgotten.
    storno_next = known = load_stornos(config, ops, stornos)
    if checkpoint:
        storno_next = known = min(storno_next, checkpoint.storno_next)
    elif broker.watermarks[STORNO][0] == 0:
        # But the files may lack what it caused: as long as the topic holds all stornos, it is read again instead.
        storno_next, stornos = 0, StornoRegister()
    if storno_next < start.storno_next:
        # Late lines and rejected stornos that have their line must be known, or the storno topic, read again from there,
        # would add them again.
        tail[FILES.index("storno")], tail[FILES.index("rejects")] = 0, 0
    return Recovered(
        binding,
        journal,
        JoinTable(stornos, closed),
        DoneOffsets(),
        start.generation,
        [*start.low, storno_next],
        [*start.next, known],
        tuple(tail),
    )


def _read_tail(state: Recovered, checkpoint: Checkpoint | None, broker: BrokerView, accept_gap: bool) -> bool:
    """Note what the lines from the tail on say; True when a file was cut."""
    readers = (_note_house, _note_house, _note_reject)
    lengths = state.journal.lengths
    for index, (file, note) in enumerate(zip(state.journal.files, readers, strict=True)):
        for position, line in file.lines(state.tail[index]):
            try:
                if not line.endswith(b"\n"):
                    raise MessageError("unterminated")
                note(state, line)
            except MessageError as error:
                _check_torn(file, position, line, checkpoint.synced[index] if checkpoint else None, str(error))
                if not accept_gap:  # accepted: what cannot be written again is part of the gap
                    _check_readable_again(state, file, position, broker)
                kept = f"what followed is in {file.path.name}.cut"
                LOG.info(f"{file.path}: cut off at byte {position}, behind the last whole line; {kept}")
                file.cut(position)
                break
    return state.journal.lengths != lengths


def _check_torn(file: JsonlFile, position: int, line: bytes, synced: int | None, why: str) -> None:
    # Without a record only what no hand leaves is torn: no line feed, or zeros where a power cut took a part of a batch.
    is_torn = b"\0" in line or not line.endswith(b"\n") if synced is None else position >= synced
    if not is_torn:
        raise FolderError(
            f"{file.path}: damaged at byte {position} ({line[:60]!r}: {why}): restore it, or start "
            "anew with: houses reset --archive"
        )


def _check_readable_again(state: Recovered, file: JsonlFile, position: int, broker: BrokerView) -> None:
    for partition, (low, (first, _)) in enumerate(zip(state.begin[:STORNO], broker.watermarks[:STORNO], strict=True)):
        if first > low:
            raise PositionError(
                f"{file.path}: torn at byte {position}, and partition {partition} no longer holds offsets {low} to "
                f"{first - 1}, from which its lines could be written again: {_WAYS_ON}"
            )


def _note_house(state: Recovered, line: bytes) -> None:
    house = parse_house_line(line)
    for partition, offset in house.offsets.items():
        if offset >= state.begin[partition]:
            state.done.add(partition, offset, house.id)
    if house.mask:
        state.table.stornos.merge(Storno(house.id, house.mask), house.storno_offset)
    if not house.late:
        state.table.closed.add_written([house.id])


def _note_reject(state: Recovered, line: bytes) -> None:
    topics = (state.binding.parts.name, state.binding.storno.name)
    reject = parse_reject_line(line, topics)
    if reject.reason == "gap":
        state.known_gaps[reject.partition].append(gap_range(reject))
        return
    if reject.offset >= state.begin[reject.partition]:
        state.done.add(reject.partition, reject.offset, reject.raw)
    if reject.reason == "evicted" and (house_id := peek_id(reject.raw)) is not None:
        state.table.closed.add_evicted([house_id])


def _check_positions(state: Recovered, checkpoint: Checkpoint | None, broker: BrokerView, accept_gap: bool) -> None:
    fresh = checkpoint is None and not any(state.journal.lengths)
    problems = []
    for partition, (first, end) in enumerate(broker.watermarks):
        where = broker.storno.name if partition == STORNO else f"{broker.parts.name} partition {partition}"
        if (reached := state.replay_until[partition]) > end:
            raise PositionError(
                f"{where}: position {reached} is beyond its end {end}: the topic lost records or is another one; "
                "start anew with: houses reset --archive"
            )
        for start, behind, unread in _unread(state, partition, first) if not fresh else ():
            problems.append(f"{where}: offsets {start} to {behind - 1} were deleted, {unread} of them unread")
            state.gaps.append(gap_reject(partition, start, behind))
        state.begin[partition] = max(state.begin[partition], first)
    if problems and not accept_gap:
        raise PositionError("; ".join(problems) + ": " + _WAYS_ON)


def _unread(state: Recovered, partition: int, first: int) -> list[tuple[int, int, int]]:
    """Stretches of deleted offsets that have neither lines nor a gap line: start, end, and how many of them have none."""
    stretches, start = [], state.begin[partition]
    for begin, behind in [*sorted(state.known_gaps[partition]), (first, first)]:
        stretches.append((start, min(begin, first)))
        start = max(start, behind)
    counted = ((s, e, e - s - state.done.count(partition, s, e)) for s, e in stretches if s < e)
    return [stretch for stretch in counted if stretch[2]]


def check_files(lengths: tuple[int, ...], journal: Journal) -> None:
    """`FolderError` unless each file reaches to its synced length, and a line ends there."""
    for file, synced in zip(journal.files, lengths, strict=True):
        if synced and not file.length_bytes:
            what = f"missing or empty, but {synced} bytes were on the disk at the last checkpoint"
        elif file.length_bytes < synced:
            what = f"{file.length_bytes} bytes long, but {synced} were on the disk at the last checkpoint"
        # A cut at the synced length would go through the middle of a line, and lose the houses behind it.
        elif synced and not file.line_ends_at(synced):
            what = f"changed at or before byte {synced}, where a line ended at the last checkpoint"
        else:
            continue
        rescan = "or read again what the files do not hold: houses consume --rescan; " if _can_go_on(journal) else ""
        raise FolderError(f"{file.path}: {what}: restore the file; {rescan}or start anew: houses reset --archive")


def _can_go_on(journal: Journal) -> bool:
    """Whether the files as they are can be gone on with: each house is there once, and before its late lines."""
    written = ClosedIds()
    for file in (journal.houses, journal.storno):
        for _, line in file.lines(0):
            if not line.endswith(b"\n"):  # torn: will be cut
                continue
            try:
                house = parse_house_line(line)
            except MessageError:
                return False
            if house.late != (house.id in written.written):
                return False
            written.add_written([house.id])
    return True
