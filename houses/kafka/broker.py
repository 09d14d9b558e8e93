"""The way to Kafka: clients, a broker that answers, topics and their ids, positions."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported there without an __all__
    AdminClient,
    NewTopic,
    TopicDescription,
)

from houses.config.config import Config
from houses.config.models import KafkaConfig
from houses.errors import BrokerError
from houses.kafka.clients import (
    READER,
    TopicInfo,
    connect,
    connect_admin,
    error_text,
    may_start,
    metadata_of,
    result_of,
    unreachable,
)
from houses.kafka.local import server as local_kafka
from houses.kafka.local.probe import Look, look, parse_address
from houses.records.message import PARTS

LOG = logging.getLogger(__name__)

_PROBE_TIMEOUT_S = 2.0
_ABSENT = (KafkaError.UNKNOWN_TOPIC_OR_PART,)
_EXISTS = (KafkaError.TOPIC_ALREADY_EXISTS,)
_NO_LEADER = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)


# --- a broker that answers ---


def ensure_broker(config: Config) -> None:
    """Return when a Kafka answers at `kafka.bootstrap_servers`: the one that is there, else a local one, started now.

    Raises:
        BrokerError: something else answers there, or nothing does and the address is not of this machine alone.
    """
    kafka = config.kafka
    if kafka.security.security_protocol.endswith("SSL"):  # inside TLS a plain probe says nothing
        cluster_id(kafka)
        return
    servers = [parse_address(server) for server in kafka.bootstrap_servers.split(",")]
    looks: list[Look] = []
    for host, port in servers:
        looks.append(look(host, port, _PROBE_TIMEOUT_S))
        if looks[-1].answer == "kafka":
            cluster_id(kafka)
            return
    if not may_start(kafka):
        raise _nobody(kafka, looks)
    local_kafka.start(config.data_dir, kafka.bootstrap_servers, kafka.maven_repository)


def _nobody(kafka: KafkaConfig, looks: Sequence[Look]) -> BrokerError:
    """The error for addresses at which no Kafka answers and none is started."""
    if any(look.answer == "other" for look in looks):
        return BrokerError(
            f"kafka.bootstrap_servers = {kafka.bootstrap_servers}: a program that is not Kafka listens there, or a Kafka "
            "that wants TLS; correct the address, or kafka.security, in config.yaml"
        )
    return unreachable(kafka, ", ".join(dict.fromkeys(look.why for look in looks)))


def cluster_id(kafka: KafkaConfig, timeout_s: float = 10.0) -> str:
    """The id of the cluster that answers; `BrokerError` when none does in time."""
    causes = deque[KafkaError](maxlen=20)
    admin = connect(AdminClient, kafka, {"error_cb": causes.append})
    return str(metadata_of(admin, kafka, causes, timeout_s=timeout_s).cluster_id)


# --- topics ---


def ensure_topics(config: Config) -> tuple[TopicInfo, TopicInfo]:
    """The parts topic (3 partitions) and the storno topic (1), created when absent.

    Raises:
        BrokerError: one exists with another number of partitions; it is never deleted here.
    """
    wanted = {config.kafka.topic: len(PARTS), config.consumer.storno_topic: 1}
    found = ensure_topics_named(config.kafka, wanted)
    return found[config.kafka.topic], found[config.consumer.storno_topic]


def ensure_topics_named(kafka: KafkaConfig, wanted: Mapping[str, int], timeout_s: float = 15.0) -> dict[str, TopicInfo]:
    """Topics by name with their wanted partition counts, created when absent, with unlimited retention."""
    found = describe_topics(kafka, list(wanted), timeout_s)
    missing = [name for name in wanted if name not in found]
    if missing:
        _create(kafka, {name: wanted[name] for name in missing}, timeout_s)
        found = _wait_until_described(kafka, list(wanted), timeout_s)
        LOG.info(f"created topics: {', '.join(missing)}")
    for name, partitions in wanted.items():
        _check_partitions(found[name], partitions)
    return found


def _check_partitions(topic: TopicInfo, wanted: int) -> None:
    if topic.partitions != wanted:
        raise BrokerError(
            f"topic {topic.name} has {topic.partitions} partitions: must be {wanted}; "
            "set another topic name in config.yaml, or delete this one yourself if nobody needs it"
        )


def _create(kafka: KafkaConfig, wanted: Mapping[str, int], timeout_s: float) -> None:
    # retention.ms -1: a house may be verified, and a consumer started again, long after the broker's default week.
    new = [NewTopic(name, number, config={"retention.ms": "-1"}) for name, number in wanted.items()]
    admin = connect_admin(kafka, timeout_s)
    for future in admin.create_topics(new, request_timeout=timeout_s, operation_timeout=timeout_s).values():
        # Somebody else may have made it a moment ago: what counts is how it is described afterwards.
        result_of(kafka, future, timeout_s, _EXISTS)


def _wait_until_described(kafka: KafkaConfig, names: list[str], timeout_s: float) -> dict[str, TopicInfo]:
    found: dict[str, TopicInfo] = {}

    def all_there() -> bool:
        found.update(describe_topics(kafka, names, timeout_s, ready=True))
        return len(found) == len(names)

    if not _poll_until(all_there, timeout_s):
        missing = ", ".join(name for name in names if name not in found)
        raise BrokerError(f"topics made but not ready in {timeout_s:.0f} s: {missing}; look into the broker's log")
    return found


def _poll_until(done: Callable[[], bool], timeout_s: float) -> bool:
    """Ask every 50 ms; whether it was done in time."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def describe_topics(
    kafka: KafkaConfig, names: Sequence[str], timeout_s: float = 10.0, *, ready: bool = False
) -> dict[str, TopicInfo]:
    """Name, id and partition count of each topic; those that do not exist are left out.

    With `ready`, a topic with a partition that has no leader yet is left out too. `BrokerError` when no broker answers.
    """
    if not names:
        return {}
    admin = connect_admin(kafka, timeout_s)
    futures = admin.describe_topics(TopicCollection(list(names)), request_timeout=timeout_s)
    described = [result_of(kafka, future, timeout_s, _ABSENT) for future in futures.values()]
    return {topic.name: _info(topic) for topic in described if topic and (not ready or _has_leaders(topic))}


def _info(topic: TopicDescription) -> TopicInfo:
    return TopicInfo(topic.name, str(topic.topic_id), len(topic.partitions))


def _has_leaders(topic: TopicDescription) -> bool:
    return all(partition.leader is not None and partition.leader.id >= 0 for partition in topic.partitions)


def delete_topics(kafka: KafkaConfig, topics: Iterable[TopicInfo], timeout_s: float = 15.0) -> list[str]:
    """Delete topics by id: one that is gone, or whose name now belongs to another topic, is left alone.

    Returns:
        The names deleted, after they have disappeared from the broker's description.
    """
    expected = {topic.name: topic.id for topic in topics}
    present = describe_topics(kafka, list(expected), timeout_s)
    doomed = [name for name, topic in present.items() if topic.id == expected[name]]
    if doomed:
        admin = connect_admin(kafka, timeout_s)
        futures = admin.delete_topics(doomed, request_timeout=timeout_s, operation_timeout=timeout_s)
        for future in futures.values():
            result_of(kafka, future, timeout_s, _ABSENT)
        _poll_until(lambda: not describe_topics(kafka, doomed, timeout_s), timeout_s)
    return doomed


# --- positions ---


def watermarks(
    kafka: KafkaConfig, topic: str, partitions: Iterable[int], timeout_s: float = 10.0
) -> dict[int, tuple[int, int]]:
    """Per partition the offset of the first record and that of the next one to be written (0-based)."""
    # Not AdminClient.list_offsets: on a new client one call in ten takes three seconds (librdkafka 2.16.0).
    consumer = connect(Consumer, kafka, READER)
    marks: dict[int, tuple[int, int]] = {}
    missing = list(partitions)

    def all_known() -> bool:
        while missing and (mark := _watermarks_of(kafka, consumer, TopicPartition(topic, missing[0]), timeout_s)):
            marks[missing.pop(0)] = mark
        return not missing

    try:
        if not _poll_until(all_known, timeout_s):
            raise BrokerError(
                f"topic {topic}: no leader for all of its partitions in {timeout_s:.0f} s; is a broker down?"
            )
    finally:
        consumer.close()
    return marks


def _watermarks_of(
    kafka: KafkaConfig, consumer: Consumer, at: TopicPartition, timeout_s: float
) -> tuple[int, int] | None:
    try:
        return consumer.get_watermark_offsets(at, timeout=timeout_s)  # None when it timed out
    except KafkaException as error:
        # A partition made a moment ago is described with its leader before that leader serves it.
        if error.args[0].code() in _NO_LEADER:
            return None
        raise unreachable(kafka, error_text(error)) from None
