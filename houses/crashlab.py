"""One crash after the other, each somewhere else, and what each cost."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pandas as pd

from houses.experiment import Experiment
from houses.records.message import PARTS
from houses.system.crash_points import AT_RANDOM
from houses.system.log import Say, be_silent
from houses.system.text import counted
from houses.timeline import restarts
from houses.verify.verify import verify

_LONGEST_WAIT_S = 2.0
_CHECKPOINT_TIMEOUT_S = 10.0


def crash(exp: Experiment, at: str, *, seed: int = 0) -> None:
    """Kill the consumer of a running experiment where one chooses, and start it again.

    Args:
        at: as `CrashPoint` reads it, or "at random": a kill from outside, within 2 s.
        seed: the same one chooses the same moment.
    Raises:
        ConfigError, HousesError: see `Experiment.crash_consumer`.

    Example:
        crash(exp, "after sync houses.jsonl 40")
    """
    if at == AT_RANDOM:
        exp.wait(Random(seed).uniform(0, _LONGEST_WAIT_S))
        exp.kill_consumer()
    else:
        exp.crash_consumer(at)
    exp.restart_consumer()


def try_crashes(exp: Experiment, points: Sequence[str], *, say: Say = be_silent) -> pd.DataFrame:
    """Crash the consumer of a running experiment at one point after the other, and hold files and topics together after each.

    Args:
        points: as `crash` takes them.
        say: told of each.

    Returns:
        One row per point: `crash_at`; `read_again`, messages that were read before; `seconds_away`, from the last
        measurement before the crash to the first after; `lost`, messages without an outcome; `twice`, messages or houses
        with more than one.
    """
    return pd.DataFrame([_try(exp, at, seed, say) for seed, at in enumerate(points)])


def _try(exp: Experiment, at: str, seed: int, say: Say) -> dict[str, Any]:
    crash(exp, at, seed=seed)
    exp.catch_up()
    _await_checkpoint(exp)
    problems = verify(exp.config).problems
    row = restarts(exp.metrics()).iloc[-1]
    again = int(sum(row[f"{part.name}_again"] for part in PARTS))
    told = {
        "crash_at": at,
        "read_again": again,
        "seconds_away": float(row["seconds_away"]),
        "lost": problems.get("missing", 0),
        "twice": problems.get("double", 0),
    }
    say(f"{at}: {counted(again, 'message')} read again")
    return told


def _await_checkpoint(exp: Experiment) -> None:
    """Until a checkpoint speaks of what the new process has read: `verify` goes by the last one."""
    begun = exp.latest()["checkpoint_generation"]
    exp.wait_until(lambda: exp.latest().get("checkpoint_generation", begun) > begun, _CHECKPOINT_TIMEOUT_S)
