"""The long run: millions of messages through a small machine's settings, with stornos, faults and restarts.

Exit code 0: all limits were kept and the proof holds; 1: not so, or something was missing.
"""

import argparse
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from matplotlib.axes import Axes
from support.command_line import consuming, make_project, read_houses, running
from support.kafka_lab import own_kafka, wait_until

from campaigns import script
from campaigns.campaign import sending
from houses.config.config import Config
from houses.errors import HousesError
from houses.kafka.broker import ensure_topics
from houses.lab.analysis.figure import ACCENT, BLACK, DASHES, explain, figure_of, new_panels, save_figure
from houses.records.message import PARTS
from houses.records.metrics import last_metrics
from houses.verify.certificate import Certificate
from houses.verify.verify import verify

_SMALL = {
    "consumer.max_batch": 1000,
    "consumer.fetch_max_bytes": 1 << 20,
    "consumer.max_pending_triplets": 5000,
    "consumer.max_pending_age_sec": 5,
    "consumer.offset_save_interval_sec": 2,
    "consumer.metrics_interval_sec": 0.2,
    "consumer.log_every": 0,
}
_FAULTS = {"duplicate": 0.01, "malformed": 0.001, "drop": 0.001}
_RATE_HZ = 5000.0
_STORNO_EVERY_S = 0.1
_RESTARTS = (50_000, 100_000, 150_000, 200_000)
"""Messages read after which the consumer is killed and stopped in turn; it lives on after the last."""
_WARM_UP = 300_000
"""Messages that the last life reads before it is judged. Measured: what the backlog of the restart took goes
back to the system, and its heap settles, within 200,000."""
_LOOK_EVERY_S = 0.5
_STALLED_S = 120.0
_MB = 1 << 20
_MILLION = 1e6
_LEAST_MESSAGES = 1_000_000
"""With fewer one step of the heap looks like a slope."""
SLOPE_LIMIT = 1.0
"""MB that the memory may grow per million messages."""
LAG_LIMIT = round(10 * _RATE_HZ * len(PARTS))
"""Messages of ten seconds."""
RESTART_LIMIT_S = 1.0


class Sample(NamedTuple):
    """A look at the consumer."""

    pid: int
    messages: int
    """Read so far, of all topics and in all lives."""
    memory_mb: float
    """Its own, without what it shares with other processes."""
    handles: int
    threads: int
    lag: int


class Outcome(NamedTuple):
    """What a long run came to."""

    samples: list[Sample]
    seconds: float
    """Of sending and reading."""
    restart_s: float
    """From the start of a consumer beside the full files to the first new house."""
    certificate: Certificate

    @property
    def judged(self) -> list[Sample]:
        """Those of the last life after its warm-up."""
        last = [sample for sample in self.samples if sample.pid == self.samples[-1].pid]
        begun = last[0].messages + _WARM_UP
        return [sample for sample in last if sample.messages >= begun]

    @property
    def slope(self) -> float:
        """MB that the memory grew per million messages: a straight line through what is judged."""
        messages = [sample.messages / _MILLION for sample in self.judged]
        return float(np.polyfit(messages, [sample.memory_mb for sample in self.judged], 1)[0])

    @property
    def problems(self) -> list[str]:
        """What broke a promise, but for the time of a restart, which no test should judge."""
        judged = self.judged
        early, late = judged[: len(judged) // 2], judged[len(judged) // 2 :]
        # Each checkpoint has a client of its own for a moment, so the least of many looks is what stays open.
        handles, threads = (
            [min(getattr(s, name) for s in half) for half in (early, late)] for name in ("handles", "threads")
        )
        lag = max(sample.lag for sample in judged)
        found = {
            f"the memory grew by {self.slope:.2f} MB per million messages": self.slope >= SLOPE_LIMIT,
            f"{handles[0]} open files became {handles[1]}": handles[1] > handles[0],
            f"{threads[0]} threads became {threads[1]}": threads[1] > threads[0],
            f"the lag was {lag:,}": lag > LAG_LIMIT,
            f"{self.certificate}": not self.certificate.ok,
        }
        return [problem for problem, is_one in found.items() if is_one]

    def __str__(self) -> str:
        """In a few lines."""
        judged, memory = self.judged, [sample.memory_mb for sample in self.judged]
        handles, threads = ({getattr(sample, name) for sample in judged} for name in ("handles", "threads"))
        certificate = self.certificate
        lines = (
            f"messages {self.samples[-1].messages:,} in {self.seconds:,.0f} s, restarts {len(_RESTARTS) + 1}",
            f"houses {certificate.houses:,}, cancelled {certificate.cancelled:,}, rejects {certificate.rejects}",
            f"memory {min(memory):.1f} to {max(memory):.1f} MB, {self.slope:+.2f} MB per million messages (limit {SLOPE_LIMIT:g})",
            f"open files {min(handles)} to {max(handles)}, threads {min(threads)} to {max(threads)}",
            f"lag {max(sample.lag for sample in judged):,} messages at most (limit {LAG_LIMIT:,})",
            f"restart beside the full files: first new house after {self.restart_s:.2f} s (limit {RESTART_LIMIT_S:g})",
            "every message verified" if certificate.ok else "NOT VERIFIED",
        )
        return "\n".join(lines)


def soak(folder: Path, kafka: str, messages: int, seed: int, say: Callable[[str], None] = print) -> Outcome:
    """Send and cancel houses at 15,000 messages a second, restart the consumer five times, and watch it.

    Args:
        folder: of the project, empty.
        kafka: bootstrap address.
        messages: how many are judged, after the restarts and the warm-up.
        seed: of the faults.
    """
    faults = {f"producer.faults.{part.name}": _FAULTS for part in PARTS}
    rates = {"producer.msgs_per_sec": _RATE_HZ, "producer.seed": seed}
    made = make_project(folder, kafka, _SMALL | faults | rates)
    ensure_topics(made)
    samples: list[Sample] = []
    begun_s = time.monotonic()
    with sending(made, _STORNO_EVERY_S):
        last = _RESTARTS[-1] + _WARM_UP + messages
        for number, until in enumerate((*_RESTARTS, last)):
            with consuming(made, stdout=subprocess.DEVNULL) as process:
                _watch(made, process.pid, until, samples)
                process.send_signal(signal.SIGTERM if number % 2 or until == last else signal.SIGKILL)
                process.wait()
            say(f"{samples[-1].messages:,} messages, {samples[-1].memory_mb:.1f} MB, lag {samples[-1].lag:,}")
    seconds = time.monotonic() - begun_s
    restart_s = _restart(made)
    read_houses(made)
    return Outcome(samples, seconds, restart_s, verify(made))


def _watch(made: Config, pid: int, until: int, samples: list[Sample]) -> None:
    """Look at the consumer twice a second, until so many messages are read."""
    process, moved_s = psutil.Process(pid), time.monotonic()
    while not samples or samples[-1].messages < until:
        time.sleep(_LOOK_EVERY_S)
        line = last_metrics(made.metrics_path)
        if line is None or line["pid"] != pid:
            continue
        read = sum(line["position"]) + line["storno_position"]
        if not samples or read > samples[-1].messages:
            moved_s = time.monotonic()
        assert time.monotonic() - moved_s < _STALLED_S, f"nothing read for {_STALLED_S:.0f} s: {line}"
        with process.oneshot():
            memory_mb = process.memory_full_info().uss / _MB
            samples.append(Sample(pid, read, memory_mb, process.num_fds(), process.num_threads(), line["lag"]))


def _restart(made: Config) -> float:
    """Seconds to the first new house of what was sent after the last stop."""
    before, begun_s = made.houses_path.stat().st_size, time.perf_counter()
    with running(made, "consume", stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: made.houses_path.stat().st_size > before, "a new house")
        seconds = time.perf_counter() - begun_s
        process.terminate()
        process.wait()
    return seconds


def draw(outcome: Outcome, folder: Path) -> list[Path]:
    """Memory, lag, open files and threads over the messages, as soak.png and soak.svg; returns their paths."""
    memory, lag, counts = new_panels(3)
    _lines(memory, outcome.samples, memory_mb="memory of its own")
    _lines(lag, outcome.samples, lag="lag")
    _lines(counts, outcome.samples, handles="open files", threads="threads")
    explain(memory, f"After the warm-up the memory changes by {outcome.slope:+.2f} MB per million messages")
    explain(lag, f"After the warm-up the lag is {max(sample.lag for sample in outcome.judged):,} messages at most")
    explain(counts, "Open files and threads: the peaks are the clients that checkpoints ask for the ids of the topics")
    memory.set_ylabel("memory (MB)")
    lag.set_ylabel("lag (messages)")
    counts.set_ylabel("number")
    counts.set_xlabel("messages read (million)")
    counts.legend(frameon=False)
    return save_figure(figure_of(memory), folder, "soak")


def _lines(ax: Axes, samples: list[Sample], **labels: str) -> None:
    """A line per life and attribute, and the restarts as gaps between them."""
    styles = zip((ACCENT, BLACK), DASHES.values(), strict=False)
    pids = dict.fromkeys(sample.pid for sample in samples)
    for (attribute, label), (colour, dashes) in zip(labels.items(), styles, strict=False):
        for life, pid in enumerate(pids):
            ours = [sample for sample in samples if sample.pid == pid]
            x = [sample.messages / _MILLION for sample in ours]
            y = [getattr(sample, attribute) for sample in ours]
            ax.plot(x, y, color=colour, linestyle=dashes, linewidth=1.2, label=label if not life else None)
    ax.set_ylim(bottom=0)


def _messages(text: str) -> int:
    if not text.isdecimal() or int(text) < _LEAST_MESSAGES:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, {_LEAST_MESSAGES} or more")
    return int(text)


def main() -> int:
    """Run it; the exit code, 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="lab.py soak", description=__doc__)
    parser.add_argument(
        "--messages", type=_messages, default=10_000_000, help="judged, a million or more (the usual: %(default)s)"
    )
    parser.add_argument("--seed", type=int, help="of the faults")
    parser.add_argument("--figure", type=Path, metavar="FOLDER", help="where soak.png and soak.svg go")
    arguments = parser.parse_args()
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}; again with: python3 lab.py soak --messages {arguments.messages} --seed {seed}")
    try:
        with own_kafka() as (folder, kafka):
            outcome = soak(folder, kafka, arguments.messages, seed)
    except HousesError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(outcome)
    for path in draw(outcome, arguments.figure) if arguments.figure else ():
        print(path)
    problems = outcome.problems
    if outcome.restart_s > RESTART_LIMIT_S:
        problems.append(f"the first new house after a restart took {outcome.restart_s:.2f} s")
    for problem in problems:
        print(f"Beyond the limit: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(script.run(main))
