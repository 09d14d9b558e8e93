"""How many houses were pending over time, run beside run: whether a queue grows or stays as it is."""

from collections.abc import Mapping
from typing import Any, overload

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from houses.picture import ACCENT, Picture, axes_for, explain

_STYLES = (("#000000", "D", "-"), (ACCENT, "X", "--"), ("#56B4E9", "v", "-."), ("#CC79A7", "P", ":"))
"""Okabe-Ito colours that stand for no part, markers and dashes."""
_MARKS = 12
"""Markers on a line, about."""


@overload
def plot_pending(runs: Mapping[str, pd.DataFrame], ax: None = None) -> Picture: ...
@overload
def plot_pending(runs: Mapping[str, pd.DataFrame], ax: Axes) -> Axes: ...
def plot_pending(runs: Mapping[str, pd.DataFrame], ax: Axes | None = None) -> Picture | Axes:
    """Pending houses over time (s), a line a run: one that grows waits for a part that is too slow.

    Args:
        runs: name -> rows as `load_metrics`.
        ax: where to draw; without it the result is a new figure.

    Example:
        >>> plot_pending({"roofs 300 ms late": exp.metrics()}).axes[0].get_ylabel()
        'pending houses'
    """
    picture, ax = axes_for(ax)
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
    return picture or ax


def _finding(most: Mapping[str, int]) -> tuple[str, str]:
    """Title and alt text from the most houses that were pending in each run."""
    low, high = min(most, key=lambda name: most[name]), max(most, key=lambda name: most[name])
    title = f"{high}: up to {most[high]:,} houses were pending"
    if low != high:
        title += f"\n{low}: up to {most[low]:,}"
    return title, f"Pending houses over time; the most of each run: {', '.join(f'{n} {m:,}' for n, m in most.items())}."
