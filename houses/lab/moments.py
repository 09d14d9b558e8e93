"""What the consumer knew at a moment: its pending houses as they were, and a check of many moments."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from pyroaring import BitMap64

from houses.config.types import check_limits
from houses.lab.analysis.figure import ACCENT, COLOURS, NOT_READ, explain, figure_of, new_axes
from houses.lab.experiment import Experiment
from houses.lab.results import Results
from houses.records.message import PART_NAMES
from houses.records.metrics import STARTING
from houses.verify.pending import PendingSet

_BAR_HEIGHT = 0.55


# --- moments ---


def moments(exp: Experiment | Results) -> pd.DataFrame:
    """The lines of metrics.jsonl in which a consumer knew where it stands, one row each, with `seconds` since the first.

    Columns: as `load_metrics`.

    Example:
        >>> moments(exp)["seconds"].is_monotonic_increasing
        True
    """
    metrics = exp.metrics()
    if metrics.empty:
        return metrics
    known = metrics[metrics["state"] != STARTING]
    return known.assign(seconds=(known["time"] - known["time"].min()).dt.total_seconds()).reset_index(drop=True)


def positions_of(row: "pd.Series[Any]") -> tuple[int, int, int]:
    """The next offset per partition in a row of `moments`, for `Results.pending_at`."""
    return int(row["foundation_position"]), int(row["wall_position"]), int(row["roof_position"])


def check_moments(exp: Experiment | Results, count: int = 20) -> pd.DataFrame:
    """Rebuild the pending houses of so many moments, evenly spread, and put them beside what the consumer reported.

    Columns: `seconds`; `pending` and `rebuilt` (houses), `pending_id_sum` and `rebuilt_id_sum`; `uncertain`, houses that
    were given up about then. While a restarted consumer reads again what is written already, the two differ.

    Example:
        >>> checked = check_moments(exp, 3)
        >>> len(checked), bool((checked["pending"].iloc[-1] == checked["rebuilt"].iloc[-1]))
        (3, True)
    """
    check_limits("count", count, at_least=1)
    rows = moments(exp)
    chosen = np.unique(np.linspace(0, len(rows) - 1, count if len(rows) else 0, dtype=np.int64))
    checked = rows.reindex(columns=["seconds", "pending", "pending_id_sum"]).iloc[chosen].reset_index(drop=True)
    rebuilt = [exp.pending_at(positions_of(rows.iloc[at])) for at in chosen]
    checked.insert(2, "rebuilt", [pending.count for pending in rebuilt])
    return checked.assign(
        rebuilt_id_sum=[pending.id_sum for pending in rebuilt],
        uncertain=[len(pending.uncertain) for pending in rebuilt],
    )


# --- figures ---


def plot_moments(exp: Experiment | Results, checked: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Pending houses over time (s): as the consumer reported them, and as they were rebuilt.

    Args:
        checked: rows as `check_moments(exp)`.
        ax: where to draw; without it on a new figure. The result is the whole figure.

    Example:
        >>> plot_moments(exp, check_moments(exp, 3)).axes[0].get_xlabel()
        "time since the consumer's first measurement (s)"
    """
    ax = ax or new_axes()
    rows = moments(exp)
    if rows.empty:
        explain(ax, NOT_READ)
    else:
        _draw_moments(ax, rows, checked)
    ax.set(xlabel="time since the consumer's first measurement (s)", ylabel="pending houses", ylim=(0, None))
    return figure_of(ax)


def _draw_moments(ax: Axes, rows: pd.DataFrame, checked: pd.DataFrame) -> None:
    ax.plot(rows["seconds"], rows["pending"], "-", color="black", linewidth=1, label="reported by the consumer then")
    style: dict[str, Any] = {"color": ACCENT, "fillstyle": "none", "markersize": 8, "clip_on": False}
    ax.plot(checked["seconds"], checked["rebuilt"], "o", label="rebuilt from topic and files now", **style)
    ax.legend(frameon=False, fontsize=9)
    same = (checked["pending"] == checked["rebuilt"]) & (checked["pending_id_sum"] == checked["rebuilt_id_sum"])
    title = f"In {same.sum()} of {len(same)} moments, number and ids are those that the consumer reported"
    explain(ax, title, f"At most {rows['pending'].max():,} houses were pending.")


def plot_pending_at(pending: PendingSet, ax: Axes | None = None) -> Figure:
    """The pending houses of a moment by id: a row per part, filled where it had come, empty where it was missing.

    Args:
        pending: as `Results.pending_at(positions)`.
        ax: where to draw; without it on a new figure. The result is the whole figure.

    Example:
        >>> plot_pending_at(exp.pending_at(exp.latest()["position"])).axes[0].get_xlabel()
        'house id'
    """
    ax = ax or new_axes()
    labels = []
    for at, (name, came) in enumerate(zip(PART_NAMES, pending.came, strict=True)):
        row = (at - _BAR_HEIGHT / 2, _BAR_HEIGHT)
        ax.broken_barh(_stretches(pending.ids - came), row, **_MISSING)
        ax.broken_barh(_stretches(came), row, facecolor=COLOURS[name], edgecolor=COLOURS[name], linewidth=1)
        labels.append(f"{name}\n{len(came):,} of {pending.count:,}")
    ax.set_yticks(range(len(PART_NAMES)), labels)
    ax.set(xlabel="house id", ylim=(len(PART_NAMES) - 0.5, -0.5))
    if pending.ids:
        ax.set_xlim(pending.ids.min() - 1, pending.ids.max() + 1)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _add_legend(ax)
    else:
        ax.set_xticks([])
    ax.xaxis.set_major_formatter("{x:.0f}")
    explain(ax, _title(pending), f"A row per part. It had come: {', '.join(labels)}.".replace("\n", " "))
    return figure_of(ax)


_MISSING: dict[str, Any] = {"facecolor": "white", "edgecolor": "#999999", "linestyle": ":", "linewidth": 1}


def _add_legend(ax: Axes) -> None:
    signs = {"had come": ("#555555", "#555555"), "missing": ("white", "#999999")}  # face and edge
    handles = [
        Line2D([], [], linestyle="", marker="s", markersize=8, markerfacecolor=face, markeredgecolor=edge, label=name)
        for name, (face, edge) in signs.items()
    ]
    ax.legend(handles=handles, frameon=False, fontsize=9, ncols=2, loc="upper right", bbox_to_anchor=(1, -0.08))


def _stretches(ids: BitMap64) -> list[tuple[float, float]]:
    """Begin and width of each row of consecutive ids, for `broken_barh`."""
    numbers = np.array(list(ids), np.int64)
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1) if len(numbers) else []
    return [(float(group[0]) - 0.5, float(len(group))) for group in groups]


def _title(pending: PendingSet) -> str:
    where = "at offsets " + " / ".join(f"{position:,}" for position in pending.positions)
    if not pending.count:
        return f"No house was pending {where}"
    houses = "1 house was" if pending.count == 1 else f"{pending.count:,} houses were"
    lacking = {name: pending.count - len(came) for name, came in zip(PART_NAMES, pending.came, strict=True)}
    told = ", ".join(f"{number:,} lacked the {name}" for name, number in lacking.items() if number)
    return f"{houses} pending {where}:\n{told}"
