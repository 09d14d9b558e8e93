"""Input that nobody should send: named cases for messages, files, the command line and notebooks, and seeded mutation of good ones."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from support.records import TS

HOSTILE = "\x1b[31mred\x07\x1b]0;title\x1b\\\x9b2J\r\x7f\u202e<img src=x onerror=alert(1)>&\"'[/bold]"
"""Terminal escapes of both kinds, a bell, a carriage return, a turned direction, and HTML; no | and no line feed."""
DEEP = 100_000
"""Brackets, far more than any parser recurses."""

# --- ids ---

ODD_IDS = {
    "empty": "",
    "plus": "+7",
    "minus": "-7",
    "space before": " 7",
    "space behind": "7 ",
    "underscore": "1_0",
    "Arabic digit": "\u0667",
    "fullwidth digit": "\uff17",
    "superscript": "\u00b2",
    "Bengali digits": "\u09ed\u09ee",
    "hexadecimal": "0x7",
    "fraction": "7.0",
    "exponent": "7e0",
    "NaN": "NaN",
    "infinity": "Infinity",
    "19 digits": "1234567890123456789",
    "5,000 digits": "9" * 5000,
    "thousands": "1,000",
    "no-break space": "7\u00a0",
    "NUL": "7\x00",
    "tab": "7\t",
    "letters": "seven",
    "escape": "\x1b[31m7",
}
"""None of them is an id in a part message; `7 ` and a tab are allowed behind the digits of a storno."""


def part_message(
    prefix: str = "partition_1", house_id: str = "7", ts: str = TS, name: str = "bob", more: str = ""
) -> bytes:
    """A message in the form of a part."""
    return f"{prefix}|id:{house_id}|ts:{ts}|name:{name}|task:foundation{more}".encode()


GOOD_PART = part_message()

PART_MESSAGES: dict[str, bytes | None] = {
    **{f"id {name}": part_message(house_id=text) for name, text in ODD_IDS.items()},
    **{
        f"prefix {prefix!r}": part_message(prefix)
        for prefix in (
            *(
                "partition_0",
                "partition_4",
                "partition_7",
                "partition_-1",
                "partition_01",
                "partition_\uff11",
                "part_0",
            ),
            *(
                "partition_2",
                "part_3",
                "Partition_1",
                "partition_",
                "partition 1",
                "\ufeffpartition_1",
                " partition_1",
                "",
            ),
        )
    },
    "tombstone": None,
    "empty": b"",
    "byte ff": b"\xff" + GOOD_PART,
    "half a character": GOOD_PART + b"\xc5",
    "overlong slash": part_message(name="X").replace(b"X", b"\xc0\xaf"),
    "lone surrogate": part_message(name="X").replace(b"X", b"\xed\xa0\x80"),
    "beyond Unicode": part_message(name="X").replace(b"X", b"\xf4\x90\x80\x80"),
    "Latin-1": part_message(name="X").replace(b"X", b"\xe9"),
    "UTF-16": GOOD_PART.decode().encode("utf-16"),
    "1 MB of junk": bytes(range(256)) * 4096,
    "1 MB of bars": b"|" * 1_000_000,
    "1 MB name": part_message(name="n" * 1_000_000),
    "1 MB more fields": part_message(more="|x" * 500_000),
    "CRLF behind": GOOD_PART + b"\r\n",
    "CRLF in the name": part_message(name="a\r\nb"),
    "two messages": GOOD_PART + b"\n" + GOOD_PART,
    "NUL in the name": part_message(name="a\x00b"),
    "all control characters": part_message(name="".join(map(chr, range(32)))),
    "terminal escapes": part_message(name=HOSTILE),
    "escapes as time": part_message(ts=HOSTILE),
    "HTML": part_message(name="<script>alert(1)</script>"),
    "JSON quotes": part_message(name='","offset":0},"x":{"a":"'),
    "backslashes": part_message(name="\\u0000\\"),
    "no character": part_message(name="\uffff\ufdd0"),
    "empty time": part_message(ts=""),
    "blank time": part_message(ts=" "),
    "empty name and task": b"partition_1|id:7|ts:x|name:|task:",
    "four fields": b"partition_1|id:7|ts:x|name:bob",
    "fields swapped": b"partition_1|ts:x|id:7|name:bob|task:foundation",
    "field twice": b"partition_1|id:7|id:8|ts:x|name:bob|task:foundation",
    "capital field": b"partition_1|ID:7|ts:x|name:bob|task:foundation",
    "space behind the bar": b"partition_1| id:7|ts:x|name:bob|task:foundation",
    "only bars": b"|" * 9,
    "JSON": b'{"id":7,"partition":1}',
    "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x07.",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}

GOOD_STORNO = b'{"id":7,"partition":2}'

STORNO_MESSAGES: dict[str, bytes | None] = {
    **{f"bare {name}": text.encode() for name, text in ODD_IDS.items()},
    **{f"text {name}": json.dumps({"id": text}).encode() for name, text in ODD_IDS.items()},
    **{f"number {name}": b'{"id":%s}' % text.encode() for name, text in ODD_IDS.items()},
    **{
        f"partition {value}": b'{"id":7,"partition":%s}' % value.encode()
        for value in ("0", "4", "7", "-1", "1.0", "1e0", "true", "null", '"2"', "[2]", "{}", "NaN", "01", "9" * 5000)
    },
    "tombstone": None,
    "byte ff": b'\xff{"id":7}',
    "BOM": b'\xef\xbb\xbf{"id":7}',
    "UTF-16": '{"id":7}'.encode("utf-16"),
    "lone surrogate as bytes": b'{"id":7,"why":"\xed\xa0\x80"}',
    "lone surrogate escaped": b'{"id":7,"why":"\\ud800"}',
    "surrogate as key": b'{"id":7,"\\udc80":1}',
    "id twice": b'{"id":7,"id":7}',
    "id twice, once escaped": b'{"id":7,"\\u0069d":8}',
    "inner key twice": b'{"id":7,"why":{"a":1,"a":1}}',
    "key twice in a list": b'{"id":7,"why":[[{"a":1,"a":2}]]}',
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "deep beside the id": b'{"id":7,"why":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "id nested": b'{"storno":{"id":7}}',
    "list of ids": b"[7,8]",
    "two stornos": b'{"id":7}\n{"id":8}',
    "comment": b'{"id":7} // why',
    "comma behind": b'{"id":7,}',
    "single quotes": b"{'id':7}",
    "raw control character": b'{"id":7,"why":"\x01"}',
    "escapes": json.dumps({"id": 7, "why": HOSTILE}).encode(),
    "CRLF": b'{"id":7}\r\n',
    "vertical tab": b"7\x0b",
    "1 MB of digits": b"7" * 1_000_000,
    "1 MB of blanks": b"7" + b" " * 1_000_000,
    "1 MB reason": b'{"id":7,"why":"' + b"x" * 1_000_000 + b'"}',
    "part message": GOOD_PART,
}

HEADERS: list[tuple[str, str | bytes | None]] = [("", b""), ("x" * 1000, b"\xff" * 1000), (HOSTILE, None), ("id", b"8")]
"""Of a Kafka record: nobody reads them."""

# --- files ---

CONFIGS: dict[str, bytes] = {
    "empty": b"",
    "byte ff": b"\xff",
    "NUL": b"kafka: {topic: a\x00b}",
    "UTF-16": "kafka: {}".encode("utf-16"),
    "lone surrogate": b"kafka: {topic: '\xed\xa0\x80'}",
    "escaped surrogate": b'kafka: {topic: "\\ud800"}',
    "escaped surrogate as key": b'kafka: {"\\ud800": 1}',
    "escapes as value": b'kafka: {topic: "\\e[31m\\a"}',
    "escapes as key": b'kafka: {"\\e[31m\\a": 1}',
    "escapes as section": b'"\\e[31m\\a": 1',
    "escapes as tag": b"kafka: !%1b%5b31m {}",
    "escapes as alias": b"kafka: *\xc2\x9b31m",
    "HTML": b"kafka: {topic: '<img src=x onerror=alert(1)>'}",
    "deep lists": b"kafka: " + b"[" * 5000,
    "deep mappings": b"kafka: " + b"{a: " * 5000,
    "deep blocks": b"".join(b" " * i + b"a:\n" for i in range(1500)),
    "key twice": b"kafka: {topic: a, topic: a}",
    "section twice": b"kafka: {}\nkafka: {}",
    "list": b"- kafka",
    "two documents": b"kafka: {}\n---\nkafka: {}",
    "1 MB of junk": b"x" * 1_000_000,
    "1 MB topic": b"kafka: {topic: " + b"x" * 1_000_000 + b"}",
    "CRLF and tab": b"kafka:\r\n\ttopic: a\r\n",
    "object of Python": b"kafka: !!python/object/apply:os.system [exit]",
    "merge of a list": b"kafka: {<<: [1, 2]}",
    "alias in itself": b"kafka: &a {topic: *a}",
    "number as key": b"1: 2",
    "null as key": b"{null: {}, ~: 1}",
    "binary": b"kafka: {topic: !!binary aGk=}",
    "date": b"kafka: {topic: 2026-01-31}",
    "set": b"kafka: !!set {topic}",
    "pairs": b"kafka: !!pairs [topic: a]",
    **{
        f"{key} = {text[:12]}": f"{section}: {{{key}: {text}}}".encode()
        for section, key in (("producer", "msgs_per_sec"), ("consumer", "flush_every"), ("producer", "retries"))
        for text in (
            *(
                ".nan",
                "-.inf",
                "1e999",
                "-1",
                "1_0_x",
                "'7'",
                "\u0667",
                "\uff17",
                "9" * 5000,
                "[1]",
                "{}",
                "true",
                "0x",
                "''",
            ),
            *("!!float x", "!!int ''", "0b", "-0x"),
        )
    },
}

Damage = Callable[[bytes], bytes]
"""What becomes of the bytes of a JSON object."""

DAMAGES: dict[str, Damage] = {
    "empty": lambda good: b"",
    "blank": lambda good: b" ",
    "half": lambda good: good[: len(good) // 2],
    "byte ff": lambda good: b"\xff" + good,
    "NUL in front": lambda good: b"\x00" + good,
    "all NUL": lambda good: bytes(len(good)),
    "UTF-16": lambda good: good.decode().encode("utf-16"),
    "junk behind": lambda good: good + b"}",
    "twice": lambda good: good + good,
    "deep lists": lambda good: b"[" * DEEP,
    "deep objects": lambda good: b'{"a":' * DEEP,
    "deep member": lambda good: good[:-1] + b',"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "1 MB of junk": lambda good: b"x" * 1_000_000,
    "list": lambda good: b"[" + good + b"]",
    "null": lambda good: b"null",
    "text": lambda good: b'"x"',
    "number": lambda good: b"7",
    "NaN": lambda good: b"NaN",
    "5,000 digits": lambda good: b"9" * 5000,
    "nothing in it": lambda good: b"{}",
    "digits as keys": lambda good: b'{"0":1}',
    "escapes": lambda good: HOSTILE.encode(),
    "escapes as member": lambda good: json.dumps({HOSTILE: HOSTILE}).encode(),
}
"""Of none of these anything is left that could be believed."""

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus": -1,
    "fraction": 1.5,
    "too large": 10**30,
    "a float without end": float("inf"),
    "no number": float("nan"),
    "digits": "7",
    "other digits": "\u0667",
    "escapes": HOSTILE,
    "surrogate": "\ud800",
    "list": [],
    "nested list": [[[1]]],
    "object": {},
    "nested object": {"x": {"y": HOSTILE}},
}
"""What a member of a JSON file may have become."""


def with_value(record: Any, value: Any) -> Iterator[Any]:
    """Copies of a JSON value, one for each place in it, with this value there; and one without that place, where there is a key."""
    places = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    for key, inner in places:
        for changed in (value, *with_value(inner, value)):
            copy = record.copy()
            copy[key] = changed
            yield copy
        if isinstance(record, dict):
            yield {name: kept for name, kept in record.items() if name != key}


# --- the command line ---

NUMBERS = ("NaN", "-inf", "inf", "1e999", "9" * 5000, "", " ", "-1", "\u0667x", "0x7", "<b>", HOSTILE, "\udcff")

ARGUMENTS: list[tuple[str, ...]] = [
    (HOSTILE,),
    ("",),
    ("--",),
    ("\udcff\udcfe",),
    (f"--{HOSTILE}",),
    (f"-{HOSTILE}",),
    ("--config",),
    ("--config", HOSTILE, "status"),
    ("--config", "", "status"),
    ("--config", "x" * 5000, "status"),
    ("kafka", HOSTILE),
    ("kafka", "start", HOSTILE),
    ("hello", HOSTILE),
    ("demo", HOSTILE),
    ("stop", HOSTILE),
    ("verify", HOSTILE),
    ("compact", HOSTILE),
    ("status", HOSTILE),
    ("reset", f"--{HOSTILE}"),
    ("naive",),
    ("consume", "--crash-at", HOSTILE),
    ("consume", "--crash-at", "after sync houses.jsonl \u0667"),
    ("consume", "--crash-at", "after sync houses.jsonl 0"),
    ("produce", "--rate", f"{HOSTILE}=5"),
    ("produce", "--rate", "wall=\u0667x"),
    ("produce", "--rate", "=5="),
    ("produce", "--fault", HOSTILE),
    ("produce", "--fault", f"roof.{HOSTILE}=1"),
    ("produce", "--fault", f"roof.drop={HOSTILE}"),
    ("produce", "--fault", "roof.drop"),
    ("produce", "--fault", "roof.drop=NaN"),
    ("produce", "--fault", "roof.drop=1e999"),
    ("produce", "--rate", "NaN"),
    ("produce", "--rate", "-1"),
    ("produce", "--rate", "1e999"),
    ("storno", "7", "--part", HOSTILE),
    ("storno", "7", "8"),
    ("show", "--pending", "--id", "7"),
    ("run",),
    ("run", HOSTILE),
    ("run", "\udcff"),
    ("run", "x" * 5000),
    ("run", "01", "--all"),
    ("run", "01", "-p", HOSTILE),
    ("run", "01", "-p", HOSTILE, HOSTILE),
    ("run", "01", "-p", "rate_hz", HOSTILE),
    ("run", "01", "-p", "rate_hz", "\udcff"),
    ("run", "01", "-p", "a=b", "c"),
    ("run", "01", "-p", f"a={HOSTILE}", "c"),
    ("run", "01", "--sweep", HOSTILE, "1,2"),
    ("run", "01", "--sweep", "rate_hz", HOSTILE),
    ("run", "01", "--sweep", "rate_hz", ""),
    *(("storno", text) for text in ODD_IDS.values() if text and "\x00" not in text),
    *(("show", "--id", text) for text in ODD_IDS.values() if text and "\x00" not in text),
    *(
        (*words, text)
        for words in (
            ("produce", "--seconds"),
            ("produce", "--count"),
            ("storno-loop", "--interval"),
            ("hello", "send", "--count"),
            ("hello", "send", "--interval"),
            ("show", "--last"),
            ("peek", "--count"),
            ("peek", "--from"),
            ("peek", "--partition"),
        )
        for text in NUMBERS
    ),
]
"""None of these is a command that can be carried out."""

BAD_PARAMETERS: dict[str, list[Any]] = {
    "rate_hz": ["", " ", "NaN", "-inf", "1e999", "0x7", "7f", "9" * 400, HOSTILE, "\ud800", "<b>", [], {}, b"7", "1,5", "\x00", True],
    "count": ["", "NaN", "1e999", "7.5", "1e30", "9" * 5000, HOSTILE, "\ud800", 2.5, "0b1", "[7]", "\uff17\u00b2", None],
    "loud": ["", "yes", "1", HOSTILE, "\ud800", "tru\u0435", "[]", 1, None],
    "name": [7, None, "\ud800", "\udcff", b"x", []],
    "sizes": ["", ",", "1,", "1,,2", "1;2", "1,NaN", "1,1e999", "1," + "9" * 5000, HOSTILE, "\ud800", 7, "0,1.5", [None], {}],
    "pair": ["", "(", "[" * DEEP, "(" * 200, "{[]: 1}", "__import__('os')", HOSTILE, "\x00", "\ud800", "1 +", "-" * DEEP + "1"],
}  # fmt: skip
"""By the parameters of PARAMETERS_CELL: none of these is a value of theirs."""

PARAMETERS_CELL = """\
rate_hz: float = 500.0  # houses per second
count: int = 3  # how many
loud: bool = False  # whether it is loud
name: str = "tiny"  # what it is called
sizes: list[int] = [1, 20]  # to compare
pair: tuple = (1, 2)  # two of them"""

PARAMETERS_CELLS: dict[str, str] = {
    "no Python": "rate_hz: float = ",
    "NUL": "x = 1\x00",
    "deep lists": "x = " + "[" * 5000,
    "deep signs": "x = " + "-" * DEEP + "1",
    "5,000 digits": "x = " + "9" * 5000,
    "open text": "x = 'a",
    "surrogate": "x = 1  # \ud800",
    "escapes": HOSTILE,
    "tabs and blanks": "if x:\n\ty = 1\n        z = 2",
}
"""Cells with the tag `parameters` that are no such cells."""

# --- mutation ---

TOKENS = [
    *(b"|", b"\n", b"\r\n", b"\x00", b"\x1b[31m", b"\x9b", b"\xff", b"\xc5", b"\xed\xa0\x80", b'"', b"\\", b"\\ud800", b"{", b"}"),
    *(b"[", b"]", b":", b",", b" ", b"-", b"+", b"_", b"0", b"9" * 20, b"1e999", b"NaN", b"null", b"true", b'"id":', b"|id:", b"|ts:"),
    *(b"partition_", b"part_", b"4", b"7", "\u0667".encode(), "\uff17".encode(), "\u202e".encode(), b"<b>", b"&", b"'", b"# ", b"- ", b"*a"),
]  # fmt: skip


def mutated(random: Random, good: bytes) -> bytes:
    """A good message or file with one to three changes: bits flipped, stretches cut, repeated or moved, tokens put in."""
    data = bytearray(good)
    for _ in range(random.choice((1, 1, 2, 3))):
        at, length = random.randint(0, len(data)), random.choice((1, 1, 2, 5, 20))
        match random.randrange(5):
            case 0 if data:
                data[at % len(data)] ^= 1 << random.randrange(8)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length] * random.choice((1, 3, 50))
            case 3:
                data[at : at + random.choice((0, length))] = random.choice(TOKENS)
            case _:
                moved = data[at : at + length]
                del data[at : at + length]
                put = random.randint(0, len(data))
                data[put:put] = moved
    return bytes(data)
