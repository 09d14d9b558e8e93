"""The time machine: a slider over the consumer's measurements, and its pending houses as they were at each of them."""

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]  # it ships no types
import pandas as pd

from houses.lab.analysis.figure import mime_bundle
from houses.lab.background import Background
from houses.lab.experiment import Experiment
from houses.lab.moments import moments, plot_pending_at, positions_of
from houses.lab.results import Results
from houses.lab.widgets.controls import Controls
from houses.verify.pending import PendingSet

_CELL = '<td style="padding:0 24px 0 0;text-align:{};font-variant-numeric:tabular-nums">{}</td>'


def time_machine(exp: Experiment | Results) -> "TimeMachine":
    """A slider over the lines of metrics.jsonl, for the end of a cell: which houses were pending then, and what they lacked.

    Each is rebuilt from the topic and the files, and compared with what the consumer reported. May be used while an
    experiment runs: "newest" goes to the last line there is.
    """
    return TimeMachine(exp)


class TimeMachine(Controls):
    """See `time_machine`.

    A moment takes some tenths of a second to rebuild, and ten seconds to fail without Kafka: too long for the one
    thread in which a page's widgets are served. So it is done in another, which lives only while there is something to do.
    """

    _title = "Time machine"

    def __init__(self, exp: Experiment | Results) -> None:
        """Shows the moment with the most pending houses; changes nothing."""
        self._exp = exp
        self._rows = pd.DataFrame()
        self._work = Background()
        # Each move is answered once, when the slider is let go.
        self._line = widgets.IntSlider(description="line", continuous_update=False, layout={"width": "640px"})
        self._newest = widgets.Button(description="newest", icon="step-forward", layout={"width": "100px"})
        self._numbers, self._picture, self._error = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._doing = widgets.Label()
        self._on_change(self._line, lambda _: self._soon(self._show))
        self._newest.on_click(lambda _: self._soon(self._go_to_newest))
        controls = widgets.HBox([self._line, self._newest, self._doing])
        super().__init__([controls, self._error, self._numbers, self._picture])
        self._guarded(self._begin)

    def _complain(self, text: str) -> None:
        self._error.value = f"<b>{escape(text)}</b>" if text else ""

    def _soon(self, work: Callable[[], None]) -> None:
        """Do it beside the caller; what was asked for before and has not begun is of no use any more."""
        self._work.drop_queued()
        self._work.submit("rebuilding", lambda: self._visibly(work))

    def _visibly(self, work: Callable[[], None]) -> None:
        self._doing.value = "rebuilding …"
        self._guarded(work)
        self._doing.value = ""

    def _begin(self) -> None:
        self._load(lambda rows: rows["pending"].argmax())
        self._soon(self._show)

    def _go_to_newest(self) -> None:
        self._load(lambda rows: len(rows) - 1)
        self._show()

    def _load(self, line_of: Callable[[pd.DataFrame], Any]) -> None:
        """Read what there is, and move to one of its lines."""
        self._rows = moments(self._exp)
        with self._as_program():
            self._line.max = max(0, len(self._rows) - 1)
            self._line.value = int(line_of(self._rows)) if len(self._rows) else 0

    def _show(self) -> None:
        if self._rows.empty:
            self._numbers.value = "The consumer has not read yet: run the experiment, then press <i>newest</i>."
            return
        row = self._rows.iloc[self._line.value]
        rebuilt = self._exp.pending_at(positions_of(row))
        self._numbers.value = _numbers(row, rebuilt)
        # As HTML: the Image of ipywidgets has no alternative text.
        self._picture.value = mime_bundle(plot_pending_at(rebuilt))[0]["text/html"]


def _numbers(row: "pd.Series[Any]", rebuilt: PendingSet) -> str:
    """Reported and rebuilt beside each other, and whether they are the same."""
    rows = [
        ("", "pending houses", "sum of their ids"),
        ("reported by the consumer then", row["pending"], row["pending_id_sum"]),
        ("rebuilt from topic and files now", rebuilt.count, rebuilt.id_sum),
    ]
    lines = ""
    for name, *values in rows:
        texts = (escape(value if isinstance(value, str) else f"{value:,}") for value in values)
        lines += f"<tr>{_CELL.format('left', name)}{''.join(_CELL.format('right', text) for text in texts)}</tr>"
    when = f"{row['seconds']:.1f} s after the first line, consumer process {row['pid']} {row['state']}"
    return f"<div>{escape(when)}. Reported and rebuilt: <b>{_verdict(row, rebuilt)}</b></div><table>{lines}</table>"


def _verdict(row: "pd.Series[Any]", rebuilt: PendingSet) -> str:
    if (row["pending"], row["pending_id_sum"]) == (rebuilt.count, rebuilt.id_sum):
        return "the same"
    if rebuilt.uncertain:
        return f"not certain: {len(rebuilt.uncertain):,} houses were given up about then"
    return "different: a restarted consumer has not yet read again all that it knew"
