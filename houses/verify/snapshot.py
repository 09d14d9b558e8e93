"""What `verify`, `story` and `pending` start from: positions, lengths and ends that fit together, while a consumer may run."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from houses.config.config import Config
from houses.errors import BrokerError, MessageError, PositionError
from houses.kafka.broker import describe_topics, watermarks
from houses.kafka.clients import TopicInfo
from houses.offsets.binding import load_binding
from houses.offsets.checkpoint import Checkpoint
from houses.offsets.stores import checkpoint_store
from houses.records.blocks import Block, Ints, blocks, file_length, integers
from houses.records.lines import HouseLine, parse_reject_line, split_lines
from houses.records.message import PARTS, STORNO, Reject
from houses.records.metrics import last_metrics
from houses.records.registers import Register, decode_stornos
from houses.system.files import REAL
from houses.system.locks import lock_owner

HOUSES, CANCELLED, REJECTS = range(3)
"""The files, in the order of journal.FILES."""

T = TypeVar("T")

_TRIES = 10
_RETRY_S = 0.05


@dataclass(frozen=True)
class Snapshot:
    """A folder and its topics at one moment.

    Partitions 0 to 2, then the storno topic; files in the order of journal.FILES.
    """

    topics: tuple[str, str]
    files: tuple[Path, Path, Path]
    is_running: bool
    """Whether a consumer holds the folder."""
    checkpoint: Checkpoint | None
    problem: str
    """Why the checkpoint that is there cannot be used, or nothing."""
    register: Register
    register_path: Path
    lengths: tuple[int, ...]
    marks: tuple[tuple[int, int], ...]
    """First offset that Kafka still has, and the end."""
    said: Mapping[str, Any]
    """The last line of metrics.jsonl; empty without one."""

    @cached_property
    def low(self) -> tuple[int, ...]:
        """Per partition of the parts topic: below it every record has a line, or is gone from Kafka."""
        low = self.checkpoint.low if self.checkpoint else (0, 0, 0)
        return tuple(max(offset, first) for offset, (first, _) in zip(low, self.marks[:STORNO], strict=True))

    def blocks(self, file: int) -> Iterator[Block]:
        """One of the three files, as long as it was."""
        return blocks(self.files[file], self.lengths[file])

    def rejects(self) -> Iterator[Reject]:
        """The lines of rejects.jsonl about records of the parts topic."""
        for block in self.blocks(REJECTS):
            for reject in known_lines(block, lambda data: parse_reject_line(data, self.topics)):
                if reject.partition != STORNO and reject.reason != "gap":
                    yield reject

    @property
    def position(self) -> tuple[int, ...]:
        """Next offset per partition of the parts topic; 0 without a checkpoint."""
        return self.checkpoint.next if self.checkpoint else (0, 0, 0)

    @property
    def storno_position(self) -> int:
        """Next offset of the storno topic; 0 without a checkpoint."""
        return self.checkpoint.storno_next if self.checkpoint else 0

    @property
    def reached(self) -> tuple[int, ...]:
        """Next offsets, that of the storno topic last: the positions, or what the consumer has said since its checkpoint."""
        said = (*self.said.get("position", (0, 0, 0)), self.said.get("storno_position", 0))
        return tuple(map(max, (*self.position, self.storno_position), said))


def known_lines(block: Block, parse: Callable[[bytes], T]) -> Iterator[T]:
    """What the whole lines of a block say; what is no line is for `verify` to report."""
    for data in () if block.is_torn else split_lines(block.data):
        with suppress(MessageError):
            yield parse(data)


def offset_columns(lines: Sequence[HouseLine]) -> tuple[Ints, list[Ints]]:
    """The ids of houses, and per partition the offsets of their parts; -1 where a line does not give it."""
    offsets = [integers(line.offsets.get(part.partition, -1) for line in lines) for part in PARTS]
    return integers(line.id for line in lines), offsets


def take_snapshot(config: Config) -> Snapshot:
    """Look at a folder and its topics.

    1. Checkpoint and register: all that they speak of is in the files by now. 2. Lengths of the files, the last written
    first: what a line refers to is in the others by now. 3. Ends of the topics: all that the lines refer to is below them.

    Raises:
        PositionError: the topics are not those that the folder was filled from.
        BrokerError: there are no such topics, or no broker.
    """
    # Asked first: a consumer that stops meanwhile only makes the check more lenient than it need be.
    is_running = lock_owner(config.folder, "consumer") is not None
    # 1. checkpoint, register
    _check_binding(config)
    checkpoint, register, problem = _positions(config)
    said = last_metrics(config.metrics_path) or {}
    # 2. lengths
    files = (config.houses_path, config.storno_houses_path, config.rejects_path)
    lengths = tuple(file_length(path) for path in reversed(files))[::-1]
    # 3. ends
    topics = (config.kafka.topic, config.consumer.storno_topic)
    marks = watermarks(config.kafka, topics[0], [part.partition for part in PARTS])
    storno_marks = watermarks(config.kafka, topics[1], [0])
    return Snapshot(
        topics,
        files,
        is_running,
        None if problem else checkpoint,
        problem,
        register,
        config.storno_ids_path,
        lengths,
        (*(marks[part.partition] for part in PARTS), storno_marks[0]),
        said,
    )


def _check_binding(config: Config) -> None:
    names = (config.kafka.topic, config.consumer.storno_topic)
    described = describe_topics(config.kafka, names)
    binding = load_binding(REAL, config.binding_path)
    for bound, found, *_ in binding.changes(*map(described.get, names)) if binding else ():
        there = f"topic {bound.name} does not exist" if found is None else f"{_described(found)} is another one"
        raise PositionError(
            f"{config.folder} was filled from {_described(bound)}, and {there}: "
            "nothing can be checked; start anew with: houses reset --archive"
        )
    for name in names:
        if name not in described:
            raise BrokerError(
                f"topic {name} does not exist at {config.kafka.bootstrap_servers}: start a producer or consumer first"
            )


def _described(topic: TopicInfo) -> str:
    return f"topic {topic.name} (id {topic.id}, {topic.partitions} partitions)"


def _positions(config: Config) -> tuple[Checkpoint | None, Register, str]:
    """Checkpoint and register of one generation, when there are such; a running consumer writes the register first."""
    with closing(checkpoint_store(config)) as store:
        for _ in range(_TRIES):
            try:
                checkpoint = store.load()
            except PositionError as error:
                return None, read_register(config.storno_ids_path), str(error)
            register = read_register(config.storno_ids_path)
            if checkpoint is None or register.generation == checkpoint.generation:
                break
            time.sleep(_RETRY_S)
    return checkpoint, register, _foreign_record(config, checkpoint, store.name)


def _foreign_record(config: Config, checkpoint: Checkpoint | None, source: str) -> str:
    binding = load_binding(REAL, config.binding_path)
    if checkpoint is None or (binding and checkpoint.folder == binding.folder):
        return ""
    return f"{source}: belongs to another folder ({checkpoint.folder})"


def read_register(path: Path) -> Register:
    """storno_ids.json, of this program or the older one; empty when absent."""
    try:
        return decode_stornos(path.read_bytes())
    except FileNotFoundError:
        return Register({}, {})
    except ValueError as error:
        return Register({}, {}, damage=f"cannot be read ({error})")
