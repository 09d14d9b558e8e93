"""`verify` on odd messages, older files, beside a running consumer, and where Kafka has forgotten."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from support.damages import house, removed
from support.finished_run import (
    FOUNDATION,
    ROOF,
    TS,
    WALL,
    Files,
    Record,
    Sender,
    consume_to_end,
)
from support.kafka_lab import make_lab, reading

from houses.config.config import Config
from houses.errors import BrokerError, PositionError
from houses.kafka.broker import delete_topics, describe_topics, ensure_topics
from houses.kafka.clients import client_config
from houses.records.message import PARTS, encode_part, encode_storno
from houses.verify.verify import verify


@pytest.fixture
def lab(kafka: str, tmp_path: Path) -> Config:
    """An empty folder with topics of its own."""
    return make_lab(tmp_path, kafka)


def test_checkpoint_in_a_kafka_group_is_used(kafka: str, tmp_path: Path) -> None:
    """With consumer_group: true the position comes from the group."""
    config = make_lab(
        tmp_path, kafka, {"consumer.consumer_group": True, "consumer.group_id": f"verify-{tmp_path.name}"}
    )
    Sender(config).houses(1, 2)
    consume_to_end(config)
    found = verify(config)
    assert (found.ok, found.position, found.houses) == (True, (2, 2, 2), 2)
    removed("houses", house(1))(Files(config))
    assert verify(config).problems["missing"] == 3


def test_odd_messages_of_anybody_are_compared_as_they_are(lab: Config) -> None:
    """Quotes, non-ASCII letters, old prefixes, more fields, leading zeros, tombstones and long values."""
    sender = Sender(lab)
    texts = ['a"b\\c', "żółć", "name:bob", "", "\x1b[31m"]
    for i, text in enumerate(texts):
        for part in PARTS:
            sender.raw(part.partition, f"part_{part.number}|id:00{i}|ts:ts:{i}|name:{text}|task:{text}|more".encode())
    sender.raw(0, None, b"", b"\xff", b"x" * 10_000)
    consume_to_end(lab)
    found = verify(lab)
    assert found.ok, found
    assert (found.houses, found.rejects) == (len(texts), {"malformed": 4})


def test_markers_of_transactions_need_no_outcome(lab: Config) -> None:
    """Offsets of commits and of aborted records hold nothing for a consumer."""
    producer = Producer(client_config(lab.kafka) | {"transactional.id": lab.kafka.topic})
    producer.init_transactions(10)
    for i, finish in enumerate([producer.commit_transaction, producer.abort_transaction, producer.commit_transaction]):
        producer.begin_transaction()
        for part in PARTS:
            producer.produce(lab.kafka.topic, encode_part(part, i, TS, "bob"), partition=part.partition)
        producer.flush()  # an aborted record is in the topic then, and hidden
        finish(10)
    consume_to_end(lab)
    found = verify(lab)
    assert found.ok, found
    assert (found.houses, found.offsets, found.end, found.unread) == (2, 6, (6, 6, 6), 0)


def test_lines_of_the_older_program_are_accepted(lab: Config) -> None:
    """Files with prefixes and without completed_at, excluded parts or storno offsets, taken up by a consumer of today."""
    old = Path(__file__).parents[1] / "legacy"
    lab.houses_path.write_bytes((old / "houses.jsonl").read_bytes())
    lab.storno_houses_path.write_bytes((old / "storno_houses.jsonl").read_bytes())
    lab.storno_ids_path.write_bytes((old / "storno_ids.json").read_bytes())
    send_older_parts(Files(lab))
    Sender(lab).stornos(b"7", b"21", encode_storno(9, WALL), encode_storno(22, ROOF))
    consume_to_end(lab)
    found = verify(lab)
    assert found.ok, found
    assert (found.houses, found.cancelled, found.late) == (21, 2, 2)


def test_older_line_covers_the_excluded_part_whose_offset_it_lacks(lab: Config) -> None:
    """Before a consumer of today has rejected that part as a duplicate, the line speaks for it."""
    old = Path(__file__).parents[1] / "legacy"
    lab.storno_houses_path.write_bytes((old / "storno_houses.jsonl").read_bytes())
    send_older_parts(Files(lab))
    Sender(lab).stornos(b"21", encode_storno(22, ROOF))
    found = verify(lab)
    assert found.ok, found
    assert (found.cancelled, found.unread) == (2, 3 * 21)


def send_older_parts(files: Files) -> None:
    """Houses 0 to 22 as the older lines tell of them, each at the offset of its id."""
    sender = Sender(files.config)
    known = {record["id"]: record["house"] for name in ("houses", "storno_houses") for record in maybe(files, name)}
    for part in PARTS:
        for i in range(23):
            made = known.get(i, {}).get(f"partition_{part.number}") or {
                "ts": "ts:x",
                "name": "name:y",
                "task": "task:z",
            }
            value = "|".join((f"partition_{part.number}", f"id:{i}", made["ts"], made["name"], made["task"]))
            sender.raw(part.partition, value.encode())


def maybe(files: Files, name: str) -> list[Record]:
    """The lines of a file, none when it is absent."""
    return files.read(name) if files.path(name).exists() else []


# --- beside a running consumer ---


@pytest.fixture
def busy(kafka: str, tmp_path: Path) -> Iterator[Config]:
    """A folder whose consumer runs in a thread and checkpoints all the time."""
    config = make_lab(tmp_path, kafka, {"consumer.offset_save_interval_sec": 0.05, "consumer.max_pending_age_sec": 0.1})
    with reading(config):
        yield config


def test_verify_beside_a_running_consumer_gives_no_false_alarm(busy: Config) -> None:
    """Parts out of step, duplicates, junk, evictions and stornos come in while it looks, again and again."""
    sender = Sender(busy)
    most = 0
    for start in range(0, 1500, 100):
        ids = range(start, start + 100)
        sender.stornos(*(encode_storno(i, WALL) for i in ids[::7]), b"junk")
        sender.part(FOUNDATION, *ids, *ids[:5])
        sender.raw(1, b"junk")
        sender.part(ROOF, *ids)
        sender.part(WALL, *(i for i in ids if i % 50))
        sender.stornos(*(encode_storno(i) for i in ids[::11]))
        found = verify(busy)
        assert found.ok, found
        assert "a consumer runs" in found.notes[0]
        most = max(most, found.houses)
    assert most > 0


# --- what Kafka no longer has ---


def delete_before(config: Config, partition: int, offset: int) -> None:
    """Make Kafka forget the records of a partition below an offset."""
    admin = AdminClient(client_config(config.kafka))
    for future in admin.delete_records([TopicPartition(config.kafka.topic, partition, offset)]).values():
        future.result(60)


def test_expired_offsets_are_told_and_not_checked(lab: Config) -> None:
    """What Kafka has forgotten cannot be compared; what it has still is."""
    Sender(lab).houses(*range(20))
    consume_to_end(lab)
    delete_before(lab, 0, 5)
    Files(lab).edit("houses", house(3), lambda record: [record | {"completed_at": TS}])
    found = verify(lab)
    assert (found.ok, found.expired, found.expired_with_line, found.offsets) == (True, 5, 5, 55)
    assert "expired      5 offsets are gone from Kafka and not checkable; 5 have their line" in str(found)
    removed("houses", house(3))(Files(lab))
    found = verify(lab)
    assert found.problems == {"checkpoint": 3}
    assert "partition 1 offset 3: no line, and a restart begins at offset 20" in str(found)


def test_expired_offset_with_two_lines_is_found(lab: Config) -> None:
    """For that the files are enough."""
    Sender(lab).houses(*range(5))
    consume_to_end(lab)
    delete_before(lab, 0, 5)
    files = Files(lab)
    files.edit(
        "houses", house(3), lambda record: [record | {"house": record["house"] | files.read("houses")[2]["house"]}]
    )
    found = verify(lab)
    assert found.problems["double"] == 3
    assert "partition 0 offset 2: the offset has a line already" in str(found)


def test_accepted_gap_covers_lost_offsets(lab: Config) -> None:
    """Records that were deleted unread are declared lost by a line, and counted."""
    sender = Sender(lab)
    sender.houses(*range(5))
    consume_to_end(lab)
    sender.houses(*range(5, 10))
    delete_before(lab, 0, 8)
    consume_to_end(lab, accept_gap=True)
    found = verify(lab)
    assert found.ok, found
    assert (found.lost, found.expired, found.rejects) == (3, 8, {"gap": 1})
    assert found.pending_ids == 3


def test_gap_line_doubled_is_found(lab: Config) -> None:
    """One line a gap."""
    Sender(lab).houses(*range(3))
    consume_to_end(lab)
    Sender(lab).houses(*range(3, 6))
    delete_before(lab, 0, 5)
    consume_to_end(lab, accept_gap=True)
    Files(lab).edit("rejects", lambda record: record["reason"] == "gap", lambda record: [record, record])
    assert verify(lab).problems == {"double": 1}


# --- topics that do not fit ---


def test_topic_made_anew_cannot_be_verified(lab: Config) -> None:
    """Its records are not those that the files speak of."""
    Sender(lab).houses(1)
    consume_to_end(lab)
    delete_topics(lab.kafka, describe_topics(lab.kafka, [lab.kafka.topic]).values())
    with pytest.raises(PositionError, match="does not exist: nothing can be checked"):
        verify(lab)
    ensure_topics(lab)
    with pytest.raises(PositionError, match="is another one: nothing can be checked"):
        verify(lab)


def test_missing_topics_are_a_clear_error(lab: Config) -> None:
    """They are not made by looking."""
    with pytest.raises(BrokerError, match="topic never-made does not exist at"):
        verify(lab.with_values({"kafka.topic": "never-made"}))
    assert describe_topics(lab.kafka, ["never-made"]) == {}
