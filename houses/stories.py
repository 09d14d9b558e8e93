"""What is told of one house, and how it is printed."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from houses.audit_storno import described
from houses.message import Reject
from houses.topics import printable

State = Literal["finished", "cancelled", "pending", "evicted", "unknown"]
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

    def lines(self) -> list[str]:
        """The story, line by line, safe to print on a terminal."""
        completed = f", completed {safe(self.completed_at)}" if self.completed_at else ""
        storno = f", {self.storno}" if self.storno else ""
        rejects = (
            f"reject      {reject.reason}; partition {reject.partition} offset {reject.offset}: {safe(reject.detail)}"
            for reject in self.rejects
        )
        return [
            f"house {self.id}: {self.state}{completed}{storno}",
            *map(str, self.parts),
            *map(str, self.stornos),
            *rejects,
        ]

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


def safe(text: str) -> str:
    """Text of anybody, safe to print on a terminal."""
    return printable(text.encode("utf-8", "backslashreplace"))
