"""Brokers, topics by id, positions: on a real Kafka, and without one."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no __all__ there
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from pydantic import SecretStr
from support.kafka_lab import make_config, make_lab

from houses.config.config import Config
from houses.config.models import KafkaConfig, SecurityConfig
from houses.errors import BrokerError
from houses.kafka import clients
from houses.kafka.broker import cluster_id, delete_topics, describe_topics, ensure_broker, ensure_topics, watermarks
from houses.kafka.clients import client_config, connect
from houses.kafka.local import server as local_kafka
from houses.kafka.local.probe import free_port
from houses.kafka.reader import last_records


@pytest.fixture
def lab(tmp_path: Path, kafka: str) -> Config:
    """Topics of the test's own."""
    return make_lab(tmp_path, kafka)


@pytest.fixture
def nobody(tmp_path: Path) -> Config:
    """An address where nothing listens."""
    return make_config(tmp_path, f"127.0.0.1:{free_port()}")


@pytest.fixture
def stranger() -> Iterator[str]:
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _accept(server: socket.socket) -> None:
    kept = []
    while server.fileno() >= 0:
        try:
            kept.append(server.accept())
        except OSError:
            return


def write(config: Config, partition: int, count: int) -> None:
    """`count` records with the keys and values 0, 1, 2, ..."""
    producer = connect(Producer, config.kafka)
    for i in range(count):
        producer.produce(config.kafka.topic, str(i), str(i), partition=partition)
    assert producer.flush(60) == 0


def retention(config: Config, topic: str) -> str:
    """retention.ms of a topic."""
    admin = connect(AdminClient, config.kafka)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return str(admin.describe_configs([resource])[resource].result(60)["retention.ms"].value)


def test_both_topics_are_made_once(tmp_path: Path, kafka: str, said: list[str]) -> None:
    """Three partitions for the parts, one for the stornos, kept for ever; the second call finds the same ones."""
    config = make_config(tmp_path, kafka)
    parts, storno = ensure_topics(config)
    assert (parts.name, parts.partitions) == (config.kafka.topic, 3)
    assert (storno.name, storno.partitions) == (config.consumer.storno_topic, 1)
    assert parts.id != storno.id
    assert retention(config, parts.name) == retention(config, storno.name) == "-1"
    assert ensure_topics(config) == (parts, storno)
    assert said == [f"created topics: {parts.name}, {storno.name}"]


def test_two_can_make_the_same_topics_at_once(tmp_path: Path, kafka: str) -> None:
    """Whoever comes second takes what is there, and both see the same ids."""
    config = make_config(tmp_path, kafka)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: ensure_topics(config), range(4)))
    assert found.count(found[0]) == 4


def test_a_wrong_partition_count_is_refused_and_nothing_is_deleted(tmp_path: Path, kafka: str) -> None:
    """The error names topic, found and wanted number; the topic stays as it is."""
    config = make_config(tmp_path, kafka)
    admin = connect(AdminClient, config.kafka)
    admin.create_topics([NewTopic(config.kafka.topic, 2)])[config.kafka.topic].result(60)
    with pytest.raises(BrokerError, match=f"topic {config.kafka.topic} has 2 partitions: must be 3; set another"):
        ensure_topics(config)
    assert describe_topics(config.kafka, [config.kafka.topic])[config.kafka.topic].partitions == 2


def test_absent_topics_are_left_out_of_a_description(lab: Config) -> None:
    """Only what exists is described, and asking does not create."""
    for _ in range(2):
        found = describe_topics(lab.kafka, [lab.kafka.topic, "no-such-topic"])
        assert list(found) == [lab.kafka.topic]
    assert describe_topics(lab.kafka, []) == {}


class Fenced(AdminClient):
    """A client of a broker that has just been frozen: its cluster names no controller for a while."""

    asked = 0

    def list_topics(self, *args: Any, **kwargs: Any) -> ClusterMetadata:
        """The real metadata, with a controller from the third time on."""
        metadata = super().list_topics(*args, **kwargs)
        Fenced.asked += 1
        if Fenced.asked < 3:
            metadata.controller_id = -1
        return metadata


def test_a_cluster_without_a_controller_is_asked_again(lab: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a request that waits for one until its time is over."""
    monkeypatch.setattr(clients, "AdminClient", Fenced)
    monkeypatch.setattr(Fenced, "asked", 0)
    assert lab.kafka.topic in describe_topics(lab.kafka, [lab.kafka.topic])
    assert Fenced.asked == 3
    monkeypatch.setattr(Fenced, "asked", -1000)
    with pytest.raises(BrokerError, match="no controller within 1 s"):
        describe_topics(lab.kafka, [lab.kafka.topic], 1.0)


def test_a_topic_is_deleted_only_while_it_has_that_id(lab: Config) -> None:
    """A topic made anew under the old name survives the deletion of the old one."""
    old = list(ensure_topics(lab))
    assert sorted(delete_topics(lab.kafka, old)) == sorted(topic.name for topic in old)
    assert describe_topics(lab.kafka, [topic.name for topic in old]) == {}
    new = list(ensure_topics(lab))
    assert {topic.id for topic in new}.isdisjoint(topic.id for topic in old)
    assert delete_topics(lab.kafka, old) == []
    assert list(ensure_topics(lab)) == new


def test_watermarks_are_first_and_next_offset(lab: Config) -> None:
    """An empty partition is (0, 0), one with five records (0, 5)."""
    write(lab, 1, 5)
    assert watermarks(lab.kafka, lab.kafka.topic, range(3)) == {0: (0, 0), 1: (0, 5), 2: (0, 0)}


def test_watermarks_of_a_new_topic_wait_for_its_leaders(tmp_path: Path, kafka: str) -> None:
    """Right after a topic was made its positions can be read, every time."""
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        config = make_lab(folder, kafka)
        assert watermarks(config.kafka, config.kafka.topic, range(3)) == dict.fromkeys(range(3), (0, 0))


def test_the_last_records_of_each_partition_are_read(lab: Config) -> None:
    """At most so many of each, the newest ones, in order."""
    write(lab, 0, 25)
    write(lab, 2, 3)
    records = last_records(lab.kafka, lab.kafka.topic, 10)
    assert [record.value for record in records if record.partition == 0] == [b"%d" % i for i in range(15, 25)]
    assert [record.key for record in records if record.partition == 2] == [b"0", b"1", b"2"]
    assert len(records) == 13


def test_an_empty_or_absent_topic_has_no_last_records(lab: Config) -> None:
    """Both give an empty list at once."""
    assert last_records(lab.kafka, lab.kafka.topic, 10) == last_records(lab.kafka, "no-such-topic", 10) == []


def test_a_kafka_that_answers_is_used(lab: Config, said: list[str]) -> None:
    """Nothing is started and nothing said."""
    ensure_broker(lab)
    assert said == []


def test_a_local_kafka_is_started_where_nothing_answers(nobody: Config, said: list[str]) -> None:
    """On a free loopback port ensure_broker brings one up, and topics can be made at once."""
    try:
        ensure_broker(nobody)
        assert ensure_topics(nobody)[0].partitions == 3
        assert any("houses kafka stop" in line for line in said)
    finally:
        local_kafka.stop(nobody.data_dir)


def test_what_is_not_kafka_is_named(tmp_path: Path, stranger: str) -> None:
    """A silent stranger on the port gives an error with the key to change, and no Kafka is started."""
    config = make_config(tmp_path, stranger)
    for servers in (stranger, f"127.0.0.1:1,{stranger}"):  # one where it may be started, and a cluster
        changed = config.with_values({"kafka.bootstrap_servers": servers})
        with pytest.raises(
            BrokerError, match=r"kafka\.bootstrap_servers = .*a program that is not Kafka listens there"
        ):
            ensure_broker(changed)
    assert not local_kafka.status(config.data_dir).running


@pytest.mark.parametrize(
    "values",
    [
        {"kafka.bootstrap_servers": "127.0.0.1:1,127.0.0.1:2"},
        {"kafka.bootstrap_servers": "kafka.invalid:9092"},
        {"kafka.bootstrap_servers": "127.0.0.1:1", "kafka.security.security_protocol": "SASL_PLAINTEXT"},
    ],
)
def test_no_local_kafka_in_the_place_of_a_cluster(nobody: Config, values: dict[str, str]) -> None:
    """Several addresses, a foreign host, or a protocol with a login: an error instead of a new, empty Kafka."""
    config = nobody.with_values(values)
    why = "the host name cannot be resolved" if "invalid" in config.kafka.bootstrap_servers else "connection refused"
    with pytest.raises(BrokerError, match=rf"no answer from Kafka \({why}\); see that it runs") as caught:
        ensure_broker(config)
    assert "kafka start" not in str(caught.value)
    assert not local_kafka.status(config.data_dir).running


def test_every_request_without_a_broker_is_one_clear_error(nobody: Config, capfd: pytest.CaptureFixture[str]) -> None:
    """The address, the key and what to do, within the time given; nothing reaches stdout or stderr."""
    kafka, topic = nobody.kafka, nobody.kafka.topic
    started_s = time.monotonic()
    for request in (
        lambda: describe_topics(kafka, [topic], 0.5),
        lambda: watermarks(kafka, topic, range(3), 0.5),
        lambda: last_records(kafka, topic, 10, 0.5),
    ):
        with pytest.raises(BrokerError, match=r"kafka\.bootstrap_servers = .*no answer.*houses kafka start"):
            request()
    assert time.monotonic() - started_s < 15
    assert capfd.readouterr() == ("", "")


def test_security_settings_reach_librdkafka_under_its_names() -> None:
    """Underscores become dots, secrets are unpacked, what is not set is left to librdkafka."""
    security = SecurityConfig(
        security_protocol="SASL_SSL", sasl_mechanism="PLAIN", sasl_username="me", sasl_password=SecretStr("secret")
    )
    settings = client_config(KafkaConfig(security=security))
    assert settings["security.protocol"] == "SASL_SSL"
    assert (settings["sasl.mechanism"], settings["sasl.username"]) == ("PLAIN", "me")
    assert settings["sasl.password"] == "secret"
    assert not any(key.startswith("ssl.") for key in settings)


def test_refused_security_settings_are_a_broker_error(tmp_path: Path) -> None:
    """A certificate file that is not there is one line, not a traceback."""
    security = SecurityConfig(security_protocol="SSL", ssl_ca_location=str(tmp_path / "none.pem"))
    with pytest.raises(BrokerError, match=r"kafka\.security or the client settings are refused: .*ssl\.ca\.location"):
        connect(AdminClient, KafkaConfig(security=security))


def test_a_cluster_that_speaks_no_tls_is_named(lab: Config) -> None:
    """TLS to a plain listener: the error says what the handshake found."""
    config = lab.with_values({"kafka.security.security_protocol": "SSL"})
    with pytest.raises(BrokerError, match="PLAINTEXT broker listener"):
        cluster_id(config.kafka, timeout_s=2.0)
