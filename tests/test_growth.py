"""The figure of pending houses over time."""

import pandas as pd
import pytest
from figures import assert_whole, legend_of, points_of, title_of
from matplotlib.figure import Figure

from houses.growth import plot_pending

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
    assert plot_pending({"slow": measured(0, 5), "late": measured(1, 2, 3)}, ax) is ax
    assert [points_of(line) for line in ax.lines] == [([0, 1], [0, 5]), ([0, 1, 2], [1, 2, 3])]
    assert legend_of(ax) == ["slow", "late"]
