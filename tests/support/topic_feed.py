"""Exactly these records on the topics of a test, and what the consumer's files then say."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from houses.config.config import Config
from houses.consumer.consumer import consume
from houses.kafka.broker import delete_topics, describe_topics, ensure_topics
from houses.kafka.clients import connect
from houses.records.message import PARTS, STORNO, encode_part
from support.kafka_lab import Values, make_lab, read_jsonl
from support.records import TS

BATCH = 5000


class Feed:
    """The topics of one test: sends records, reads them with the real consumer in this process, deletes, makes anew."""

    def __init__(self, folder: Path, kafka: str, values: Values | None = None) -> None:
        """Topics and configuration of its own."""
        self.config: Config = make_lab(folder, kafka, {"consumer.log_every": 0} | (values or {}))
        self._producer = connect(Producer, self.config.kafka, {"linger.ms": 1, "enable.idempotence": True})
        for index in (0, STORNO):
            self._producer.list_topics(
                self.topic(index)[0], timeout=60
            )  # else the first message waits for the next look

    def topic(self, index: int) -> tuple[str, int]:
        """Topic and Kafka partition of an index: 0 to 2, or STORNO."""
        return (self.config.consumer.storno_topic, 0) if index == STORNO else (self.config.kafka.topic, index)

    def send(self, index: int, *values: bytes | None) -> None:
        """Records for one partition, in this order; they are there when this returns."""
        topic, partition = self.topic(index)
        for start in range(0, len(values), BATCH):
            messages = [{"value": value} for value in values[start : start + BATCH]]
            self._producer.produce_batch(topic, messages, partition=partition)
            assert self._producer.flush(60) == 0

    def part(self, number: int, *ids: int) -> None:
        """Messages of part 1, 2 or 3 for these ids."""
        part = PARTS[number - 1]
        self.send(part.partition, *(encode_part(part, house_id, TS, part.workers[0]) for house_id in ids))

    def houses(self, *ids: int) -> None:
        """All three parts of these ids."""
        for part in PARTS:
            self.part(part.number, *ids)

    def storno(self, *values: bytes | None) -> None:
        """Records for the storno topic."""
        self.send(STORNO, *values)

    def read(self, **options: Any) -> dict[str, int]:
        """The real consumer, in this process, to the end of the topics; the outcomes that it counted."""
        counts = consume(self.config, lambda: False, until_end=True, **options)
        return {kind: number for kind, number in counts.items() if number}

    def lines(self, name: str) -> list[dict[str, Any]]:
        """What a file says: "houses", "storno" or "rejects"."""
        return read_jsonl(self.path(name)) if self.path(name).exists() else []

    def path(self, name: str) -> Path:
        """The file of that name."""
        config = self.config
        return {"houses": config.houses_path, "storno": config.storno_houses_path, "rejects": config.rejects_path}[name]

    def ids(self, name: str = "houses") -> list[int]:
        """The ids in a file, in the order of its lines."""
        return [line["id"] for line in self.lines(name)]

    def delete_before(self, index: int, offset: int) -> None:
        """As retention does: the records below an offset are gone."""
        admin = connect(AdminClient, self.config.kafka)
        for future in admin.delete_records([TopicPartition(*self.topic(index), offset)]).values():
            future.result(60)

    def make_anew(self, names: Iterable[str]) -> None:
        """Delete topics and make them again under the same names."""
        delete_topics(self.config.kafka, describe_topics(self.config.kafka, list(names)).values())
        ensure_topics(self.config)
