"""Faults on purpose: seeded, changeable while the parts run, and recorded, so that blame can be compared with truth."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from pathlib import Path
from random import Random
from typing import Any

from houses.config.models import PartFaults
from houses.records.message import Part

FAULTS_NAME = "faults.jsonl"
_FLUSH_S = 1.0

KINDS = ("drop", "malformed", "duplicate")
"""The faults that hit single messages, the strongest first."""
_COPIES = {"drop": 0, "duplicate": 2}
"""How often a message is sent; once where nothing is said."""
FaultRow = tuple[int, str, dict[str, Any]]
"""House id, fault, and what else the line says."""
Malformer = Callable[[Part, int, bytes], bytes]

MALFORMED: dict[str, Malformer] = {
    "empty": lambda part, house_id, value: b"",
    "not_utf8": lambda part, house_id, value: b"\xff\xfe" + value,
    "cut_short": lambda part, house_id, value: value[: value.index(b"|name:")],
    "bad_prefix": lambda part, house_id, value: b"section_" + value,
    "bad_number": lambda part, house_id, value: value.replace(b"partition_%d" % part.number, b"partition_9", 1),
    "bad_id": lambda part, house_id, value: value.replace(b"|id:", b"|id:x", 1),
    "no_ts": lambda part, house_id, value: b"partition_%d|id:%d|ts:|name:|task:" % (part.number, house_id),
    "json": lambda part, house_id, value: _compact({"id": house_id, "part": part.name}),
}
"""What a malformed message may look like: none of these is a part in any accepted form."""


def _compact(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


class FaultLog:
    """faults.jsonl: one line per injected fault or change, written in batches.

    A line holds part, id, fault and ts. `fault` is drop, duplicate, malformed (with `kind`), or start, rate, delay,
    shares; the id of these four is the first one that the change can touch.
    """

    def __init__(self, path: Path) -> None:
        """Goes on behind the last whole line; a line that a crash cut short is removed."""
        self._lock = threading.Lock()
        self._file = path.open("ab+")
        self._cut_torn_line()
        self._flush_at_s = time.monotonic() + _FLUSH_S

    def _cut_torn_line(self) -> None:
        size = self._file.seek(0, 2)
        start = max(0, size - 65_536)
        self._file.seek(start)
        self._file.truncate(start + self._file.read().rfind(b"\n") + 1)
        self._file.seek(0, 2)

    def add(self, part: Part, ts: str, rows: Iterable[FaultRow]) -> None:
        """Record (id, fault, further members) of one part, all at the time `ts`."""
        lines = [
            _compact({"part": part.name, "id": house_id, "fault": fault, **more, "ts": ts}) + b"\n"
            for house_id, fault, more in rows
        ]
        with self._lock:
            self._file.write(b"".join(lines))

    def flush_sometimes(self) -> None:
        """Hand what is written to the system, at most once a second."""
        with self._lock:
            if time.monotonic() >= self._flush_at_s:
                self._file.flush()
                self._flush_at_s = time.monotonic() + _FLUSH_S

    def close(self) -> None:
        """Write the rest."""
        with self._lock:
            self._file.close()


class FaultInjector:
    """The faults of one part's stream.

    Each kind has a random stream of its own that advances only while that kind is on. So the same seed and the same
    settings hit the same messages (the n-th ones of the part), and one kind does not move the hits of another.
    """

    def __init__(self, part: Part, seed: int, log: FaultLog) -> None:
        """`log` gets a line for each fault."""
        self._part, self._log = part, log
        self._random = {kind: Random(f"{seed}/{part.name}/{kind}") for kind in KINDS}
        self._shapes = Random(f"{seed}/{part.name}/shape")
        self.counts = dict.fromkeys(KINDS, 0)
        """Faults injected so far, by kind."""

    def apply(
        self, faults: PartFaults, ids: Sequence[int], values: list[bytes], ts: str
    ) -> tuple[list[int], list[bytes]]:
        """Ids and values to send instead, in order; of several faults of a message the first of KINDS counts."""
        fates = list(zip(*(self._draw(kind, getattr(faults, kind), len(ids)) for kind in KINDS), strict=True))
        out: list[tuple[int, bytes]] = []
        rows: list[FaultRow] = []
        for house_id, value, fate in zip(ids, values, fates, strict=True):
            kind, message, more = next(compress(KINDS, fate), ""), value, {}
            if kind == "malformed":
                more["kind"] = self._shapes.choice(list(MALFORMED))
                message = MALFORMED[more["kind"]](self._part, house_id, value)
            if kind:
                self.counts[kind] += 1
                rows.append((house_id, kind, more))
            out += [(house_id, message)] * _COPIES.get(kind, 1)
        self._log.add(self._part, ts, rows)
        return [house_id for house_id, _ in out], [value for _, value in out]

    def _draw(self, kind: str, share: float, count: int) -> list[bool]:
        draw = self._random[kind].random
        return [draw() < share for _ in range(count)] if share else [False] * count
