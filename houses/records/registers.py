"""What is remembered of all houses: the stornos, and the ids that have had their line; and the two files that hold it.

storno_ids.json and closed_ids.bin stand beside the journal. A checkpoint refers to them by its generation, and they can be
rebuilt without it.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, KeysView
from typing import Any, NamedTuple

from pyroaring import BitMap64

from houses.config.config import Config
from houses.records.lines import MAX_OFFSET
from houses.records.message import FULL, MAX_ID, Storno, excluded_parts, mask_of, parse_house_id
from houses.system.files import FileOps, read_file, stage_file


class StornoRegister:
    """Which parts of which houses are cancelled. States only grow, so the order of stornos does not matter."""

    def __init__(self) -> None:
        """Empty."""
        self.masks: dict[int, int] = {}
        """House id -> mask of the excluded parts; `message.FULL` is a full storno."""
        self.offsets: dict[int, int] = {}
        """House id -> offset of the storno that last changed its state, where known."""

    def merge(self, storno: Storno, offset: int | None) -> bool:
        """Add a storno; True when it changed the state of its house."""
        before = self.masks.get(storno.id, 0)
        after = before | storno.mask
        if after == before:
            return False
        self.masks[storno.id] = after
        if offset is not None:
            self.offsets[storno.id] = offset
        return True


class ClosedIds:
    """Ids that have had their line.

    Written houses (in either file) and evicted ones. No part of them is taken again.
    """

    def __init__(self) -> None:
        """Empty."""
        self.written = BitMap64()
        self.evicted = BitMap64()
        self._top = -1

    def add_written(self, ids: Iterable[int]) -> None:
        """Close ids whose house is written."""
        self._add(self.written, ids)

    def add_evicted(self, ids: Iterable[int]) -> None:
        """Close ids that were given up."""
        self._add(self.evicted, ids)

    def _add(self, bitmap: BitMap64, ids: Iterable[int]) -> None:
        if ids := list(ids):
            bitmap.update(ids)
            self._top = max([self._top, *ids])

    def replace(self, written: BitMap64, evicted: BitMap64) -> None:
        """Take over the sets of an earlier run."""
        self.written, self.evicted = written, evicted
        self._top = max([bitmap.max() for bitmap in (written, evicted) if bitmap], default=-1)

    def overlaps(self, ids: KeysView[int]) -> bool:
        """Whether any of the ids is closed."""
        if not ids or min(ids) > self._top:  # the usual case: ids arrive in ascending order
            return False
        batch = BitMap64(ids)
        return bool(self.written.intersect(batch) or self.evicted.intersect(batch))


def stage_side_files(
    config: Config,
    ops: FileOps,
    stornos: StornoRegister,
    closed: ClosedIds,
    generation: int,
    storno_next: int,
    lengths: tuple[int, ...],
) -> None:
    """Write both files for a new generation; the caller syncs the folder, then saves the record.

    Args:
        storno_next: offset of the storno topic below which `stornos` holds everything.
        lengths: bytes of the journal's files that the closed ids cover.
    """
    stage_file(ops, config.storno_ids_path, encode_stornos(stornos, generation, storno_next))
    stage_file(ops, config.closed_ids_path, encode_ids(closed, generation, lengths))


def load_closed_ids(
    config: Config, ops: FileOps, closed: ClosedIds, generation: int, tail: list[int], lengths: tuple[int, ...]
) -> bool:
    """Fill `closed` from its cache; False when the cache is missing, damaged, older, or does not fit the files."""
    cache = decode_ids(read_file(ops, config.closed_ids_path) or b"")
    if cache is None or cache[0] < generation:
        return False
    if not all(begin <= covered <= end for begin, covered, end in zip(tail, cache[1], lengths, strict=True)):
        return False
    closed.replace(cache[2], cache[3])
    return True


def load_stornos(config: Config, ops: FileOps, stornos: StornoRegister) -> int:
    """Fill `stornos` from storno_ids.json.

    Returns:
        The offset of the storno topic from which stornos are not in it; 0 when the file is missing or damaged.
        That may be below the checkpoint's, whose generation the file may even be ahead of: a consumer that died while
        it was reading the storno topic anew.
    """
    try:
        register = decode_stornos(read_file(ops, config.storno_ids_path) or b"")
    except ValueError:
        return 0
    if register.storno_next is None:  # of the older program
        return 0
    stornos.masks, stornos.offsets = register.masks, register.offsets
    return register.storno_next


class Register(NamedTuple):
    """The content of storno_ids.json."""

    masks: dict[int, int]
    """House id -> mask of the excluded parts."""
    offsets: dict[int, int]
    """House id -> offset of the storno that last changed its state, where known."""
    generation: int | None = None
    """Of the checkpoint that it belongs to; None in the older program's file, or without a file."""
    storno_next: int | None = None
    """Offset of the storno topic below which every storno is in it; None in the older program's file, or without a file."""
    damage: str = ""
    """What is wrong with the file, or nothing."""


def decode_stornos(data: bytes) -> Register:
    """Read storno_ids.json, of this program or the older one; `ValueError` when it is damaged."""
    try:
        record = json.loads(data)
        partial = {_id_of(i): mask_of(numbers) for i, numbers in record["partial"].items()}
        masks = {_whole(i, MAX_ID): FULL for i in record["full"]} | partial
        if record.keys() == {"full", "partial"}:
            return Register(masks, {})
        offsets = {_id_of(i): _whole(offset) for i, offset in record["offsets"].items()}
        return Register(masks, offsets, _whole(record["generation"]), _whole(record["storno_next"]))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _whole(value: Any, most: int = MAX_OFFSET) -> int:
    if type(value) is not int or not 0 <= value <= most:  # a bool is an int too
        raise ValueError(f"{value!r} is no number from 0 to {most}")
    return value


def _id_of(key: str) -> int:
    if (house_id := parse_house_id(key)) is None:
        raise ValueError(f"{key[:40]!r} is no house id")
    return house_id


def encode_stornos(stornos: StornoRegister, generation: int, storno_next: int) -> bytes:
    """storno_ids.json.

    The cancelled ids, as the older program wrote them, with the generation, the storno offsets and how far it goes.
    """
    full = sorted(i for i, mask in stornos.masks.items() if mask == FULL)
    partial = {str(i): excluded_parts(mask) for i, mask in sorted(stornos.masks.items()) if mask != FULL}
    record = {"full": full, "partial": partial, "generation": generation, "storno_next": storno_next}
    return json.dumps(record | {"offsets": stornos.offsets}, separators=(",", ":")).encode() + b"\n"


_HASH_BYTES = hashlib.sha256().digest_size


def encode_ids(closed: ClosedIds, generation: int, lengths: tuple[int, ...]) -> bytes:
    """The cache of closed ids.

    A sha256 over all that follows, a JSON header that names the file lengths it covers, two bitmaps.
    """
    for bitmap in (closed.written, closed.evicted):
        bitmap.run_optimize()
    written, evicted = closed.written.serialize(), closed.evicted.serialize()
    header = json.dumps({"generation": generation, "lengths": lengths, "bytes": [len(written), len(evicted)]}).encode()
    body = struct.pack("<I", len(header)) + header + written + evicted
    return hashlib.sha256(body).digest() + body


def decode_ids(data: bytes) -> tuple[int, tuple[int, ...], BitMap64, BitMap64] | None:
    """Generation, covered lengths, written and evicted ids of a cache; None when it is damaged (it can be rebuilt)."""
    digest, body = data[:_HASH_BYTES], data[_HASH_BYTES:]
    # A flipped bit may pass deserialize(), and garbage there raises anything: only bytes that we wrote go on.
    if len(body) < 4 or hashlib.sha256(body).digest() != digest:
        return None
    end = 4 + struct.unpack_from("<I", body)[0]
    header = json.loads(body[4:end])
    middle = end + header["bytes"][0]
    return (
        header["generation"],
        tuple(header["lengths"]),
        BitMap64.deserialize(body[end:middle]),
        BitMap64.deserialize(body[middle:]),
    )
