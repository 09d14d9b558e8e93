"""The frame of every figure: size, colours, a title that states the finding, alt text, its files; and tables beside it."""

import base64
import io
import math
from collections.abc import Callable, Sized
from html import escape
from pathlib import Path
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from pandas.api.types import is_object_dtype
from pandas.io.formats.style import Styler

from houses.system.text import visible

COLOURS = {"foundation": "#0072B2", "wall": "#E69F00", "roof": "#009E73"}
"""Okabe-Ito: blue, orange and bluish green stay apart for colour-blind readers; markers and hatches tell them apart in print."""
ACCENT = "#D55E00"
"""Okabe-Ito vermilion, for the one thing that the title speaks of."""
BLACK, SKY_BLUE, PURPLE, YELLOW = "#000000", "#56B4E9", "#CC79A7", "#F0E442"
"""The other four of Okabe-Ito, which stand for no part."""
HATCHES = {"foundation": "", "wall": "////", "roof": "...."}
MARKERS = {"foundation": "o", "wall": "^", "roof": "s"}
DASHES = {"foundation": "-", "wall": "--", "roof": ":"}
BARS: dict[str, Any] = {"color": list(COLOURS.values()), "hatch": list(HATCHES.values())}
"""How bars of the three parts are drawn."""
NO_HOUSE, NOT_READ = "No house is complete yet", "The consumer has not read yet"
"""Titles of figures that have nothing to show."""
_Known = TypeVar("_Known", bound=Sized)
_SHOWN_DPI = 192
_PAGE_DPI = 96
_STYLE = "max-width:100%;height:auto;border-radius:8px"
"""A still picture cannot know whether the page is light or dark, nor whether it will be printed: it is a white card on any of them."""
_SUBS = ((0.35, ()), (1.0, (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)), (3.0, (1.0, 2.0, 5.0)))
"""Up to so many decades these digits get a number on a logarithmic axis; none: as on a linear one. Beyond, powers of ten."""
_ALT: "WeakKeyDictionary[Axes, str]" = WeakKeyDictionary()


class Picture(Figure):
    """A figure that a notebook shows when it is the value of a cell, with its alt text, and that needs no closing."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return mime_bundle(self)


def mime_bundle(figure: Figure) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata by MIME type, as IPython shows them."""
    # The picture as HTML too: neither JupyterLab nor nbconvert gives an image/png its alt text.
    png, alt = _png(figure), alt_text(figure)
    width, height = (round(inches * _PAGE_DPI) for inches in figure.get_size_inches())
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    size = f'width="{width}" height="{height}"'
    html = f'<img src="{source}" alt="{escape(alt)}" {size} style="{_STYLE}">'
    metadata = {"image/png": {"alt": alt, "width": width, "height": height}}
    return {"text/html": html, "image/png": png, "text/plain": alt}, metadata


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_SHOWN_DPI)
    return buffer.getvalue()


def alt_text(figure: Figure) -> str:
    """What the figure shows, in words."""
    return " ".join(_ALT[ax] for ax in figure.axes if ax in _ALT)


def save_figure(figure: Figure, folder: Path | str, name: str) -> list[Path]:
    """Save as NAME.png and NAME.svg, with the alt text inside; returns the paths.

    Example:
        >>> [path.name for path in save_figure(plot_latency(exp.houses()), exp.folder, "latency")]
        ['latency.png', 'latency.svg']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    alt = alt_text(figure)
    figure.savefig(png, dpi=_SHOWN_DPI, metadata={"Description": alt})
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Description": alt, "Title": name})
    # XML holds no control characters, which labels from anywhere may.
    svg.write_text(visible(written.getvalue(), keep="\n\t"), encoding="utf-8")
    return [png, svg]


def new_axes() -> Axes:
    """Where a plot function draws that was given no axes: a picture of its own."""
    return new_panels(1)[0]


def new_panels(count: int) -> list[Axes]:
    """So many axes in a new picture, one above the other, which share what is on their x axis."""
    # No pyplot: its figures stay in memory until they are closed, and a notebook would show this one twice.
    picture = Picture(figsize=(8, 2 + 2 * count), layout="constrained", facecolor="white")
    return list(picture.subplots(count, sharex=True, squeeze=False)[:, 0])


def figure_of(ax: Axes) -> Figure:
    """The whole figure that holds the axes: what every plot function returns, so that a cell shows all of it."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # only axes that were removed have none
    return figure


def number_log_axis(axis: Axis, low: float, high: float) -> None:
    """Plain numbers on a logarithmic axis that runs from `low` to `high`: about five to nine, and no powers of ten."""
    decades = math.log10(high / low)
    subs = next((subs for most, subs in _SUBS if decades < most), (1.0,))
    axis.set_major_locator(LogLocator(subs=subs, numticks=15) if subs else MaxNLocator(6))
    axis.set_major_formatter("{x:,.10g}")
    axis.set_minor_formatter(NullFormatter())


def count_on(axis: Axis, nbins: int | Literal["auto"] = 10) -> None:
    """Whole numbers on an axis of things that are counted."""
    axis.set_major_locator(MaxNLocator(nbins, integer=True))
    axis.set_major_formatter("{x:,.0f}")


def add_legend(ax: Axes, **style: Any) -> None:
    """The legend of a figure; a label may hold any sign, also $."""
    for text in ax.legend(**{"frameon": False, "fontsize": 9} | style).get_texts():
        text.set_parse_math(False)


def line_of(part: str) -> dict[str, Any]:
    """How a line of a part is drawn."""
    return {"color": COLOURS[part], "linestyle": DASHES[part], "marker": MARKERS[part]}


def draw_known(ax: Axes, known: _Known, draw: Callable[[Axes, _Known], None], nothing: str = NO_HOUSE) -> None:
    """Draw what is known; without any of it the title says `nothing`."""
    if len(known):
        draw(ax, known)
    else:
        explain(ax, nothing)


def explain(ax: Axes, title: str, more: str = "") -> None:
    """Title and alt text; the title states the finding."""
    ax.set_title(title, loc="left", fontsize=11, parse_math=False)  # a name may hold any sign, also $
    ax.spines[["top", "right"]].set_visible(False)
    _ALT[ax] = f"{title.replace(chr(10), ' ')}. {more}".strip()


def in_ms(value: float) -> str:
    """A duration in ms as people write it, in three digits.

    Example:
        >>> in_ms(4.256), in_ms(999.7), in_ms(61_000)
        ('4.26 ms', '1 s', '61 s')
    """
    return f"{_three_digits(value)} ms" if round(value) < 1000 else f"{_three_digits(value / 1000)} s"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share from 0 to 1 as people write it: all of it is 100%, and nothing less is.

    Example:
        >>> percent(0.9996), percent(0.25), percent(0.0001)
        ('over 99%', '25%', 'under 1%')
    """
    if 0.995 <= share < 1:
        return "over 99%"
    return "under 1%" if 0 < share < 0.005 else f"{share:.0%}"


def as_table(frame: pd.DataFrame, rows: int = 10) -> Styler:
    """The first rows, for the end of a cell. Text of messages is escaped.

    Example:
        >>> as_table(exp.houses()[["id", "completed_at"]], rows=5).to_html().count("<tr>")  # and a heading
        6
    """
    shown = frame.head(rows).copy()
    # pandas escapes text, but not bytes or lists, which messages may fill
    for name in filter(lambda name: is_object_dtype(shown[name]), shown.columns):
        shown[name] = shown[name].map(str, na_action="ignore")
    times = dict.fromkeys(shown.select_dtypes(["datetimetz"]), "{:%H:%M:%S.%f}")
    decimals = dict.fromkeys(shown.select_dtypes("float"), "{:,.1f}")
    styled = shown.style.hide(axis="index").format(times | decimals, na_rep="", escape="html")
    return styled.set_table_styles([{"selector": "td, th", "props": "text-align: left; white-space: nowrap"}])
