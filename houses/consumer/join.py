"""The join: parts of houses meet by id, and stornos are remembered.

Pure: no clock, no files, no Kafka; batches in, batches out.
"""

from collections import deque
from collections.abc import KeysView

from houses.records.decode import House, PartBatch, PartEntry, entry_bytes
from houses.records.message import PARTS, Reason, Reject, Storno
from houses.records.registers import ClosedIds, StornoRegister

_STEP_S = 0.1


class Frontier:
    """How far one partition has delivered: its highest id, now and some time ago."""

    def __init__(self) -> None:
        """Nothing delivered yet."""
        self.highest = -1
        self._steps: deque[tuple[float, int]] = deque()
        self._past = -1

    def advance(self, house_id: int, now_s: float) -> None:
        """Note the highest id of a batch that was delivered at `now_s` (monotonic seconds)."""
        if house_id <= self.highest:
            return
        self.highest = house_id
        # What comes within a tenth of a second shares the end of it: eviction may come that much late, never early.
        if not self._steps or now_s > self._steps[-1][0]:
            self._steps.append((now_s + _STEP_S, house_id))
        else:
            self._steps[-1] = (self._steps[-1][0], house_id)

    def highest_at(self, then_s: float) -> int:
        """The highest id that had been delivered by `then_s`; calls must not go back in time."""
        while self._steps and self._steps[0][0] <= then_s:
            self._past = self._steps.popleft()[1]
        return self._past


class JoinTable:
    """Pending parts by partition and id. The first part per (partition, id) counts; later ones are duplicates."""

    def __init__(self, stornos: StornoRegister, closed: ClosedIds) -> None:
        """Start with nothing pending, on the stornos and closed ids of an earlier run."""
        self.stornos = stornos
        self.closed = closed
        self._parts: tuple[dict[int, PartEntry], ...] = ({}, {}, {})
        self._frontiers = (Frontier(), Frontier(), Frontier())

    def add(self, batch: PartBatch, now_s: float) -> tuple[list[House], list[Reject]]:
        """Take the parts of one partition.

        Returns:
            The houses that they complete, by ascending id, and the duplicates and late parts of evicted ids.
        """
        if not batch.ids:
            return [], []
        new = dict(zip(batch.ids, batch.entries, strict=True))
        mine = self._parts[batch.partition]
        rejects: list[Reject] = []
        self._frontiers[batch.partition].advance(max(new), now_s)
        if len(new) < len(batch.ids) or not mine.keys().isdisjoint(new.keys()) or self.closed.overlaps(new.keys()):
            new, rejects = self._first_only(batch)
        mine.update(new)
        return self._complete(new.keys(), batch.partition), rejects

    def _complete(self, ids: KeysView[int], partition: int) -> list[House]:
        others = [part.keys() for p, part in enumerate(self._parts) if p != partition]
        done = ids & others[0] & others[1]
        take_1, take_2, take_3 = (part.pop for part in self._parts)
        houses = [(i, take_1(i), take_2(i), take_3(i)) for i in sorted(done)]
        self.closed.add_written(done)
        return houses

    def _first_only(self, batch: PartBatch) -> tuple[dict[int, PartEntry], list[Reject]]:
        new: dict[int, PartEntry] = {}
        rejects = []
        mine, closed = self._parts[batch.partition], self.closed
        for house_id, entry in zip(batch.ids, batch.entries, strict=True):
            if house_id in closed.evicted:
                detail = f"house {house_id} was given up before"
                rejects.append(_reject(batch.partition, house_id, entry, "evicted", detail))
            elif house_id in closed.written or house_id in mine or house_id in new:
                detail = f"house {house_id} has its {PARTS[batch.partition].name}"
                rejects.append(_reject(batch.partition, house_id, entry, "duplicate", detail))
            else:
                new[house_id] = entry
        return new, rejects

    def cancel(self, storno: Storno, offset: int) -> bool:
        """Remember a storno; True when its house is already written, so that a late line is due."""
        return self.stornos.merge(storno, offset) and storno.id in self.closed.written

    def evict(self, then_s: float) -> list[Reject]:
        """Give up the pending ids that were overdue at `then_s` (monotonic seconds, never before an earlier call's).

        An id is overdue when the partition of every part that it lacks has delivered a higher id.
        """
        passed = [frontier.highest_at(then_s) for frontier in self._frontiers]
        limit = max(passed)
        rejects = []
        for house_id in sorted(i for i in self.pending_ids() if i < limit):
            lacking = [p for p, part in enumerate(self._parts) if house_id not in part]
            if all(house_id < passed[p] for p in lacking):
                rejects += self._give_up(house_id, "no " + " and no ".join(PARTS[p].name for p in lacking))
                self.closed.add_evicted([house_id])
        return rejects

    def _give_up(self, house_id: int, detail: str) -> list[Reject]:
        return [
            _reject(p, house_id, entry, "evicted", detail)
            for p, part in enumerate(self._parts)
            if (entry := part.pop(house_id, None)) is not None
        ]

    def note_all_delivered(self, now_s: float) -> None:
        """After a restart has read again what was pending: every partition had delivered each written house before."""
        if self.closed.written:
            for frontier in self._frontiers:
                frontier.advance(self.closed.written.max(), now_s)

    def pending_ids(self) -> set[int]:
        """The ids that have one or two of their parts."""
        first, second, third = self._parts
        return first.keys() | second.keys() | third.keys()

    def pending_at_most(self) -> int:
        """An upper bound of the number of pending ids, without counting them."""
        return sum(map(len, self._parts))

    def lowest_pending(self, partition: int) -> int | None:
        """Offset of the oldest pending part of a partition, or None."""
        # A dict keeps the order of insertion, and a partition is read in offset order.
        return next((entry[0] for entry in self._parts[partition].values()), None)

    def partitions_to_pause(self) -> set[int]:
        """Partitions to stop reading when too much is pending.

        Only the partition that is furthest behind can complete what the others have brought. When less than half of
        the pending ids wait for it, the rest are ids whose missing part was passed over: all stop until eviction has
        made room.
        """
        behind = min(frontier.highest for frontier in self._frontiers)
        pending = self.pending_ids()
        if 2 * sum(i > behind for i in pending) < len(pending):
            return set(range(len(PARTS)))
        return {p for p, frontier in enumerate(self._frontiers) if frontier.highest > behind}


def _reject(partition: int, house_id: int, entry: PartEntry, reason: Reason, detail: str) -> Reject:
    return Reject(partition, entry[0], reason, detail, entry_bytes(partition, house_id, entry))
