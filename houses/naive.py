"""The naive consumer of `teaching`, as a child process beside an experiment: started, killed, started again, compared."""

import json
import subprocess
import sys
import time
from collections import Counter
from types import TracebackType
from typing import Self

import pandas as pd

from houses.child import spawn
from houses.errors import HousesError
from houses.results import Results
from houses.teaching import NAIVE_HOUSES, NAIVE_POSITIONS

_STOP_TIMEOUT_S = 20.0
_SAVE_TIMEOUT_S = 5.0
_KILL_AFTER_S = 0.25


class NaiveConsumer:
    """Reads the topics of an experiment, and writes to its folder naive/.

    Example:
        with NaiveConsumer(exp) as naive, exp.running(seconds=5):
            exp.wait(2)
            naive.kill()
            naive.start()
        naive.compare()
    """

    def __init__(self, exp: Results) -> None:
        """Nothing is started yet; what an earlier one left in the folder goes."""
        self._exp = exp
        self._folder = exp.folder / "naive"
        self._process: subprocess.Popen[bytes] | None = None
        if self._folder.exists():
            for path in self._folder.iterdir():
                path.unlink()

    def start(self) -> None:
        """Start it, or start it again; it goes on where it has saved that it was."""
        self.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "houses", "--config", str(self._exp.config.path), "naive", str(self._folder)]
        with (self._folder / "naive.log").open("ab") as log:
            self._process = spawn(command, log, self._exp.config.secrets)

    def kill(self) -> None:
        """End it without any warning (SIGKILL), a moment after it has saved its position, so that there is something to see."""
        if process := self._process:
            deadline_s = time.monotonic() + _SAVE_TIMEOUT_S
            while not _KILL_AFTER_S <= self._since_save_s() <= 2 * _KILL_AFTER_S and time.monotonic() < deadline_s:
                time.sleep(0.02)
            process.kill()
            self._end(process)

    def _since_save_s(self) -> float:
        path = self._folder / NAIVE_POSITIONS
        return time.time() - path.stat().st_mtime if path.exists() else 0.0

    def stop(self) -> None:
        """Let it read what is there, and end; nothing happens when it does not run."""
        if process := self._process:
            assert process.stdin  # `spawn` makes a pipe
            process.stdin.close()
            self._end(process)
            if process.returncode:
                raise HousesError(f"the naive consumer ended with an error: see {self._folder / 'naive.log'}")

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = None
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise HousesError(f"the naive consumer did not stop within {_STOP_TIMEOUT_S:.0f} s: killed") from None
        finally:
            if process.stdin:
                process.stdin.close()

    def compare(self) -> pd.DataFrame:
        """Both consumers beside each other: houses `written`, `lost` (complete in Kafka, without a line) and `twice`."""
        data = self._exp.data()
        ours = Counter(data.houses["id"].tolist()) + Counter(data.stornos[~data.stornos["late"]]["id"].tolist())
        path = self._folder / NAIVE_HOUSES
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        naive = Counter(json.loads(line)["id"] for line in lines)
        rows = {"exactly once": ours, "naive": naive}
        return pd.DataFrame.from_dict(
            {
                name: {
                    "written": ids.total(),
                    "lost": len((ours.keys() | naive.keys()) - ids.keys()),
                    "twice": sum(count > 1 for count in ids.values()),
                }
                for name, ids in rows.items()
            },
            orient="index",
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if error and self._process:
            self._process.kill()
            self._end(self._process)
        self.stop()
