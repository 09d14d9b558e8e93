"""The output files as pandas tables: one row per house, storno, reject, measurement or injected fault.

Times are in UTC, latencies in ms.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
import pandas as pd

from houses.errors import FolderError, MessageError
from houses.producer.faults import FAULTS_NAME, KINDS
from houses.records.blocks import Block, blocks
from houses.records.lines import (
    TEXT,
    HouseLine,
    RejectLine,
    house_form,
    members_form,
    parse_any_reject_line,
    parse_house_line,
    split_lines,
    storno_form,
)
from houses.records.message import FULL, PART_NAMES, PARTS, mask_of, parse_time, part_names, peek_id
from houses.records.metrics import parse_metrics

Columns = dict[str, Any]
"""Column name -> array of the same length."""
_Line = TypeVar("_Line")

# As `utc_now` writes it, and as numpy reads it; a year 0 is one to numpy alone.
_TIME = r"(?!0000)([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6})Z"
_MEMBERS = members_form(_TIME, f"({TEXT})")
_HOUSE_LINE = re.compile(house_form(_MEMBERS, _TIME).encode())
"""All but rare lines; one match is three times as fast as a parse and a walk."""
_STORNO_LINE = re.compile(storno_form(_MEMBERS, _TIME).encode())


def _matched_columns(form: re.Pattern[bytes], data: bytes) -> Columns | None:
    """Columns of whole lines, one match a line; None when some line is of another form."""
    found = form.findall(data)
    if not found or len(found) != data.count(b"\n"):
        return None
    fields = list(zip(*found, strict=True))
    try:
        return _from_matches(fields[:11], fields[13:16]) | _storno_from_matches(*fields[11:13], *fields[16:])
    except ValueError:  # a day such as 2026-02-31
        return None


def _from_matches(fields: list[tuple[bytes, ...]], offsets: list[tuple[bytes, ...]]) -> Columns:
    """Columns of houses; `offsets` of all parts, also excluded ones, where the lines have them."""
    columns: Columns = {"id": _digits(fields[0])}
    for part in PARTS:
        ts, name, offset = fields[3 * part.partition + 1 : 3 * part.partition + 4]
        if offsets:
            offset = tuple(other or own for other, own in zip(offsets[part.partition], offset, strict=True))
        texts = {text: text.decode("ascii") or None for text in set(name)}
        columns[f"{part.name}_sent"] = _exact_times(ts)
        columns[f"{part.name}_worker"] = np.array([texts[text] for text in name], object)
        columns[f"{part.name}_offset"] = _digits(offset)
    return columns | {"completed_at": _exact_times(fields[10])}


def _storno_from_matches(*fields: tuple[bytes, ...]) -> Columns:
    if not fields:
        return {}
    excluded, storno_offset, late = fields
    masks = {text: mask_of(map(int, text.split(b","))) if text else FULL for text in set(excluded)}
    return {
        "mask": np.array([masks[text] for text in excluded], np.int8),
        "storno_offset": _digits(storno_offset),
        "late": np.array(late, bool),
    }


def _digits(texts: Sequence[bytes]) -> Any:
    numbers = np.array([int(text or 0) for text in texts], np.int64)
    return pd.arrays.IntegerArray(numbers, np.array([not text for text in texts], bool))


def _exact_times(texts: Sequence[bytes]) -> pd.DatetimeIndex:
    return _utc(np.array([text or b"NaT" for text in texts], "S26"))


def _utc(times: "np.ndarray[Any, Any]") -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times.astype("datetime64[us]")).tz_localize("UTC")


def house_columns(lines: Sequence[HouseLine]) -> Columns:
    """Columns of lines of houses.jsonl."""
    columns: Columns = {"id": _ints(line.id for line in lines)}
    for part in PARTS:
        members = [line.parts.get(f"partition_{part.number}", {}) for line in lines]
        columns[f"{part.name}_sent"] = _times(member.get("ts") for member in members)
        columns[f"{part.name}_worker"] = np.array([member.get("name") or None for member in members], object)
        columns[f"{part.name}_offset"] = _ints(line.offsets.get(part.partition) for line in lines)
    return columns | {"completed_at": _times(line.completed_at for line in lines)}


def storno_columns(lines: Sequence[HouseLine]) -> Columns:
    """Columns of lines of storno_houses.jsonl: those of houses, `mask` of excluded parts, `storno_offset`, `late`."""
    return house_columns(lines) | {
        "mask": np.array([line.mask for line in lines], np.int8),
        "storno_offset": _ints(line.storno_offset for line in lines),
        "late": np.array([line.late for line in lines], bool),
    }


def reject_columns(lines: Sequence[RejectLine]) -> Columns:
    """Columns of lines of rejects.jsonl."""
    texts = {
        key: pd.array([getattr(line, key) for line in lines], dtype="str") for key in ("topic", "reason", "detail")
    }
    numbers = {key: _ints(getattr(line, key) for line in lines) for key in ("partition", "offset")}
    raw = [line.raw for line in lines]
    return texts | numbers | {"id": _ints(map(peek_id, raw)), "raw": np.array(raw, object)}


def _times(texts: Iterable[str | None]) -> pd.DatetimeIndex:
    """Times in UTC; NaT for those of the older programs, whose zone nobody knows."""
    return _utc(np.array([time and time.replace(tzinfo=None) for time in map(parse_time, texts)], object))


def _ints(values: Iterable[int | None]) -> Any:
    return pd.array(list(values), dtype="Int64")


_STATES = ["none", "full", "partial"]
NAMES_BY_MASK = ["+".join(part_names(mask)) for mask in range(FULL + 1)]
"""Names of parts, joined by +, by mask."""
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
    lines = _table(folder / "storno_houses.jsonl", _parse_storno, storno_columns, _STORNO_LINE)
    houses = _with_latency(_table(folder / "houses.jsonl", parse_house_line, house_columns, _HOUSE_LINE))
    states = lines.drop_duplicates("id", keep="last")[["id", *_STORNO_COLUMNS]]
    own = _with_latency(lines[~lines["late"]].drop(columns=_STORNO_COLUMNS))
    written = _stack([own, houses[houses["id"].isin(states["id"])]])
    stornos = states.merge(written, on="id", how="left")
    masks = states.set_index("id")["mask"].reindex(houses["id"]).fillna(0).to_numpy(np.int8)
    return Loaded(
        _with_state(houses, masks),
        _with_state(stornos, stornos.pop("mask").to_numpy()),
        _table(folder / "rejects.jsonl", parse_any_reject_line, reject_columns),
    )


def _parse_storno(line: bytes) -> HouseLine:
    parsed = parse_house_line(line)
    if not parsed.mask:
        raise MessageError(f"not a line of a cancelled house: {line[:80]!r}")
    return parsed


def _table(
    path: Path,
    parse: Callable[[bytes], _Line],
    columns: Callable[[Sequence[_Line]], Columns],
    form: re.Pattern[bytes] | None = None,
) -> pd.DataFrame:
    """All whole lines of a file as one table; many at once where they are of a form, else one by one with the same result."""
    stretches = [
        (form and _matched_columns(form, block.data)) or columns(_parsed(path, block, parse))
        for block in blocks(path)
        if not block.is_torn  # it is being written, or was left by a killed consumer
    ]
    frame = _stack([*map(pd.DataFrame, stretches)] or [pd.DataFrame(columns([]))])
    few = [name for name in frame if name.endswith("_worker") or name in ("topic", "reason")]
    return frame.astype(dict.fromkeys(few, "category"))


def _parsed(path: Path, block: Block, parse: Callable[[bytes], _Line]) -> list[_Line]:
    lines: list[_Line] = []
    for number, line in enumerate(split_lines(block.data)):
        try:
            lines.append(parse(line))
        except MessageError as error:
            place = f"damaged at byte {block.byte_of(number)} ({line[:60]!r})"
            raise FolderError(f"{path}: {place}: restore the file, or see what is lost: houses verify") from error
    return lines


def _stack(frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


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
        storno=pd.Categorical.from_codes(states, _STATES), excluded=pd.Categorical.from_codes(masks, NAMES_BY_MASK)
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
    frame["time"] = _times(frame["time"])
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
