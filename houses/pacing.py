"""When each message of a part's stream is due: an exact schedule, however often the rate changes."""

import math
from bisect import bisect_right

from houses.errors import ConfigError

MAX_RATE_HZ = 20_000.0
TICK_S = 0.010


def check_rate(rate_hz: float) -> float:
    """The rate itself; `ConfigError` when it is not a number from 0 to 20,000 messages per second."""
    if not 0 <= rate_hz <= MAX_RATE_HZ:  # false for NaN as well
        raise ConfigError(f"rate {rate_hz}: must be 0 (paused) to {MAX_RATE_HZ:.0f} messages per second")
    return float(rate_hz)


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
