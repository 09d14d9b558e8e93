"""How many houses were pending over time, run beside run: whether a queue grows or stays as it is; and Little's law in one run."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from houses.picture import ACCENT, BLACK, PURPLE, SKY_BLUE, explain, figure_of, new_axes

_STYLES = ((BLACK, "D", "-"), (ACCENT, "X", "--"), (SKY_BLUE, "v", "-."), (PURPLE, "P", ":"))
"""Colours, markers and dashes, run by run."""
_LITTLE = ("arrivals_hz", "mean_time_s", "under_way", "waiting_s", "expected_pending", "measured_pending")
_MARKS = 12
"""Markers on a line, about."""


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
    measured = {name: rows for name, rows in runs.items() if len(rows)}
    for number, (name, rows) in enumerate(measured.items()):
        colour, marker, dashes = _STYLES[number % len(_STYLES)]
        seconds = (rows["time"] - rows["time"].iloc[0]).dt.total_seconds()
        style: dict[str, Any] = {"color": colour, "marker": marker, "markevery": -(-len(rows) // _MARKS)}
        ax.plot(seconds, rows["pending"], dashes, markersize=5, label=name, **style)
    if measured:
        for text in ax.legend(frameon=False, fontsize=9, loc="upper left").get_texts():
            text.set_parse_math(False)
        explain(ax, *_finding({name: int(rows["pending"].max()) for name, rows in measured.items()}))
    else:
        explain(ax, "The consumer has not read yet")
    ax.set(xlabel="time since the consumer's first measurement (s)", ylabel="pending houses")
    ax.set_ylim(0, None)
    ax.yaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    ax.yaxis.set_major_formatter("{x:,.0f}")
    return figure_of(ax)


def _finding(most: Mapping[str, int]) -> tuple[str, str]:
    """Title and alt text from the most houses that were pending in each run."""
    low, high = min(most, key=lambda name: most[name]), max(most, key=lambda name: most[name])
    title = f"{high}: up to {most[high]:,} houses were pending"
    if low != high:
        title += f"\n{low}: up to {most[low]:,}"
    return title, f"Pending houses over time; the most of each run: {', '.join(f'{n} {m:,}' for n, m in most.items())}."
