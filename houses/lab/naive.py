"""A join that loses and doubles houses when it is killed, and how it is run beside an experiment to compare."""

import json
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pandas as pd
from confluent_kafka import Consumer, Message, TopicPartition

from houses.config.config import Config
from houses.errors import HousesError
from houses.kafka.clients import READER, connect
from houses.lab.consumer_process import spawn
from houses.lab.experiment import Experiment
from houses.lab.results import Results
from houses.records.message import PARTS, peek_id
from houses.system.files import REAL, replace_file
from houses.system.text import counted

LOG = logging.getLogger(__name__)

NAIVE_HOUSES = "houses.jsonl"


NAIVE_POSITIONS = "positions.json"


_SAVE_EVERY_S = 1.0


_QUIET_S = 0.5


def naive_consume(config: Config, folder: Path, should_stop: Callable[[], bool]) -> None:
    """Join parts to houses as many do at first: save how far it has read, and forget what is in the table.

    1. Go on at the saved position. 2. Put each part into the table; write a line when its house is complete.
    3. Once a second, save the position. A kill between two saves writes houses twice, and the parts that were in the
    table at the last save are lost.

    Args:
        folder: holds its houses.jsonl and positions.json.
        should_stop: when true, it still reads what is there.
    """
    positions, table, written = _saved_positions(folder), dict[int, set[int]](), 0
    consumer = connect(Consumer, config.kafka, READER)
    consumer.assign([TopicPartition(config.kafka.topic, p, offset) for p, offset in enumerate(positions)])  # 1.
    save_s = heard_s = time.monotonic()
    with (folder / NAIVE_HOUSES).open("a", encoding="ascii") as file:
        while not should_stop() or time.monotonic() < heard_s + _QUIET_S:
            for message in consumer.consume(1000, 0.05):
                house_id = _naive_join(message, positions, table)  # 2.
                if house_id is not None:
                    file.write(json.dumps({"id": house_id}) + "\n")
                    written += 1
                heard_s = time.monotonic()
            file.flush()
            if time.monotonic() >= save_s + _SAVE_EVERY_S:  # 3.
                replace_file(REAL, folder / NAIVE_POSITIONS, json.dumps(positions).encode())
                save_s = time.monotonic()
    consumer.close()
    LOG.info(
        f"Stopped: {counted(written, 'house')} written to {folder / NAIVE_HOUSES}; {len(table):,} incomplete, forgotten now"
    )


def _saved_positions(folder: Path) -> list[int]:
    path = folder / NAIVE_POSITIONS
    return list(json.loads(path.read_text(encoding="ascii"))) if path.exists() else [0, 0, 0]


def _naive_join(message: Message, positions: list[int], table: dict[int, set[int]]) -> int | None:
    """The id of the house that this message completes, if it does."""
    partition, offset = message.partition(), message.offset()
    if message.error() or partition is None or offset is None:
        return None
    positions[partition] = offset + 1
    house_id = peek_id(message.value() or b"")
    if house_id is None:
        return None
    parts = table.setdefault(house_id, set())
    parts.add(partition)
    if len(parts) < len(PARTS):
        return None
    del table[house_id]
    return house_id


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

    def __init__(self, exp: Experiment | Results) -> None:
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
