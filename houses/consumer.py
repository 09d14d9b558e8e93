"""The join consumer of a folder: everything that one run needs, opened in order and closed again."""

from collections import Counter
from collections.abc import Callable
from contextlib import closing

from houses.config.config import Config
from houses.kafka.broker import ensure_topics, watermarks
from houses.loop import ConsumerLoop
from houses.offsets.stores import checkpoint_store
from houses.records.metrics import Reporter
from houses.recovery import BrokerView, recover
from houses.source import Source
from houses.system.files import REAL, FileOps
from houses.system.locks import FolderLock
from houses.system.log import Say
from houses.system.stopping import StoppedEarly


def look_at_broker(config: Config, say: Say) -> BrokerView:
    """Topics (made when absent) and their first and end offsets."""
    parts, storno = ensure_topics(config, say)
    ends = watermarks(config.kafka, parts.name, (0, 1, 2))
    return BrokerView(parts, storno, (*(ends[p] for p in (0, 1, 2)), watermarks(config.kafka, storno.name, (0,))[0]))


def consume(
    config: Config,
    should_stop: Callable[[], bool],
    say: Say,
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
            broker = look_at_broker(config, say)
            with closing(checkpoint_store(config, ops)) as store:
                if rescan:
                    store.forget()
                recovered = recover(config, ops, store, broker, accept_gap=accept_gap, say=say)
                with closing(recovered.journal), closing(Source(config, say)) as source:
                    loop = ConsumerLoop(config, ops, store, recovered, source, reporter, should_stop, say)
                    counts = loop.run([end for _, end in broker.watermarks] if until_end else None)
        except StoppedEarly:
            reporter.metrics.state = "stopped"
            reporter.close()
            raise
        except Exception as error:
            reporter.close(error)
            raise
        reporter.close()
        return counts
