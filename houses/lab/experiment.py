"""One object for broker, producers, consumer and output folder: what notebooks and the demo use."""

import gc
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from houses.config.config import Config, load
from houses.config.models import PartFaults
from houses.config.types import check_limits, check_seconds
from houses.errors import FolderError, HousesError, describe_error
from houses.kafka.broker import watermarks
from houses.lab.background import Background
from houses.lab.consumer_process import LOG_NAME, ConsumerChild
from houses.lab.results import Results
from houses.lab.run import Run
from houses.lab.run_folder import experiment_folder, prepare, settings_of
from houses.offsets.binding import load_binding
from houses.producer.producers import Producers
from houses.producer.storno import StornoSender, checked_interval_s
from houses.producer.stream import PartCounts
from houses.records.message import PART_NAMES, PARTS, part_named
from houses.system.crash_points import CrashPoint
from houses.system.files import REAL
from houses.system.log import show_in_notebook

LOG = logging.getLogger(__name__)

_TICK_S = 0.05
_BLIND_DELAY_MS = (150.0, 400.0)
_BLIND_DROP = (0.01, 0.05)
_OPEN: dict[Path, "Experiment"] = {}
"""The open experiments of this process by folder: a cell run twice finds its earlier one here."""

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def _asked(
    method: Callable[Concatenate[Results, Arguments], Answer],
) -> Callable[Concatenate["Experiment", Arguments], Answer]:
    """A question to the results of an experiment, as a method of the experiment itself."""

    @wraps(method)
    def ask(exp: "Experiment", /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        return method(exp.results, *args, **kwargs)

    return ask


class Experiment:
    """Producers in this process, a consumer in its own, topics and a folder that nobody else uses.

    Example:
        with Experiment("first", rate_hz=1000) as exp:
            with exp.running(seconds=10):
                exp.storno(7)
            exp.verify()
    """

    def __init__(
        self,
        name: str,
        rate_hz: float | None = None,
        *,
        fresh: bool = True,
        base: Config | None = None,
        **values: Any,
    ) -> None:
        """Find Kafka or start it, and make topics and folder ready; an earlier experiment on the folder is closed first.

        Args:
            name: names the folder output/runs/NAME and, with a random suffix, the topics and the group.
            rate_hz: houses per second; None: as config.yaml says.
            fresh: start with new topics and an empty folder; False takes up what is there.
            base: the configuration to start from; None: the project's config.yaml.
            values: other keys of config.yaml, `linger_ms=50` or `rates__wall=5`.
        Raises:
            ConfigError, BrokerError, FolderError, PositionError: as the message says.
        """
        show_in_notebook()
        base = base or load()
        folder = experiment_folder(name, base.root)
        self._parameters = settings_of(rate_hz, values)
        if earlier := _OPEN.get(folder):
            (base if fresh else earlier.config).with_values(self._parameters)  # what is refused must not end it
            if earlier.is_running:
                LOG.warning(f"experiment {name!r} was still running: it is stopped first")
            try:
                earlier.close()
            except Exception as error:  # noqa: BLE001  # however it ended, this one can begin
                LOG.warning(f"experiment {name!r}, the earlier one: {describe_error(error)}")
        self._config, self._binding = prepare(base, folder, self._parameters, fresh=fresh)
        self._parameters = self._config.without_secrets(self._parameters)
        self.results = Results(self._config, self._about)
        """What folder and topics hold; most of it can be asked of the experiment itself."""
        self.background = Background()
        """For those who must not wait: `exp.background.submit("stopping", exp.stop)`."""
        self._run: Run | None = None
        self.pauses_ms: list[tuple[int, int]] = []
        """Between two runs: when the producers of one began to stop, and when the next began (Unix time in milliseconds)."""
        self._stornos: StornoSender | None = None
        self.closed = False
        """Whether it was closed: its folder may be another experiment's by now."""
        self._settings = threading.Lock()
        """Held to change settings here and in the run, and to begin or to forget a run."""
        self._lifecycle = threading.RLock()  # a cell and the buttons of a panel may start and stop at once
        self._count_anew()
        if not fresh:
            self._count_what_is_there()
        _OPEN[folder] = self

    def _count_anew(self) -> None:
        self._sent = Counter({part.name: 0 for part in PARTS})
        self._seconds, self._done_ms, self.pauses_ms = 0.0, 0, []

    def _count_what_is_there(self) -> None:
        """Earlier runs count too; how long they were is not known (NaN) when one has ended without a summary."""
        saved, never = self.results.saved_summary(), dict(self._sent)
        ends = watermarks(self._config.kafka, self._config.kafka.topic, (part.partition for part in PARTS))
        self._sent.update({part.name: ends[part.partition][1] for part in PARTS})
        seconds = saved.get("seconds", 0.0) if saved.get("sent", never) == self._sent else None
        self._seconds = math.nan if seconds is None else seconds
        self._parameters = saved.get("parameters", {}) | self._parameters

    def __repr__(self) -> str:
        return f"<Experiment {self.folder.name!r}: {'running' if self.is_running else 'not running'}, {self.folder}>"

    @property
    def sent(self) -> dict[str, int]:
        """Messages handed to Kafka by part, in all runs since it was made anew; `fresh=False` does not make it anew."""
        with self._settings:
            now = run.producers.sent if (run := self._run) else {}
            return {name: number + now.get(name, 0) for name, number in self._sent.items()}

    def _check_is_mine(self) -> None:
        if self.closed:
            name = self.folder.name
            raise HousesError(
                f"experiment {name!r} is closed: take it up again with houses.Experiment({name!r}, fresh=False), "
                "or make a new one (run its cell)"
            )
        if load_binding(REAL, self._config.binding_path) != self._binding:
            raise FolderError(f"{self.folder}: another program has taken it over: choose another name")

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped yet."""
        return (run := self._run) is not None and not run.ended

    @property
    def done_ms(self) -> int:
        """When the producers of the present or the last run began to stop, Unix time in milliseconds; 0 before."""
        return run.done_ms if (run := self._run) else self._done_ms

    def _running(self) -> Run:
        if (run := self._run) is None:
            raise HousesError(f"experiment {self.folder.name!r} does not run: use it inside `with exp.running(...)`")
        return run

    def wait(self, seconds: float) -> None:
        """Sleep, but raise at once when a producer fails or the consumer ends by itself."""
        check_seconds(seconds)
        self._running().wait(seconds)

    def wait_until(self, done: Callable[[], bool], seconds: float, missing: str = "not what was awaited") -> None:
        """`wait` until `done()`.

        Args:
            seconds: how long it may take.
            missing: how the error begins, such as "no house".
        Raises:
            HousesError: it has not come true in that time.
        """
        deadline_s = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline_s:
                raise HousesError(f"{self.folder}: {missing} after {seconds:g} s: see {LOG_NAME} there")
            self.wait(_TICK_S)

    def catch_up(self) -> None:
        """Return when the consumer has read everything that is in the topics now; an error after 30 s."""
        self._running().catch_up()

    # --- producers ---

    def set_rate(self, rate_hz: float, part: str | None = None) -> None:
        """Another rate in messages per second (0: paused) for one part or all, now and for later starts."""
        one = None if part is None else {f"producer.rates.{part_named(part).name}": rate_hz}
        with self._settings:
            self._config = self._config.with_values(one or settings_of(rate_hz, {}))
            if run := self._run:
                run.producers.set_rate(part, rate_hz)

    def set_faults(self, part: str | None = None, **faults: float) -> None:
        """Faults of one part or all, now and for later starts: `drop`, `duplicate`, `malformed` (shares 0 to 1), `delay_ms`.

        Those not named are off.
        """
        names = PART_NAMES if part is None else [part_named(part).name]
        with self._settings:
            self._config = self._config.with_values({f"producer.faults.{name}": faults for name in names})
            if run := self._run:
                run.producers.set_faults(part, self.faults(names[0]))

    def inject_blindly(self, seed: int) -> None:
        """From now on one part is late and one (perhaps the same) loses messages, and nothing else is wrong; `truth` tells which.

        Args:
            seed: the same one chooses the same parts, delay and share.
        """
        check_limits("seed", seed, at_least=0)
        random = Random(seed)
        late, lossy = random.choice(PARTS).name, random.choice(PARTS).name
        faults: dict[str, dict[str, float]] = {late: {"delay_ms": round(random.uniform(*_BLIND_DELAY_MS))}}
        faults.setdefault(lossy, {})["drop"] = round(random.uniform(*_BLIND_DROP), 3)
        self.set_faults()
        for part, values in faults.items():
            self.set_faults(part, **values)

    def rate_hz(self, part: str) -> float:
        """The rate of a part as it is set, in messages per second."""
        return self._config.producer.rate(part_named(part).name)

    def faults(self, part: str) -> PartFaults:
        """The faults of a part as they are set."""
        faults: PartFaults = getattr(self._config.producer.faults, part_named(part).name)
        return faults

    def part_counts(self) -> dict[str, PartCounts]:
        """What each part of the present run has sent, and how fast; empty when nothing runs."""
        return run.producers.counts if (run := self._run) else {}

    @property
    def producer_error(self) -> str:
        """Why a producer of the present run has failed; empty when none has."""
        return describe_error(run.producers.error) if (run := self._run) and run.producers.error else ""

    # --- stornos ---

    def storno(self, house_id: int | None = None, part: str | None = None) -> int:
        """Cancel a house, or one part of it; returns the id when Kafka has the storno.

        Args:
            house_id: None: a random recent one.
            part: foundation, wall or roof; None: the whole house.
        Raises:
            HousesError: the experiment is closed, or no house is known. BrokerError: Kafka did not confirm it.
        """
        self._check_is_mine()
        if house_id is None:
            house_id = self._running().producers.recent_id()
        if house_id is None:
            raise HousesError("no house has been begun yet: wait a moment (exp.wait(1)), or name an id")
        if self._stornos is None:
            self._stornos = StornoSender(self._config)
        self._stornos.send(house_id, part)
        return house_id

    def storno_every(self, interval_s: float | None) -> None:
        """Cancel a random recent house, or one part of it, every so many seconds of this run; None: not any more.

        Raises:
            ConfigError: the interval is not 0.01 to 3600 seconds. HousesError: nothing runs.
        """
        checked_interval_s(self._config, interval_s)
        self._running().storno_every(interval_s)

    @property
    def storno_interval_s(self) -> float | None:
        """Seconds between the stornos that `storno_every` asked for; None without."""
        return run.storno_interval_s if (run := self._run) else None

    @property
    def storno_error(self) -> str:
        """The first error of the present `storno_every`, which goes on all the same; empty without."""
        return describe_error(run.storno_error) if (run := self._run) and run.storno_error else ""

    # --- the consumer ---

    @property
    def consumer(self) -> ConsumerChild | None:
        """The consumer process of the present run, to look at; None when nothing runs."""
        return run.child if (run := self._run) else None

    @property
    def consumer_alive(self) -> bool:
        """Whether the consumer process of the present run lives."""
        return bool((run := self._run) and run.child.alive)

    def kill_consumer(self) -> None:
        """End the consumer process without any warning (SIGKILL); producers go on. `restart_consumer` brings it back."""
        self._running().kill_consumer()

    def crash_consumer(self, at: str) -> None:
        """Let the consumer kill itself at one of its writes; returns when it is dead. `restart_consumer` brings it back.

        Args:
            at: before or after which call on which file, such as `after sync houses.jsonl 200`: dies right after the
                200th time that this file was synced; see `CrashPoint`. The consumer is started anew for that, in good order.
        Raises:
            ConfigError: `at` has another form. HousesError: it does not come there within 30 s.
        """
        self._running().crash_consumer(CrashPoint.parse(at))

    def restart_consumer(self) -> None:
        """Start the consumer again; returns when it has recovered and reads."""
        self._running().restart_consumer()

    # --- running ---

    @contextmanager
    def running(self, seconds: float | None = None, *, complete: bool = True) -> Iterator[Self]:
        """Start, do the body, wait until `seconds` have passed since the start, and stop.

        An exception in the body stops everything at once; so does Ctrl-C or the interrupt of a notebook.

        Args:
            seconds: how long producers run at least; None: as long as the body.
            complete: see `stop`.
        Raises:
            ConfigError: `seconds` cannot be waited for; nothing was started. Else see `start` and `stop`.
        """
        if seconds is not None:
            check_seconds(seconds)
        run = self._started()
        try:
            begun_s = time.monotonic()
            yield self
            if seconds:
                run.wait(seconds - (time.monotonic() - begun_s))
            self._stop(run, complete)
        except BaseException as error:
            self._abort(run, error)  # and no other one that somebody has started since
            raise

    def start(self) -> None:
        """Start the consumer, then, as soon as it reads, the producers. Nothing happens when they run already."""
        self._started()

    def _started(self) -> Run:
        with self._lifecycle:
            if (run := self._run) and not run.ended:
                return run
            self._check_is_mine()
            self._config.dump(self._config.path)
            self.results.forget_certificate()
            self._stornos = self._stornos or StornoSender(self._config)
            with self._settings:  # what is set from now on reaches the run
                run = self._run = Run(self._config)
                self.pauses_ms += [(self._done_ms, time.time_ns() // 1_000_000)] if self._done_ms else []
            try:
                self._check_is_mine()  # somebody may have closed it meanwhile, without seeing this run
                run.start()
            except BaseException as error:
                run.abort(error)
                raise
            finally:
                self._settle(run)
            return run

    def stop(self, *, complete: bool = True) -> None:
        """Stop in good order and write summary.json; nothing happens when nothing runs.

        Producers end, the consumer reads to the end of the topics (30 s at most), saves its position and ends.

        Args:
            complete: False leaves those houses pending of which not every part was sent.
        Raises:
            HousesError: the first error of any part, or the lag when the consumer did not come to the end.
        """
        if run := self._run:
            self._stop(run, complete)

    def _stop(self, run: Run, complete: bool) -> None:
        try:
            run.stop(complete)
        finally:
            self._settle(run)
        self.results.write_summary()

    def send_backlog(self, houses: int) -> None:
        """Send so many whole houses, unpaced, while nothing runs; they wait in Kafka for the next consumer."""
        check_limits("houses", houses, at_least=1)
        with self._lifecycle:
            if self.is_running:
                raise HousesError(f"experiment {self.folder.name!r} runs: send a backlog before its start")
            self._check_is_mine()
            quiet = self._config.with_values(settings_of(0, {}) | {"producer.faults": {}})
            with Producers(quiet, quiet.kafka.topic, quiet.folder) as producers:
                producers.send_through(producers.first_id + houses - 1)
            with self._settings:
                self._sent.update(producers.sent)

    def reset(self) -> None:
        """Stop at once, and begin anew: new topics, an empty folder, counts at 0. All settings stay as they are."""
        self._abort(self._run)  # what is starting in another thread gives up its lock
        with self._lifecycle:
            self._abort(self._run)
            self._check_is_mine()
            made, self._binding = prepare(self._config, self.folder, {}, fresh=True)
            with self._settings:  # rates and faults may have changed meanwhile
                set_now = self._config.producer.model_dump(include={"msgs_per_sec", "rates", "faults"})
                self._config = made.with_values({f"producer.{key}": value for key, value in set_now.items()})
                self._count_anew()
            self._stornos, self.results = None, Results(self._config, self._about)

    def _abort(self, run: Run | None, cause: BaseException | None = None) -> None:
        if run:
            try:
                run.abort(cause)
            finally:
                self._settle(run)

    def _settle(self, run: Run) -> None:
        """Forget a run that has ended: its producers hold a connection as long as they are known."""
        with self._settings:
            if run.ended and self._run is run:
                self._done_ms, self._run = run.done_ms or self._done_ms, None
                self._sent.update(run.producers.sent)
                self._seconds += run.seconds

    # --- what folder and topics hold ---

    @property
    def config(self) -> Config:
        """The configuration in force. Its file stands in `folder`, so every `houses --config` verb works on it."""
        return self._config

    @property
    def folder(self) -> Path:
        """Where all files are."""
        return self._config.folder

    data = _asked(Results.data)
    houses = _asked(Results.houses)
    stornos = _asked(Results.stornos)
    rejects = _asked(Results.rejects)
    pending = _asked(Results.pending)
    pending_at = _asked(Results.pending_at)
    story = _asked(Results.story)
    truth = _asked(Results.truth)
    metrics = _asked(Results.metrics)
    latest = _asked(Results.latest)
    checkpoint = _asked(Results.checkpoint)
    peek = _asked(Results.peek)
    counts = _asked(Results.counts)
    verify = _asked(Results.verify)
    saved_summary = _asked(Results.saved_summary)

    def summary(self) -> dict[str, Any]:
        """Parameters, counts, latencies (ms) and, after `verify`, the certificate: what summary.json holds.

        All of it is of all runs since the experiment was made anew. `sent`: messages handed to Kafka; `seconds`: how long
        producers sent at their rates, NaN (null in the file) when that is not known of an earlier run.
        """
        return self.results.summary()

    # --- afterwards ---

    def _about(self) -> dict[str, Any]:
        """What its summary says besides what folder and topics hold."""
        with self._settings:
            seconds = self._seconds + (run.seconds if (run := self._run) else 0.0)
        return {
            "name": self.folder.name,
            "parameters": self._parameters,
            "rates_hz": {part.name: self._config.producer.rate(part.name) for part in PARTS},
            "seconds": round(seconds, 3),
            "sent": self.sent,
        }

    def close(self) -> None:
        """Stop at once what still runs, and leave the broker; the files stay. May be called again."""
        self.closed = True
        self.background.drop_queued()
        if _OPEN.get(self.folder) is self:
            del _OPEN[self.folder]
        try:
            self._abort(self._run)
        finally:
            self.background.await_begun()
            self._abort(self._run)  # of a start that was just beginning
            self._stornos = None
            gc.collect()  # a Kafka client and its callbacks refer to each other: only the collector lets go of its connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        try:
            self._abort(self._run, error)
        finally:
            self.close()
