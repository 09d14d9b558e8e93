"""The consumer over time, from its measurements: how far it read, what crashes cost, how many houses were pending."""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from houses.lab.analysis.figure import (
    ACCENT,
    BLACK,
    NOT_READ,
    PURPLE,
    SKY_BLUE,
    add_legend,
    count_on,
    draw_known,
    explain,
    figure_of,
    line_of,
    new_axes,
)
from houses.records.message import PART_NAMES, part_named
from houses.records.metrics import ENDED, FAILED, STARTING
from houses.system.text import counted

_PROCESSES = ((BLACK, "o"), (PURPLE, "D"), (SKY_BLUE, "v"))
"""Colours and markers, for one consumer process after the other."""
_TIME = "time since the consumer's first measurement (s)"
_MARKS = 12
"""Markers on a line, about."""
_RESTART_COLUMNS = [
    "last_before",
    "first_after",
    "seconds_away",
    "crash",
    "pid_before",
    "pid",
    *(f"{name}_again" for name in PART_NAMES),
]


def restarts(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row each time a consumer went on where an earlier process had ended.

    Columns: `last_before`, the last line of the earlier one, and `first_after`, the first in which the new one reads
    (UTC); `seconds_away` between them; `crash`: the earlier one said neither that it stopped nor that it failed;
    `pid_before`, `pid`; `foundation_again`, `wall_again`, `roof_again`: messages that both have read. What a killed
    consumer read after its last line is not known and not counted.

    Args:
        metrics: rows as `load_metrics`.

    Example:
        >>> restarts(exp.metrics())["crash"].tolist()
        [True]
    """
    return _restarts(_runs(metrics))


def _restarts(runs: list[pd.DataFrame]) -> pd.DataFrame:
    rows = [_restart(before, after) for before, after in pairwise(runs)]
    return pd.DataFrame(rows, columns=_RESTART_COLUMNS)


def _runs(metrics: pd.DataFrame) -> list[pd.DataFrame]:
    """The lines of each process from where it knew its positions; processes that never came so far are left out."""
    if metrics.empty:
        return []
    metrics = metrics.reset_index(drop=True)
    is_first = (metrics["pid"] != metrics["pid"].shift()) | (metrics["state"] == STARTING)
    seconds = (metrics["time"] - metrics["time"].iloc[0]).dt.total_seconds()
    known = metrics.assign(seconds=seconds)[metrics["state"] != STARTING]
    runs = [rows for _, rows in known.groupby(is_first.cumsum())]
    return [rows for rows in runs if (rows["state"] != FAILED).any()]


def _restart(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any]:
    last, first = before.iloc[-1], after.iloc[0]
    return {
        "last_before": last["time"],
        "first_after": first["time"],
        "seconds_away": (first["time"] - last["time"]).total_seconds(),
        "crash": last["state"] not in ENDED,
        "pid_before": last["pid"],
        "pid": first["pid"],
    } | {f"{name}_again": max(0, last[f"{name}_position"] - first[f"{name}_position"]) for name in PART_NAMES}


# --- figures ---


def plot_timeline(metrics: pd.DataFrame, part: str = "wall", ax: Axes | None = None) -> Figure:
    """Next offset and low watermark of one partition over time (s), a line per consumer process, with what crashes cost.

    Args:
        metrics: rows as `load_metrics`.
        part: foundation, wall or roof: whose partition.
        ax: where to draw; without it on a new figure. The result is the whole figure.
    Raises:
        ConfigError: there is no such part.

    Example:
        >>> plot_timeline(exp.metrics(), "wall").axes[0].get_ylabel()
        'offset in the wall partition (messages)'
    """
    name = part_named(part).name
    ax = ax or new_axes()
    draw_known(ax, _runs(metrics), partial(_draw_timeline, name=name), NOT_READ)
    ax.set(xlabel=_TIME, ylabel=f"offset in the {name} partition (messages)")
    _count_from_zero(ax)
    return figure_of(ax)


def plot_watermarks(metrics: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """How far the low watermark is behind the next offset over time (s): messages that a restart reads again; and pending houses.

    Args:
        metrics: rows as `load_metrics`.
        ax: where to draw; without it on a new figure. The result is the whole figure.

    Example:
        >>> plot_watermarks(exp.metrics()).axes[0].get_xlabel()
        "time since the consumer's first measurement (s)"
    """
    ax = ax or new_axes()
    draw_known(ax, _runs(metrics), _draw_distances, NOT_READ)
    ax.set(xlabel=_TIME, ylabel="from low watermark to next offset (messages)\npending (houses)")
    _count_from_zero(ax)
    return figure_of(ax)


def _count_from_zero(ax: Axes) -> None:
    ax.set_ylim(0, None)
    count_on(ax.yaxis, "auto")


def _draw_timeline(ax: Axes, runs: list[pd.DataFrame], name: str) -> None:
    _draw_processes(ax, runs, name)
    _draw_restarts(ax, runs, name)
    add_legend(ax, frameon=True, edgecolor="none", loc="upper left")
    table = _restarts(runs)
    explain(ax, _timeline_title(runs, table, name), _timeline_alt(table))


def _marks(rows: pd.DataFrame) -> int:
    """Of every so many points of a line one has a marker."""
    return -(-len(rows) // _MARKS)


def _draw_processes(ax: Axes, runs: list[pd.DataFrame], name: str) -> None:
    for at, rows in enumerate(runs):
        colour, marker = _PROCESSES[at % len(_PROCESSES)]
        label = f"next offset of consumer {at + 1}" if at < len(_PROCESSES) else None
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4}
        ax.plot(rows["seconds"], rows[f"{name}_position"], label=label, markevery=_marks(rows), **style)
        label = None if at else "low watermark"
        ax.plot(rows["seconds"], rows[f"{name}_low"], "--", color=colour, linewidth=1, label=label)
        # The line before the new generation: the one after may hold what an eviction moved since.
        saved = rows[rows["checkpoint_generation"].diff().shift(-1) > 0]
        label = None if at else "checkpoint: a restart begins there"
        # Not in the layout: one without a point would make room for itself in the lower left corner of the picture.
        whole: dict[str, Any] = {"clip_on": False, "in_layout": False}
        ax.plot(saved["seconds"], saved[f"{name}_low"], "X", color=colour, markersize=8, label=label, **whole)


def _draw_restarts(ax: Axes, runs: list[pd.DataFrame], name: str) -> None:
    crash: Any = {"color": ACCENT, "linestyle": "-.", "label": "crash"}
    again: Any = {"facecolor": f"{ACCENT}30", "edgecolor": ACCENT, "hatch": "..", "linewidth": 0, "label": "read again"}
    for before, after in pairwise(runs):
        restart, (start, end) = _restart(before, after), _read_again(before, after, name)
        if restart["crash"]:
            ax.axvline(before["seconds"].iloc[-1], **crash)
            crash["label"] = None  # one line in the legend for all
        if restart[f"{name}_again"]:
            ax.add_patch(Rectangle(start, end[0] - start[0], end[1] - start[1], **again))
            again["label"] = None


def _read_again(before: pd.DataFrame, after: pd.DataFrame, name: str) -> tuple[tuple[float, int], tuple[float, int]]:
    """Time (s) and offset of two corners: the end of the earlier process at the start of the new one, and where it caught up."""
    column = f"{name}_position"
    last = before[column].iloc[-1]
    caught_up = after.loc[after[column] >= last, "seconds"]
    end_s = caught_up.iloc[0] if len(caught_up) else after["seconds"].iloc[-1]
    return (before["seconds"].iloc[-1], after[column].iloc[0]), (end_s, last)


def _timeline_title(runs: list[pd.DataFrame], table: pd.DataFrame, name: str) -> str:
    crashes = table[table["crash"]]
    again = f"{counted((crashes if len(crashes) else table)[f'{name}_again'].sum(), 'message')} of the {name} partition"
    if len(crashes):
        what, in_all = ("A crash", "") if len(crashes) == 1 else (f"{len(crashes)} crashes", " in all")
        away_s = crashes["seconds_away"].sum()
        return f"{what}: the consumer was away for {away_s:.1f} s{in_all}\nand read {again} again"
    if len(table):
        what = counted(len(table), "restart")
        return f"No crash, {what}: {again} were read again"
    read = runs[0][f"{name}_position"].iloc[-1] - runs[0][f"{name}_position"].iloc[0]
    return f"The consumer read {counted(read, 'message')} of the {name} partition in one go"


def _timeline_alt(table: pd.DataFrame) -> str:
    again = ", ".join(f"{name} {table[f'{name}_again'].sum():,}" for name in PART_NAMES)
    return f"Next offset and low watermark over time, a line per consumer process. Read again after restarts: {again}."


def _draw_distances(ax: Axes, runs: list[pd.DataFrame]) -> None:
    for at, rows in enumerate(runs):
        for name in PART_NAMES:
            distance, label = rows[f"{name}_position"] - rows[f"{name}_low"], None if at else f"{name} (messages)"
            ax.plot(rows["seconds"], distance, label=label, markersize=4, markevery=_marks(rows), **line_of(name))
        label = None if at else "pending (houses)"
        ax.plot(rows["seconds"], rows["pending"], "-.", color="black", label=label)
    add_legend(ax, loc="upper center", ncols=4)
    ax.margins(y=0.15)  # room for the legend
    explain(ax, _watermarks_title(runs), "Per part, messages between low watermark and next offset over time.")


def _watermarks_title(runs: list[pd.DataFrame]) -> str:
    rows = pd.concat(runs)
    distance = sum(rows[f"{name}_position"] - rows[f"{name}_low"] for name in PART_NAMES)
    worst = distance.argmax()
    row = rows.iloc[worst]
    return (
        f"A restart from a checkpoint at {row['seconds']:.1f} s would read {counted(distance.iloc[worst], 'message')} again;\n"
        f"{counted(row['pending'], 'house was', 'houses were')} pending then"
    )


_STYLES = ((BLACK, "D", "-"), (ACCENT, "X", "--"), (SKY_BLUE, "v", "-."), (PURPLE, "P", ":"))
"""Colours, markers and dashes, run by run."""
_LITTLE = ("arrivals_hz", "mean_time_s", "under_way", "waiting_s", "expected_pending", "measured_pending")


def littles_law(houses: pd.DataFrame, metrics: pd.DataFrame) -> dict[str, float | None]:
    """Whether as many houses are under way as arrive in the time that each of them takes: L = λW.

    Of the steady middle of a run, the second and third quarter of the time between the first and the last house; None
    when unknown:

    - `arrivals_hz`, λ: houses a second whose first part was sent;
    - `mean_time_s`, W: from the first part sent to the house complete;
    - `under_way`, their product: houses that are begun, in Kafka or in the consumer;
    - `waiting_s`: from the first part sent to the last one sent. The consumer sees a house only when its first part has come
      to it, and the way there takes about as long as that of the last part. So this is what a house is pending;
    - `expected_pending`: `arrivals_hz` times `waiting_s`;
    - `measured_pending`: the mean of the consumer's measurements. Houses that never become complete count here only.

    Args:
        houses: rows as `load(...).houses`.
        metrics: rows as `load_metrics`, of the same run.
    Source:
        J. D. C. Little, A Proof for the Queuing Formula L = λW, 1961.

    Example:
        >>> 100 < littles_law(exp.houses(), exp.metrics())["arrivals_hz"] < 400  # of 200 a second
        True
    """
    known = houses[["completed_at", "first_latency_ms", "latency_ms"]].dropna()
    begun = known["completed_at"] - pd.to_timedelta(known["first_latency_ms"], unit="ms")
    quarter = (begun.max() - begun.min()) / 4
    if not quarter > pd.Timedelta(0):  # no house, or all at once
        return dict.fromkeys(_LITTLE)
    start, end = begun.min() + quarter, begun.max() - quarter
    steady = known[(begun >= start) & (begun < end)]
    measured = metrics[(metrics["time"] >= start) & (metrics["time"] < end)]
    arrivals_hz = len(steady) / (end - start).total_seconds()
    mean_time_s = steady["first_latency_ms"].mean() / 1000
    waiting_s = mean_time_s - steady["latency_ms"].mean() / 1000
    pending = measured["pending"].mean() if len(measured) else None
    values = (arrivals_hz, mean_time_s, arrivals_hz * mean_time_s, waiting_s, arrivals_hz * waiting_s, pending)
    return {name: None if pd.isna(value) else float(value) for name, value in zip(_LITTLE, values, strict=True)}


# --- figures ---


def plot_pending(runs: Mapping[str, pd.DataFrame], ax: Axes | None = None) -> Figure:
    """Pending houses over time (s), a line a run: one that grows waits for a part that is too slow.

    Args:
        runs: name -> rows as `load_metrics`.
        ax: where to draw; without it on a new figure. The result is the whole figure.

    Example:
        >>> plot_pending({"roofs 300 ms late": exp.metrics()}).axes[0].get_ylabel()
        'pending houses'
    """
    ax = ax or new_axes()
    draw_known(ax, {name: rows for name, rows in runs.items() if len(rows)}, _draw_pending, NOT_READ)
    ax.set(xlabel=_TIME, ylabel="pending houses")
    _count_from_zero(ax)
    return figure_of(ax)


def _draw_pending(ax: Axes, runs: Mapping[str, pd.DataFrame]) -> None:
    for number, (name, rows) in enumerate(runs.items()):
        colour, marker, dashes = _STYLES[number % len(_STYLES)]
        seconds = (rows["time"] - rows["time"].iloc[0]).dt.total_seconds()
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5}
        ax.plot(seconds, rows["pending"], dashes, label=name, markevery=_marks(rows), **style)
    add_legend(ax, loc="upper left")
    explain(ax, *_finding({name: int(rows["pending"].max()) for name, rows in runs.items()}))


def _finding(most: Mapping[str, int]) -> tuple[str, str]:
    """Title and alt text from the most houses that were pending in each run."""
    low, high = min(most, key=lambda name: most[name]), max(most, key=lambda name: most[name])
    title = f"{high}: up to {most[high]:,} houses were pending"
    if low != high:
        title += f"\n{low}: up to {most[low]:,}"
    return title, f"Pending houses over time; the most of each run: {', '.join(f'{n} {m:,}' for n, m in most.items())}."
