"""What is told of one house, and how it is printed."""

from dataclasses import asdict, dataclass
from functools import reduce
from operator import or_
from typing import Any, Literal

from houses.audit_storno import described
from houses.kafka.reader import printable
from houses.records.message import FULL, PARTS, Reject

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
    names = " and ".join(part.name for part in PARTS if mask & part.mask)
    return "cancelled" if mask == FULL else f"cancelled in part ({names})"


def safe(text: str) -> str:
    """Text of anybody, safe to print on a terminal."""
    return printable(text.encode("utf-8", "backslashreplace"))
