"""The wire format: what we write, what we read, and that the fast way over a batch reads the same as message by message."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.records import TS, part_values
from support.reference import read_part, read_storno

from houses.errors import MessageError
from houses.records.decode import PartBatch, decode_parts, entry_bytes
from houses.records.message import (
    FULL,
    MAX_ID,
    PARTS,
    Part,
    decode_part,
    decode_storno,
    encode_part,
    encode_parts,
    encode_storno,
    parse_house_id,
    parse_time,
    part_names,
    peek_id,
    utc_now,
)

IDS = st.one_of(st.integers(0, 30), st.integers(0, MAX_ID))
# What encode_part takes: no |, no control characters; str.isprintable also refuses other spaces and unassigned characters.
TEXTS = st.text(max_size=20).filter(lambda text: "|" not in text and text.isprintable())
CANONICAL = b"partition_1|id:7|ts:" + TS.encode() + b"|name:bob|task:foundation"


def mutated(value: bytes, cut: int, length: int, put: bytes) -> bytes:
    """A message with some bytes replaced by others."""
    cut %= len(value) + 1
    return value[:cut] + put + value[cut + length :]


PIECES = st.sampled_from(
    [b"", b"|", b"\n", b"\x01", b"\x02", b'"', b"0", b"|ts:", b"|name:", b"|id:", b"\xc3", b"partition_1|id:"]
)
MUTATED = st.builds(
    mutated, st.just(CANONICAL), st.integers(0, 80), st.integers(0, 20), st.one_of(PIECES, st.binary(max_size=3))
)
VALUES = st.one_of(part_values(0, IDS), MUTATED, st.binary(max_size=60), st.just(CANONICAL))


def plain_batch(values: list[bytes | None]) -> list[Any]:
    """Outcome of each record, by the reference: (offset, id, JSON members, bytes), or the reason of its reject."""
    outcomes: list[Any] = []
    for offset, value in enumerate(values):
        found = read_part(value)
        if found is None:
            outcomes.append((offset, "malformed", value or b""))
        elif found[0] != 1:
            outcomes.append((offset, "wrong_partition", value or b""))
        else:
            outcomes.append((offset, found[1], dict(zip(("ts", "name", "task"), found[2:], strict=True)), value))
    return outcomes


def flat(batch: PartBatch) -> list[Any]:
    """A decoded batch in the same form as `plain_batch`."""
    parts = [
        (entry[0], house_id, json.loads(f'{{"ts":"{entry[1]}"}}'), entry_bytes(0, house_id, entry))
        for house_id, entry in zip(batch.ids, batch.entries, strict=True)
    ]
    rejects = [(reject.offset, reject.reason, reject.raw) for reject in batch.rejects]
    return sorted([*parts, *rejects], key=lambda outcome: int(outcome[0]))


@given(st.lists(VALUES, max_size=6))
@example([b"7|ts:a|name:b|task:c"])
@example([CANONICAL, b"7|ts:a|name:b|task:c"])
@example([CANONICAL + b"\n" + CANONICAL, b""])
@example([None])
@example([])
def test_a_batch_is_read_as_its_messages_one_by_one(values: list[bytes | None]) -> None:
    """Ids, members, bytes and rejects of a batch are those of a plain parser, whatever the bytes are."""
    batch = decode_parts(0, range(len(values)), values)
    assert flat(batch) == plain_batch(values)
    assert all(reject.partition == 0 for reject in batch.rejects)


@given(st.lists(MUTATED, min_size=1, max_size=2))
def test_a_batch_is_read_right_when_messages_are_almost_right(values: list[bytes | None]) -> None:
    """A good message with a few bytes changed, next to a good one, is read as a plain parser reads it."""
    for batch in (values, [CANONICAL, *values], [*values, CANONICAL]):
        assert flat(decode_parts(0, range(len(batch)), batch)) == plain_batch(batch)


@given(VALUES)
def test_one_message_is_read_as_the_plain_parser_does(value: bytes | None) -> None:
    """decode_part takes exactly the messages that the plain parser takes, with the same fields."""
    try:
        found = tuple(decode_part(value))
    except MessageError:
        found = None
    assert found == read_part(value)
    if found:
        assert peek_id(value or b"") == found[1]


@given(st.sampled_from(PARTS), st.lists(st.tuples(IDS, TEXTS), max_size=5), TEXTS.filter(bool), st.none() | TEXTS)
def test_what_we_write_is_what_we_read(part: Part, houses: list[tuple[int, str]], ts: str, task: str | None) -> None:
    """encode_parts and decode_parts are inverses, for every text that encode takes."""
    ids, names = [i for i, _ in houses], [name for _, name in houses]
    values = encode_parts(part, ids, ts, names, task)
    batch = decode_parts(part.partition, range(len(ids)), list(values))
    assert batch.ids == ids and not batch.rejects
    members = [json.loads(f'{{"ts":"{entry[1]}"}}') for entry in batch.entries]
    wanted_task = part.name if task is None else task
    assert members == [{"ts": ts, "name": name, "task": wanted_task} for name in names]


@given(st.text(max_size=5))
def test_a_text_that_would_break_the_format_is_never_sent(text: str) -> None:
    """encode_part refuses | and control characters, and lets nothing else spoil what is read back."""
    if "|" not in text and text.isprintable():
        assert decode_part(encode_part(PARTS[0], 1, TS, text)).name == text
    else:
        with pytest.raises(MessageError, match=re.escape(repr(text))):
            encode_part(PARTS[0], 1, TS, text)


@pytest.mark.parametrize("house_id", [-1, MAX_ID + 1])
def test_an_id_that_does_not_fit_is_never_sent(house_id: int) -> None:
    """Ids are 0 to 10^18 - 1: others are refused and quoted, for parts and stornos."""
    with pytest.raises(MessageError, match=str(house_id)):
        encode_part(PARTS[0], house_id, TS, "bob")
    with pytest.raises(MessageError, match=str(house_id)):
        encode_storno(house_id)


def test_an_empty_time_is_never_sent() -> None:
    """A part without a time would be malformed, so it is refused before."""
    with pytest.raises(MessageError, match="ts is empty"):
        encode_part(PARTS[0], 1, "", "bob")


def test_the_time_we_send_is_utc_with_microseconds() -> None:
    """2026-01-31T12:00:00.000000Z is the form of every time."""
    assert len(utc_now()) == len(TS) and utc_now().endswith("Z") and utc_now()[10] == "T"


# --- the older programs ---


def test_a_time_is_known_when_it_names_its_zone() -> None:
    """Z or an offset, told in UTC; and what we send is now."""
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for text in ("2026-01-31T12:00:00.000000Z", "2026-01-31T13:00:00+01:00", "2026-01-31T06:30:00.000-05:30"):
        found = parse_time(text)
        assert found == noon and found.utcoffset() == timedelta(0)
    assert abs((parse_time(utc_now()) or noon) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        "2026-01-31T12:00:00",
        "20260131_120000",
        "2026-02-31T12:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "\ud800",
    ],
)
def test_a_time_without_a_zone_or_that_is_none_is_unknown(text: str | None) -> None:
    """The older programs wrote local times; and a message may hold anything."""
    assert parse_time(text) is None


@pytest.mark.parametrize("text", ["0", "7", "007", "9" * 18, b"7"])
def test_a_house_id_is_digits(text: str | bytes) -> None:
    """Leading zeros name the same id."""
    assert parse_house_id(text) == int(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1_0", " 1", "1\n", "\u0661", "\u00b2", "9" * 19, b"", b"\xb2"])
def test_what_else_python_takes_for_a_number_is_no_house_id(text: str | bytes) -> None:
    """Signs, underscores, blanks, other digits, and more digits than a message may hold."""
    assert parse_house_id(text) is None


def test_a_mask_has_the_names_of_its_parts() -> None:
    """In the order of the parts."""
    assert [part_names(mask) for mask in (0, 0b110, FULL)] == [[], ["wall", "roof"], ["foundation", "wall", "roof"]]


def older_part(value: bytes) -> tuple[int, int, str, str, str] | None:
    """The parser of the older consumer: a bad number silently becomes 0; ts, name and task keep their prefixes."""
    fields = value.decode("utf-8").split("|")
    if len(fields) < 5 or not fields[0].startswith(("partition_", "part_")) or not fields[1].startswith("id:"):
        return None
    _, _, number = fields[0].rpartition("_")
    return older_number(number), older_number(fields[1].removeprefix("id:")), fields[2], fields[3], fields[4]


def older_number(digits: str) -> int:
    """A number of base 10, or 0."""
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def older_storno(value: bytes) -> tuple[int, int]:
    """Id and part (0: all) as the older consumer reads them."""
    message = json.loads(value)
    return (message, 0) if isinstance(message, int) else (message["id"], message.get("partition", 0))


@given(st.sampled_from(PARTS), IDS, TEXTS)
def test_the_older_consumer_reads_what_we_send(part: Part, house_id: int, name: str) -> None:
    """Its parser finds part, id, time, name and task in our messages."""
    found = older_part(encode_part(part, house_id, TS, name))
    assert found == (part.number, house_id, f"ts:{TS}", f"name:{name}", f"task:{part.name}")


@given(IDS, st.sampled_from([None, *PARTS]))
def test_the_older_consumer_reads_our_stornos(house_id: int, part: Part | None) -> None:
    """Its parser finds the id, and the part of a partial storno."""
    assert older_storno(encode_storno(house_id, part)) == (house_id, part.number if part else 0)


# --- stornos ---


@given(IDS, st.sampled_from([None, *PARTS]))
def test_a_storno_is_read_as_it_was_written(house_id: int, part: Part | None) -> None:
    """encode_storno and decode_storno are inverses."""
    assert tuple(decode_storno(encode_storno(house_id, part))) == (house_id, part.mask if part else FULL)


@pytest.mark.parametrize(
    ("value", "mask"),
    [
        (b"7", FULL),
        (b"007", FULL),
        (b"7 \t\r\n", FULL),
        (b'{"id":7}', FULL),
        (b' {"partition": 0, "id": 7}\n', FULL),
        (b'{"id":7,"partition":1}', 0b001),
        (b'{"id":7,"partition":3}', 0b100),
        (b'{"id":7,"why":{"a":[null,1.5,true]}}', FULL),
    ],
)
def test_stornos_of_every_form_are_read(value: bytes, mask: int) -> None:
    """Bare digits and JSON objects, full and partial, with unknown members."""
    assert tuple(decode_storno(value)) == (7, mask)


@pytest.mark.parametrize(
    "value",
    [
        None, b"", b"  ", b" 7", b"7 7", b"-7", b"7.0", b"7e0", b"+7", b"0x7", b"1234567890123456789", "\u0667".encode(), b"\xff",
        b"null", b"[7]", b'"7"', b"true", b"{}", b"{'id':7}", b'{"id":7', b'{"id":7}}', b'{"id":007}', b"[" * 100_000, b"9" * 5000,
        b'{"id":"7"}', b'{"id":7.0}', b'{"id":true}', b'{"id":null}', b'{"id":-1}', b'{"id":1000000000000000000}', b'{"id":[7]}',
        b'{"id":7,"partition":4}', b'{"id":7,"partition":-1}', b'{"id":7,"partition":2.0}', b'{"id":7,"partition":"2"}',
        b'{"id":7,"partition":true}', b'{"id":7,"partition":null}', b'{"ID":7}', b'{"id":7,"id":7}', b'{"id":7,"i\\u0064":8}',
        b'{"id":7,"partition":1,"partition":1}', b'{"id":7,"why":NaN}', b'{"id":7,"why":-Infinity}', b'\xef\xbb\xbf{"id":7}',
    ],
)  # fmt: skip
def test_a_bad_storno_is_malformed(value: bytes | None) -> None:
    """Strict JSON integers, no doubles, nothing else: a MessageError, never another error and never a guess."""
    with pytest.raises(MessageError):
        decode_storno(value)


@given(
    st.one_of(
        st.binary(max_size=30), st.text('{}":,id partition0123456789.eE-truefalsn[]', max_size=30).map(str.encode)
    )
)
def test_any_bytes_are_a_storno_or_malformed(value: bytes) -> None:
    """decode_storno takes exactly what the plain parser takes and raises nothing but MessageError."""
    try:
        found = tuple(decode_storno(value))
    except MessageError:
        found = None
    plain = read_storno(value)
    assert found == (plain and (plain[0], sum(1 << (number - 1) for number in plain[1])))
