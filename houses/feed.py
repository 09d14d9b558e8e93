"""Follows the consumer's measurements as they are written: totals, and rate and latency of the last minute."""

from collections import Counter, deque
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from houses.records.metrics import histogram_since, parse_metrics, percentile_ms

_WINDOW_MS = 1000
_KEPT_MS = 61_000
_ENDED = ("stopped", "failed")


class Point(NamedTuple):
    """The second that ends at a moment."""

    time_ms: int
    """Unix time in milliseconds."""
    houses_hz: float
    """Houses per second that were written, cancelled ones too."""
    p50_ms: float | None
    """Latency, last part sent -> on the disk; None when no house was written."""
    p99_ms: float | None


class _Sample(NamedTuple):
    time_ms: int
    houses: int
    histogram: Mapping[str, int]


class MetricsFeed:
    """Reads what has been added to a metrics.jsonl, at each `poll`."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path
        self._position = 0
        self._ended: Counter[str] = Counter()
        self._samples: deque[_Sample] = deque()
        self.points: deque[Point] = deque()
        """Of the last minute, oldest first."""
        self.latest: Mapping[str, Any] = {}
        """The last line; empty before the first."""
        self.totals_are_rough = False
        """Whether an earlier consumer was killed: what it did after its last line is in no line, and the next one counts again
        what it reads again, such as stornos."""

    @property
    def ended_in_order(self) -> bool:
        """Whether the last line is the last of its process; also before the first line."""
        return self.latest.get("state", "stopped") in _ENDED

    @property
    def latest_ms(self) -> int:
        """When the last line was written, Unix time in milliseconds; 0 before the first."""
        return _unix_ms(self.latest["time"]) if self.latest else 0

    @property
    def totals(self) -> Counter[str]:
        """Outcomes by kind, of all consumers of this file together."""
        return self._ended + Counter(self.latest.get("counts", {}))

    def poll(self) -> None:
        """Take in the lines that have come since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._position += whole
        for line in data[:whole].splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        if (record := parse_metrics(line)) is None:
            return
        if record["pid"] != self.latest.get("pid"):
            self._ended = self.totals
            self.totals_are_rough |= not self.ended_in_order
            self._samples.clear()
        self.latest = record
        counts = record["counts"]
        houses = counts.get("houses", 0) + counts.get("cancelled", 0)
        self._add(_Sample(_unix_ms(record["time"]), houses, record["durable_latency_ms"]))

    def _add(self, sample: _Sample) -> None:
        samples, points = self._samples, self.points
        samples.append(sample)
        while len(samples) > 2 and samples[1].time_ms <= sample.time_ms - _WINDOW_MS:
            samples.popleft()
        if len(samples) > 1:
            points.append(_point(samples[0], sample))
        while points and points[0].time_ms < sample.time_ms - _KEPT_MS:
            points.popleft()


def _unix_ms(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp() * 1000)


def _point(first: _Sample, last: _Sample) -> Point:
    seconds = max(1, last.time_ms - first.time_ms) / 1000
    added = histogram_since(first.histogram, last.histogram)
    p50_ms, p99_ms = percentile_ms(added, 0.5), percentile_ms(added, 0.99)
    return Point(last.time_ms, (last.houses - first.houses) / seconds, p50_ms, p99_ms)
