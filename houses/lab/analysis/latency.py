"""How long houses take: percentiles, and figures of the latency."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from houses.lab.analysis.figure import (
    ACCENT,
    BARS,
    COLOURS,
    MARKERS,
    add_legend,
    draw_known,
    explain,
    figure_of,
    in_ms,
    new_axes,
    number_log_axis,
)

_LEAST_MS = 0.1
"""Lower end of a logarithmic axis; also where latencies go that differing clocks make negative."""
_MOST_POINTS = 5_000
_BINS = 24
"""Of the histogram: producers tick every 10 ms and the consumer takes batches, which finer ones show as the teeth of a comb."""


def summary(houses: pd.DataFrame) -> dict[str, float | None]:
    """Number of houses, and the latency from last part sent to completed: `p50_ms`, `p99_ms`, `max_ms`; None when unknown.

    Example:
        >>> summary(pd.DataFrame({"latency_ms": [4.0, 5.0, 9.0]}))["p50_ms"]
        5.0
    """
    known = houses["latency_ms"].dropna().to_numpy(float)
    values = np.percentile(known, (50, 99, 100)).round(3).tolist() if len(known) else [None] * 3
    return {"houses": len(houses)} | dict(zip(("p50_ms", "p99_ms", "max_ms"), values, strict=True))


# --- figures ---


def plot_latency(houses: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """How many houses took how long from last part sent to completed (ms, logarithmic), by the part that was sent last.

    Args:
        houses: rows as `load(...).houses`; latencies in ms.
        ax: where to draw; without it on a new figure. The result is the whole figure.

    Example:
        >>> plot_latency(exp.houses()).axes[0].get_xlabel()
        'last part sent → house complete (ms)'
    """
    ax = ax or new_axes()
    known = houses[["latency_ms", "last_part"]].dropna()
    draw_known(ax, known, _draw_histogram)
    ax.set(xlabel="last part sent → house complete (ms)", ylabel="houses")
    return figure_of(ax)


def plot_latency_over_time(houses: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """The latency of each house (ms, logarithmic) at the time when its last part was sent (s): a stopped consumer is a wedge.

    Args: as `plot_latency`. Of more than 5,000 houses every n-th is drawn, and the slowest.

    Example:
        >>> plot_latency_over_time(exp.houses()).axes[0].get_xlabel()
        'time of sending (s)'
    """
    ax = ax or new_axes()
    known = houses[["completed_at", "latency_ms", "last_part"]].dropna()
    draw_known(ax, known, _draw_points)
    ax.set(xlabel="time of sending (s)", ylabel="last part sent → house complete (ms)")
    return figure_of(ax)


def _draw_histogram(ax: Axes, known: pd.DataFrame) -> None:
    values = known["latency_ms"].clip(lower=_LEAST_MS)
    p50, p99, top = np.percentile(values, (50, 99, 100))
    low, high = values.min() * 0.95, top * 1.05
    bins = np.geomspace(low, high, _BINS + 1)
    groups = {name: values[known["last_part"] == name] for name in COLOURS}
    labels = [f"{name} last ({len(group) / len(values):.0%})" for name, group in groups.items()]
    ax.hist(list(groups.values()), bins.tolist(), histtype="stepfilled", stacked=True, label=labels, **BARS)
    for value, name, dashes in ((p50, "p50", "--"), (p99, "p99", ":")):
        ax.axvline(value, color="black", linestyle=dashes, label=f"{name} = {in_ms(value)}")
    add_legend(ax)
    ax.set_xscale("log")
    number_log_axis(ax.xaxis, low, high)
    title = f"Half of {len(values):,} houses were complete within {in_ms(p50)} after their last part was sent,\n99% within {in_ms(p99)}"
    alt = f"Histogram of the latency, stacked by the part that was sent last: {', '.join(labels)}. The slowest: {in_ms(top)}."
    explain(ax, title, alt)


def _draw_points(ax: Axes, known: pd.DataFrame) -> None:
    latency_ms = known["latency_ms"].clip(lower=_LEAST_MS)
    sent = known["completed_at"] - pd.to_timedelta(known["latency_ms"], unit="ms")
    seconds = (sent - sent.min()).dt.total_seconds()
    slowest = latency_ms.idxmax()
    chosen = known["last_part"].iloc[:: -(-len(known) // _MOST_POINTS)]
    for name, marker in MARKERS.items():
        rows = chosen.index[chosen == name]
        style: dict[str, Any] = {"markersize": 2.5, "alpha": 0.6, "color": COLOURS[name]}
        ax.plot(seconds[rows], latency_ms[rows], marker, label=f"{name} last", rasterized=True, **style)
    at_s, worst = seconds[slowest], in_ms(latency_ms[slowest])
    ax.plot(at_s, latency_ms[slowest], "o", markersize=7, fillstyle="none", color=ACCENT, label="the slowest")
    add_legend(ax, markerscale=1.5)
    ax.set_yscale("log")
    number_log_axis(ax.yaxis, latency_ms.min(), latency_ms.max())
    title = (
        f"The slowest of {len(known):,} houses took {worst}:\nits last part was sent {at_s:.1f} s after the first house"
    )
    median = in_ms(latency_ms.median())
    explain(ax, title, f"One point a house over {seconds.max():.0f} s, latency against time; the median is {median}.")
