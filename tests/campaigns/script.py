"""How the scripts beside the tests end when they are told to: what they started is stopped, and no traceback is shown."""

import signal
import sys
from collections.abc import Callable
from types import FrameType

from houses.errors import EXIT_INTERRUPTED


def run(main: Callable[[], int]) -> int:
    """The exit code of `main`, of Ctrl-C, or of SIGTERM, on which everything is left in good order too."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return main()
    except KeyboardInterrupt:
        print("Interrupted; what was started is stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _terminate(_: int, __: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)  # as shells have it
