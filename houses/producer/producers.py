"""The producers: a thread for each part, one Kafka producer, rates and faults that change while they run."""

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from houses.config.config import Config
from houses.config.models import PartFaults
from houses.errors import FolderError, HousesError
from houses.kafka.reader import last_records
from houses.producer.faults import FAULTS_NAME, FaultLog
from houses.producer.ids import TAIL_RECORDS, IdAllocator, highest_id, pick_recent
from houses.producer.sender import Sender
from houses.producer.stream import TICK_S, PartCounts, PartStream, check_rate
from houses.records.message import PART_NAMES, PARTS, part_named
from houses.system.locks import FolderLock


class Producers:
    """The three producer threads of one folder and topic.

    `with Producers(...)` starts them and stops them completely; after an exception in the body they stop as they are.
    """

    def __init__(self, config: Config, topic: str, folder: Path, *, count: int | None = None) -> None:
        """Nothing happens before `start`.

        Args:
            config: rates, faults and seed to begin with, and how to produce.
            topic: the parts topic; must exist.
            folder: holds producer_base_id.json, faults.jsonl and the lock of the only producer.
            count: so many ids are sent, then the parts fall silent; None: as many as the rates bring.
        """
        self._count = count
        self._end_id: int | None = None
        self._config, self._topic, self._folder = config, topic, folder
        seed = config.producer.seed
        self.seed = secrets.randbits(32) if seed is None else seed
        """What all random choices follow from: config.producer.seed, else drawn; it is in faults.jsonl too."""
        self._random = Random(f"{self.seed}/recent")
        self._rates = {part.name: config.producer.rate(part.name) for part in PARTS}
        self._faults: dict[str, PartFaults] = {part.name: getattr(config.producer.faults, part.name) for part in PARTS}
        self._sender: Sender | None = None
        self._ids: IdAllocator | None = None
        self._settings = threading.Lock()
        """Held to change what is set and the streams that follow it, and to make these streams."""
        self._streams: dict[str, PartStream] = {}
        """Empty, or of all parts: others read it at any time."""
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._stopped = False
        self._resources = ExitStack()
        self.error: Exception | None = None
        """The first error of a thread, if any; `stop` raises it."""

    # --- start and stop ---

    def start(self, meanwhile: Callable[[], None] = lambda: None) -> Self:
        """Take the folder's producer role, find the first free id, and start sending. Once only.

        Args:
            meanwhile: what is to be done before the first message, beside half a second's wait; its error ends the start.
        Raises:
            FolderError: another producer holds the folder, or producer_base_id.json is damaged.
            BrokerError: no broker answers, or the topic is absent.
        """
        if self._sender is not None:
            raise HousesError("these producers were started before: make new ones")
        with ExitStack() as stack:
            stack.enter_context(FolderLock(self._folder, "producer"))
            sender = Sender(self._config, self._topic)
            used = highest_id(last_records(self._config.kafka, self._topic, TAIL_RECORDS))
            ids = IdAllocator(self._folder / self._config.base_id_path.name, used)
            log = FaultLog(self._folder / FAULTS_NAME)
            stack.callback(log.close)
            meanwhile()
            sender.await_producer_id()
            self._sender, self._ids = sender, ids
            self._start_threads(sender, ids, log)
            self._resources = stack.pop_all()
        return self

    def _start_threads(self, sender: Sender, ids: IdAllocator, log: FaultLog) -> None:
        now_s = time.monotonic()
        self._end_id = None if self._count is None else ids.first + self._count
        with self._settings:
            streams = {part.name: PartStream(part, sender, ids, log, self.seed) for part in PARTS}
            for name, stream in streams.items():
                stream.begin(now_s, self._rates[name], self._faults[name], self._end_id)
            self._streams = streams
        self._threads = [
            threading.Thread(target=self._run, args=(stream, sender, log), name=name, daemon=True)
            for name, stream in streams.items()
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, stream: PartStream, sender: Sender, log: FaultLog) -> None:
        try:
            while not self._stopping.is_set():
                started_s = time.monotonic()
                stream.tick(self._stopping.is_set)
                sender.poll()
                log.flush_sometimes()
                self._stopping.wait(max(0.0, started_s + TICK_S - time.monotonic()))
        except Exception as error:  # noqa: BLE001  # raised again by stop(), in the thread that can show it
            self._note(error)

    def _note(self, error: Exception) -> None:
        if isinstance(error, OSError):
            error = FolderError(f"{self._folder}: {error}: make room or mend the disk, then start again")
        self.error = self.error or error

    def send_through(self, house_id: int) -> None:
        """Every part sends on, unpaced and without faults, until it has sent `house_id`; also while it is paused.

        Ids that were dropped or malformed before stay so.
        """
        going = list(self._streams.values())
        while going:  # in turns, so that houses become complete on the way
            going = [stream for stream in going if stream.approach(house_id)]

    def stop(self, complete: bool = True, timeout_s: float = 4.0) -> None:
        """End the threads, flush, leave the broker and the folder; raise the first error since the start.

        May be called again when it was interrupted.

        1. No new ids: the threads end. 2. The same ids in every part. 3. All of it confirmed by Kafka; ids that were
        reserved and not used are given back.

        Args:
            complete: first bring every part, also a paused or delayed one, to the highest id that any part has begun.
                This last stretch has no faults, so stopping itself leaves no house pending.
            timeout_s: give up when no message gets through for that long (the broker is away).
        Raises:
            HousesError: the first error of a thread, else how many messages were not delivered and why.
        """
        sender, ids = self._sender, self._ids
        if sender is None or ids is None or self._stopped:
            return
        interrupted = self._stopping.is_set()  # a stop before this one did not come to its end
        # 1.
        sender.limit_patience(timeout_s)
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        # 2.
        if complete and not interrupted and not self.error:
            self._guarded(lambda: self.send_through(self.highest_id))
        # 3.
        self._guarded(sender.close)
        self._guarded(lambda: ids.release(self.highest_id + 1))
        self._resources.close()
        self._stopped = True
        if self.error:
            raise self.error

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (HousesError, OSError) as error:
            self._note(error)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
            return
        with suppress(HousesError):  # the error on its way out came first
            self.stop(complete=False)

    # --- while running ---

    def set_rate(self, part_name: str | None, rate_hz: float) -> None:
        """Another rate for one part, or for all (None): 0 (paused) to 20,000 messages per second each.

        Parts that are changed together stay together. A delayed part meets the change its delay later.
        """
        check_rate(rate_hz)
        with self._settings:
            now_s = time.monotonic()
            for name in _names(part_name):
                self._rates[name] = rate_hz
                if self._streams:
                    self._streams[name].set_rate(now_s, rate_hz)

    def set_faults(self, part_name: str | None, faults: PartFaults) -> None:
        """Other faults for one part, or for all (None), from its next batch on."""
        with self._settings:
            for name in _names(part_name):
                self._faults[name] = faults
                if self._streams:
                    self._streams[name].set_faults(faults)

    @property
    def sent(self) -> dict[str, int]:
        """Messages handed to Kafka by each part."""
        return {name: stream.sent for name, stream in self._streams.items()}

    @property
    def counts(self) -> dict[str, PartCounts]:
        """Everything known of each part at this moment."""
        return {name: stream.counts() for name, stream in self._streams.items()}

    @property
    def queued(self) -> int:
        """Messages handed over that Kafka has not confirmed yet."""
        return self._sender.queued if self._sender else 0

    @property
    def failed(self) -> int:
        """Messages that Kafka did not take."""
        return self._sender.failed if self._sender else 0

    @property
    def done(self) -> bool:
        """Whether each part has sent the `count` of ids that was asked for."""
        end_id = self._end_id
        return end_id is not None and all(stream.next_id >= end_id for stream in self._streams.values())

    @property
    def first_id(self) -> int:
        """The first id of this run; 0 before the start."""
        return self._ids.first if self._ids else 0

    @property
    def highest_id(self) -> int:
        """The highest id that any part has begun; first_id - 1 when there is none."""
        return max((stream.next_id for stream in self._streams.values()), default=self.first_id) - 1

    def recent_id(self) -> int | None:
        """A random one of the newest ids of this run, None before the first."""
        return pick_recent(self._random, self.first_id, self.highest_id)


def _names(part_name: str | None) -> list[str]:
    return PART_NAMES if part_name is None else [part_named(part_name).name]
