"""The lines of the JSONL files: written, and read back, also in the form of the older consumer.

Many lines of the usual form are read at once with the regular expressions of `house_form` and `storno_form`. Every line that
they match is read by `parse_house_line` to the same values.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from houses.errors import MessageError
from houses.records.decode import House, PartEntry
from houses.records.message import FULL, MAX_ID, PARTS, STORNO, Part, Reason, Reject, excluded_parts, mask_of

MAX_OFFSET = 2**63 - 1
_PARTITIONS = {f"partition_{part.number}": part.partition for part in PARTS}
_NONE: Mapping[str, int] = MappingProxyType({})
_STR, _INT = frozenset({str}), frozenset({int})
RAW_CAP_BYTES = 4096
"""How much of a rejected message its line keeps."""


def house_line(house: House, completed_at: str) -> str:
    """The line of a house in houses.jsonl."""
    i, (o1, f1, _), (o2, f2, _), (o3, f3, _) = house
    return (
        f'{{"id":{i},"house":{{"partition_1":{{"ts":"{f1}","offset":{o1}}},"partition_2":{{"ts":"{f2}","offset":{o2}}},'
        f'"partition_3":{{"ts":"{f3}","offset":{o3}}}}},"completed_at":"{completed_at}"}}\n'
    )


def storno_line(house: House, mask: int, storno_offset: int | None, completed_at: str) -> str:
    """The line of a cancelled house in storno_houses.jsonl: its parts but the excluded ones of a partial storno."""
    entries = house[1:]
    shown = [part for part in PARTS if mask == FULL or not mask & part.mask]
    parts = ",".join(_part_member(part.number, entries[part.partition]) for part in shown)
    offsets = ",".join(f'"{part.number}":{entries[part.partition][0]}' for part in PARTS)
    return (
        f'{{"id":{house[0]},"house":{{{parts}}},"completed_at":"{completed_at}"'
        f'{_storno_members(mask, storno_offset)},"offsets":{{{offsets}}}}}\n'
    )


def late_line(house_id: int, mask: int, storno_offset: int | None) -> str:
    """The line of a storno whose house was already written: no parts; readers join by id, the last line counts."""
    return f'{{"id":{house_id},"house":{{}}{_storno_members(mask, storno_offset)}{_LATE}\n'


_FULL, _LATE = '"full"', ',"late":true}'


def _part_member(number: int, entry: PartEntry) -> str:
    return f'"partition_{number}":{{"ts":"{entry[1]}","offset":{entry[0]}}}'


def _storno_members(mask: int, storno_offset: int | None) -> str:
    partial = f'"partial","excluded_partitions":{excluded_parts(mask)}'.replace(" ", "")
    offset = "" if storno_offset is None else f',"storno_offset":{storno_offset}'
    return f',"storno":{_FULL if mask == FULL else partial}{offset}'


def reject_line(reject: Reject, topics: tuple[str, str]) -> str:
    """The line of a rejected record in rejects.jsonl; `topics` are the names of the parts and the storno topic."""
    record = {
        "topic": topics[reject.partition == STORNO],
        "partition": 0 if reject.partition == STORNO else reject.partition,
        "offset": reject.offset,
        "reason": reject.reason,
        "detail": reject.detail,
        "raw": base64.b64encode(reject.raw[:RAW_CAP_BYTES]).decode(),
    }
    return json.dumps(record, separators=(",", ":")) + "\n"  # orjson cannot write ASCII only


TEXT = r"[ !#-\[\]-~]*"
"""Regular expression of a text that stands in JSON as it is."""
_NUMBER = r"(0|[1-9][0-9]{0,17})"
_START = rf'\{{"id":{_NUMBER},'


def members_form(ts: str, name: str) -> str:
    """Regular expression of the members of a part, as `PartEntry` holds them; `ts` and `name` are those of two values."""
    return f'{ts}","name":"{name}","task":"{TEXT}'


def _part_form(part: Part, members: str) -> str:
    return rf'"partition_{part.number}":\{{"ts":"{members}","offset":{_NUMBER}\}}'


def house_form(members: str, completed_at: str) -> str:
    """Regular expression of a line that `house_line` writes.

    Its groups: the id, for each part those of `members` and the offset, those of `completed_at`.
    """
    parts = ",".join(_part_form(part, members) for part in PARTS)
    return rf'(?m)^{_START}"house":\{{{parts}\}},"completed_at":"{completed_at}"\}}\n'


def storno_form(members: str, completed_at: str) -> str:
    """Regular expression of a line that `storno_line` or `late_line` writes.

    Its groups: those of `house_form`, the excluded parts of a partial storno, its offset, the offsets of all parts, the
    member of late ones. What is not there is empty in a match.
    """
    parts = "".join(rf'(?:{_part_form(part, members)}(?:,(?=")|(?=\}})))?' for part in PARTS)
    excluded = r'"partial","excluded_partitions":\[([1-3](?:,[1-3])*)\]'
    offsets = ",".join(f'"{part.number}":{_NUMBER}' for part in PARTS)
    return (
        # Without a time, which the older program never wrote, there are no parts: their texts would have its prefixes.
        rf'(?m)^{_START}"house":\{{(?:\}}|{parts}\}},"completed_at":"{completed_at}"),"storno":(?:{_FULL}|{excluded})'
        rf'(?:,"storno_offset":{_NUMBER})?(?:,"offsets":\{{{offsets}\}})?({_LATE[:-1]})?\}}\n'
    )


def line_start(house_id: int) -> bytes:
    """How each line of a house begins."""
    return b'{"id":%d,' % house_id


_ID = re.compile(_START.encode())


def line_id(line: bytes) -> int:
    """The id of a house line, which is read no further where the id is clear; `MessageError` when the line is none."""
    match = _ID.match(line)
    return int(match[1]) if match else parse_house_line(line).id


def is_late(line: bytes) -> bool:
    """Whether a line is one of a storno whose house was already written; its line feed may be missing."""
    return line.removesuffix(b"\n").endswith(_LATE.encode())


class HouseLine(NamedTuple):
    """A line of houses.jsonl or storno_houses.jsonl."""

    id: int
    offsets: Mapping[int, int]
    """Kafka partition -> offset of its part; empty in a late line; lacks excluded parts in older lines."""
    mask: int = 0
    """Excluded parts; 0 in houses.jsonl."""
    storno_offset: int | None = None
    late: bool = False
    parts: Mapping[str, Any] = _NONE
    """`partition_N` -> its `ts`, `name`, `task`, `offset`, without the prefixes of the older program."""
    completed_at: str | None = None
    """None in a line of the older program."""


def parse_house_line(line: bytes) -> HouseLine:
    """Read one line of houses.jsonl or storno_houses.jsonl; `MessageError` when it is not one."""
    try:
        record = orjson.loads(line)
        house = record["house"]
        offsets: dict[int, int] = {}
        texts: list[Any] = []
        for name, part in house.items():
            offsets[_PARTITIONS[name]] = part["offset"]
            texts += part["ts"], part["name"], part["task"]
        for number, offset in record.get("offsets", _NONE).items():
            offsets[_PARTITIONS[f"partition_{number}"]] = offset
        parsed = HouseLine(
            record["id"],
            offsets,
            _mask(record),
            record.get("storno_offset"),
            record.get("late", False),
            # Only the older program wrote prefixes, and no completed_at: a worker may really be called "name:bob" today.
            house if "completed_at" in record else {name: _without_prefixes(part) for name, part in house.items()},
            record.get("completed_at"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise MessageError(f"not a house line: {line[:80]!r}") from None
    numbers = [parsed.id, *offsets.values(), *_known(parsed.storno_offset)]
    texts += _known(parsed.completed_at)
    # By their types: a bool is an int too.
    if not (_STR.issuperset(map(type, texts)) and _INT.issuperset(map(type, numbers)) and type(parsed.late) is bool):
        raise MessageError(f"not a house line: {line[:80]!r}")
    if not 0 <= min(numbers) <= max(numbers) <= MAX_OFFSET or parsed.id > MAX_ID:
        raise MessageError(f"numbers that cannot be: {line[:80]!r}")
    return parsed


def _known(value: Any) -> list[Any]:
    return [] if value is None else [value]


def _mask(record: dict[str, Any]) -> int:
    match record.get("storno"):
        case None:
            return 0
        case "full":
            return FULL
        case "partial":
            return mask_of(record["excluded_partitions"])
        case other:
            raise ValueError(other)


def _without_prefixes(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value.removeprefix(f"{key}:") if isinstance(value, str) else value for key, value in part.items()}


class RejectLine(NamedTuple):
    """A line of rejects.jsonl: the topic by its name, the others as in `Reject`."""

    topic: str
    partition: int
    """Kafka partition of that topic."""
    offset: int
    reason: Reason
    detail: str
    raw: bytes


def parse_any_reject_line(line: bytes) -> RejectLine:
    """Read one line of rejects.jsonl, of any topics; `MessageError` when it is not one."""
    try:
        record = orjson.loads(line)
        topic, partition, offset, reason, detail, raw = found = [record[key] for key in RejectLine._fields]
        if [*map(type, found)] != [str, int, int, str, str, str]:
            raise TypeError
        if not 0 <= partition < len(PARTS) or not 0 <= offset <= MAX_OFFSET:
            raise ValueError(partition, offset)
        return RejectLine(topic, partition, offset, reason, detail, base64.b64decode(raw, validate=True))
    except (ValueError, KeyError, TypeError):
        raise MessageError(f"not a reject line: {line[:80]!r}") from None


def parse_reject_line(line: bytes, topics: tuple[str, str]) -> Reject:
    """Read one line of rejects.jsonl; `MessageError` when it is not one of these topics'."""
    try:
        found = parse_any_reject_line(line)
        return Reject((found.partition, STORNO)[topics.index(found.topic)], *found[2:])
    except ValueError:
        raise MessageError(f"not a reject line of {topics[0]} or {topics[1]}: {line[:80]!r}") from None


_GAP = re.compile(r"offsets ([0-9]{1,18}) to ([0-9]{1,18}) were deleted")


def gap_reject(partition: int, start: int, end: int) -> Reject:
    """The line that stands for the offsets from `start` on and below `end`, which were deleted before they were read."""
    return Reject(partition, start, "gap", f"offsets {start} to {end - 1} were deleted before they were read", b"")


def gap_range(reject: Reject) -> tuple[int, int]:
    """The first of the offsets of a `gap` line and the one behind them; `MessageError` when it is not one."""
    match = _GAP.match(reject.detail)
    if not match or int(match[1]) != reject.offset:
        raise MessageError(f"not a gap at offset {reject.offset}: {reject.detail!r}")
    return reject.offset, int(match[2]) + 1


def split_lines(data: bytes) -> Iterator[bytes]:
    """The lines of a stretch of a file, each with its line feed; the last one may lack it."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
