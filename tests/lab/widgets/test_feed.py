"""What a panel reads of metrics.jsonl: totals over all consumers, rate and latency of the last second."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from houses.lab.widgets.dashboard import MetricsFeed
from houses.records.metrics import Metrics


def line(second: float, houses: int, histogram: dict[str, int] | None = None, pid: int = 1, **more: Any) -> str:
    """A line of metrics.jsonl, `second` seconds after noon."""
    time = f"2026-01-31T12:00:{second:09.6f}Z"
    metrics = Metrics("stopped", counts={"houses": houses}, durable_latency_ms=histogram or {})
    return json.dumps({"time": time, "pid": pid} | asdict(metrics) | more) + "\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file will be."""
    return tmp_path / "metrics.jsonl"


def test_nothing_is_there_yet(path: Path) -> None:
    """A consumer that never ran has no file."""
    feed = MetricsFeed(path)
    feed.poll()
    assert not feed.points and not feed.latest and not feed.totals


def test_a_point_says_what_came_in_the_second_before_it(path: Path) -> None:
    """Rate and percentiles are of the difference, not of the whole run."""
    path.write_text(
        line(0, 0)
        + line(1, 1000, {"5": 1000})
        + line(2, 1100, {"5": 1050, "80": 50})
        + line(2.5, 1100, {"5": 1050, "80": 50})
    )
    feed = MetricsFeed(path)
    feed.poll()
    assert [tuple(point[1:]) for point in feed.points] == [
        (1000, 5, 5),
        (100, 5, 80),
        (pytest.approx(100 / 1.5), 5, 80),
    ]


def test_without_a_house_there_is_no_latency(path: Path) -> None:
    """None, not zero."""
    path.write_text(line(0, 7, {"5": 7}) + line(1, 7, {"5": 7}))
    feed = MetricsFeed(path)
    feed.poll()
    assert tuple(feed.points[0][1:]) == (0, None, None)


def test_only_what_was_added_is_read_and_a_half_written_line_waits(path: Path) -> None:
    """The file may be of any length."""
    feed = MetricsFeed(path)
    first, second = line(0, 1), line(1, 5)
    path.write_text(first + second[:20])
    feed.poll()
    assert feed.latest["counts"] == {"houses": 1} and not feed.points
    path.write_text("?" * len(first) + second)
    feed.poll()
    assert feed.latest["counts"] == {"houses": 5} and len(feed.points) == 1


def test_totals_add_up_over_consumers_and_rates_do_not_mix_them(path: Path) -> None:
    """A new process counts from 0 again; a line that a kill cut short is passed over."""
    path.write_text(line(0, 10) + '{"time":"20\n' + line(1, 2, pid=2) + line(2, 6, pid=2))
    feed = MetricsFeed(path)
    feed.poll()
    assert feed.totals == {"houses": 16}
    assert [point.houses_hz for point in feed.points] == [4]


@pytest.mark.parametrize(
    ("state", "rough"), [("running", True), ("recovering", True), ("stopped", False), ("failed", False)]
)
def test_totals_are_rough_after_a_kill(path: Path, state: str, rough: bool) -> None:
    """What the killed one wrote after its last line is in no line; one that ended in order has said all."""
    feed = MetricsFeed(path)
    path.write_text(line(0, 10, state=state))
    feed.poll()
    assert not feed.totals_are_rough and feed.ended_in_order is not rough
    path.write_text(line(0, 10, state=state) + line(1, 2, pid=2, state="running") + line(2, 2, pid=2, state="stopped"))
    feed.poll()
    assert feed.totals_are_rough is rough and feed.ended_in_order
    assert feed.totals == {"houses": 12}


def test_a_minute_is_kept(path: Path) -> None:
    """However long it runs."""
    path.write_text("".join(line(0.1 * n % 60, n) if n < 600 else "" for n in range(600)))
    feed = MetricsFeed(path)
    feed.poll()
    with path.open("a") as file:
        file.write(line(59.95, 1000).replace("T12:00", "T12:01"))
    feed.poll()
    assert len(feed.points) < 20 and feed.points[0].time_ms >= feed.points[-1].time_ms - 61_000
