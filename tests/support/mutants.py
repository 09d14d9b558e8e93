"""Deliberate faults in the order of commit, checkpoint and recovery: each must be caught, or the tests prove nothing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import patch

from houses.consumer import checkpointer, recovery
from houses.consumer.checkpointer import Checkpointer, TailMarks
from houses.consumer.journal import Journal, JsonlFile
from houses.consumer.loop import ConsumerLoop
from houses.consumer.recovery import DoneOffsets
from houses.offsets import checkpoint
from houses.records import registers as sidefiles
from houses.records.decode import PartBatch
from houses.records.message import STORNO
from houses.system import files
from houses.system.files import FileOps
from support.crash_points import every_point
from support.power_cuts import cut_and_recover
from support.simulated_disk import SimulatedDisk


class Mutant(NamedTuple):
    """One fault, switched on for the time of a `with` block."""

    name: str
    patched: Callable[[], AbstractContextManager[Any]]


def _nothing(*_: Any, **__: Any) -> None:
    """In the place of what is left out."""


# --- commit ---


def _write_all_then_sync_all(journal: Journal) -> None:
    lengths = [len("".join(file.queued)) for file in journal.files]
    with patch.object(JsonlFile, "sync", _nothing):
        for file in journal.files:
            file.commit()
    for file, length in zip(reversed(journal.files), reversed(lengths), strict=True):
        if length:
            file.sync()


def _storno_before_houses(journal: Journal) -> None:
    for file in (journal.storno, journal.houses, journal.rejects):
        file.commit()


# --- checkpoint ---


def _record_before_side_files(
    self: Checkpointer, next_offsets: Sequence[int], storno_next: int, *, last: bool = False
) -> None:
    """The steps of `save`, the last one first."""
    staged: list[tuple[Any, ...]] = []
    with (
        patch.object(checkpointer, "stage_side_files", lambda *state: staged.append(state)),
        patch.object(checkpointer, "sync_folder", _nothing),
    ):
        _SAVE(self, next_offsets, storno_next, last=last)
    for state in staged:
        sidefiles.stage_side_files(*state)
    files.sync_folder(self._ops, self._config.folder)


_SAVE = Checkpointer.save
_LOW = Checkpointer.low_watermarks
_LOAD = recovery._load
_FILL = files._fill


def _low_too_high(self: Checkpointer, next_offsets: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(low + 1, end) for low, end in zip(_LOW(self, next_offsets), next_offsets, strict=True))


def _storno_position_too_high(
    self: Checkpointer, next_offsets: Sequence[int], storno_next: int, *, last: bool = False
) -> None:
    _SAVE(self, next_offsets, storno_next + 1, last=last)


def _without_commit(self: ConsumerLoop, now_s: float) -> None:
    """`_periodic`, whose checkpoint leaves queued lines where they are."""
    with patch.object(ConsumerLoop, "_commit", _nothing):
        _PERIODIC(self, now_s)


_PERIODIC = ConsumerLoop._periodic


def _tail_at_the_end(_: TailMarks, __: Any, ___: Any, lengths: tuple[int, ...]) -> tuple[int, ...]:
    return lengths


def _fill_without_sync(ops: FileOps, path: Any, data: bytes) -> None:
    with patch.object(type(ops), "sync", _nothing):
        _FILL(ops, path, data)


# --- recovery ---


def _all_as_new(_: DoneOffsets, batch: PartBatch) -> PartBatch:
    return batch


def _register_goes_as_far_as_the_record(*arguments: Any) -> Any:
    state, record = _LOAD(*arguments), arguments[2]
    if record:
        state.begin[STORNO] = record.storno_next
    return state


def _cut_without_sync(self: JsonlFile, position: int) -> None:
    with patch.object(JsonlFile, "sync", _nothing):
        _CUT(self, position)


_CUT = JsonlFile.cut


def _torn_line_left(self: JsonlFile, position: int) -> None:
    """It is not read, but it stays where it is."""


MUTANTS = (
    Mutant("commit does not sync", lambda: patch.object(JsonlFile, "sync", _nothing)),
    Mutant("commit writes all, then syncs all", lambda: patch.object(Journal, "commit", _write_all_then_sync_all)),
    Mutant("storno lines before the lines of houses", lambda: patch.object(Journal, "commit", _storno_before_houses)),
    Mutant("checkpoint before the lines are written", lambda: patch.object(ConsumerLoop, "_periodic", _without_commit)),
    Mutant("folder never synced", lambda: patch.object(SimulatedDisk, "sync_dir", _nothing)),
    Mutant("side files and record not synced", lambda: patch.object(files, "_fill", _fill_without_sync)),
    Mutant("low watermark one too high", lambda: patch.object(Checkpointer, "low_watermarks", _low_too_high)),
    Mutant("storno position one too high", lambda: patch.object(Checkpointer, "save", _storno_position_too_high)),
    Mutant("tail begins at the end of the files", lambda: patch.object(TailMarks, "tail", _tail_at_the_end)),
    Mutant("done offsets ignored", lambda: patch.object(DoneOffsets, "without_done", _all_as_new)),
    Mutant("tail not written again", lambda: patch.object(JsonlFile, "rewrite_from", _nothing)),
    Mutant("torn line not cut off", lambda: patch.object(JsonlFile, "cut", _torn_line_left)),
    Mutant(
        "older register taken for the record's",
        lambda: patch.object(recovery, "_load", _register_goes_as_far_as_the_record),
    ),
    Mutant("record written in place", lambda: patch.object(checkpoint, "replace_file", _FILL)),
)


MOST_SEEDS = 3_000


def catching_seed(mutant: Mutant) -> int | None:
    """The first seed whose power cuts catch it; None when `MOST_SEEDS` have not."""
    return _first_caught(mutant, map(cut_and_recover, range(MOST_SEEDS)))


def catching_point(mutant: Mutant) -> int | None:
    """The number of the first crash point that catches it, from 0; None when none does."""
    return _first_caught(mutant, every_point())


def _first_caught(mutant: Mutant, trials: Iterator[object]) -> int | None:
    survived = 0
    with mutant.patched():
        try:
            for _ in trials:
                survived += 1
        except Exception:  # noqa: BLE001  # a refusal at the next start is a loss too
            return survived
    return None
