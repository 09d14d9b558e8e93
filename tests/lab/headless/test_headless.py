"""Headless runs with real producers and consumers on a real Kafka: the first notebook, a sweep, signals."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import tiny_notebooks as tiny
from support.headless import SIGNALS_S, Page, assert_offline, command
from support.kafka_lab import wait_until

from houses.config.config import PROJECT_ROOT
from houses.kafka.local.probe import parse_address, probe
from houses.lab.headless.runner import run_notebook
from houses.lab.headless.sweep import sweep_notebook

pytestmark = pytest.mark.slow
FIRST = PROJECT_ROOT / "notebooks" / "01_first_run.ipynb"
SHORT = {"rate_hz": 200.0, "seconds": 2.0}
RUN = """\
import os, signal, time
import houses
exp = houses.Experiment("long", rate_hz=200)
{before}
with exp.running(seconds=600):
    exp.wait(1)
    open({marker!r}, "w").close()
    {during}"""


@pytest.fixture(autouse=True)
def _own_kafka(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels find the Kafka of the tests."""
    monkeypatch.setenv("HOUSES_KAFKA__BOOTSTRAP_SERVERS", kafka)


def test_the_first_notebook_runs_with_a_report(tmp_path: Path) -> None:
    """Proved by its own certificate; the figure of the report has its alt text, and nothing is written in notebooks/."""
    before = sorted(FIRST.parent.rglob("*"))
    run = run_notebook("01", SHORT, hide_code=True, runs=tmp_path / "runs")
    assert run.ok and run.report, run.failure
    summary = run.experiments["01_first_run"]
    assert summary["certificate"]["ok"] and summary["rates_hz"]["wall"] == 200.0
    assert (run.folder / "01_first_run" / "latency.png").exists()
    page = Page(run.report)
    assert_offline(page)
    assert any(alt.startswith("Half of") for _, alt in page.pictures)
    assert sorted(FIRST.parent.rglob("*")) == before


def test_a_sweep_of_the_first_notebook_shows_the_rate(tmp_path: Path) -> None:
    """Twice the rate, about twice the houses per second; the latency of every run is known."""
    sweep = sweep_notebook(FIRST, "rate_hz", [100, 200], {"seconds": 2}, runs=tmp_path / "runs")
    assert sweep.ok
    assert sweep.table["experiment"].tolist() == ["01_first_run"] * 2
    slow, fast = sweep.table["houses_per_s"]
    assert 1.2 < fast / slow < 3  # a slow stop counts too
    assert sweep.table[["p50_ms", "p99_ms"]].notna().all(axis=None)
    assert {"sweep.csv", "sweep.png", "sweep.svg"} <= {path.name for path in sweep.folder.iterdir()}


# --- signals ---


@pytest.fixture
def start(tmp_path: Path, kafka: str) -> Iterator[Any]:
    """Starts a run that sends and joins, and gives it with its kernel and consumer."""
    started: list[subprocess.Popen[str]] = []

    def start(before: str = "", during: str = "pass") -> tuple["subprocess.Popen[str]", list[psutil.Process]]:
        marker = tmp_path / "runs.txt"
        source = RUN.format(marker=str(marker), before=before, during=during)
        path = tiny.write(tmp_path / "long.ipynb", tiny.text("## Long"), tiny.code(source), tiny.code("exp.close()"))
        process = command(str(path), "--output", str(tmp_path / "runs"), HOUSES_KAFKA__BOOTSTRAP_SERVERS=kafka)
        started.append(process)
        wait_until(marker.exists, "houses are sent")
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(below) == 2, below  # the kernel, and its consumer
        return process, below

    yield start
    for process in started:
        process.kill()
        process.wait()


def assert_all_gone(below: list[psutil.Process], kafka: str) -> None:
    """Neither kernel nor consumer is left; Kafka is."""
    _, alive = psutil.wait_procs(below, timeout=SIGNALS_S)
    assert not alive
    assert probe(*parse_address(kafka)) == "kafka"


def read_summary(tmp_path: Path) -> Any:
    """That of the only run."""
    (path,) = tmp_path.glob("runs/*/summary.json")
    return json.loads(path.read_bytes())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_producers_consumer_and_kernel(
    tmp_path: Path, kafka: str, start: Any, number: int, code: int
) -> None:
    """Sent to the whole group, as a terminal does: within ten seconds all are gone, and the partial notebook is kept."""
    process, below = start()
    begun_s = time.monotonic()
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begun_s < SIGNALS_S
    assert process.returncode == code, err
    assert not [each for each in below if each.is_running()]
    assert_all_gone(below, kafka)
    assert read_summary(tmp_path)["error"]["kind"] == "KeyboardInterrupt"
    assert "Stopped" in next(tmp_path.glob("runs/*/long/consumer.log")).read_text(encoding="utf-8")


def test_a_deaf_kernel_is_killed_and_its_consumer_stops_by_itself(tmp_path: Path, kafka: str, start: Any) -> None:
    """The pipe that the consumer reads ends with the kernel."""
    process, below = start("signal.signal(signal.SIGINT, signal.SIG_IGN)")
    begun_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert_all_gone(below, kafka)
    assert time.monotonic() - begun_s < SIGNALS_S
    assert read_summary(tmp_path)["error"]["kind"] == "DeadKernelError"


def test_a_killed_runner_leaves_nothing_running(kafka: str, start: Any) -> None:
    """The kernel watches its parent, the consumer its kernel."""
    process, below = start()
    process.kill()
    assert_all_gone(below, kafka)
