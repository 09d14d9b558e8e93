"""How work tells people what it does: a function that gets one line."""

from collections.abc import Callable

Say = Callable[[str], None]


def be_silent(_: str) -> None:
    """The default: nobody listens."""
