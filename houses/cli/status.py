"""How things stand, in plain words: Kafka, topics, processes, and what the consumer said last."""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from houses.config.config import Config
from houses.errors import BrokerError, FolderError
from houses.kafka.broker import cluster_id, describe_topics, watermarks
from houses.kafka.clients import TopicInfo
from houses.kafka.local import server as local_kafka
from houses.offsets.binding import load_binding
from houses.records.message import PARTS
from houses.records.metrics import ENDED, last_metrics, outcome, percentile_ms, written_at
from houses.system.files import REAL
from houses.system.locks import ROLES, lock_owner
from houses.system.text import counted

_TIMEOUT_S = 3.0
Ends = list[tuple[int, int]]
"""First offset and end of the three partitions and of the storno topic."""


def status_lines(config: Config) -> Iterator[str]:
    """Lines for people, one after the other; nothing is started or changed."""
    yield f"Folder:      {config.folder}"
    ends: Ends | None = None
    try:
        yield _answering(config)
        topics, ends = _topics(config)
        yield from topics
    except BrokerError as error:
        yield f"Kafka:       {error}"
    for role, verb in ROLES.items():
        owner = lock_owner(config.folder, role)
        up = owner and f"process {owner.pid}, up {_duration(time.time() - owner.create_time())}"
        yield f"{role.capitalize() + ':':<13}{up or f'none (houses {verb})'}"
    store = config.consumer.store
    places = {"file": str(config.offsets_path), "kafka": f"Kafka group {config.consumer.group_id}"}
    yield f"Checkpoint:  {places.get(store, store)}"
    yield from _consumer_lines(config, ends)


def kafka_lines(config: Config) -> Iterator[str]:
    """The same about Kafka alone: who answers, and the local one's process, data and log."""
    try:
        yield _answering(config)
    except BrokerError as error:
        yield f"Kafka:       {error}"
    kafka = local_kafka.status(config.data_dir)
    state = f"process {kafka.pid} at {kafka.address}" if kafka.running else "does not run"
    yield f"Local one:   {state}, data in {kafka.data_dir}"
    if kafka.log_path.exists():
        yield f"Its log:     {kafka.log_path}"


def _answering(config: Config) -> str:
    servers = config.kafka.bootstrap_servers
    cluster = cluster_id(config.kafka, _TIMEOUT_S)
    ours = local_kafka.status(config.data_dir).cluster_id == cluster
    return f"Kafka:       answers at {servers}, cluster {cluster}{' (the local one)' if ours else ''}"


def _topics(config: Config) -> tuple[list[str], Ends | None]:
    names = (config.kafka.topic, config.consumer.storno_topic)
    found = describe_topics(config.kafka, names, _TIMEOUT_S)
    others = _not_ours(config, *map(found.get, names))
    lines, ends = [], []
    for name in names:
        if name not in found:
            lines.append(f"Topic:       {name}: none yet")
            continue
        marks = watermarks(config.kafka, name, range(found[name].partitions), _TIMEOUT_S)
        ends += [marks[p] for p in sorted(marks)]
        each = " + ".join(str(end - first) for first, end in marks.values())
        note = ", but NOT the topic that this folder was filled from (houses reset --archive)"
        lines.append(
            f"Topic:       {name}: {each} {'message' if each == '1' else 'messages'}{note if found[name] in others else ''}"
        )
    return lines, ends if len(ends) == len(PARTS) + 1 else None


def _not_ours(config: Config, parts: TopicInfo | None, storno: TopicInfo | None) -> set[TopicInfo | None]:
    """Those of the two topics that are not what the folder is bound to."""
    with suppress(FolderError):
        if binding := load_binding(REAL, config.binding_path):
            return {change.found for change in binding.changes(parts, storno) if change.is_other}
    return set()


def _consumer_lines(config: Config, ends: Ends | None) -> Iterator[str]:
    metrics = last_metrics(config.metrics_path)
    if metrics is None:
        yield "Measured:    nothing yet"
        return
    runs = lock_owner(config.folder, "consumer") is not None
    age = _duration((datetime.now(UTC) - written_at(metrics)).total_seconds())
    died = "" if runs or metrics["state"] in ENDED else " (it was killed; the next start recovers)"
    yield f"Measured:    {age} ago, by process {metrics['pid']}, state {metrics['state']}{died}"
    kinds = ", ".join(outcome(kind, number) for kind, number in metrics["counts"].items() if number)
    yield f"Outcomes:    {kinds or 'none'} (since that process began)"
    yield f"Pending:     {counted(metrics['pending'], 'house')}, the oldest part for {metrics['oldest_pending_age_s']:.0f} s"
    yield f"Lag:         {counted(_lag(metrics, None if runs else ends), 'message')} to read"
    p50, p99 = (percentile_ms(metrics["durable_latency_ms"], share) for share in (0.5, 0.99))
    if p50 is not None:
        yield f"Latency:     last part sent -> on the disk: half within {p50:,.0f} ms, 99% within {p99:,.0f} ms"
    yield f"Error:       {metrics['last_error'] or 'none'}"


def _lag(metrics: dict[str, Any], ends: Ends | None) -> int:
    """What a consumer that runs has measured; for one that does not, what has come since counts too."""
    if ends is None:
        return int(metrics["lag"])
    positions = [*metrics["position"], metrics["storno_position"]]
    return sum(max(0, end - position) for position, (_, end) in zip(positions, ends, strict=True))


def _duration(seconds: float) -> str:
    for unit, length_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"
