"""Starting anew: topics by their ids, the output files that the project knows, the checkpoint record in its store."""

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from houses.config.config import SUMMARY_NAME, Config
from houses.errors import FolderError, PositionError
from houses.kafka.broker import delete_topics, describe_topics, ensure_broker, watermarks
from houses.kafka.clients import TopicInfo
from houses.kafka.local import jvm
from houses.kafka.local import server as local_kafka
from houses.lab.consumer_process import LOG_NAME
from houses.offsets.binding import Binding, load_binding
from houses.offsets.checkpoint import CheckpointStore, FileStore, old_path
from houses.offsets.kafka_store import KafkaStore
from houses.offsets.stores import checkpoint_store
from houses.producer.faults import FAULTS_NAME
from houses.system.files import REAL
from houses.system.locks import ROLES, FolderLock, lock_owner
from houses.system.text import counted
from houses.verify.compact import LIVE_NAME

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResetPlan:
    """What a reset would do, found out before anything is touched."""

    topics: tuple[TopicInfo, ...]
    """To be deleted, by id."""
    messages: int
    """How many they hold."""
    record: str
    """The store whose checkpoint record is to be removed; empty when there is none outside the files."""
    files: tuple[Path, ...]
    archive: Path | None
    """Where the files go; None: they are deleted."""
    clear_kafka: bool = False
    """Instead of the topics, all data of the local Kafka go."""

    def lines(self) -> list[str]:
        """The plan for people, one line a step; empty when there is nothing to do."""
        topics, files = (", ".join(each.name for each in found) for found in (self.topics, self.files))
        where = f"move to {self.archive}" if self.archive else f"delete in {self.files and self.files[0].parent}"
        steps = {
            "stop the local Kafka and delete all its topics, those of experiments too": self.clear_kafka,
            f"delete topics {topics} with {counted(self.messages, 'message')}": self.topics,
            f"delete the checkpoint in {self.record}": self.record,
            f"{where}: {files}": self.files,
        }
        return [line for line, wanted in steps.items() if wanted]


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Nobody is producer or consumer of the folder in the `with` block; `FolderError` when somebody is."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for role in ROLES:
            if owner := lock_owner(folder, role):
                raise FolderError(f"{folder}: process {owner.pid} is its {role}: stop it first (houses stop)")
            stack.enter_context(FolderLock(folder, role))
        yield


def plan_reset(config: Config, *, keep_kafka: bool, archive: bool) -> ResetPlan:
    """Find out what a reset has to do. To be called, like `reset`, inside `exclusive`.

    Args:
        keep_kafka: the topics stay, and with them what speaks of their content: used house ids, injected faults.
        archive: the files are moved to archive/STAMP in their folder instead of deleted.
    Raises:
        BrokerError: Kafka is needed and none answers.
    """
    binding = sound_binding(config, "the topics are taken from config.yaml")
    with closing(checkpoint_store(config)) as store:
        if not keep_kafka or isinstance(store, KafkaStore):
            ensure_broker(config)
        clear = not keep_kafka and deleting_stops_kafka(config)
        topics = () if keep_kafka or clear else _own_topics(config, binding)
        marks = [watermarks(config.kafka, topic.name, range(topic.partitions)).values() for topic in topics]
        return ResetPlan(
            topics,
            sum(end - first for first, end in chain(*marks)),
            store.name if not clear and _holds_own_record(store, binding) else "",
            tuple(path for path in known_files(config, of_topics=not keep_kafka) if path.exists()),
            config.folder / "archive" / datetime.now(UTC).strftime("%Y%m%dT%H%M%S_%f") if archive else None,
            clear,
        )


def sound_binding(config: Config, otherwise: str) -> Binding | None:
    """The binding of the folder, if it has one; of a damaged one only what happens `otherwise` is said."""
    try:
        return load_binding(REAL, config.binding_path)
    except FolderError:
        LOG.info(f"{config.binding_path} is damaged: {otherwise}")
        return None


def _own_topics(config: Config, binding: Binding | None) -> tuple[TopicInfo, ...]:
    """The topics that the folder is bound to, or those that config.yaml names when it never was bound."""
    if binding is None:
        return tuple(describe_topics(config.kafka, [config.kafka.topic, config.consumer.storno_topic]).values())
    names = [topic.name for topic in binding.topics]
    changes = binding.changes(*map(describe_topics(config.kafka, names).get, names))
    others = {change.bound: change.found for change in changes if change.is_other}
    for bound, found in others.items():
        if found is None:
            LOG.info(f"topic {bound.name} does not exist at {config.kafka.bootstrap_servers}: nothing to delete there")
        else:
            LOG.info(f"topic {bound.name} was made anew by somebody else: it stays")
    return tuple(topic for topic in binding.topics if topic not in others)


def _holds_own_record(store: CheckpointStore, binding: Binding | None) -> bool:
    if isinstance(store, FileStore):  # it is among the files
        return False
    try:
        checkpoint = store.load()
    except PositionError:
        return True  # damaged, or of the older consumer: in the way of a new start
    if checkpoint and binding and checkpoint.folder != binding.folder:
        LOG.info(f"{store.name} holds the checkpoint of another folder ({checkpoint.folder}): it stays")
        return False
    return checkpoint is not None


def deleting_stops_kafka(config: Config) -> bool:
    """Whether Kafka would stop when a topic is deleted: the local one on Windows, which cannot rename open files."""
    return sys.platform == "win32" and local_kafka.status(config.data_dir).running


def known_files(config: Config, *, of_topics: bool = True) -> list[Path]:
    """Every file that the project writes into the output folder, in the order in which a reset removes them.

    Those that speak of the topics' content (used house ids, injected faults) only with `of_topics`.

    The checkpoint first and the binding last: a reset that was interrupted can be repeated, and a consumer that is
    started in between finds its position from the files, or refuses them.
    """
    journal = [config.houses_path, config.storno_houses_path, config.rejects_path]
    side = [config.offsets_path, old_path(config.offsets_path), config.storno_ids_path, config.closed_ids_path]
    others = [config.metrics_path, *(config.folder / name for name in OTHER_FILES)]
    others += sorted(config.folder.glob(f"{LIVE_NAME}.*.tmp"))  # of a compact that was killed
    cut = [path.with_name(path.name + ".cut") for path in journal]
    producer = [config.base_id_path, config.folder / FAULTS_NAME] if of_topics else []
    written = [*side, *journal, *others, *cut, *producer, config.binding_path]
    return [one for path in written for one in (path.with_name(path.name + ".tmp"), path)]


OTHER_FILES = (LIVE_NAME, LOG_NAME, SUMMARY_NAME)
"""Files of the output folder beside those that have a name in the configuration."""


def reset(config: Config, plan: ResetPlan) -> None:
    """Carry out a plan. 1. The checkpoint record. 2. The topics. 3. The files.

    Interrupted between two steps it can simply be repeated.
    """
    # 1.
    if plan.record:
        with closing(checkpoint_store(config)) as store:
            store.forget()
        LOG.info(f"Deleted the checkpoint in {plan.record}")
    # 2.
    if plan.clear_kafka:
        local_kafka.stop(config.data_dir)
        jvm.clear_data(config.data_dir)
        LOG.info("Deleted all topics of the local Kafka; it starts again when it is needed")
    elif plan.topics:
        LOG.info(f"Deleted topics: {', '.join(delete_topics(config.kafka, plan.topics)) or 'none, they had gone'}")
    # 3.
    _put_away(plan)


def _put_away(plan: ResetPlan) -> None:
    if not plan.files:
        return
    if plan.archive:
        plan.archive.mkdir(parents=True)
    for path in plan.files:
        if plan.archive:
            REAL.rename(path, plan.archive / path.name)
        else:
            REAL.unlink(path)
    for folder in filter(None, (plan.archive, plan.files[0].parent)):
        REAL.sync_dir(folder)
    files = counted(len(plan.files), "file")
    LOG.info(f"Moved {files} to {plan.archive}" if plan.archive else f"Deleted {files}")
