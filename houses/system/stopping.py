"""How the lab's processes are asked to stop, and how they hear it: signals, the end of stdin, a file on Windows.

While a loop runs, a request only sets a flag: an exception inside Kafka's `consume()` would lose the batch that it has
just fetched. Before that nothing has been fetched, and a request ends the process at once.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

from houses.errors import EXIT_INTERRUPTED
from houses.system.locks import Role

_WATCH_S = 0.25


class StoppedEarly(BaseException):
    """A stop request came before the loop ran. No Exception: nothing on the way out may handle it."""


class StopRequest:
    """Whether this process was asked to stop. One per process, made in its main thread."""

    def __init__(self, folder: Path | None = None, role: Role = "consumer") -> None:
        """Nothing is listened to yet. `folder` and `role` are those of its lock: where `ask_to_stop` looks for it."""
        self._file = stop_path(folder, role) if folder else None
        self._begun = time.time()
        self._loop_runs = False
        self._parent = os.getppid()
        self.asked = False
        """The flag; `should_stop` is the question that a loop asks."""
        self.exit_status = 0
        """What the process should return: 130 after Ctrl-C, else 0."""

    def listen(
        self, *, stdin: bool = False, limit_s: float | None = None, give_up: Callable[[], None] | None = None
    ) -> None:
        """From now on signals are stop requests.

        Args:
            stdin: its end and the death of the parent process too.
            limit_s: when the process still lives so many seconds after the request, it ends as a crash would.
            give_up: called just before that, in another thread.
        """
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # ignored: nohup, or & in a script
                signal.signal(number, self._on_signal)
        if stdin:
            threading.Thread(target=_await_end_of_stdin, name="houses-stdin", daemon=True).start()
        arguments = (stdin, limit_s, give_up or (lambda: None))
        threading.Thread(target=self._watch, args=arguments, name="houses-stop-watch", daemon=True).start()

    def begin(self) -> None:
        """The loop runs now: from here on a request only sets the flag."""
        self._loop_runs = True

    def should_stop(self) -> bool:
        """For the loop, at each turn; the first question says that it runs."""
        self.begin()
        return self.asked

    def wait(self, seconds: float) -> bool:
        """Sleep, but not after a request; True when there was one."""
        deadline_s = time.monotonic() + seconds
        while not self.should_stop() and (left_s := deadline_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.1))
        return self.asked

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            self.exit_status = EXIT_INTERRUPTED
        self.asked = True
        if not self._loop_runs:
            raise StoppedEarly

    def _watch(self, parent: bool, limit_s: float | None, give_up: Callable[[], None]) -> None:
        """Runs in a daemon thread for the life of the process."""
        while not self.asked:
            if self._told_by_file() or (parent and os.getppid() != self._parent):
                _signal_main_thread()
                break
            time.sleep(_WATCH_S)
        if limit_s is not None:
            time.sleep(limit_s)
            give_up()
            os._exit(self.exit_status)

    def _told_by_file(self) -> bool:
        with suppress(OSError):
            if self._file and self._file.stat().st_mtime >= self._begun:
                self._file.unlink()
                return True
        return False


def stop_path(folder: Path, role: Role) -> Path:
    """The file that asks the holder of a role to stop; an older one than its process means nothing."""
    return folder / f".{role}.stop"


def ask_to_stop(process: psutil.Process, folder: Path, role: Role) -> None:
    """Ask the process that holds a role of a folder to stop in good order; returns at once.

    psutil refuses to signal when the process id has gone to another program.
    """
    if sys.platform == "win32":  # no signal reaches a process of another console there, and terminate() kills
        stop_path(folder, role).touch()
    else:
        process.terminate()


def _await_end_of_stdin() -> None:
    """Runs in a daemon thread; what stdin holds is thrown away.

    By descriptor: a thread that waits in `sys.stdin` holds its lock, and the interpreter aborts when it then shuts down.
    """
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    _signal_main_thread()


def _signal_main_thread() -> None:
    """A stop request that also wakes the main thread from what it waits for."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        signal.raise_signal(signal.SIGTERM)
