"""What becomes of messages that Kafka does not take: full queues, refusals, outages, full disks."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # no __all__ there
from support.command_line import STOP_LIMIT_S
from support.kafka_lab import Values, ids_of, make_config, make_lab, read_parts, wait_until

from houses.config.config import Config
from houses.config.models import ProducerConfig
from houses.errors import BrokerError, FolderError
from houses.kafka.broker import ensure_topics
from houses.kafka.clients import connect
from houses.kafka.local import server as local_kafka
from houses.kafka.local.probe import free_port
from houses.kafka.reader import last_records
from houses.producer import producers as producer_module
from houses.producer.ids import IdAllocator
from houses.producer.producers import Producers
from houses.producer.sender import Sender, producer_settings
from houses.records.message import PARTS
from houses.system.files import FileOps
from houses.system.locks import lock_owner


class FullDisk(FileOps):
    """Every sync fails."""

    def sync(self, fd: int) -> None:
        """As when the disk is full."""
        raise OSError(28, "No space left on device")


def test_the_shipped_settings_keep_idempotence_on(said: list[str]) -> None:
    """Acks all, idempotence, buffer_memory as kilobytes, and nothing to warn of."""
    settings = producer_settings(ProducerConfig(buffer_memory=8_388_608, linger_ms=50.0, batch_size=8192))
    assert settings["queue.buffering.max.kbytes"] == 8192
    assert (settings["linger.ms"], settings["batch.size"], settings["compression.type"]) == (50.0, 8192, "snappy")
    assert (settings["acks"], settings["enable.idempotence"]) == ("all", True)
    assert said == []


@pytest.mark.parametrize(
    ("values", "quoted"),
    [({"acks": 1}, "producer.acks = 1"), ({"acks": 0}, "producer.acks = 0"), ({"retries": 0}, "producer.retries = 0")],
)
def test_weak_settings_turn_idempotence_off_with_a_warning(
    tmp_path: Path, kafka: str, values: Values, quoted: str, said: list[str]
) -> None:
    """librdkafka would refuse the pair; ours is said once, and messages arrive."""
    config = make_lab(tmp_path, kafka, {f"producer.{key}": value for key, value in values.items()})
    with Producers(config, config.kafka.topic, config.folder) as running:
        running.send_through(99)
    assert [line.split(":")[0] for line in said if "idempotence" in line] == [quoted]
    assert ids_of(read_parts(config)["roof"])[:100] == list(range(100))


def test_a_full_queue_slows_down_and_drops_nothing(tmp_path: Path, kafka: str) -> None:
    """With room for some 30 messages 3 x 1,000 of them arrive, each once and in order."""
    config = make_lab(
        tmp_path, kafka, {"producer.buffer_memory": 2048, "producer.msgs_per_sec": 0, "producer.linger_ms": 0}
    )
    with Producers(config, config.kafka.topic, config.folder) as running:
        running.send_through(999)
    assert {name: ids_of(found) for name, found in read_parts(config).items()} == {
        part.name: list(range(1000)) for part in PARTS
    }


def test_a_message_that_is_too_large_is_counted_and_the_rest_arrives(tmp_path: Path, kafka: str) -> None:
    """The refused one is an error at the end, with the reason; its neighbours are delivered in order."""
    config = make_lab(tmp_path, kafka)
    sender = Sender(config, config.kafka.topic)
    values = [b"first", b"x" * 3_000_000, b"last"]
    assert sender.send(0, [{"key": b"1", "value": value} for value in values]) == 0
    with pytest.raises(BrokerError, match=r"1 message was not delivered .*: partition 0: .*[Mm]essage size too large"):
        sender.close()
    assert [record.value for record in last_records(config.kafka, config.kafka.topic, 10)] == [b"first", b"last"]


def test_what_the_broker_refuses_is_latched_and_raised_at_stop(tmp_path: Path, kafka: str) -> None:
    """A topic that takes only tiny messages: the failures are counted while running, and stop raises the first."""
    config = make_config(tmp_path, kafka, {"producer.msgs_per_sec": 0, "producer.compression_type": "none"})
    topic = NewTopic(config.kafka.topic, 3, config={"max.message.bytes": "100"})
    admin = connect(AdminClient, config.kafka)
    admin.create_topics([topic])[config.kafka.topic].result(60)
    running = Producers(config, config.kafka.topic, config.folder).start()
    running.send_through(9)
    wait_until(lambda: running.failed == 30, "30 refused messages")
    with pytest.raises(
        BrokerError, match=r"30 messages were not delivered .*: partition [012]: Broker: Message size too"
    ):
        running.stop()
    assert lock_owner(config.folder, "producer") is None


def test_an_error_in_a_thread_is_kept_and_raised_at_stop(
    tmp_path: Path, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no id can be reserved on disk nothing is sent; the error is visible while running."""
    monkeypatch.setattr(producer_module, "IdAllocator", partial(IdAllocator, ops=FullDisk()))
    config = make_lab(tmp_path, kafka)
    running = Producers(config, config.kafka.topic, config.folder).start()
    wait_until(lambda: running.error is not None, "an error")
    with pytest.raises(FolderError, match="No space left on device"):
        running.stop()
    assert last_records(config.kafka, config.kafka.topic, 10) == []


class NobodyTakes:
    """A client whose queue stays full, and whose length also counts events that come and go."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.asked = 0

    def __len__(self) -> int:
        """Five messages and, every other time, an event."""
        self.asked += 1
        return 5 + self.asked % 2

    def produce_batch(self, _: str, messages: list[dict[str, Any]], **__: object) -> int:
        """Refuses all of them."""
        for message in messages:
            message["_error"] = KafkaError(KafkaError._QUEUE_FULL)
        return 0

    def poll(self, timeout_s: float) -> None:
        """As if nothing had happened."""
        time.sleep(timeout_s)


def test_events_that_come_and_go_are_no_progress(tmp_path: Path, kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connection errors wait in the client's queue as messages do; they do not put off the moment of giving up."""
    config = make_lab(tmp_path, kafka)
    sender = Sender(config, config.kafka.topic)
    monkeypatch.setattr(sender, "_client", NobodyTakes())
    sender.limit_patience(0.2)
    assert sender.send(0, [{"key": b"1", "value": b"x"}, {"key": b"2", "value": b"y"}]) == 2
    assert sender.failed == 2


class Outage:
    """A Kafka that may go away and come back."""

    def __init__(self, folder: Path) -> None:
        """Chooses its address."""
        self.folder = folder / "kafka"
        self.address = f"127.0.0.1:{free_port()}"

    def come(self) -> None:
        """It runs again, with the data it had."""
        local_kafka.start(self.folder, self.address)

    def die(self) -> None:
        """As by kill -9."""
        process = psutil.Process(local_kafka.status(self.folder).pid)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """A Kafka of this module's own."""
    outage = Outage(tmp_path_factory.mktemp("mortal"))
    yield outage
    local_kafka.stop(outage.folder)


@pytest.fixture
def broker(mortal: Outage) -> Outage:
    """It runs when the test begins."""
    mortal.come()
    return mortal


def stuck(running: Producers) -> bool:
    """Whether no part gets anything into the queue any more."""
    before = running.sent
    time.sleep(0.3)
    return running.queued > 0 and running.sent == before


def full_queue(tmp_path: Path, broker: Outage, said: list[str]) -> tuple[Config, Producers]:
    """Fast producers with a small queue whose broker has just died."""
    values = {"producer.buffer_memory": 20_480, "producer.msgs_per_sec": 2000.0}
    config = make_config(tmp_path, broker.address, values)
    ensure_topics(config)
    said.clear()
    running = Producers(config, config.kafka.topic, config.folder).start()
    wait_until(lambda: min(running.sent.values()) > 100, "100 messages of each part")
    broker.die()
    wait_until(lambda: stuck(running) and bool(said), "a full queue, and a word of it")
    return config, running


def test_a_stop_without_a_broker_ends_in_five_seconds(tmp_path: Path, broker: Outage, said: list[str]) -> None:
    """It says how many messages were not delivered and why; the outage itself was said once, and the folder is free."""
    config, running = full_queue(tmp_path, broker, said)
    began_s = time.monotonic()
    with pytest.raises(BrokerError, match=rf"[1-9]\d+ messages were not delivered to {broker.address}: .*houses kafka"):
        running.stop()
    assert time.monotonic() - began_s < STOP_LIMIT_S
    assert len([line for line in said if "wait until it answers again" in line]) == 1
    assert lock_owner(config.folder, "producer") is None


def test_an_outage_loses_and_repeats_nothing(tmp_path: Path, broker: Outage, said: list[str]) -> None:
    """The broker is killed and comes back, twice: every id arrives once, in order, also those that were due meanwhile.

    Each time it is said that Kafka is away, and that it is back.
    """

    def words() -> list[str]:
        return [line for line in said if "answers again" in line]

    config, running = full_queue(tmp_path, broker, said)
    for outage in (1, 2):
        highest = running.highest_id
        assert len(words()) == 2 * outage - 1
        broker.come()
        wait_until(lambda: running.highest_id > highest + 2000, "the stream to go on")  # noqa: B023  # called at once
        wait_until(lambda: len(words()) == 2 * outage, "a word of it")  # noqa: B023
        assert words()[-1] == "Kafka answers again: messages go out"
        if outage == 1:
            broker.die()
            wait_until(lambda: stuck(running) and len(words()) == 3, "a full queue again, and a word of it")
    running.set_rate(None, 0)
    running.stop()
    assert {name: ids_of(found) for name, found in read_parts(config).items()} == {
        part.name: list(range(running.highest_id + 1)) for part in PARTS
    }
