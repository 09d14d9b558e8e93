"""One object for broker, producers, consumer and output folder: what notebooks and the demo use."""

import gc
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from houses.config.config import Config, load
from houses.errors import HousesError, describe_error
from houses.kafka.broker import watermarks
from houses.producer.producers import Producers
from houses.producer.storno import StornoSender
from houses.records.message import PARTS
from houses.run import Run
from houses.runfolder import full_keys, prepare, run_folder
from houses.steering import Steering
from houses.system.log import Say, be_silent, in_main_thread, warn

_OPEN: dict[Path, "Experiment"] = {}
"""The open experiments of this process by folder: a cell run twice finds its earlier one here."""


class Experiment(Steering):
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
        say: Say = be_silent,
        base: Config | None = None,
        **values: Any,
    ) -> None:
        """Find Kafka or start it, and make topics and folder ready; an earlier experiment on the folder is closed first.

        Args:
            name: names the folder output/runs/NAME and, with a random suffix, the topics and the group.
            rate_hz: houses per second; None: as config.yaml says.
            fresh: start with new topics and an empty folder; False takes up what is there.
            say: told of what takes long, such as the start of Kafka.
            base: the configuration to start from; None: the project's config.yaml.
            values: other keys of config.yaml, `linger_ms=50` or `rates__wall=5`.
        Raises:
            ConfigError, BrokerError, FolderError, PositionError: as the message says.
        """
        base = base or load()
        folder = run_folder(name, base.root)
        rates = {} if rate_hz is None else {"producer.msgs_per_sec": rate_hz, "producer.rates": {}}
        self._parameters = rates | full_keys(values)
        if earlier := _OPEN.get(folder):
            if earlier.is_running:
                warn(f"experiment {name!r} was still running: it is stopped first")
            try:
                earlier.close()
            except Exception as error:  # noqa: BLE001  # however it ended, this one can begin
                warn(f"experiment {name!r}, the earlier one: {describe_error(error)}")
        config, binding = prepare(base, folder, self._parameters, say, fresh=fresh)
        self._parameters = config.without_secrets(self._parameters)
        super().__init__(config, binding, in_main_thread(say))
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
        saved, never = self.saved_summary(), dict(self._sent)
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

    # --- running ---

    @contextmanager
    def running(self, seconds: float | None = None, *, complete: bool = True) -> Iterator[Self]:
        """Start, do the body, wait until `seconds` have passed since the start, and stop.

        An exception in the body stops everything at once; so does Ctrl-C or the interrupt of a notebook.

        Args:
            seconds: how long producers run at least; None: as long as the body.
            complete: see `stop`.
        """
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
            self._certificate = None
            self._stornos = self._stornos or StornoSender(self._config)
            with self._settings:  # what is set from now on reaches the run
                run = self._run = Run(self._config, self._say)
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
            complete: False leaves those houses incomplete of which not every part was sent.
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
        self.write_summary()

    def send_backlog(self, houses: int) -> None:
        """Send so many whole houses, unpaced, while nothing runs; they wait in Kafka for the next consumer."""
        with self._lifecycle:
            if self.is_running:
                raise HousesError(f"experiment {self.folder.name!r} runs: send a backlog before its start")
            self._check_is_mine()
            quiet = self._config.with_values({"producer.msgs_per_sec": 0, "producer.rates": {}, "producer.faults": {}})
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
            made, self._binding = prepare(self._config, self.folder, {}, self._say, fresh=True)
            with self._settings:  # rates and faults may have changed meanwhile
                set_now = self._config.producer.model_dump(include={"msgs_per_sec", "rates", "faults"})
                self._config = made.with_values({f"producer.{key}": value for key, value in set_now.items()})
                self._count_anew()
            self._stornos, self._certificate, self._loaded = None, None, None

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

    # --- afterwards ---

    def summary(self) -> dict[str, Any]:
        """Parameters, counts, latencies (ms) and, after `verify`, the certificate: what summary.json holds.

        All of it is of all runs since the experiment was made anew. `sent`: messages handed to Kafka; `seconds`: how long
        producers sent at their rates, NaN (null in the file) when that is not known of an earlier run.
        """
        with self._settings:
            seconds = self._seconds + (run.seconds if (run := self._run) else 0.0)
        return {
            "name": self.folder.name,
            "parameters": self._parameters,
            "rates_hz": {part.name: self._config.producer.rate(part.name) for part in PARTS},
            "seconds": round(seconds, 3),
            "sent": self.sent,
        } | super().summary()

    def close(self) -> None:
        """Stop at once what still runs, and leave the broker; the files stay. May be called again."""
        self._closed = True
        self.background.drop_waiting()
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
