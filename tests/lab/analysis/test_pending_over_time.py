"""The figure of pending houses over time, and Little's law."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.figures import assert_whole, legend_of, points_of, title_of

from houses.lab.analysis.timeline import littles_law, plot_pending

NOON = pd.Timestamp("2026-01-31T12:00:00Z")


def measured(*pending: int) -> pd.DataFrame:
    """Measurements, one a second."""
    times = [NOON + pd.Timedelta(seconds=second) for second in range(len(pending))]
    return pd.DataFrame({"time": times, "pending": pending})


@pytest.mark.parametrize(
    ("runs", "title"),
    [
        ({}, "The consumer has not read yet"),
        ({"none": measured()}, "The consumer has not read yet"),
        ({"slow": measured(0, 1_500)}, "slow: up to 1,500 houses were pending"),
        (
            {"late": measured(0, 30, 31), "none": measured(), "slow": measured(0, 1_500)},
            "slow: up to 1,500 houses were pending\nlate: up to 31",
        ),
        ({"one": measured(0), "other": measured(0)}, "one: up to 0 houses were pending"),
    ],
)
def test_the_title_says_where_most_houses_were_pending(runs: dict[str, pd.DataFrame], title: str) -> None:
    """And where least."""
    picture = plot_pending(runs)
    assert title_of(picture) == title
    assert_whole(picture)


def test_every_run_is_a_line_from_its_own_first_measurement_on() -> None:
    """Also on axes of the caller's."""
    ax = Figure().subplots()
    assert plot_pending({"slow": measured(0, 5), "late": measured(1, 2, 3)}, ax) is ax.figure
    assert [points_of(line) for line in ax.lines] == [([0, 1], [0, 5]), ([0, 1, 2], [1, 2, 3])]
    assert legend_of(ax) == ["slow", "late"]


# --- Little's law ---


def test_as_many_houses_are_pending_as_arrive_while_one_waits() -> None:
    """100 houses a second over 10 s; each is complete after 0.3 s, and its last part was sent 0.1 s before."""
    begun = NOON + pd.to_timedelta(np.arange(1001) * 10, unit="ms")
    houses = pd.DataFrame(
        {"completed_at": begun + pd.Timedelta("300ms"), "first_latency_ms": 300.0, "latency_ms": 100.0}
    )
    seconds = np.arange(0, 12, 0.5)
    is_steady = (seconds >= 2.5) & (seconds < 7.5)
    time = NOON + pd.to_timedelta(seconds, unit="s")
    law = littles_law(houses, pd.DataFrame({"time": time, "pending": np.where(is_steady, 20, 999)}))
    assert law == pytest.approx(
        {
            "arrivals_hz": 100.0,
            "mean_time_s": 0.3,
            "under_way": 30.0,
            "waiting_s": 0.2,
            "expected_pending": 20.0,
            "measured_pending": 20.0,
        }
    )


@pytest.mark.parametrize("count", [0, 1])
def test_of_no_house_or_a_single_one_nothing_is_known(count: int) -> None:
    """There is no middle of the run."""
    houses = pd.DataFrame(
        {"completed_at": [NOON] * count, "first_latency_ms": [1.0] * count, "latency_ms": [1.0] * count}
    )
    houses["completed_at"] = pd.to_datetime(houses["completed_at"], utc=True)
    assert set(littles_law(houses, pd.DataFrame({"time": [], "pending": []})).values()) == {None}


def test_without_measurements_only_the_expected_number_is_known() -> None:
    """The consumer may write no metrics."""
    begun = NOON + pd.to_timedelta(np.arange(101), unit="s")
    houses = pd.DataFrame({"completed_at": begun, "first_latency_ms": 2000.0, "latency_ms": 0.0})
    law = littles_law(houses, pd.DataFrame({"time": pd.to_datetime([], utc=True)}))
    assert (law["expected_pending"], law["measured_pending"]) == (2.0, None)
