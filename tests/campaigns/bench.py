"""Measures the pipeline against bare loops of the same client, in one run on one machine.

python3 lab.py bench [--json] [--check] [--panel] [--notebooks]. Each figure comes from a process of its own; rounds of what is compared alternate, so that
a noisy machine hits all alike.
"""

import argparse
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from support.kafka_lab import own_kafka

from campaigns import script
from houses.config.config import Config, load
from houses.consumer.consumer import CalmCollector, consume
from houses.consumer.loop import ConsumerLoop
from houses.consumer.source import consumer_settings
from houses.kafka.broker import ensure_topics
from houses.kafka.clients import client_config
from houses.producer.producers import Producers
from houses.producer.sender import producer_settings
from houses.records.lines import reject_line, storno_line
from houses.records.message import FULL, PARTS, Reject, encode_parts, utc_now
from houses.records.metrics import last_metrics, percentile_ms

_IDS_PER_TICK = 100  # as many messages share their time as at 10,000 a second
_WARM_UP_S = 3.0
_MB = 1 << 20


class Target(NamedTuple):
    """What a figure should come to."""

    figure: str
    """How its name begins."""
    member: str
    """Which of its numbers; empty when it is one."""
    least: bool
    """Whether the limit is the least that is wanted, else the most."""
    limit: float | str
    """A number, or the member that holds it."""


TARGETS = (
    Target("consumer: ratio to the bare loop", "", True, 0.20),
    Target("producers: ratio to the bare loop", "", True, 0.6),
    Target("producers: error over 10 s", "sent - rate x t", False, "allowed"),
    Target("latency: durable, over", "p99", False, 25.0),
    Target("memory: MB", "above idle with 50,000 pending", False, 60.0),
    Target("panel: frames a second, no cell running", "", True, 9.0),
    Target("panel: CPU of the kernel", "", False, 10.0),
    Target("notebooks: in full, s", "slowest", False, 60.0),
    Target("notebooks: as tests run them, s", "slowest", False, 20.0),
    Target("restart: first new house, s", "beside 0 houses", False, 2.0),
    Target("restart: first new house, s", "beside 1,000,000 houses", False, 2.0),
    Target("restart: load() of these files", "", False, 10.0),
    Target("restart: load() of 1,000,000 lines", "storno_houses.jsonl", False, 10.0),
    Target("restart: load() of 1,000,000 lines", "rejects.jsonl", False, 10.0),
)


class Judged(NamedTuple):
    """A target, and whether a figure meets it."""

    figure: str
    text: str
    missed: bool


def judge(figures: dict[str, Any]) -> list[Judged]:
    """Hold figures against their targets."""
    return [
        _judged(target, name, value)
        for name, value in figures.items()
        for target in TARGETS
        if name.startswith(target.figure)
    ]


def _judged(target: Target, name: str, value: Any) -> Judged:
    number = value[target.member] if target.member else value
    limit = value[target.limit] if isinstance(target.limit, str) else target.limit
    missed = number is None or (number < limit if target.least else number > limit)
    bound = f"at {'least' if target.least else 'most'} {_text(limit)}"
    text = f"{target.member} should be {bound}{': missed' if missed else ''}".strip()
    return Judged(name, text, missed)


def main() -> int:
    """Run all measurements and print them with their targets, or one JSON object with --json; the exit code.

    1 under --check when a target is missed, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    parser.add_argument("--messages", type=int, default=1_500_000, help="messages in the topic (default %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds of each throughput measurement (default %(default)s)"
    )
    parser.add_argument("--only", choices=sorted(_PARTS), action="append", help="only these measurements")
    parser.add_argument("--panel", action="store_true", help="only the panel, in a real browser (Debian's chromium)")
    parser.add_argument("--notebooks", action="store_true", help="only how long the notebooks take, about five minutes")
    arguments = parser.parse_args()
    asked = [name for name in _ON_REQUEST if getattr(arguments, name)] or arguments.only
    figures: dict[str, Any] = {}
    with own_kafka() as (folder, address):
        for name in asked or [name for name in _PARTS if name not in _ON_REQUEST]:
            figures |= _PARTS[name](folder / name, address, arguments.messages // 3, arguments.rounds)
            if not arguments.json:
                _show(name, figures)
    judged = judge(figures)
    missed = sum(each.missed for each in judged)
    if arguments.json:
        print(json.dumps(figures | {"missed": [each.figure for each in judged if each.missed]}, indent=1))
    else:
        if ratio := figures.get("consumer: ratio to the bare loop"):
            print(f"\nratio to the bare loop: {ratio:.2f}")
        print(f"\n{missed} of {len(judged)} targets missed")
    return 1 if arguments.check and missed else 0


def _show(name: str, figures: dict[str, Any]) -> None:
    print(f"\n{name}")
    for key, value in figures.items():
        if key.startswith(name):
            print(f"  {key.removeprefix(name + ': ')}: {_text(value)}")
            for judged in judge({key: value}):
                print(f"      {judged.text}")
    sys.stdout.flush()


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(number)}" for key, number in value.items())
    return (
        f"{value:,.0f}"
        if isinstance(value, float) and value >= 100
        else f"{value:.3g}"
        if isinstance(value, float)
        else str(value)
    )


def _config(folder: Path, address: str, topic: str, **consumer: Any) -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    sections = {
        "kafka": {"bootstrap_servers": address, "topic": topic},
        "consumer": {"output_file": "houses.jsonl", "storno_topic": f"{topic}-storno", "log_every": 0} | consumer,
    }
    path.write_text(json.dumps(sections), encoding="utf-8")
    return load(path, {})


def _in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _spread(rates: list[float]) -> dict[str, float]:
    return {"minimum": min(rates), "median": statistics.median(rates), "maximum": max(rates)}


def _never() -> bool:
    return False


# --- consumer throughput ---


def _fill_topic(config: Config, houses: int, lacking: str = "") -> None:
    """Send `houses` houses, without the part named `lacking`, as the producers would."""
    ensure_topics(config)
    draw = random.Random(1)
    producer = Producer(client_config(config.kafka) | {"compression.type": "snappy", "linger.ms": 50})
    for first in range(0, houses, _IDS_PER_TICK):
        ids, ts = range(first, min(first + _IDS_PER_TICK, houses)), utc_now()
        for part in PARTS:
            if part.name != lacking:
                values = encode_parts(part, ids, ts, draw.choices(part.workers, k=len(ids)))
                messages = [{"key": str(i).encode(), "value": value} for i, value in zip(ids, values, strict=True)]
                producer.produce_batch(config.kafka.topic, messages, partition=part.partition)
        if first % (100 * _IDS_PER_TICK) == 0:
            producer.flush()
    if producer.flush(60):
        raise RuntimeError("the topic could not be filled in a minute")


def _bare_rate_hz(config: Config, houses: int) -> float:
    """Messages a second of a loop that only calls consume(10000), with the consumer's own settings."""
    CalmCollector(_never)
    client = Consumer(client_config(config.kafka) | consumer_settings(config))
    started = time.perf_counter()
    client.assign([TopicPartition(config.kafka.topic, part.partition, 0) for part in PARTS])
    read = 0
    while read < 3 * houses:
        read += len(client.consume(10_000, config.consumer.poll_timeout_ms / 1000))
    elapsed = time.perf_counter() - started
    client.close()
    return read / elapsed


def _consumer_rate_hz(config: Config, houses: int) -> float:
    """Messages a second of our consumer, from its start on the topic to its last checkpoint."""
    elapsed = 0.0
    run = ConsumerLoop.run

    def timed_run(loop: ConsumerLoop, until: list[int] | None) -> Any:
        nonlocal elapsed
        started = time.perf_counter()
        counts = run(loop, [houses, houses, houses, 0])
        elapsed = time.perf_counter() - started
        return counts

    ConsumerLoop.run = timed_run  # type: ignore[method-assign,assignment]  # so that opening the folder is not measured
    counts = consume(config, CalmCollector(_never), until_end=True)
    return 3 * counts["houses"] / elapsed


def measure_consumer(folder: Path, address: str, houses: int, rounds: int) -> dict[str, Any]:
    """The bare loop, and our consumer with one fsync a batch, at three batch sizes."""
    batches = {10_000: houses, 100: houses // 5, 10: houses // 50}  # the smaller the batch, the shorter the stretch
    _fill_topic(_config(folder, address, "bench"), houses)
    rates: dict[str, list[float]] = {}
    for number in range(rounds):
        rates.setdefault("bare loop", []).append(_in_child(_bare_rate_hz, _config(folder, address, "bench"), houses))
        for max_batch, stretch in batches.items():
            config = _config(folder / f"{max_batch}-{number}", address, "bench", max_batch=max_batch)
            rates.setdefault(f"max_batch {max_batch}", []).append(_in_child(_consumer_rate_hz, config, stretch))
    figures: dict[str, Any] = {f"consumer: {name}, msg/s": _spread(values) for name, values in rates.items()}
    ratio = statistics.median(rates["max_batch 10000"]) / statistics.median(rates["bare loop"])
    return figures | {"consumer: ratio to the bare loop": ratio}


# --- producers ---


def _bare_producer_hz(config: Config, houses: int) -> float:
    """Messages a second of a loop that only calls produce_batch, with the producers' own client settings."""
    client = Producer(client_config(config.kafka) | producer_settings(config.producer))
    values = [encode_parts(part, range(1000), utc_now(), [part.workers[0]] * 1000) for part in PARTS]
    started = time.perf_counter()
    for _ in range(houses // 1000):
        for part in PARTS:
            messages = [{"key": "1", "value": value} for value in values[part.partition]]
            client.produce_batch(config.kafka.topic, messages, partition=part.partition)
        client.poll(0)
    client.flush()
    return 3 * houses / (time.perf_counter() - started)


def _producers_hz(config: Config, houses: int) -> float:
    """Messages a second of our producers, unpaced, from their first message to the last confirmation."""
    producers = Producers(config.with_values({"producer.msgs_per_sec": 0}), config.kafka.topic, config.folder).start()
    started = time.perf_counter()
    producers.send_through(houses - 1)
    producers.stop()
    return 3 * houses / (time.perf_counter() - started)


def _pacing_error(config: Config, rate_hz: int, seconds: float) -> dict[str, float]:
    """How far the number of messages sent is from rate x time, for the worst of the three parts."""
    with Producers(
        config.with_values({"producer.msgs_per_sec": rate_hz}), config.kafka.topic, config.folder
    ) as producers:
        started = time.monotonic()
        time.sleep(seconds)
        producers.set_rate(None, 0)
        elapsed = time.monotonic() - started
        worst = max(abs(sent - rate_hz * elapsed) for sent in producers.sent.values())
    return {"sent - rate x t": worst, "allowed": max(1.0, 0.005 * rate_hz * elapsed)}


def measure_producers(folder: Path, address: str, houses: int, rounds: int) -> dict[str, Any]:
    """The bare loop and our producers; then how exactly they keep their rate over 10 s."""
    rates: dict[str, list[float]] = {"bare produce_batch loop": [], "our producers": []}
    for number in range(rounds):
        for name, function in zip(rates, (_bare_producer_hz, _producers_hz), strict=True):
            config = _config(folder / f"{number}", address, f"producers-{number}-{function.__name__.strip('_')}")
            ensure_topics(config)
            rates[name].append(_in_child(function, config, houses // 3))
    figures: dict[str, Any] = {f"producers: {name}, msg/s": _spread(values) for name, values in rates.items()}
    medians = [statistics.median(values) for values in rates.values()]
    figures["producers: ratio to the bare loop"] = medians[1] / medians[0]
    for rate_hz in (100, 1000, 5000, 20_000):
        config = _config(folder / f"paced-{rate_hz}", address, f"paced-{rate_hz}")
        ensure_topics(config)
        figures[f"producers: error over 10 s at 3 x {rate_hz} msg/s, messages"] = _in_child(
            _pacing_error, config, rate_hz, 10.0
        )
    return figures


# --- the consumer as a process ---


@contextmanager
def _consumer_process(config: Config) -> Iterator[psutil.Popen]:
    """`houses consume`, running, and stopped at the end."""
    command = [sys.executable, "-m", "houses", "--config", str(config.path), "consume", "--stop-with-stdin"]
    with (config.folder / "consumer.log").open("wb") as log:
        process = psutil.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(10)


def _await_metrics(
    config: Config, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 120.0
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while not ((last := last_metrics(config.metrics_path)) and condition(last)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the consumer did not come that far in {timeout_s} s: {last}")
        time.sleep(0.02)
    return last


def _await_growth(path: Path, length: int, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while path.stat().st_size == length:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path}: no new line in {timeout_s} s")
        time.sleep(0.005)


def _is_running(metrics: dict[str, Any]) -> bool:
    return bool(metrics["state"] == "running")


def _has_houses(count: int, metrics: dict[str, Any]) -> bool:
    return _is_running(metrics) and metrics["counts"].get("houses", 0) == count


def measure_latency(folder: Path, address: str, houses: int, rounds: int, seconds: float = 30.0) -> dict[str, Any]:
    """Last part handed to Kafka -> its house on the disk, at 3 x 1,000 messages a second.

    Of `seconds` after a warm-up: a Kafka that has just been started answers its first requests ten times as slowly.
    """
    config = _config(folder, address, "latency", metrics_interval_sec=0.1)
    ensure_topics(config)
    with _consumer_process(config):
        _await_metrics(config, _is_running)
        with Producers(config.with_values({"producer.msgs_per_sec": 1000}), config.kafka.topic, config.folder):
            time.sleep(_WARM_UP_S)
            warm_up = last_metrics(config.metrics_path)
            time.sleep(seconds)
    last = _await_metrics(config, lambda metrics: metrics["state"] == "stopped")
    assert warm_up  # the consumer was running before it
    everything, before = last["durable_latency_ms"], warm_up["durable_latency_ms"]
    measured = {bound: count - before.get(bound, 0) for bound, count in everything.items()}
    return {
        f"latency: durable, over {seconds:g} s, ms": _percentiles(measured),
        f"latency: durable, with the {_WARM_UP_S:g} s of warm-up, ms": _percentiles(everything),
    }


def _percentiles(histogram: dict[str, int]) -> dict[str, float | None]:
    return {name: percentile_ms(histogram, share) for name, share in {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}.items()}


def measure_memory(folder: Path, address: str, houses: int, rounds: int) -> dict[str, Any]:
    """Memory of the consumer with 50,000 ids pending, each with two parts, above the same process when idle."""
    config = _config(folder, address, "memory", max_pending_triplets=60_000)
    ensure_topics(config)
    with _consumer_process(config) as process:
        _await_metrics(config, _is_running)
        idle = process.memory_info().rss
        _fill_topic(config, 50_000, lacking="roof")
        _await_metrics(config, lambda metrics: metrics["pending"] == 50_000)
        time.sleep(2)
        crowded = process.memory_info().rss
    return {"memory: MB": {"idle": idle / _MB, "above idle with 50,000 pending": (crowded - idle) / _MB}}


def measure_restart(folder: Path, address: str, houses: int, rounds: int) -> dict[str, Any]:
    """From the start of the process to the first new house in the file, beside a file of 1,000,000 houses."""
    seconds = {}
    for size in (0, 1_000_000):
        config = _config(folder / f"{size}", address, f"restart-{size}")
        _fill_topic(config, size)
        with _consumer_process(config):
            _await_metrics(config, partial(_has_houses, size), 300)
        client = Producer(client_config(config.kafka))
        for part in PARTS:
            message = encode_parts(part, [size], utc_now(), [part.workers[0]])[0]
            client.produce(config.kafka.topic, message, partition=part.partition)
        client.flush()
        before, started = config.houses_path.stat().st_size, time.perf_counter()
        with _consumer_process(config):
            _await_growth(config.houses_path, before)
            seconds[f"beside {size:,} houses"] = time.perf_counter() - started
    return {
        "restart: first new house, s": seconds,
        "restart: load() of these files, s": _in_child(_load_s, folder / "1000000", "houses"),
        "restart: load() of 1,000,000 lines, s": {
            "storno_houses.jsonl": _in_child(
                _load_s, _of_lines(folder / "stornos", "storno_houses", _storno), "stornos"
            ),
            "rejects.jsonl": _in_child(_load_s, _of_lines(folder / "rejects", "rejects", _reject), "rejects"),
        },
    }


def _of_lines(folder: Path, name: str, line: Callable[[int], str]) -> Path:
    """A folder with one file, of 1,000,000 lines."""
    folder.mkdir()
    with (folder / f"{name}.jsonl").open("w", encoding="ascii", newline="") as file:
        file.writelines(map(line, range(1_000_000)))
    return folder


def _storno(number: int) -> str:
    """Full, of one part and of two, in turn."""
    now = utc_now()
    parts = [(number, f'{now}","name":"{part.workers[0]}","task":"{part.name}', None) for part in PARTS]
    return storno_line((number, parts[0], parts[1], parts[2]), (FULL, 1, 6)[number % 3], number, now)


def _reject(number: int) -> str:
    part = PARTS[number % 3]
    raw = encode_parts(part, [number], utc_now(), [part.workers[0]])[0]
    return reject_line(Reject(part.partition, number, "duplicate", f"house {number}", raw), ("parts", "stornos"))


def _load_s(folder: Path, table: str) -> float:
    """Seconds that an output folder takes to be read, of which one table has 1,000,000 rows or more."""
    from houses.lab.analysis.frames import load as load_tables

    begun_s = time.perf_counter()
    assert len(getattr(load_tables(folder), table)) >= 1_000_000
    return time.perf_counter() - begun_s


def _measure_panel(folder: Path, address: str, houses: int, rounds: int) -> dict[str, Any]:
    from campaigns.bench_panel import measure_panel  # needs a browser, which the other measurements do without

    return measure_panel(folder, address)


def _measure_notebooks(folder: Path, address: str, houses: int, rounds: int) -> dict[str, Any]:
    from campaigns.bench_notebooks import measure_notebooks  # loads papermill, which the other measurements do without

    return measure_notebooks(folder, address)


_ON_REQUEST = ("panel", "notebooks")
"""What is measured only when it is asked for: it needs a browser, or takes long."""
_PARTS: dict[str, Callable[[Path, str, int, int], dict[str, Any]]] = {
    "consumer": measure_consumer,
    "producers": measure_producers,
    "latency": measure_latency,
    "memory": measure_memory,
    "restart": measure_restart,
    "panel": _measure_panel,
    "notebooks": _measure_notebooks,
}

if __name__ == "__main__":
    sys.exit(script.run(main))
