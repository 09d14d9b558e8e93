"""The consumer's own process: what makes it stop, within which time, and how it treats memory.

Once the loop runs, signals and the end of stdin only set a flag: an exception inside `consume()` would lose the batch that
it has just fetched. Before that nothing has been fetched, and a stop request ends the process at once.
"""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from houses.broker import ensure_broker
from houses.config import Config
from houses.consumer import consume

STOP_LIMIT_S = 5.0
"""After a stop request the process is gone within this time, whatever the broker does."""
EXIT_INTERRUPTED = 130
_GRACE_S = 4.5
_WATCH_S = 0.25
_COLLECT_EVERY_S = 60.0

Say = Callable[[str], None]


def run_consumer(
    config: Config,
    say: Say,
    *,
    accept_gap: bool = False,
    rescan: bool = False,
    until_end: bool = False,
    stop_with_stdin: bool = False,
) -> int:
    """Be the consumer of a folder until told to stop; returns the exit status: 0, or 130 after Ctrl-C.

    Args:
        accept_gap, rescan, until_end: see `consumer.consume`.
        stop_with_stdin: the end of stdin, or of the parent process, is a stop request.
    Raises:
        HousesError: as `consumer.consume`, and when there is no broker.
    """
    stop = StopRequest(say)
    stop.listen(stop_with_stdin)
    try:
        ensure_broker(config, say)
        keep_collector_quiet()
        say(f"Reading {config.kafka.topic} and {config.consumer.storno_topic} into {config.folder}; stop: Ctrl-C or houses stop")
        counts = consume(
            config, stop.should_stop, say, accept_gap=accept_gap, rescan=rescan, until_end=until_end
        )
    except StoppedEarly:
        say("Stopped before anything was read")
    else:
        say("Stopped: " + (", ".join(f"{number} {kind}" for kind, number in sorted(counts.items())) or "nothing read"))
    return stop.exit_status


def keep_collector_quiet() -> None:
    """Collect once, then leave memory to reference counts: the loop makes no cycles, and a collection walks all pending parts."""
    gc.collect()
    gc.freeze()
    gc.disable()


class StoppedEarly(BaseException):
    """A stop request came before the loop ran. No Exception: nothing on the way out may handle it."""


class StopRequest:
    """Whether this process was asked to stop: by signal, or by the end of its stdin."""

    def __init__(self, say: Say) -> None:
        """Nothing is listened to yet."""
        self._say = say
        self._loop_runs = False
        self._asked_at_s: float | None = None
        self._collect_at_s = time.monotonic() + _COLLECT_EVERY_S
        self.exit_status = 0
        """What the process should return: 130 after Ctrl-C, else 0."""

    def listen(self, stdin: bool) -> None:
        """From now on signals are stop requests, with `stdin` also its end and the death of the parent. Main thread only."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            if (number := getattr(signal, name, None)) and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        threading.Thread(target=self._watch, args=(stdin,), name="houses-stop-watch", daemon=True).start()

    def should_stop(self) -> bool:
        """The question that the loop asks at each turn; the first one says that it runs."""
        self._loop_runs = True
        if self._asked_at_s is not None:
            return True
        if (now_s := time.monotonic()) > self._collect_at_s:
            # Errors leave a few cycles behind. What has survived is frozen, so that each collection sees new objects only.
            self._collect_at_s = now_s + _COLLECT_EVERY_S
            keep_collector_quiet()
        return False

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            self.exit_status = EXIT_INTERRUPTED
        if self._asked_at_s is None:
            self._asked_at_s = time.monotonic()
        if not self._loop_runs:
            raise StoppedEarly

    def _watch(self, stdin: bool) -> None:
        """Runs in a daemon thread for the life of the process."""
        parent = os.getppid()
        while self._asked_at_s is None:
            if not stdin:
                time.sleep(_WATCH_S)
            elif _stdin_ended(_WATCH_S) or os.getppid() != parent:
                _signal_main_thread()
                stdin = False
        time.sleep(_GRACE_S)
        # Everything that is durable stays valid without a farewell: this is the same as a crash, and costs only a longer restart.
        self._say(f"Kafka did not let go within {_GRACE_S} s: leaving without a last checkpoint; nothing is lost")
        os._exit(self.exit_status)


def _stdin_ended(timeout_s: float) -> bool:
    """Whether stdin has come to its end; what it holds is thrown away. Waits up to `timeout_s` (on Windows: for input).

    By descriptor: a thread that waits in `sys.stdin` holds its lock, and the interpreter aborts when it then shuts down.
    """
    try:
        if sys.platform != "win32":  # select() knows only sockets there
            import select

            if not select.select([0], [], [], timeout_s)[0]:
                return False
        return not os.read(0, 4096)
    except OSError:
        return True


def _signal_main_thread() -> None:
    """A stop request that also wakes the main thread from what it waits for."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        signal.raise_signal(signal.SIGTERM)
