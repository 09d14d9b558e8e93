"""For class: a producer that says hello, a listener that prints what it hears, and a join that loses and doubles houses."""

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, Message, Producer, TopicPartition

from houses.config.config import Config
from houses.errors import BrokerError
from houses.kafka.broker import describe_topics, ensure_broker, ensure_topics_named
from houses.kafka.clients import connect
from houses.kafka.reader import printable
from houses.system.log import Say

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
