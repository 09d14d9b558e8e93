"""The live part of the panel: a small page element that asks for each frame; the kernel answers, and owns no thread."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget

from houses.errors import describe_error

LOG = logging.getLogger(__name__)
_HERE = Path(__file__).parent


class LiveChart(anywidget.AnyWidget):
    """Status, counters and the last minute, ten times a second while a page shows it.

    Deleting a cell's output tells the kernel nothing, so nothing may push: a page that is gone asks no more.
    """

    _esm = _HERE / "chart.js"
    _css = _HERE / "chart.css"

    def __init__(self, look: Callable[[int], Mapping[str, Any]]) -> None:
        """`look` is `Dashboard.look`: what there is to show, with only the points that the page has not got yet."""
        super().__init__()
        self._look = look
        self.on_msg(self._answer)

    def _answer(self, _: "LiveChart", question: Mapping[str, Any], __: Any) -> None:
        """One frame. The name of the asking view goes back with it, as an answer reaches every view of this widget."""
        try:
            frame = self._look(int(question["newest_ms"]))
        except Exception as error:  # a bad frame must not end the asking; the log console shows all of it
            LOG.exception("no frame")
            frame = {"error": describe_error(error)}
        self.send({"view": question.get("view"), **frame})
