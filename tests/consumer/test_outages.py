"""Brokers that die or freeze under load, and other programs that touch the topics and the group: nothing lost or doubled."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]  # no __all__ there
from support.command_line import check, consuming, ends, make_project, read_houses
from support.kafka_lab import own_kafka, producers, read_jsonl, wait_until
from support.records import TS
from support.topic_feed import Feed

from houses.config.config import Config
from houses.errors import PositionError
from houses.kafka.clients import client_config, connect
from houses.kafka.local import server as local_kafka
from houses.offsets.stores import checkpoint_store
from houses.producer.producers import Producers
from houses.records.message import PARTS, encode_part, encode_storno
from houses.records.metrics import last_metrics
from houses.verify.verify import verify

KILLS = 20
FREEZE_S = 60.0
BUSY = {"producer.msgs_per_sec": 300.0, "consumer.offset_save_interval_sec": 0.5}


class Broker:
    """A Kafka that may be killed and frozen."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder / "kafka", address

    @property
    def process(self) -> psutil.Process:
        """Its JVM."""
        return psutil.Process(local_kafka.status(self.folder).pid)

    def restart(self) -> None:
        """Kill -9, and again with the data it had."""
        process = self.process
        process.kill()
        process.wait()
        local_kafka.start(self.folder, self.address)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """One of this file's own."""
    with own_kafka() as (folder, address):
        yield Broker(folder, address)


class Stornos:
    """Cancels houses without waiting for Kafka's answer, so that a kill finds stornos on their way."""

    def __init__(self, made: Config) -> None:
        self._client = connect(Producer, made.kafka, {"enable.idempotence": True})
        self._topic = made.consumer.storno_topic
        self.ids: set[int] = set()

    def cancel_some(self, running: Producers) -> None:
        """A new house and older ones, in full and in part; the newest one has perhaps not all of its parts yet."""
        for back in (0, 1, 50, 200):
            if (house_id := running.highest_id - back) >= 0:
                self._client.produce(self._topic, encode_storno(house_id, PARTS[1] if back == 1 else None), partition=0)
                self.ids.add(house_id)
        self._client.poll(0)

    def flush(self) -> None:
        """All of them are in Kafka."""
        assert self._client.flush(60) == 0


def grows(path: Path) -> None:
    """Return when more houses are in the file than now."""
    before = path.stat().st_size
    wait_until(lambda: path.stat().st_size > before, f"{path.name} grows")


def all_there(made: Config, stornos: Stornos, highest_id: int) -> None:
    """Every house is there once, each cancelled one is known as such, and the proof from outside agrees."""
    read_houses(made)
    written = read_jsonl(made.houses_path)
    cancelled = read_jsonl(made.storno_houses_path)
    once = [line["id"] for line in written] + [line["id"] for line in cancelled if "late" not in line]
    assert sorted(once) == list(range(highest_id + 1))
    assert {line["id"] for line in cancelled} == stornos.ids
    assert read_jsonl(made.rejects_path) == []
    assert verify(made).ok


@pytest.mark.slow
def test_many_kills_of_the_broker_under_load_lose_and_repeat_nothing(tmp_path: Path, broker: Broker) -> None:
    """Kill -9 and a new start, twenty times, while houses are sent, cancelled and read: all of it once, proved."""
    made = make_project(tmp_path, broker.address, BUSY)
    with consuming(made) as process:
        stornos = Stornos(made)
        with producers(made) as running:
            for _ in range(KILLS):
                grows(made.houses_path)
                stornos.cancel_some(running)
                broker.restart()
            grows(made.houses_path)
        stornos.flush()
        process.terminate()
        status, said = ends(process)
    assert status == 0, said
    all_there(made, stornos, running.highest_id)


@pytest.mark.slow
def test_a_frozen_broker_is_waited_for(tmp_path: Path, broker: Broker) -> None:
    """A minute of silence under load: `houses status` says so, reading goes on by itself, and nothing is lost or doubled."""
    made = make_project(tmp_path, broker.address, BUSY)
    with consuming(made) as process:
        stornos = Stornos(made)
        with producers(made) as running:
            grows(made.houses_path)
            stornos.cancel_some(running)
            frozen = broker.process
            frozen.suspend()
            begun_s = time.monotonic()
            wait_until(lambda: bool((last_metrics(made.metrics_path) or {})["last_error"]), "the error in the metrics")
            shown = check(made, "status")
            time.sleep(max(0.0, FREEZE_S - (time.monotonic() - begun_s)))
            frozen.resume()
            grows(made.houses_path)
        stornos.flush()
        assert process.poll() is None
        process.terminate()
        status, said = ends(process)
    assert status == 0, said
    assert f"{broker.address}: no answer from Kafka" in shown
    assert "Error:       " in shown and "Error:       none" not in shown
    all_there(made, stornos, running.highest_id)


# --- other programs ---


@pytest.fixture
def feed(tmp_path: Path, kafka: str) -> Feed:
    """Topics and a consumer group of the test's own."""
    group = {"consumer.consumer_group": True, "consumer.group_id": f"g-{tmp_path.name}"}
    made = Feed(tmp_path, kafka, group | {"consumer.offset_save_interval_sec": 0.2})
    made.config.dump(made.config.path)
    return made


def set_by_admin(config: Config, *partitions: int) -> None:
    """As `kafka-consumer-groups --reset-offsets --to-earliest` does."""
    places = [TopicPartition(config.kafka.topic, partition, 0) for partition in partitions]
    wanted = [ConsumerGroupTopicPartitions(config.consumer.group_id, places)]
    admin = connect(AdminClient, config.kafka)  # kept: futures of a client that is gone never end
    for future in admin.alter_consumer_group_offsets(wanted).values():
        future.result(60)


def set_by_consumer(config: Config) -> None:
    """As any consumer with the same group.id does."""
    client = KafkaConsumer(client_config(config.kafka) | {"group.id": config.consumer.group_id})
    client.commit(offsets=[TopicPartition(config.kafka.topic, 0, 1)], asynchronous=False)
    client.close()


OUTSIDERS: dict[str, Callable[[Config], None]] = {
    "all partitions": lambda config: set_by_admin(config, 0, 1, 2),
    "one without the record": lambda config: set_by_admin(config, 2),
    "a consumer": set_by_consumer,
}


@pytest.mark.parametrize("outsider", OUTSIDERS)
def test_offsets_that_another_program_has_set_are_refused(feed: Feed, outsider: str) -> None:
    """While the consumer was down: nothing is read from there, and the files tell where to go on."""
    feed.houses(*range(20))
    feed.part(1, 20)
    feed.storno(b"3")
    feed.read()
    OUTSIDERS[outsider](feed.config)
    feed.part(2, 20)
    feed.part(3, 20)
    with pytest.raises(PositionError, match=r"Kafka group g-.*: .*houses consume --rescan"):
        feed.read()
    assert len(feed.ids()) == 19
    assert feed.read(rescan=True)["houses"] == 1
    assert sorted(feed.ids() + feed.ids("storno")) == list(range(21))
    assert verify(feed.config).ok


@pytest.mark.parametrize("outsider", OUTSIDERS)
def test_offsets_set_under_a_running_consumer_stop_it(feed: Feed, outsider: str) -> None:
    """At its next checkpoint, with the command that goes on; what it had read has its lines."""
    feed.houses(*range(20))
    with consuming(feed.config) as process:
        wait_until(lambda: len(feed.ids()) == 20, "20 houses")
        while process.poll() is None:  # a checkpoint at the very moment may overwrite it unseen
            OUTSIDERS[outsider](feed.config)
            time.sleep(0.5)
        status, said = ends(process)
    assert status == 1
    assert "another program has set its offsets" in said.splitlines()[-1] and "consume --rescan" in said
    feed.houses(20)
    check(feed.config, "consume", "--until-end", "--rescan")
    assert sorted(feed.ids()) == list(range(21))
    assert verify(feed.config).ok


def test_a_group_that_was_deleted_is_made_again(feed: Feed) -> None:
    """Under a running consumer: its next checkpoint is the record again, and a restart goes on from there."""
    feed.houses(*range(20))
    with consuming(feed.config) as process:
        wait_until(lambda: len(feed.ids()) == 20, "20 houses")
        store = checkpoint_store(feed.config)
        store.forget()
        wait_until(lambda: store.load() is not None, "the next checkpoint")
        store.close()
        process.terminate()
        assert ends(process)[0] == 0
    assert feed.read() == {}
    assert verify(feed.config).ok


def test_parts_of_an_aborted_transaction_never_become_houses(feed: Feed) -> None:
    """Of another engine, which writes transactions: neither a line nor a gap in the proof, in the middle or at the end."""
    config = feed.config
    other = Producer(client_config(config.kafka) | {"transactional.id": config.kafka.topic})
    other.init_transactions(60)
    feed.houses(1)
    for house_id, is_kept in ((5, False), (6, True), (7, False)):
        other.begin_transaction()
        for part in PARTS:
            value = encode_part(part, house_id, TS, part.workers[0])
            other.produce(config.kafka.topic, value, partition=part.partition)
        other.flush()
        (other.commit_transaction if is_kept else other.abort_transaction)(60)
        feed.read()
    assert feed.ids() == [1, 6] and feed.lines("rejects") == []
    assert verify(config).ok
    feed.houses(5)
    assert feed.read() == {"houses": 1}
    assert verify(config).ok


LARGE = 2_000_000  # bytes; a topic's max.message.bytes is 1,048,588 unless it says more


def send_large(config: Config) -> list[KafkaError | None]:
    """A message of 2 MB, by a program without a limit of its own; what became of it."""
    errors: list[KafkaError | None] = []
    other = Producer(client_config(config.kafka) | {"message.max.bytes": 2 * LARGE})
    other.produce(config.kafka.topic, b"x" * LARGE, partition=1, on_delivery=lambda error, _: errors.append(error))
    assert other.flush(60) == 0
    return errors


def test_a_message_that_is_too_large_for_kafka_leaves_no_trace(feed: Feed) -> None:
    """Its sender is told; what comes before and after it is read."""
    feed.houses(1)
    (error,) = send_large(feed.config)
    assert error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    feed.houses(2)
    assert feed.read() == {"houses": 2}
    assert verify(feed.config).ok


def test_a_message_larger_than_one_fetch_is_read(feed: Feed) -> None:
    """A topic that takes it, and fetches of 100 kB: one reject line, and nothing waits behind it."""
    resource = ConfigResource("topic", feed.config.kafka.topic)
    resource.add_incremental_config(
        ConfigEntry("max.message.bytes", str(2 * LARGE), incremental_operation=AlterConfigOpType.SET)
    )
    admin = connect(AdminClient, feed.config.kafka)
    (changed,) = admin.incremental_alter_configs([resource]).values()
    changed.result(60)
    feed.config = feed.config.with_values({"consumer.fetch_max_bytes": 100_000})
    feed.houses(1)
    assert send_large(feed.config) == [None]
    feed.houses(2)
    assert feed.read() == {"houses": 2, "malformed": 1}
    assert verify(feed.config).ok
