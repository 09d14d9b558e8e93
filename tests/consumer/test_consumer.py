"""The consumer on a real Kafka: kills, topics that change behind it, records that go, and bounds that hold."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]  # no __all__ there
from support.command_line import STOP_LIMIT_S, check, consuming, ends, run
from support.kafka_lab import read_jsonl, wait_until
from support.topic_feed import Feed

from houses.config.config import Config
from houses.consumer.consumer import consume
from houses.errors import BrokerError, FolderError, PositionError
from houses.kafka.broker import delete_topics, describe_topics
from houses.kafka.clients import client_config, connect
from houses.offsets.checkpoint import Checkpoint
from houses.offsets.kafka_store import KafkaStore
from houses.offsets.stores import checkpoint_store
from houses.records.message import STORNO
from houses.records.metrics import last_metrics
from houses.verify.verify import verify

GROUP = {"consumer.consumer_group": True}
STORES = {"file": {"consumer.consumer_group": False}, "group": GROUP}


@pytest.fixture
def feed(tmp_path: Path, kafka: str) -> Feed:
    """Topics of the test's own."""
    return Feed(tmp_path, kafka)


def dump(config: Config) -> Config:
    """Make a configuration the one that child processes load."""
    config.dump(config.path)
    return config


def ok(config: Config) -> None:
    """Every record has one outcome, says the proof from outside."""
    certificate = verify(config)
    assert certificate.ok, certificate


# --- crashes ---


@pytest.mark.parametrize("store", STORES)
def test_kills_in_the_middle_lose_and_repeat_nothing(tmp_path: Path, kafka: str, store: str) -> None:
    """SIGKILL at random moments while 12,000 parts and stornos are read, torn bytes at the ends: each has its line."""
    random = Random(7)
    feed = Feed(tmp_path, kafka, STORES[store] | {"consumer.group_id": tmp_path.name, "consumer.max_batch": 50})
    made = dump(feed.config.with_values({"consumer.offset_save_interval_sec": 0.1}))
    for start in range(0, 4_000, 1_000):
        with consuming(made) as process:
            before = size(made.houses_path)
            feed.houses(*range(start, start + 1_000))
            feed.storno(b'{"id":%d}' % start, b'{"id":%d,"partition":2}' % (start + 1_900), b"junk")
            wait_for_more(made.houses_path, before)
            time.sleep(random.random() / 20)
            process.kill()
        with made.houses_path.open("ab") as file:
            file.write(b'{"id":77,"house":{"partition_1"'[: random.randint(0, 30)])
    check(made, "consume", "--until-end")
    assert sorted(feed.ids() + [line["id"] for line in feed.lines("storno") if "late" not in line]) == list(
        range(4_000)
    )
    assert [line["reason"] for line in feed.lines("rejects")] == ["malformed"] * 4
    ok(made)


def size(path: Path) -> int:
    """Bytes of a file, 0 when it is absent."""
    return path.stat().st_size if path.exists() else 0


def wait_for_more(path: Path, before: int) -> None:
    """Return when the file has grown beyond its size from before."""
    wait_until(lambda: size(path) > before, f"{path.name} grows")


def test_a_restart_finds_its_position_in_the_group(tmp_path: Path, kafka: str) -> None:
    """The record is the group's commit: its offsets are the low watermarks, no file says them, and a restart reads on."""
    feed = Feed(tmp_path, kafka, GROUP | {"consumer.group_id": f"g-{tmp_path.name}"})
    feed.houses(1, 2)
    feed.part(1, 3)
    feed.storno(b"2", b"9")
    feed.read()
    assert not feed.config.offsets_path.exists()
    assert committed(feed.config) == [2, 2, 2, 2]
    feed.part(2, 3)
    feed.part(3, 3)
    assert feed.read() == {"houses": 1}
    assert feed.ids() == [1, 3] and feed.ids("storno") == [2]
    assert committed(feed.config) == [3, 3, 3, 2]


def committed(config: Config) -> list[int]:
    """What Kafka's own tools show for the group."""
    settings = client_config(config.kafka) | {"group.id": config.consumer.group_id}
    client = KafkaConsumer(settings)
    places = [TopicPartition(config.kafka.topic, p) for p in range(3)] + [
        TopicPartition(config.consumer.storno_topic, 0)
    ]
    try:
        return [int(place.offset) for place in client.committed(places, timeout=60)]
    finally:
        client.close()


def test_the_group_store_keeps_one_record(feed: Feed) -> None:
    """None at first, the last one saved afterwards, none when forgotten."""
    config = feed.config.with_values(GROUP | {"consumer.group_id": f"g-{feed.config.kafka.topic}"})
    store = checkpoint_store(config)
    assert isinstance(store, KafkaStore) and store.load() is None
    record = Checkpoint("f", ("a", "b"), 1, (1, 2, 3), (4, 5, 6), 7, (8, 9, 10), (0, 1, 2))
    store.save(record)
    assert store.load() == record and committed(config) == [1, 2, 3, 7]
    store.forget()
    assert store.load() is None
    store.forget()
    store.close()


def test_offsets_of_the_older_consumer_in_the_group_are_refused(feed: Feed) -> None:
    """They forget pending parts: nothing is guessed, and the command that goes on is named."""
    config = feed.config.with_values(GROUP | {"consumer.group_id": f"older-{feed.config.kafka.topic}"})
    client = KafkaConsumer(client_config(config.kafka) | {"group.id": config.consumer.group_id})
    client.commit(offsets=[TopicPartition(config.kafka.topic, 0, 5)], asynchronous=False)
    client.close()
    with pytest.raises(PositionError, match="Kafka group older-.*not a checkpoint.*--rescan"):
        consume(config, lambda: False, until_end=True)
    consume(config, lambda: False, until_end=True, rescan=True)


def test_two_folders_cannot_share_a_group(tmp_path: Path, kafka: str) -> None:
    """The second one finds the record of the first, whose positions are not its own."""
    (tmp_path / "a").mkdir()
    first = Feed(tmp_path / "a", kafka, GROUP | {"consumer.group_id": f"shared-{tmp_path.name}"})
    first.read()
    (tmp_path / "b").mkdir()
    config = first.config.with_values({"consumer.output_file": str(tmp_path / "a/other/houses.jsonl")})
    with pytest.raises(PositionError, match="holds the positions of another folder.*choose another consumer.group_id"):
        consume(config, lambda: False, until_end=True)


def test_a_lost_checkpoint_is_made_good_from_the_files(tmp_path: Path, kafka: str) -> None:
    """File deleted or group forgotten: the files say what is done, and nothing is written twice."""
    for name, values in STORES.items():
        (tmp_path / name).mkdir()
        feed = Feed(tmp_path / name, kafka, values | {"consumer.group_id": f"{name}-{tmp_path.name}"})
        feed.houses(*range(50))
        feed.part(1, 100, 3)
        feed.storno(b"4", b"5", b"x")
        feed.read()
        files = [feed.path(file).read_bytes() for file in ("houses", "storno", "rejects")]
        store = checkpoint_store(feed.config)
        store.forget()
        store.close()
        assert feed.read() in ({}, {"stornos": 2})
        assert [feed.path(file).read_bytes() for file in ("houses", "storno", "rejects")] == files
        ok(feed.config)


def test_rescan_reads_the_files_instead_of_the_checkpoint(feed: Feed) -> None:
    """The record is put aside, not lost."""
    feed.houses(1, 2)
    feed.read()
    record = feed.config.offsets_path.read_bytes()
    feed.houses(3)
    assert feed.read(rescan=True) == {"houses": 1}
    assert feed.config.offsets_path.with_name("consumer_offsets.json.old").read_bytes() == record


@pytest.mark.parametrize("share", [0, 0.5])
def test_rescan_makes_good_what_a_file_lost(feed: Feed, share: float) -> None:
    """Any of the three, missing or cut in two: refused at first, then nothing is lost and nothing there twice."""
    feed.houses(*range(300))
    feed.part(1, 7, 900)
    feed.send(0, b"junk")
    feed.storno(b"4", b"junk", b'{"id":9,"partition":2}')
    feed.read()
    for name in ("houses", "storno", "rejects"):
        path = feed.path(name)
        data = path.read_bytes()
        path.unlink()
        if share:
            path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(FolderError, match="restore the file; or read again .* houses consume --rescan"):
            feed.read()
        feed.read(rescan=True)
        assert sorted(map(without_time, data.splitlines())) == sorted(map(without_time, path.read_bytes().splitlines()))
        ok(feed.config)


def without_time(line: bytes) -> bytes:
    """A line but for the time at which its house was completed."""
    return line.partition(b'"completed_at"')[0]


# --- the folder of the older consumer ---


def test_the_folder_of_the_older_consumer_is_gone_on_with(tmp_path: Path, kafka: str) -> None:
    """Its houses, cancelled houses and stornos stay; what it forgot is made good; refused until told to --rescan."""
    legacy = Path(__file__).parents[1] / "legacy"
    feed = Feed(tmp_path, kafka)
    for name in ("houses.jsonl", "storno_houses.jsonl", "storno_ids.json", "consumer_offsets.json"):
        (feed.config.folder / name).write_bytes((legacy / name).read_bytes())
    written = [*read_jsonl(legacy / "houses.jsonl"), *read_jsonl(legacy / "storno_houses.jsonl")]
    houses = {line["id"]: line["house"] for line in written}
    for number, part in enumerate(("partition_1", "partition_2", "partition_3"), 1):
        feed.send(number - 1, *(older_message(number, i, houses.get(i, {}).get(part, {})) for i in range(24)))
    stornos = [json.loads(line) for line in (legacy / "messages.jsonl").read_text().splitlines()]
    feed.storno(*(line["value"].encode() for line in stornos if line["topic"] == "house-storno"))
    with pytest.raises(PositionError, match="written by the older consumer.*--rescan"):
        feed.read()
    old = feed.path("houses").read_bytes()
    feed.read(rescan=True)
    assert feed.path("houses").read_bytes().startswith(old)
    assert feed.ids() == [i for i in range(24) if i not in (21, 22)]
    late = [line for line in feed.lines("storno") if line.get("late")]
    assert [(line["id"], line["storno"], line.get("excluded_partitions")) for line in late] == [
        (7, "full", None),
        (9, "partial", [2]),
    ]
    assert json.loads(feed.config.storno_ids_path.read_text())["full"] == [7, 21]
    ok(feed.config)


def older_message(number: int, house_id: int, part: dict[str, Any]) -> bytes:
    """The message that the older consumer has written as this part of a house, or some message of that part."""
    fields = (part.get(name, f"{name}:x") for name in ("ts", "name", "task"))
    return "|".join([f"partition_{number}|id:{house_id}", *fields]).encode()


# --- topics that change ---


@pytest.mark.parametrize("longer", [False, True])
def test_a_topic_made_anew_while_the_consumer_was_down_is_refused(feed: Feed, longer: bool) -> None:
    """Also when the new one is longer, so that the old position would fit."""
    feed.houses(1, 2, 3)
    feed.read()
    files = [path.read_bytes() for path in sorted(feed.config.folder.glob("*.json*")) if "metrics" not in path.name]
    feed.make_anew([feed.config.kafka.topic])
    if longer:
        feed.houses(*range(10, 20))
    with pytest.raises(PositionError, match=r"deleted and made anew \(id .*reset --archive"):
        feed.read()
    assert files == [p.read_bytes() for p in sorted(feed.config.folder.glob("*.json*")) if "metrics" not in p.name]


@pytest.mark.parametrize("index", [0, STORNO])
def test_a_topic_made_anew_under_a_running_consumer_stops_it(tmp_path: Path, kafka: str, index: int) -> None:
    """At the next checkpoint at the latest, with exit code 1, and the last record is the one of the old topic."""
    feed = Feed(tmp_path, kafka, {"consumer.offset_save_interval_sec": 1.0})
    dump(feed.config)
    feed.houses(*range(10))
    feed.storno(b"3")
    with consuming(feed.config) as process:
        wait_until(lambda: len(feed.ids()) == 9, "the houses")
        feed.make_anew([feed.topic(index)[0]])
        feed.houses(*range(20, 40))
        feed.storno(*[b"500"] * 9)
        status, said = ends(process)
    assert status == 1 and said.splitlines()[-1].startswith("Error: ")
    assert "made anew" in said or "outside the log" in said
    record = Checkpoint.decode(feed.config.offsets_path.read_bytes(), "record")
    assert max(record.next) <= 10 and record.storno_next <= 1
    last = last_metrics(feed.config.metrics_path)
    assert last and last["state"] == "failed" and last["last_error"]
    assert run(feed.config, "consume", "--until-end").returncode == 1


def test_a_deleted_topic_is_not_taken_for_an_empty_one(feed: Feed) -> None:
    """Deleted and not made again: refused at the next start, whoever makes a topic of that name."""
    feed.houses(1)
    feed.read()
    delete_topics(feed.config.kafka, describe_topics(feed.config.kafka, [feed.config.kafka.topic]).values())
    with pytest.raises(PositionError, match="reset --archive"):
        feed.read()


def test_added_partitions_are_noticed(tmp_path: Path, kafka: str) -> None:
    """Under a running consumer at the next checkpoint, else at the start: the parts of a house may now be anywhere."""
    feed = Feed(tmp_path, kafka, {"consumer.offset_save_interval_sec": 0.5})
    dump(feed.config)
    with consuming(feed.config) as process:
        admin = connect(AdminClient, feed.config.kafka)
        for future in admin.create_partitions([NewPartitions(feed.config.kafka.topic, 4)]).values():
            future.result(60)
        status, said = ends(process)
    assert status == 1 and "has 4 partitions, had 3" in said
    with pytest.raises(BrokerError, match="has 4 partitions: must be 3"):
        feed.read()


# --- records that go ---


def test_records_deleted_before_they_were_read_are_a_gap(feed: Feed) -> None:
    """Named per partition and refused; accepted, each gap has a line, and reading goes on behind it."""
    feed.houses(1)
    feed.read()
    feed.houses(*range(2, 10))
    feed.delete_before(0, 5)
    feed.delete_before(2, 3)
    with pytest.raises(PositionError) as caught:
        feed.read()
    topic = feed.config.kafka.topic
    assert str(caught.value).startswith(
        f"{topic} partition 0: offsets 1 to 4 were deleted, 4 of them unread; "
        f"{topic} partition 2: offsets 1 to 2 were deleted, 2 of them unread: "
    )
    assert feed.read(accept_gap=True) == {"gap": 2, "houses": 4}
    assert [(line["reason"], line["partition"], line["offset"]) for line in feed.lines("rejects")] == [
        ("gap", 0, 1),
        ("gap", 2, 1),
    ]
    assert feed.ids() == [1, 6, 7, 8, 9]
    ok(feed.config)


def test_a_position_that_leaves_the_log_while_reading_stops_the_consumer(tmp_path: Path, kafka: str) -> None:
    """Paused for a full pending set while retention goes on: an error that names the place, never a silent jump."""
    values = {"consumer.max_pending_triplets": 10, "consumer.max_batch": 10, "consumer.fetch_max_bytes": 1_000_000}
    feed = Feed(tmp_path, kafka, values)
    dump(feed.config)
    feed.part(1, *range(200_000))
    with consuming(feed.config) as process:
        wait_until(lambda: bool(paused(feed.config)), "the foundation is paused")
        feed.delete_before(0, 200_000)
        feed.part(2, *range(100))
        feed.part(3, *range(100))
        status, said = ends(process)
    assert status == 1 and "partition 0: position" in said and "is outside the log" in said
    with pytest.raises(PositionError, match="partition 0: offsets .* to 199999 were deleted.*--accept-gap"):
        feed.read()


def paused(config: Config) -> bool:
    """Whether the consumer says that it waits because too much is pending."""
    line = last_metrics(config.metrics_path)
    return line is not None and line["state"] == "waiting"


def state(config: Config) -> dict[str, Any]:
    """The last line of the metrics."""
    return last_metrics(config.metrics_path) or {}


def test_the_end_is_reached_behind_a_transaction_marker(feed: Feed) -> None:
    """A record that no consumer sees, at the end of a partition: --until-end ends, and the restart is fine."""
    feed.houses(1)
    other = Producer(
        {"bootstrap.servers": feed.config.kafka.bootstrap_servers, "transactional.id": feed.config.kafka.topic}
    )
    other.init_transactions(30)
    for commit in (True, False):
        other.begin_transaction()
        other.produce(feed.config.kafka.topic, b"junk", partition=0)
        other.flush()
        (other.commit_transaction if commit else other.abort_transaction)()
    feed.read()
    record = Checkpoint.decode(feed.config.offsets_path.read_bytes(), "record")
    assert record.next == (5, 1, 1)  # house 1, junk, commit, aborted junk, abort
    assert [(line["reason"], line["offset"]) for line in feed.lines("rejects")] == [("malformed", 1)]
    feed.houses(2)
    assert feed.read() == {"houses": 1}


def test_the_largest_messages_are_read(feed: Feed) -> None:
    """A megabyte of junk is a reject line with its first 4096 bytes, a tombstone one with none; reading goes on."""
    large = b"x" * 1_040_000
    producer = Producer({"bootstrap.servers": feed.config.kafka.bootstrap_servers, "message.max.bytes": 2_000_000})
    producer.produce(feed.config.kafka.topic, large, partition=1)
    producer.produce(feed.config.kafka.topic, None, key=b"1", partition=1)
    producer.flush()
    feed.houses(1)
    assert feed.read() == {"houses": 1, "malformed": 2}
    assert [len(line["raw"]) for line in feed.lines("rejects")] == [5464, 0]


# --- bounds ---


def test_pending_stays_bounded_and_nothing_is_given_up_while_a_part_is_late(tmp_path: Path, kafka: str) -> None:
    """The roof comes last: the others are paused at the limit, read on with it, and every house is written."""
    values = {"consumer.max_pending_triplets": 2_000, "consumer.max_pending_age_sec": 0.5, "consumer.max_batch": 500}
    feed = Feed(tmp_path, kafka, values | {"consumer.metrics_interval_sec": 0.02})
    dump(feed.config)
    feed.part(1, *range(10_000))
    feed.part(2, *range(10_000))
    with consuming(feed.config) as process:
        wait_until(lambda: paused(feed.config), "foundation and wall are paused")
        time.sleep(1.5)  # longer than the age at which an overtaken house is given up
        feed.part(3, *range(10_000))
        wait_until(lambda: state(feed.config)["counts"].get("houses") == 10_000, "all houses")
        process.terminate()
        assert ends(process)[0] == 0
    most = max(line["pending"] for line in read_jsonl(feed.config.metrics_path))
    assert 2_000 <= most <= 2_000 + 100 + 2 * 500  # a twentieth, and the batches that brought it over
    assert feed.lines("rejects") == [] and sorted(feed.ids()) == list(range(10_000))
    ok(feed.config)


def test_an_overtaken_house_is_given_up_and_stays_given_up(tmp_path: Path, kafka: str) -> None:
    """Its parts are reject lines after max_pending_age_sec, its late part too, also after a restart."""
    feed = Feed(tmp_path, kafka, {"consumer.max_pending_age_sec": 1.0})
    dump(feed.config)
    feed.part(1, 1, 2)
    feed.part(2, 2)
    feed.part(3, 1, 2)
    with consuming(feed.config) as process:
        wait_until(lambda: len(feed.lines("rejects")) == 2, "house 1 is given up")
        process.kill()
    feed.part(2, 1)
    assert feed.read() == {"evicted": 1}
    found = [(line["partition"], line["offset"], line["reason"], line["detail"]) for line in feed.lines("rejects")]
    assert found == [
        (0, 0, "evicted", "no wall"),
        (2, 0, "evicted", "no wall"),
        (1, 1, "evicted", "house 1 was given up before"),
    ]
    assert feed.ids() == [2]
    ok(feed.config)


def test_many_pauses_lose_and_repeat_nothing(tmp_path: Path, kafka: str) -> None:
    """Uneven partitions and a small limit: librdkafka throws fetched records away at each pause, and reads them again."""
    feed = Feed(tmp_path, kafka, {"consumer.max_pending_triplets": 100, "consumer.max_batch": 200})
    feed.part(2, *range(30_000))
    feed.part(3, *range(30_000))
    feed.part(1, *range(30_000))
    assert feed.read() == {"houses": 30_000}
    ok(feed.config)


# --- figures and owners ---


def test_the_metrics_say_what_the_files_say(tmp_path: Path, kafka: str) -> None:
    """Positions, counts, pending ids and their sum, lag and latencies in the last line; earlier ones never go back."""
    feed = Feed(tmp_path, kafka, {"consumer.metrics_interval_sec": 0.05})
    feed.houses(*range(100))
    feed.part(1, 500, 600, 700, 5)
    feed.part(2, 600)
    feed.storno(b"7", b"50", b"50", b"?")
    feed.read()
    lines = read_jsonl(feed.config.metrics_path)
    last = lines[-1]
    assert [lines[0]["state"], last["state"]] == ["starting", "stopped"] and {line["pid"] for line in lines} == {
        os.getpid()
    }
    assert (last["position"], last["storno_position"], last["lag"]) == ([104, 101, 100], 4, 0)
    assert (last["pending"], last["pending_id_sum"]) == (3, 1800)
    assert last["low_watermark"] == [100, 100, 100]
    assert last["counts"] == {"houses": 98, "cancelled": 2, "duplicate": 1, "malformed": 1, "stornos": 3, "gap": 0}
    assert sum(last["durable_latency_ms"].values()) > 0 and 1 <= last["commits"] <= 100
    assert last["last_error"] == "" and last["oldest_pending_age_s"] >= 0
    totals = [sum(line["position"]) for line in lines]
    assert totals == sorted(totals)


def test_a_second_consumer_of_a_folder_is_refused(feed: Feed) -> None:
    """In the same process as well as in another; the first one is not disturbed."""
    seen: list[str] = []

    def ask() -> bool:
        with pytest.raises(
            FolderError, match=f"process {os.getpid()} is already the consumer of this folder.*houses stop"
        ):
            feed.read()
        seen.append(subprocess.run(["true"], check=True).args[0])
        return True

    consume(feed.config, ask)
    assert seen
    feed.houses(1)
    assert feed.read() == {"houses": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_full_flow_writes_what_was_read(tmp_path: Path, kafka: str, number: int) -> None:
    """Within 5 s, with a checkpoint; the next run goes on exactly there."""
    feed, count = Feed(tmp_path, kafka), 20_000
    made = dump(feed.config.with_values({"consumer.max_batch": 20}))  # so many small batches take seconds
    feed.houses(*range(count))
    with consuming(made) as process:
        wait_until(lambda: made.houses_path.stat().st_size > 0, "houses")
        process.send_signal(number)
        begun_s = time.monotonic()
        ends(process)
        assert time.monotonic() - begun_s < STOP_LIMIT_S
    record = Checkpoint.decode(made.offsets_path.read_bytes(), "record")
    written = len(feed.ids())
    assert record.synced[0] == made.houses_path.stat().st_size and 0 < written < count
    assert feed.read() == {"houses": count - written}
    ok(made)
