"""metrics.jsonl when the disk is full or the consumer stops early: the measurements suffer, the consumer does not."""

import errno
import io
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest
from support.kafka_lab import make_config

from houses.consumer.consumer import consume
from houses.consumer.reporter import Reporter
from houses.errors import FolderError
from houses.records.metrics import histogram_since, last_metrics, percentile_ms
from houses.system.stopping import StoppedEarly


class NarrowFile(io.FileIO):
    """A file on a disk with so many bytes left."""

    room = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]  # only bytes are written here
        """As the system does: a part, when there is room for a part only."""
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        return super().write(part)


def narrow(path: Path) -> tuple[Reporter, NarrowFile]:
    """A reporter that has written its first line, and its file."""
    reporter = Reporter(path)
    reporter._file.close()
    reporter._file._file = file = NarrowFile(path, "ab")
    return reporter, file


def test_a_histogram_that_counts_nothing_has_no_percentile() -> None:
    """Nor has the difference of two equal ones; a bucket without a count is no answer either."""
    assert percentile_ms({}, 0.5) is None
    assert percentile_ms(histogram_since({"5": 7}, {"5": 7}), 0.5) is None
    assert percentile_ms({"5": 0, "80": 1}, 0.0) == 80
    assert percentile_ms(histogram_since({"5": 90}, {"5": 90, "80": 10}), 0.01) == 80


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_full_disk_does_not_end_the_consumer_by_its_measurements(tmp_path: Path, room: int) -> None:
    """The line is lost, or half of it is there; the next one begins on a line of its own."""
    path = tmp_path / "metrics.jsonl"
    reporter, file = narrow(path)
    file.room = room
    reporter.write()
    reporter.write()
    first = path.read_bytes().splitlines()[0]
    file.room = 100_000
    reporter.metrics.state = "running"
    reporter.write()
    reporter.close(FolderError("houses.jsonl: could not be written"))
    lines = path.read_bytes().splitlines()
    assert lines[0] == first and [len(line) for line in lines[1:-2]] == ([room] if room else [])
    assert (last_metrics(path) or {})["last_error"] == "houses.jsonl: could not be written"


def test_the_error_that_ends_the_consumer_is_not_replaced(tmp_path: Path) -> None:
    """The last line does not fit on the disk: no error beside the one that is on its way out."""
    reporter, _ = narrow(tmp_path / "metrics.jsonl")
    reporter.close(FolderError("houses.jsonl: could not be written"))
    assert (last_metrics(tmp_path / "metrics.jsonl") or {})["state"] == "starting"


@pytest.mark.parametrize(
    ("wall", "counted"),
    [("2026-01-31T12:00:00.000000Z", True), ("2026-01-31T13:00:00.000000+01:00", True), ("2026-01-31T12:00:00", False)],
)
def test_a_latency_is_counted_when_the_times_of_all_parts_are_known(tmp_path: Path, wall: str, counted: bool) -> None:
    """Those with an offset too, as tables and `houses show` know them; either way the commit counts."""
    entries = [
        (0, f'{ts}","name":"n","task":"t', None) for ts in ("2026-01-31T11:59:59Z", wall, "2026-01-31T11:00:00Z")
    ]
    reporter = Reporter(tmp_path / "metrics.jsonl")
    reporter.written([(7, entries[0], entries[1], entries[2])], 0)
    with patch("houses.consumer.reporter.datetime") as clock:
        clock.now.return_value = datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC)
        reporter.committed()
    reporter.write()
    histogram = reporter.metrics.durable_latency_ms
    assert reporter.metrics.commits == 1 and sum(histogram.values()) == counted
    if counted:
        assert 1000 <= (percentile_ms(histogram, 1.0) or 0) <= 1100  # buckets grow by a tenth
    reporter.close()


def test_measurements_that_cannot_be_opened_are_one_clear_error(tmp_path: Path) -> None:
    """At the start, before anything is read: the file is named."""
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(FolderError, match=r"metrics\.jsonl: cannot be opened for writing \(Is a directory\): check"):
        Reporter(tmp_path / "metrics.jsonl")


def test_a_consumer_that_is_stopped_before_it_reads_is_not_taken_for_killed(tmp_path: Path) -> None:
    """Its last state is `stopped`, and so says `houses status`."""
    made = make_config(tmp_path, "127.0.0.1:1")
    with patch("houses.consumer.consumer.look_at_broker", side_effect=StoppedEarly), pytest.raises(StoppedEarly):
        consume(made, lambda: False)
    assert (last_metrics(made.metrics_path) or {})["state"] == "stopped"
