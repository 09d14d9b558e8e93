"""The consumer as a child process: started, watched, drained, stopped, killed. It lives no longer than its parent."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from houses.config.config import PROJECT_ROOT, Config, child_environment
from houses.errors import HousesError
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
_OWN_GROUP: dict[str, Any] = {"start_new_session": True}
if sys.platform == "win32":
    _OWN_GROUP = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}


class Child:
    """A verb of `houses` for one folder, in a process group of its own, so that Ctrl-C in the parent does not reach it.

    It holds the read end of a pipe as stdin, whose end makes it stop. The system closes the pipe when the parent dies,
    however that happens, so no child is left behind.
    """

    def __init__(self, config: Config, log_path: Path, *words: str, name: str = "the consumer") -> None:
        """Nothing is started yet; `config.path` must hold the configuration when `start` is called.

        Args:
            config: of the folder.
            log_path: where all that it says is added.
            words: the verb, and what follows it.
            name: what errors call it.
        """
        self._config = config
        self._log_path = log_path
        self._words = words
        self._name = name
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    @property
    def pid(self) -> int | None:
        """Process id, None before the start."""
        return self._process.pid if self._process else None

    @property
    def killed(self) -> bool:
        """Whether it was ended by `kill`: then its death is no error."""
        return self._killed

    @property
    def asked_to_stop(self) -> bool:
        """Whether its end is wanted: then that is no news."""
        return bool(self._process and self._process.stdin and self._process.stdin.closed)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; no other child inherits the pipe."""
        with self._log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "houses", "--config", str(self._config.path), *self._words],
                cwd=PROJECT_ROOT,  # where `-m houses` finds this very package, installed or not
                env=child_environment() | self._config.secrets,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                **_OWN_GROUP,
            )

    def check(self) -> None:
        """Raise `HousesError` with the reason when the process has ended by itself."""
        if not self.alive and not self.killed:
            raise self._ended()

    def wait_until(self, done: Callable[[], bool], timeout_s: float, complaint: Callable[[], str]) -> None:
        """Return when `done()` is true.

        Raises:
            HousesError: the process has ended before; or it took longer, with `complaint()`.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            alive = self.alive  # before the question: what it did just before its end counts
            if done():
                return
            if not alive:
                self.check()
                raise HousesError(
                    f"{self._name} was killed and not started again (restart_consumer), so not all was read: "
                    "start, to read the rest"
                )
            if time.monotonic() > deadline_s:
                raise HousesError(complaint())
            time.sleep(_POLL_S)

    def ask_to_stop(self) -> None:
        """Close its stdin, which makes it end in good order; returns at once."""
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
                f"{self._name} did not stop within {timeout_s:.0f} s and was killed: see {self._log_path}"
            ) from None
        if status:
            raise self._ended()

    def kill(self) -> None:
        """End it without any warning (SIGKILL): what a power cut or the kernel's memory killer does."""
        if self._process is not None:
            self._killed = True
            self._process.kill()
            self._process.wait()
            self.ask_to_stop()  # closes our end of the pipe

    def _status(self) -> int:
        return (self._process.poll() if self._process else None) or 0

    def _ended(self) -> HousesError:
        """How the process ended; only a line that calls itself an error is quoted as one."""
        status = self._status()
        lines = self._last_lines()
        errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
        if status < 0:  # POSIX: the number of the signal, of which those for real time have no name
            by = {each.value: each.name for each in signal.Signals}.get(-status, f"signal {-status}")
            how = f"was killed by {by}; nothing is lost, the next one goes on: stop, then start again"
        elif errors:
            how = f"ended with an error: {errors[0]}"
        else:
            how = f"ended by itself (exit status {status}): {lines[-1] if lines else 'it said nothing'}"
        return HousesError(f"{self._name} {how}; all it said: {self._log_path}")

    def _last_lines(self) -> list[str]:
        with self._log_path.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, 2) - _TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
        return [line.strip() for line in text.splitlines() if line.strip()]


class ConsumerChild(Child):
    """The consumer of a folder, known by the measurements that it writes."""

    def __init__(self, config: Config, crash_at: CrashPoint | None = None) -> None:
        """As `Child`; `crash_at`: where it kills itself, None: nowhere."""
        crash = ["--crash-at", str(crash_at)] if crash_at else []
        super().__init__(config, config.folder / LOG_NAME, "consume", "--stop-with-stdin", *crash)
        self._crash_at = crash_at

    @property
    def killed(self) -> bool:
        """Whether it was ended by `kill`, or at its crash point: then its death is no error."""
        return self._killed or (self._crash_at is not None and not self.alive and self._status() in _KILLED)

    def start(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Return when it reads the parts; `HousesError` with its last line when it ends instead."""
        super().start()
        try:
            self.wait_until(
                lambda: self.killed or self.metrics().get("state") in READING,
                timeout_s,
                lambda: f"the consumer does not read after {timeout_s:.0f} s: see {self._log_path}",
            )
        except BaseException:
            self.kill()
            raise

    def metrics(self) -> Mapping[str, Any]:
        """The last line of measurements that this process wrote; empty before its first."""
        line = last_metrics(self._config.metrics_path)
        return line if line and line["pid"] == self.pid else {}

    def drain(self, ends: Mapping[int, int], timeout_s: float = _DRAIN_TIMEOUT_S) -> None:
        """Return when it has read up to some offsets: partition (STORNO: the storno topic) -> the offset behind the last record.

        Raises:
            HousesError: it ended, or did not come that far in time; names the lag.
        """

        def complaint() -> str:
            if self.metrics().get("state") == WAITING:
                advice = (
                    "it waits for parts that were not sent (complete=False, or raise consumer.max_pending_triplets)"
                )
            else:
                advice = "set a lower rate, or take up the rest with fresh=False"
            return f"after {timeout_s:.0f} s the consumer has still {self._lag(ends)} messages to read: {advice}"

        self.wait_until(lambda: self._lag(ends) == 0, timeout_s, complaint)

    def _lag(self, ends: Mapping[int, int]) -> int:
        line = self.metrics()
        position = [*line.get("position", (0, 0, 0)), line.get("storno_position", 0)]
        return sum(max(0, end - position[partition]) for partition, end in ends.items())

    def await_crash(self, timeout_s: float = _DRAIN_TIMEOUT_S) -> None:
        """Return when it has died at its crash point.

        Raises:
            HousesError: it ended otherwise, or did not come there in time.
        """
        self.wait_until(
            lambda: not self.alive,
            timeout_s,
            lambda: (
                f"the consumer did not come to its crash point ({self._crash_at}) within {timeout_s:.0f} s: "
                "choose an earlier one, or let producers run meanwhile"
            ),
        )
        self.check()
        self.ask_to_stop()  # closes our end of the pipe
