"""Experiments in a real Jupyter kernel: interrupted, killed, started anew."""

import asyncio
import os
import runpy
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
from ipykernel import kernelbase
from ipykernel.subshell_manager import SubshellManager
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel
from support.kafka_lab import make_config, wait_until

from houses.config.config import PROJECT_ROOT, Config
from houses.kafka.local.probe import parse_address, probe
from houses.lab.experiment import Experiment
from houses.lab.run_folder import experiment_folder
from houses.records.metrics import last_metrics
from houses.system.locks import is_alive

TIMEOUT_S = 60
MAKE = """
import threading
from pathlib import Path
import houses
from houses.config.config import load
exp = houses.Experiment("kernel", rate_hz=200, base=load(Path({path!r})))
"""
RUN = """
with exp.running(seconds=600):
    exp.storno(3)
"""
CHECK_NOTHING_RUNS = """
assert not exp.is_running
assert not [thread for thread in threading.enumerate() if thread.name in exp.sent]
assert min(exp.sent.values()) > 0
"""


@pytest.fixture
def base(tmp_path: Path, kafka: str) -> Config:
    """A project of the test's own."""
    made = make_config(tmp_path, kafka)
    made.dump(made.path)
    return made


@pytest.fixture
def kernel(base: Config) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    """A kernel as JupyterLab starts it, with an experiment made in it."""
    manager, client = start_new_kernel(cwd=os.sep, env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)})
    try:
        assert run_cell(client, MAKE.format(path=str(base.path))) == "ok"
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_control_message_waits_until_the_kernel_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes in the middle of the start would be lost; and replies of the shell go through its stream."""
    done: list[str] = []
    kernel_class: Any = kernelbase.Kernel  # it has no types

    async def dispatch(_: object, message: str) -> None:
        done.append(message)

    monkeypatch.setattr(kernel_class, "start", lambda _: done.append("started"))
    monkeypatch.setattr(kernel_class, "dispatch_control", dispatch)
    monkeypatch.setattr(SubshellManager, "_send_on_shell_channel", lambda *_: done.append("past the stream"))
    runpy.run_path(str(PROJECT_ROOT / "houses/lab/headless/ipython_kernel_config.py"))

    async def one_before_the_start_and_one_behind_it() -> None:
        kernel: Any = SimpleNamespace(shell_stream=SimpleNamespace(send_multipart=done.append))
        early = asyncio.ensure_future(kernel_class.dispatch_control(kernel, "early"))
        await asyncio.sleep(0.05)
        kernel_class.start(kernel)
        await early
        await kernel_class.dispatch_control(kernel, "late")
        SubshellManager._send_on_shell_channel(Mock(), "reply")

    asyncio.run(one_before_the_start_and_one_behind_it())
    assert done == ["started", "early", "late", "reply"]


def run_cell(client: BlockingKernelClient, code: str) -> str:
    """Run a cell to its end; "ok", or the name of the exception."""
    return ended(client, client.execute(code))


def ended(client: BlockingKernelClient, message_id: str) -> str:
    """How a cell ended: "ok", or the name of the exception."""
    while True:
        reply: dict[str, Any] = client.get_shell_msg(timeout=TIMEOUT_S)
        if reply["parent_header"]["msg_id"] == message_id:
            return str(reply["content"].get("ename", "ok"))


def reading_consumer(base: Config, other_than: int = 0) -> psutil.Process:
    """The consumer of the experiment, once it has joined houses and read the storno of `RUN`."""

    def line() -> dict[str, Any]:
        return last_metrics(experiment_folder("kernel", base.root) / "metrics.jsonl") or {"pid": 0, "counts": {}}

    def has_worked() -> bool:
        counts = line()["counts"]
        return bool(counts.get("houses") and counts.get("stornos"))

    wait_until(lambda: line()["pid"] != other_than and has_worked(), "houses are joined and one is cancelled")
    return psutil.Process(line()["pid"])


def processes_of(folder: Path) -> list[str]:
    """Command lines that name something in a folder."""
    return [
        line for p in psutil.process_iter(["cmdline"]) if str(folder) in (line := " ".join(p.info["cmdline"] or ()))
    ]


def test_an_interrupt_stops_producers_and_consumer_at_once(
    base: Config, kernel: tuple[KernelManager, BlockingKernelClient]
) -> None:
    """The cell ends with KeyboardInterrupt, the kernel lives on, and the next run goes on from there."""
    manager, client = kernel
    cell = client.execute(RUN)
    consumer = reading_consumer(base)
    manager.interrupt_kernel()
    assert ended(client, cell) == "KeyboardInterrupt"
    assert not is_alive(consumer)
    assert run_cell(client, CHECK_NOTHING_RUNS) == "ok"
    assert run_cell(client, "with exp.running(seconds=0.3): pass\nassert exp.verify().unread == 0") == "ok"


def test_a_killed_kernel_leaves_no_process_but_kafka(
    base: Config, kafka: str, kernel: tuple[KernelManager, BlockingKernelClient]
) -> None:
    """Its consumer stops by itself, and a new kernel takes up what is there, with nothing lost."""
    manager, client = kernel
    client.execute(RUN)
    consumer = reading_consumer(base)
    manager.signal_kernel(signal.SIGKILL)
    wait_until(lambda: not processes_of(base.root / "output"), "the consumer has stopped")
    assert not is_alive(consumer)
    assert probe(*parse_address(kafka)) == "kafka"
    with Experiment("kernel", base=base, fresh=False) as exp:
        with exp.running(seconds=0.3):
            pass
        assert exp.verify().unread == 0
        assert 3 in exp.stornos()["id"].tolist()


@pytest.mark.slow
def test_a_restarted_kernel_can_run_the_same_cells_at_once(
    base: Config, kernel: tuple[KernelManager, BlockingKernelClient]
) -> None:
    """It waits for the consumer of its predecessor instead of failing."""
    manager, client = kernel
    client.execute(RUN)
    first = reading_consumer(base)
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=TIMEOUT_S)
    assert run_cell(client, MAKE.format(path=str(base.path))) == "ok"
    assert not is_alive(first)
    assert run_cell(client, "with exp.running(seconds=0.3): pass\nassert exp.verify().unread == 0") == "ok"
