"""The real consumer loop on topics that are lists and a disk in memory, so that it can die at any moment and start again.

Everything between Kafka and the disk is the real thing: recover(), ConsumerLoop, Journal, Checkpointer.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from unittest.mock import patch

from houses.config.config import Config
from houses.config.models import ConsumerConfig, KafkaConfig, ProducerConfig
from houses.consumer.checkpointer import Checkpointer
from houses.consumer.loop import ConsumerLoop
from houses.consumer.recovery import BrokerView, Recovered, recover
from houses.consumer.reporter import Reporter
from houses.consumer.source import Chunk, Source
from houses.errors import BrokerError
from houses.kafka.clients import TopicInfo
from houses.offsets.checkpoint import Checkpoint, CheckpointStore, FileStore
from houses.records.message import PARTS, encode_part
from houses.records.metrics import Metrics
from houses.records.registers import stage_side_files
from houses.system.files import FileOps
from houses.system.log import shown
from support.records import TS
from support.reference import STORNO, Line, Reference
from support.simulated_disk import Crash, SimulatedDisk

Records = list[bytes | None]
ROOT = Path("/lab")


def config_of(root: Path = ROOT, **consumer: Any) -> Config:
    """A configuration whose folder, by default, exists on the simulated disk only."""
    return Config(root / "config.yaml", KafkaConfig(), ProducerConfig(), ConsumerConfig(**{"log_every": 0} | consumer))


class Poll(NamedTuple):
    """What the next poll brings: so many records of each partition and of the storno topic, after so many seconds."""

    counts: tuple[int, int, int, int]
    seconds: float = 0.0
    act: Callable[["FakeSource"], None] | None = None
    """Something that happens to the topics or the broker meanwhile."""


ALL = Poll((1000, 1000, 1000, 1000))


def parts(number: int, *ids: int) -> Records:
    """Messages of one part, as we send them, for these ids."""
    return [encode_part(PARTS[number - 1], house_id, TS, PARTS[number - 1].workers[0]) for house_id in ids]


@dataclass
class Topics:
    """The parts topic and the storno topic; `records` are those of the three partitions and, last, the stornos."""

    records: list[Records]
    first: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """Offsets below are no longer there."""
    ids: tuple[str, str] = ("id-1", "id-2")
    partitions: int = 3

    @property
    def ends(self) -> list[int]:
        """The offset behind the last record of each."""
        return [len(records) for records in self.records]

    def infos(self) -> tuple[TopicInfo, TopicInfo]:
        """The topics as the broker describes them."""
        return TopicInfo("teszt-partitioned", self.ids[0], self.partitions), TopicInfo("house-storno", self.ids[1], 1)

    def view(self) -> BrokerView:
        """What recovery is told."""
        return BrokerView(*self.infos(), tuple(zip(self.first, self.ends, strict=True)))


class FakeSource:
    """Stands in for houses.source.Source: hands out the records of `topics` as the plan says."""

    def __init__(self, topics: Topics, plan: Iterator[Poll], clock: "Clock") -> None:
        """Nothing assigned yet."""
        self._topics, self._plan, self._clock = topics, plan, clock
        self._assigned: set[int] = set()
        self.paused: set[int] = set()
        self.next = [0, 0, 0, 0]
        self.last_error = ""
        self.identity_in_doubt = False
        self.broker_away = False
        self.over = False
        self.kill = False
        """Whether the end of the plan is the end of the process."""
        self.log: list[Chunk] = []
        """Everything handed out, in order."""

    def assign_storno(self, offset: int) -> None:
        """See `Source`."""
        self._assigned, self.next[STORNO] = {STORNO}, offset

    def assign_parts(self, offsets: Sequence[int]) -> None:
        """See `Source`."""
        self._assigned, self.next[:STORNO] = {0, 1, 2, STORNO}, offsets

    def poll(self, max_batch: int, timeout_s: float) -> list[Chunk]:
        """See `Source`: stornos first."""
        turn = next(self._plan, None)
        if turn is None:
            if self.kill:
                raise Crash
            self.over = True
            return []
        self._clock.now_s += turn.seconds
        if turn.act:
            turn.act(self)
        chunks = [self._take(index, turn.counts[index]) for index in (STORNO, 2, 1, 0) if self._reads(index)]
        self.log += (chunks := [chunk for chunk in chunks if chunk.offsets])
        return chunks

    def _reads(self, index: int) -> bool:
        return index in self._assigned and index not in self.paused

    def _take(self, index: int, count: int) -> Chunk:
        start = self.next[index]
        assert start >= self._topics.first[index], "reads below the log"
        values = self._topics.records[index][start : start + count]
        self.next[index] = start + len(values)
        return Chunk(index, list(range(start, start + len(values))), values)

    def pause(self, partitions: set[int]) -> None:
        """See `Source`."""
        self.paused = set(partitions)

    def lag(self) -> int:
        """See `Source`."""
        return sum(self._topics.ends) - sum(self.next)

    def storno_end(self) -> int:
        """See `Source`."""
        return self._topics.ends[STORNO]

    def describe_topics(self, timeout_s: float) -> tuple[TopicInfo, TopicInfo]:
        """See `Source`."""
        if self.broker_away:
            raise BrokerError("no broker")
        return self._topics.infos()


class Clock:
    """The monotonic clock of the loop; it moves when the plan says so."""

    def __init__(self) -> None:
        """At an arbitrary moment."""
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now_s


class GroupStore:
    """Stands in for KafkaStore: no power cut takes its record, but a save that reports an error may have worked or not."""

    name = "Kafka group houses"

    def __init__(self, random: Random) -> None:
        """No record yet."""
        self.record: Checkpoint | None = None
        self.newest = 0
        """Generation of the last record that may have been stored, in this run or as it found it."""
        self.failing = False
        self._random = random

    def load(self) -> Checkpoint | None:
        """See `CheckpointStore`."""
        self.newest = self.record.generation if self.record else 0
        return self.record

    def save(self, checkpoint: Checkpoint, *, last: bool = False) -> None:
        """See `CheckpointStore`."""
        self.newest = checkpoint.generation
        luck = self._random.random() if self.failing else 1.0
        if luck > 0.3:
            self.record = checkpoint
        if luck < 0.6:
            raise BrokerError("the checkpoint was not taken")

    def forget(self) -> None:
        """See `CheckpointStore`."""
        self.record = None

    def close(self) -> None:
        """See `CheckpointStore`."""


class Lab:
    """One output folder on a simulated disk, and its topics."""

    def __init__(
        self,
        topics: Topics,
        config: Config | None = None,
        random: Random | None = None,
        disk: SimulatedDisk | None = None,
    ) -> None:
        """Nothing consumed yet."""
        self.topics = topics
        self.config = config or config_of()
        self.disk = disk or SimulatedDisk()
        self.group = GroupStore(random or Random(0))
        self.clock = Clock()
        self.said: list[str] = []
        self.recovered: Recovered | None = None
        self.source: FakeSource | None = None
        self.counts: dict[str, int] = {}
        self.left_open = 0
        """Files that the last run did not close."""
        self.metrics: Metrics | None = None
        """The last figures of the last run."""

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """The three JSONL files in the order of their commit."""
        return self.config.houses_path, self.config.storno_houses_path, self.config.rejects_path

    def consume(
        self,
        plan: Sequence[Poll] = (),
        *,
        rest: bool = False,
        kill: bool = False,
        fuse: int | None = None,
        sync_fuse: int | None = None,
        accept_gap: bool = False,
    ) -> bool:
        """Run the consumer by the plan, then stop it cleanly; with `rest` to the end of the topics.

        Returns:
            False when the process died before: after the plan with `kill`, or at operation number `fuse` of the disk.
        """
        self.disk.fuse, self.disk.sync_fuse = fuse, sync_fuse
        turns = iter([*plan, *[Poll((1000,) * 4, 0.1)] * 2000]) if rest else iter(plan)
        source = self.source = FakeSource(self.topics, turns, self.clock)
        source.kill = kill
        with (
            shown(self.said.append),
            patch("houses.consumer.loop.time", SimpleNamespace(monotonic=self.clock.monotonic)),
            patch("houses.consumer.checkpointer.stage_side_files", self._stage),
        ):
            try:
                self._run(source, rest, accept_gap)
            except Crash:
                return False
            finally:
                self.left_open = self.disk.open_files
                self.disk.kill_process()
        return True

    def _run(self, source: FakeSource, rest: bool, accept_gap: bool) -> None:
        store = self.store()
        self.recovered = recover(self.config, self.disk, store, self.topics.view(), accept_gap=accept_gap)
        with closing(self.recovered.journal), closing(reporter_of_nothing()) as reporter:
            checkpointer = Checkpointer(self.config, self.disk, store, self.recovered, self.clock.now_s)
            limits, taken = self.config.consumer, cast(Source, source)
            loop = ConsumerLoop(limits, self.recovered, checkpointer, taken, reporter, lambda: source.over)
            self.metrics = reporter.metrics
            self.counts = dict(loop.run(self.topics.ends if rest else None))

    def _stage(self, config: Config, ops: FileOps, *state: Any) -> None:
        """See `stage_side_files`; no content gets the number of another that the group's record may be of."""
        generation = state[2]
        assert generation > self.group.newest, f"generation {generation} is staged again"
        stage_side_files(config, ops, *state)

    def store(self) -> CheckpointStore:
        """Where the record is kept: in a file on the disk, or in the group."""
        in_group = self.config.consumer.store == "kafka"
        return self.group if in_group else FileStore(self.disk, self.config.offsets_path)

    # --- what the files say ---

    def lines(self, path: Path) -> list[Line]:
        """The lines of a file, the last one too when it is whole."""
        data = self.disk.content(path) or b""
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    def record(self) -> Checkpoint | None:
        """The checkpoint as it was saved last."""
        return self.store().load()

    def outcomes(self) -> dict[tuple[int, int], str]:
        """(Partition, offset) of the parts topic -> what its line says of it. Fails when one has two."""
        found: list[tuple[tuple[int, int], str]] = []
        for path in self.paths[:2]:
            for line in self.lines(path):
                found += [((p, offset), f"house {line['id']}") for p, offset in offsets_of(line).items()]
        for line in self.lines(self.paths[2]):
            if line["topic"] == "teszt-partitioned" and line["reason"] != "gap":
                found.append(((line["partition"], line["offset"]), line["reason"]))
        assert len({at for at, _ in found}) == len(found), f"an offset has two lines: {sorted(found)}"
        return dict(found)


def lab_of(*ids: Sequence[int], stornos: Sequence[bytes | None] = (), **limits: Any) -> Lab:
    """A lab whose three partitions hold the parts of these ids."""
    return Lab(Topics([*(parts(n, *some) for n, some in enumerate(ids, 1)), list(stornos)]), config_of(**limits))


def reporter_of_nothing() -> Reporter:
    """A reporter whose lines go nowhere."""
    return Reporter(Path(os.devnull))


def offsets_of(line: Line) -> dict[int, int]:
    """Kafka partition -> offset of each part of a line; none in a late line."""
    parts = {int(name[-1]) - 1: part["offset"] for name, part in line["house"].items()}
    return parts | {int(number) - 1: offset for number, offset in line.get("offsets", {}).items()}


def reference_of(topics: Topics, order: Sequence[Chunk] | None = None) -> Reference:
    """The reference after all records, in the given order (of one run without a crash), else partition by partition."""
    plain = Reference()
    for chunk in order or [Chunk(i, list(range(len(r))), r) for i, r in reversed(list(enumerate(topics.records)))]:
        for offset, value in zip(chunk.offsets, chunk.values, strict=True):
            if chunk.partition == STORNO:
                plain.cancel(offset, value)
            else:
                plain.part(chunk.partition, offset, value)
    return plain


def check_end(lab: Lab, *, evicted: bool = False) -> None:
    """After everything was read and a clean stop: the files say what the reference says, whatever happened on the way.

    With `evicted` all that can be overdue has been given up. Only which of a house's parts of the story came first, its completion or its storno, may depend on the way.
    """
    plain = reference_of(lab.topics)
    if evicted:
        plain.evict(math.inf)
    written = {line["id"]: line for line in [*plain.houses, *plain.storno]}
    houses, storno = lab.lines(lab.paths[0]), lab.lines(lab.paths[1])
    wanted = {(p, o): f"house {i}" for i, line in written.items() for p, o in offsets_of(line).items()}
    wanted |= {(r["partition"], r["offset"]): r["reason"] for r in plain.rejects if r["topic"] == "teszt-partitioned"}
    assert lab.outcomes() == wanted
    # Every house once, with the right parts.
    first_lines = [line for line in [*houses, *storno] if not line.get("late")]
    assert sorted(line["id"] for line in first_lines) == sorted(written)
    whole = whole_houses(lab.topics)
    for line in first_lines:
        assert line["house"].items() <= whole[line["id"]].items()
    # Every storno: in the register, and the last line of each house says it.
    last = {line["id"]: line for line in [*houses, *storno]}
    for house_id, line in last.items():
        state = plain.storno_members(house_id) if house_id in plain.excluded else {}
        assert {k: v for k, v in line.items() if k in ("storno", "excluded_partitions", "storno_offset")} == state
    register = json.loads(lab.disk.content(lab.config.storno_ids_path) or b"{}")
    assert {key: register[key] for key in ("full", "partial")} == plain.register()
    bad = [line["offset"] for line in lab.lines(lab.paths[2]) if line["topic"] == "house-storno"]
    assert sorted(bad) == [r["offset"] for r in plain.rejects if r["topic"] == "house-storno"]
    check_late_lines(storno, houses)


def whole_houses(topics: Topics) -> dict[int, dict[str, Line]]:
    """All three parts of each written house, also the excluded ones."""
    without_stornos = Topics([*topics.records[:STORNO], []])
    return {line["id"]: line["house"] for line in reference_of(without_stornos).houses}


def check_late_lines(storno: list[Line], houses: list[Line]) -> None:
    """The lines of one id cancel more and more; only the first may hold the house, when it is in no other file."""
    seen: dict[int, set[int]] = {line["id"]: set() for line in houses}
    for line in storno:
        excluded = set(line.get("excluded_partitions", (1, 2, 3)))
        assert bool(line.get("late")) == (line["id"] in seen), f"late or not: {line}"
        assert seen.get(line["id"], set()) < excluded, f"a line that cancels nothing new: {line}"
        seen[line["id"]] = excluded


def damage(lab: Lab, what: str, random: Random) -> None:
    """Do to the folder what users and crashes do between two runs."""
    disk, config, record = lab.disk, lab.config, lab.record()
    if what == "power":
        disk.cut_power(random)
    elif what == "no side files":
        for path in random.choice(
            [[config.storno_ids_path], [config.closed_ids_path], [config.storno_ids_path, config.closed_ids_path]]
        ):
            disk.put(path, None)
    elif what == "bad side file":
        path = random.choice([config.storno_ids_path, config.closed_ids_path])
        data = disk.content(path) or b""
        disk.put(path, data[: random.randint(0, max(0, len(data) - 2))])
    elif what == "no checkpoint":
        lab.store().forget()
    elif what == "cut":
        for path, synced in zip(lab.paths, record.synced if record else (0, 0, 0), strict=True):
            if written := disk.content(path):
                disk.put(path, written[: random.randint(synced, len(written))])
