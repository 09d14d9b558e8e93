"""What a running consumer writes about itself into metrics.jsonl."""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from houses.errors import FolderError, describe_error
from houses.records.decode import House
from houses.records.message import parse_time, utc_now
from houses.records.metrics import FAILED, Metrics, outcome

_FIRST_MS, _GROWTH = 0.1, 1.1
"""Latencies are counted in buckets that grow by a tenth each, from 0.1 ms on."""
_SAMPLE_PER_COMMIT = 100
_KEPT = ("houses", "cancelled", "late", "stornos")


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
        line = {"time": utc_now(), "pid": os.getpid()} | asdict(metrics)
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


class Reporter:
    """Keeps the figures of one run of the consumer and writes them to metrics.jsonl."""

    def __init__(self, path: Path) -> None:
        """Begin with a first line, state `starting`."""
        self.metrics = Metrics()
        self.counts: Counter[str] = Counter()
        self._latency_counts: Counter[int] = Counter()
        self._sent: list[datetime | None] = []
        self._file = MetricsFile(path)
        self.write()

    def written(self, houses: list[House], cancelled: int) -> None:
        """Count completed houses; of a sample, keep when the last part was sent."""
        self.counts["houses"] += len(houses) - cancelled
        self.counts["cancelled"] += cancelled
        step = max(1, len(houses) // _SAMPLE_PER_COMMIT)
        self._sent += map(_last_sent, houses[::step])

    def committed(self) -> None:
        """All houses so far are on the disk now."""
        self.metrics.commits += bool(self._sent)
        now_s = datetime.now(UTC).timestamp()
        latencies_ms = ((now_s - sent.timestamp()) * 1000 for sent in self._sent if sent)
        self._latency_counts.update(math.ceil(math.log(max(ms / _FIRST_MS, 1), _GROWTH)) for ms in latencies_ms)
        self._sent.clear()

    def write(self) -> None:
        """Add a line with the figures as they are."""
        self.metrics.counts = dict(self.counts)
        buckets = sorted(self._latency_counts.items())
        self.metrics.durable_latency_ms = {f"{_FIRST_MS * _GROWTH**i:.4g}": count for i, count in buckets}
        self._file.write(self.metrics)

    def close(self, error: BaseException | None = None) -> None:
        """Add the last line, with the error that ended the run, if one did: a stop request is none."""
        self.metrics.state = "stopped"
        if isinstance(error, Exception):
            self.metrics.state, self.metrics.last_error = FAILED, describe_error(error)
        self.write()
        self._file.close()


def _last_sent(house: House) -> datetime | None:
    """When the last of its parts was sent; None when that of one is not known."""
    sent = [parse_time(entry[1].partition('"')[0]) for entry in house[1:]]
    return None if None in sent else max(filter(None, sent))


def outcomes(counts: Mapping[str, int]) -> str:
    """Houses and stornos are counted one by one, what was rejected by the message."""
    kept = [outcome(kind, counts[kind]) for kind in _KEPT if counts.get(kind)]
    rejected = [outcome(kind, number) for kind, number in sorted(counts.items()) if number and kind not in _KEPT]
    return ", ".join(kept) + (f"; messages rejected: {', '.join(rejected)}" if rejected else "")
