"""One real Kafka for each worker of the run, and the two options that add the slow and the system tests."""

from collections.abc import Iterator

import pytest

from houses import local_kafka

_OPTIONS = {"slow": "--all", "system": "--system"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all` adds tests marked slow, `--system` those that need root or system packages."""
    parser.addoption("--all", action="store_true", help="also run the tests marked slow")
    parser.addoption("--system", action="store_true", help="also run the tests marked system (root, system packages)")


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    for marker, option in _OPTIONS.items():
        config.addinivalue_line("markers", f"{marker}: runs only with {option}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for: deselected, so that a skip always means something is missing."""
    unwanted = {marker for marker, option in _OPTIONS.items() if not config.getoption(option)}
    deselected = [item for item in items if any(item.get_closest_marker(marker) for marker in unwanted)]
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address (host:port) of a real local Kafka of this worker alone, stopped at its end."""
    data_dir = tmp_path_factory.mktemp("kafka")
    started = local_kafka.start(data_dir, f"127.0.0.1:{local_kafka.free_port()}")
    assert started.running and started.address
    yield started.address
    local_kafka.stop(data_dir)
