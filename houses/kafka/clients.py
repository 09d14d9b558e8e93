"""Clients of Kafka: their shared settings, and their errors in words that say what to do."""

import logging
import time
from collections import deque
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]  # no __all__ there
from pydantic import SecretStr

from houses.config.models import KafkaConfig
from houses.errors import BrokerError
from houses.kafka.local.probe import is_loopback, parse_address


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the broker describes it. The id tells a topic made anew from the one before."""

    name: str
    id: str
    partitions: int


LOG = logging.getLogger("librdkafka")
"""Where librdkafka's own messages go, instead of stderr."""
LOG.addHandler(logging.NullHandler())

T = TypeVar("T")
Client = TypeVar("Client", AdminClient, Consumer, Producer)
NO_ACCESS = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
"""Codes of a login or a right that is refused."""
OUTSIDE_LOG = {KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION}
"""Codes of a position that the log does not have, or not any more."""
READER: dict[str, Any] = {
    "group.id": "houses-unused",  # librdkafka wants one; nothing is committed to it
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A position outside the log is an error for the user to decide about, never a silent jump.
    "auto.offset.reset": "error",
    # The end is known also behind records that no consumer sees (transaction markers).
    "enable.partition.eof": True,
    # With the default of 1000 the fetcher sleeps a second whenever its queue is full.
    "fetch.queue.backoff.ms": 10,
}
"""librdkafka settings of a consumer that is assigned its partitions and keeps its position itself."""
_CONFIRM_POLL_S = 0.05
_ANY_PARTITION = -1  # RD_KAFKA_PARTITION_UA
_REFUSALS = (KafkaError._AUTHENTICATION, KafkaError._SSL)
_NO_ANSWER = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)


def client_config(kafka: KafkaConfig) -> dict[str, Any]:
    """librdkafka settings that every client shares: address, security, log, reconnecting.

    Nothing reaches stderr: messages go to the logger "librdkafka". Holds the secrets, so never show it.
    """
    return {
        "bootstrap.servers": kafka.bootstrap_servers,
        "reconnect.backoff.max.ms": 1000,
        "allow.auto.create.topics": False,
        "logger": LOG,
    } | _security(kafka)


def _security(kafka: KafkaConfig) -> dict[str, str]:
    values = {name.replace("_", "."): value for name, value in kafka.security if value is not None}
    return {key: value.get_secret_value() if isinstance(value, SecretStr) else value for key, value in values.items()}


def connect(kind: type[Client], kafka: KafkaConfig, extra: Mapping[str, Any] | None = None) -> Client:
    """A client of the given class; `BrokerError` when librdkafka refuses the settings (a certificate file)."""
    try:
        return kind(client_config(kafka) | dict(extra or {}))
    except KafkaException as error:
        raise BrokerError(
            f"kafka.security or the client settings are refused: {error_text(error)}; correct them in config.yaml"
        ) from None


def confirming_producer(kafka: KafkaConfig, timeout_s: float, extra: Mapping[str, Any] | None = None) -> Producer:
    """A producer for single messages that must not be lost; Kafka may take so many seconds to confirm one."""
    settings = {"enable.idempotence": True, "linger.ms": 0, "message.timeout.ms": round(timeout_s * 1000)}
    return connect(Producer, kafka, settings | dict(extra or {}))


def produce_confirmed(producer: Producer, topic: str, value: bytes, partition: int = _ANY_PARTITION) -> Message:
    """Send one message, and return it as Kafka has confirmed it: with its partition and offset.

    Args:
        partition: without it librdkafka chooses.
    Raises:
        BrokerError: it was not confirmed in time; it may have arrived all the same.
    """
    reports: list[tuple[KafkaError | None, Message]] = []
    producer.produce(topic, value, on_delivery=lambda *report: reports.append(report), partition=partition)
    while not reports:  # message.timeout.ms ends it
        producer.poll(_CONFIRM_POLL_S)
    error, message = reports[0]
    if error is not None:
        raise BrokerError(f"{topic}: {value!r} was not confirmed by Kafka ({error.str()}); send it again")
    return message


def connect_admin(kafka: KafkaConfig, timeout_s: float = 10.0) -> AdminClient:
    """An admin client that knows the cluster's controller, through which librdkafka sends most requests.

    Metadata can name none for a moment, as after a broker was frozen; librdkafka then fails the request with "waiting for
    controller" when its time is over.

    Raises:
        BrokerError: nobody answers in time, the login or TLS failed (at once), or no controller is known in time.
    """
    deadline_s = time.monotonic() + timeout_s
    causes = deque[KafkaError](maxlen=20)
    admin = connect(AdminClient, kafka, {"error_cb": causes.append})
    while metadata_of(admin, kafka, causes, timeout_s=deadline_s - time.monotonic()).controller_id < 0:
        if time.monotonic() > deadline_s:
            raise unreachable(kafka, f"no controller within {timeout_s:.0f} s")
        time.sleep(0.1)
    return admin


def error_text(error: KafkaException) -> str:
    """librdkafka's own words for an error."""
    kafka_error = error.args[0]
    return kafka_error.str() if isinstance(kafka_error, KafkaError) else str(kafka_error)


def may_start(kafka: KafkaConfig) -> bool:
    """Whether a local Kafka may be started at the address: a single loopback one, without login and TLS."""
    servers = kafka.bootstrap_servers
    return (
        kafka.security.security_protocol == "PLAINTEXT"
        and "," not in servers
        and is_loopback(parse_address(servers)[0])
    )


def unreachable(kafka: KafkaConfig, why: str) -> BrokerError:
    """The error for a broker that does not answer, to be raised by the caller."""
    start = "start one (houses kafka start, or docker compose up -d), or correct the address in config.yaml"
    advice = start if may_start(kafka) else "see that it runs and that kafka.bootstrap_servers is right"
    return BrokerError(f"kafka.bootstrap_servers = {kafka.bootstrap_servers}: no answer from Kafka ({why}); {advice}")


def result_of(kafka: KafkaConfig, future: "Future[T]", timeout_s: float, ignore: tuple[int, ...] = ()) -> T | None:
    """What an AdminClient's future brings, None for an error code in `ignore`; `BrokerError` for any other."""
    try:
        return future.result(timeout_s + 1.0)
    except KafkaException as error:
        if error.args[0].code() in ignore:
            return None
        if error.args[0].code() in _NO_ANSWER:
            raise unreachable(kafka, error_text(error)) from None
        raise BrokerError(f"{kafka.bootstrap_servers} (kafka.bootstrap_servers) refused: {error_text(error)}") from None
    except TimeoutError:
        raise unreachable(kafka, f"nothing within {timeout_s:.0f} s") from None


def metadata_of(
    client: AdminClient | Producer,
    kafka: KafkaConfig,
    causes: Collection[KafkaError],
    topic: str | None = None,
    timeout_s: float = 10.0,
) -> ClusterMetadata:
    """What a broker tells a new client about the cluster, and about one topic.

    Args:
        causes: filled by the client's error_cb; list_topics itself only says "transport failure".
    Raises:
        BrokerError: nobody answers in time, the login or TLS failed (at once), or the topic is absent.
    """
    metadata = _first_metadata(client, kafka, causes, topic, time.monotonic() + timeout_s)
    if topic is not None and (error := metadata.topics[topic].error) is not None:
        is_absent = error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        advice = "houses produce makes it, or correct its name in config.yaml"
        advice = advice if is_absent else "check kafka.security and the broker's log"
        raise BrokerError(f"topic {topic}: {error.str()}; {advice}")
    return metadata


def _first_metadata(
    client: AdminClient | Producer,
    kafka: KafkaConfig,
    causes: Collection[KafkaError],
    topic: str | None,
    deadline_s: float,
) -> ClusterMetadata:
    arguments = {} if topic is None else {"topic": topic}
    while True:
        try:
            return client.list_topics(timeout=max(0.1, min(1.0, deadline_s - time.monotonic())), **arguments)
        except KafkaException as error:
            client.poll(0)
            for cause in causes:
                if cause.code() in _REFUSALS:
                    raise BrokerError(f"{cause.str()}; correct kafka.security in config.yaml, or the address") from None
            if time.monotonic() >= deadline_s:
                details = [cause.str() for cause in causes] or [error_text(error)]
                raise unreachable(kafka, max(details, key=len)) from None  # the longest says most
