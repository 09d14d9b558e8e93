"""The targets of the measurements: which figure misses which."""

from typing import Any

import pytest

from campaigns.bench import TARGETS, judge

GOOD: dict[str, Any] = {
    "consumer: ratio to the bare loop": 0.2,
    "producers: ratio to the bare loop": 0.6,
    "producers: error over 10 s at 3 x 100 msg/s, messages": {"sent - rate x t": 5.0, "allowed": 5.0},
    "latency: durable, over 30 s, ms": {"p50": 5.0, "p99": 25.0, "p99.9": 80.0},
    "memory: MB": {"idle": 50.0, "above idle with 50,000 pending": 60.0},
    "panel: frames a second, no cell running": 9.0,
    "panel: CPU of the kernel for it, % of a core": 10.0,
    "notebooks: in full, s": {"slowest": 60.0, "02_rates": 60.0},
    "notebooks: as tests run them, s": {"slowest": 20.0, "02_rates": 20.0},
    "restart: first new house, s": {"beside 0 houses": 2.0, "beside 1,000,000 houses": 2.0},
    "restart: load() of these files, s": 10.0,
    "restart: load() of 1,000,000 lines, s": {"storno_houses.jsonl": 10.0, "rejects.jsonl": 10.0},
}
BAD: dict[str, Any] = {
    "consumer: ratio to the bare loop": 0.19,
    "producers: ratio to the bare loop": 0.5,
    "producers: error over 10 s at 3 x 100 msg/s, messages": {"sent - rate x t": 5.1, "allowed": 5.0},
    "latency: durable, over 30 s, ms": {"p50": None, "p99": None, "p99.9": None},
    "memory: MB": {"idle": 50.0, "above idle with 50,000 pending": 61.0},
    "panel: frames a second, no cell running": 8.9,
    "panel: CPU of the kernel for it, % of a core": 10.1,
    "notebooks: in full, s": {"slowest": 60.1, "02_rates": 60.1},
    "notebooks: as tests run them, s": {"slowest": 20.1, "02_rates": 20.1},
    "restart: first new house, s": {"beside 0 houses": 1.0, "beside 1,000,000 houses": 2.1},
    "restart: load() of these files, s": 10.1,
    "restart: load() of 1,000,000 lines, s": {"storno_houses.jsonl": 10.1, "rejects.jsonl": 9.0},
}


def test_figures_at_their_targets_miss_none() -> None:
    """Each target is held against a figure; others, such as a rate, have none."""
    judged = judge(GOOD | {"consumer: bare loop, msg/s": {"median": 1.0}})
    assert [each.missed for each in judged] == [False] * len(TARGETS)


@pytest.mark.parametrize("figure", BAD)
def test_a_figure_beyond_its_target_is_missed(figure: str) -> None:
    """By one of its numbers; what could not be measured is missed too."""
    judged = judge(GOOD | {figure: BAD[figure]})
    assert [each.figure for each in judged if each.missed] == [figure]
    assert next(each.text for each in judged if each.missed).endswith(": missed")
