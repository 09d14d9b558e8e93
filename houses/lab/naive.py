"""A join that loses and doubles houses when it is killed, and how it is run beside an experiment to compare."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from houses.config.config import Config
from houses.errors import HousesError
from houses.kafka.clients import READER, connect
from houses.lab.consumer_process import Child
from houses.records.message import PARTS, peek_id
from houses.system.files import REAL, replace_file
from houses.system.text import counted

if TYPE_CHECKING:  # the naive consumer itself starts without tables
    import pandas as pd

    from houses.lab.experiment import Experiment
    from houses.lab.results import Results

LOG = logging.getLogger(__name__)

NAIVE_HOUSES = "houses.jsonl"
NAIVE_POSITIONS = "positions.json"
_SAVE_EVERY_S = 1.0
_END_TIMEOUT_S = 10.0
_KILL_AFTER_S = 0.25
_PATIENCE_S = 20.0


def naive_consume(config: Config, folder: Path, should_stop: Callable[[], bool]) -> None:
    """Join parts to houses as many do at first: save how far it has read, and forget what is in the table.

    1. Go on at the saved position. 2. Put each part into the table; write a line when its house is complete.
    3. Once a second, save the position. A kill between two saves writes houses twice, and the parts that were in the
    table at the last save are lost.

    Args:
        folder: holds its houses.jsonl and positions.json.
        should_stop: when true, it still reads what is there.
    Raises:
        HousesError: it has not come to the end 10 s after that.
    """
    positions, table, written = _saved_positions(folder), dict[int, set[int]](), 0
    consumer = connect(Consumer, config.kafka, READER)
    consumer.assign([TopicPartition(config.kafka.topic, p, offset) for p, offset in enumerate(positions)])  # 1.
    save_s = went_on_s = time.monotonic()
    at_end: set[int] = set()
    with (folder / NAIVE_HOUSES).open("a", encoding="ascii") as file:
        while not (stopping := should_stop()) or len(at_end) < len(PARTS):
            went_on_s = went_on_s if stopping else time.monotonic()
            if time.monotonic() > went_on_s + _END_TIMEOUT_S:
                raise HousesError(f"the topic was not read to its end within {_END_TIMEOUT_S:.0f} s of the stop")
            for message in consumer.consume(1000, 0.05):
                house_id = _naive_join(message, positions, table, at_end)  # 2.
                if house_id is not None:
                    file.write(json.dumps({"id": house_id}) + "\n")
                    written += 1
            file.flush()
            if time.monotonic() >= save_s + _SAVE_EVERY_S:  # 3.
                replace_file(REAL, folder / NAIVE_POSITIONS, json.dumps(positions).encode())
                save_s = time.monotonic()
    consumer.close()
    LOG.info(
        f"Stopped: {counted(written, 'house')} written to {folder / NAIVE_HOUSES}; {len(table):,} pending, forgotten now"
    )


def _saved_positions(folder: Path) -> list[int]:
    path = folder / NAIVE_POSITIONS
    return list(json.loads(path.read_text(encoding="ascii"))) if path.exists() else [0, 0, 0]


def _naive_join(message: Message, positions: list[int], table: dict[int, set[int]], at_end: set[int]) -> int | None:
    """The id of the house that this message completes, if it does."""
    partition, offset = message.partition(), message.offset()
    if (error := message.error()) or partition is None or offset is None:
        if error and partition is not None and error.code() == KafkaError._PARTITION_EOF:
            at_end.add(partition)
        return None
    at_end.discard(partition)
    positions[partition] = offset + 1
    if (house_id := peek_id(message.value() or b"")) is None:
        return None
    table.setdefault(house_id, set()).add(partition)
    if len(table[house_id]) < len(PARTS):
        return None
    del table[house_id]
    return house_id


class NaiveConsumer:
    """Reads the topics of an experiment, and writes to its folder naive/.

    Example:
        with NaiveConsumer(exp) as naive, exp.running(seconds=5):
            exp.wait(2)
            naive.kill()
            naive.start()
        naive.compare()
    """

    def __init__(self, exp: "Experiment | Results") -> None:
        """Nothing is started yet; what an earlier one left in the folder goes."""
        self._exp = exp
        self._folder = exp.folder / "naive"
        self._child: Child | None = None
        if self._folder.exists():
            for path in self._folder.iterdir():
                path.unlink()

    def start(self) -> None:
        """Start it, or start it again; it goes on where it has saved that it was."""
        self.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        log_path = self._folder / "naive.log"
        self._child = Child(self._exp.config, log_path, "naive", str(self._folder), name="the naive consumer")
        self._child.start()

    def kill(self) -> None:
        """End it without any warning (SIGKILL), a moment after it has saved its position, so that there is something to see.

        Raises:
            HousesError: it has ended by itself, or saves nothing.
        """
        if (child := self._child) and not child.killed:
            child.wait_until(
                lambda: _KILL_AFTER_S <= self._since_save_s() <= 2 * _KILL_AFTER_S,
                _PATIENCE_S,
                lambda: f"the naive consumer has saved no position for {_PATIENCE_S:.0f} s: see {self._folder}",
            )
            child.kill()

    def _since_save_s(self) -> float:
        path = self._folder / NAIVE_POSITIONS
        return time.time() - path.stat().st_mtime if path.exists() else 0.0

    def stop(self) -> None:
        """Let it read what is there, and end; nothing happens when it does not run."""
        child, self._child = self._child, None
        if child:
            child.stop(_PATIENCE_S)

    def compare(self) -> "pd.DataFrame":
        """Both consumers beside each other: houses `written`, `lost` (complete in Kafka, without a line) and `twice`."""
        import pandas as pd

        data = self._exp.data()
        ours = Counter(data.houses["id"].tolist()) + Counter(data.stornos[~data.stornos["late"]]["id"].tolist())
        path = self._folder / NAIVE_HOUSES
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        naive = Counter(json.loads(line)["id"] for line in lines)
        rows = {
            name: {
                "written": ids.total(),
                "lost": len((ours.keys() | naive.keys()) - ids.keys()),
                "twice": sum(count > 1 for count in ids.values()),
            }
            for name, ids in (("exactly once", ours), ("naive", naive))
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if error and self._child:
            self._child.kill()
        self.stop()
