"""Which part keeps houses waiting: who comes last and by how much, who never comes, and what was injected on purpose."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from houses.lab.analysis.figure import (
    BARS,
    add_legend,
    count_on,
    draw_known,
    explain,
    figure_of,
    in_ms,
    line_of,
    new_axes,
    number_log_axis,
    percent,
)
from houses.lab.analysis.frames import NAMES_BY_MASK
from houses.producer.stream import TICK_S
from houses.records.message import PART_NAMES, PARTS
from houses.verify.pending import PendingHouse

_LEAST_MS = 0.1
_LEAST_TOP_MS = 10.0
"""Ends of the logarithmic axis, which shows two decades at least."""
_MOST_POINTS = 1_000
_MARKS = 8
"""Markers on a curve."""


# --- tables ---


def blame(houses: pd.DataFrame) -> pd.DataFrame:
    """Per part (the index): the houses of which it came last, and how long they waited for it alone.

    Columns: `houses`; `share` of all houses with known times; `median_ms` and `p90_ms` of `last_by_ms`; `waiting_share`,
    its share of all the time that houses had two parts and waited for the third. NaN where nothing is known.

    Args:
        houses: rows as `load(...).houses`.

    Example:
        >>> houses = pd.DataFrame({"last_part": ["wall", "wall", "roof"], "last_by_ms": [50.0, 30.0, 20.0]})
        >>> blame(houses).loc["wall", ["houses", "median_ms", "waiting_share"]].tolist()
        [2.0, 40.0, 0.8]
    """
    known = houses[["last_part", "last_by_ms"]].dropna()
    groups = known["last_by_ms"].groupby(known["last_part"].astype(str))
    numbers = groups.count().reindex(PART_NAMES, fill_value=0)
    table = pd.DataFrame(
        {
            "houses": numbers,
            "share": numbers / len(known) if len(known) else np.nan,
            "median_ms": groups.median().reindex(PART_NAMES),
            "p90_ms": groups.quantile(0.9).reindex(PART_NAMES),
            "waiting_share": groups.sum().reindex(PART_NAMES, fill_value=0.0) / (known["last_by_ms"].sum() or np.nan),
        }
    )
    return table.rename_axis("part")


def blame_pending(pending: pd.DataFrame) -> "pd.Series[Any]":
    """Per part, how many pending houses lack it.

    Args:
        pending: a row per pending house with boolean columns foundation, wall and roof: it has come.

    Example:
        >>> pending = pd.DataFrame({"foundation": [True, True], "wall": [False, False], "roof": [True, False]})
        >>> blame_pending(pending).to_dict()
        {'foundation': 0, 'wall': 2, 'roof': 1}
    """
    return (~pending[PART_NAMES].astype(bool)).sum().rename_axis("part").rename("houses")


def pending_table(pending: Iterable[PendingHouse]) -> pd.DataFrame:
    """One row per pending house: `id`; `foundation`, `wall`, `roof`: it has come; `missing`, names joined by +."""
    found = list(pending)
    ids = pd.array([house.id for house in found], dtype="Int64")
    return _with_missing(ids, [[name in house.offsets for house in found] for name in PART_NAMES])


def evicted(rejects: pd.DataFrame) -> pd.DataFrame:
    """The houses that were given up, in the columns of `pending_table`: a part that was dropped never comes.

    A part that came only after its house was given up counts as come.

    Args:
        rejects: rows as `load(...).rejects`.

    Example:
        >>> rejects = pd.DataFrame({"reason": ["evicted", "evicted"], "partition": [0, 1], "id": [7, 7]})
        >>> evicted(rejects).to_dict("records")
        [{'id': 7, 'foundation': True, 'wall': True, 'roof': False, 'missing': 'roof'}]
    """
    given_up = rejects.loc[rejects["reason"] == "evicted", ["id", "partition"]].dropna()
    ids = pd.array(np.unique(given_up["id"].to_numpy(np.int64)), dtype="Int64")
    came = [ids.isin(given_up.loc[given_up["partition"] == part.partition, "id"]) for part in PARTS]
    return _with_missing(ids, came)


def _with_missing(ids: Any, came: list[Any]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {"id": ids} | {name: np.asarray(column, bool) for name, column in zip(PART_NAMES, came, strict=True)}
    )
    absent = sum((~frame[part.name]).to_numpy() * part.mask for part in PARTS)
    return frame.assign(missing=pd.Series([NAMES_BY_MASK[mask] for mask in absent], dtype="str"))


# --- figures ---


def plot_blame(houses: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Which part comes last, and by how much: per part the share of houses (%) that waited longer than x ms for it alone.

    Args:
        houses: rows as `load(...).houses`.
        ax: where to draw; without it on a new figure. The result is the whole figure.

    Example:
        >>> plot_blame(exp.houses()).axes[0].get_xlabel()
        'second part sent → third part sent (ms)'
    """
    ax = ax or new_axes()
    known = houses[["last_part", "last_by_ms"]].dropna()
    draw_known(ax, known, _draw_waits)
    ax.set(xlabel="second part sent → third part sent (ms)", ylabel="houses that waited longer (%)", ylim=(0, None))
    return figure_of(ax)


def plot_pending_blame(pending: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """How many of the houses lack each part: a bar per part, in houses.

    Args:
        pending: rows as `Results.pending()` or `evicted(...)`.
        ax: where to draw; without it on a new figure. The result is the whole figure.

    Example:
        >>> plot_pending_blame(exp.pending()).axes[0].get_xlabel()
        'houses that lack this part'
    """
    ax = ax or new_axes()
    lacking = blame_pending(pending)
    bars = ax.barh(PART_NAMES, lacking.to_numpy(), edgecolor="white", **BARS)
    ax.bar_label(bars, [f"{number:,}" for number in lacking], padding=4)
    ax.set(xlabel="houses that lack this part", xlim=(0, max(1, lacking.max()) * 1.1))
    count_on(ax.xaxis)
    ax.invert_yaxis()
    numbers = ", ".join(f"{name} {number:,}" for name, number in lacking.items())
    explain(ax, _missing_title(lacking, len(pending)), f"Bars of the houses that lack each part: {numbers}.")
    return figure_of(ax)


def _missing_title(lacking: "pd.Series[Any]", total: int) -> str:
    if not total:
        return "No house lacks a part"
    most = str(lacking.idxmax())
    if 2 * lacking[most] > total and (lacking == lacking[most]).sum() == 1:
        return f"The {most} is missing in {lacking[most]:,} of {total:,} houses that lack a part"
    return f"No part stands out: {_each(lacking.map('{:,}'.format), 'is missing')} of {total:,} houses that lack a part"


def _draw_waits(ax: Axes, known: pd.DataFrame) -> None:
    table = blame(known)
    for name, row in table[table["houses"] > 0].iterrows():
        waits_ms = np.sort(known.loc[known["last_part"] == name, "last_by_ms"].clip(lower=_LEAST_MS))
        chosen = _spread(len(waits_ms), _MOST_POINTS)
        at_ms, left = [_LEAST_MS, *waits_ms[chosen]], 100 * (len(waits_ms) - np.append(0, chosen)) / len(known)
        label = f"{name} last: {percent(row['share'])} of houses, median {in_ms(row['median_ms'])}"
        marks = _spread(len(left), _MARKS).tolist()
        ax.plot(at_ms, left, label=label, clip_on=False, markevery=marks, **line_of(str(name)))
    ax.set_xscale("log")
    ax.set_xlim(_LEAST_MS, max(_LEAST_TOP_MS, known["last_by_ms"].max() * 1.1))
    number_log_axis(ax.xaxis, *ax.get_xlim())
    add_legend(ax)
    waiting = ", ".join(f"{name} {percent(share)}" for name, share in table["waiting_share"].fillna(0).items())
    alt = f"Per part, the share of houses that waited longer than x ms for it alone. Shares of all waiting: {waiting}."
    explain(ax, _guilty_title(table), alt)


def _spread(length: int, most: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """At most so many of the indices of a sequence, evenly, with the first and the last."""
    return np.unique(np.linspace(0, length - 1, most, dtype=np.int64))


def _guilty_title(table: pd.DataFrame) -> str:
    total, most = table["houses"].sum(), table["waiting_share"].fillna(0).idxmax()
    guilty = table.loc[most]
    # Each part leaves once in a tick of its own: one that is later by less than that was unlucky, not slow.
    if guilty["waiting_share"] > 0.5 and guilty["median_ms"] > TICK_S * 1000:
        return (
            f"The {most} makes houses wait: it came last in {percent(guilty['share'])} of {total:,} houses,\n"
            f"by {in_ms(guilty['median_ms'])} in the median; {percent(guilty['waiting_share'])} of all the waiting was for it"
        )
    return f"No part stands out: {_each(table['share'].map(percent), 'came last')} of {total:,} houses"


def _each(values: "pd.Series[Any]", verb: str) -> str:
    """For example "foundation came last in 34%, wall in 37%, roof in 29%"."""
    first, *others = values.items()
    return ", ".join([f"{first[0]} {verb} in {first[1]}", *(f"{name} in {value}" for name, value in others)])
