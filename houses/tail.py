"""The newest records of a topic, read without leaving a trace."""

import time
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from houses.broker import describe_topics, watermarks
from houses.clients import connect, unreachable
from houses.config.models import KafkaConfig
from houses.errors import BrokerError


class Record(NamedTuple):
    """A message as it stands in a topic."""

    partition: int
    key: bytes | None
    value: bytes | None


def last_records(kafka: KafkaConfig, topic: str, count: int, timeout_s: float = 10.0) -> list[Record]:
    """The last `count` records of each partition, in order within it; none when the topic does not exist."""
    infos = describe_topics(kafka, [topic], timeout_s)
    marks = watermarks(kafka, topic, range(infos[topic].partitions), timeout_s) if topic in infos else {}
    starts = {partition: max(low, high - count) for partition, (low, high) in marks.items() if high > low}
    ends = {partition: marks[partition][1] for partition in starts}
    extra = {"group.id": "houses-unused", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = connect(Consumer, kafka, extra | {"auto.offset.reset": "earliest"})
    try:
        consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
        return _read_to_ends(kafka, consumer, ends, timeout_s)
    finally:
        consumer.close()


def _read_to_ends(kafka: KafkaConfig, consumer: Consumer, ends: dict[int, int], timeout_s: float) -> list[Record]:
    """Records up to the ends that were asked for before: a topic that is being written has no end of its own."""
    records: list[Record] = []
    deadline = time.monotonic() + timeout_s
    unread = set(ends)
    while unread:
        for message in consumer.consume(1000, 0.1):
            error = message.error()
            if error is None:
                partition = message.partition() or 0
                records.append(Record(partition, message.key(), message.value()))
                if (message.offset() or 0) + 1 >= ends[partition]:
                    unread.discard(partition)
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
            elif not error.retriable():
                raise BrokerError(f"reading {message.topic()}: {error.str()}; start again when the broker is well")
        if time.monotonic() > deadline:
            raise unreachable(kafka, f"its last records could not be read within {timeout_s:.0f} s")
    return records
