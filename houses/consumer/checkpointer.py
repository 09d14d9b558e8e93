"""Takes checkpoints of a running consumer: what a restart has to read again, saved in the right order."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from houses.config.config import Config
from houses.consumer.recovery import Recovered
from houses.offsets.checkpoint import Checkpoint, CheckpointStore
from houses.records.message import PARTS, STORNO
from houses.records.registers import stage_side_files
from houses.system.files import FileOps, sync_folder

_MARK_BYTES = 64 << 10
_MARK_S = 1.0


class Mark(NamedTuple):
    """A moment of the run: all lines of offsets at or above `starts` are in the files behind `lengths`."""

    time_s: float
    starts: tuple[int, ...]
    """Per Kafka partition, 0 to 2."""
    lengths: tuple[int, ...]


class TailMarks:
    """Where the tail of the files begins that belongs to the oldest pending part."""

    def __init__(self, recovered: Recovered, now_s: float) -> None:
        """Start from the tail that recovery has read."""
        self._marks = deque([Mark(now_s, tuple(recovered.begin[:STORNO]), recovered.tail)])
        self._replay_until = recovered.replay_until

    def note(self, now_s: float, starts: Sequence[int], lengths: tuple[int, ...]) -> None:
        """Before a batch is handled: the four offsets that it begins with, and the lengths of the files."""
        last = self._marks[-1]
        grown = sum(lengths) - sum(last.lengths)
        if (now_s - last.time_s >= _MARK_S or grown >= _MARK_BYTES) and self._is_new(starts):
            self._marks.append(Mark(now_s, tuple(starts[:STORNO]), lengths))

    def _is_new(self, offsets: Sequence[int]) -> bool:
        # What is read again has its lines before this moment: the recovered tail stays in use until it is passed.
        return all(offset >= end for offset, end in zip(offsets, self._replay_until, strict=True))

    def oldest_needed(self, low: Sequence[int]) -> Mark:
        """The latest mark that lies before every offset at or above the low watermarks; earlier ones are dropped."""
        while len(self._marks) > 1 and all(s <= w for s, w in zip(self._marks[1].starts, low, strict=True)):
            self._marks.popleft()
        return self._marks[0]

    def tail(self, low: Sequence[int], next_offsets: Sequence[int], lengths: tuple[int, ...]) -> tuple[int, ...]:
        """Byte per file from which lines may hold offsets at or above the low watermarks.

        `lengths` when nothing is pending and nothing will be read again, of the storno topic (last) neither.
        """
        nothing_pending = tuple(low) == tuple(next_offsets[:STORNO])
        return lengths if nothing_pending and self._is_new(next_offsets) else self.oldest_needed(low).lengths


class Checkpointer:
    """Saves checkpoint after checkpoint of one consumer."""

    def __init__(
        self, config: Config, ops: FileOps, store: CheckpointStore, recovered: Recovered, now_s: float
    ) -> None:
        """Go on from the generation that recovery found."""
        self._config, self._ops, self._store = config, ops, store
        self._binding, self._journal, self._table = recovered.binding, recovered.journal, recovered.table
        self.marks = TailMarks(recovered, now_s)
        self.generation = recovered.generation
        """The last one tried; no number is used twice."""

    def low_watermarks(self, next_offsets: Sequence[int]) -> tuple[int, ...]:
        """Offset to resume from, per partition, that loses no pending part.

        Args:
            next_offsets: next offset to read, per Kafka partition (0 to 2).
        Source:
            Kafka's committed-offset convention: last processed + 1.
        """
        lowest = (self._table.lowest_pending(part.partition) for part in PARTS)
        return tuple(n if low is None else low for low, n in zip(lowest, next_offsets, strict=True))

    def oldest_pending_age_s(self, next_offsets: Sequence[int], now_s: float) -> float:
        """Seconds since the oldest pending part came, to a second; 0 without any."""
        low = self.low_watermarks(next_offsets)
        mark = self.marks.oldest_needed(low)
        return now_s - mark.time_s if low != tuple(next_offsets) else 0.0

    def save(self, next_offsets: Sequence[int], storno_next: int, *, last: bool = False) -> None:
        """Make a restart begin here; the journal is committed and the topics are checked before.

        1. Side files of the new generation: stornos, closed ids. 2. Their names, in the folder. 3. The record.
        A crash between the steps leaves side files that are newer than the record, which recovery takes.

        Args:
            last: see `CheckpointStore`.
        Raises:
            FolderError: a file could not be written, or somebody changed one of the journal: no record is made.
        """
        self._journal.check_untouched()
        # Counted before anything is done: a store that raises may have kept the record all the same, and the files of
        # its generation must stay as they are.
        self.generation += 1
        lengths = self._journal.lengths
        # 1. side files
        table = self._table
        stage_side_files(self._config, self._ops, table.stornos, table.closed, self.generation, storno_next, lengths)
        # 2. folder
        sync_folder(self._ops, self._config.folder)
        # 3. record
        low = self.low_watermarks(next_offsets)
        self._store.save(
            Checkpoint(
                self._binding.folder,
                (self._binding.parts.id, self._binding.storno.id),
                self.generation,
                low,
                tuple(next_offsets),
                storno_next,
                lengths,
                self.marks.tail(low, (*next_offsets, storno_next), lengths),
            ),
            last=last,
        )
