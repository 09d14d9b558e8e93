"""The join consumer of a folder: all that one run needs, opened in order and closed again; and the process that is it."""

import gc
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing

from houses.config.config import Config
from houses.consumer.checkpointer import Checkpointer
from houses.consumer.loop import ConsumerLoop
from houses.consumer.recovery import BrokerView, recover
from houses.consumer.reporter import Reporter, outcomes
from houses.consumer.source import Source
from houses.kafka.broker import ensure_broker, ensure_topics, watermarks
from houses.offsets.stores import checkpoint_store
from houses.system.crash_points import CrashingOps, CrashPoint
from houses.system.files import REAL, FileOps
from houses.system.locks import FolderLock
from houses.system.stopping import StoppedEarly, StopRequest

LOG = logging.getLogger(__name__)


def look_at_broker(config: Config) -> BrokerView:
    """Topics (made when absent) and their first and end offsets."""
    parts, storno = ensure_topics(config)
    ends = watermarks(config.kafka, parts.name, (0, 1, 2))
    return BrokerView(parts, storno, (*(ends[p] for p in (0, 1, 2)), watermarks(config.kafka, storno.name, (0,))[0]))


def consume(
    config: Config,
    should_stop: Callable[[], bool],
    *,
    ops: FileOps = REAL,
    accept_gap: bool = False,
    rescan: bool = False,
    until_end: bool = False,
) -> Counter[str]:
    """Run the consumer of a folder in this thread until `should_stop()`; returns the outcomes by kind.

    Args:
        ops: the file operations; another object stands for another disk.
        accept_gap: go on although records were deleted before they were read; one `gap` line a partition says so.
        rescan: forget the checkpoint and read the files instead.
        until_end: stop at the end that the topics have now.
    Raises:
        FolderError, PositionError, BrokerError: as the message says; what was written stays valid.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    with FolderLock(config.folder, "consumer"):
        reporter = Reporter(config.metrics_path)
        try:
            broker = look_at_broker(config)
            with closing(checkpoint_store(config, ops)) as store:
                if rescan:
                    store.forget()
                recovered = recover(config, ops, store, broker, accept_gap=accept_gap)
                with closing(recovered.journal), closing(Source(config)) as source:
                    checkpointer = Checkpointer(config, ops, store, recovered, time.monotonic())
                    loop = ConsumerLoop(config.consumer, recovered, checkpointer, source, reporter, should_stop)
                    counts = loop.run([end for _, end in broker.watermarks] if until_end else None)
        except (StoppedEarly, Exception) as error:
            reporter.close(error)
            raise
        reporter.close()
        return counts


_STOP_LIMIT_S = 4.5
_COLLECT_EVERY_S = 60.0
_GIVEN_UP = f"Not finished {_STOP_LIMIT_S} s after the stop request: leaving without a last checkpoint; nothing is lost"


def run_consumer(
    config: Config,
    *,
    accept_gap: bool = False,
    rescan: bool = False,
    until_end: bool = False,
    stop_with_stdin: bool = False,
    crash_at: str | None = None,
) -> int:
    """Be the consumer of a folder until told to stop; returns the exit status: 0, or 130 after Ctrl-C.

    Args:
        accept_gap, rescan, until_end: see `consumer.consume`.
        stop_with_stdin: the end of stdin, or of the parent process, is a stop request.
        crash_at: where the process kills itself, as `CrashPoint.parse` reads it.
    Raises:
        HousesError: as `consumer.consume`, and when there is no broker.
    """
    ops = REAL if crash_at is None else CrashingOps(CrashPoint.parse(crash_at))
    stop = StopRequest(config.folder, "consumer")
    try:
        # What is durable needs no farewell: leaving at the limit is like a crash, and costs a longer restart only.
        stop.listen(stdin=stop_with_stdin, limit_s=_STOP_LIMIT_S, give_up=lambda: LOG.info(_GIVEN_UP))
        ensure_broker(config)
        asked = CalmCollector(stop.should_stop)
        counts = consume(config, asked, ops=ops, accept_gap=accept_gap, rescan=rescan, until_end=until_end)
    except StoppedEarly:
        LOG.info("Stopped before anything was read")
    else:
        LOG.info(f"Stopped: {outcomes(counts) or 'nothing new was read'}")
    return stop.exit_status


class CalmCollector:
    """Asks the loop's question, and keeps Python's garbage collector away from it.

    The loop makes no cycles, and a collection in its middle walks all pending parts. Errors do leave a few behind: so
    there is a collection a minute, between two batches, over what has come since the last one, the rest being frozen.
    """

    def __init__(self, question: Callable[[], bool]) -> None:
        """From now on nothing is collected by itself."""
        self._question = question
        self._collect()
        gc.disable()

    def __call__(self) -> bool:
        """The answer to the question."""
        if time.monotonic() > self._due_s:
            self._collect()
        return self._question()

    def _collect(self) -> None:
        gc.collect()
        gc.freeze()
        self._due_s = time.monotonic() + _COLLECT_EVERY_S
