"""The lines of metrics.jsonl, in which the consumer tells of itself, and the latency histogram in them."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from houses.errors import FolderError, describe_error
from houses.records.decode import House
from houses.records.message import PARTS
from houses.system.text import counted

_FIRST_MS = 0.1
_GROWTH = 1.1
_READ_BACK_BYTES = 64 << 10
_SAMPLE_PER_COMMIT = 100
_TS_CHARACTERS = len("2026-01-31T12:00:00.000000Z")


class LatencyHistogram:
    """Counts of latencies in buckets that grow by a tenth each, from 0.1 ms on."""

    def __init__(self) -> None:
        """Empty."""
        self._counts: Counter[int] = Counter()

    def add(self, latencies_ms: Iterable[float]) -> None:
        """Count latencies in milliseconds."""
        self._counts.update(math.ceil(math.log(max(ms, _FIRST_MS) / _FIRST_MS, _GROWTH)) for ms in latencies_ms)

    def to_json(self) -> dict[str, int]:
        """Upper bound of each filled bucket in ms -> count, ascending."""
        return {f"{_FIRST_MS * _GROWTH**i:.4g}": self._counts[i] for i in sorted(self._counts)}


def percentile_ms(histogram: Mapping[str, int], share: float) -> float | None:
    """Upper bound in ms of the bucket below which `share` (0 to 1) of a histogram lies; None when it counts nothing.

    Example:
        >>> percentile_ms({"5": 90, "80": 10}, 0.99)
        80.0
    """
    wanted = share * sum(histogram.values())
    seen = 0
    for bound, count in histogram.items():
        seen += count
        if count and seen >= wanted:
            return float(bound)
    return None


def histogram_since(earlier: Mapping[str, int], later: Mapping[str, int]) -> dict[str, int]:
    """What a histogram of one process has counted since an earlier one of it.

    Example:
        >>> histogram_since({"5": 90}, {"5": 90, "80": 10})
        {'5': 0, '80': 10}
    """
    return {bound: count - earlier.get(bound, 0) for bound, count in later.items()}


@dataclass(slots=True)
class Metrics:
    """One line of metrics.jsonl."""

    state: str = "starting"
    """starting, recovering, running, waiting (pending is full), stopped, failed."""
    position: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Next offset to read, per partition."""
    low_watermark: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Offset from which a restart would read, per partition."""
    storno_position: int = 0
    lag: int = 0
    """Messages in the three partitions and the storno topic that are known and not read yet."""
    counts: dict[str, int] = field(default_factory=dict)
    """Outcomes since this process began: houses, cancelled, late, stornos, and rejects by reason."""
    pending: int = 0
    pending_id_sum: int = 0
    oldest_pending_age_s: float = 0.0
    durable_latency_ms: dict[str, int] = field(default_factory=dict)
    """From the last part sent to its house synced: upper bucket bound in ms -> houses, since this process began.

    A sample: at most 199 houses of each partition's batch.
    """
    commits: int = 0
    """Batches with houses that were synced since this process began, each with one fsync of its file."""
    last_error: str = ""
    checkpoint_generation: int = 0


class MetricsFile:
    """Appends lines to metrics.jsonl; not synced, as nothing depends on them."""

    def __init__(self, path: Path) -> None:
        """Open the file for appending."""
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise FolderError(f"{path}: cannot be opened for writing ({error.strerror}): check the folder") from None
        self._torn = bool(self._file.tell()) and not _ends_line(path)
        """Whether the last line is a part only, of a killed process or on a disk that was full; the next one ends it."""

    def write(self, metrics: Metrics) -> None:
        """Add a line with the time and the process id; a disk that does not take it is no error."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        line = {"time": now, "pid": os.getpid()} | asdict(metrics)
        data = b"\n" * self._torn + json.dumps(line, separators=(",", ":")).encode() + b"\n"
        # Measurements never end the consumer: what must be on the disk has its own error, with its own advice.
        with suppress(OSError):
            self._torn = self._file.write(data) < len(data)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def last_metrics(path: Path) -> dict[str, Any] | None:
    """The last whole line of metrics.jsonl, None when there is none; only the end of the file is read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _READ_BACK_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    return next(filter(None, map(parse_metrics, reversed(lines))), None)


_LIKE = {"time": "", "pid": 1} | asdict(Metrics())
"""A value of the right kind for each member of a line."""


def parse_metrics(line: bytes) -> dict[str, Any] | None:
    """One line of metrics.jsonl; None when it is none, such as the torn one of a killed process."""
    try:
        record = orjson.loads(line)
        if not all(_is_like(record[key], like) for key, like in _LIKE.items()):
            return None
        if [len(record[key]) for key in ("position", "low_watermark")] != [len(PARTS)] * 2:
            return None
        if datetime.fromisoformat(record["time"]).tzinfo is None:
            return None
        [float(bound) for bound in record["durable_latency_ms"]]
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    return dict(record)


def _is_like(value: Any, like: Any) -> bool:
    """Whether both are texts, numbers (0 or more), or lists or objects of whole ones."""
    if isinstance(like, float):
        return type(value) in (int, float) and value >= 0
    if isinstance(like, int):
        return type(value) is int and value >= 0
    if isinstance(like, str):
        return type(value) is str
    return type(value) is type(like) and all(
        _is_like(n, 0) for n in (value.values() if isinstance(value, dict) else value)
    )


class Reporter:
    """Keeps the figures of one run of the consumer and writes them to metrics.jsonl."""

    def __init__(self, path: Path) -> None:
        """Begin with a first line, state `starting`."""
        self.metrics = Metrics()
        self.counts: Counter[str] = Counter()
        self._latency = LatencyHistogram()
        self._sent: list[str] = []
        self._file = MetricsFile(path)
        self.write()

    def written(self, houses: list[House], cancelled: int) -> None:
        """Count completed houses; of a sample, keep when the last part was sent."""
        self.counts["houses"] += len(houses) - cancelled
        self.counts["cancelled"] += cancelled
        step = max(1, len(houses) // _SAMPLE_PER_COMMIT)
        self._sent += [max(entry[1][:_TS_CHARACTERS] for entry in house[1:]) for house in houses[::step]]

    def committed(self) -> None:
        """All houses so far are on the disk now."""
        self.metrics.commits += bool(self._sent)
        now_s = datetime.now(UTC).timestamp()
        self._latency.add((now_s - sent_s) * 1000 for ts in self._sent if (sent_s := _utc_seconds(ts)) is not None)
        self._sent.clear()

    def write(self) -> None:
        """Add a line with the figures as they are."""
        self.metrics.counts = dict(self.counts)
        self.metrics.durable_latency_ms = self._latency.to_json()
        self._file.write(self.metrics)

    def close(self, error: BaseException | None = None) -> None:
        """Add the last line, with the error that ended the run, if one did."""
        if error is not None:
            self.metrics.state, self.metrics.last_error = "failed", describe_error(error)
        self.write()
        self._file.close()


def _utc_seconds(ts: str) -> float | None:
    """Unix time of a time as we send it; None for the older local times, whose zone nobody knows."""
    try:
        return datetime.fromisoformat(ts).timestamp() if ts.endswith("Z") else None
    except ValueError:
        return None


def outcome(kind: str, number: int) -> str:
    """A count as the consumer keeps it, with its kind: two of them are nouns, the others say what became of a message.

    Example:
        >>> outcome("stornos", 1), outcome("cancelled", 2)
        ('1 storno', '2 cancelled')
    """
    return counted(number, kind[:-1]) if kind in ("houses", "stornos") else f"{number:,} {kind}"
