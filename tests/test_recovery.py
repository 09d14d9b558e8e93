"""The consumer dies at any moment, in any way, again and again: in the end the files say what the plain reference says."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import part_values, storno_values
from simulation import Lab, Poll, Records, Topics, check_end, config_of, damage

from houses.message import PARTS

IDS = st.integers(0, 5)
RECORDS = st.tuples(
    *(st.lists(part_values(part.partition, IDS), max_size=12) for part in PARTS),
    st.lists(storno_values(IDS), max_size=5),
)
COUNTS = st.tuples(*[st.integers(0, 4)] * 4)
PLAN = st.lists(st.builds(Poll, COUNTS, st.sampled_from([0.0, 0.3, 1.1])), max_size=8)
DAMAGE = st.sampled_from(["nothing", "power", "power", "no side files", "bad side file", "no checkpoint", "cut"])
FUSE = st.none() | st.integers(1, 90)
RUNS = st.lists(st.tuples(PLAN, FUSE, DAMAGE), min_size=1, max_size=4)
# Nothing is evicted here: which parts meet would depend on the time that crashes take.
LIMITS = st.fixed_dictionaries(
    {
        "flush_every": st.sampled_from([1, 3]),
        "storno_flush_every": st.sampled_from([1, 2]),
        "offset_save_interval_sec": st.sampled_from([0.0, 0.2, 1.0]),
        "max_pending_age_sec": st.just(1e6),
    }
)
Runs = list[tuple[list[Poll], int | None, str]]


def crash_and_go_on(records: tuple[Records, ...], runs: Runs, limits: dict[str, float], seed: int) -> None:
    """Consume with crashes, then to the end; compare with the reference; nothing changes by starting once more."""
    random = Random(seed)
    lab = Lab(Topics(list(records)), config_of(**limits))
    for plan, fuse, what in runs:
        stopped = lab.consume(plan, fuse=fuse)
        before = [lab.disk.durable(path) for path in lab.paths]
        damage(lab, "nothing" if what == "no checkpoint" and not stopped and random.random() < 0.5 else what, random)
        if what not in ("cut",):
            assert [lab.disk.durable(path)[: len(old)] for path, old in zip(lab.paths, before, strict=True)] == before
    assert lab.consume(rest=True)
    check_end(lab)
    files = [lab.disk.content(path) for path in lab.paths]
    assert lab.consume(rest=True)
    assert [lab.disk.content(path) for path in lab.paths] == files


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS, RUNS, LIMITS, st.integers(0, 10**6))
def test_crashes_at_any_moment_change_nothing(
    records: tuple[Records, ...], runs: Runs, limits: dict[str, float], seed: int
) -> None:
    """Kills, power cuts, lost side files, a deleted checkpoint and cut files, in any order: each offset has its one line."""
    crash_and_go_on(records, runs, limits, seed)


@pytest.mark.slow
@settings(deadline=None, max_examples=8000, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS, RUNS, LIMITS, st.integers(0, 10**6))
def test_crashes_at_any_moment_change_nothing_at_length(
    records: tuple[Records, ...], runs: Runs, limits: dict[str, float], seed: int
) -> None:
    """The same with many more examples."""
    crash_and_go_on(records, runs, limits, seed)
