"""Storno states compared: the topic, storno_ids.json, and the lines of storno_houses.jsonl."""

from collections.abc import Iterator

from pyroaring import BitMap64

from houses.records.lines import HouseLine
from houses.records.message import FULL, part_names
from houses.verify.certificate import Findings
from houses.verify.snapshot import Snapshot
from houses.verify.topic_log import StornoLog


class StornoAudit:
    """Follows the stated states line by line, and compares at the end."""

    def __init__(self, snapshot: Snapshot, log: StornoLog, findings: Findings) -> None:
        """No line is read yet."""
        self._register = snapshot.register
        self._register_name = snapshot.register_path.name
        self._topic = snapshot.topics[1]
        self._position = snapshot.storno_position
        self._checkpoint = snapshot.checkpoint
        self._log = log
        self._findings = findings
        self._stated: dict[int, int] = {}
        """House id -> the mask that its last line states."""

    def line(self, line: HouseLine, where: str, *, is_written: bool) -> None:
        """The next line of storno_houses.jsonl; `is_written`: an earlier one, or houses.jsonl, holds the house."""
        before = self._stated.get(line.id, 0)
        for problem in self._problems(line, before, is_written=is_written):
            self._findings.add("storno", where, f"house {line.id}: {problem}")
        self._stated[line.id] = before | line.mask

    def _problems(self, line: HouseLine, before: int, *, is_written: bool) -> Iterator[str]:
        if line.late and not is_written:
            yield "a late line, but the house is written nowhere before"
        if line.late and line.mask | before != line.mask:
            yield f"{described(line.mask)} takes back {described(before)}"
        elif line.late and line.mask == before:
            yield f"{described(line.mask)} was stated before"
        elif self._log.is_whole:
            yield from self._history_problems(line, before)

    def _history_problems(self, line: HouseLine, before: int) -> Iterator[str]:
        """The line states one of the states that the house went through; a late one follows the state before it."""
        changes = self._log.changes.get(line.id, [])
        index = next(
            (i for i, (o, m) in enumerate(changes) if m == line.mask and line.storno_offset in (o, None)), None
        )
        if index is None:
            offset = "" if line.storno_offset is None else f" by offset {line.storno_offset}"
            yield f"{described(line.mask)}{offset} is not what {self._topic} says"
        elif line.late and before != (changes[index - 1][1] if index else 0):
            yield f"{described(line.mask)} follows {described(before)}: a line between them is missing"

    def finish(self, written: BitMap64) -> None:
        """Compare the register and the stated states with the topic; `written` are the ids with a house line."""
        for problem in self._file_problems():
            self._findings.add("storno", self._register_name, problem)
        for house_id in sorted(self._log.changes.keys() | self._register.masks.keys()):
            if not self._register.damage:
                for problem in self._register_problems(house_id):
                    self._findings.add("storno", self._register_name, f"house {house_id}: {problem}")
            due = self._log.mask_before(house_id, self._position)
            stated = self._stated.get(house_id, 0)
            if house_id in written and due & ~stated:
                what = f"{described(due)} by {self._topic}, but its last line states {described(stated)}: a line is missing"
                self._findings.add("storno", f"house {house_id}", what)

    def _file_problems(self) -> Iterator[str]:
        register, checkpoint = self._register, self._checkpoint
        if register.damage:
            yield register.damage
        elif checkpoint is not None and register.generation is not None:
            if register.generation < checkpoint.generation:
                yield f"of generation {register.generation}, older than the checkpoint's {checkpoint.generation}"
            elif register.generation == checkpoint.generation and register.storno_next != checkpoint.storno_next:
                yield f"goes to offset {register.storno_next} of {self._topic}, the checkpoint to {checkpoint.storno_next}"

    def _register_problems(self, house_id: int) -> Iterator[str]:
        mask = self._register.masks.get(house_id, 0)
        # A consumer that died while it read the storno topic anew leaves a newer register that goes less far.
        goes_to = self._position if self._register.storno_next is None else self._register.storno_next
        due = self._log.mask_before(house_id, min(goes_to, self._position))
        if due & ~mask:
            yield f"{described(mask)}, but {self._topic} says {described(due)}"
        most = self._log.mask(house_id)  # after a crash the register may be ahead of its position
        if self._log.is_whole and mask & ~most:
            yield f"{described(mask)}, but {self._topic} says {described(most)}"
        offset = self._register.offsets.get(house_id)
        if (
            self._log.is_whole
            and mask
            and offset is not None
            and (offset, mask) not in self._log.changes.get(house_id, [])
        ):
            yield f"{described(mask)} by offset {offset} is not what {self._topic} says"


def described(mask: int) -> str:
    """A set of excluded parts in words."""
    if mask in (0, FULL):
        return "full storno" if mask else "no storno"
    return f"storno of {' and '.join(part_names(mask))}"
