"""The output files as pandas tables: one row per house, storno, reject, measurement or injected fault.

Times are in UTC, latencies in ms.
"""

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from houses.errors import FolderError
from houses.producer.faults import FAULTS_NAME, KINDS
from houses.records.lines import split_lines
from houses.records.message import FULL, PART_NAMES, PARTS, excluded_parts, peek_id
from houses.records.metrics import parse_metrics

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


_CHUNK_BYTES = 1 << 20
_NO_LINE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)
"""What reading something else than a line of the file raises."""
_STATES = ["none", "full", "partial"]
_EXCLUDED = ["+".join(PART_NAMES[number - 1] for number in excluded_parts(mask)) for mask in range(FULL + 1)]
"""Names of the excluded parts by mask."""
_STORNO_COLUMNS = ["mask", "storno_offset", "late"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an output folder holds at one moment."""

    houses: pd.DataFrame
    """One row per line of houses.jsonl: `id`; `foundation_sent`, `foundation_worker`, `foundation_offset`, the same of wall and
    roof; `completed_at`; `latency_ms` (last part sent -> completed), `first_latency_ms` (first part sent -> completed),
    `last_part` (the part that was sent last) and `last_by_ms` (how long after the second); `storno` (none, full or partial)
    and `excluded` (names joined by +), which late stornos set. Times of the older programs name no zone and are NaT."""
    stornos: pd.DataFrame
    """One row per cancelled house: `id`, `storno`, `excluded`, `storno_offset`, `late` (it came after the house was written),
    and what is known of its parts, in the columns of `houses`."""
    rejects: pd.DataFrame
    """One row per line of rejects.jsonl: `topic`, `partition`, `offset`, `reason`, `detail`, `id` (where readable), `raw` (bytes)."""


def load(folder: Path | str) -> Loaded:
    """Read the output files of a folder, also while the consumer writes; absent files give empty tables.

    Raises:
        FolderError: a line other than an unterminated last one cannot be read.

    Example:
        >>> load(exp.folder).stornos[["id", "storno"]].values.tolist()
        [[7, 'full']]
    """
    folder = Path(folder)
    # Stornos first: a late one that is read here speaks of a house line that is in its file already.
    lines = _table(folder / "storno_houses.jsonl", storno_columns)
    houses = _with_latency(_table(folder / "houses.jsonl", house_columns))
    states = lines.drop_duplicates("id", keep="last")[["id", *_STORNO_COLUMNS]]
    own = _with_latency(lines[~lines["late"]].drop(columns=_STORNO_COLUMNS))
    written = _stack([own, houses[houses["id"].isin(states["id"])]])
    stornos = states.merge(written, on="id", how="left")
    masks = states.set_index("id")["mask"].reindex(houses["id"]).fillna(0).to_numpy(np.int8)
    return Loaded(
        _with_state(houses, masks),
        _with_state(stornos, stornos.pop("mask").to_numpy()),
        _table(folder / "rejects.jsonl", reject_columns),
    )


def _table(path: Path, columns: Callable[[bytes], Columns]) -> pd.DataFrame:
    """All lines of a file as one table."""
    frames = [pd.DataFrame(_read(path, position, data, columns)) for position, data in _stretches(path)]
    frame = _stack(frames or [pd.DataFrame(columns(b""))])
    few = [name for name in frame if name.endswith("_worker") or name in ("topic", "reason")]
    return frame.astype(dict.fromkeys(few, "category"))


def _stretches(path: Path) -> Iterator[tuple[int, bytes]]:
    """Whole lines and where they begin; an unterminated last line is left out: it is being written, or torn."""
    if not path.exists():
        return
    rest, position = b"", 0
    with path.open("rb") as file:
        while data := file.read(_CHUNK_BYTES):
            data = rest + data
            end = data.rfind(b"\n") + 1
            if end:
                yield position, data[:end]
            rest, position = data[end:], position + end


def _stack(frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


def _read(path: Path, position: int, data: bytes, columns: Callable[[bytes], Columns]) -> Columns:
    try:
        return columns(data)
    except _NO_LINE as error:
        for line in split_lines(data):
            if not _is_readable(line, columns):
                break
            position += len(line)
        raise FolderError(
            f"{path}: damaged at byte {position} ({line[:60]!r}): restore the file, or see what is lost: houses verify"
        ) from error


def _is_readable(line: bytes, columns: Callable[[bytes], Columns]) -> bool:
    try:
        columns(line)
    except _NO_LINE:
        return False
    return True


def _with_latency(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with its latencies; NaN where a time is not known."""
    sent = np.column_stack([_microseconds(frame[f"{name}_sent"]) for name in PART_NAMES])
    completed = _microseconds(frame["completed_at"])
    unknown = np.isnan(sent.sum(axis=1))
    first, second, last = np.sort(sent, axis=1).T
    codes = np.where(unknown, -1, np.nan_to_num(sent).argmax(axis=1))
    return frame.assign(
        latency_ms=(completed - last) / 1000,
        first_latency_ms=(completed - np.where(unknown, np.nan, first)) / 1000,
        last_part=pd.Categorical.from_codes(codes, PART_NAMES),
        last_by_ms=(last - np.where(unknown, np.nan, second)) / 1000,
    )


def _microseconds(column: "pd.Series[Any]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Unix time; exact, as a double holds whole microseconds until the year 2255."""
    index = pd.DatetimeIndex(column)
    return np.where(index.isna(), np.nan, index.asi8)


def _with_state(frame: pd.DataFrame, masks: "np.ndarray[Any, np.dtype[np.int8]]") -> pd.DataFrame:
    """The table with the excluded parts in words."""
    states = np.where(masks == FULL, 1, np.where(masks == 0, 0, 2))
    return frame.assign(
        storno=pd.Categorical.from_codes(states, _STATES), excluded=pd.Categorical.from_codes(masks, _EXCLUDED)
    )


# --- metrics ---


def load_metrics(path: Path | str) -> pd.DataFrame:
    """The lines of metrics.jsonl, one row each; torn ones, which killed consumers leave behind, are left out.

    Columns: `time` (UTC), `pid`, `state`, `last_error`, per part `wall_position` and `wall_low` (offsets), `storno_position`, `lag`
    (messages), `pending` (houses), `pending_id_sum`, `oldest_pending_age_s`, `checkpoint_generation`, and since that
    process began the `commits` (batches of houses synced) and the counts as `count_houses`, `count_duplicate` and so on.

    Example:
        >>> load_metrics(exp.folder / "metrics.jsonl")["state"].iloc[-1]
        'stopped'
    """
    path = Path(path)
    data = path.read_bytes() if path.exists() else b""
    rows = [_metrics_row(record) for line in split_lines(data) if (record := parse_metrics(line))]
    frame = pd.DataFrame(rows, columns=None if rows else ["time"])
    frame["time"] = times(frame["time"])
    counts = [name for name in frame if name.startswith("count_")]
    return frame.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, "int64"))


def _metrics_row(record: dict[str, Any]) -> dict[str, Any]:
    row = {key: value for key, value in record.items() if not isinstance(value, list | dict)}
    for key, column in (("position", "position"), ("low_watermark", "low")):
        row |= {f"{name}_{column}": value for name, value in zip(PART_NAMES, record[key], strict=True)}
    return row | {f"count_{kind}": number for kind, number in record["counts"].items()}


def truth(folder: Path | str) -> pd.DataFrame:
    """Per part (the index), what the producers injected on purpose, from faults.jsonl; a torn last line is left out.

    Columns: `drop`, `malformed`, `duplicate` (messages), and `delay_ms`, the largest delay that was set.

    Raises:
        FolderError: a whole line is none that the producers write.

    Example:
        >>> truth(exp.folder)["delay_ms"].to_dict()
        {'foundation': 0.0, 'wall': 0.0, 'roof': 300.0}
    """
    path = Path(folder) / FAULTS_NAME
    data = path.read_bytes() if path.exists() else b""
    counts: Counter[tuple[str, str]] = Counter()
    delays = dict.fromkeys(PART_NAMES, 0.0)
    for line in split_lines(data[: data.rfind(b"\n") + 1]):
        try:
            record = orjson.loads(line)
            counts[record["part"], record["fault"]] += 1
            delays[record["part"]] = max(delays[record["part"]], record.get("delay_ms", 0.0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FolderError(
                f"{path}: not a line of faults: {line[:60].rstrip()!r}: remove it, or run again"
            ) from error
    rows = {name: [counts[name, kind] for kind in KINDS] for name in PART_NAMES}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(KINDS))
    return table.assign(delay_ms=pd.Series(delays)).rename_axis("part")
