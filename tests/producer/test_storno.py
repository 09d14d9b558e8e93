"""Stornos on a real Kafka: single ones, and the loop."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Producer
from support.command_line import call
from support.kafka_lab import make_config, make_lab, wait_until

from houses.config.config import Config, load
from houses.errors import BrokerError, ConfigError, MessageError
from houses.kafka.clients import connect
from houses.kafka.reader import last_records
from houses.lab.experiment import Experiment
from houses.producer.producers import Producers
from houses.producer.storno import StornoLoop, StornoSender, send_storno
from houses.records.message import PARTS, encode_part, utc_now


@pytest.fixture
def lab(tmp_path: Path, kafka: str) -> Config:
    """Topics of the test's own."""
    return make_lab(tmp_path, kafka, {"producer.seed": 1})


def stornos(config: Config) -> list[bytes | None]:
    """All messages of the storno topic."""
    return [record.value for record in last_records(config.kafka, config.consumer.storno_topic, 100_000)]


def test_a_storno_cancels_a_house_or_a_part(lab: Config) -> None:
    """The offset that comes back is where the message stands in the storno topic."""
    assert send_storno(lab, 7) == 0
    assert send_storno(lab, 9, "wall") == 1
    assert stornos(lab) == [b'{"id":7}', b'{"id":9,"partition":2}']


def test_a_storno_is_confirmed_whatever_the_acks_of_the_parts(lab: Config) -> None:
    """With producer.acks 0 the storno still waits for Kafka and knows its offset."""
    weak = lab.with_values({"producer.acks": 0})
    assert [send_storno(weak, 1), send_storno(weak, 2)] == [0, 1]


def test_a_storno_that_cannot_be_said_is_not_sent(lab: Config) -> None:
    """A negative id and an unknown part are refused with the value in the message."""
    sender = StornoSender(lab)
    with pytest.raises(MessageError, match="house id -1"):
        sender.send(-1)
    with pytest.raises(ConfigError, match="part 'door': must be one of foundation, wall, roof"):
        sender.send(1, "door")
    assert stornos(lab) == []


def test_threads_may_share_a_sender(lab: Config) -> None:
    """Each caller gets the offset of its own storno."""
    sender = StornoSender(lab)
    with ThreadPoolExecutor(8) as threads:
        offsets = list(threads.map(sender.send, range(100)))
    found = stornos(lab)
    assert [found[offset] for offset in offsets] == [b'{"id":%d}' % i for i in range(100)]


def test_a_missing_storno_topic_is_named(tmp_path: Path, kafka: str) -> None:
    """The topic is not created by sending to it."""
    config = make_config(tmp_path, kafka)
    with pytest.raises(BrokerError, match=f"topic {config.consumer.storno_topic}: .*Unknown topic"):
        send_storno(config, 1)


def test_no_broker_is_one_clear_error(tmp_path: Path) -> None:
    """Within the time given; the error names the address and what to do."""
    with pytest.raises(BrokerError, match=r"kafka\.bootstrap_servers = 127\.0\.0\.1:1: no answer"):
        StornoSender(make_config(tmp_path, "127.0.0.1:1"), timeout_s=0.5)


def test_the_loop_cancels_recent_houses_fully_or_in_part(lab: Config) -> None:
    """What it reports is what stands in the topic; all of it are ids of this run, some full, some of one part."""
    config = lab.with_values({"producer.msgs_per_sec": 0})
    with Producers(config, config.kafka.topic, config.folder) as running:
        running.send_through(499)
        loop = StornoLoop(config, running.recent_id, interval_s=0.01).start()
        wait_until(lambda: len(loop.sent) >= 40, "40 stornos")
        loop.stop()
    number = {part.name: part.number for part in PARTS}
    assert stornos(config) == [
        b'{"id":%d}' % s.house_id
        if s.part_name is None
        else b'{"id":%d,"partition":%d}' % (s.house_id, number[s.part_name])
        for s in loop.sent
    ]
    assert [s.offset for s in loop.sent] == list(range(len(loop.sent)))
    assert {s.house_id for s in loop.sent} <= set(range(400, 500))
    assert set(Counter(s.part_name for s in loop.sent)) == {None, "foundation", "wall", "roof"}


def test_the_loop_finds_recent_ids_in_the_topic(lab: Config) -> None:
    """Without producers in this process the newest ids of the parts topic are used."""
    producer = connect(Producer, lab.kafka)
    for house_id in range(5000, 5300):
        value = encode_part(PARTS[0], house_id, utc_now(), "alice")
        producer.produce(lab.kafka.topic, value, str(house_id), partition=0)
    assert producer.flush(60) == 0
    loop = StornoLoop(lab, interval_s=0.01).start()
    wait_until(lambda: len(loop.sent) >= 5, "5 stornos")
    loop.stop()
    assert {s.house_id for s in loop.sent} <= set(range(5200, 5300))


def test_the_loop_waits_while_there_are_no_houses(lab: Config) -> None:
    """Asked again and again it sends nothing, and that is no error."""
    asked: list[None] = []
    loop = StornoLoop(lab, lambda: asked.append(None), interval_s=0.01).start()
    wait_until(lambda: len(asked) >= 10, "10 questions")
    loop.stop()
    assert loop.sent == []
    assert stornos(lab) == []


def test_an_error_does_not_end_the_loop_and_is_raised_at_stop(lab: Config, said: list[str]) -> None:
    """An id that cannot be sent is said at once; the next storno goes out all the same; stop raises the first error."""
    ids = iter([-1, -2, 3, 4])
    loop = StornoLoop(lab, lambda: next(ids, None), interval_s=0.01).start()
    wait_until(lambda: len(loop.sent) == 2, "2 stornos")
    with pytest.raises(MessageError, match="house id -1"):
        loop.stop()
    assert [s.house_id for s in loop.sent] == [3, 4]
    assert any("house id -2" in line for line in said)


def test_a_loop_that_never_started_can_be_stopped(lab: Config) -> None:
    """So that leaving an experiment needs no question first."""
    StornoLoop(lab).stop()


def test_the_interval_comes_from_the_configuration(lab: Config) -> None:
    """producer.storno_interval_sec, 15 s as shipped, unless another one is given."""
    assert StornoLoop(lab).interval_s == 15
    assert StornoLoop(lab.with_values({"producer.storno_interval_sec": 3})).interval_s == 3
    assert StornoLoop(lab, interval_s=0.5).interval_s == 0.5


@pytest.mark.parametrize("interval_s", [0.01, 3600])
def test_both_ends_of_the_interval_are_accepted(lab: Config, interval_s: float) -> None:
    """In the configuration and as an argument."""
    assert lab.with_values({"producer.storno_interval_sec": interval_s}).producer.storno_interval_sec == interval_s
    assert StornoLoop(lab, interval_s=interval_s).interval_s == interval_s


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ("0.009", "must be 0.01 or more"),
        ("0", "must be 0.01 or more"),
        ("3600.1", "must be 3600 or less"),
        ("nan", "must be a finite number"),
    ],
)
def test_an_interval_out_of_bounds_is_refused_everywhere_in_the_same_words(
    exp: Experiment, monkeypatch: pytest.MonkeyPatch, interval: str, words: str
) -> None:
    """Environment, command line, experiment and loop; and before anything is started or asked of Kafka."""
    line = f"producer.storno_interval_sec = {interval}: {words}"
    made = exp.config
    for ask in (lambda: exp.storno_every(float(interval)), lambda: StornoLoop(made, interval_s=float(interval))):
        with pytest.raises(ConfigError) as refused:
            ask()
        assert str(refused.value) == line.replace(" = 0:", " = 0.0:")
    done = call(made, "storno-loop", "--interval", interval)
    assert done.returncode == 1 and line.replace(" = 0:", " = 0.0:") in done.stderr
    monkeypatch.setenv("HOUSES_PRODUCER__STORNO_INTERVAL_SEC", interval.replace("nan", ".nan"))
    with pytest.raises(ConfigError) as refused:
        load(made.path)
    assert str(refused.value) == f"environment HOUSES_PRODUCER__STORNO_INTERVAL_SEC: {line}"
