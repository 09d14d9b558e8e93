"""From output files to findings: tables, percentiles, and figures whose titles say what they show."""

import base64
import io
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, overload
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from houses.frames import Loaded, load, load_metrics

__all__ = [
    "COLOURS",
    "Loaded",
    "Picture",
    "alt_text",
    "load",
    "load_metrics",
    "plot_latency",
    "plot_latency_over_time",
    "save_figure",
    "summary",
]

COLOURS = {"foundation": "#0072B2", "wall": "#E69F00", "roof": "#009E73"}
"""Okabe-Ito: blue, orange and bluish green stay apart for colour-blind readers; markers and hatches tell them apart in print."""
_ACCENT = "#D55E00"
_HATCHES = {"foundation": "", "wall": "////", "roof": "...."}
_MARKERS = {"foundation": "o", "wall": "^", "roof": "s"}
_LEAST_MS = 0.1
"""Lower end of a logarithmic axis; also where latencies go that differing clocks make negative."""
_MOST_POINTS = 5_000
_SHOWN_DPI = 192
_PAGE_DPI = 96
_ALT: "WeakKeyDictionary[Axes, str]" = WeakKeyDictionary()


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


class Picture(Figure):
    """A figure that a notebook shows when it is the value of a cell, with its alt text, and that needs no closing."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        # The picture as HTML too: neither JupyterLab nor nbconvert gives an image/png its alt text.
        png, alt = self._png(), alt_text(self)
        width, height = (round(inches * _PAGE_DPI) for inches in self.get_size_inches())
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        html = f'<img src="{source}" alt="{escape(alt)}" width="{width}" height="{height}" style="max-width:100%;height:auto">'
        metadata = {"image/png": {"alt": alt, "width": width, "height": height}}
        return {"text/html": html, "image/png": png, "text/plain": alt}, metadata

    def _png(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=_SHOWN_DPI)
        return buffer.getvalue()


def alt_text(figure: Figure) -> str:
    """What the figure shows, in words."""
    return " ".join(_ALT[ax] for ax in figure.axes if ax in _ALT)


def save_figure(figure: Figure, folder: Path | str, name: str) -> list[Path]:
    """Save as NAME.png and NAME.svg, with the alt text inside; returns the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    alt = alt_text(figure)
    figure.savefig(png, dpi=_SHOWN_DPI, metadata={"Description": alt})
    figure.savefig(svg, metadata={"Description": alt, "Title": name})
    return [png, svg]


@overload
def plot_latency(houses: pd.DataFrame, ax: None = None) -> Picture: ...
@overload
def plot_latency(houses: pd.DataFrame, ax: Axes) -> Axes: ...
def plot_latency(houses: pd.DataFrame, ax: Axes | None = None) -> Picture | Axes:
    """How many houses took how long from last part sent to completed (ms, logarithmic), by the part that was sent last.

    Args:
        houses: rows as `load(...).houses`; latencies in ms.
        ax: where to draw; without it the result is a new figure.
    """
    picture, ax = _axes(ax)
    known = houses[["latency_ms", "last_part"]].dropna()
    if known.empty:
        _explain(ax, "No house is complete yet")
    else:
        _draw_histogram(ax, known)
    ax.set(xlabel="last part sent → house complete (ms)", ylabel="houses")
    return picture or ax


@overload
def plot_latency_over_time(houses: pd.DataFrame, ax: None = None) -> Picture: ...
@overload
def plot_latency_over_time(houses: pd.DataFrame, ax: Axes) -> Axes: ...
def plot_latency_over_time(houses: pd.DataFrame, ax: Axes | None = None) -> Picture | Axes:
    """The latency of each house (ms, logarithmic) at the time when its last part was sent (s): a stopped consumer is a wedge.

    Args: as `plot_latency`. Of more than 5,000 houses every n-th is drawn, and the slowest.
    """
    picture, ax = _axes(ax)
    known = houses[["completed_at", "latency_ms", "last_part"]].dropna()
    if known.empty:
        _explain(ax, "No house is complete yet")
    else:
        _draw_points(ax, known)
    ax.set(xlabel="time of sending (s)", ylabel="last part sent → house complete (ms)")
    return picture or ax


def _axes(ax: Axes | None) -> tuple[Picture | None, Axes]:
    if ax is not None:
        return None, ax
    # No pyplot: its figures stay in memory until they are closed, and a notebook would show this one twice.
    picture = Picture(figsize=(8, 4), layout="constrained", facecolor="white")
    return picture, picture.subplots()


def _explain(ax: Axes, title: str, more: str = "") -> None:
    """Title and alt text; the title states the finding."""
    ax.set_title(title, loc="left", fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)
    _ALT[ax] = f"{title.replace(chr(10), ' ')}. {more}".strip()


def _draw_histogram(ax: Axes, known: pd.DataFrame) -> None:
    values = known["latency_ms"].clip(lower=_LEAST_MS)
    p50, p99, top = np.percentile(values, (50, 99, 100))
    bins = np.geomspace(values.min() * 0.95, top * 1.05, 50)
    groups = {name: values[known["last_part"] == name] for name in COLOURS}
    labels = [f"{name} last ({len(group) / len(values):.0%})" for name, group in groups.items()]
    style: dict[str, Any] = {"color": list(COLOURS.values()), "hatch": list(_HATCHES.values())}
    ax.hist(list(groups.values()), bins.tolist(), histtype="stepfilled", stacked=True, label=labels, **style)
    for value, name, dashes in ((p50, "p50", "--"), (p99, "p99", ":")):
        ax.axvline(value, color="black", linestyle=dashes, label=f"{name} = {_ms(value)}")
    ax.legend(frameon=False, fontsize=9)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    title = f"Half of {len(values):,} houses were complete {_ms(p50)} after their last part was sent,\n99 % after {_ms(p99)}"
    alt = f"Histogram of the latency, stacked by the part that was sent last: {', '.join(labels)}. The slowest: {_ms(top)}."
    _explain(ax, title, alt)


def _draw_points(ax: Axes, known: pd.DataFrame) -> None:
    latency_ms = known["latency_ms"].clip(lower=_LEAST_MS)
    sent = known["completed_at"] - pd.to_timedelta(known["latency_ms"], unit="ms")
    seconds = (sent - sent.min()).dt.total_seconds()
    slowest = latency_ms.idxmax()
    for name, rows in _thinned(known):
        style: dict[str, Any] = {"markersize": 2.5, "alpha": 0.6, "color": COLOURS[name]}
        ax.plot(seconds[rows], latency_ms[rows], _MARKERS[name], label=f"{name} last", rasterized=True, **style)
    at_s, worst = seconds[slowest], _ms(latency_ms[slowest])
    ax.plot(at_s, latency_ms[slowest], "o", markersize=7, fillstyle="none", color=_ACCENT, label="the slowest")
    ax.legend(frameon=False, fontsize=9, markerscale=1.5)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    title = (
        f"The slowest of {len(known):,} houses took {worst}:\nits last part was sent {at_s:.1f} s after the first house"
    )
    median = _ms(latency_ms.median())
    _explain(ax, title, f"One point a house over {seconds.max():.0f} s, latency against time; the median is {median}.")


def _thinned(known: pd.DataFrame) -> Iterator[tuple[str, "pd.Index[Any]"]]:
    chosen = known["last_part"].iloc[:: -(-len(known) // _MOST_POINTS)]
    for name in _MARKERS:
        yield name, chosen.index[chosen == name]


def _ms(value: float) -> str:
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"
