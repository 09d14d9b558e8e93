"""Several runs compared: throughput and latency against what was changed between them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from houses.errors import HousesError
from houses.lab.analysis.figure import (
    ACCENT,
    BLACK,
    NO_HOUSE,
    SKY_BLUE,
    add_legend,
    explain,
    figure_of,
    in_ms,
    new_panels,
    number_log_axis,
)

_DECADE = 10
"""An axis is logarithmic when its values differ by more than this factor."""
_NOTABLE = 1.2
"""Smaller ratios are said to be about the same."""
_ALIKE = 0.1
"""Medians that differ by less than this share are as good as equal when the best and the worst are named."""
_MOST_TICKS = 12
_STYLES = {
    "houses_per_s": (BLACK, "D", "-"),
    "p50_ms": (SKY_BLUE, "v", "-"),
    "p99_ms": (ACCENT, "X", "--"),
}
"""Colours, markers and dashes."""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


class _Words(NamedTuple):
    """How a title and an alt text tell of the medians of one column."""

    sentence: str
    short: str
    """The same once more, for the worst value."""
    number: Callable[[float], str]
    more_is_better: bool
    unit: str
    nothing: str
    """The title when there is no median."""


_RATE = _Words("{} houses a second come out", "only {}", _number, True, "houses a second", "No run to compare yet")
_LATENCY = _Words(
    "half of the houses are complete within {}",
    "within {}",
    in_ms,
    False,
    "ms (half of the houses)",
    NO_HOUSE,
)


def plot_sweep(table: pd.DataFrame, parameter: str, axes: Sequence[Axes] | None = None) -> Figure:
    """Throughput (houses/s) and latency (ms) of several runs against what was changed, one above the other.

    Every run is a point; lines go through the medians of the runs that share a value. Axes are logarithmic where values
    span more than a decade. Values that are no numbers stand side by side in the order of the table.

    Args:
        table: one row per run, with the column `parameter` and `houses_per_s`, `p50_ms`, `p99_ms`.
        parameter: for example "max_batch", "rate_hz" or "acks".
        axes: two, where to draw; without them on a new figure. The result is the whole figure.
    Raises:
        HousesError: a column is missing.

    Example:
        >>> runs = pd.DataFrame({"rate_hz": [100, 900], "houses_per_s": [99, 890], "p50_ms": [9, 10], "p99_ms": [20, 40]})
        >>> plot_sweep(runs, "rate_hz").axes[0].get_ylabel()
        'throughput (houses/s)'
    """
    if lacking := [name for name in (parameter, *_STYLES) if name not in table]:
        raise HousesError(f"no column {lacking[0]!r} in the table of runs: it has {', '.join(map(str, table))}")
    top, bottom = panels = axes or new_panels(2)
    known = table.dropna(subset=[parameter])
    runs = known.assign(at=_places(known[parameter]), value=[_shown(value) for value in known[parameter]])
    _draw(top, runs, {"houses_per_s": "throughput"})
    _draw(bottom, runs, {"p50_ms": "half of the houses", "p99_ms": "99% of the houses"})
    for ax in panels:
        _label_x(ax, runs, parameter)
    for ax in panels if axes else [bottom]:
        ax.set_xlabel(parameter, parse_math=False)
    top.set(ylabel="throughput (houses/s)")
    bottom.set(ylabel="last part sent → house\ncomplete (ms)")
    _explain(top, _medians(runs, "houses_per_s"), parameter, _RATE)
    _explain(bottom, _medians(runs, "p50_ms"), parameter, _LATENCY)
    return figure_of(top)


def _places(values: "pd.Series[Any]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Where values stand on the axis: numbers at themselves, others at 0, 1, 2 in the order of their first appearance."""
    return np.asarray(values if _is_number(values) else pd.factorize(values)[0], float)


def _is_number(values: "pd.Series[Any]") -> bool:
    return is_numeric_dtype(values) and not is_bool_dtype(values)


def _shown(value: Any) -> str:
    return (
        f"{value:,.10g}" if isinstance(value, int | float | np.number) and not isinstance(value, bool) else str(value)
    )


def _draw(ax: Axes, runs: pd.DataFrame, columns: dict[str, str]) -> None:
    for column, label in columns.items():
        colour, marker, dashes = _STYLES[column]
        medians = runs.groupby("at")[column].median().dropna()
        ax.plot(runs["at"], runs[column], marker, color=colour, alpha=0.4, markersize=5, linestyle="")
        ax.plot(medians.index, medians, marker, color=colour, linestyle=dashes, label=label)
    values = runs[list(columns)].to_numpy(float)
    _scale(ax.yaxis, ax.set_yscale, values)
    if ax.get_yscale() == "linear":
        ax.set_ylim(0, 1.08 * np.nanmax(values, initial=0) or 1)
    if len(runs) and len(columns) > 1:
        add_legend(ax)


def _scale(axis: Axis, set_scale: Callable[[str], None], values: "np.ndarray[Any, np.dtype[np.float64]]") -> None:
    low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=0)
    if low > 0 and low * _DECADE < high:
        set_scale("log")
        number_log_axis(axis, low, high)
    else:
        axis.set_major_formatter("{x:,.10g}")


def _label_x(ax: Axes, runs: pd.DataFrame, parameter: str) -> None:
    if is_number := _is_number(runs[parameter]):
        _scale(ax.xaxis, ax.set_xscale, runs["at"].to_numpy())
    values = runs.drop_duplicates("at").sort_values("at")
    if not is_number or len(values) <= _MOST_TICKS:
        ax.set_xticks(values["at"], values["value"], parse_math=False)


def _medians(runs: pd.DataFrame, column: str) -> "pd.Series[Any]":
    """By value as it is shown, in the order of the axis."""
    return runs.sort_values("at", kind="stable").groupby("value", sort=False)[column].median().dropna()


def _ends(medians: "pd.Series[Any]") -> tuple[Any, Any]:
    """The values with the lowest and the highest median; of nearly equal ones those at the ends of the axis."""
    low = medians.index[medians <= medians.min() + _ALIKE * abs(medians.min())]
    high = medians.index[medians >= medians.max() - _ALIKE * abs(medians.max())]
    places = {value: at for at, value in enumerate(medians.index)}
    ends = [(low[0], high[-1]), (low[-1], high[0])]
    return max(ends, key=lambda pair: abs(places[pair[0]] - places[pair[1]]))


def _explain(ax: Axes, medians: "pd.Series[Any]", parameter: str, words: _Words) -> None:
    listed = ", ".join(f"{_number(median)} at {value}" for value, median in medians.items())
    alt = f"Medians by {parameter}, {words.unit}: {listed or 'none'}."
    explain(ax, _title(medians, parameter, words) if len(medians) else words.nothing, alt)


def _title(medians: "pd.Series[Any]", parameter: str, words: _Words) -> str:
    """Says what the best value of the parameter comes to, and the worst; or that all are about alike."""
    low, high = _ends(medians)
    best, worst = (high, low) if words.more_is_better else (low, high)
    if len(medians) > 1 and medians[high] < medians[low] * _NOTABLE:
        return f"Whatever {parameter} is, {words.sentence.format(f'about {words.number(medians.median())}')}"
    finding = words.sentence.format(words.number(medians[best]))
    title = f"{finding[0].upper()}{finding[1:]} with {parameter} = {best}"
    if len(medians) > 1:
        title += f",\n{words.short.format(words.number(medians[worst]))} with {parameter} = {worst}"
    return title
