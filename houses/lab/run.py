"""One run of an experiment: producers in this process and a consumer in its own, from their start to their stop."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from houses.config.config import Config
from houses.errors import HousesError
from houses.kafka.broker import watermarks
from houses.lab.consumer_process import ConsumerChild
from houses.producer.producers import Producers
from houses.producer.storno import StornoLoop
from houses.records.message import STORNO
from houses.system.crash_points import CrashPoint

_TICK_S = 0.05
_ABORTED = (
    "it was stopped at once by somebody else, so not all was sent and read: "
    "close, reset or make an experiment again only when it does not run"
)


class Run:
    """Producers and consumer together. Started once and stopped once; both steps may be asked for by any thread."""

    def __init__(self, config: Config) -> None:
        """Nothing is started yet; `config.path` must hold the configuration."""
        self._config = config
        self._lock = threading.RLock()  # the handlers of a panel run in a thread of their own
        self._begun_s: float | None = None
        self._done_s: float | None = None
        """When producers were started, and when their stop began (monotonic clock)."""
        self.done_ms = 0
        """When their stop began, Unix time in milliseconds; 0 before."""
        self.child = ConsumerChild(config)
        self.producers = Producers(config, config.kafka.topic, config.folder)
        self._storno_loop: StornoLoop | None = None
        self._failure: BaseException | None = None
        """Why it did not end in good order."""
        self._unwanted = False
        """`abort` was called, perhaps in the middle of the start."""
        self.ended = False
        """Whether it was stopped, in whatever way."""

    def start(self) -> None:
        """Producers send as soon as the consumer reads. When one of them fails, neither is left."""
        with self._lock:
            try:
                self._check_wanted()
                self.producers.start(meanwhile=self._start_child)
                self._check_wanted()
                self._begun_s = time.monotonic()
            except BaseException as error:
                self.abort(error)
                raise

    def _start_child(self) -> None:
        self._check_wanted()
        self.child.start()

    def _check_wanted(self) -> None:
        if self._unwanted or self.ended:
            raise HousesError(_ABORTED)

    def wait(self, seconds: float) -> None:
        """Sleep, but raise at once when a producer fails or the consumer ends by itself."""
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0 and not self.ended:
            self._check()
            time.sleep(min(left_s, _TICK_S))

    def _check(self) -> None:
        with self._lock:  # while another thread restarts the consumer, there is none for a moment
            if self.producers.error and not self.ended:
                raise self.producers.error
            if not self.ended:
                self.child.check()

    def stop(self, complete: bool) -> None:
        """Stop in good order. When it was stopped before, by whomever, nothing happens but that stop's error.

        1. No more stornos. 2. Producers: every part sends on to the highest id that any has begun (if `complete`), and
        all is confirmed. 3. The consumer reads to the end of the topics, 30 s at most. 4. It saves its position and ends.

        Raises:
            HousesError: the first error of any part, or the lag when the consumer did not come to the end.
        """
        with self._lock:
            if self.ended:
                if self._failure:
                    raise self._failure
                return
            if self._begun_s is None:  # the start comes after this, and finds it ended
                self.ended = True
                return
            try:
                failed_storno = _error_of(self.storno_every)  # 1.; it is no reason to leave the rest undone
                self._stop_producers(complete)  # 2.
                self.child.drain(self._targets())  # 3.
                self.child.stop()  # 4.
            except BaseException as error:
                self._failure = error
                self.abort(error)
                raise
            self._failure, self.ended = failed_storno, True
            if failed_storno:
                raise failed_storno

    def _targets(self) -> dict[int, int]:
        kafka, storno_topic = self._config.kafka, self._config.consumer.storno_topic
        ends = {partition: end for partition, (_, end) in watermarks(kafka, kafka.topic, (0, 1, 2)).items()}
        return ends | {STORNO: watermarks(kafka, storno_topic, (0,))[0][1]}

    def abort(self, cause: BaseException | None = None) -> None:
        """Stop both at once; houses stay pending and messages unread, but nothing is lost.

        Args:
            cause: the exception on its way out; what else goes wrong is noted on it instead of raised.
        """
        self._unwanted = True
        self.child.ask_to_stop()  # at once: another thread may hold the lock while it waits for the consumer
        with self._lock:
            if self.ended:
                return
            self.child.ask_to_stop()
            steps = (self.storno_every, lambda: self._stop_producers(complete=False), self.child.stop)
            errors = [error for error in map(_error_of, steps) if error]
            self._failure = self._failure or cause or HousesError(_ABORTED)
            self.ended = True
            for error in errors:
                if cause is None:
                    raise error
                if str(error) not in str(cause):
                    cause.add_note(str(error))

    def _stop_producers(self, complete: bool) -> None:
        if self._done_s is None:
            self._done_s, self.done_ms = time.monotonic(), time.time_ns() // 1_000_000
        self.producers.stop(complete=complete)

    def kill_consumer(self) -> None:
        """End the consumer without any warning (SIGKILL)."""
        with self._lock:
            self.child.kill()

    def crash_consumer(self, point: CrashPoint) -> None:
        """Start the consumer anew so that it dies at that point; returns when it is dead."""
        with self._lock:
            self._start_anew(point)
            self.child.await_crash()

    def restart_consumer(self) -> None:
        """Start a consumer again, after it was killed or, if it runs, stopped in good order; returns when it reads."""
        with self._lock:
            self._start_anew(None)

    def _start_anew(self, point: CrashPoint | None) -> None:
        if self.ended:
            return
        with suppress(HousesError):  # why the earlier one ended was said by it; the new one is what counts
            self.child.stop()
        self.child = ConsumerChild(self._config, point)
        self.child.start()

    # --- while running ---

    @property
    def seconds(self) -> float:
        """How long producers have sent at their rates: neither the start nor what is done at the stop counts."""
        return 0.0 if self._begun_s is None else (self._done_s or time.monotonic()) - self._begun_s

    def catch_up(self) -> None:
        """Return when the consumer, or the one that takes its place, has read up to the present ends of the topics."""
        ends = self._targets()
        while True:
            child = self.child
            try:
                child.drain(ends)
                return
            except HousesError:
                with self._lock:  # whoever restarts or stops it has it until that is done
                    if self.ended and self._failure is None:
                        return  # a stop in good order has read everything
                    if self.child is child:
                        raise

    def storno_every(self, interval_s: float | None = None) -> None:
        """Cancel a random recent house every so many seconds; None ends that and raises the first error of it."""
        with self._lock:
            loop, self._storno_loop = self._storno_loop, None
            if loop:
                loop.stop()
            if interval_s is not None and not self.ended:
                self._storno_loop = StornoLoop(self._config, self.producers.recent_id, interval_s).start()

    @property
    def storno_error(self) -> Exception | None:
        """The first error of the present `storno_every`, which goes on all the same."""
        return loop.error if (loop := self._storno_loop) else None

    @property
    def storno_interval_s(self) -> float | None:
        """Seconds between stornos; None without."""
        return loop.interval_s if (loop := self._storno_loop) else None


def _error_of(step: Callable[[], None]) -> Exception | None:
    try:
        step()
    except Exception as error:  # noqa: BLE001  # the other steps must be done all the same; the caller raises it
        return error
    return None
