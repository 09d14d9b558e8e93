"""A consumer whose calls on files are marked for strace: `marked_consumer.py CONFIG` reads to the end of the topics.

Before and after each call it writes a word to /dev/null, where it is seen among the system calls and nowhere else.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from houses.config.config import load
from houses.consumer.consumer import consume
from houses.system.files import REAL, FileOps

BEGIN, END = "call-begins", "call-ends"


class MarkedOps(FileOps):
    """The real file operations between two marks each."""


def _marked(name: str, marks: int) -> Callable[..., Any]:
    def call(_: MarkedOps, *arguments: Any, **options: Any) -> Any:
        os.write(marks, BEGIN.encode())
        try:
            return getattr(REAL, name)(*arguments, **options)
        finally:
            os.write(marks, END.encode())

    return call


def main() -> None:
    """Read what is there."""
    marks = os.open(os.devnull, os.O_WRONLY)
    for name in [name for name in vars(FileOps) if not name.startswith("_")]:
        setattr(MarkedOps, name, _marked(name, marks))
    consume(load(Path(sys.argv[1])), lambda: False, ops=MarkedOps(), until_end=True)


if __name__ == "__main__":
    main()
