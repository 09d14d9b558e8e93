"""Broker errors, put into the answers of a mock cluster one by one: each is got over, or ends in one clear error.

The tables below say which. What is fatal, or refuses login or rights, and a position outside the log stop the consumer; it
reads on after everything else. What a producer cannot deliver is counted and raised at its end, and its other messages
arrive. A checkpoint that was not taken is tried again, and the one before it stays good; one that is not allowed any
more ends the consumer.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Producer as KafkaProducer
from support.kafka_lab import make_config, wait_until
from support.mock_kafka import FETCH, OFFSET_COMMIT, PRODUCE, MockKafka, mock_kafka

from houses.config.config import Config
from houses.consumer.source import Source
from houses.errors import AccessError, BrokerError, HousesError
from houses.kafka.clients import client_config, connect
from houses.offsets.checkpoint import Checkpoint
from houses.offsets.kafka_store import KafkaStore
from houses.producer import producers as producer_module
from houses.producer.producers import Producers
from houses.producer.sender import Sender
from houses.system.locks import lock_owner

RECOVERS = ""
"""In the tables: no error comes out. Anything else is a part of the error's text."""

REFUSED = "Kafka refuses the consumer: "
NOT_DELIVERED = "1 message was not delivered to .*: partition 0: "
NOT_TAKEN = "the checkpoint was not taken .*"

FETCH_ERRORS = {
    "OFFSET_OUT_OF_RANGE": "is outside the log .* start the consumer again",
    "TOPIC_AUTHORIZATION_FAILED": REFUSED,
    "GROUP_AUTHORIZATION_FAILED": REFUSED,
    "CLUSTER_AUTHORIZATION_FAILED": REFUSED,
    "SASL_AUTHENTICATION_FAILED": REFUSED,
    "UNKNOWN": RECOVERS,
    "INVALID_MSG": RECOVERS,
    "UNKNOWN_TOPIC_OR_PART": RECOVERS,
    "INVALID_MSG_SIZE": RECOVERS,
    "LEADER_NOT_AVAILABLE": RECOVERS,
    "NOT_LEADER_FOR_PARTITION": RECOVERS,
    "REQUEST_TIMED_OUT": RECOVERS,
    "BROKER_NOT_AVAILABLE": RECOVERS,
    "REPLICA_NOT_AVAILABLE": RECOVERS,
    "NETWORK_EXCEPTION": RECOVERS,
    "NOT_ENOUGH_REPLICAS": RECOVERS,
    "TOPIC_EXCEPTION": RECOVERS,
    "ILLEGAL_SASL_STATE": RECOVERS,
    "UNSUPPORTED_VERSION": RECOVERS,
    "INVALID_REQUEST": RECOVERS,
    "POLICY_VIOLATION": RECOVERS,
    "KAFKA_STORAGE_ERROR": RECOVERS,
    "FETCH_SESSION_ID_NOT_FOUND": RECOVERS,
    "INVALID_FETCH_SESSION_EPOCH": RECOVERS,
    "LISTENER_NOT_FOUND": RECOVERS,
    "FENCED_LEADER_EPOCH": RECOVERS,
    "UNKNOWN_LEADER_EPOCH": RECOVERS,
    "UNSUPPORTED_COMPRESSION_TYPE": RECOVERS,
    "OFFSET_NOT_AVAILABLE": RECOVERS,
    "THROTTLING_QUOTA_EXCEEDED": RECOVERS,
    "UNKNOWN_TOPIC_ID": RECOVERS,
    "INCONSISTENT_TOPIC_ID": RECOVERS,
    "_TRANSPORT": RECOVERS,
}
METADATA_ERRORS = (
    *("UNKNOWN", "OFFSET_OUT_OF_RANGE", "INVALID_MSG", "UNKNOWN_TOPIC_OR_PART", "LEADER_NOT_AVAILABLE"),
    *("NOT_LEADER_FOR_PARTITION", "REQUEST_TIMED_OUT", "BROKER_NOT_AVAILABLE", "REPLICA_NOT_AVAILABLE"),
    *("STALE_CTRL_EPOCH", "NETWORK_EXCEPTION", "TOPIC_EXCEPTION", "NOT_ENOUGH_REPLICAS", "TOPIC_AUTHORIZATION_FAILED"),
    *("GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "UNSUPPORTED_VERSION", "NOT_CONTROLLER"),
    *("INVALID_REQUEST", "POLICY_VIOLATION", "KAFKA_STORAGE_ERROR", "SASL_AUTHENTICATION_FAILED"),
    *("LISTENER_NOT_FOUND", "UNKNOWN_TOPIC_ID"),
)
"""Of the topic's description: a consumer reads on behind each of them, a producer that begins then ends with it."""

PRODUCE_ERRORS = {
    "INVALID_MSG": RECOVERS,
    "UNKNOWN_TOPIC_OR_PART": RECOVERS,
    "LEADER_NOT_AVAILABLE": RECOVERS,
    "NOT_LEADER_FOR_PARTITION": RECOVERS,
    "REQUEST_TIMED_OUT": RECOVERS,
    "BROKER_NOT_AVAILABLE": RECOVERS,
    "REPLICA_NOT_AVAILABLE": RECOVERS,
    "COORDINATOR_LOAD_IN_PROGRESS": RECOVERS,
    "COORDINATOR_NOT_AVAILABLE": RECOVERS,
    "NOT_COORDINATOR": RECOVERS,
    "NOT_ENOUGH_REPLICAS": RECOVERS,
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": RECOVERS,
    "KAFKA_STORAGE_ERROR": RECOVERS,
    "UNKNOWN_PRODUCER_ID": RECOVERS,
    "_TRANSPORT": RECOVERS,
    "UNKNOWN": NOT_DELIVERED + "Unknown broker error",
    "INVALID_MSG_SIZE": NOT_DELIVERED + "Broker: Invalid message size",
    "MSG_SIZE_TOO_LARGE": NOT_DELIVERED + "Broker: Message size too large",
    "NETWORK_EXCEPTION": NOT_DELIVERED + "Broker: Broker disconnected",
    "TOPIC_EXCEPTION": NOT_DELIVERED + "Broker: Invalid topic",
    "RECORD_LIST_TOO_LARGE": NOT_DELIVERED + "Broker: Message batch larger",
    "INVALID_REQUIRED_ACKS": NOT_DELIVERED + "Broker: Invalid required acks",
    "CLUSTER_AUTHORIZATION_FAILED": NOT_DELIVERED + "Broker: Cluster authorization failed",
    "INVALID_TIMESTAMP": NOT_DELIVERED + "Broker: Invalid timestamp",
    "UNSUPPORTED_VERSION": NOT_DELIVERED + "Broker: API version not supported",
    "INVALID_REQUEST": NOT_DELIVERED + "Broker: Invalid request",
    "POLICY_VIOLATION": NOT_DELIVERED + "Broker: Policy violation",
    "INVALID_PRODUCER_EPOCH": NOT_DELIVERED + "Broker: Producer attempted",
    "SASL_AUTHENTICATION_FAILED": NOT_DELIVERED + "Broker: SASL Authentication failed",
    "UNSUPPORTED_COMPRESSION_TYPE": NOT_DELIVERED + "Broker: Unsupported compression type",
    "INVALID_RECORD": NOT_DELIVERED + "Broker: Broker failed to validate record",
    "THROTTLING_QUOTA_EXCEEDED": NOT_DELIVERED + "Broker: Throttling quota",
}
# Not FENCED_INSTANCE_ID, which is fatal: it is for clients with a group.instance.id, which ours have not.
COMMIT_ERRORS = {
    "UNKNOWN_TOPIC_OR_PART": RECOVERS,
    "REQUEST_TIMED_OUT": RECOVERS,
    "COORDINATOR_LOAD_IN_PROGRESS": RECOVERS,
    "COORDINATOR_NOT_AVAILABLE": RECOVERS,
    "NOT_COORDINATOR": RECOVERS,
    "NOT_ENOUGH_REPLICAS": RECOVERS,
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": RECOVERS,
    "KAFKA_STORAGE_ERROR": RECOVERS,
    "_TRANSPORT": RECOVERS,
    "UNKNOWN": NOT_TAKEN + "Unknown broker error",
    "LEADER_NOT_AVAILABLE": NOT_TAKEN + "Leader not available",
    "BROKER_NOT_AVAILABLE": NOT_TAKEN + "Broker not available",
    "OFFSET_METADATA_TOO_LARGE": NOT_TAKEN + "Offset metadata string too large",
    "NETWORK_EXCEPTION": NOT_TAKEN + "Broker disconnected",
    "ILLEGAL_GENERATION": NOT_TAKEN + "group generation id is not valid",
    "INVALID_GROUP_ID": NOT_TAKEN + "Invalid group.id",
    "UNKNOWN_MEMBER_ID": NOT_TAKEN + "Unknown member",
    "REBALANCE_IN_PROGRESS": NOT_TAKEN + "Group rebalance in progress",
    "INVALID_COMMIT_OFFSET_SIZE": NOT_TAKEN + "Commit offset data size",
    "TOPIC_AUTHORIZATION_FAILED": NOT_TAKEN + "Topic authorization failed",
    "GROUP_AUTHORIZATION_FAILED": NOT_TAKEN + "Group authorization failed",
    "CLUSTER_AUTHORIZATION_FAILED": NOT_TAKEN + "Cluster authorization failed",
    "UNSUPPORTED_VERSION": NOT_TAKEN + "API version not supported",
    "POLICY_VIOLATION": NOT_TAKEN + "Policy violation",
    "SASL_AUTHENTICATION_FAILED": NOT_TAKEN + "SASL Authentication failed",
    "GROUP_ID_NOT_FOUND": NOT_TAKEN + "The group id does not exist",
    "THROTTLING_QUOTA_EXCEEDED": NOT_TAKEN + "Throttling quota",
    "STALE_MEMBER_EPOCH": NOT_TAKEN + "member epoch is stale",
}
RECORD = Checkpoint("folder", ("a", "b"), 1, (1, 2, 3), (4, 5, 6), 7, (8, 9, 10), (0, 1, 2))


@pytest.fixture(scope="module")
def mock() -> Iterator[MockKafka]:
    """One cluster for the file."""
    with mock_kafka() as cluster:
        yield cluster


@pytest.fixture
def lab(tmp_path: Path, mock: MockKafka) -> Iterator[Config]:
    """Topics of the test's own; what it injected and nobody asked for is forgotten at its end."""
    made = make_config(tmp_path, mock.address)
    mock.make_topic(made.kafka.topic, 3)
    mock.make_topic(made.consumer.storno_topic, 1)
    yield made
    for request in (PRODUCE, FETCH, OFFSET_COMMIT):
        mock.fail_no_more(request)


def code_of(name: str) -> int:
    """The number of an error code."""
    return int(getattr(KafkaError, name))


def send(config: Config, *values: bytes) -> None:
    """Records for each partition, by a client that the test does not look at."""
    client = connect(KafkaProducer, config.kafka, {"linger.ms": 0})
    for value in values:
        for partition in range(3):
            client.produce(config.kafka.topic, value, partition=partition)
    assert client.flush(60) == 0


def read_to(source: Source, end: int) -> dict[int, list[int]]:
    """The offsets by partition that come until each one is read up to `end`."""
    found: dict[int, list[int]] = {0: [], 1: [], 2: []}

    def read() -> bool:
        for chunk in source.poll(100, 0.02):
            found[chunk.partition] += chunk.offsets
        return source.next[:3] == [end] * 3

    wait_until(read, f"all partitions are read up to {end}")
    return found


def values_in(config: Config, count: int) -> list[bytes | None]:
    """The first `count` values of partition 0, and whatever comes with them."""
    with closing(connect(Consumer, config.kafka, {"group.id": "looks"})) as client:
        client.assign([TopicPartition(config.kafka.topic, 0, 0)])
        found: list[bytes | None] = []

        def read() -> bool:
            found.extend(message.value() for message in client.consume(10, 0.1))
            return len(found) >= count

        wait_until(read, "the records")
        return found


@pytest.mark.parametrize(
    ("request_name", "errors"), [("fetch", FETCH_ERRORS), ("produce", PRODUCE_ERRORS), ("offset commit", COMMIT_ERRORS)]
)
def test_the_readme_tells_of_each_error(request_name: str, errors: dict[str, str]) -> None:
    """In the right column."""
    lines = (Path(__file__).parents[1] / "README.md").read_text().splitlines()
    (cells,) = [line.split(" | ") for line in lines if line.startswith(f"| {request_name} | ")]
    passing, ending = (re.findall(r"[A-Z_]{5,}", cell) for cell in cells[1:])
    assert passing == [name for name, error in errors.items() if error == RECOVERS]
    assert ending == [name for name, error in errors.items() if error != RECOVERS]


def test_the_readme_tells_of_each_error_in_the_description_of_a_topic() -> None:
    """One row for both sides."""
    lines = (Path(__file__).parents[1] / "README.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| metadata | ")]
    assert tuple(re.findall(r"[A-Z_]{5,}", row)) == METADATA_ERRORS


# --- the consumer ---


@pytest.mark.slow
@pytest.mark.parametrize("name", FETCH_ERRORS)
def test_an_error_of_a_fetch_is_got_over_or_refused(lab: Config, mock: MockKafka, name: str) -> None:
    """Every record comes once and in order, or one error says what Kafka said."""
    send(lab, b"1")
    with closing(Source(lab)) as source:
        source.assign_parts([0, 0, 0])
        read_to(source, 1)
        # Whichever fetch brings the next records was answered after this, so the error came before them.
        mock.fail_next(FETCH, code_of(name))
        send(lab, b"2", b"3")
        if FETCH_ERRORS[name] == RECOVERS:
            assert read_to(source, 3) == {partition: [1, 2] for partition in range(3)}
        else:
            with pytest.raises(HousesError, match=FETCH_ERRORS[name]):
                read_to(source, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", METADATA_ERRORS)
def test_an_error_in_the_description_of_a_topic_passes(lab: Config, mock: MockKafka, name: str) -> None:
    """A consumer that begins meanwhile reads all of it later; a producer says at once what is wrong."""
    send(lab, b"1")
    mock.spoil_topic(lab.kafka.topic, code_of(name))
    with closing(Source(lab)) as source:
        source.assign_parts([0, 0, 0])
        assert source.poll(100, 0.1) == []
        advice = "correct its name" if name == "UNKNOWN_TOPIC_OR_PART" else "check kafka.security and the broker's log"
        with pytest.raises(BrokerError, match=f"topic {lab.kafka.topic}: .*{advice}"):
            Sender(lab, lab.kafka.topic)
        mock.spoil_topic(lab.kafka.topic, 0)
        assert read_to(source, 1) == {partition: [0] for partition in range(3)}


def test_an_error_that_is_fatal_ends_the_consumer(lab: Config) -> None:
    """As librdkafka tells of it: by a code of its own, and without the mark that fatal() looks for."""
    with closing(Source(lab)) as source:
        source._note_error(KafkaError(KafkaError._FATAL, "it will never work again"))
        with pytest.raises(BrokerError, match="Kafka refuses the consumer: it will never work again"):
            source.poll(1, 0)


# --- checkpoints ---


@pytest.mark.parametrize("name", COMMIT_ERRORS)
def test_a_checkpoint_that_was_not_taken_leaves_the_last_one_good(lab: Config, mock: MockKafka, name: str) -> None:
    """Taken at the second try of librdkafka, or refused with what Kafka said; the next one is taken."""
    topics = (lab.kafka.topic, lab.consumer.storno_topic)
    first, second, third = (replace(RECORD, generation=n) for n in (1, 2, 3))
    with closing(KafkaStore(client_config(lab.kafka), f"group-{lab.kafka.topic}", topics)) as store:
        store.save(first)
        mock.fail_next(OFFSET_COMMIT, code_of(name))
        if COMMIT_ERRORS[name] == RECOVERS:
            store.save(second)
            assert store.load() == second
        else:
            with pytest.raises(HousesError, match=COMMIT_ERRORS[name]) as error:
                store.save(second)
            # A consumer ends with it instead of trying again.
            assert isinstance(error.value, AccessError) == ("AUTH" in name)
            assert store.load() == first
        store.save(third)
        assert store.load() == third


def test_a_checkpoint_is_known_again_however_many_were_not_taken_after_it(lab: Config, mock: MockKafka) -> None:
    """Ten refused in a row; the next one is taken, and nobody else is blamed."""
    topics = (lab.kafka.topic, lab.consumer.storno_topic)
    with closing(KafkaStore(client_config(lab.kafka), f"group-{lab.kafka.topic}", topics)) as store:
        store.save(RECORD)
        for generation in range(2, 12):
            mock.fail_next(OFFSET_COMMIT, code_of("BROKER_NOT_AVAILABLE"))
            with pytest.raises(BrokerError, match="the checkpoint was not taken"):
                store.save(replace(RECORD, generation=generation))
        store.save(last := replace(RECORD, generation=12))
        assert store.load() == last


# --- the producers ---


@pytest.mark.slow
@pytest.mark.parametrize("name", PRODUCE_ERRORS)
def test_an_error_of_a_message_is_got_over_or_counted(lab: Config, mock: MockKafka, name: str) -> None:
    """It arrives once all the same, or is missing in the topic and in the count at the end; the next one arrives."""
    sender = Sender(lab, lab.kafka.topic)
    sender.await_producer_id()
    mock.fail_next(PRODUCE, code_of(name))
    sender.send(0, [{"value": b"first"}])
    while sender.queued:  # librdkafka gives a message up after five minutes
        sender.poll()
    sender.send(0, [{"value": b"second"}])
    if PRODUCE_ERRORS[name] == RECOVERS:
        sender.close()
        assert values_in(lab, 2) == [b"first", b"second"]
    else:
        with pytest.raises(BrokerError, match=PRODUCE_ERRORS[name]):
            sender.close()
        assert values_in(lab, 1) == [b"second"]


def test_an_error_that_is_fatal_ends_the_producers(
    lab: Config, mock: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No id is used up in vain: the threads end, stop raises what Kafka said and gives the folder back."""
    monkeypatch.setattr(producer_module, "last_records", lambda *_: [])  # asks for a description, as admins do
    running = Producers(lab, lab.kafka.topic, lab.folder).start()
    wait_until(lambda: running.highest_id > 10, "the stream")
    mock.fail_next(PRODUCE, code_of("OUT_OF_ORDER_SEQUENCE_NUMBER"))
    wait_until(lambda: running.error is not None, "the error")
    with pytest.raises(BrokerError, match="Kafka refuses this producer for good: .*sequence .*; start it again"):
        running.stop()
    assert running.failed > 0 and lock_owner(lab.folder, "producer") is None
