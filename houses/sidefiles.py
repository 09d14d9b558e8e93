"""The two files beside the journal that a checkpoint refers to by its generation, and that can be rebuilt without it.

storno_ids.json holds the storno register, closed_ids.bin the ids that have had their line.
"""

import hashlib
import json
import struct

from pyroaring import BitMap64

from houses.config import Config
from houses.files import FileOps, read_file, stage_file
from houses.join import ClosedIds, StornoRegister, excluded_parts, is_full
from houses.message import FULL, mask_of


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
        record = json.loads(read_file(ops, config.storno_ids_path) or b"")
        masks = dict.fromkeys(record["full"], FULL) | {
            int(i): mask_of(numbers) for i, numbers in record["partial"].items()
        }
        offsets = {int(i): offset for i, offset in record["offsets"].items()}
        storno_next = int(record["storno_next"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return 0
    stornos.masks, stornos.offsets = masks, offsets
    return storno_next


def encode_stornos(stornos: StornoRegister, generation: int, storno_next: int) -> bytes:
    """storno_ids.json.

    The cancelled ids, as the older program wrote them, with the generation, the storno offsets and how far it goes.
    """
    full = sorted(i for i, mask in stornos.masks.items() if is_full(mask))
    partial = {str(i): excluded_parts(mask) for i, mask in sorted(stornos.masks.items()) if not is_full(mask)}
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
