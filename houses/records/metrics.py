"""The lines of metrics.jsonl, in which the consumer tells of itself, and the latency histogram in them."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from houses.records.message import PARTS, parse_time
from houses.system.text import counted

_READ_BACK_BYTES = 64 << 10

State = Literal["starting", "recovering", "running", "waiting", "stopped", "failed"]
"""Of a consumer; `waiting`: it reads only what can complete pending houses, as there are too many of them."""
STARTING: State = "starting"
WAITING: State = "waiting"
FAILED: State = "failed"
BEFORE_READING: tuple[State, ...] = (STARTING, "recovering")
"""It does not know its lag yet."""
READING: tuple[State, ...] = ("running", WAITING)
"""It reads the parts."""
ENDED: tuple[State, ...] = ("stopped", FAILED)
"""The last line of a process that was not killed."""


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

    state: State = "starting"
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
        if parse_time(record["time"]) is None:
            return None
        [float(bound) for bound in record["durable_latency_ms"]]
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    return dict(record)


def written_at(metrics: Mapping[str, Any]) -> datetime:
    """When a line that `parse_metrics` took was written, in UTC."""
    time = parse_time(metrics["time"])
    assert time is not None  # it would not have been taken
    return time


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


def outcome(kind: str, number: int) -> str:
    """A count as the consumer keeps it, with its kind: two of them are nouns, the others say what became of a message.

    Example:
        >>> outcome("stornos", 1), outcome("cancelled", 2)
        ('1 storno', '2 cancelled')
    """
    return counted(number, kind[:-1]) if kind in ("houses", "stornos") else f"{number:,} {kind}"
