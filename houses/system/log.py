"""What work tells people: records of the loggers below "houses", handed on line by line.

Each module logs by its own name. INFO and above is what people should know; DEBUG is how far long work has come.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HOUSES = logging.getLogger("houses")
_OF_NOTEBOOKS = ("houses.lab", "houses.kafka.local", "houses.producer")
"""What a cell waits for: the start of Kafka, one trial after the other. Whatever else works there has results to look at."""


class LineHandler(logging.Handler):
    """Hands the text of each record to a function."""

    def __init__(self, show: Callable[[str], None], level: int = logging.INFO) -> None:
        """`level`: records below it are left out."""
        super().__init__(level)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """As `logging.Handler`."""
        try:
            self._show(record.getMessage())
        except Exception:  # noqa: BLE001  # as the handlers of logging itself: a line that cannot be shown ends no work
            self.handleError(record)


@contextmanager
def shown(show: Callable[[str], None]) -> Iterator[None]:
    """For the time of a `with` block, hand what people should know to a function."""
    with _handled(LineHandler(show)):
        yield


@contextmanager
def progress_shown(show: Callable[[str], None]) -> Iterator[None]:
    """For the time of a `with` block, hand what says how far work has come, and nothing else, to a function."""
    handler = LineHandler(show, logging.DEBUG)
    handler.addFilter(lambda record: record.levelno < logging.INFO)
    with _handled(handler):
        yield


@contextmanager
def _handled(handler: logging.Handler) -> Iterator[None]:
    _attach(handler)
    try:
        yield
    finally:
        HOUSES.removeHandler(handler)
        if not any(isinstance(other, LineHandler) for other in HOUSES.handlers):
            HOUSES.setLevel(logging.NOTSET)
            HOUSES.propagate = True


def _attach(handler: logging.Handler) -> None:
    """Our handlers choose by their own levels; and what they show, the handlers of the whole program do not show again."""
    HOUSES.addHandler(handler)
    HOUSES.setLevel(logging.DEBUG)
    HOUSES.propagate = False


def show_in_notebook() -> None:
    """Where this process is a notebook's kernel, print lines under the cell from now on; elsewhere, and again, nothing happens.

    Those of other threads are left out: they would stand under whatever cell runs just then.
    """
    if _is_kernel() and not any(isinstance(handler, _CellHandler) for handler in HOUSES.handlers):
        _attach(_CellHandler())


def _is_kernel() -> bool:
    try:
        return bool(get_ipython().kernel)  # type: ignore[name-defined]  # IPython's own global name
    except (NameError, AttributeError):
        return False


class _CellHandler(LineHandler):
    """Prints under the running cell."""

    def __init__(self) -> None:
        super().__init__(print)
        self.addFilter(lambda record: record.name.startswith(_OF_NOTEBOOKS))
        self.addFilter(lambda record: record.thread == threading.main_thread().ident)
