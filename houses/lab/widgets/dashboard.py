"""What a panel shows of an experiment at one moment, in plain values: status, counters, the last minute."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from houses.errors import HousesError
from houses.lab.consumer_process import ConsumerChild
from houses.lab.experiment import Experiment
from houses.records.metrics import BEFORE_READING, ENDED, histogram_since, parse_metrics, percentile_ms, written_at
from houses.system.text import counted

_SILENT_S = 2.0
_CLOSED = "the experiment is closed: run the cell that makes it (houses.Experiment(...)), and then this one"
_KINDS = ("houses", "cancelled", "late")

Row = tuple[str, str]
"""A name and a text."""


class Dashboard:
    """Watches one experiment for one panel; it reads files and asks nobody, so a look takes about a millisecond."""

    def __init__(self, exp: Experiment) -> None:
        """What the experiment's files hold now is read."""
        self._exp = exp
        self._child: ConsumerChild | None = None
        """The consumer at this look."""
        self._topic = ""
        self._feed = MetricsFeed(exp.config.metrics_path)
        self._sent_before: int | None = None
        """Messages sent when it was first seen that no consumer measures; None while one does."""
        self.complaint = ""
        """What the user did wrong last, in one line; shown until the next thing is done."""
        self._follow()  # the first look may come when the experiment is closed

    def look(self, newest_ms: int) -> dict[str, Any]:
        """Everything there is to show.

        Args:
            newest_ms: the newest point that the viewer has (Unix time in milliseconds); only later ones are in `points`.

        Returns:
            `series`: changes when all points before belong to something else; `now_ms`: the present, or the end of the run
            when `live` is false; `points`: [time in ms, houses per second, p50 and p99 latency in ms], up to then, without
            those between two runs; `status` and `counters`: rows of name and text; `error`: in plain words.
        """
        self._child = self._exp.consumer  # before its lines are read: one that ends meanwhile has not said so yet
        if not self._exp.closed:  # afterwards the files may be those of an experiment that was made anew
            self._follow()
        # The last minute stays to be looked at. What the stop completes comes all at once, and would dwarf it.
        end_ms = self._exp.done_ms or (0 if self._exp.is_running else self._feed.latest_ms)
        now_ms = end_ms or time.time_ns() // 1_000_000
        new = (point for point in self._feed.points if newest_ms < point.time_ms <= now_ms)
        return {
            "series": self._topic,
            "now_ms": now_ms,
            "live": not end_ms,
            "points": [list(point) for point in new if not any(a < point.time_ms <= b for a, b in self._exp.pauses_ms)],
            "status": self._status(),
            "counters": self._counters(),
            "error": self._error(),
        }

    def _follow(self) -> None:
        if self._topic != self._exp.config.kafka.topic:  # begun anew
            self._topic, self._feed = self._exp.config.kafka.topic, MetricsFeed(self._exp.config.metrics_path)
            self._sent_before = None
        self._feed.poll()

    def _status(self) -> list[Row]:
        line, about, since = self._feed.latest, *self._unread()
        doing, running = self._exp.background.doing, "running" if self._exp.is_running else "not running"
        return [
            ("experiment", "closed" if self._exp.closed else doing or running),
            ("Kafka", self._kafka()),
            ("consumer", self._consumer()),
            ("lag", f"{about}{counted(line.get('lag', 0) + since, 'message')}"),
            ("pending", f"{about}{counted(line.get('pending', 0), 'house')}"),
        ]

    def _measured(self) -> bool:
        """Whether the last line is of the consumer that lives now."""
        child = self._child
        return child is not None and child.alive and child.pid == self._feed.latest.get("pid")

    def _unread(self) -> tuple[str, int]:
        """How sure lag and pending are, "about " or nothing, and the messages sent since nobody has measured them."""
        state = self._feed.latest.get("state")
        if (self._measured() and state not in BEFORE_READING) or (
            not self._exp.is_running and self._feed.ended_in_order
        ):
            self._sent_before = None
            return "", 0
        sent = sum(self._exp.sent.values())
        if self._sent_before is None:
            self._sent_before = sent
        return "about ", sent - self._sent_before

    def _kafka(self) -> str:
        if self._child is None:
            return "not in use"
        if not self._measured():
            return "unknown"
        return "does not answer" if self._feed.latest.get("last_error") else "answers"

    def _consumer(self) -> str:
        child, state = self._child, str(self._feed.latest.get("state", "not started"))
        if child is None:
            return state if self._feed.ended_in_order else "gone"
        if child.killed:
            return "killed"
        if self._consumer_error():
            return "ended"
        if (child.alive and not self._measured()) or child.pid is None:
            return "starting"
        silent_s = time.time() - self._feed.latest_ms / 1000
        return f"silent for {silent_s:.0f} s" if child.alive and silent_s > _SILENT_S else state

    def _consumer_error(self) -> str:
        """Why the consumer has ended by itself; empty when it has not."""
        child = self._child
        try:
            if child and child.pid and not child.asked_to_stop:
                child.check()
        except HousesError as error:
            return str(error)
        return ""

    def _error(self) -> str:
        """The first thing that is wrong, the user's own last action before all."""
        child, line = self._child, self._feed.latest
        of_this_run = child is None or child.pid == line.get("pid")
        errors = (
            self.complaint,
            _CLOSED if self._exp.closed else "",
            self._exp.background.last_error,
            self._exp.producer_error,
            self._consumer_error(),
            self._exp.storno_error,
            line.get("last_error", "") if of_this_run else "",
        )
        return next(filter(None, errors), "")

    def _counters(self) -> list[Row]:
        totals, parts = self._feed.totals, self._exp.part_counts()
        measured = {name: f" ({counts.measured_hz:,.0f}/s)" for name, counts in parts.items()}
        killed = not self._measured() and not self._feed.ended_in_order
        about = "about " if self._feed.totals_are_rough or killed else ""
        shown = {kind: totals.pop(kind, 0) for kind in (*_KINDS, "stornos")}  # the rest are rejects, by reason
        shown |= {"rejects": totals.total(), "stornos": shown.pop("stornos")}
        return [
            *((name, f"{number:,}{measured.get(name, '')}") for name, number in self._exp.sent.items()),
            *((kind, f"{about}{number:,}") for kind, number in shown.items()),
        ]


_WINDOW_MS = 1000
_KEPT_MS = 61_000


class Point(NamedTuple):
    """The second that ends at a moment."""

    time_ms: int
    """Unix time in milliseconds."""
    houses_hz: float
    """Houses per second that were written, cancelled ones too."""
    p50_ms: float | None
    """Latency, last part sent -> on the disk; None when no house was written."""
    p99_ms: float | None


class MetricsFeed:
    """Reads what has been added to a metrics.jsonl, at each `poll`."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path
        self._position = 0
        self._ended: Counter[str] = Counter()
        self._window = deque[Mapping[str, Any]]()
        """The lines of the last second, and the one before."""
        self.points = deque[Point]()
        """Of the last minute, oldest first."""
        self.latest: Mapping[str, Any] = {}
        """The last line; empty before the first."""
        self.totals_are_rough = False
        """Whether an earlier consumer was killed: what it did after its last line is in no line, and the next one counts again
        what it reads again, such as stornos."""

    @property
    def ended_in_order(self) -> bool:
        """Whether the last line is the last of its process; also before the first line."""
        return self.latest.get("state", "stopped") in ENDED

    @property
    def latest_ms(self) -> int:
        """When the last line was written, Unix time in milliseconds; 0 before the first."""
        return _unix_ms(self.latest) if self.latest else 0

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
        window, points = self._window, self.points
        if record["pid"] != self.latest.get("pid"):
            self._ended = self.totals
            self.totals_are_rough |= not self.ended_in_order
            window.clear()
        self.latest = record
        window.append(record)
        while len(window) > 2 and _unix_ms(window[1]) <= self.latest_ms - _WINDOW_MS:
            window.popleft()
        if len(window) > 1:
            points.append(_point(window[0], record))
        while points and points[0].time_ms < self.latest_ms - _KEPT_MS:
            points.popleft()


def _unix_ms(line: Mapping[str, Any]) -> int:
    return round(written_at(line).timestamp() * 1000)


def _point(first: Mapping[str, Any], last: Mapping[str, Any]) -> Point:
    seconds = max(1, _unix_ms(last) - _unix_ms(first)) / 1000
    written = sum(last["counts"].get(kind, 0) - first["counts"].get(kind, 0) for kind in ("houses", "cancelled"))
    added = histogram_since(first["durable_latency_ms"], last["durable_latency_ms"])
    return Point(_unix_ms(last), written / seconds, percentile_ms(added, 0.5), percentile_ms(added, 0.99))
