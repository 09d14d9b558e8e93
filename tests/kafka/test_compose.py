"""docker-compose.yml: what must not change unnoticed."""

from pathlib import Path
from typing import Any

import yaml

from houses.kafka.local.jars import KAFKA_VERSION

_COMPOSE: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "docker-compose.yml").read_text(encoding="utf-8")
)
_KAFKA: dict[str, Any] = _COMPOSE["services"]["kafka"]


def test_the_container_is_the_same_kafka() -> None:
    """One version, whichever way it is started."""
    assert _KAFKA["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_the_container_is_published_on_this_machine_only() -> None:
    """Every published port names 127.0.0.1, and clients are sent there."""
    assert _KAFKA["ports"]
    assert all(port.startswith("127.0.0.1:") for port in _KAFKA["ports"])
    assert _KAFKA["environment"]["KAFKA_ADVERTISED_LISTENERS"].startswith("PLAINTEXT://127.0.0.1:")


def test_the_container_has_a_health_check_a_volume_and_no_auto_create() -> None:
    """Its data outlive the container, and topics are only created on purpose."""
    environment = _KAFKA["environment"]
    assert "kafka-broker-api-versions.sh" in " ".join(_KAFKA["healthcheck"]["test"])
    assert _KAFKA["volumes"] == [f"kafka-data:{environment['KAFKA_LOG_DIRS']}"]
    assert "kafka-data" in _COMPOSE["volumes"]
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
