"""The lines of the JSONL files: written, and read back, also in the form of the older consumer."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from houses.errors import MessageError
from houses.records.decode import House, PartEntry
from houses.records.message import FULL, MAX_ID, PARTS, STORNO, Reject, excluded_parts, is_full, mask_of

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
    shown = [part for part in PARTS if is_full(mask) or not mask & part.mask]
    parts = ",".join(_part_member(part.number, entries[part.partition]) for part in shown)
    offsets = ",".join(f'"{part.number}":{entries[part.partition][0]}' for part in PARTS)
    return (
        f'{{"id":{house[0]},"house":{{{parts}}},"completed_at":"{completed_at}"'
        f'{_storno_members(mask, storno_offset)},"offsets":{{{offsets}}}}}\n'
    )


def late_line(house_id: int, mask: int, storno_offset: int | None) -> str:
    """The line of a storno whose house was already written: no parts; readers join by id, the last line counts."""
    return f'{{"id":{house_id},"house":{{}}{_storno_members(mask, storno_offset)},"late":true}}\n'


def _part_member(number: int, entry: PartEntry) -> str:
    return f'"partition_{number}":{{"ts":"{entry[1]}","offset":{entry[0]}}}'


def _storno_members(mask: int, storno_offset: int | None) -> str:
    excluded = "" if is_full(mask) else f',"excluded_partitions":{excluded_parts(mask)}'.replace(" ", "")
    offset = "" if storno_offset is None else f',"storno_offset":{storno_offset}'
    return f',"storno":"{"full" if is_full(mask) else "partial"}"{excluded}{offset}'


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


def parse_reject_line(line: bytes, topics: tuple[str, str]) -> Reject:
    """Read one line of rejects.jsonl; `MessageError` when it is not one of these topics'."""
    try:
        record = orjson.loads(line)
        partition, offset, reason, detail = (record[key] for key in ("partition", "offset", "reason", "detail"))
        if [type(member) for member in (partition, offset, reason, detail)] != [int, int, str, str]:
            raise TypeError
        if not 0 <= partition < len(PARTS) or not 0 <= offset <= MAX_OFFSET:
            raise ValueError(partition, offset)
        index = (partition, STORNO)[topics.index(record["topic"])]
        return Reject(index, offset, reason, detail, base64.b64decode(record["raw"], validate=True))
    except (ValueError, KeyError, TypeError):
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
