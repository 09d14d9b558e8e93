"""A small finished run with every kind of outcome in it, made once and copied for each test that damages it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from houses.config.config import Config
from houses.consumer.consumer import consume
from houses.kafka.clients import client_config
from houses.records.message import PARTS, Part, encode_part, encode_storno
from support.kafka_lab import make_lab, read_jsonl

FOUNDATION, WALL, ROOF = PARTS
HOUSES = 30
EVICTED = 20
PENDING = (50, 51)
UNREAD = 60
TS = "2026-01-31T12:00:00.000000Z"

Record = dict[str, Any]


class Sender:
    """Sends raw messages, one by one, to chosen partitions."""

    def __init__(self, config: Config) -> None:
        """Connected to the configuration's Kafka."""
        self._config = config
        self._producer = Producer(client_config(config.kafka) | {"linger.ms": 0, "enable.idempotence": True})

    def raw(self, partition: int, *values: bytes | None) -> None:
        """Messages for a partition of the parts topic."""
        for value in values:
            self._producer.produce(self._config.kafka.topic, value, partition=partition)
        self._producer.flush()

    def part(self, part: Part, *ids: int, ts: str = TS) -> None:
        """Parts of houses."""
        self.raw(part.partition, *(encode_part(part, i, ts, part.workers[0]) for i in ids))

    def houses(self, *ids: int) -> None:
        """All three parts of houses."""
        for part in PARTS:
            self.part(part, *ids)

    def stornos(self, *values: bytes) -> None:
        """Messages for the storno topic."""
        for value in values:
            self._producer.produce(self._config.consumer.storno_topic, value, partition=0)
        self._producer.flush()


def consume_to_end(config: Config, **options: Any) -> None:
    """Run a consumer in this process up to what the topics hold now."""
    consume(config, lambda: False, until_end=True, **options)


def make_finished_run(folder: Path, kafka: str) -> Config:
    """Thirty houses with cancelled, late, duplicate, malformed, misplaced and evicted ones; two pending, one unread."""
    config = make_lab(folder, kafka, {"consumer.max_pending_age_sec": 0.2})
    sender = Sender(config)
    sender.stornos(encode_storno(7), encode_storno(9, WALL), b"junk", encode_storno(PENDING[0]))
    sender.part(FOUNDATION, *range(10), 3, *range(10, HOUSES))
    sender.raw(0, b"malf", encode_part(WALL, 3, TS, "eve"))
    sender.part(WALL, *range(HOUSES))
    sender.part(ROOF, *(i for i in range(HOUSES) if i != EVICTED))
    rejects = config.rejects_path
    consume(config, lambda: rejects.exists() and b"evicted" in rejects.read_bytes())
    sender.part(ROOF, EVICTED)
    sender.part(WALL, 4)
    sender.part(FOUNDATION, *PENDING)
    sender.part(WALL, PENDING[1])
    late = (encode_storno(11), encode_storno(12, WALL), encode_storno(12, WALL), encode_storno(12))
    sender.stornos(*late, encode_storno(1000))
    consume_to_end(config)
    sender.houses(UNREAD)
    sender.raw(2, b"unread")
    sender.stornos(encode_storno(13), b"unread")
    return config


def copy_run(config: Config, folder: Path) -> Config:
    """The same topics with a copy of the output folder."""
    shutil.copytree(config.root, folder)
    return config.with_values({}, path=folder / "config.yaml")


class Files:
    """The files of a run, to be damaged. They are named houses, storno_houses and rejects."""

    def __init__(self, config: Config) -> None:
        """Of the configuration's folder."""
        self.config = config

    def path(self, name: str) -> Path:
        """Where a file is."""
        return self.config.folder / f"{name}.jsonl"

    def read(self, name: str) -> list[Record]:
        """All lines of a file."""
        return read_jsonl(self.path(name))

    def write(self, name: str, records: list[Record]) -> None:
        """Write all lines of a file anew."""
        lines = (json.dumps(record, separators=(",", ":")) + "\n" for record in records)
        self.path(name).write_text("".join(lines), "ascii")

    def add(self, name: str, *records: Record) -> None:
        """Add lines at the end."""
        self.write(name, [*self.read(name), *records])

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add anything at the end."""
        self.path(name).write_bytes(self.path(name).read_bytes() + data)

    def edit(self, name: str, wanted: Callable[[Record], bool], change: Callable[[Record], list[Record]]) -> None:
        """Put other lines in the place of the first one that is wanted; there must be one."""
        records = self.read(name)
        at = next(i for i, record in enumerate(records) if wanted(record))
        self.write(name, [*records[:at], *change(records[at]), *records[at + 1 :]])

    @property
    def checkpoint(self) -> Record:
        """The checkpoint as it stands."""
        return dict(json.loads(self.config.offsets_path.read_text("ascii")))

    def set_checkpoint(self, **values: Any) -> None:
        """Change members of the checkpoint."""
        self.config.offsets_path.write_text(json.dumps(self.checkpoint | values), "ascii")

    @property
    def register(self) -> Record:
        """storno_ids.json as it stands."""
        return dict(json.loads(self.config.storno_ids_path.read_text("ascii")))

    def set_register(self, **values: Any) -> None:
        """Change members of storno_ids.json."""
        self.config.storno_ids_path.write_text(json.dumps(self.register | values), "ascii")

    def settle(self) -> None:
        """Make the checkpoint fit the files' lengths, so that only the damage itself can be noticed."""
        lengths = [self.path(name).stat().st_size for name in ("houses", "storno_houses", "rejects")]
        self.set_checkpoint(synced=lengths, tail=list(map(min, lengths, self.checkpoint["tail"])))
