"""House ids that never repeat, whatever died in between."""

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from random import Random

from houses.errors import FolderError
from houses.kafka.reader import Record
from houses.records.message import MAX_ID, parse_house_id, peek_id
from houses.system.files import REAL, FileOps, read_file, replace_file

BLOCK_IDS = 10_000
"""Ids reserved at a time: one fsync per block, and at most this many ids left unused by a crash."""
TAIL_RECORDS = 1_000
"""Records per partition that are searched for the highest id in use."""

RECENT_IDS = 100
"""How many of the newest ids count as recent."""


def pick_recent(random: Random, first: int, highest: int) -> int | None:
    """A random one of the newest ids up to `highest` and not below `first`; None when there is none."""
    lowest = max(first, highest + 1 - RECENT_IDS)
    return random.randint(lowest, highest) if lowest <= highest else None


def highest_id(records: Iterable[Record]) -> int:
    """The highest house id in records of the parts topic, by value or key; -1 when there is none.

    Ids too high for a block to follow are passed over: one typed by hand must not end all producing, and the allocator
    never comes there itself.
    """
    found = (_record_id(record) for record in records)
    return max((i for i in found if i is not None and i < MAX_ID - BLOCK_IDS), default=-1)


def _record_id(record: Record) -> int | None:
    found, key = peek_id(record.value or b""), record.key
    # A malformed message keeps its key, and its id counts as used.
    return parse_house_id(key or b"") if found is None else found


class IdAllocator:
    """Ids from `first` on, shared by the three parts; blocks of them are reserved on disk before use.

    The file, `{"base_id":N}`, names the lowest id that was never reserved. The older programs write the same.
    """

    def __init__(self, path: Path, highest_in_topic: int = -1, ops: FileOps = REAL) -> None:
        """Reads the file; reserves nothing yet.

        Raises:
            FolderError: the file is damaged. Guessing could repeat ids, so it is not overwritten.
        """
        self._path, self._ops = path, ops
        self._lock = threading.Lock()
        self.first = max(_load(ops, path), highest_in_topic + 1)
        """The first id of this run."""
        self._reserved = self.first

    def reserve_through(self, house_id: int) -> None:
        """Return when `house_id` and all below it may be used: the file says so, durably."""
        if house_id < self._reserved:
            return
        with self._lock:
            if house_id >= self._reserved:
                self._store(house_id + BLOCK_IDS)

    def release(self, next_id: int) -> None:
        """Give back the ids from `next_id` on, of which none was used, so that the next run leaves no gap."""
        with self._lock:
            if self.first < next_id < self._reserved:
                self._store(next_id)

    def _store(self, base_id: int) -> None:
        if base_id > MAX_ID:
            raise FolderError(
                f"{self._path}: ids have come to {base_id}: a message holds at most {MAX_ID}; houses reset"
            )
        replace_file(self._ops, self._path, json.dumps({"base_id": base_id}, separators=(",", ":")).encode())
        self._reserved = base_id


def _load(ops: FileOps, path: Path) -> int:
    if (data := read_file(ops, path)) is None:
        return 0
    try:
        base_id = json.loads(data)["base_id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        base_id = None
    if type(base_id) is not int or not 0 <= base_id <= MAX_ID:  # bool is a subclass of int and no id
        raise FolderError(f'{path}: {data[:60]!r} is not {{"base_id":N}}: write the next free house id there')
    return base_id
