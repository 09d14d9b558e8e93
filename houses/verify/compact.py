"""houses_live.jsonl: the finished houses without those cancelled later. The files themselves are never rewritten."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyroaring import BitMap64

from houses.config.config import Config
from houses.records.blocks import blocks
from houses.records.lines import line_id, split_lines
from houses.system.files import REAL, FileOps
from houses.system.text import counted
from houses.verify.snapshot import read_register

LOG = logging.getLogger(__name__)

LIVE_NAME = "houses_live.jsonl"


@dataclass(frozen=True, slots=True)
class Compacted:
    """What `compact` wrote."""

    path: Path
    kept: int
    """Houses in it."""
    dropped: int
    """Houses of houses.jsonl that are cancelled, fully or in part."""

    def __str__(self) -> str:
        """In one line."""
        return f"{self.path}: {counted(self.kept, 'house')}; {self.dropped:,} left out, cancelled as a whole or in part"


def compact(config: Config, ops: FileOps = REAL) -> Compacted:
    """Write the lines of houses.jsonl whose house is not cancelled to houses_live.jsonl beside it, in one step.

    Cancelled are the houses of storno_houses.jsonl and of the register. A consumer may run meanwhile.

    Raises:
        MessageError: a line of the files is no house; `verify` says where.
    """
    cancelled = _cancelled_ids(config)
    target = config.folder / LIVE_NAME
    temporary = config.folder / f"{LIVE_NAME}.{os.getpid()}.tmp"
    kept = dropped = position = 0
    fd = ops.open(temporary)
    try:
        ops.truncate(fd, 0)
        for lines, left_out, read in _live_lines(config.houses_path, cancelled):
            data = b"".join(lines)
            ops.write_at(fd, position, data)
            position, kept, dropped = position + len(data), kept + len(lines), dropped + left_out
            LOG.debug(f"{counted(kept, 'house')}, {read:,} bytes of {config.houses_path.name} read")
        ops.sync(fd)
    except BaseException:
        ops.close(fd)
        ops.unlink(temporary)
        raise
    ops.close(fd)
    ops.rename(temporary, target)
    ops.sync_dir(config.folder)
    return Compacted(target, kept, dropped)


def _cancelled_ids(config: Config) -> BitMap64:
    ids = BitMap64(read_register(config.storno_ids_path).masks)
    for block in blocks(config.storno_houses_path):
        if not block.is_torn:
            ids.update(map(line_id, split_lines(block.data)))
    return ids


def _live_lines(path: Path, cancelled: BitMap64) -> Iterator[tuple[list[bytes], int, int]]:
    """Per block of the file the lines to keep, how many are left out, and how many bytes have been read."""
    for block in blocks(path):
        if not block.is_torn:
            lines = list(split_lines(block.data))
            kept = [line for line in lines if line_id(line) not in cancelled]
            yield kept, len(lines) - len(kept), block.end
