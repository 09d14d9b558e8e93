"""The consumer dies at any moment, in any way, again and again: in the end the files say what the plain reference says."""

import json
from contextlib import nullcontext, suppress
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.records import part_values, storno_values
from support.reference import read_part
from support.simulation import Lab, Poll, Records, Topics, check_end, config_of, damage

from houses.errors import BrokerError, FolderError
from houses.records.message import PARTS

IDS = st.integers(0, 5)
RECORDS = st.tuples(
    *(st.lists(part_values(part.partition, IDS), max_size=12) for part in PARTS),
    st.lists(storno_values(IDS), max_size=5),
)
COUNTS = st.tuples(*[st.integers(0, 4)] * 4)
PLAN = st.lists(st.builds(Poll, COUNTS, st.sampled_from([0.0, 0.3, 1.1])), max_size=8)
DAMAGE = st.sampled_from(["nothing", "power", "power", "no side files", "bad side file", "no checkpoint", "cut"])
# The operation on the disk at which the process dies, and the sync of a file that fails.
FUSES = st.tuples(st.none() | st.integers(1, 90), st.none() | st.integers(1, 25))
RUNS = st.lists(st.tuples(PLAN, FUSES, DAMAGE), min_size=1, max_size=4)
# Nothing is evicted here: which parts meet would depend on the time that crashes take.
LIMITS = st.fixed_dictionaries(
    {
        "flush_every": st.sampled_from([1, 3]),
        "storno_flush_every": st.sampled_from([1, 2]),
        "offset_save_interval_sec": st.sampled_from([0.0, 0.2, 1.0]),
        "max_pending_age_sec": st.just(1e6),
        "offset_store": st.sampled_from(["file", "kafka"]),
    }
)
Runs = list[tuple[list[Poll], tuple[int | None, int | None], str]]


def run_and_die(lab: Lab, runs: Runs, random: Random) -> list[bytes]:
    """Consume by the plans, each run with its end and its damage; what was surely on the disk and whole, per file."""
    kept = [b"", b"", b""]
    for plan, (fuse, sync_fuse), what in runs:
        lab.group.failing = random.random() < 0.3
        with nullcontext() if sync_fuse is None else suppress(FolderError), suppress(BrokerError):
            lab.consume(plan, fuse=fuse, sync_fuse=sync_fuse)
        if what == "cut":  # takes back what was there
            kept = [b"", b"", b""]
        else:
            kept = [max(old, whole_lines(lab.disk.durable(p)), key=len) for old, p in zip(kept, lab.paths, strict=True)]
        damage(lab, what, random)
    lab.group.failing = False
    return kept


def whole_lines(data: bytes) -> bytes:
    """The lines up to the first that is torn or bad."""
    end = 0
    for line in data.splitlines(keepends=True):
        try:
            json.loads(line)
        except ValueError:
            break
        end += len(line) if line.endswith(b"\n") else 0
    return data[:end]


def crash_and_go_on(records: tuple[Records, ...], runs: Runs, limits: dict[str, Any], seed: int) -> None:
    """Consume with crashes, then to the end; compare with the reference; nothing changes by starting once more."""
    random = Random(seed)
    lab = Lab(Topics(list(records)), config_of(**limits), random)
    kept = run_and_die(lab, runs, random)
    assert lab.consume(rest=True)
    check_end(lab)
    files = [lab.disk.content(path) or b"" for path in lab.paths]
    assert all(file.startswith(old) for file, old in zip(files, kept, strict=True)), "a durable line was taken back"
    assert lab.consume(rest=True)
    assert [lab.disk.content(path) for path in lab.paths] == files


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS, RUNS, LIMITS, st.integers(0, 10**6))
def test_crashes_at_any_moment_change_nothing(
    records: tuple[Records, ...], runs: Runs, limits: dict[str, Any], seed: int
) -> None:
    """Kills, power cuts, failed syncs, lost side files, a deleted checkpoint and cut files: each offset has its one line."""
    crash_and_go_on(records, runs, limits, seed)


@pytest.mark.slow
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS, RUNS, LIMITS, st.integers(0, 10**6))
def test_crashes_at_any_moment_change_nothing_at_length(
    records: tuple[Records, ...], runs: Runs, limits: dict[str, Any], seed: int
) -> None:
    """The same with many more examples."""
    crash_and_go_on(records, runs, limits, seed)


# --- with evictions ---

EVICTING = LIMITS.map(lambda limits: limits | {"max_pending_age_sec": 2.0, "offset_save_interval_sec": 0.2})
LONG_PLAN = st.lists(st.builds(Poll, COUNTS, st.sampled_from([0.0, 1.1, 3.0])), max_size=8)
LONG_RUNS = st.lists(st.tuples(LONG_PLAN, FUSES, DAMAGE), min_size=1, max_size=4)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS, LONG_RUNS, EVICTING, st.integers(0, 10**6))
def test_crashes_and_evictions_leave_one_outcome_each(
    records: tuple[Records, ...], runs: Runs, limits: dict[str, Any], seed: int
) -> None:
    """Which ids are given up depends on time, but each offset has one line or is pending, and each id one end."""
    evict_and_go_on(records, runs, limits, seed)


@pytest.mark.slow
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS, LONG_RUNS, EVICTING, st.integers(0, 10**6))
def test_crashes_and_evictions_leave_one_outcome_each_at_length(
    records: tuple[Records, ...], runs: Runs, limits: dict[str, Any], seed: int
) -> None:
    """The same with many more examples."""
    evict_and_go_on(records, runs, limits, seed)


def evict_and_go_on(records: tuple[Records, ...], runs: Runs, limits: dict[str, Any], seed: int) -> None:
    """Consume with crashes and evictions, then to the end and for some time more."""
    random = Random(seed)
    lab = Lab(Topics(list(records)), config_of(**limits), random)
    run_and_die(lab, runs, random)
    assert lab.consume(rest=True)
    assert lab.consume([Poll((1000,) * 4), *[Poll((0,) * 4, 1.1)] * 10])
    check_evicting(lab)


def check_evicting(lab: Lab) -> None:
    """Every part by the lines: first ones become a house, are evicted or wait; others are duplicates or evicted."""
    outcomes = lab.outcomes()
    first: dict[tuple[int, int], int] = {}
    waiting, ends = set(), dict[int, set[str]]()
    for partition, values in enumerate(lab.topics.records[:3]):
        for offset, value in enumerate(values):
            part, outcome = read_part(value), outcomes.get((partition, offset), "pending")
            if part is None or part[0] != partition + 1:
                assert outcome == ("malformed" if part is None else "wrong_partition")
                continue
            is_first = first.setdefault((partition, part[1]), offset) == offset
            assert outcome in ({f"house {part[1]}", "evicted", "pending"} if is_first else {"duplicate", "evicted"})
            if is_first:
                ends.setdefault(part[1], set()).add(outcome)
            if outcome == "pending":
                waiting.add(part[1])
    assert all(len(kinds) == 1 for kinds in ends.values()), f"an id has two ends: {ends}"
    assert lab.recovered and lab.recovered.table.pending_ids() == waiting
    evicted = {house_id for house_id, kinds in ends.items() if kinds == {"evicted"}}
    assert all(was_overtaken(house_id, first) for house_id in evicted)


def was_overtaken(house_id: int, first: dict[tuple[int, int], int]) -> bool:
    """Whether in some partition a higher id came before the part of this one, or this one never came."""
    never = 10**9
    for partition in range(3):
        higher = [offset for (p, i), offset in first.items() if p == partition and i > house_id]
        if min(higher, default=never) < first.get((partition, house_id), never):
            return True
    return False
