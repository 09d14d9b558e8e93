"""How work tells people what it does: a function that gets one line."""

from collections.abc import Callable

Say = Callable[[str], None]


def be_silent(_: str) -> None:
    """The default: nobody listens."""


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun, `1 house` or `1,234 houses`; `many` where another s is not enough."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
