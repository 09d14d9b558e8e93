"""One object for broker, producers, consumer and output folder: what notebooks and the demo use."""

import gc
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from houses.checkpoint import load_binding
from houses.clients import Say, be_silent
from houses.config import Config, load
from houses.errors import FolderError, HousesError
from houses.files import REAL
from houses.message import PARTS
from houses.results import Results
from houses.run import Run
from houses.runfolder import full_keys, prepare, run_folder
from houses.storno import StornoSender
from houses.stream import part_named

_OPEN: dict[Path, "Experiment"] = {}
"""The open experiments of this process by folder: a cell run twice finds its earlier one here."""


class Experiment(Results):
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
            earlier.close()
        config, self._binding = prepare(base, folder, self._parameters, say, fresh=fresh)
        super().__init__(config)
        self._say = say
        self._run: Run | None = None
        self._stornos: StornoSender | None = None
        self._sent = Counter({part.name: 0 for part in PARTS})
        self._seconds = 0.0
        self._closed = False
        _OPEN[folder] = self

    def __repr__(self) -> str:
        return f"<Experiment {self.folder.name!r}: {'running' if self.is_running else 'not running'}, {self.folder}>"

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped yet."""
        return self._run is not None and not self._run.ended

    @property
    def sent(self) -> dict[str, int]:
        """Messages handed to Kafka by this object, by part."""
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
        try:
            self.start()
            begun_s = time.monotonic()
            yield self
            if seconds and self._run:  # the body may have stopped it
                self.wait(seconds - (time.monotonic() - begun_s))
            self.stop(complete=complete)
        except BaseException as error:
            self._abort(error)
            raise

    def start(self) -> None:
        """Start the consumer, then, as soon as it reads, the producers. Nothing happens when they run already."""
        if self.is_running:
            return
        if self._closed:
            raise HousesError(f"experiment {self.folder.name!r} is closed: make it again (run its cell)")
        if load_binding(REAL, self._config.binding_path) != self._binding:
            raise FolderError(f"{self.folder}: another program has taken it over: choose another name")
        self._config.dump(self._config.path)
        self._certificate = None
        self._stornos = self._stornos or StornoSender(self._config)
        run = self._run = Run(self._config, self._say)
        try:
            run.start()
        finally:
            self._settle(run)

    def wait(self, seconds: float) -> None:
        """Sleep, but raise at once when a producer fails or the consumer ends by itself."""
        self._running().wait(seconds)

    def stop(self, *, complete: bool = True) -> None:
        """Stop in good order and write summary.json; nothing happens when nothing runs.

        Producers end, the consumer reads to the end of the topics (30 s at most), saves its position and ends.

        Args:
            complete: False leaves those houses incomplete of which not every part was sent.
        Raises:
            HousesError: the first error of any part, or the lag when the consumer did not come to the end.
        """
        if (run := self._run) is None:
            return
        try:
            run.stop(complete)
        finally:
            self._settle(run)
        self.write_summary()

    def _abort(self, cause: BaseException | None) -> None:
        if run := self._run:
            try:
                run.abort(cause)
            finally:
                self._settle(run)

    def _settle(self, run: Run) -> None:
        """Forget a run that has ended: its producers hold a connection as long as they are known."""
        if run.ended and self._run is run:
            self._run = None
            self._sent.update(run.producers.sent)
            self._seconds += run.seconds

    def _running(self) -> Run:
        if (run := self._run) is None:
            raise HousesError(f"experiment {self.folder.name!r} does not run: use it inside `with exp.running(...)`")
        return run

    def kill_consumer(self) -> None:
        """End the consumer process without any warning (SIGKILL); producers go on. `restart_consumer` brings it back."""
        self._running().kill_consumer()

    def restart_consumer(self) -> None:
        """Start the consumer again; returns when it has recovered and reads."""
        self._running().restart_consumer()

    # --- while running ---

    def storno(self, house_id: int | None = None, part: str | None = None) -> int:
        """Cancel a house, or one part of it; returns the id when Kafka has the storno.

        Args:
            house_id: None: a random recent one.
            part: foundation, wall or roof; None: the whole house.
        """
        if house_id is None:
            house_id = self._running().producers.recent_id()
        if house_id is None:
            raise HousesError("no house has been begun yet: wait a moment (exp.wait(1)), or name an id")
        if self._stornos is None:
            self._stornos = StornoSender(self._config)
        self._stornos.send(house_id, part)
        return house_id

    def set_rate(self, rate_hz: float, part: str | None = None) -> None:
        """Another rate in messages per second (0: paused) for one part or all, now and for later starts."""
        for_all = {"producer.msgs_per_sec": rate_hz, "producer.rates": {}}
        self._config = self._config.with_values(
            {f"producer.rates.{part_named(part).name}": rate_hz} if part else for_all
        )
        if run := self._run:
            run.producers.set_rate(part, rate_hz)

    def set_faults(self, part: str | None = None, **faults: float) -> None:
        """Faults of one part or all, now and for later starts: `drop`, `duplicate`, `malformed` (shares 0 to 1), `delay_ms`.

        Those not named are off.
        """
        names = [part_named(part).name] if part else [part.name for part in PARTS]
        self._config = self._config.with_values({f"producer.faults.{name}": faults for name in names})
        if run := self._run:
            run.producers.set_faults(part, getattr(self._config.producer.faults, names[0]))

    # --- afterwards ---

    def summary(self) -> dict[str, Any]:
        """Parameters, counts, latencies (ms) and, after `verify`, the certificate: what summary.json holds."""
        return {
            "name": self.folder.name,
            "parameters": self._parameters,
            "rates_hz": {part.name: self._config.producer.rate(part.name) for part in PARTS},
            "seconds": round(self._seconds, 3),
            "sent": self.sent,
        } | super().summary()

    def close(self) -> None:
        """Stop at once what still runs, and leave the broker; the files stay. May be called again."""
        self._closed = True
        if _OPEN.get(self.folder) is self:
            del _OPEN[self.folder]
        self._stornos = None
        try:
            self._abort(None)
        finally:
            gc.collect()  # a Kafka client and its callbacks refer to each other: only the collector lets go of its connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self._abort(error)
        self.close()
