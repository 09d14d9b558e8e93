"""Storno states compared: the topic, storno_ids.json, and the lines of storno_houses.jsonl."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pyroaring import BitMap64

from houses.records.lines import HouseLine
from houses.records.message import FULL, part_names
from houses.verify.certificate import Findings
from houses.verify.snapshot import Snapshot
from houses.verify.topic_log import StornoLog


@dataclass(slots=True)
class StornoAudit:
    """Follows the stated states line by line, and compares at the end."""

    snapshot: Snapshot
    log: StornoLog
    findings: Findings
    stated: dict[int, int] = field(default_factory=dict)
    """House id -> the mask that its last line states."""

    def line(self, line: HouseLine, where: str, *, is_written: bool) -> None:
        """The next line of storno_houses.jsonl; `is_written`: an earlier one, or houses.jsonl, holds the house."""
        before = self.stated.get(line.id, 0)
        for problem in self._problems(line, before, is_written=is_written):
            self.findings.add("storno", where, f"house {line.id}: {problem}")
        self.stated[line.id] = before | line.mask

    def _problems(self, line: HouseLine, before: int, *, is_written: bool) -> Iterator[str]:
        if line.late and not is_written:
            yield "a late line, but the house is written nowhere before"
        if line.late and line.mask | before != line.mask:
            yield f"{described(line.mask)} takes back {described(before)}"
        elif line.late and line.mask == before:
            yield f"{described(line.mask)} was stated before"
        elif self.log.is_whole:
            yield from self._history_problems(line, before)

    def _history_problems(self, line: HouseLine, before: int) -> Iterator[str]:
        """The line states one of the states that the house went through; a late one follows the state before it."""
        offsets = self.log.changes.get(line.id, {})
        if line.mask not in offsets or line.storno_offset not in (offsets[line.mask], None):
            offset = "" if line.storno_offset is None else f" by offset {line.storno_offset}"
            yield f"{described(line.mask)}{offset} is not what {self._topic} says"
        elif line.late and before != max((mask for mask in offsets if mask < line.mask), default=0):
            yield f"{described(line.mask)} follows {described(before)}: a line between them is missing"

    def finish(self, written: BitMap64) -> None:
        """Compare the register and the stated states with the topic; `written` are the ids with a house line."""
        register, file = self.snapshot.register, self.snapshot.register_path.name
        for problem in self._file_problems():
            self.findings.add("storno", file, problem)
        for house_id in sorted(self.log.changes.keys() | register.masks.keys()):
            if not register.damage:
                for problem in self._register_problems(house_id):
                    self.findings.add("storno", file, f"house {house_id}: {problem}")
            due = self.log.mask(house_id, self.snapshot.storno_position)
            stated = self.stated.get(house_id, 0)
            if house_id in written and due & ~stated:
                what = f"{described(due)} by {self._topic}, but its last line states {described(stated)}: a line is missing"
                self.findings.add("storno", f"house {house_id}", what)

    def _file_problems(self) -> Iterator[str]:
        register, checkpoint = self.snapshot.register, self.snapshot.checkpoint
        if register.damage:
            yield register.damage
        elif checkpoint is not None and register.generation is not None:
            if register.generation < checkpoint.generation:
                yield f"of generation {register.generation}, older than the checkpoint's {checkpoint.generation}"
            elif register.generation == checkpoint.generation and register.storno_next != checkpoint.storno_next:
                yield f"goes to offset {register.storno_next} of {self._topic}, the checkpoint to {checkpoint.storno_next}"

    def _register_problems(self, house_id: int) -> Iterator[str]:
        register, position = self.snapshot.register, self.snapshot.storno_position
        mask, offset = register.masks.get(house_id, 0), register.offsets.get(house_id)
        # A consumer that died while it read the storno topic anew leaves a newer register that goes less far.
        due = self.log.mask(house_id, position if register.storno_next is None else min(register.storno_next, position))
        if due & ~mask:
            yield f"{described(mask)}, but {self._topic} says {described(due)}"
        if not self.log.is_whole:
            return
        most = self.log.mask(house_id)  # after a crash the register may be ahead of its position
        if mask & ~most:
            yield f"{described(mask)}, but {self._topic} says {described(most)}"
        if mask and offset not in (self.log.changes.get(house_id, {}).get(mask), None):
            yield f"{described(mask)} by offset {offset} is not what {self._topic} says"

    @property
    def _topic(self) -> str:
        return self.snapshot.topics[1]


def described(mask: int) -> str:
    """A set of excluded parts in words, as what stornos say."""
    if mask and mask != FULL:
        return "storno of " + " and ".join(part_names(mask))
    return "full storno" if mask else "no storno"


def cancelled(mask: int) -> str:
    """A set of excluded parts in words, as what has become of the house."""
    return "cancelled" if mask == FULL else f"cancelled in part ({' and '.join(part_names(mask))})"
