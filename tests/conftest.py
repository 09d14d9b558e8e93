"""One real Kafka for the run, an experiment on it, and the two options that add the slow and the system tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from support.heard import heard
from support.kafka_lab import make_config

from houses.config.config import Config
from houses.kafka.local import server as local_kafka
from houses.kafka.local.probe import free_port
from houses.lab.experiment import Experiment

# How long an example takes says more of the machine than of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

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


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines that the lab says in the test, as people see them."""
    with heard() as lines:
        yield lines


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> str:
    """Bootstrap address (host:port) of the run's real local Kafka, which all workers share."""
    return _shared_kafka(request.config)


def _shared_kafka(config: pytest.Config) -> str:
    data_dir = _kafka_dir(config)
    data_dir.mkdir(exist_ok=True)
    with FileLock(data_dir.with_suffix(".lock")):
        started = local_kafka.status(data_dir)
        if not started.running:
            started = local_kafka.start(data_dir, f"127.0.0.1:{free_port()}")
    assert started.running and started.address
    return started.address


@pytest.fixture
def base(tmp_path: Path, kafka: str) -> Config:
    """A project of the test's own; its experiments are in output/runs below it."""
    return make_config(tmp_path, kafka)


@pytest.fixture
def exp(base: Config) -> Iterator[Experiment]:
    """An experiment of 200 houses per second that was not started."""
    with Experiment("shared", rate_hz=200, base=base) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A notebook that nbmake runs uses the run's Kafka and a temporary folder, not what its reader has made."""
    with pytest.MonkeyPatch.context() as patch:
        if item.path.suffix == ".ipynb":
            patch.setenv("HOUSES_KAFKA__BOOTSTRAP_SERVERS", _shared_kafka(item.config))
            patch.setenv("HOUSES_RUN_DIR", str(_kafka_dir(item.config).with_name("notebooks")))
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A failure beside an open page says what the page shows."""
    try:
        return (yield)
    except Exception as error:
        if page := getattr(item, "funcargs", {}).get("panel_page"):
            error.add_note(page.shows())
        raise


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop it when the last worker has ended: that is, in the process that started the workers, or is the only one."""
    if not hasattr(config, "workerinput") and hasattr(config, "_tmp_path_factory"):
        local_kafka.stop(_kafka_dir(config))


def _kafka_dir(config: pytest.Config) -> Path:
    """In the temporary folder of the run; those of the workers are in it."""
    folder: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # what tmp_path_factory gives
    return (folder.parent if hasattr(config, "workerinput") else folder) / "kafka"
