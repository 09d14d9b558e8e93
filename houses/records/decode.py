"""Part messages by the batch: decoded as fast as the format allows, kept small, given back as they came."""

import json
from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from houses.errors import MessageError
from houses.records.message import MAX_ID_DIGITS, Reject, decode_part

PartEntry = tuple[int, str, bytes | None]
"""What is kept of a part until its house is written; a plain tuple, as there are many.

Its offset; the members `ts`, `name` and `task` of its JSON object without the outermost quotes; the message as it came, or
None when the id and these members give it back exactly (`entry_bytes`).
"""


House = tuple[int, PartEntry, PartEntry, PartEntry]
"""A completed house: its id and the entries of foundation, wall and roof."""


_FEW = 64
"""So many messages are decoded one by one rather than halved once more: that costs more than it spares."""


class PartBatch(NamedTuple):
    """Decoded messages of one partition, in offset order."""

    partition: int
    ids: list[int]
    entries: list[PartEntry]
    rejects: list[Reject]


def decode_parts(partition: int, offsets: Sequence[int], values: Sequence[bytes | None]) -> PartBatch:
    """Decode messages of one Kafka partition; what is no part of this partition becomes a reject.

    Messages as we send them take a path over the whole batch at once. One that differs halves the batch, until the few
    around it go through `decode_part`, message by message, with the same result.
    """
    if values and (canonical := _decode_canonical(partition, values)):
        ids, fragments = canonical
        return PartBatch(partition, ids, list(zip(offsets, fragments, repeat(None))), [])
    if len(values) <= _FEW:
        return _decode_each(partition, offsets, values)
    middle = len(values) // 2
    first = decode_parts(partition, offsets[:middle], values[:middle])
    second = decode_parts(partition, offsets[middle:], values[middle:])
    return PartBatch(partition, first.ids + second.ids, first.entries + second.entries, first.rejects + second.rejects)


_NAME_MARK, _TASK_MARK = b"\x01", b"\x02"
# Deleting these leaves the marks, and all that the fast path does not take: | " \ control and non-ASCII characters.
_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'|"\\'))


def _decode_canonical(partition: int, values: Sequence[bytes | None]) -> tuple[list[int], list[str]] | None:
    """Ids and fragments of a batch, or None when not all of it is in the form that we send."""
    try:
        heads, _, tails = zip(*[value.partition(b"|ts:") for value in values], strict=True)  # type: ignore[union-attr]
    except AttributeError:  # None: a tombstone
        return None
    # Messages sent in one tick share their time, so there are far fewer different tails than messages.
    different = list(set(tails))
    fragments = _canonical_fragments(different)
    ids = _canonical_ids(f"\npartition_{partition + 1}|id:".encode(), heads)
    if fragments is None or ids is None:
        return None
    return ids, list(map(dict(zip(different, fragments, strict=True)).__getitem__, tails))


def _canonical_ids(prefix: bytes, heads: Sequence[bytes]) -> list[int] | None:
    text = b"\n" + b"\n".join(heads)
    if text.count(prefix) != len(heads):  # bare digits without it are no message
        return None
    digits = text.replace(prefix, b"\n").split(b"\n")[1:]
    if len(digits) != len(heads) or not b"".join(digits).isdigit() or max(map(len, digits)) > MAX_ID_DIGITS:
        return None
    # An empty id, and one that begins with 0, are for the slow path.
    return list(map(int, digits)) if min(digits) >= b"1" else None


def _canonical_fragments(tails: Sequence[bytes]) -> list[str] | None:
    """Fragments of `TS|name:NAME|task:TASK`.

    The field names become marks, and nothing but the marks may be left then.
    """
    text = b"\n".join(tails)
    if _NAME_MARK in text or _TASK_MARK in text:
        return None
    text = text.replace(b"|name:", _NAME_MARK).replace(b"|task:", _TASK_MARK)
    marks = _NAME_MARK + _TASK_MARK
    if text.translate(None, _PLAIN) != (marks + b"\n") * (len(tails) - 1) + marks:
        return None
    text = text.replace(_NAME_MARK, b'","name":"').replace(_TASK_MARK, b'","task":"')
    fragments = text.decode("ascii").split("\n")
    return fragments if min(fragments) >= "#" else None  # an empty time leaves a quote in front


def _decode_each(partition: int, offsets: Sequence[int], values: Sequence[bytes | None]) -> PartBatch:
    batch = PartBatch(partition, [], [], [])
    for offset, value in zip(offsets, values, strict=True):
        try:
            part = decode_part(value)
        except MessageError as error:
            batch.rejects.append(Reject(partition, offset, "malformed", str(error), value or b""))
            continue
        if part.number != partition + 1:
            detail = f"part {part.number} belongs to partition {part.number - 1}"
            batch.rejects.append(Reject(partition, offset, "wrong_partition", detail, value or b""))
        else:
            batch.ids.append(part.id)
            batch.entries.append((offset, fragment(part.ts, part.name, part.task), value))
    return batch


def fragment(ts: str, name: str, task: str) -> str:
    """The members of a part's JSON object, as `PartEntry` holds them."""
    return f'{json.dumps(ts)[1:-1]}","name":"{json.dumps(name)[1:-1]}","task":"{json.dumps(task)[1:-1]}'


def entry_bytes(partition: int, house_id: int, entry: PartEntry) -> bytes:
    """The message that a part came as."""
    if entry[2] is not None:
        return entry[2]
    fields = entry[1].replace('","name":"', "|name:").replace('","task":"', "|task:")
    return f"partition_{partition + 1}|id:{house_id}|ts:{fields}".encode()
