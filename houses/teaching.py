"""For class: a producer that says hello, a listener that prints what it hears, and a join that loses and doubles houses."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, Message, Producer, TopicPartition

from houses.config.config import Config
from houses.errors import BrokerError
from houses.kafka.broker import describe_topics, ensure_broker, ensure_topics_named
from houses.kafka.clients import connect
from houses.kafka.reader import printable
from houses.records.message import PARTS, peek_id
from houses.system.files import REAL, replace_file
from houses.system.log import Say
from houses.system.text import counted

_CONFIRM_TIMEOUT_MS = 10_000
_POLL_S = 0.1


def hello_topic(config: Config, say: Say) -> tuple[str, int]:
    """Name and number of partitions of the hello topic, made with one when absent; Kafka is started if need be."""
    ensure_broker(config, say)
    name = config.kafka.hello_topic
    topics = describe_topics(config.kafka, [name]) or ensure_topics_named(config.kafka, {name: 1}, say)
    return name, topics[name].partitions


def hello_send(config: Config, count: int, interval_s: float, wait: Callable[[float], bool], say: Say) -> int:
    """Send `Hello 1`, `Hello 2` and so on, each confirmed by Kafka before the next; returns how many.

    Args:
        interval_s: seconds between two of them.
        wait: sleeps so many seconds; True ends the sending.
    Raises:
        BrokerError: Kafka did not confirm one within 10 s.
    """
    topic, _ = hello_topic(config, say)
    producer = connect(Producer, config.kafka, {"linger.ms": 0, "message.timeout.ms": _CONFIRM_TIMEOUT_MS})
    begun_s = time.monotonic()
    for number in range(1, count + 1):
        text = f"Hello {number}"
        sent = _confirmed(producer, topic, text.encode())
        say(f"sent: partition {sent.partition()}, offset {sent.offset()}: {text}")
        # Against the start, so that the time a confirmation takes does not add up.
        if number < count and wait(max(0.0, begun_s + number * interval_s - time.monotonic())):
            return number
    return count


def _confirmed(producer: Producer, topic: str, value: bytes) -> Message:
    reports: list[tuple[KafkaError | None, Message]] = []
    producer.produce(topic, value, on_delivery=lambda *report: reports.append(report))
    while not reports:  # message.timeout.ms ends it
        producer.poll(_POLL_S)
    error, message = reports[0]
    if error is not None:
        raise BrokerError(f"{topic}: {value!r} was not confirmed by Kafka ({error.str()}); see: houses kafka status")
    return message


def hello_listen(config: Config, from_beginning: bool, should_stop: Callable[[], bool], say: Say) -> int:
    """Say each message of the hello topic as it comes, until `should_stop`; returns how many came.

    Args:
        from_beginning: also those that are there already.
    """
    topic, partitions = hello_topic(config, say)
    start = OFFSET_BEGINNING if from_beginning else OFFSET_END
    consumer = connect(Consumer, config.kafka, _listener_settings(say))
    heard = 0
    try:
        consumer.assign([TopicPartition(topic, partition, start) for partition in range(partitions)])
        say(f"Listening to {topic}; stop with Ctrl-C")
        while not should_stop():
            for message in consumer.consume(100, _POLL_S):
                heard += _hear(message, say)
    finally:
        consumer.close()
    return heard


def _listener_settings(say: Say) -> dict[str, Any]:
    return {
        "group.id": "houses-hello",  # required, and unused: partitions are assigned by hand and nothing is committed
        "enable.auto.commit": False,
        "error_cb": lambda error: (
            say(f"Kafka: {error.str()}") if error.code() == KafkaError._ALL_BROKERS_DOWN else None
        ),
    }


def _hear(message: Message, say: Say) -> bool:
    if error := message.error():
        say(f"Kafka: {error.str()}")
        return False
    say(f"heard: partition {message.partition()}, offset {message.offset()}: {printable(message.value())}")
    return True


# --- a consumer to learn from ---

NAIVE_HOUSES = "houses.jsonl"
NAIVE_POSITIONS = "positions.json"
_SAVE_EVERY_S = 1.0
_QUIET_S = 0.5


def naive_consume(config: Config, folder: Path, should_stop: Callable[[], bool], say: Say) -> None:
    """Join parts to houses as many do at first: save how far it has read, and forget what is in the table.

    1. Go on at the saved position. 2. Put each part into the table; write a line when its house is complete.
    3. Once a second, save the position. A kill between two saves writes houses twice, and the parts that were in the
    table at the last save are lost.

    Args:
        folder: holds its houses.jsonl and positions.json.
        should_stop: when true, it still reads what is there.
        say: told at the end what it has done.
    """
    positions, table, written = _saved_positions(folder), dict[int, set[int]](), 0
    consumer = connect(Consumer, config.kafka, {"group.id": "houses-naive", "enable.auto.commit": False})
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
    say(
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
