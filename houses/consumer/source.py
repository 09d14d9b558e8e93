"""The Kafka side of the consumer: batches by partition, positions, pausing, what each error means.

And whether the topics behind their names are still the ones that the folder was filled from.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from houses.config.config import Config
from houses.errors import BrokerError, HousesError, PositionError
from houses.kafka.broker import describe_topics, watermarks
from houses.kafka.clients import NO_ACCESS, OUTSIDE_LOG, READER, TopicInfo, connect
from houses.offsets.binding import Binding, check_topics
from houses.records.message import PARTS, STORNO

LOG = logging.getLogger(__name__)


class Chunk(NamedTuple):
    """Consumed records of one partition (STORNO: the storno topic), in offset order."""

    partition: int
    offsets: list[int]
    values: list[bytes | None]


def consumer_settings(config: Config) -> dict[str, Any]:
    """librdkafka settings of the join consumer, beside those that every client shares."""
    consumer = config.consumer
    return READER | {
        "group.id": consumer.group_id,
        "fetch.min.bytes": consumer.fetch_min_bytes,
        "fetch.wait.max.ms": 5,  # the longest that fetch_min_bytes may hold a record back
        # Small pieces of each partition in turn: with the default of 1 MB the partitions are drained so unevenly that
        # most of a backlog is pending at once.
        "max.partition.fetch.bytes": 200_000,
        "fetch.max.bytes": max(consumer.fetch_max_bytes, 1_000_000),
        "message.max.bytes": 1_000_000,
        "queued.min.messages": 50_000,
        "queued.max.messages.kbytes": 16_384,
    }


class Source:
    """The assigned partitions, owned by one thread. `next` holds the next offset of each, the storno topic last."""

    def __init__(self, config: Config) -> None:
        """Connect; nothing is assigned yet."""
        self._topics = [TopicPartition(config.kafka.topic, p.partition) for p in PARTS]
        self._topics.append(TopicPartition(config.consumer.storno_topic, 0))
        self._kafka = config.kafka
        self._storno_topic = config.consumer.storno_topic
        self._failure: HousesError | None = None
        self._dead = False  # a fatal error: after it the client's close() never returns (confluent_kafka 2.16.1)
        self._assigned = False
        self.paused: set[int] = set()
        self.next = [0, 0, 0, 0]
        self.last_error = ""
        self.identity_in_doubt = False
        """Set by any broker error: a topic may have been made anew behind it."""
        self._client = connect(Consumer, config.kafka, consumer_settings(config) | {"error_cb": self._note_error})

    def assign_storno(self, offset: int) -> None:
        """Read the storno topic alone, from `offset`."""
        self.next[STORNO] = offset
        self._client.assign([self._at(STORNO, offset)])
        self._locate(STORNO)

    def assign_parts(self, offsets: Sequence[int]) -> None:
        """Read the three partitions too, from their offsets."""
        self.next[:STORNO] = offsets
        self._client.incremental_assign([self._at(p, offset) for p, offset in enumerate(offsets)])
        self._locate(0)
        self._assigned = True

    def _locate(self, index: int) -> None:
        """Let librdkafka find out now where a topic's partitions are, which else takes it up to a second (topic_scan_tmr)."""
        with suppress(KafkaException):  # no broker just now: then within that second, as soon as it is back
            self._client.list_topics(self._topics[index].topic, timeout=1.0)

    def _at(self, index: int, offset: int) -> TopicPartition:
        return TopicPartition(self._topics[index].topic, self._topics[index].partition, offset)

    def poll(self, max_batch: int, timeout_s: float) -> list[Chunk]:
        """Records that have come, one chunk a partition, stornos first.

        Raises:
            PositionError: a position is outside the log. BrokerError: refused, or the client is broken.
        """
        batch = self._client.consume(max_batch, timeout_s)
        if self._failure:
            raise self._failure
        failed = []
        if any(map(Message.error, batch)):
            failed = [message for message in batch if message.error()]
            batch = [message for message in batch if not message.error()]
        chunks = [self._unread(chunk) for chunk in self._by_partition(batch)]
        for message in failed:  # after the records: an end of partition comes behind those before it
            self._handle_error(message)
        return [chunk for chunk in reversed(chunks) if chunk.offsets]

    def _by_partition(self, batch: list[Message]) -> list[Chunk]:
        """Regroup a batch; librdkafka hands records over in runs of one partition."""
        offsets: list[int] = list(map(Message.offset, batch))  # type: ignore[arg-type]  # None only in errors
        values = list(map(Message.value, batch))
        indexes: list[int] = list(map(Message.partition, batch))  # type: ignore[arg-type]  # None only in errors
        if self._storno_topic in set(map(Message.topic, batch)):
            indexes = list(map(self._index, batch))
        chunks = [Chunk(index, [], []) for index in range(len(self._topics))]
        start = 0
        for index, run in groupby(indexes):
            end = start + len(list(run))
            chunks[index].offsets.extend(offsets[start:end])
            chunks[index].values.extend(values[start:end])
            start = end
        return chunks

    def _unread(self, chunk: Chunk) -> Chunk:
        """The chunk from the next offset on: after a pause or a reconnect a record could be handed over again."""
        if known := bisect_left(chunk.offsets, self.next[chunk.partition]):
            chunk = Chunk(chunk.partition, chunk.offsets[known:], chunk.values[known:])
        if chunk.offsets:
            self.next[chunk.partition] = chunk.offsets[-1] + 1
        return chunk

    def _index(self, message: Message) -> int:
        return STORNO if message.topic() == self._storno_topic else message.partition() or 0

    def _handle_error(self, message: Message) -> None:
        error = message.error()
        assert error is not None  # the caller's choice of messages
        index = self._index(message)
        if error.code() == KafkaError._PARTITION_EOF:
            self.next[index] = max(self.next[index], message.offset() or 0)
        elif error.code() in OUTSIDE_LOG:
            where = f"{message.topic()} partition {message.partition()}"
            raise PositionError(
                f"{where}: position {self.next[index]} is outside the log ({error.str()}): start the consumer again to "
                "see which records are lost and the ways to go on"
            )
        else:
            self._note_error(error)
            if self._failure:
                raise self._failure

    def _note_error(self, error: KafkaError) -> None:
        # error_cb is told of a fatal error by a code, and fatal() is false there.
        self._dead = self._dead or error.fatal() or error.code() == KafkaError._FATAL
        if self._dead or error.code() in NO_ACCESS:
            self._failure = BrokerError(
                f"Kafka refuses the consumer: {error.str()}: check kafka.security and the broker's log"
            )
            return
        # _ALL_BROKERS_DOWN and _TRANSPORT come in turns, by the hundred, and pass: one is shown, reading goes on by itself.
        if not self.last_error:
            LOG.info(
                f"Kafka at {self._kafka.bootstrap_servers}: no answer ({error.name()}); waiting for it to come back"
            )
        self.last_error = f"{error.name()}: {error.str()}"
        self.identity_in_doubt = True

    def pause(self, partitions: set[int]) -> None:
        """Read exactly the others.

        Librdkafka throws away what it has fetched of a paused one, so changes should be rare.
        """
        if stop := partitions - self.paused:
            self._client.pause([self._topics[p] for p in sorted(stop)])
        if go := self.paused - partitions:
            self._client.resume([self._topics[p] for p in sorted(go)])
        self.paused = set(partitions)

    def lag(self) -> int:
        """Records that the broker told of and that were not read yet."""
        ends = (self._cached_end(index) for index in range(len(self._topics) if self._assigned else 0))
        return sum(max(0, end - position) for end, position in zip(ends, self.next, strict=False))

    def _cached_end(self, index: int) -> int:
        try:
            return int(self._client.get_watermark_offsets(self._topics[index], cached=True)[1])
        except KafkaException:
            return 0

    def storno_end(self) -> int:
        """The offset behind the last storno that there is now."""
        return watermarks(self._kafka, self._storno_topic, (0,))[0][1]

    def describe_topics(self, timeout_s: float) -> tuple[TopicInfo | None, TopicInfo | None]:
        """The parts and the storno topic as they are now, None when gone; `BrokerError` when no broker answers."""
        names = (self._topics[0].topic, self._storno_topic)
        found = describe_topics(self._kafka, names, timeout_s)
        return found.get(names[0]), found.get(names[1])

    def close(self) -> None:
        """Leave the broker."""
        if not self._dead:
            self._client.close()


_TIMEOUT_S = 2.0
_DOUBT_TIMEOUT_S = 1.0
_DOUBT_EVERY_S = 2.0


class TopicIdentity:
    """Asks the broker for the ids of the topics; after a broker error they are in doubt until it has answered."""

    def __init__(self, binding: Binding, source: Source) -> None:
        """Nothing is asked yet."""
        self._binding, self._source = binding, source
        self._due_s = 0.0

    def check(self, timeout_s: float = _TIMEOUT_S) -> None:
        """End the doubt.

        Raises:
            PositionError: a topic is another one. BrokerError: no broker to ask, and the doubt stays.
        """
        check_topics(self._binding, *self._source.describe_topics(timeout_s))
        if self._source.last_error:
            LOG.info("Kafka answers again")
        self._source.identity_in_doubt = False
        self._source.last_error = ""

    def _ask(self) -> None:
        # No broker to ask: the doubt stays.
        with suppress(BrokerError):
            self.check(_DOUBT_TIMEOUT_S)

    def ask_in_doubt(self, now_s: float) -> None:
        """Ask every two seconds while there is a doubt, also when no record comes."""
        if self._source.identity_in_doubt and now_s >= self._due_s:
            self._due_s = now_s + _DOUBT_EVERY_S
            self._ask()

    def is_known(self, should_stop: Callable[[], bool], meanwhile: Callable[[], None]) -> bool:
        """After a broker error no record is taken before its topic is known to be the same one.

        Args:
            should_stop: asked before each attempt; told to stop, it returns False.
            meanwhile: called after each attempt.
        """
        while self._source.identity_in_doubt and not should_stop():
            self._ask()
            meanwhile()
        return not self._source.identity_in_doubt
