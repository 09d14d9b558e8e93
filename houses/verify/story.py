"""One house's story, from topics and files: its parts, when it was finished, what cancelled it, what it waits for."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import or_
from typing import Any, Literal

from houses.config.config import Config
from houses.errors import MessageError
from houses.kafka.reader import Run, printable, read_ranges
from houses.records.blocks import blocks
from houses.records.lines import HouseLine, line_start, parse_house_line, parse_reject_line, split_lines
from houses.records.message import (
    FULL,
    PARTS,
    STORNO,
    Part,
    PartMessage,
    Reject,
    decode_part,
    decode_storno,
    part_names,
    peek_id,
)
from houses.records.metrics import last_metrics
from houses.verify.snapshot import Snapshot, take_snapshot
from houses.verify.stornos import described

State = Literal["finished", "cancelled", "pending", "unread", "evicted", "unknown"]
PartState = Literal["written", "pending", "unread", "evicted", "missing"]


@dataclass(frozen=True, slots=True)
class PartStory:
    """What is known of one part of a house."""

    part: str
    partition: int
    """Kafka partition."""
    state: PartState
    position: int
    """How far the consumer has read the partition: its next offset."""
    end: int
    """Offset behind the last record of the partition."""
    reached_id: int | None
    """House id of the last record that was read there; None where nobody knows."""
    offset: int | None = None
    """Of the part's record, where known."""
    sent: str | None = None
    """The time in the message, as it came; None for an excluded part, whose line does not hold it."""
    name: str | None = None
    task: str | None = None

    def __str__(self) -> str:
        """In one line."""
        if self.state == "missing":
            reached = "" if self.reached_id is None else f", to house {self.reached_id}"
            read = f"partition {self.partition} is read to offset {self.position} of {self.end}"
            return f"{self.part:<10}  missing; {read}{reached}"
        at = "offset not recorded" if self.offset is None else f"partition {self.partition} offset {self.offset}"
        made = "".join(f"  {safe(text)}" for text in (self.sent and f"sent {self.sent}", self.name, self.task) if text)
        return f"{self.part:<10}  {self.state}; {at}{made}"


@dataclass(frozen=True, slots=True)
class StornoStory:
    """One storno message of a house."""

    offset: int
    mask: int
    """The parts that it cancels."""
    is_read: bool

    def __str__(self) -> str:
        """In one line."""
        return f"{described(self.mask)}, offset {self.offset}" + ("" if self.is_read else ", not read yet")


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of one house."""

    id: int
    state: State
    parts: tuple[PartStory, ...]
    completed_at: str | None
    """When its third part met the others; None when it did not, or the older program wrote it."""
    storno: str
    """The storno state that the files give it, in words; empty without any."""
    stornos: tuple[StornoStory, ...]
    rejects: tuple[Reject, ...]
    """Records with its id that became no part of it."""
    mask: int = 0
    """The parts that are cancelled according to the files."""
    mask_before: int = 0
    """Those of them that were cancelled before it was complete."""

    def lines(self) -> list[str]:
        """The story, line by line, safe to print on a terminal."""
        rejects = (
            f"reject      {reject.reason}; partition {reject.partition} offset {reject.offset}: {safe(reject.detail)}"
            for reject in self.rejects
        )
        return [
            f"house {self.id}: {self._outcome()}",
            *map(str, self.parts),
            *map(str, self.stornos),
            *rejects,
        ]

    def _outcome(self) -> str:
        """What has become of it, in words."""
        when = safe(self.completed_at) if self.completed_at else ""
        match self.state:
            case "finished":
                return "finished" + (when and f", completed {when}")
            case "cancelled" if not self.mask_before:
                return "finished" + (when and f", completed {when}") + f", later {_cancelled(self.mask)}"
            case "cancelled":
                later = "" if self.mask == self.mask_before else f", later {_cancelled(self.mask)}"
                return f"{_cancelled(self.mask_before)} before it was complete" + (when and f" ({when})") + later
            case "pending":
                lacking = " and ".join(part.part for part in self.parts if part.state in ("missing", "unread"))
                known = self._known_mask()
                return f"pending, waits for {lacking}" + (f", {_cancelled(known)} already" if known else "")
            case "unread":
                return "not read yet, its parts lie in Kafka behind the consumer's position"
            case "evicted":
                return "evicted: given up, as other houses had passed what it lacked"
            case "unknown":
                return "unknown, no part of it has come"

    def _known_mask(self) -> int:
        """The parts that stornos cancel which the consumer has read."""
        return reduce(or_, (storno.mask for storno in self.stornos if storno.is_read), 0)

    def __str__(self) -> str:
        """The story as text."""
        return "\n".join(self.lines())

    def to_json(self) -> dict[str, Any]:
        """The story as plain values."""
        rejects = [
            {"partition": reject.partition, "offset": reject.offset, "reason": reject.reason, "detail": reject.detail}
            for reject in self.rejects
        ]
        return asdict(self) | {"rejects": rejects}


def _cancelled(mask: int) -> str:
    return "cancelled" if mask == FULL else f"cancelled in part ({' and '.join(part_names(mask))})"


def safe(text: str) -> str:
    """Text of anybody, safe to print on a terminal."""
    return printable(text.encode("utf-8", "backslashreplace"))


@dataclass(slots=True)
class _Facts:
    """What was found about a house."""

    id: int
    snapshot: Snapshot
    positions: tuple[int, ...]
    """Next offset to read, per partition."""
    written: HouseLine | None = None
    mask: int = 0
    """Of its last line in storno_houses.jsonl."""
    rejects: list[Reject] = field(default_factory=list)
    found: dict[int, tuple[int, PartMessage]] = field(default_factory=dict)
    """Partition -> offset and content of its first record that has no line."""
    reached: dict[int, int] = field(default_factory=dict)
    """Partition -> house id of the last part that was read."""

    @property
    def evicted(self) -> dict[int, Reject]:
        """Partition -> the first line that gives the house up."""
        return {reject.partition: reject for reject in reversed(self.rejects) if reject.reason == "evicted"}


def story(config: Config, house_id: int) -> Story:
    """What topics and files tell of a house.

    Raises:
        PositionError, BrokerError: see `snapshot.take_snapshot`.
    """
    snapshot = take_snapshot(config)
    facts = _Facts(house_id, snapshot, _positions(config, snapshot))
    _find_lines(facts)
    facts.rejects = list(_find_rejects(facts))
    if facts.written is None:
        _find_records(config, facts)
    parts = tuple(_part(facts, part) for part in PARTS)
    completed_at = facts.written.completed_at if facts.written else None
    storno = described(facts.mask) if facts.mask else ""
    before = facts.written.mask if facts.written else 0
    stornos = tuple(_find_stornos(config, facts))
    return Story(
        house_id,
        _state(facts, parts),
        parts,
        completed_at,
        storno,
        stornos,
        tuple(facts.rejects),
        facts.mask,
        before,
    )


def _positions(config: Config, snapshot: Snapshot) -> tuple[int, ...]:
    """How far the consumer has read: the last that it said, which may be later than its checkpoint."""
    said = (last_metrics(config.metrics_path) or {}).get("position", [0, 0, 0])
    return tuple(map(max, snapshot.position, said))


def _find_lines(facts: _Facts) -> None:
    start = line_start(facts.id)
    for path, length in list(zip(facts.snapshot.files, facts.snapshot.lengths, strict=True))[:2]:
        for block in blocks(path, length):
            for data in split_lines(block.data) if start in block.data else ():
                if data.startswith(start) and data.endswith(b"\n"):
                    _note_line(facts, parse_house_line(data))


def _note_line(facts: _Facts, line: HouseLine) -> None:
    facts.mask |= line.mask
    if not line.late:
        facts.written = line


def _find_rejects(facts: _Facts) -> Iterator[Reject]:
    for block in blocks(facts.snapshot.files[2], facts.snapshot.lengths[2]):
        for data in split_lines(block.data):
            try:
                reject = parse_reject_line(data, facts.snapshot.topics)
            except MessageError:  # what is no line is for verify to report
                continue
            if reject.partition != STORNO and peek_id(reject.raw) == facts.id:
                yield reject


def _find_records(config: Config, facts: _Facts) -> None:
    """Look at all records that may be without a line, and at the last one that was read, in each partition."""
    for run in read_ranges(config.kafka, facts.snapshot.topics[0], {p.partition: _unsettled(facts, p) for p in PARTS}):
        _note_run(facts, run)


def _unsettled(facts: _Facts, part: Part) -> tuple[int, int]:
    p, checkpoint = part.partition, facts.snapshot.checkpoint
    first, end = facts.snapshot.marks[p]
    return max(first, min(checkpoint.low[p] if checkpoint else 0, facts.positions[p] - 1)), end


def _note_run(facts: _Facts, run: Run) -> None:
    p, needle = run.partition, str(facts.id).encode()
    for offset, value in zip(run.offsets, run.values(), strict=True):
        if offset == facts.positions[p] - 1 and (reached := peek_id(value or b"")) is not None:
            facts.reached[p] = reached
        message = _message(p, value) if value and needle in value and p not in facts.found else None
        if message is not None and message.id == facts.id:
            facts.found[p] = offset, message


def _message(partition: int, value: bytes) -> PartMessage | None:
    try:
        message = decode_part(value)
    except MessageError:
        return None
    return message if message.number == partition + 1 else None


def _part(facts: _Facts, part: Part) -> PartStory:
    p = part.partition
    if facts.written is not None:
        return _written(facts, part, facts.written)
    if p in facts.evicted:
        reject = facts.evicted[p]
        return _told(facts, part, "evicted", reject.offset, _message(p, reject.raw))
    if p in facts.found and not facts.evicted:
        offset, message = facts.found[p]
        return _told(facts, part, "pending" if offset < facts.positions[p] else "unread", offset, message)
    return _told(facts, part, "missing", None, None)


def _written(facts: _Facts, part: Part, line: HouseLine) -> PartStory:
    shown = line.parts.get(f"partition_{part.number}")
    message = None if shown is None else PartMessage(part.number, line.id, shown["ts"], shown["name"], shown["task"])
    return _told(facts, part, "written", line.offsets.get(part.partition), message)


def _told(facts: _Facts, part: Part, state: PartState, offset: int | None, message: PartMessage | None) -> PartStory:
    p = part.partition
    made = (message.ts, message.name, message.task) if message else (None, None, None)
    return PartStory(
        part.name, p, state, facts.positions[p], facts.snapshot.marks[p][1], facts.reached.get(p), offset, *made
    )


def _state(facts: _Facts, parts: tuple[PartStory, ...]) -> State:
    if facts.written is not None:
        return "cancelled" if facts.mask else "finished"
    if facts.evicted:
        return "evicted"
    states = {part.state for part in parts} - {"missing"}
    if not states:
        return "unknown"
    return "pending" if "pending" in states else "unread"


def _find_stornos(config: Config, facts: _Facts) -> Iterator[StornoStory]:
    storno_position = max(
        facts.snapshot.storno_position, (last_metrics(config.metrics_path) or {}).get("storno_position", 0)
    )
    for run in read_ranges(config.kafka, facts.snapshot.topics[1], {0: facts.snapshot.marks[STORNO]}):
        for offset, value in zip(run.offsets, run.values(), strict=True):
            try:
                storno = decode_storno(value)
            except MessageError:
                continue
            if storno.id == facts.id:
                yield StornoStory(offset, storno.mask, offset < storno_position)
