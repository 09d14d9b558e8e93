"""One short experiment after the other, each with another value of one setting, and what came of it as a table."""

import time
from collections.abc import Sequence
from typing import Any

import pandas as pd

from houses.config import Config
from houses.experiment import Experiment
from houses.metrics import percentile_ms
from houses.say import Say, be_silent

_WARM_UP_S = 0.5
"""The first requests of a connection are slow ones; latencies count from then on."""


def sweep(
    name: str,
    setting: str,
    values: Sequence[Any],
    *,
    seconds: float = 2.0,
    backlog: int = 0,
    say: Say = be_silent,
    base: Config | None = None,
    **fixed: Any,
) -> pd.DataFrame:
    """Run an experiment per value of a setting, each with topics and a folder of its own (NAME-1, NAME-2, ...).

    Args:
        setting: `rate_hz`, or a key of config.yaml as `Experiment` takes it, such as `linger_ms`.
        seconds: how long each sends at its rate.
        backlog: so many houses are sent at once after that, and joined as fast as the consumer can for `seconds` at
            most; 0: none.
        say: told of each run.
        fixed: further arguments of `Experiment`.

    Returns:
        One row per value: the setting; `houses_per_s` (while it works off the backlog; without one, while it sends);
        `p50_ms` and `p99_ms`, from the last part sent to the house on the disk, while it sends; `pending`, the mean number
        of incomplete houses meanwhile.

    Example:
        sweep("linger", "linger_ms", [0, 5, 50], rate_hz=1000)
    """
    rows = []
    for number, value in enumerate(values, 1):
        with Experiment(f"{name}-{number}", base=base, **fixed | {setting: value}) as exp:
            row = {setting: value} | _send(exp, seconds) | (_work_off(exp, backlog, seconds) if backlog else {})
        exp.verify()
        say(f"{setting} = {value}: {row['houses_per_s']:,.0f} houses/s, p50 {row['p50_ms']:.1f} ms")
        rows.append(row)
    return pd.DataFrame(rows)


def _work_off(exp: Experiment, backlog: int, seconds: float) -> dict[str, float]:
    """Houses per second of a consumer that never waits for producers, over `seconds` at most."""
    exp.send_backlog(backlog)
    exp.set_rate(0)
    exp.start()
    exp.wait_until(lambda: exp.latest()["counts"].get("houses", 0) >= backlog, seconds)
    rows = exp.metrics()
    rows = rows[rows["pid"] == exp.latest()["pid"]]
    grows = rows["count_houses"].diff(-1).lt(0) | rows["count_houses"].diff().gt(0)
    busy = rows[grows]
    passed_s = (busy["time"].iloc[-1] - busy["time"].iloc[0]).total_seconds()
    return {"houses_per_s": (busy["count_houses"].iloc[-1] - busy["count_houses"].iloc[0]) / passed_s}


def _send(exp: Experiment, seconds: float) -> dict[str, float]:
    """Rate and durable latency of houses that come one by one."""
    with exp.running():
        exp.wait(_WARM_UP_S)
        begun_s, before = time.monotonic(), exp.latest()
        exp.wait(seconds)
        after, passed_s = exp.latest(), time.monotonic() - begun_s
    earlier = before["durable_latency_ms"]
    histogram = {bound: count - earlier.get(bound, 0) for bound, count in after["durable_latency_ms"].items()}
    rows = exp.metrics()
    pending = rows[(rows["pid"] == after["pid"]) & rows["time"].between(before["time"], after["time"])]["pending"]
    return {
        "houses_per_s": (after["counts"].get("houses", 0) - before["counts"].get("houses", 0)) / passed_s,
        "p50_ms": percentile_ms(histogram, 0.5) or float("nan"),
        "p99_ms": percentile_ms(histogram, 0.99) or float("nan"),
        "pending": float(pending.mean()),
    }
