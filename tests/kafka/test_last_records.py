"""The newest records of a topic."""

from itertools import count
from typing import Any, cast

from confluent_kafka import Consumer

from houses.config.models import KafkaConfig
from houses.kafka.reader import _read_to_ends


class Growing:
    """A message at some offset of a partition to which a producer adds all the time: its end is never reached."""

    def __init__(self, offset: int) -> None:
        """Its offset is its value."""
        self._offset = offset

    def error(self) -> None:
        """It is no error and no end of the partition."""

    def partition(self) -> int:
        """The only one."""
        return 0

    def key(self) -> None:
        """None."""

    def offset(self) -> int:
        """Where it stands."""
        return self._offset

    def value(self) -> bytes:
        """What it holds."""
        return str(self._offset).encode()


class EndlessConsumer:
    """Always has one more message."""

    def __init__(self) -> None:
        """Begins at offset 5."""
        self._offsets = count(5)

    def consume(self, number: int, timeout_s: float) -> list[Any]:
        """The next message."""
        return [Growing(next(self._offsets))]


def test_a_topic_that_grows_is_read_to_the_end_that_it_had() -> None:
    """The storno loop looks for recent houses while producers send: it must not wait for their end."""
    records = _read_to_ends(KafkaConfig(), cast(Consumer, EndlessConsumer()), {0: 8}, timeout_s=5.0)
    assert [record.value for record in records] == [b"5", b"6", b"7"]
