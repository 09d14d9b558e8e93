"""What may be done to an experiment while it runs, from any thread: rates, faults, stornos, crashes."""

import threading
import time
from collections.abc import Callable
from random import Random

from houses.background import Background
from houses.child import ConsumerChild
from houses.config.config import Config
from houses.config.models import PartFaults
from houses.errors import FolderError, HousesError, describe_error
from houses.offsets.binding import Binding, load_binding
from houses.producer.storno import StornoSender, check_interval
from houses.producer.stream import PartCounts
from houses.records.message import PARTS, part_named
from houses.results import Results
from houses.run import Run
from houses.system.crash_points import CrashPoint
from houses.system.files import REAL
from houses.system.log import Say

_TICK_S = 0.05
_BLIND_DELAY_MS = (150.0, 400.0)
_BLIND_DROP = (0.01, 0.05)


class Steering(Results):
    """The controls of an experiment."""

    def __init__(self, config: Config, binding: Binding, say: Say) -> None:
        """Nothing runs yet."""
        super().__init__(config)
        self._binding, self._say = binding, say
        self._closed = False
        self._run: Run | None = None
        self._done_ms = 0
        self.pauses_ms: list[tuple[int, int]] = []
        """Between two runs: when the producers of one began to stop, and when the next began (Unix time in milliseconds)."""
        self._stornos: StornoSender | None = None
        self._settings = threading.Lock()
        """Held to change settings here and in the run, and to begin or to forget a run."""
        self.background = Background()
        """For those who must not wait: `exp.background.submit("stopping", exp.stop)`."""

    @property
    def closed(self) -> bool:
        """Whether it was closed: its folder may be another experiment's by now."""
        return self._closed

    def _check_is_mine(self) -> None:
        if self._closed:
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
        self._running().wait(seconds)

    def wait_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """`wait` until `done()`, but at most so many seconds; whether it came true."""
        deadline_s = time.monotonic() + seconds
        while not (is_done := done()) and time.monotonic() < deadline_s:
            self.wait(_TICK_S)
        return is_done

    def catch_up(self) -> None:
        """Return when the consumer has read everything that is in the topics now; an error after 30 s."""
        self._running().catch_up()

    # --- producers ---

    def set_rate(self, rate_hz: float, part: str | None = None) -> None:
        """Another rate in messages per second (0: paused) for one part or all, now and for later starts."""
        for_all = {"producer.msgs_per_sec": rate_hz, "producer.rates": {}}
        with self._settings:
            one = part and {f"producer.rates.{part_named(part).name}": rate_hz}
            self._config = self._config.with_values(one or for_all)
            if run := self._run:
                run.producers.set_rate(part, rate_hz)

    def set_faults(self, part: str | None = None, **faults: float) -> None:
        """Faults of one part or all, now and for later starts: `drop`, `duplicate`, `malformed` (shares 0 to 1), `delay_ms`.

        Those not named are off.
        """
        names = [part_named(part).name] if part else [part.name for part in PARTS]
        with self._settings:
            self._config = self._config.with_values({f"producer.faults.{name}": faults for name in names})
            if run := self._run:
                run.producers.set_faults(part, self.faults(names[0]))

    def inject_blindly(self, seed: int) -> None:
        """From now on one part is late and one (perhaps the same) loses messages, and nothing else is wrong; `truth` tells which.

        Args:
            seed: the same one chooses the same parts, delay and share.
        """
        random = Random(seed)
        late, lossy = random.choice(PARTS).name, random.choice(PARTS).name
        faults: dict[str, dict[str, float]] = {late: {}, lossy: {}}
        faults[late]["delay_ms"] = round(random.uniform(*_BLIND_DELAY_MS))
        faults[lossy]["drop"] = round(random.uniform(*_BLIND_DROP), 3)
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
            ConfigError: the interval is not 0.01 to 3600 seconds.
        """
        if interval_s is not None:
            check_interval(interval_s)
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
