"""What the lab says, as people see it on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from houses.system.log import shown


@contextmanager
def heard() -> Iterator[list[str]]:
    """The lines that are said in the `with` block, by whatever thread."""
    said: list[str] = []
    with shown(said.append):
        yield said
