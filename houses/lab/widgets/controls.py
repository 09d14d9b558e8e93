"""What panel and time machine have in common: handlers that show their errors, and a text for pages without a kernel."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]  # it ships no types

from houses.errors import describe_error
from houses.lab.experiment import Experiment
from houses.lab.results import Results

_PROGRAM = threading.local()
"""`on` while this thread sets values that nobody has typed."""


class Controls(widgets.VBox):  # type: ignore[misc]  # Any, as the library ships no types
    """Widgets over one experiment."""

    _exp: Experiment | Results
    _title = ""
    """What the whole is called, for a page that cannot show it."""

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The widget, and for pages without a kernel (saved HTML) a sentence instead of a blank."""
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        name = escape(self._exp.folder.name)
        return bundle | {
            "text/html": f"<p><em>{self._title} of experiment {name}: run this cell in JupyterLab to use it.</em></p>"
        }

    def _complain(self, text: str) -> None:
        """Show what went wrong, in one line; empty: nothing."""
        raise NotImplementedError

    def _guarded(self, work: Callable[[], object]) -> None:
        """What a handler raises would be seen only in the log console: it is shown until the next thing is done."""
        self._complain("")
        try:
            work()
        except Exception as error:  # noqa: BLE001  # whatever it is, the page shows it
            self._complain(describe_error(error))

    def _on_change(self, widget: widgets.Widget, do: Callable[[Any], object]) -> widgets.Widget:
        """Call `do` with the new value when the user, not the program, has changed it; returns the widget."""

        def changed(change: Any) -> None:
            if not getattr(_PROGRAM, "on", False):
                self._guarded(lambda: do(change["new"]))

        widget.observe(changed, "value")
        return widget

    @contextmanager
    def _as_program(self) -> Iterator[None]:
        """What is set inside is only shown, and does nothing else."""
        _PROGRAM.on = True
        try:
            yield
        finally:
            _PROGRAM.on = False
