"""The newest records of a topic."""

from typing import Any

import pytest
from confluent_kafka import Message, TopicPartition

from houses.config.models import KafkaConfig
from houses.kafka import reader
from houses.kafka.clients import TopicInfo
from houses.kafka.reader import last_records


class EndlessConsumer:
    """Stands in for a client of a partition to which a producer adds all the time: it always has one more message."""

    def __init__(self) -> None:
        self._offset = 0

    def assign(self, partitions: list[TopicPartition]) -> None:
        (at,) = partitions
        self._offset = at.offset

    def consume(self, number: int, timeout_s: float) -> list[Message]:
        self._offset += 1
        return [Message(topic="t", partition=0, offset=self._offset - 1, value=str(self._offset - 1).encode())]

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_topic_that_grows_is_read_to_the_end_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The storno loop looks for recent houses while producers send: it must not wait for their end."""

    def described(*_: Any) -> dict[str, TopicInfo]:
        return {"t": TopicInfo("t", "id", 1)}

    monkeypatch.setattr(reader, "describe_topics", described)
    monkeypatch.setattr(reader, "watermarks", lambda *_: {0: (2, 8)})
    monkeypatch.setattr(reader, "connect", lambda *_: EndlessConsumer())
    records = last_records(KafkaConfig(), "t", 3, 5.0)
    assert [(record.offset, record.value) for record in records] == [(5, b"5"), (6, b"6"), (7, b"7")]
