"""Ways in which the files of `finished_run` can be wrong: what changes, and what `verify` must say of it."""

import base64
from collections.abc import Callable
from typing import Any, NamedTuple

from houses.records.message import PARTS
from support.finished_run import TS, Files, Record

Do = Callable[[Files], object]
Pick = Callable[[Record], bool]
FAR = 10**6
"""An offset that no topic has."""


class Damage(NamedTuple):
    """One damage."""

    name: str
    do: Do
    problems: dict[str, int]
    """Kind -> how often: all that may be found."""
    says: str
    """Regular expression of a culprit's line."""


# --- which line ---


def house(house_id: int) -> Pick:
    """The line of a house."""
    return lambda record: record["id"] == house_id


def late(house_id: int, storno_offset: int) -> Pick:
    """The line of a late storno."""
    return lambda record: (record["id"], record["storno_offset"]) == (house_id, storno_offset)


def because(reason: str) -> Pick:
    """A reject line about the parts topic."""
    return lambda record: record["reason"] == reason and record["topic"].startswith("parts")


def of_storno(record: Record) -> bool:
    """A reject line about the storno topic."""
    return bool(record["topic"].startswith("storno"))


# --- what happens to it ---


def edited(file: str, wanted: Pick, change: Callable[[Record], list[Record]]) -> Do:
    """Other lines in its place."""
    return lambda files: files.edit(file, wanted, change)


def both(*damages: Do) -> Do:
    """Several damages."""
    return lambda files: [do(files) for do in damages]


def removed(file: str, wanted: Pick) -> Do:
    """It is gone."""
    return edited(file, wanted, lambda _: [])


def doubled(file: str, wanted: Pick) -> Do:
    """It is there twice."""
    return edited(file, wanted, lambda record: [record, record])


def changed(file: str, wanted: Pick, **values: Any) -> Do:
    """It says something else."""
    return edited(file, wanted, lambda record: [record | values])


def part_changed(file: str, wanted: Pick, number: int, **values: Any) -> Do:
    """It says something else of a part."""
    key = f"partition_{number}"

    def change(record: Record) -> list[Record]:
        parts = record["house"]
        return [record | {"house": parts | {key: parts[key] | values}}]

    return edited(file, wanted, change)


def added(file: str, make: Callable[[Files], Record]) -> Do:
    """A line that nobody wrote."""
    return lambda files: files.add(file, make(files))


def house_of(house_id: int, offsets: tuple[int, int, int]) -> Record:
    """A line of houses.jsonl."""
    parts = {
        f"partition_{part.number}": {"ts": TS, "name": part.workers[0], "task": part.name, "offset": offset}
        for part, offset in zip(PARTS, offsets, strict=True)
    }
    return {"id": house_id, "house": parts, "completed_at": TS}


def late_storno(house_id: int, storno_offset: int) -> Record:
    """A line of a late full storno."""
    return {"id": house_id, "house": {}, "storno": "full", "storno_offset": storno_offset, "late": True}


def reject(files: Files, offset: int, reason: str, raw: bytes, detail: str = "") -> Record:
    """A reject line about partition 0 of the parts topic."""
    line = {"topic": files.config.kafka.topic, "partition": 0, "offset": offset, "reason": reason}
    return line | {"detail": detail, "raw": base64.b64encode(raw).decode()}
