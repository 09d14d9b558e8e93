"""What became of houses: cancelled in time or late, or lost and doubled by a consumer."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from houses.errors import HousesError
from houses.lab.analysis.figure import ACCENT, PURPLE, SKY_BLUE, YELLOW, count_on, explain, figure_of, new_axes
from houses.lab.analysis.frames import NAMES_BY_MASK, Loaded
from houses.records.message import FULL

HOUSES, STORNO_HOUSES, NO_FILE = "houses.jsonl", "storno_houses.jsonl", ""
_COLUMNS = ("file", "excluded", "late")
_COLOURS = {STORNO_HOUSES: SKY_BLUE, HOUSES: YELLOW, NO_FILE: "#FFFFFF"}
_LATE = "////"


def fates(data: Loaded, ids: Iterable[int]) -> pd.DataFrame:
    """One row per id, in this order: where the house is, and what its last line about a storno says.

    Columns: `id`; `file`, the one that holds its parts: houses.jsonl, storno_houses.jsonl or "", neither; `excluded`, names
    joined by +, "" without a storno; `late`: there is a late line about it in storno_houses.jsonl.

    Args:
        data: as `load(...)` or `Results.data()`.

    Example:
        >>> fates(exp.data(), [7]).to_dict("records")
        [{'id': 7, 'file': 'storno_houses.jsonl', 'excluded': 'foundation+wall+roof', 'late': False}]
    """
    table = pd.DataFrame({"id": pd.Series(list(ids), dtype="int64")})
    lines = data.stornos.set_index("id")[["excluded", "late"]].reindex(table["id"])
    is_house, is_storno = table["id"].isin(data.houses["id"]), table["id"].isin(data.stornos["id"])
    return table.assign(
        file=np.select([is_house, is_storno], [HOUSES, STORNO_HOUSES], NO_FILE),
        excluded=lines["excluded"].astype(object).where(is_storno.to_numpy(), "").to_numpy(),
        late=(lines["late"] == True).to_numpy(),  # noqa: E712  # NaN, where there is no line, is not late
    )


def plot_fates(cases: pd.DataFrame, rows: str, columns: str, ax: Axes | None = None) -> Figure:
    """A cell for each case, in the colour of the file that holds the house; in it stands what is excluded.

    Args:
        cases: a row per house: the columns `file`, `excluded` and `late` of `fates`, and those named by `rows` and
            `columns`, whose values stand beside and below the cells, in the order of their first appearance.
        ax: where to draw; without it on a new figure. The result is the whole figure.
    Raises:
        HousesError: a column is missing, or two cases share a cell.

    Example:
        >>> cases = fates(exp.data(), [7]).assign(when="before", way="all of it")
        >>> plot_fates(cases, "way", "when").axes[0].get_xlabel()
        'when'
    """
    if lacking := [name for name in (rows, columns, *_COLUMNS) if name not in cases]:
        raise HousesError(f"no column {lacking[0]!r} in the table of cases: it has {', '.join(map(str, cases))}")
    if (double := cases.duplicated([rows, columns])).any():
        raise HousesError(
            f"two cases for {cases.loc[double, [rows, columns]].iloc[0].tolist()}: give each its own cell"
        )
    ax = ax or new_axes()
    (down, row_names), (across, column_names) = pd.factorize(cases[rows]), pd.factorize(cases[columns])
    for x, y, (file, excluded, late) in zip(across, down, cases[list(_COLUMNS)].to_numpy(), strict=True):
        _draw_cell(ax, x, y, file, _told(file, excluded, late), late=late)
    ax.set_xticks(range(len(column_names)), column_names, parse_math=False)
    ax.set_yticks(range(len(row_names)), row_names, parse_math=False)
    ax.set_xlabel(columns, parse_math=False)
    ax.set_ylabel(rows, parse_math=False)
    ax.set(xlim=(-0.5, max(1, len(column_names)) - 0.5))
    ax.set_ylim(max(1, len(row_names)) - 0.5, -0.5)
    ax.tick_params(length=0)
    _add_legend(ax)
    explain(ax, _title(cases), _alt(cases, rows, columns))
    ax.spines[:].set_visible(False)
    return figure_of(ax)


def _draw_cell(ax: Axes, x: int, y: int, file: str, told: str, *, late: bool) -> None:
    colour = _COLOURS[file]
    style: dict[str, Any] = {"facecolor": colour, "hatch": _LATE if late else "", "edgecolor": "#666666"}
    ax.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, linewidth=0.5, **style))
    box = {"facecolor": colour, "edgecolor": "none", "pad": 1.5}
    ax.text(x, y, told, ha="center", va="center", fontsize=9, color="black", bbox=box)


def _told(file: str, excluded: str, late: bool) -> str:
    if not file:
        return "no line"
    what = {NAMES_BY_MASK[FULL]: "all", "": "nothing"}.get(excluded, excluded.replace("+", "\n"))
    return f"{what}\nlate" if late else what


def _add_legend(ax: Axes) -> None:
    labels = {STORNO_HOUSES: f"in {STORNO_HOUSES}", HOUSES: f"in {HOUSES}", NO_FILE: "no line"}
    boxes = [Patch(facecolor=_COLOURS[file], edgecolor="#666666", label=label) for file, label in labels.items()]
    boxes.append(Patch(facecolor="white", edgecolor="#666666", hatch=_LATE, label="a late line about it"))
    ax.legend(handles=boxes, frameon=False, fontsize=9, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.24))


def _title(cases: pd.DataFrame) -> str:
    if cases.empty:
        return "No house is cancelled"
    diverted, written = int((cases["file"] == STORNO_HOUSES).sum()), cases["file"] == HOUSES
    late = int((written & cases["late"].astype(bool)).sum())
    stay = "1 was written before: it stays" if late == 1 else f"{late} were written before: they stay"
    return (
        f"{diverted} of {len(cases)} houses were cancelled in time and went to {STORNO_HOUSES};\n"
        f"{stay} in {HOUSES}, with a late line"
    )


def _alt(cases: pd.DataFrame, rows: str, columns: str) -> str:
    cells = (
        f"{str(row[columns]).replace(chr(10), ' ')}, {row[rows]}: "
        f"{row['file'] or 'no line'}{', excluded ' + row['excluded'] if row['excluded'] else ''}"
        f"{', late' if row['late'] else ''}."
        for _, row in cases.iterrows()
    )
    return f"A cell for each case. {' '.join(cells)}"


_BARS: dict[str, dict[str, Any]] = {
    "lost": {"color": ACCENT, "hatch": ""},
    "twice": {"color": PURPLE, "hatch": "////"},
}
_BAR_WIDTH = 0.38


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
        bars = ax.barh(at + side * _BAR_WIDTH, table[column], _BAR_WIDTH, label=column, edgecolor="white", **style)
        ax.bar_label(bars, [f"{number:,} {column}" for number in table[column]], padding=4)
    ax.set_yticks(at, table.index.tolist(), parse_math=False)
    ax.set(xlabel="houses", xlim=(0, max(1, table[[*_BARS]].to_numpy().max(initial=0)) * 1.2))
    count_on(ax.xaxis)
    ax.invert_yaxis()
    explain(ax, _losses_title(table), "Two bars per consumer.")
    return figure_of(ax)


def _losses_title(table: pd.DataFrame) -> str:
    told = (
        f"{name}, {row['written']:,} written: {row['lost']:,} lost, {row['twice']:,} twice"
        for name, row in table.iterrows()
    )
    return "\n".join(told) or "No consumer to compare"
