"""The stream of one part: what is due goes out, numbered, paced by an exact schedule, and with the faults that are on."""

import math
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from houses.config.models import PartFaults
from houses.config.types import MAX_RATE_HZ
from houses.errors import ConfigError
from houses.producer.faults import KINDS, FaultInjector, FaultLog
from houses.producer.ids import IdAllocator
from houses.producer.sender import Sender
from houses.records.message import Part, encode_parts, utc_now

TICK_S = 0.010


def check_rate(rate_hz: float) -> None:
    """`ConfigError` when it is not a number from 0 to 20,000 messages per second."""
    if not 0 <= rate_hz <= MAX_RATE_HZ:  # false for NaN as well
        raise ConfigError(f"rate {rate_hz}: must be 0 (paused) to {MAX_RATE_HZ:.0f} messages per second")


class Schedule:
    """How many messages are due at a moment: the integral of the rate over time.

    A rate change starts a new pacing base at the exact count of that moment, so parts that were changed together stay
    together: no message of the old rate is skipped, none of the new one comes early, nothing adds up over many changes.
    """

    def __init__(self, start_s: float, rate_hz: float) -> None:
        """Nothing is due at `start_s` (monotonic clock); one message every 1 / `rate_hz` seconds from then on."""
        self._bases = [(start_s, 0.0, rate_hz)]  # appended to by one thread while others read

    @property
    def rate_hz(self) -> float:
        """The rate that was set last."""
        return self._bases[-1][2]

    def set_rate(self, now_s: float, rate_hz: float) -> None:
        """Another rate from `now_s` (monotonic clock) on; moments before the latest change count as that change."""
        now_s = max(now_s, self._bases[-1][0])
        self._bases.append((now_s, self._exact(now_s), rate_hz))

    def due(self, now_s: float) -> int:
        """Messages due since the start at `now_s`, a moment that may lie in the past (a delayed stream)."""
        return math.floor(self._exact(now_s) + 1e-6)  # an integral that is whole must not fall short by rounding

    def _exact(self, now_s: float) -> float:
        at = bisect_right(self._bases, now_s, key=lambda base: base[0])
        if at == 0:
            return 0.0
        base_s, base_due, rate_hz = self._bases[at - 1]
        return base_due + (now_s - base_s) * rate_hz


BATCH = 2_000
"""Messages handed over at a time at most: the interpreter is held for 2 ms, not longer."""
NO_FAULTS = PartFaults()
_WORKERS_PERIOD = 10_007
"""After so many messages the random sequence of workers repeats; more than BATCH."""


@dataclass(frozen=True, slots=True)
class PartCounts:
    """One part at a moment."""

    sent: int
    """Messages handed to Kafka: duplicates and malformed ones too, dropped ones not."""
    next_id: int
    dropped: int
    malformed: int
    duplicated: int
    rate_hz: float
    """As set."""
    measured_hz: float
    """Messages per second over about the last second."""


class Meter:
    """The rate of a growing count over about the last second."""

    def __init__(self) -> None:
        """Measures from now on."""
        self._samples = deque([(time.monotonic(), 0)], maxlen=11)

    def note(self, now_s: float, count: int) -> None:
        """Call often; takes ten samples a second."""
        if now_s - self._samples[-1][0] >= 0.1:
            self._samples.append((now_s, count))

    def rate_hz(self, count: int) -> float:
        """Growth per second up to now, also while nobody notes anything."""
        then_s, then = self._samples[0]
        return (count - then) / max(1e-3, time.monotonic() - then_s)


class PartStream:
    """One part's messages. A thread calls `tick`; everything else may be called from others."""

    def __init__(self, part: Part, sender: Sender, ids: IdAllocator, log: FaultLog, seed: int) -> None:
        """Begins at the allocator's first id; sends nothing before `begin`."""
        self.part = part
        self.faults = NO_FAULTS
        self.next_id = ids.first
        """The id of the next message; all from the allocator's first id up to it have been begun."""
        self.sent = 0
        """Messages handed to Kafka, whatever a fault made of them."""
        self._sender, self._ids, self._log = sender, ids, log
        self._seed = seed
        self._injector = FaultInjector(part, seed, log)
        self._first = ids.first
        # Drawn once: drawing a name per message takes a tenth of a batch's time.
        self._workers = Random(f"{seed}/{part.name}/workers").choices(part.workers, k=_WORKERS_PERIOD) * 2
        self._schedule = Schedule(0.0, 0.0)
        self._paced = 0
        self._end_id: int | None = None
        self._lock = threading.Lock()
        self._meter = Meter()

    def counts(self) -> PartCounts:
        """What this part has done so far."""
        faults = self._injector.counts
        return PartCounts(
            sent=self.sent,
            next_id=self.next_id,
            dropped=faults["drop"],
            malformed=faults["malformed"],
            duplicated=faults["duplicate"],
            rate_hz=self._schedule.rate_hz,
            measured_hz=self._meter.rate_hz(self.sent),
        )

    def begin(self, now_s: float, rate_hz: float, faults: PartFaults, end_id: int | None = None) -> None:
        """Start the schedule, which sends no id from `end_id` on; the log gets the settings that the run begins with."""
        self._end_id = end_id
        self._schedule = Schedule(now_s, rate_hz)
        self._record("start", {"seed": self._seed, "rate_hz": rate_hz})
        self.set_faults(faults)

    def set_rate(self, now_s: float, rate_hz: float) -> None:
        """Another rate from `now_s` (monotonic clock) on; a delayed stream meets it that much later."""
        if rate_hz != self._schedule.rate_hz:
            self._schedule.set_rate(now_s, rate_hz)
            self._record("rate", {"rate_hz": rate_hz})

    def set_faults(self, faults: PartFaults) -> None:
        """Other faults from the next batch on."""
        before, self.faults = self.faults, faults
        if faults.delay_ms != before.delay_ms:
            self._record("delay", {"delay_ms": faults.delay_ms})
        shares = {kind: getattr(faults, kind) for kind in KINDS}
        if shares != {kind: getattr(before, kind) for kind in KINDS}:
            self._record("shares", shares)

    def _record(self, change: str, members: dict[str, float]) -> None:
        self._log.add(self.part, utc_now(), [(self.next_id, change, members)])

    def tick(self, stopping: Callable[[], bool]) -> None:
        """Send everything that is due by now, batch by batch."""
        now_s = time.monotonic()
        while not stopping() and self._send_due(now_s):
            pass
        self._meter.note(now_s, self.sent)

    def _send_due(self, now_s: float) -> bool:
        with self._lock:
            due = self._schedule.due(now_s - self.faults.delay_ms / 1000) - self._paced
            if self._end_id is not None:
                due = min(due, self._end_id - self.next_id)
            if due <= 0:
                return False
            count = min(due, BATCH)
            self._paced += count
            return self._send(count, self.faults)

    def approach(self, house_id: int) -> bool:
        """Send one batch on towards `house_id`, unpaced and fault-free; False when it is reached or Kafka given up."""
        with self._lock:
            count = min(BATCH, house_id + 1 - self.next_id)
            return count > 0 and self._send(count, NO_FAULTS)

    def _send(self, count: int, faults: PartFaults) -> bool:
        ids = range(self.next_id, self.next_id + count)
        self._ids.reserve_through(ids[-1])
        self.next_id += count
        ts = utc_now()
        at = (ids[0] - self._first) % _WORKERS_PERIOD
        values = encode_parts(self.part, ids, ts, self._workers[at : at + count])
        sent_ids: Sequence[int] = ids
        if faults.drop or faults.malformed or faults.duplicate:
            sent_ids, values = self._injector.apply(faults, ids, values, ts)
        messages = [{"key": str(i), "value": value} for i, value in zip(sent_ids, values, strict=True)]
        left = self._sender.send(self.part.partition, messages)
        self.sent += len(messages) - left
        return left == 0
