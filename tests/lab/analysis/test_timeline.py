"""The consumer over time: restarts, what crashes cost, and the figures of it."""

from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from support.figures import assert_whole, legend_of, points_of, title_of

from houses.errors import ConfigError
from houses.lab.analysis import timeline

NOON = pd.Timestamp("2026-01-31T12:00:00Z")
Row = tuple[float, int, str, int, int]
"""Seconds after noon, process id, state, position and low watermark of each partition."""

CRASH: list[Row] = [
    (0, 1, "starting", 0, 0),
    (1, 1, "recovering", 0, 0),
    (2, 1, "running", 100, 90),
    (4, 1, "running", 300, 250),
    (6, 2, "starting", 0, 0),
    (7, 2, "recovering", 90, 90),
    (8, 2, "running", 310, 310),
    (9, 2, "stopped", 320, 315),
]
CLEAN: list[Row] = [
    (0, 1, "running", 5, 0),
    (1, 1, "stopped", 9, 6),
    (3, 2, "recovering", 6, 6),
    (4, 2, "stopped", 9, 9),
]


def measured(rows: list[Row]) -> pd.DataFrame:
    """Measurements; the roof is 2 messages ahead; every process saves a checkpoint when it begins, the first one at 4 s too."""
    columns: dict[str, Any] = {
        "time": [NOON + pd.Timedelta(seconds=row[0]) for row in rows],
        "pid": [row[1] for row in rows],
        "state": [row[2] for row in rows],
        "pending": [row[3] - row[4] for row in rows],
        "checkpoint_generation": [0 if row[2] == "starting" else row[1] + (row[0] >= 4) for row in rows],
    }
    for name, ahead in (("foundation", 0), ("wall", 0), ("roof", 2)):
        columns[f"{name}_position"] = [row[3] + ahead for row in rows]
        columns[f"{name}_low"] = [row[4] for row in rows]
    return pd.DataFrame(columns)


def test_a_crash_costs_the_time_until_the_next_process_reads_and_what_it_reads_again() -> None:
    """Killed after its line at 4 s at offset 300; the next one reads from 90 on, at 7 s."""
    (row,) = timeline.restarts(measured(CRASH)).to_dict("records")
    assert row == {
        "last_before": NOON + pd.Timedelta(seconds=4),
        "first_after": NOON + pd.Timedelta(seconds=7),
        "seconds_away": 3.0,
        "crash": True,
        "pid_before": 1,
        "pid": 2,
        "foundation_again": 210,
        "wall_again": 210,
        "roof_again": 210,
    }


def test_a_restart_after_a_stop_is_no_crash() -> None:
    """It too reads again what was pending."""
    table = timeline.restarts(measured(CLEAN))
    assert table[["crash", "wall_again"]].values.tolist() == [[False, 3]]


def test_a_process_without_a_checkpoint_takes_no_room_in_the_figure() -> None:
    """As with one that was killed early: the axes reach as far to the left and down as words and numbers let them."""
    figure = timeline.plot_timeline(measured(CRASH).assign(checkpoint_generation=1))
    figure.draw_without_rendering()
    (ax,) = figure.axes
    left, bottom = ax.get_tightbbox().min  # type: ignore[union-attr]  # it is drawn
    assert 0 <= left < 10 and 0 <= bottom < 10


def test_a_start_that_was_refused_lies_between_two_processes_and_is_none_of_them() -> None:
    """It never knew where to read."""
    refused: list[Row] = [(5, 9, "starting", 0, 0), (5.5, 9, "failed", 0, 0)]
    table = timeline.restarts(measured([*CRASH[:4], *refused, *CRASH[4:]]))
    assert table[["pid_before", "pid", "seconds_away"]].values.tolist() == [[1, 2, 3.0]]


def test_a_process_id_that_comes_again_is_another_process() -> None:
    """It says that it is starting."""
    again: list[Row] = [(seconds, 1, state, position, low) for seconds, _, state, position, low in CRASH]
    assert timeline.restarts(measured(again))["wall_again"].tolist() == [210]


def test_lines_of_several_files_may_be_put_together() -> None:
    """Their row numbers then repeat."""
    together = pd.concat([measured(CRASH[:4]), measured(CRASH[4:])])
    assert timeline.restarts(together)["wall_again"].tolist() == [210]


def test_nothing_is_read_again_when_more_was_saved_than_said() -> None:
    """The last line before a crash may be older than the last checkpoint."""
    rows: list[Row] = [(0, 1, "running", 5, 5), (1, 2, "recovering", 8, 8)]
    assert timeline.restarts(measured(rows))["wall_again"].tolist() == [0]


@pytest.mark.parametrize("metrics", [pd.DataFrame({"time": []}), measured(CRASH[:4]), measured(CRASH[:1])])
def test_without_a_second_process_there_is_no_restart(metrics: pd.DataFrame) -> None:
    """The columns are there all the same."""
    table = timeline.restarts(metrics)
    assert table.empty
    assert list(table) == list(timeline.restarts(measured(CRASH)))


def test_the_timeline_says_what_the_crash_cost_and_shades_it() -> None:
    """From the crash at 4 s to 8 s, when the new process has passed the last offset of the old one."""
    drawn = timeline.plot_timeline(measured(CRASH))
    ax = drawn.axes[0]
    assert_whole(drawn)
    assert (
        title_of(drawn) == "A crash: the consumer was away for 3.0 s\nand read 210 messages of the wall partition again"
    )
    (shade,) = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert (shade.get_xy(), shade.get_width(), shade.get_height()) == ((4.0, 90), 4.0, 210)
    assert legend_of(ax).count("crash") == legend_of(ax).count("read again") == 1
    assert "(s)" in ax.get_xlabel() and "(messages)" in ax.get_ylabel()


def test_the_timeline_marks_the_low_watermark_that_a_checkpoint_saved() -> None:
    """The generation is new at 4 s: what was saved stands in the line before."""
    ax = timeline.plot_timeline(measured(CRASH)).axes[0]
    (marks,) = [line for line in ax.get_lines() if line.get_label() == "checkpoint: a restart begins there"]
    assert points_of(marks) == ([2.0], [90])


def test_the_timeline_shows_the_part_that_is_asked_for() -> None:
    """Another part is 2 messages ahead; a part that there is not is an error."""
    ax = timeline.plot_timeline(measured(CRASH), "roof").axes[0]
    assert points_of(ax.get_lines()[0])[1] == [2, 102, 302]
    with pytest.raises(ConfigError, match="'door'"):
        timeline.plot_timeline(measured(CRASH), "door")


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        (CRASH[:4], "The consumer read 300 messages of the wall partition in one go"),
        (CLEAN, "No crash, 1 restart: 3 messages of the wall partition were read again"),
        ([], "The consumer has not read yet"),
        (
            [*CRASH[:7], (20, 3, "recovering", 300, 300), (21, 3, "running", 400, 400)],
            "2 crashes: the consumer was away for 15.0 s in all\nand read 220 messages of the wall partition again",
        ),
    ],
)
def test_the_title_of_the_timeline_fits_what_happened(rows: list[Row], title: str) -> None:
    """None, one or several restarts, with and without crashes."""
    drawn = timeline.plot_timeline(measured(rows))
    assert_whole(drawn)
    assert title_of(drawn) == title


def test_the_figure_of_watermarks_names_the_moment_when_a_restart_would_cost_most() -> None:
    """At 4 s the low watermark is 50 messages behind in two partitions, and 52 in the third."""
    drawn = timeline.plot_watermarks(measured(CRASH))
    assert_whole(drawn)
    assert (
        title_of(drawn)
        == "A restart from a checkpoint at 4.0 s would read 152 messages again;\n50 houses were pending then"
    )
    assert legend_of(drawn.axes[0]) == [
        "foundation (messages)",
        "wall (messages)",
        "roof (messages)",
        "pending (houses)",
    ]
    assert title_of(timeline.plot_watermarks(measured([]))) == "The consumer has not read yet"


def test_figures_over_time_are_drawn_on_the_axes_that_they_are_given() -> None:
    """So that several can share a figure."""
    left, right = Figure().subplots(1, 2)
    assert timeline.plot_timeline(measured(CRASH), "wall", left) is left.figure
    assert timeline.plot_watermarks(measured(CRASH), right) is right.figure
