"""The join table against the plain reference: any records, any interleaving, any batches, evictions and stornos at any time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import TS, part_values, storno_values
from support.reference import Reference
from support.simulated_disk import SimulatedDisk

from houses.consumer.join import Frontier, JoinTable
from houses.consumer.journal import Journal
from houses.errors import MessageError
from houses.records.decode import PartBatch, decode_parts
from houses.records.message import FULL, PARTS, STORNO, Reject, Storno, decode_storno, encode_part
from houses.records.registers import ClosedIds, StornoRegister

IDS = st.integers(0, 6)
TOPICS = ("teszt-partitioned", "house-storno")
PATHS = (Path("/out/houses.jsonl"), Path("/out/storno_houses.jsonl"), Path("/out/rejects.jsonl"))
Records = list[bytes | None]

PARTS_RECORDS = st.tuples(*(st.lists(part_values(part.partition, IDS), max_size=14) for part in PARTS))
STORNO_RECORDS = st.lists(storno_values(IDS), max_size=6)
# (what is read next or STORNO or None for an eviction, how many records, seconds that pass before)
TURNS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 0, 1, 2, STORNO, None]), st.integers(1, 6), st.integers(0, 3)), max_size=30
)


class Pair:
    """The real join and the reference side by side, on the same records."""

    def __init__(self, records: list[Records]) -> None:
        """Nothing read yet; `records` are those of the three partitions and of the storno topic."""
        self.records = records
        self.next = [0, 0, 0, 0]
        self.now_s = 0
        self.disk = SimulatedDisk()
        self.journal = Journal(self.disk, PATHS, TOPICS)
        self.table = JoinTable(StornoRegister(), ClosedIds())
        self.plain = Reference(TOPICS)

    def read(self, index: int, count: int) -> None:
        """Take the next records of a partition as one batch."""
        start = self.next[index]
        values = self.records[index][start : start + count]
        self.next[index] = start + len(values)
        offsets = list(range(start, start + len(values)))
        (self._stornos if index == STORNO else self._parts)(index, offsets, values)

    def _parts(self, partition: int, offsets: list[int], values: Records) -> None:
        batch = decode_parts(partition, offsets, values)
        houses, rejects = self.table.add(batch, self.now_s)
        self.journal.append_houses(houses, self.table.stornos, "now")
        self.journal.append_rejects(batch.rejects + rejects)
        for offset, value in zip(offsets, values, strict=True):
            self.plain.part(partition, offset, value, self.now_s)

    def _stornos(self, index: int, offsets: list[int], values: Records) -> None:
        for offset, value in zip(offsets, values, strict=True):
            self.plain.cancel(offset, value)
            try:
                storno = decode_storno(value)
            except MessageError as error:
                self.journal.append_rejects([Reject(index, offset, "malformed", str(error), value or b"")])
                continue
            if self.table.cancel(storno, offset):
                self.journal.append_late(storno.id, self.table.stornos)

    def evict(self, age_s: float) -> None:
        """Give up what was overdue `age_s` seconds ago."""
        # Half a second off the whole seconds of the records: the table's clock may be a tenth late.
        self.journal.append_rejects(self.table.evict(self.now_s - age_s + 0.5))
        self.plain.evict(self.now_s - age_s + 0.5)

    def check(self) -> None:
        """Both have written the same and hold the same."""
        self.journal.commit()
        houses, storno, rejects = (self._lines(path) for path in PATHS)
        assert same(houses, self.plain.houses, lambda line: line["id"])
        assert same(rejects, self.plain.rejects, lambda line: (line["topic"], line["partition"], line["offset"]))
        # Stornos of one id stand in the order in which they came.
        assert same(storno, self.plain.storno, lambda line: line["id"])
        assert self.table.pending_ids() == self.plain.pending.keys()
        assert self.table.pending_at_most() >= len(self.plain.pending)
        for partition in range(3):
            offsets = [parts[partition + 1][0] for parts in self.plain.pending.values() if partition + 1 in parts]
            assert self.table.lowest_pending(partition) == min(offsets, default=None)
        assert set(self.table.closed.written) == self.plain.written
        assert set(self.table.closed.evicted) == self.plain.evicted

    def _lines(self, path: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.disk.content(path) or b"").splitlines()]
        return [{key: value for key, value in line.items() if key not in ("completed_at", "detail")} for line in lines]


def same(found: list[Any], wanted: list[Any], key: Callable[[Any], Any]) -> bool:
    """Whether two lists of lines are equal when sorted by key (stable: those of one key keep their order)."""
    assert sorted(found, key=key) == sorted(wanted, key=key)
    return True


def run(parts: tuple[Records, ...], stornos: Records, turns: list[tuple[int | None, int, int]]) -> None:
    """Read as the turns say, then the rest, and compare all along."""
    pair = Pair([*parts, stornos])
    for what, count, seconds in turns:
        pair.now_s += seconds
        if what is None:
            pair.evict(2)
        else:
            pair.read(what, count)
    pair.check()
    for index in (STORNO, 0, 1, 2):
        pair.read(index, 1000)
    pair.now_s += 10
    pair.evict(2)
    pair.check()


@settings(deadline=None, max_examples=150)
@given(PARTS_RECORDS, STORNO_RECORDS, TURNS)
def test_any_interleaving_gives_what_the_reference_gives(
    parts: tuple[Records, ...], stornos: Records, turns: list[tuple[int | None, int, int]]
) -> None:
    """Lines, pending and closed ids are those of the reference, for any records in any batches in any order."""
    run(parts, stornos, turns)


@pytest.mark.slow
@settings(deadline=None, max_examples=3000)
@given(PARTS_RECORDS, STORNO_RECORDS, TURNS)
def test_any_interleaving_gives_what_the_reference_gives_at_length(
    parts: tuple[Records, ...], stornos: Records, turns: list[tuple[int | None, int, int]]
) -> None:
    """The same with many more examples."""
    run(parts, stornos, turns)


@given(st.lists(st.tuples(IDS, st.integers(1, 7)), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_stornos_does_not_matter(stornos: list[tuple[int, int]], random: Any) -> None:
    """The register after stornos is the union of their parts by id, in whatever order they came; nothing is taken back."""
    register, shuffled = StornoRegister(), StornoRegister()
    for offset, (house_id, mask) in enumerate(stornos):
        before = register.masks.get(house_id, 0)
        assert register.merge(Storno(house_id, mask), offset) == (mask & ~before != 0)
        assert register.masks[house_id] == before | mask
    random.shuffle(stornos)
    for house_id, mask in stornos:
        shuffled.merge(Storno(house_id, mask), None)
    assert shuffled.masks == register.masks


def test_three_partial_stornos_are_a_full_one() -> None:
    """All three parts excluded equals full; the offset is that of the storno that completed it."""
    register = StornoRegister()
    changed = [register.merge(Storno(7, part.mask), 10 + part.number) for part in PARTS]
    assert changed == [True, True, True]
    assert register.masks == {7: FULL} and register.offsets == {7: 13}
    assert not register.merge(Storno(7, FULL), 20) and register.offsets == {7: 13}


# --- eviction and pausing ---


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, -1]), st.sampled_from([0.01, 0.04, 0.3])), min_size=3), st.integers(0, 50)
)
def test_a_frontier_is_at_most_a_tenth_of_a_second_late(steps: list[tuple[int, float]], tenths: int) -> None:
    """highest_at never knows an id before it was delivered, and knows it a tenth of a second later at most."""
    frontier, now_s, house_id, delivered = Frontier(), 0.0, 1, []
    for more, pause_s in steps:
        now_s, house_id = now_s + pause_s, max(0, house_id + more)
        frontier.advance(house_id, now_s)
        delivered.append((now_s, house_id))
    then_s = tenths / 10 + 0.005
    surely = max((i for time_s, i in delivered if time_s <= then_s - 0.1001), default=-1)
    possibly = max((i for time_s, i in delivered if time_s <= then_s), default=-1)
    assert surely <= frontier.highest_at(then_s) <= possibly
    assert frontier.highest == max((i for _, i in delivered), default=-1)


def batch(partition: int, *ids: int) -> PartBatch:
    """Parts of the given ids, as one batch whose offsets are the ids."""
    return decode_parts(partition, ids, [encode_part(PARTS[partition], i, TS, "bob") for i in ids])


def test_an_overdue_id_is_evicted_while_records_keep_coming() -> None:
    """A batch every 5 ms does not put off the eviction of a house whose wall was passed over 10 s ago."""
    table = JoinTable(StornoRegister(), ClosedIds())
    table.add(batch(0, 5), 0.0)
    table.add(batch(2, 5), 0.0)
    for k in range(6, 2400):
        for partition in range(3):
            table.add(batch(partition, k), k * 0.005)
    rejects = table.evict(2400 * 0.005 - 10)
    assert [(r.partition, r.offset, r.reason, r.detail) for r in rejects] == [
        (0, 5, "evicted", "no wall"),
        (2, 5, "evicted", "no wall"),
    ]
    houses, late = table.add(batch(1, 5), 12.0)
    assert not houses and [(r.partition, r.offset, r.reason) for r in late] == [(1, 5, "evicted")]


def test_an_id_is_never_evicted_while_a_missing_part_is_only_late() -> None:
    """However old: no eviction before the partitions of all missing parts have delivered a higher id."""
    table = JoinTable(StornoRegister(), ClosedIds())
    table.add(batch(0, *range(1, 100)), 0.0)
    table.add(batch(1, *range(50, 100)), 0.0)
    assert table.evict(1e6) == []
    table.add(batch(2, 10), 1e6)
    assert table.evict(2e6) and table.pending_ids() == set(range(11, 100))


def test_only_the_partition_that_is_behind_is_read_when_it_can_complete_what_is_pending() -> None:
    """Most pending ids wait for the roof: foundation and wall are paused."""
    table = JoinTable(StornoRegister(), ClosedIds())
    table.add(batch(0, *range(10)), 0.0)
    table.add(batch(1, *range(8)), 0.0)
    assert table.partitions_to_pause() == {0, 1}
    table.add(batch(2, *range(9)), 0.0)
    assert table.partitions_to_pause() == {0, 2}


def test_all_partitions_are_paused_when_most_pending_ids_were_passed_over() -> None:
    """Reading on would only add to the ids that nothing but eviction can remove."""
    table = JoinTable(StornoRegister(), ClosedIds())
    table.add(batch(0, *range(10)), 0.0)
    table.add(batch(1, 10), 0.0)
    table.add(batch(2, 11), 0.0)
    assert table.partitions_to_pause() == {0, 1, 2}
    table.evict(1.0)
    assert table.pending_ids() == {10, 11} and table.partitions_to_pause() == {1, 2}
