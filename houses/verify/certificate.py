"""What `verify` says: figures, what is wrong with the first culprits, and what could not be checked."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain, zip_longest
from typing import Any, Literal

from houses.system.text import counted

Kind = Literal["missing", "double", "wrong", "foreign", "storno", "checkpoint"]

MEANING: dict[Kind, str] = {
    "missing": "records below the consumer's position without an outcome",
    "double": "offsets or ids with more than one outcome",
    "wrong": "lines that say something else than Kafka does",
    "foreign": "lines that belong to no record of these topics",
    "storno": "storno states that differ between topic, register and lines",
    "checkpoint": "positions that a restart would lose or repeat records from",
}
_SHOWN = 10
_NOT_SAVED = (
    "no checkpoint lies behind any message; a consumer that runs takes one every consumer.offset_save_interval_sec "
    "seconds, and when it stops"
)


@dataclass(frozen=True, slots=True)
class Culprit:
    """One thing that is wrong."""

    kind: Kind
    where: str
    """File and byte, or topic, partition and offset."""
    what: str

    def __str__(self) -> str:
        """In one line."""
        return f"{self.kind}: {self.where}: {self.what}"


class Findings:
    """Collects what is wrong: all of it counted, the first ten of each kind kept."""

    def __init__(self) -> None:
        """Nothing found."""
        self.counts: Counter[str] = Counter()
        self._kept: dict[Kind, list[Culprit]] = {kind: [] for kind in MEANING}

    def add(self, kind: Kind, where: str, what: str) -> None:
        """Note one thing."""
        self.counts[kind] += 1
        if self.counts[kind] <= _SHOWN:
            self._kept[kind].append(Culprit(kind, where, what))

    def first(self) -> tuple[Culprit, ...]:
        """Ten culprits, the kinds in turn, so that many of one kind do not hide another."""
        turns = chain.from_iterable(zip_longest(*self._kept.values()))
        return tuple(culprit for culprit in turns if culprit)[:_SHOWN]


@dataclass(frozen=True, slots=True)
class Certificate:
    """The result of `verify.verify`. Offsets without a name are those of the parts topic, all three partitions together."""

    topics: tuple[str, str]
    position: tuple[int, ...]
    """Next offset per partition according to the checkpoint: below it every record must have its outcome."""
    storno_position: int
    """The same of the storno topic."""
    end: tuple[int, ...]
    """Offset behind the last record, per partition, when the check began."""
    storno_end: int
    """The same of the storno topic."""
    offsets: int
    """Records read from Kafka."""
    houses: int
    """Lines of houses.jsonl."""
    cancelled: int
    """Lines of storno_houses.jsonl that hold a house."""
    late: int
    """Lines of storno_houses.jsonl about a house written before."""
    rejects: Mapping[str, int]
    """Lines of rejects.jsonl by reason; those of the storno topic as `malformed storno`."""
    pending_ids: int
    pending_parts: int
    """Records below the position that wait for the rest of their house."""
    unread: int
    """Records at or above the position that have no outcome yet."""
    expired: int
    """Offsets that Kafka no longer has: what the files say of them cannot be checked."""
    expired_with_line: int
    lost: int
    """Offsets that gap lines declare lost."""
    stornos: int
    """Valid storno messages checked."""
    unread_stornos: int
    """Records of the storno topic at or above its position: not in the register yet, as far as that is on the disk."""
    register: int
    """Houses in the storno register."""
    problems: Mapping[str, int]
    """How many of each kind (see MEANING); empty when all is well."""
    culprits: tuple[Culprit, ...]
    notes: tuple[str, ...] = field(default=())
    """What limits the check, such as a consumer that runs."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def proved(self) -> bool:
        """Whether there is anything below the position of which it could be said."""
        return any(self.position) or self.storno_position > 0

    def lines(self) -> list[str]:
        """The certificate, line by line."""
        return [*self._figures(), *(f"note         {note}" for note in self.notes), *self._verdict()]

    def _figures(self) -> list[str]:
        rejects = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.rejects.items())) or "none"
        stornos = f"{self.stornos:,} valid; position {self.storno_position:,} of {self.storno_end:,}"
        lines = [
            f"topics       {self.topics[0]}, {self.topics[1]}",
            f"offsets      {self.offsets:,} checked; position {_dashed(self.position)} of {_dashed(self.end)}",
            f"houses       {self.houses:,} written, {self.cancelled:,} cancelled; "
            + counted(self.late, "line of a late storno", "lines of late stornos"),
            f"rejects      {rejects}",
            f"pending      {counted(self.pending_ids, 'id')} with {counted(self.pending_parts, 'part')}",
            f"stornos      {stornos}; {counted(self.register, 'house')} in the register",
            f"unread       {self._unread()}, no outcome so far",
            f"double       {self.problems.get('double', 0):,}",
            f"missing      {self.problems.get('missing', 0):,}",
        ]
        if self.expired:
            lines.append(
                f"expired      {counted(self.expired, 'offset is', 'offsets are')} gone from Kafka and not checkable; "
                f"{counted(self.expired_with_line, 'has its line', 'have their line')}, "
                f"{counted(self.lost, 'is', 'are')} declared lost"
            )
        return lines

    def _verdict(self) -> list[str]:
        if self.ok and not self.proved:
            why = _NOT_SAVED if any(self.end) or self.storno_end else "the topics hold no message"
            return [f"unproved     nothing is proved yet: {why}"]
        if self.ok:
            unread = self.unread + self.unread_stornos
            later = f"; {self._unread()} {'has' if unread == 1 else 'have'} none so far" if unread else ""
            return [f"verified     every record below the position has exactly one outcome{later}"]
        counts = [
            f"NOT VERIFIED {self.problems[kind]:,} {kind}: {meaning}"
            for kind, meaning in MEANING.items()
            if kind in self.problems
        ]
        return [*counts, *(f"  {culprit}" for culprit in self.culprits)]

    def _unread(self) -> str:
        """What is not read yet, in words."""
        parts = counted(self.unread, "part") if self.unread or not self.unread_stornos else ""
        stornos = counted(self.unread_stornos, "storno") if self.unread_stornos else ""
        return " and ".join(filter(None, (parts, stornos)))

    def __str__(self) -> str:
        """The certificate as text."""
        return "\n".join(self.lines())

    def to_json(self) -> dict[str, Any]:
        """The certificate as plain values."""
        return {"ok": self.ok, "proved": self.proved} | asdict(self)


def _dashed(positions: tuple[int, ...]) -> str:
    return " / ".join(f"{position:,}" for position in positions)
