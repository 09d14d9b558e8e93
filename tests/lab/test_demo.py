"""The main job from end to end, as `houses demo` runs it."""

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import pytest
from PIL import Image
from support.command_line import arguments, environment, make_project
from support.heard import heard

from houses.config.config import Config
from houses.errors import HousesError
from houses.kafka.local.probe import parse_address, probe
from houses.lab import demo as demos
from houses.lab.experiment import Experiment
from houses.verify.certificate import Certificate


class Demo(NamedTuple):
    """A finished demo."""

    base: Config
    said: list[str]
    folder: Path


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Demo:
    """A demo that does everything in a shorter time."""
    base = make_project(tmp_path_factory.mktemp("project"), kafka)
    with pytest.MonkeyPatch.context() as patch, heard() as said:
        for name, value in {"_STEP_S": 0.8, "_DOWN_S": 0.3, "_AHEAD": 200}.items():
            patch.setattr(demos, name, value)
        demos.demo(base)
    return Demo(base, said, base.root / "output" / "runs" / "demo")


@pytest.fixture
def again(short: Demo) -> Iterator[tuple[Experiment, Certificate]]:
    """The demo's experiment taken up as it is, and its certificate; damage is undone."""
    files = {path: path.read_bytes() for path in short.folder.glob("*.jsonl")}
    with Experiment("demo", base=short.base, fresh=False) as exp:
        yield exp, exp.verify()
    for path, content in files.items():
        path.write_bytes(content)


def test_the_demo_tells_its_story_in_order(short: Demo) -> None:
    """Sent, cancelled before and after, killed, recovered, verified, and what to do next."""
    story = "\n".join(short.said)
    steps = [
        "Three producers send 500",
        "which are not built yet",
        "late stornos",
        "The consumer is killed",
        "A new consumer has recovered",
        "Stopping",
        "cancelled before they were complete",
        "p50",
        "verified     every record below the position has exactly one outcome",
        f"Files:   {short.folder}",
        "latency.png",
        "Kafka:   the one at 127.0.0.1",
        "python3 lab.py lab",
        "houses --config",
        "houses hello send",
        "Inside a checkout, houses ... is typed as python3 lab.py ...",
    ]
    found = [story.find(step) for step in steps]
    assert -1 not in found, steps[found.index(-1)]
    assert found == sorted(found)


def test_the_demo_draws_the_latency_with_the_crash_in_it(short: Demo) -> None:
    """A PNG with two figures, and what they show in words."""
    with Image.open(short.folder / "latency.png") as image:
        assert image.size[0] > 1000 and image.size[1] > 1000
        assert "The slowest of" in image.info["Description"] and "Half of" in image.info["Description"]


def test_the_demo_leaves_kafka_and_nothing_else_running(short: Demo, kafka: str) -> None:
    """Its consumer has ended."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if str(short.folder) in line]
    assert probe(*parse_address(kafka)) == "kafka"


def test_the_demo_waits_for_the_houses_that_it_cancels(exp: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine none may be written when the time of a step is over; without any it says so."""
    written = pd.DataFrame({"id": [4, 9, 11]})
    looks = iter([written[:0], written[:1]])
    monkeypatch.setattr(exp, "houses", lambda: next(looks, written))
    monkeypatch.setattr(exp, "storno", lambda *_: 0)
    monkeypatch.setattr(exp, "wait", lambda _: None)
    assert demos._cancel(exp) == {
        2000: "foundation+wall+roof",
        2001: "wall",
        4: "foundation+wall+roof",
        9: "roof",
    }
    monkeypatch.setattr(exp, "houses", lambda: written[:1])
    monkeypatch.setattr(demos, "_PATIENCE_S", 0.1)
    with pytest.raises(HousesError, match=r"no two houses after 0\.1 s: see consumer\.log"):
        demos._cancel(exp)


def test_the_demo_fails_when_a_line_is_lost(again: tuple[Experiment, Certificate]) -> None:
    """`verify` finds the three messages without an outcome."""
    exp, _ = again
    path = exp.config.houses_path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5] + lines[6:]))
    with pytest.raises(HousesError, match="NOT VERIFIED"):
        exp.verify()


def test_the_demo_fails_when_something_was_left_unread(again: tuple[Experiment, Certificate]) -> None:
    """Nothing is wrong then, but the job is not done."""
    exp, certificate = again
    with pytest.raises(HousesError, match="parts sent only"):
        demos._check(exp, dataclasses.replace(certificate, unread=1), {})


def test_the_demo_fails_when_a_storno_had_no_effect(again: tuple[Experiment, Certificate]) -> None:
    """The message names it."""
    exp, certificate = again
    demos._check(exp, certificate, {})
    with pytest.raises(HousesError, match=r"stornos without effect: \{5: 'wall'\}"):
        demos._check(exp, certificate, {5: "wall"})


@pytest.mark.slow
def test_the_command_runs_the_whole_demo(tmp_path: Path, kafka: str) -> None:
    """As people run it, twice: the second one starts anew."""
    made = make_project(tmp_path, kafka)
    for _ in range(2):
        done = subprocess.run(
            arguments(made, "demo"), capture_output=True, text=True, timeout=300, env=environment(), check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "verified " in done.stdout and not done.stderr
