"""Two consumers beside each other: what each has lost and doubled."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from houses.picture import ACCENT, PURPLE, explain, figure_of, new_axes

_BARS: dict[str, dict[str, Any]] = {
    "lost": {"color": ACCENT, "hatch": ""},
    "twice": {"color": PURPLE, "hatch": "////"},
}
_WIDTH = 0.38


def plot_losses(table: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Two bars per consumer: houses that it lost, and houses that it wrote twice.

    Args:
        table: a row per consumer, as `NaiveConsumer.compare()`.
        ax: where to draw; without it on a new figure. The result is the whole figure.

    Example:
        >>> table = pd.DataFrame({"written": [500], "lost": [106], "twice": [64]}, index=["naive"])
        >>> plot_losses(table).axes[0].get_title(loc="left")
        'naive, 500 written: 106 lost, 64 twice'
    """
    ax = ax or new_axes()
    at = np.arange(len(table))
    for side, (column, style) in zip((-0.5, 0.5), _BARS.items(), strict=True):
        bars = ax.barh(at + side * _WIDTH, table[column], _WIDTH, label=column, edgecolor="white", **style)
        ax.bar_label(bars, [f"{number:,} {column}" for number in table[column]], padding=4)
    ax.set_yticks(at, table.index.tolist(), parse_math=False)
    ax.set(xlabel="houses", xlim=(0, max(1, table[[*_BARS]].to_numpy().max(initial=0)) * 1.2))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.invert_yaxis()
    explain(ax, _title(table), "Two bars per consumer.")
    return figure_of(ax)


def _title(table: pd.DataFrame) -> str:
    told = (
        f"{name}, {row['written']:,} written: {row['lost']:,} lost, {row['twice']:,} twice"
        for name, row in table.iterrows()
    )
    return "\n".join(told) or "No consumer to compare"
