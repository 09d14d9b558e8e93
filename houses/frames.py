"""The output files as pandas tables: one row per house, storno, reject or measurement, with times in UTC and latencies in ms."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from houses.columns import Columns, house_columns, reject_columns, storno_columns, times
from houses.errors import FolderError
from houses.records.lines import split_lines
from houses.records.message import FULL, PART_NAMES, excluded_parts
from houses.records.metrics import parse_metrics

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
