"""The panel: widgets over the functions that scripts call. Handlers return at once; the page asks for what it shows."""

import time
from collections.abc import Callable
from functools import partial
from itertools import chain, product
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]  # it ships no types

from houses.errors import ConfigError
from houses.lab.experiment import Experiment
from houses.lab.widgets.chart import LiveChart
from houses.lab.widgets.controls import Controls
from houses.lab.widgets.dashboard import Dashboard
from houses.producer.storno import checked_interval_s
from houses.records.message import MAX_ID_DIGITS, PARTS, parse_house_id

_SLIDER_TOP_HZ = 5_000
_SURE_S = 5.0
_NAMES = [part.name for part in PARTS]
_WHOLE = "whole house"
_FAULTS = {"drop": "drop (%)", "duplicate": "duplicate (%)", "malformed": "malformed (%)", "delay_ms": "delay (ms)"}
_SCALE = {"drop": 100.0, "duplicate": 100.0, "malformed": 100.0, "delay_ms": 1.0}
"""Shares are shown in per cent."""
_COLUMNS = "74px minmax(160px, 1fr) 82px repeat(4, 114px)"
"""Sliders take what is left. At least 160 pixels are, beside the file browser in a window of 1280."""
_MOST_WIDE = "900px"
"""As the chart below."""


def panel(exp: Experiment) -> "Panel":
    """Controls and a live view of an experiment, for the end of a cell.

    It works beside a running cell, more than one may show the same experiment, and it ends with its page.
    """
    return Panel(exp)


class Panel(Controls):
    """See `panel`."""

    _exp: Experiment
    _title = "Panel"

    def __init__(self, exp: Experiment) -> None:
        """Shows the experiment as it is; changes nothing."""
        self._exp = exp
        self._dashboard = Dashboard(exp)
        self._sure_until_s = 0.0
        self._start = self._button("Start", "play", "success", partial(exp.background.submit, "starting", exp.start))
        self._stop = self._button("Stop", "stop", "warning", partial(exp.background.submit, "stopping", exp.stop))
        self._reset = self._button("Reset", "trash", "", self._on_reset)
        self._all = self._rate_slider(None), self._rate_text()
        # Not BoundedFloatText, here and elsewhere: it makes another value of one that is not allowed, without a word.
        self._rates = {name: (self._rate_slider(name), self._box(10, partial(self._on_rate, name))) for name in _NAMES}
        keys = product(_NAMES, _FAULTS)
        self._faults = {(name, kind): self._box(1, partial(self._on_fault, name, kind)) for name, kind in keys}
        self._storno_id = widgets.Text(placeholder="a recent one", layout={"width": "120px"})
        self._storno_part = widgets.Dropdown(options=[_WHOLE, *_NAMES], layout={"width": "120px"})
        self._storno_once = self._button("Storno", "ban", "danger", self._on_storno)
        self._storno_once.layout.width = "96px"
        self._cancelled = ""
        self._storno_said = _label("")
        every_s = widgets.FloatText(value=5.0, layout={"width": "70px"})
        self._storno_every_s = self._on_change(every_s, lambda _: self._on_interval())
        again = widgets.ToggleButton(description="Repeat", icon="repeat", layout={"width": "96px"})
        self._storno_again = self._on_change(again, lambda _: self._on_repeat())
        self._chart = LiveChart(self._frame)
        buttons = widgets.HBox([self._start, self._stop, self._reset])
        super().__init__([buttons, self._part_grid(), self._storno_row(), self._chart])
        self.add_class("houses-panel")
        self._synchronise()

    # --- layout ---

    def _part_grid(self) -> widgets.Widget:
        """One row a part: its rate and its faults."""
        cells = [_label(text, bold=True) for text in ("part", "messages per second", "", *_FAULTS.values())]
        for name, pair in {"all": self._all, **self._rates}.items():
            cells += [_label(name), *pair, *(self._faults.get((name, kind), _label("")) for kind in _FAULTS)]
        layout = {"grid_template_columns": _COLUMNS, "grid_gap": "0 6px", "max_width": _MOST_WIDE}
        return widgets.GridBox(cells, layout=layout)

    def _storno_row(self) -> widgets.Widget:
        once = [_label("storno of", bold=True), self._storno_id, self._storno_part, self._storno_once]
        again = [_label("every (s)"), self._storno_every_s, self._storno_again, self._storno_said]
        return widgets.HBox([*once, *again], layout={"flex_flow": "row wrap", "margin": "6px 0"})

    def _button(self, text: str, icon: str, style: str, work: Callable[[], None]) -> widgets.Button:
        button = widgets.Button(description=text, icon=icon, button_style=style)
        button.on_click(lambda _: self._guarded(work))
        return button

    def _rate_slider(self, part: str | None) -> widgets.FloatSlider:
        size: dict[str, Any] = {"max": _SLIDER_TOP_HZ, "step": 10, "layout": {"width": "auto"}}
        slider = widgets.FloatSlider(readout=False, continuous_update=False, **size)
        return self._on_change(slider, partial(self._on_rate, part))

    def _rate_text(self) -> widgets.Text:
        """The same for all parts: empty while they differ, so that whatever is typed is a change."""
        text = widgets.Text(placeholder="they differ", continuous_update=False, layout={"width": "auto"})
        return self._on_change(text, lambda typed: self._on_rate(None, _rate_hz(typed)))

    def _box(self, step: float, do: Callable[[float], object]) -> widgets.FloatText:
        """For an exact figure, which may go beyond a slider's end."""
        return self._on_change(widgets.FloatText(step=step, layout={"width": "auto"}), do)

    # --- what the user does ---

    def _complain(self, text: str) -> None:
        self._dashboard.complaint = text

    def _on_rate(self, part: str | None, rate_hz: float) -> None:
        self._exp.set_rate(rate_hz, part)

    def _on_reset(self) -> None:
        """The second click within five seconds counts: files and topics go."""
        if time.monotonic() < self._sure_until_s:
            self._sure_until_s = 0.0
            self._exp.background.submit("resetting", self._exp.reset)
        else:
            self._sure_until_s = time.monotonic() + _SURE_S

    def _on_fault(self, name: str, kind: str, value: float) -> None:
        if kind != "delay_ms" and not 0 <= value <= 100:  # said in per cent, as it was typed
            raise ConfigError(f"{name}, {_FAULTS[kind]} = {value:g}: must be 0 to 100")
        self._exp.set_faults(name, **self._exp.faults(name).model_dump() | {kind: value / _SCALE[kind]})

    def _on_storno(self) -> None:
        typed, part = self._storno_id.value.strip(), self._storno_part.value
        self._cancelled = ""
        self._exp.background.submit(
            "sending a storno", partial(self._cancel, _house_id(typed) if typed else None, part)
        )

    def _cancel(self, house_id: int | None, part: str) -> None:
        house_id = self._exp.storno(house_id, None if part == _WHOLE else part)
        self._cancelled = f"{'house' if part == _WHOLE else f'{part} of'} {house_id} cancelled"

    def _on_repeat(self) -> None:
        interval_s = self._storno_every_s.value if self._storno_again.value else None
        self._exp.background.submit("stornos", partial(self._exp.storno_every, interval_s))

    def _on_interval(self) -> None:
        checked_interval_s(self._exp.config, self._storno_every_s.value)
        if self._storno_again.value:
            self._on_repeat()

    # --- what the user sees ---

    def _frame(self, newest_ms: int) -> dict[str, Any]:
        self._synchronise()
        return self._dashboard.look(newest_ms)

    def _synchronise(self) -> None:
        """Show what is set now, by this panel, another one or a cell."""
        with self._as_program():
            self._show_buttons()
            self._show_rates()
            for widget in (*self._all, *chain(*self._rates.values()), *self._faults.values()):
                widget.disabled = self._exp.closed
            for (name, kind), fault in self._faults.items():
                fault.value = round(getattr(self._exp.faults(name), kind) * _SCALE[kind], 3)

    def _show_buttons(self) -> None:
        running, busy = self._exp.is_running, bool(self._exp.background.doing) or self._exp.closed
        self._start.disabled, self._stop.disabled = running or busy, busy or not running
        self._reset.disabled = running or busy
        self._reset.description = "Delete all?" if time.monotonic() < self._sure_until_s else "Reset"
        self._storno_said.value = self._cancelled
        self._storno_once.disabled = self._storno_again.disabled = busy or not running
        if not busy:
            interval_s = self._exp.storno_interval_s
            self._storno_again.value = interval_s is not None
            self._storno_every_s.value = interval_s or self._storno_every_s.value

    def _show_rates(self) -> None:
        """The first row shows what is common to all parts; when they differ, the highest, and nothing in its box."""
        rates = {name: round(self._exp.rate_hz(name), 3) for name in _NAMES}  # a slider leaves 2120.0000000001
        for name, (slider, box) in self._rates.items():
            slider.value = box.value = rates[name]
        slider, text = self._all
        slider.value = highest = max(rates.values())
        text.value = f"{highest:.10g}" if highest == min(rates.values()) else ""


def _rate_hz(typed: str) -> float:
    try:
        return float(typed)
    except ValueError:
        raise ConfigError(f"rate {typed[:40]!r}: must be a number of messages per second, 0 or more") from None


def _house_id(typed: str) -> int:
    if (house_id := parse_house_id(typed)) is None:
        raise ConfigError(f"house id {typed[:40]!r}: must be 1 to {MAX_ID_DIGITS} digits, or empty for a recent house")
    return house_id


def _label(text: str, *, bold: bool = False) -> widgets.Label:
    return widgets.Label(text, style={"font_weight": "bold" if bold else "normal"})
