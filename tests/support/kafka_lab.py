"""A configuration and topics of a test's own on the real Kafka, and what has been written to them."""

import json
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from houses.config import config
from houses.config.config import Config
from houses.consumer.consumer import consume
from houses.errors import MessageError
from houses.kafka.broker import ensure_topics_named
from houses.kafka.local import server as local_kafka
from houses.kafka.local.probe import free_port
from houses.kafka.reader import last_records
from houses.producer.producers import Producers
from houses.records.message import PARTS, PartMessage, decode_part

Values = dict[str, Any]


@contextmanager
def own_kafka() -> Iterator[tuple[Path, str]]:
    """A temporary folder, and the address of a Kafka of its own in it; both are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="houses-", ignore_cleanup_errors=True) as name:
        address = f"127.0.0.1:{free_port()}"
        try:
            local_kafka.start(Path(name) / "kafka", address)
            yield Path(name), address
        finally:
            local_kafka.stop(Path(name) / "kafka")


def make_config(folder: Path, kafka: str, values: Values | None = None) -> Config:
    """A project in `folder` with topics of its own (not made yet), output in `folder`/output."""
    path, suffix = folder / "config.yaml", uuid.uuid4().hex[:8]
    path.write_text("kafka: {}\n", encoding="ascii")
    names = {"kafka.topic": f"parts-{suffix}", "consumer.storno_topic": f"storno-{suffix}"}
    made = config.load(path, {}).with_values({"kafka.bootstrap_servers": kafka} | names | (values or {}))
    made.folder.mkdir(parents=True, exist_ok=True)
    return made


def make_lab(folder: Path, kafka: str, values: Values | None = None) -> Config:
    """As `make_config`, with both topics made."""
    made = make_config(folder, kafka, values)
    ensure_topics_named(made.kafka, {made.kafka.topic: len(PARTS), made.consumer.storno_topic: 1})
    return made


def read_parts(made: Config) -> dict[str, list[PartMessage | None]]:
    """All messages of the parts topic in order, by part (that is: by partition); None for a malformed one."""
    found: dict[str, list[PartMessage | None]] = {part.name: [] for part in PARTS}
    for record in last_records(made.kafka, made.kafka.topic, 1_000_000):
        found[PARTS[record.partition].name].append(_decode(record.value))
    return found


def ids_of(messages: list[PartMessage | None]) -> list[int]:
    """The ids of those that are well-formed."""
    return [message.id for message in messages if message]


def _decode(value: bytes | None) -> PartMessage | None:
    try:
        return decode_part(value)
    except MessageError:
        return None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file; of the last one a part may be there only, while it is written."""
    *lines, _ = path.read_text(encoding="ascii").split("\n")
    return [json.loads(line) for line in lines]


def wait_until(done: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Return when `done()`; fails with `what` when it never comes. The time only bounds what hangs."""
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.01)


@contextmanager
def reading(made: Config) -> Iterator[None]:
    """The real consumer in a thread beside the block; stopped at its end, which raises what ended the consumer."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        consumer = threads.submit(consume, made, stop.is_set)
        try:
            yield
        finally:
            stop.set()
        consumer.result()


def producers(config: Config) -> Producers:
    """Producers of the test's folder and topic."""
    return Producers(config, config.kafka.topic, config.folder)


def sent(running: Producers, count: int, *names: str) -> Callable[[], bool]:
    """Whether these parts (all of them when none is named) have sent so many messages."""
    return lambda: min(running.sent[name] for name in names or running.sent) >= count


def part_ids(config: Config) -> dict[str, list[int]]:
    """The ids of the well-formed messages of each part, in order."""
    return {name: ids_of(messages) for name, messages in read_parts(config).items()}


def seconds(ts: str) -> float:
    """Seconds since 1970 of a message's time."""
    return datetime.strptime(ts, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
