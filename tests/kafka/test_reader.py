"""Raw messages to look at, safely printed, and ranges of a topic read from outside."""

import json
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from support.finished_run import (
    Sender,
    make_finished_run,
)
from support.kafka_lab import make_lab

from houses.config.config import Config
from houses.errors import BrokerError, PositionError
from houses.kafka.clients import client_config, connect
from houses.kafka.reader import Record, first_and_end, last_records, peek, printable, read_ranges


@pytest.fixture(scope="module")
def finished(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A finished run, not to be changed."""
    return make_finished_run(tmp_path_factory.mktemp("finished"), kafka)


@pytest.fixture
def lab(kafka: str, tmp_path: Path) -> Config:
    """An empty folder with topics of its own."""
    return make_lab(tmp_path, kafka)


# --- raw messages ---


def test_peek_shows_the_last_records_of_each_partition(finished: Config) -> None:
    """By partition and offset."""
    found = peek(finished, count=2)
    assert [(raw.partition, raw.offset) for raw in found] == [(0, 34), (0, 35), (1, 31), (1, 32), (2, 30), (2, 31)]
    assert found[-1].value == b"unread"


def test_peek_from_an_offset(finished: Config) -> None:
    """One partition, from an offset on."""
    found = peek(finished, partition=1, start=30, count=2)
    assert [(raw.partition, raw.offset) for raw in found] == [(1, 30), (1, 31)]
    assert peek(finished, partition=1, start=10**9) == []


def test_peek_into_another_topic(finished: Config) -> None:
    """The storno topic has one partition."""
    found = peek(finished, finished.consumer.storno_topic, start=2, count=1)
    assert [(raw.partition, raw.offset, raw.key, raw.value) for raw in found] == [(0, 2, None, b"junk")]


def test_peek_of_what_does_not_exist_says_so(finished: Config) -> None:
    """Neither the topic nor the partition is made by looking."""
    with pytest.raises(BrokerError, match="topic nowhere does not exist"):
        peek(finished, "nowhere")
    with pytest.raises(BrokerError, match="has no partition 3: choose 0 to 2"):
        peek(finished, partition=3)


def test_raw_record_is_safe_to_print(lab: Config) -> None:
    """Control characters, writing direction, broken UTF-8 and length: shown, not obeyed."""
    producer = Producer(client_config(lab.kafka))
    value = b"\x1b[31m\n\x00\xff\xe2\x80\xae" + "żółć".encode()
    producer.produce(lab.kafka.topic, value, key=b"7\t", partition=0, timestamp=1_000)
    producer.produce(lab.kafka.topic, None, partition=1)
    producer.flush()
    first, second = peek(lab)
    assert str(first) == r"        0         0  1970-01-01T00:00:01.000Z  7\t      \x1b[31m\n\x00\xff\u202eżółć"
    assert str(second).endswith("  null     null")
    assert json.loads(json.dumps(first.to_json()))["key"] == "7\t"


def test_long_value_is_cut_and_says_its_length() -> None:
    """A line stays a line."""
    assert printable(b"x" * 5000, 10) == "xxxxxxxxxx... (5000 bytes)"
    assert printable("ż".encode() * 10, 10) == "ż" * 10


def test_impossible_timestamp_is_shown_as_a_number() -> None:
    """Any producer may send any number."""
    assert "  99999999999999999 ms  " in str(Record(0, 1, 99_999_999_999_999_999, b"", b""))
    assert "  -  " in str(Record(0, 1, None, b"", b""))


# --- reading ranges ---


def test_range_ends_where_it_was_told_while_more_comes(lab: Config) -> None:
    """Ends are exclusive, and records behind them are left alone."""
    sender = Sender(lab)
    sender.houses(*range(20))
    ranges = {0: (5, 10), 1: (0, 0), 2: (19, 20)}
    found = {
        (run.partition, offset) for run in read_ranges(lab.kafka, lab.kafka.topic, ranges) for offset in run.offsets
    }
    assert found == {(0, offset) for offset in range(5, 10)} | {(2, 19)}
    assert first_and_end(lab.kafka, lab.kafka.topic) == {0: (0, 20), 1: (0, 20), 2: (0, 20)}


def test_what_is_deleted_while_it_is_read_is_an_error(lab: Config) -> None:
    """A range that begins before the log does: whoever asked for it believes that all of it was read."""
    Sender(lab).houses(*range(5))
    admin = connect(AdminClient, lab.kafka)
    for future in admin.delete_records([TopicPartition(lab.kafka.topic, 1, 3)]).values():
        future.result(60)
    with pytest.raises(PositionError, match=r"partition 1: records were deleted while they were read; start again"):
        list(read_ranges(lab.kafka, lab.kafka.topic, {1: (0, 5)}))
    assert [record.offset for record in last_records(lab.kafka, lab.kafka.topic, 9) if record.partition == 1] == [3, 4]


def test_reading_without_a_broker_gives_up(lab: Config) -> None:
    """Without a broker nothing ever comes."""
    with pytest.raises(BrokerError, match=r"nothing came for 0 s"):
        list(
            read_ranges(
                lab.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}), "x", {0: (0, 1)}, stall_s=0.2
            )
        )


def test_open_transaction_ends_the_reading_without_an_error(lab: Config) -> None:
    """Nobody may read its records before it is decided."""
    producer = Producer(client_config(lab.kafka) | {"transactional.id": lab.kafka.topic})
    producer.init_transactions(10)
    Sender(lab).raw(0, b"before")
    producer.begin_transaction()
    producer.produce(lab.kafka.topic, b"open", partition=0)
    producer.flush()
    runs = list(read_ranges(lab.kafka, lab.kafka.topic, {0: (0, 2)}))
    newest = last_records(lab.kafka, lab.kafka.topic, 5, 2.0)  # also where less time is given than a transaction has
    producer.abort_transaction(10)
    assert [offset for run in runs for offset in run.offsets] == [0]
    assert [record.value for record in newest] == [b"before"]
