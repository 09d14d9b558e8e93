"""One short experiment, or one crash, after the other, and what came of each as a table."""

import logging
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import pandas as pd

from houses.config.config import Config
from houses.config.types import check_limits, check_seconds
from houses.errors import ConfigError
from houses.lab.analysis.timeline import restarts
from houses.lab.experiment import Experiment
from houses.lab.run_folder import check_experiment
from houses.records.message import PARTS
from houses.records.metrics import histogram_since, percentile_ms
from houses.system.crash_points import AT_RANDOM, check_crash_point
from houses.system.text import counted
from houses.verify.verify import verify

LOG = logging.getLogger(__name__)

_TICK_S = 0.05
_WARM_UP_S = 0.25
"""After the first house: what has piled up behind the first request, a slow one, is joined by then."""
_PATIENCE_S = 20.0
"""With a busy computer."""
_LONGEST_WAIT_S = 2.0


def sweep(
    name: str,
    setting: str,
    values: Sequence[Any],
    *,
    seconds: float = 2.0,
    backlog: int = 0,
    base: Config | None = None,
    **fixed: Any,
) -> pd.DataFrame:
    """Run an experiment per value of a setting, each with topics and a folder of its own (NAME-1, NAME-2, ...).

    Args:
        setting: `rate_hz`, or a key of config.yaml as `Experiment` takes it, such as `linger_ms`.
        seconds: how long each sends at its rate.
        backlog: so many houses are sent at once after that, and joined as fast as the consumer can for `seconds` at
            most; 0: none.
        fixed: further arguments of `Experiment`.

    Returns:
        One row per value: the setting; `houses_per_s` (while it works off the backlog; without one, while it sends);
        `p50_ms` and `p99_ms`, from the last part sent to the house on the disk, while it sends; `pending`, the mean number
        of pending houses meanwhile; with a backlog also `fsyncs_per_house`, while it works that off.

    Raises:
        ConfigError: no value, or one that does not fit; nothing was started.
        HousesError: no house or no measurement comes within 20 s; or what `Experiment` and `verify` raise.

    Example:
        >>> table = sweep("linger", "linger_ms", [0, 50], rate_hz=200, seconds=0.5)
        >>> table["linger_ms"].tolist()
        [0, 50]
    """
    check_seconds(seconds)
    check_limits("backlog", backlog, at_least=0)
    if not len(values):
        raise ConfigError(f"{setting} = {values!r}: give at least one value")
    for number, value in enumerate(values, 1):
        check_experiment(f"{name}-{number}", base=base, **fixed | {setting: value})
    rows = []
    for number, value in enumerate(values, 1):
        with Experiment(f"{name}-{number}", base=base, **fixed | {setting: value}) as exp:
            row = {setting: value} | _send(exp, seconds) | (_work_off(exp, backlog, seconds) if backlog else {})
        exp.verify()
        LOG.info(f"{setting} = {value}: {row['houses_per_s']:,.0f} houses/s, p50 {row['p50_ms']:.1f} ms")
        rows.append(row)
    return pd.DataFrame(rows)


def _work_off(exp: Experiment, backlog: int, seconds: float) -> dict[str, float]:
    """A consumer that never waits for producers, over `seconds` at most: houses per second, fsyncs of houses.jsonl per house."""
    exp.send_backlog(backlog)
    exp.set_rate(0)
    exp.start()
    exp.wait_until(lambda: _joined(exp) > 0, _PATIENCE_S, "no house of the backlog")
    deadline_s = time.monotonic() + seconds
    while _joined(exp) < backlog and time.monotonic() < deadline_s:
        exp.wait(_TICK_S)
    rows = exp.metrics()
    rows = rows[rows["pid"] == exp.latest()["pid"]]
    busy = rows[rows["count_houses"].diff(-1).lt(0) | rows["count_houses"].diff().gt(0)]
    first, last = busy.iloc[0], busy.iloc[-1]
    joined = last["count_houses"] - first["count_houses"]
    return {
        "houses_per_s": joined / (last["time"] - first["time"]).total_seconds(),
        "fsyncs_per_house": (last["commits"] - first["commits"]) / joined,
    }


def _send(exp: Experiment, seconds: float) -> dict[str, float]:
    """Rate and durable latency of houses that come one by one."""
    with exp.running():
        exp.wait_until(lambda: _joined(exp) > 0, _PATIENCE_S, "no house")
        exp.wait(_WARM_UP_S)
        before = exp.latest()
        exp.wait(seconds)
        exp.wait_until(lambda: exp.latest()["time"] > before["time"], _PATIENCE_S, "no measurement")
        after = exp.latest()
    histogram = histogram_since(before["durable_latency_ms"], after["durable_latency_ms"])
    rows = exp.metrics()
    rows = rows[(rows["pid"] == after["pid"]) & rows["time"].between(before["time"], after["time"])]
    passed_s = (rows["time"].iloc[-1] - rows["time"].iloc[0]).total_seconds()
    return {
        "houses_per_s": (after["counts"].get("houses", 0) - before["counts"].get("houses", 0)) / passed_s,
        "p50_ms": percentile_ms(histogram, 0.5) or float("nan"),
        "p99_ms": percentile_ms(histogram, 0.99) or float("nan"),
        "pending": float(rows["pending"].mean()),
    }


def _joined(exp: Experiment) -> int:
    """How many houses its consumer has counted."""
    return int(exp.latest()["counts"].get("houses", 0))


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
    check_crash_point(at)
    if at == AT_RANDOM:
        exp.wait(Random(seed).uniform(0, _LONGEST_WAIT_S))
        exp.kill_consumer()
    else:
        exp.crash_consumer(at)
    exp.restart_consumer()


def try_crashes(exp: Experiment, points: Sequence[str]) -> pd.DataFrame:
    """Crash the consumer of a running experiment at one point after the other, and compare files and topics after each.

    Args:
        points: at least one, as `crash` takes them.

    Returns:
        One row per point: `crash_at`; `read_again`, messages that were read before; `seconds_away`, from the last
        measurement before the crash to the first after; `lost`, messages without an outcome; `twice`, messages or houses
        with more than one.

    Raises:
        ConfigError: a point has another form; nothing was killed.
        HousesError: a consumer does not come to a point, does not read to the end, or saves no position after that.
    """
    if not points:
        raise ConfigError(f"points = {points!r}: give at least one crash point")
    for at in points:
        check_crash_point(at)
    return pd.DataFrame([_try(exp, at, seed) for seed, at in enumerate(points)])


def _try(exp: Experiment, at: str, seed: int) -> dict[str, Any]:
    crash(exp, at, seed=seed)
    exp.catch_up()
    # `verify` goes by the last checkpoint: one is needed that speaks of what the new process has read.
    saved = exp.latest()["checkpoint_generation"]
    patience_s = exp.config.consumer.offset_save_interval_sec + _PATIENCE_S
    exp.wait_until(lambda: exp.latest()["checkpoint_generation"] > saved, patience_s, "no checkpoint")
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
    LOG.info(f"{at}: {counted(again, 'message')} read again")
    return told
