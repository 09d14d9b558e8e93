"""What tests of figures share: their words, and that they are whole."""

from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from houses.lab.analysis.figure import Picture, alt_text


def title_of(picture: Figure, panel: int = 0) -> str:
    """The title, which states the finding."""
    return picture.axes[panel].get_title(loc="left")


def assert_whole(picture: Any) -> None:
    """It can be drawn, its words come with it, every panel has labels, and pyplot knows nothing of it."""
    assert isinstance(picture, Picture)
    data, _ = picture._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    for panel, ax in enumerate(picture.axes):
        assert title_of(picture, panel).replace("\n", " ") in alt_text(picture)
        assert len(title_of(picture, panel).split("\n")) <= 2
        assert ax.get_ylabel() or [label.get_text() for label in ax.get_yticklabels()]
    assert picture.axes[-1].get_xlabel()
    assert pyplot.get_fignums() == []


def legend_of(ax: Axes) -> list[str]:
    """What the legend says, line by line."""
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def points_of(line: Line2D) -> tuple[list[float], list[float]]:
    """Where a line goes, in the units of its axes."""
    return np.asarray(line.get_xdata(), float).tolist(), np.asarray(line.get_ydata(), float).tolist()
