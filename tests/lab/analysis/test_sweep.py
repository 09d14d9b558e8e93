"""Runs compared."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.figures import assert_whole, legend_of, points_of, title_of

from houses.errors import HousesError
from houses.lab.analysis.figure import alt_text
from houses.lab.analysis.sweep import plot_sweep
from houses.lab.analysis.timeline import plot_pending


def runs(parameter: str, *rows: tuple[Any, float, float]) -> pd.DataFrame:
    """Runs by value, houses a second and p99 in ms; p50 is half of that."""
    values, rates, p99 = zip(*rows, strict=True) if rows else ((), (), ())
    columns = {"houses_per_s": rates, "p50_ms": np.array(p99, float) / 2, "p99_ms": p99}
    return pd.DataFrame({parameter: pd.Series(values, dtype=None if rows else float)} | columns)


BATCHES = runs(
    "max_batch", (10_000, 41_000, 30), (1, 1_000, 4_000), (1, 900, 3_000), (1, 1_200, 5_000), (100, 40_000, 31)
)


def test_the_titles_compare_the_best_value_with_the_worst() -> None:
    """Of runs with the same value the median counts; of nearly equal values the one at the end of the axis is named."""
    drawn = plot_sweep(BATCHES, "max_batch")
    assert_whole(drawn)
    assert title_of(drawn, 0) == (
        "41,000 houses a second come out with max_batch = 10,000,\nonly 1,000 with max_batch = 1"
    )
    assert (
        title_of(drawn, 1)
        == "Half of the houses are complete within 15 ms with max_batch = 10,000,\nwithin 2 s with max_batch = 1"
    )
    assert "1,000 at 1, 40,000 at 100, 41,000 at 10,000" in alt_text(drawn)


def test_every_run_is_a_point_and_the_line_goes_through_the_medians() -> None:
    """On logarithmic axes where values span more than a decade."""
    top, bottom = plot_sweep(BATCHES, "max_batch").axes
    points, medians = top.get_lines()
    assert len(points_of(points)[0]) == 5
    assert points_of(medians) == ([1, 100, 10_000], [1_000, 40_000, 41_000])
    assert {axis.get_scale() for axis in (top.xaxis, top.yaxis, bottom.xaxis, bottom.yaxis)} == {"log"}
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["1", "100", "10,000"]
    assert legend_of(bottom) == ["half of the houses", "99% of the houses"]
    assert "(houses/s)" in top.get_ylabel() and "(ms)" in bottom.get_ylabel()


def test_values_that_are_no_numbers_stand_in_the_order_of_the_table() -> None:
    """On linear axes, as these latencies are of the same order."""
    top, bottom = plot_sweep(runs("acks", ("all", 900, 12), ("1", 1_000, 6), ("0", 1_010, 5)), "acks").axes
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["all", "1", "0"]
    assert {axis.get_scale() for axis in (top.xaxis, top.yaxis, bottom.yaxis)} == {"linear"}
    assert top.get_ylim()[0] == 0 and top.get_ylim()[1] > 1_010


@pytest.mark.parametrize(
    ("parameter", "rows", "titles"),
    [
        (
            "rate_hz",
            [(100, 100, 25), (1_000, 1_001, 24), (5_000, 4_990, 26)],
            [
                "4,990 houses a second come out with rate_hz = 5,000,\nonly 100 with rate_hz = 100",
                "Whatever rate_hz is, half of the houses are complete within about 12.5 ms",
            ],
        ),
        (
            "linger_ms",
            [(0, 1_001, 8), (100, 1_020, 160)],
            [
                "Whatever linger_ms is, about 1,010 houses a second come out",
                "Half of the houses are complete within 4 ms with linger_ms = 0,\nwithin 80 ms with linger_ms = 100",
            ],
        ),
        (
            "acks",
            [("all", 1_001, 8), (0, 1_003, 8)],
            [
                "Whatever acks is, about 1,002 houses a second come out",
                "Whatever acks is, half of the houses are complete within about 4 ms",
            ],
        ),
    ],
)
def test_the_titles_are_sentences_for_any_setting(
    parameter: str, rows: list[tuple[Any, float, float]], titles: list[str]
) -> None:
    """Numbers and words, what matters and what does not."""
    drawn = plot_sweep(runs(parameter, *rows), parameter)
    assert [title_of(drawn, panel) for panel in (0, 1)] == titles


@pytest.mark.parametrize(
    ("table", "titles"),
    [
        (runs("x"), ["No run to compare yet", "No house is complete yet"]),
        (
            runs("x", (5, 1_200, 9)),
            ["1,200 houses a second come out with x = 5", "Half of the houses are complete within 4.5 ms with x = 5"],
        ),
        (
            runs("x", (1, 100, 9), (2, 110, 10)),
            [
                "Whatever x is, about 105 houses a second come out",
                "Whatever x is, half of the houses are complete within about 4.75 ms",
            ],
        ),
        (
            runs("x", (0, 0, float("nan")), (2, 110, 10)),
            [
                "110 houses a second come out with x = 2,\nonly 0 with x = 0",
                "Half of the houses are complete within 5 ms with x = 2",
            ],
        ),
        (
            runs("x", (True, 2, -3), (False, 7, 10)),
            [
                "7 houses a second come out with x = False,\nonly 2 with x = True",
                "Half of the houses are complete within -1.5 ms with x = True,\nwithin 5 ms with x = False",
            ],
        ),
    ],
)
def test_few_or_odd_runs_still_make_a_figure(table: pd.DataFrame, titles: list[str]) -> None:
    """None, one, alike ones, one without houses, and clocks that differ by more than the latency."""
    drawn = plot_sweep(table, "x")
    assert_whole(drawn)
    assert [title_of(drawn, panel) for panel in (0, 1)] == titles


def test_a_column_that_is_not_there_is_an_error_that_names_it() -> None:
    """And those that are."""
    with pytest.raises(HousesError, match=r"no column 'linger_ms' .* max_batch, houses_per_s, p50_ms, p99_ms"):
        plot_sweep(BATCHES, "linger_ms")


def test_a_sweep_is_drawn_on_the_two_axes_that_it_is_given() -> None:
    """Each then says what its x axis is."""
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_sweep(BATCHES, "max_batch", (left, right)) is figure
    assert (left.get_xlabel(), right.get_xlabel()) == ("max_batch", "max_batch")
    assert left.get_xscale() == "log"


def test_dollar_signs_and_the_like_are_drawn_as_they_are() -> None:
    """Matplotlib would take what stands between two of them for a formula, and stop at the odd ones."""
    drawn = plot_sweep(runs("b$^$", ("c$^$d", 7, 20), ("e$_$", 9, 30)), "b$^$")
    assert_whole(drawn)
    assert [label.get_text() for label in drawn.axes[1].get_xticklabels()] == ["c$^$d", "e$_$"]
    assert_whole(
        plot_pending({"c$^$d": pd.DataFrame({"time": pd.to_datetime(["2026-01-31"], utc=True), "pending": [3]})})
    )
