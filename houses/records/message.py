"""The wire format: parts of houses and stornos, as bytes on Kafka.

A part is `partition_N|id:X|ts:TS|name:NAME|task:TASK`; a storno is `{"id":N,"partition":P}`, `{"id":N}` or `N`.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from houses.errors import ConfigError, MessageError

MAX_ID_DIGITS = 18
MAX_ID = 10**MAX_ID_DIGITS - 1
FULL = 0b111
"""Mask of the excluded parts of a fully cancelled house: bit N-1 stands for part N."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the three parts of a house."""

    number: int
    """1 to 3, as messages and files name it."""
    name: str
    workers: tuple[str, ...]

    @property
    def partition(self) -> int:
        """Kafka partition, 0 to 2."""
        return self.number - 1

    @property
    def mask(self) -> int:
        """The bit of this part in a set of excluded parts."""
        return 1 << self.partition


PARTS = (
    Part(1, "foundation", ("alice", "bob", "charlie", "diana", "eve")),
    Part(2, "wall", ("wall_alice", "wall_bob")),
    Part(3, "roof", ("roof_alice", "roof_bob")),
)
PART_NAMES = [part.name for part in PARTS]
PART_BY_NAME = {part.name: part for part in PARTS}


_MASKS = {part.number: part.mask for part in PARTS}


def mask_of(numbers: Iterable[int]) -> int:
    """The mask of part numbers, of which some may stand twice; `KeyError` when one is not 1 to 3."""
    return sum(_MASKS[number] for number in set(numbers))


def excluded_parts(mask: int) -> list[int]:
    """The part numbers (1 to 3) of a mask."""
    return [part.number for part in PARTS if mask & part.mask]


def part_names(mask: int) -> list[str]:
    """The names of the parts of a mask."""
    return [part.name for part in PARTS if mask & part.mask]


def part_named(name: str) -> Part:
    """The part of that name; `ConfigError` lists the names when there is none."""
    if name not in PART_BY_NAME:
        raise ConfigError(f"part {name!r}: must be one of {', '.join(PART_BY_NAME)}")
    return PART_BY_NAME[name]


def parse_house_id(text: str | bytes) -> int | None:
    """A house id as messages and files have it, ASCII digits and at most 18 of them; None when the text is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS else None


class PartMessage(NamedTuple):
    """A decoded part message."""

    number: int
    id: int
    ts: str
    name: str
    task: str


class Storno(NamedTuple):
    """A decoded storno message: the house and the mask of the parts that it cancels."""

    id: int
    mask: int


Reason = Literal["malformed", "wrong_partition", "duplicate", "evicted", "gap"]


class Reject(NamedTuple):
    """A consumed record that is no part of a house in the files, and why."""

    partition: int
    """Kafka partition of the parts topic, or STORNO for the storno topic."""
    offset: int
    reason: Reason
    detail: str
    raw: bytes


STORNO = 3
"""Index of the storno topic's only partition, behind the three of the parts topic, wherever positions are kept."""


def utc_now() -> str:
    """This moment as UTC ISO 8601 with microseconds and Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str | None) -> datetime | None:
    """A time of a message or a line, in UTC; None when it is none, or names no zone, as those of the older programs."""
    try:
        time = datetime.fromisoformat(text or "")
        return time.astimezone(UTC) if time.tzinfo else None
    except (ValueError, OverflowError):  # the first and the last hours that there are may be none in UTC
        return None


def encode_part(part: Part, house_id: int, ts: str, name: str, task: str | None = None) -> bytes:
    """One part message; `MessageError` when a value does not fit the format."""
    return encode_parts(part, [house_id], ts, [name], task)[0]


def encode_parts(
    part: Part, house_ids: Sequence[int], ts: str, names: Sequence[str], task: str | None = None
) -> list[bytes]:
    """One message per id, all with the time `ts` and each with its worker of `names`."""
    # The producers pass a range, whose ends are known without going through it.
    ends = (*house_ids[:1], *house_ids[-1:]) if isinstance(house_ids, range) else house_ids
    if house_ids and not 0 <= min(ends) <= max(ends) <= MAX_ID:
        raise MessageError(f"house id {min(ends)} to {max(ends)}: must be 0 to {MAX_ID}")
    for text in {ts, part.name if task is None else task, *names}:
        _check_text(text)
    if not ts:
        raise MessageError("ts is empty: give a time such as 2026-01-31T12:00:00.000000Z")
    prefix, ending = f"partition_{part.number}|id:", f"|task:{part.name if task is None else task}"
    middle = {name: f"|ts:{ts}|name:{name}{ending}" for name in set(names)}
    return [f"{prefix}{i}{middle[name]}".encode() for i, name in zip(house_ids, names, strict=True)]


def _check_text(text: str) -> None:
    if "|" in text or not text.isprintable():
        raise MessageError(f"{text!r}: a name, task or time may hold neither | nor control characters; remove them")


_ID = rf"([0-9]{{1,{MAX_ID_DIGITS}}})"
_HEAD = rf"(?:partition|part)_([123])\|id:{_ID}\|"
_PART = re.compile(rf"{_HEAD}ts:([^|]+)\|name:([^|]*)\|task:([^|]*)(?:\|.*)?", re.DOTALL)
_BEGINNING = re.compile(_HEAD.encode())
_BARE_ID = re.compile(rf"{_ID}[ \t\r\n]*".encode())


def decode_part(value: bytes | None) -> PartMessage:
    """One part message, in today's or the older form; `MessageError` says what is wrong with it."""
    try:
        text = (value or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise MessageError(f"not UTF-8 at byte {error.start}") from None
    match = _PART.fullmatch(text)
    if not match:
        raise MessageError("empty" if not text else "not partition_N|id:X|ts:TS|name:NAME|task:TASK")
    number, house_id, ts, name, task = match.groups()
    return PartMessage(int(number), int(house_id), ts, name, task)


def peek_id(value: bytes) -> int | None:
    """The house id at the head of a part message that may be cut short, or None."""
    match = _BEGINNING.match(value)
    return int(match[2]) if match else None


def encode_storno(house_id: int, part: Part | None = None) -> bytes:
    """A full storno, or one that cancels a single part."""
    if not 0 <= house_id <= MAX_ID:
        raise MessageError(f"house id {house_id}: must be 0 to {MAX_ID}")
    message = {"id": house_id} if part is None else {"id": house_id, "partition": part.number}
    return json.dumps(message, separators=(",", ":")).encode()


def decode_storno(value: bytes | None) -> Storno:
    """One storno message; `MessageError` says what is wrong with it."""
    value = value or b""
    if _BARE_ID.fullmatch(value):
        return Storno(int(value), FULL)
    try:
        message = json.loads(value.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except MessageError:
        raise
    except (ValueError, RecursionError):
        raise MessageError("neither digits nor JSON" if value else "empty") from None
    if not isinstance(message, dict):
        raise MessageError("not a JSON object")
    house_id = _strict_int(message, "id", 0, MAX_ID)
    number = _strict_int(message, "partition", 0, len(PARTS)) if "partition" in message else 0
    return Storno(house_id, PARTS[number - 1].mask if number else FULL)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MessageError("a JSON key stands twice")
    return members


def _no_constant(name: str) -> None:
    raise MessageError(f"{name} is no JSON")


def _strict_int(message: dict[str, Any], key: str, low: int, high: int) -> int:
    value = message.get(key)
    if type(value) is not int or not low <= value <= high:  # bool is a subclass of int and no id
        raise MessageError(f"{key} is not a whole number from {low} to {high}")
    return value
