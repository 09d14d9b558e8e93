"""The main job from end to end: send, join, cancel, crash, recover, and prove that nothing was lost."""

import logging
import time

from houses.config.config import Config
from houses.errors import HousesError
from houses.kafka.local import server as local_kafka
from houses.lab.analysis.figure import Picture, save_figure
from houses.lab.analysis.latency import plot_latency, plot_latency_over_time, summary
from houses.lab.experiment import Experiment
from houses.system.text import counted
from houses.verify.certificate import Certificate

LOG = logging.getLogger(__name__)

_RATE_HZ = 500.0
_STEP_S = 3.0
_DOWN_S = 2.0
_AHEAD = 2_000
"""Ids that far ahead have not been sent: at 500 a second they come 4 s later."""
_PATIENCE_S = 60.0
"""With a slow machine."""

_WHOLE = "foundation+wall+roof"
Cancelled = dict[int, str]
"""House id -> the parts that must be cancelled, as `Loaded.stornos` names them."""


def demo(config: Config) -> None:
    """Run the main job in about half a minute, as the experiment "demo".

    1. Kafka is found or started. 2. Three producers send, a consumer joins. 3. Stornos: before the parts of a house, after it
    was written, full and partial. 4. The consumer is killed, a storno comes while it is away, and it starts again.
    5. All is read to the end. 6. Verified, drawn, summed up.

    Raises:
        HousesError: anything was lost, doubled or not cancelled; or there is no Kafka.
    """
    begun_s = time.monotonic()
    with Experiment("demo", rate_hz=_RATE_HZ, base=config, faults={}) as exp:  # 1.
        LOG.info(
            f"Three producers send {_RATE_HZ:.0f} foundations, walls and roofs a second; a consumer joins them to houses"
        )
        with exp.running():
            _go_on(exp)  # 2.
            stornos = _cancel(exp)  # 3.
            _go_on(exp)
            down_s = _crash(exp, stornos)  # 4.
            _go_on(exp)
            LOG.info("Stopping: every part is sent to the end, every message read")
        certificate = exp.verify()  # 5. and 6.
        _check(exp, certificate, stornos)
        away = f"{down_s:.1f} s of {time.monotonic() - begun_s:.0f} s"
        _report(exp, certificate, away)


def _go_on(exp: Experiment) -> None:
    exp.wait(_STEP_S)
    counts = exp.latest()["counts"]
    sent, joined = sum(exp.sent.values()), counts.get("houses", 0) + counts.get("cancelled", 0)
    LOG.info(f"  {counted(sent, 'message')} sent, {counted(joined, 'house')} joined by this consumer")


def _cancel(exp: Experiment) -> Cancelled:
    exp.wait_until(lambda: len(exp.houses()) >= 2, _PATIENCE_S, "no two houses")
    ahead = max(exp.sent.values()) + _AHEAD
    first, second = map(int, exp.houses()["id"].head(2))
    stornos = {ahead: None, ahead + 1: "wall", first: None, second: "roof"}
    for house_id, part in stornos.items():
        exp.storno(house_id, part)
    LOG.info(f"Cancelled: house {ahead} and the wall of {ahead + 1}, which are not built yet")
    LOG.info(f"Cancelled: house {first} and the roof of {second}, which are written already (late stornos)")
    return {house_id: part or _WHOLE for house_id, part in stornos.items()}


def _crash(exp: Experiment, stornos: Cancelled) -> float:
    """Kill the consumer and start it again; returns for how long it was away, in seconds. `stornos` gets one more."""
    begun_s = time.monotonic()
    exp.kill_consumer()
    LOG.info("The consumer is killed in the middle of its work (SIGKILL); the producers go on")
    stornos[exp.storno(max(exp.sent.values()) - 1)] = _WHOLE
    exp.wait(_DOWN_S)
    exp.restart_consumer()
    down_s = time.monotonic() - begun_s
    LOG.info(f"A new consumer has recovered and reads, {down_s:.1f} s after the kill; one storno came meanwhile")
    return down_s


def _check(exp: Experiment, certificate: Certificate, expected: Cancelled) -> None:
    """Beyond the certificate: the end was reached, no house is missing, each storno had its effect."""
    data, sent = exp.data(), exp.sent
    in_files = len(data.houses) + exp.counts()["cancelled"]
    if certificate.unread or certificate.unread_stornos or certificate.pending_ids or {in_files} != set(sent.values()):
        raise HousesError(f"of {sent} parts sent only {in_files} houses came out; what is left: {certificate}")
    found = dict(zip(data.stornos["id"].astype(int), data.stornos["excluded"].astype(str), strict=True))
    if wrong := {house_id: parts for house_id, parts in expected.items() if found.get(house_id) != parts}:
        raise HousesError(f"stornos without effect: {wrong}, found {found}; look into {exp.folder}")


def _report(exp: Experiment, certificate: Certificate, away: str) -> None:
    houses, counts = exp.houses(), exp.counts()
    picture = Picture(figsize=(8, 8), layout="constrained", facecolor="white")
    upper, lower = picture.subplots(2, 1)
    plot_latency_over_time(houses, upper)
    plot_latency(houses, lower)
    png = save_figure(picture, exp.folder, "latency")[0]
    latency = summary(houses)
    lines = (
        "",
        f"{counts['houses']:,} houses, {counts['cancelled']} cancelled before they were complete, {counts['late']} after",
        f"Latency, last part sent to house complete: p50 {latency['p50_ms']:.1f} ms, p99 {latency['p99_ms']:.0f} ms",
        f"(the consumer was away for {away}, which makes the p99)",
        "",
        *certificate.lines(),
        "",
        f"Files:   {exp.folder}",
        f"Figure:  {png}",
        f"Kafka:   {_kafka(exp.config)}",
        "Next:    python3 lab.py lab            JupyterLab, where 01_first_run does the same step by step",
        f'         houses --config "{exp.config.path}" show --last 5',
        "         houses hello listen            and, in a second terminal, houses hello send",
        "         Inside a checkout, houses ... is typed as python3 lab.py ...",
    )
    for line in lines:
        LOG.info(line)


def _kafka(config: Config) -> str:
    address = config.kafka.bootstrap_servers
    if local_kafka.status(config.data_dir).running:
        return f"still runs at {address}; stop it: houses kafka stop"
    return f"the one at {address} was there before and is left as it is"
