"""What a panel shows of an experiment at one moment, in plain values: status, counters, the last minute."""

import time
from typing import Any

from houses.experiment import Experiment
from houses.feed import MetricsFeed
from houses.message import PARTS

_SILENT_S = 2.0
_KINDS = ("houses", "cancelled", "late")

Row = tuple[str, str]
"""A name and a text."""


class Dashboard:
    """Watches one experiment for one panel; it reads files and asks nobody, so a look takes about a millisecond."""

    def __init__(self, exp: Experiment) -> None:
        """Nothing is read yet."""
        self._exp = exp
        self._topic = ""
        self._feed = MetricsFeed(exp.config.metrics_path)
        self.complaint = ""
        """What the user did wrong last, in one line; shown until the next thing is done."""

    def look(self, newest_ms: int) -> dict[str, Any]:
        """Everything there is to show.

        Args:
            newest_ms: the newest point that the viewer has (Unix time in milliseconds); only later ones are in `points`.

        Returns:
            `series`: changes when all points before belong to something else; `now_ms`; `points`: [time in ms, houses per
            second, p50 and p99 latency in ms]; `status` and `counters`: rows of name and text; `error`: in plain words.
        """
        if self._topic != self._exp.config.kafka.topic:  # begun anew
            self._topic, self._feed = self._exp.config.kafka.topic, MetricsFeed(self._exp.config.metrics_path)
        self._feed.poll()
        return {
            "series": self._topic,
            "now_ms": time.time_ns() // 1_000_000,
            "points": [list(point) for point in self._feed.points if point.time_ms > newest_ms],
            "status": self._status(),
            "counters": self._counters(),
            "error": self._error(),
        }

    def _status(self) -> list[Row]:
        line, running = self._feed.latest, self._exp.is_running
        return [
            ("experiment", self._exp.background.doing or ("running" if running else "not running")),
            ("Kafka", self._kafka()),
            ("consumer", self._consumer()),
            ("lag", f"{line.get('lag', 0):,} messages"),
            ("pending", f"{line.get('pending', 0):,} houses"),
        ]

    def _kafka(self) -> str:
        if not self._exp.is_running:
            return "not in use"
        return "does not answer" if self._feed.latest.get("last_error") else "answers"

    def _consumer(self) -> str:
        state = str(self._feed.latest.get("state", "not started"))
        if not self._exp.is_running:
            return state if state in ("stopped", "failed", "not started") else "gone"
        if not self._exp.consumer_alive:
            return "killed"
        silent_s = time.time() - (self._feed.points[-1].time_ms / 1000 if self._feed.points else time.time())
        return f"silent for {silent_s:.0f} s" if silent_s > _SILENT_S else state

    def _error(self) -> str:
        """The first thing that is wrong, the user's own last action before all."""
        errors = (
            self.complaint,
            self._exp.background.last_error,
            self._exp.producer_error,
            self._feed.latest.get("last_error", ""),
        )
        return next(filter(None, errors), "")

    def _counters(self) -> list[Row]:
        totals, parts = self._feed.totals, self._exp.part_counts()
        rejects = sum(count for kind, count in totals.items() if kind not in (*_KINDS, "stornos"))
        sent = self._exp.sent
        measured = {name: f" ({counts.measured_hz:,.0f}/s)" for name, counts in parts.items()}
        return [
            *((part.name, f"{sent[part.name]:,}{measured.get(part.name, '')}") for part in PARTS),
            *((kind, f"{totals[kind]:,}") for kind in _KINDS),
            ("rejects", f"{rejects:,}"),
            ("stornos", f"{totals['stornos']:,}"),
        ]
