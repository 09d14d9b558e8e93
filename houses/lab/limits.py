"""What notebooks and experiments refuse before anything starts: one line, which quotes the value."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from houses.config.config import Config, load
from houses.errors import ConfigError
from houses.lab.run_folder import run_folder, settings_of
from houses.system.crash_points import AT_RANDOM, CrashPoint

_LONGEST_S = 1e9
"""As config.yaml has it: what can be waited for."""


def check_limits(
    name: str, value: float | Sequence[float], *, at_least: float, at_most: float = math.inf, count: int = 1
) -> None:
    """Refuse a number beyond its limits, or a list that is not `count` or more such numbers in ascending order.

    Raises:
        ConfigError: names the parameter and quotes its value.

    Example:
        >>> check_limits("seconds", 5.0, at_least=2)
    """
    is_list = isinstance(value, Sequence)
    numbers = value if isinstance(value, Sequence) else [value]
    in_order = len(numbers) >= count and all(first < second for first, second in pairwise(numbers))
    if in_order and all(at_least <= number <= at_most for number in numbers):
        return
    limits = f"at least {at_least:,.10g}" + (f" and at most {at_most:,.10g}" if at_most < math.inf else "")
    of_list = f"{count} or more ascending numbers, each " if is_list else ""
    raise ConfigError(f"{name} = {value!r}: must be {of_list}{limits}")


def check_seconds(seconds: float) -> None:
    """Refuse a time that cannot be waited for, NaN too."""
    check_limits("seconds", seconds, at_least=0, at_most=_LONGEST_S)


def check_experiment(
    name: str, rate_hz: float | None = None, *, fresh: bool = True, base: Config | None = None, **values: Any
) -> None:
    """Refuse a name and settings that `Experiment` refuses; takes what that takes, makes nothing and needs no Kafka.

    Raises:
        ConfigError: as the message says.

    Example:
        >>> check_experiment("slow", rate_hz=5)
    """
    base = base or load()
    run_folder(name, base.root)
    base.with_values(settings_of(rate_hz, values))


def check_crash_point(at: str) -> None:
    """Refuse what is neither a crash point as `CrashPoint` reads it nor "at random".

    Raises:
        ConfigError: names the forms that there are.

    Example:
        >>> check_crash_point("after sync houses.jsonl 200")
    """
    if at != AT_RANDOM:
        CrashPoint.parse(at)
