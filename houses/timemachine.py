"""The time machine: a slider over the consumer's measurements, and its incomplete houses as they were at each of them."""

from html import escape
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]  # it ships no types
import pandas as pd

from houses.hindsight import moments, plot_pending_at, positions_of
from houses.metrics import describe_error
from houses.pending import PendingSet
from houses.results import Results

_CELL = '<td style="padding:0 24px 0 0;text-align:{};font-variant-numeric:tabular-nums">{}</td>'


def time_machine(exp: Results) -> "TimeMachine":
    """A slider over the lines of metrics.jsonl, for the end of a cell: which houses were incomplete then, and what they lacked.

    Each is rebuilt from the topic and the files, and compared with what the consumer reported. May be used while an
    experiment runs: "newest" goes to the last line there is.
    """
    return TimeMachine(exp)


class TimeMachine(widgets.VBox):  # type: ignore[misc]  # Any, as the library ships no types
    """See `time_machine`."""

    def __init__(self, exp: Results) -> None:
        """Shows the moment with the most incomplete houses; changes nothing."""
        self._exp = exp
        self._rows = pd.DataFrame()
        # Each move is answered once, when the slider is let go: a moment takes some tenths of a second to rebuild.
        self._line = widgets.IntSlider(description="line", continuous_update=False, layout={"width": "640px"})
        self._newest = widgets.Button(description="newest", icon="step-forward", layout={"width": "100px"})
        self._numbers, self._picture, self._error = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._line.observe(lambda _: self._guarded(self._show), "value")
        self._newest.on_click(lambda _: self._guarded(self._go_to_newest))
        controls = widgets.HBox([self._line, self._newest])
        super().__init__([controls, self._error, self._numbers, self._picture])
        self._guarded(self._begin)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The widget, and for pages without a kernel (saved HTML) a sentence instead of a blank."""
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        name = escape(self._exp.folder.name)
        return bundle | {
            "text/html": f"<p><em>Time machine of experiment {name}: run this cell in JupyterLab to use it.</em></p>"
        }

    def _guarded(self, work: Any) -> None:
        """What a handler raises would be seen only in the log console: it is shown above the picture."""
        try:
            work()
            self._error.value = ""
        except Exception as error:  # noqa: BLE001  # whatever it is, the page shows it
            self._error.value = f"<b>{escape(describe_error(error))}</b>"

    def _begin(self) -> None:
        self._load()
        self._go_to(int(self._rows["pending"].argmax()) if len(self._rows) else 0)

    def _go_to_newest(self) -> None:
        self._load()
        self._go_to(len(self._rows) - 1)

    def _load(self) -> None:
        self._rows = moments(self._exp)
        self._line.max = max(0, len(self._rows) - 1)

    def _go_to(self, line: int) -> None:
        if self._line.value == line:
            self._show()
        else:
            self._line.value = line  # its observer shows it

    def _show(self) -> None:
        if self._rows.empty:
            self._numbers.value = "The consumer has not read yet: run the experiment, then press <i>newest</i>."
            return
        row = self._rows.iloc[self._line.value]
        rebuilt = self._exp.pending_at(positions_of(row))
        self._numbers.value = _numbers(row, rebuilt)
        # As HTML: the Image of ipywidgets has no alternative text.
        self._picture.value = plot_pending_at(rebuilt)._repr_mimebundle_()[0]["text/html"]


def _numbers(row: "pd.Series[Any]", rebuilt: PendingSet) -> str:
    """Reported and rebuilt beside each other, and whether they are the same."""
    rows = [
        ("", "incomplete houses", "sum of their ids"),
        ("reported by the consumer then", row["pending"], row["pending_id_sum"]),
        ("rebuilt from topic and files now", rebuilt.count, rebuilt.id_sum),
    ]
    lines = "".join(f"<tr>{_cells(*cells)}</tr>" for cells in rows)
    when = f"{row['seconds']:.1f} s after the first line, consumer process {row['pid']} {row['state']}"
    return f"<div>{escape(when)}. Reported and rebuilt: <b>{_verdict(row, rebuilt)}</b></div><table>{lines}</table>"


def _cells(name: str, *values: Any) -> str:
    texts = [value if isinstance(value, str) else f"{value:,}" for value in values]
    return _CELL.format("left", escape(name)) + "".join(_CELL.format("right", escape(text)) for text in texts)


def _verdict(row: "pd.Series[Any]", rebuilt: PendingSet) -> str:
    if (row["pending"], row["pending_id_sum"]) == (rebuilt.count, rebuilt.id_sum):
        return "the same"
    if rebuilt.uncertain:
        return f"not certain: {len(rebuilt.uncertain):,} houses were given up about then"
    return "different: a restarted consumer has not yet read again all that it knew"
