"""How work tells people what it does: a function that gets one line."""

import logging
import threading
import warnings
from collections.abc import Callable

LOG = logging.getLogger("houses")
LOG.addHandler(logging.NullHandler())  # else logging itself prints what nobody asked for, under any cell of a notebook

Say = Callable[[str], None]


def be_silent(_: str) -> None:
    """The default: nobody listens."""


def warn(text: str) -> None:
    """A warning to whoever called the caller, each time anew: by itself Python says it once for each cell of a notebook."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(text, stacklevel=3)


def in_main_thread(say: Say) -> Say:
    """What other threads say goes to the log "houses": a notebook would print it under whatever cell runs just then."""

    def speak(line: str) -> None:
        if threading.current_thread() is threading.main_thread():
            say(line)
        else:
            LOG.warning(line)

    return speak
