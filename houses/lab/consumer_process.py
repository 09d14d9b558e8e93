"""The consumer as a child process: started, watched, drained, stopped, killed. It lives no longer than its parent."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

from houses.config.config import PROJECT_ROOT, Config, child_environment
from houses.errors import HousesError
from houses.records.message import STORNO
from houses.records.metrics import READING, WAITING, last_metrics
from houses.system.crash_points import CrashPoint

LOG_NAME = "consumer.log"
_START_TIMEOUT_S = 60.0
_DRAIN_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
_TAIL_BYTES = 8192
_ERROR = "Error: "
_KILLED = (-signal.SIGKILL,) if hasattr(signal, "SIGKILL") else (signal.SIGTERM,)
"""Exit status of a process that was ended by `psutil.Process.kill`."""


class ConsumerChild:
    """`houses consume` for one folder, in a process group of its own, so that Ctrl-C in the parent does not reach it.

    It holds the read end of a pipe as stdin, whose end makes it stop. The system closes the pipe when the parent dies,
    however that happens, so no consumer is left behind.
    """

    def __init__(self, config: Config, crash_at: CrashPoint | None = None) -> None:
        """Nothing is started yet; `config.path` must hold the configuration when `start` is called.

        Args:
            crash_at: where it kills itself; None: nowhere.
        """
        self._config = config
        self._crash_at = crash_at
        self._log_path = config.folder / LOG_NAME
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    @property
    def pid(self) -> int | None:
        """Process id, None before the start."""
        return self._process.pid if self._process else None

    @property
    def killed(self) -> bool:
        """Whether it was ended by `kill`, or at its crash point: then its death is no error."""
        return self._killed or (self._crash_at is not None and not self.alive and self._status() in _KILLED)

    @property
    def asked_to_stop(self) -> bool:
        """Whether its end is wanted: then that is no news."""
        return bool(self._process and self._process.stdin and self._process.stdin.closed)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Return when it reads the parts; `HousesError` with its last line when it ends instead."""
        command = [sys.executable, "-m", "houses", "--config", str(self._config.path), "consume", "--stop-with-stdin"]
        command += ["--crash-at", str(self._crash_at)] if self._crash_at else []
        with self._log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = spawn(command, log, self._config.secrets)
        try:
            if not self._await(lambda: self.killed or self.metrics().get("state") in READING, timeout_s):
                raise HousesError(f"the consumer does not read after {timeout_s:.0f} s: see {self._log_path}")
        except BaseException:
            self.kill()
            raise

    def metrics(self) -> Mapping[str, Any]:
        """The last line of measurements that this process wrote; empty before its first."""
        line = last_metrics(self._config.metrics_path)
        return line if line and line["pid"] == self.pid else {}

    def check(self) -> None:
        """Raise `HousesError` with the reason when the process has ended by itself."""
        if not self.alive and not self.killed:
            raise HousesError(f"the consumer {self._end()}; all it said: {self._log_path}")

    def drain(self, ends: Mapping[int, int], timeout_s: float = _DRAIN_TIMEOUT_S) -> None:
        """Return when it has read up to some offsets: partition (STORNO: the storno topic) -> the offset behind the last record.

        Raises:
            HousesError: it ended, or did not come that far in time; names the lag.
        """
        if not self._await(lambda: self._lag(ends) == 0, timeout_s):
            full = self.metrics().get("state") == WAITING
            raise HousesError(
                f"after {timeout_s:.0f} s the consumer has still {self._lag(ends)} messages to read: "
                + (
                    "it waits for parts that were not sent (complete=False, or raise consumer.max_pending_triplets)"
                    if full
                    else "set a lower rate, or take up the rest with fresh=False"
                )
            )

    def _lag(self, ends: Mapping[int, int]) -> int:
        line = self.metrics()
        position = [*line.get("position", (0, 0, 0)), line.get("storno_position", 0)]
        return sum(max(0, end - position[partition]) for partition, end in ends.items())

    def _await(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Whether `done()` came true in time; `HousesError` when the process has ended before."""
        deadline_s = time.monotonic() + timeout_s
        while not done():
            self.check()
            if not self.alive:
                raise HousesError(
                    "the consumer was killed and not started again (restart_consumer), so not all was read: start, to read the rest"
                )
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_POLL_S)
        return True

    def ask_to_stop(self) -> None:
        """Close its stdin, which makes it commit, save its position and end; returns at once."""
        if self._process and self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """Ask it to stop and return when it has ended.

        Raises:
            HousesError: it had to be killed, or ended with an error.
        """
        if self._process is None or self.killed:
            return
        self.ask_to_stop()
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise HousesError(
                f"the consumer did not stop within {timeout_s:.0f} s and was killed: see {self._log_path}"
            ) from None
        if status:
            raise HousesError(f"the consumer {self._end()}; all it said: {self._log_path}")

    def kill(self) -> None:
        """End it without any warning (SIGKILL): what a power cut or the kernel's memory killer does."""
        if self._process is not None:
            self._killed = True
            self._process.kill()
            self._process.wait()
            self.ask_to_stop()  # closes our end of the pipe

    def await_crash(self, timeout_s: float = _DRAIN_TIMEOUT_S) -> None:
        """Return when it has died at its crash point.

        Raises:
            HousesError: it ended otherwise, or did not come there in time.
        """
        deadline_s = time.monotonic() + timeout_s
        while self.alive:
            if time.monotonic() > deadline_s:
                raise HousesError(
                    f"the consumer did not come to its crash point ({self._crash_at}) within {timeout_s:.0f} s: "
                    "choose an earlier one, or let producers run meanwhile"
                )
            time.sleep(_POLL_S)
        self.check()
        self.ask_to_stop()  # closes our end of the pipe

    def _status(self) -> int | None:
        return self._process.poll() if self._process else None

    def _end(self) -> str:
        """How the process ended; only a line that calls itself an error is quoted as one."""
        status = self._status() or 0
        if status < 0:  # POSIX: the number of the signal
            return (
                f"was killed by {_signal_name(-status)}; nothing is lost, the next one goes on: stop, then start again"
            )
        lines = self._last_lines()
        for line in lines:
            if line.startswith(_ERROR):
                return f"ended with an error: {line.removeprefix(_ERROR)}"
        return f"ended by itself (exit status {status}): {lines[-1] if lines else 'it said nothing'}"

    def _last_lines(self) -> list[str]:
        with self._log_path.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, 2) - _TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
        return [line.strip() for line in text.splitlines() if line.strip()]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has none
        return f"signal {number}"


def drain_targets(parts: Mapping[int, tuple[int, int]], storno: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """Where `drain` should come to, from the watermarks of both topics."""
    return {partition: end for partition, (_, end) in parts.items()} | {STORNO: storno[0][1]}


def spawn(command: list[str], log: IO[bytes], secrets: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start in a new session (POSIX) or process group (Windows), with a pipe as stdin that no other child inherits."""
    own_group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(
        command,
        cwd=PROJECT_ROOT,  # where `-m houses` finds this very package, installed or not
        env=child_environment() | dict(secrets),
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        **own_group,
    )
