"""Lines of the JSONL files to columns, fast: a stretch of the file at a time, never a Python object per value where it can be helped."""

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import orjson
import pandas as pd

from houses.records.message import FULL, PARTS, peek_id

Columns = dict[str, Any]
"""Column name -> array of the same length."""
Record = dict[str, Any]

UTC_DTYPE = pd.DatetimeTZDtype("us", "UTC")

_TIME = rb'"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6})Z"'
_PART = rb'"partition_%d":\{"ts":' + _TIME + rb',"name":"([^"\\]*)","task":"[^"\\]*","offset":([0-9]{1,18})\}'
_HOUSE_LINE = re.compile(
    rb'^\{"id":([0-9]{1,18}),"house":\{'
    + b",".join(_PART.replace(b"%d", b"%d" % part.number) for part in PARTS)
    + rb'\},"completed_at":'
    + _TIME
    + rb"\}\n",
    re.MULTILINE,
)
"""A line as the consumer writes it, in all but rare cases; one match is three times as fast as a parse and a walk."""
_STORNO_LINE = re.compile(
    rb'^\{"id":([0-9]{1,18}),"house":\{'
    + b"".join(rb'(?:%s(?:,(?=")|(?=\})))?' % _PART.replace(b"%d", b"%d" % part.number) for part in PARTS)
    + rb'\}(?:,"completed_at":%s)?,"storno":"(?:full"|partial","excluded_partitions":\[([1-3](?:,[1-3])*)\])' % _TIME
    + rb'(?:,"storno_offset":([0-9]{1,18}))?'
    + rb'(?:,"offsets":\{"1":([0-9]{1,18}),"2":([0-9]{1,18}),"3":([0-9]{1,18})\})?(,"late":true)?\}\n',
    re.MULTILINE,
)
"""The same for a cancelled house, whose excluded parts are missing, and for a late storno, which has none. What is not there is
empty in the match."""


def house_columns(data: bytes) -> Columns:
    """Columns of whole lines of houses.jsonl.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: some line is not one of a house.
    """
    return _fast(_HOUSE_LINE, _from_matches, data) or _house_columns(_records(data))


def storno_columns(data: bytes) -> Columns:
    """Columns of whole lines of storno_houses.jsonl: those of houses, `mask` of excluded parts, `storno_offset`, `late`.

    Raises: as `house_columns`.
    """
    if columns := _fast(_STORNO_LINE, _from_storno_matches, data):
        return columns
    records = _records(data)
    return _house_columns(records) | {
        "mask": np.array([_mask(record) for record in records], np.int8),
        "storno_offset": _ints(record.get("storno_offset") for record in records),
        "late": np.array([record.get("late", False) for record in records], bool),
    }


def reject_columns(data: bytes) -> Columns:
    """Columns of whole lines of rejects.jsonl.

    Raises: as `house_columns`.
    """
    records = _records(data)
    raw = [base64.b64decode(record["raw"]) for record in records]
    texts = {key: pd.array([record[key] for record in records], dtype="str") for key in ("topic", "reason", "detail")}
    numbers = {key: _ints(record[key] for record in records) for key in ("partition", "offset")}
    return texts | numbers | {"id": _ints(map(peek_id, raw)), "raw": _texts(raw)}


def times(texts: Iterable[str | None]) -> pd.DatetimeIndex:
    """Times as we send them; NaT for those of the older programs, whose zone nobody knows."""
    known = [text if text and text[-1] == "Z" else None for text in texts]
    return pd.DatetimeIndex(pd.to_datetime(known, format="ISO8601", utc=True, errors="coerce")).astype(UTC_DTYPE)


def _fast(line: re.Pattern[bytes], read: Callable[[list[tuple[bytes, ...]]], Columns], data: bytes) -> Columns | None:
    """Columns from the matches, one a line; None when some line is of another form."""
    found = line.findall(data)
    if not found or len(found) != data.count(b"\n"):
        return None
    try:
        return read(list(zip(*found, strict=True)))
    except ValueError:  # a day such as 2026-02-31
        return None


def _from_storno_matches(fields: list[tuple[bytes, ...]]) -> Columns:
    house, (excluded, storno_offset, *offsets, late) = fields[:11], fields[11:]
    for part in PARTS:
        at, others = 3 * part.partition + 3, offsets[part.partition]
        house[at] = tuple(own or other for own, other in zip(house[at], others, strict=True))
    masks = {text: sum(PARTS[int(number) - 1].mask for number in text.split(b",")) for text in set(excluded) - {b""}}
    return _from_matches(house) | {
        "mask": np.array([masks.get(text, FULL) for text in excluded], np.int8),
        "storno_offset": _digits(storno_offset),
        "late": np.array(late, bool),
    }


def _from_matches(fields: list[tuple[bytes, ...]]) -> Columns:
    columns: Columns = {"id": _digits(fields[0])}
    for part in PARTS:
        ts, name, offset = fields[3 * part.partition + 1 : 3 * part.partition + 4]
        texts = {text: text.decode("ascii") or None for text in set(name)}
        columns[f"{part.name}_sent"] = _exact_times(ts)
        columns[f"{part.name}_worker"] = _texts([texts[text] for text in name])
        columns[f"{part.name}_offset"] = _digits(offset)
    return columns | {"completed_at": _exact_times(fields[-1])}


def _digits(texts: Sequence[bytes]) -> Any:
    numbers = np.array([int(text or 0) for text in texts], np.int64)
    return pd.arrays.IntegerArray(numbers, np.array([not text for text in texts], bool))


def _exact_times(texts: Sequence[bytes]) -> pd.DatetimeIndex:
    known = [text or b"NaT" for text in texts]
    return pd.DatetimeIndex(np.array(known, "S26").astype("datetime64[us]")).tz_localize("UTC")


def _records(data: bytes) -> list[Record]:
    # A line is JSON without raw line feeds inside, so a whole stretch can be read as one array, the fastest way.
    records: list[Record] = orjson.loads(b"[" + data[:-1].replace(b"\n", b",") + b"]")
    if len(records) != data.count(b"\n"):
        raise ValueError("an empty line, or several records in one")
    return records


def _house_columns(records: list[Record]) -> Columns:
    columns: Columns = {"id": _ints(record["id"] for record in records)}
    houses = [record["house"] for record in records]
    offsets = [record.get("offsets", {}) for record in records]
    for part in PARTS:
        key, number = f"partition_{part.number}", str(part.number)
        entries = [house.get(key, {}) for house in houses]
        columns[f"{part.name}_sent"] = times(entry.get("ts") for entry in entries)
        columns[f"{part.name}_worker"] = _texts(
            [entry.get("name", "").removeprefix("name:") or None for entry in entries]
        )
        of_part = (entry.get("offset", other.get(number)) for entry, other in zip(entries, offsets, strict=True))
        columns[f"{part.name}_offset"] = _ints(of_part)
    return columns | {"completed_at": times(record.get("completed_at") for record in records)}


def _mask(record: Record) -> int:
    return FULL if record["storno"] == "full" else _partial_mask(record)


def _partial_mask(record: Record) -> int:
    if record["storno"] != "partial":
        raise ValueError(record["storno"])
    return sum(PARTS[number - 1].mask for number in record["excluded_partitions"])


def _ints(values: Iterable[int | None]) -> Any:
    return pd.array(list(values), dtype="Int64")


def _texts(values: Sequence[Any]) -> Any:
    column = np.empty(len(values), object)
    column[:] = values
    return column
