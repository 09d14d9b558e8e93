"""Reading topics from outside the consumer: whole ranges in batches, the newest records, a few raw ones to look at."""

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from houses.config.config import Config
from houses.config.models import KafkaConfig
from houses.errors import BrokerError, PositionError
from houses.kafka.broker import describe_topics, watermarks
from houses.kafka.clients import OUTSIDE_LOG, READER, connect
from houses.system.text import visible

_BATCH = 10_000
_POLL_S = 0.1
_STALL_S = 15.0
_OPEN_TRANSACTION_S = 3.0
_SHOWN_CHARACTERS = 300


class Run(NamedTuple):
    """Some records of one partition, in offset order."""

    partition: int
    offsets: list[int]
    messages: list[Message]

    def values(self) -> list[bytes | None]:
        """What the records hold; None for a tombstone."""
        return list(map(Message.value, self.messages))


def read_ranges(
    kafka: KafkaConfig, topic: str, ranges: Mapping[int, tuple[int, int]], stall_s: float = _STALL_S
) -> Iterator[Run]:
    """The records of some partitions, each from its first offset to its end (exclusive), in batches as they come.

    Offsets that hold no record for consumers (transaction markers, aborted transactions) are left out.

    Args:
        ranges: partition -> first offset and end, as `broker.watermarks` gives them.
        stall_s: how long nothing may come before the broker counts as gone, in seconds.
    Raises:
        PositionError: records were deleted while they were read. BrokerError: refused, or nothing comes.
    """
    reading = _Reading(topic, ranges)
    if not reading.open:
        return
    client = connect(Consumer, kafka, READER)
    try:
        client.assign([TopicPartition(topic, p, ranges[p][0]) for p in sorted(reading.open)])
        while reading.open:
            yield from reading.take(client.consume(min(_BATCH, reading.remaining()), _POLL_S))
            if at_end := reading.finished():
                client.incremental_unassign([TopicPartition(topic, p) for p in sorted(at_end)])
            reading.check_stall(stall_s)
    finally:
        client.close()


class _Reading:
    """How far each partition of a reading has come."""

    def __init__(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> None:
        self._topic = topic
        self._next = {p: start for p, (start, _) in ranges.items()}
        self._ends = {p: end for p, (_, end) in ranges.items()}
        self.open = {p for p, (start, end) in ranges.items() if start < end}
        self._at_eof: set[int] = set()
        self._progress_s = time.monotonic()
        self._last_error = ""

    def remaining(self) -> int:
        """Offsets still to come; `consume` waits for as many messages as it is asked for, up to its timeout."""
        return sum(self._ends[p] - self._next[p] for p in self.open)

    def take(self, batch: list[Message]) -> Iterator[Run]:
        """The wanted records of a batch, run by run."""
        failed = [message for message in batch if message.error()] if any(map(Message.error, batch)) else []
        if failed:
            batch = [message for message in batch if not message.error()]
        for partition, run in groupby(batch, Message.partition):
            found = self._wanted(partition or 0, list(run))
            if found.offsets:
                yield found
        for message in failed:  # after the records: an end of partition comes behind those before it
            self._note_error(message)

    def _wanted(self, partition: int, messages: list[Message]) -> Run:
        offsets: list[int] = list(map(Message.offset, messages))  # type: ignore[arg-type]  # None only in errors
        end = self._ends[partition]
        wanted = slice(bisect_left(offsets, self._next[partition]), bisect_left(offsets, end))
        self._advance(partition, min(offsets[-1] + 1, end))
        return Run(partition, offsets[wanted], messages[wanted])

    def _advance(self, partition: int, position: int) -> None:
        if position > self._next[partition]:
            self._next[partition] = position
            self._at_eof.discard(partition)
            self._progress_s = time.monotonic()

    def _note_error(self, message: Message) -> None:
        error, partition = message.error(), message.partition() or 0
        assert error is not None  # the caller's choice of messages
        if error.code() == KafkaError._PARTITION_EOF:
            self._advance(partition, message.offset() or 0)
            self._at_eof.add(partition)
        elif error.code() in OUTSIDE_LOG:
            raise PositionError(
                f"{self._topic} partition {partition}: records were deleted while they were read; start again"
            )
        elif error.fatal() or not error.retriable():
            raise BrokerError(f"reading {self._topic}: {error.str()}; start again when the broker is well")
        else:
            self._last_error = error.str()

    def finished(self) -> set[int]:
        """Partitions that have just come to their end; they are not open any more."""
        done = {p for p in self.open if self._next[p] >= self._ends[p]}
        self.open -= done
        return done

    def check_stall(self, stall_s: float) -> None:
        """Give up when nothing comes; but an open transaction may hide the end of a partition, which is no error."""
        silent_s = time.monotonic() - self._progress_s
        if silent_s > min(_OPEN_TRANSACTION_S, stall_s) and self.open <= self._at_eof:
            self.open.clear()
        elif silent_s > stall_s:
            why = f" ({self._last_error})" if self._last_error else ""
            raise BrokerError(
                f"reading {self._topic}: nothing came for {stall_s:.0f} s{why}; start again when the broker is well"
            )


def first_and_end(kafka: KafkaConfig, topic: str) -> dict[int, tuple[int, int]]:
    """Per partition the first offset that Kafka still has and the end; `BrokerError` when there is no such topic."""
    if (marks := _marks(kafka, topic)) is None:
        raise BrokerError(
            f"topic {topic} does not exist at {kafka.bootstrap_servers}: start a producer or consumer first"
        )
    return marks


def _marks(kafka: KafkaConfig, topic: str, timeout_s: float = 10.0) -> dict[int, tuple[int, int]] | None:
    info = describe_topics(kafka, [topic], timeout_s).get(topic)
    return watermarks(kafka, topic, range(info.partitions), timeout_s) if info else None


@dataclass(frozen=True, slots=True)
class Record:
    """A record as Kafka holds it."""

    partition: int
    offset: int
    timestamp_ms: int | None
    """Unix time in milliseconds; None when the record has none."""
    key: bytes | None
    value: bytes | None

    def __str__(self) -> str:
        """One line that is safe to print on a terminal."""
        when = "-" if self.timestamp_ms is None else _iso(self.timestamp_ms)
        return f"{self.partition:>9}  {self.offset:>8}  {when:<24}  {printable(self.key):<7}  {printable(self.value)}"

    @staticmethod
    def heading() -> str:
        """What the columns of such lines are."""
        return f"{'partition':>9}  {'offset':>8}  {'time (UTC)':<24}  {'key':<7}  value"

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; what is not UTF-8 is escaped."""
        bytes_of = {"key": self.key, "value": self.value}
        texts = {
            name: data if data is None else data.decode("utf-8", "backslashreplace") for name, data in bytes_of.items()
        }
        return {"partition": self.partition, "offset": self.offset, "timestamp_ms": self.timestamp_ms} | texts


def _iso(timestamp_ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # any producer may send any number
        return f"{timestamp_ms} ms"


def printable(data: bytes | None, limit: int = _SHOWN_CHARACTERS) -> str:
    """Bytes of anybody as text that cannot move a terminal's cursor, colour it, or turn the writing direction."""
    if data is None:
        return "null"
    text = data[: 4 * limit].decode("utf-8", "backslashreplace")
    shown = visible(text[:limit], keep="")
    return shown if len(text) <= limit and len(data) <= 4 * limit else f"{shown}... ({len(data)} bytes)"


def peek(
    config: Config, topic: str | None = None, partition: int | None = None, start: int | None = None, count: int = 10
) -> list[Record]:
    """Some raw records of a topic (the parts topic when None), by partition and offset.

    Args:
        partition: only this one; None for all.
        start: the first offset wanted; None for the last `count` of each partition.
        count: at most so many records of each partition.
    Raises:
        BrokerError: no such topic or partition.
    """
    topic = topic or config.kafka.topic
    marks = first_and_end(config.kafka, topic)
    if partition is not None and partition not in marks:
        raise BrokerError(f"topic {topic} has no partition {partition}: choose 0 to {len(marks) - 1}")
    wanted = marks if partition is None else {partition: marks[partition]}
    ranges = {p: _stretch(first, end, start, count) for p, (first, end) in wanted.items()}
    return sorted(_records(config.kafka, topic, ranges), key=attrgetter("partition", "offset"))


def last_records(kafka: KafkaConfig, topic: str, count: int, timeout_s: float = 10.0) -> list[Record]:
    """The last `count` records of each partition, in order within it; none when the topic does not exist.

    Up to the ends that were asked for before: a topic that is being written has no end of its own.

    Args:
        timeout_s: how long each answer may take.
    Raises:
        BrokerError, PositionError: as `read_ranges`.
    """
    marks = _marks(kafka, topic, timeout_s) or {}
    ranges = {p: _stretch(first, end, None, count) for p, (first, end) in marks.items()}
    return list(_records(kafka, topic, ranges, timeout_s))


def _stretch(first: int, end: int, start: int | None, count: int) -> tuple[int, int]:
    begin = max(first, end - count if start is None else start)
    return begin, min(end, begin + count)


def _records(
    kafka: KafkaConfig, topic: str, ranges: Mapping[int, tuple[int, int]], stall_s: float = _STALL_S
) -> Iterator[Record]:
    for run in read_ranges(kafka, topic, ranges, stall_s):
        for offset, message in zip(run.offsets, run.messages, strict=True):
            kind, milliseconds = message.timestamp()
            yield Record(run.partition, offset, milliseconds if kind else None, message.key(), message.value())
