"""One house's story, from topics and files: its parts, when it was finished, what cancelled it, what it waits for."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import or_
from typing import Any, Literal

from houses.config.config import Config
from houses.errors import MessageError
from houses.kafka.reader import printable, read_ranges
from houses.records.lines import HouseLine, line_start, parse_house_line, split_lines
from houses.records.message import PARTS, STORNO, Part, PartMessage, Reject, decode_part, decode_storno, peek_id
from houses.verify.snapshot import CANCELLED, HOUSES, Snapshot, take_snapshot
from houses.verify.stornos import cancelled, described

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
        return [f"house {self.id}: {self._outcome()}", *map(str, self.parts), *map(str, self.stornos), *rejects]

    def _outcome(self) -> str:
        """What has become of it, in words."""
        when = safe(self.completed_at) if self.completed_at else ""
        later = "" if self.mask == self.mask_before else f", later {cancelled(self.mask)}"
        match self.state:
            case "cancelled" if self.mask_before:
                return f"{cancelled(self.mask_before)} before it was complete" + (when and f" ({when})") + later
            case "finished" | "cancelled":
                return "finished" + (when and f", completed {when}") + later
            case "pending":
                lacking = " and ".join(part.part for part in self.parts if part.state in ("missing", "unread"))
                known = reduce(or_, (storno.mask for storno in self.stornos if storno.is_read), 0)
                return f"pending, waits for {lacking}" + (f", {cancelled(known)} already" if known else "")
            case "unread":
                return "not read yet, its parts lie in Kafka behind the consumer's position"
            case "evicted":
                return "evicted: given up, as other houses had passed what it lacked"
            case "unknown":
                return "unknown, no part of it has come"

    def __str__(self) -> str:
        """The story as text."""
        return "\n".join(self.lines())

    def to_json(self) -> dict[str, Any]:
        """The story as plain values."""
        rejects = [{k: v for k, v in reject._asdict().items() if k != "raw"} for reject in self.rejects]
        return asdict(self) | {"rejects": rejects}


def safe(text: str) -> str:
    """Text of anybody, safe to print on a terminal."""
    return printable(text.encode("utf-8", "backslashreplace"))


@dataclass(slots=True)
class _Facts:
    """What was found about a house."""

    id: int
    snapshot: Snapshot
    written: HouseLine | None = None
    mask: int = 0
    """Of its last line in storno_houses.jsonl."""
    rejects: list[Reject] = field(default_factory=list)
    found: dict[int, tuple[int, PartMessage]] = field(default_factory=dict)
    """Partition -> offset and content of its first record that has no line."""
    reached_id: dict[int, int] = field(default_factory=dict)
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
    facts = _Facts(house_id, snapshot)
    _find_lines(facts)
    facts.rejects = [reject for reject in snapshot.rejects() if peek_id(reject.raw) == house_id]
    if facts.written is None:
        _find_records(config, facts)
    parts = tuple(_part(facts, part) for part in PARTS)
    return Story(
        house_id,
        _state(facts, parts),
        parts,
        facts.written and facts.written.completed_at,
        described(facts.mask) if facts.mask else "",
        tuple(_find_stornos(config, facts)),
        tuple(facts.rejects),
        facts.mask,
        facts.written.mask if facts.written else 0,
    )


def _find_lines(facts: _Facts) -> None:
    start = line_start(facts.id)
    for file in (HOUSES, CANCELLED):
        for block in facts.snapshot.blocks(file):
            for data in split_lines(block.data) if start in block.data and not block.is_torn else ():
                if data.startswith(start):
                    line = parse_house_line(data)
                    facts.mask |= line.mask
                    facts.written = facts.written if line.late else line


def _find_records(config: Config, facts: _Facts) -> None:
    """Look at all records that may be without a line, and at the last one that was read, in each partition."""
    snapshot, needle = facts.snapshot, str(facts.id).encode()
    last = [position - 1 for position in snapshot.reached]
    marks = enumerate(snapshot.marks[:STORNO])
    ranges = {p: (max(first, min(snapshot.low[p], last[p])), end) for p, (first, end) in marks}
    for run in read_ranges(config.kafka, snapshot.topics[0], ranges):
        p = run.partition
        for offset, value in zip(run.offsets, run.values(), strict=True):
            if offset == last[p] and (reached_id := peek_id(value or b"")) is not None:
                facts.reached_id[p] = reached_id
            message = _message(p, value) if value and needle in value and p not in facts.found else None
            if message is not None and message.id == facts.id:
                facts.found[p] = offset, message


def _message(partition: int, value: bytes) -> PartMessage | None:
    with suppress(MessageError):
        message = decode_part(value)
        return message if message.number == partition + 1 else None
    return None


def _part(facts: _Facts, part: Part) -> PartStory:
    p, position = part.partition, facts.snapshot.reached[part.partition]
    state, offset, message = _found(facts, part, position)
    made = (message.ts, message.name, message.task) if message else ()
    return PartStory(part.name, p, state, position, facts.snapshot.marks[p][1], facts.reached_id.get(p), offset, *made)


def _found(facts: _Facts, part: Part, position: int) -> tuple[PartState, int | None, PartMessage | None]:
    """What has become of a part, the offset of its record, and what that holds, where known."""
    p, line = part.partition, facts.written
    if line is not None:
        shown = line.parts.get(f"partition_{part.number}")
        message = shown and PartMessage(part.number, line.id, shown["ts"], shown["name"], shown["task"])
        return "written", line.offsets.get(p), message
    if p in facts.evicted:
        reject = facts.evicted[p]
        return "evicted", reject.offset, _message(p, reject.raw)
    if p in facts.found and not facts.evicted:
        offset, message = facts.found[p]
        return "pending" if offset < position else "unread", offset, message
    return "missing", None, None


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
    snapshot = facts.snapshot
    for run in read_ranges(config.kafka, snapshot.topics[1], {0: snapshot.marks[STORNO]}):
        for offset, value in zip(run.offsets, run.values(), strict=True):
            with suppress(MessageError):
                storno = decode_storno(value)
                if storno.id == facts.id:
                    yield StornoStory(offset, storno.mask, offset < snapshot.reached[STORNO])
