"""Faults on purpose: what they do to a stream, and that each one is recorded."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kafka_lab import read_jsonl

from houses.config.models import PartFaults
from houses.errors import MessageError
from houses.producer.faults import KINDS, MALFORMED, FaultInjector, FaultLog
from houses.records.message import PARTS, Part, decode_part, encode_part, encode_parts

WALL = PARTS[1]
TS = "2026-01-31T12:00:00.000000Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the faults are recorded."""
    return tmp_path / "faults.jsonl"


@pytest.fixture
def log(path: Path) -> Iterator[FaultLog]:
    """An open log; closed (as often as one likes) before it is read."""
    log = FaultLog(path)
    yield log
    log.close()


def walls(ids: range) -> list[bytes]:
    """A message for each id."""
    return encode_parts(WALL, ids, TS, ["wall_bob"] * len(ids))


def injected(log: FaultLog, faults: PartFaults, seed: int = 1, count: int = 1000) -> list[bytes]:
    """What becomes of the first `count` walls."""
    return FaultInjector(WALL, seed, log).apply(faults, range(count), walls(range(count)), TS)[1]


def test_no_faults_change_nothing(log: FaultLog) -> None:
    """With all shares 0 the very same messages come out."""
    assert injected(log, PartFaults()) == walls(range(1000))


@pytest.mark.parametrize(("kind", "messages"), [("drop", 0), ("malformed", 10), ("duplicate", 20)])
def test_a_share_of_one_hits_every_message(log: FaultLog, path: Path, kind: str, messages: int) -> None:
    """Ten messages dropped are none, malformed ten, duplicated twenty; each is recorded with part, id and time."""
    assert len(injected(log, PartFaults(**{kind: 1.0}), count=10)) == messages
    log.close()
    lines = read_jsonl(path)
    assert [(line["part"], line["id"], line["fault"], line["ts"]) for line in lines] == [
        ("wall", house_id, kind, TS) for house_id in range(10)
    ]


def test_a_duplicate_is_the_same_bytes_right_behind(log: FaultLog) -> None:
    """Both copies stand together, in the order of the ids."""
    ids, values = FaultInjector(WALL, 1, log).apply(PartFaults(duplicate=1.0), range(2), walls(range(2)), TS)
    assert ids == [0, 0, 1, 1]
    assert values == [value for value in walls(range(2)) for _ in (1, 2)]


def test_a_share_hits_about_that_many(log: FaultLog) -> None:
    """Of 10,000 messages a share of 0.1 drops about 1,000 (the seed is fixed, so this never varies)."""
    assert 8800 < len(injected(log, PartFaults(drop=0.1), count=10_000)) < 9200


def test_the_same_seed_hits_the_same_messages(log: FaultLog) -> None:
    """A second run with the same seed and shares does the same to the byte; another seed does not."""
    faults = PartFaults(drop=0.1, duplicate=0.1, malformed=0.1)
    assert injected(log, faults, seed=7) == injected(log, faults, seed=7)
    assert injected(log, faults, seed=7) != injected(log, faults, seed=8)


def test_the_size_of_batches_does_not_matter(log: FaultLog) -> None:
    """The n-th message of the part meets the same fate, however the messages were handed over."""
    faults = PartFaults(drop=0.3, duplicate=0.3)
    injector = FaultInjector(WALL, 1, log)
    single = [value for i in range(1000) for value in injector.apply(faults, [i], walls(range(i, i + 1)), TS)[1]]
    assert single == injected(log, faults)


def test_parts_have_random_streams_of_their_own(log: FaultLog) -> None:
    """One seed drops different houses of each part."""
    kept = [
        FaultInjector(part, 1, log).apply(PartFaults(drop=0.5), range(100), walls(range(100)), TS)[0] for part in PARTS
    ]
    assert kept[0] != kept[1] != kept[2] != kept[0]


def test_one_kind_does_not_move_the_hits_of_another(log: FaultLog, path: Path) -> None:
    """Turning duplicates on drops the same messages as before."""
    injected(log, PartFaults(drop=0.1))
    injected(log, PartFaults(drop=0.1, duplicate=0.5))
    log.close()
    drops = [line["id"] for line in read_jsonl(path) if line["fault"] == "drop"]
    assert drops[: len(drops) // 2] == drops[len(drops) // 2 :]


@given(st.sampled_from(PARTS), st.integers(0, 10**18 - 1), st.sampled_from(sorted(MALFORMED)))
def test_a_malformed_message_is_no_part_in_any_form(part: Part, house_id: int, kind: str) -> None:
    """Every kind of malformed message is refused by the reader, for every part and id."""
    value = encode_part(part, house_id, TS, part.workers[0])
    with pytest.raises(MessageError):
        decode_part(MALFORMED[kind](part, house_id, value))


def test_every_kind_of_malformed_message_occurs(log: FaultLog, path: Path) -> None:
    """A thousand malformed messages show each kind, and the log names it."""
    injector = FaultInjector(WALL, 1, log)
    injector.apply(PartFaults(malformed=1.0), range(1000), walls(range(1000)), TS)
    log.close()
    assert set(Counter(line["kind"] for line in read_jsonl(path))) == set(MALFORMED)
    assert injector.counts == {**dict.fromkeys(KINDS, 0), "malformed": 1000}


def test_the_log_goes_on_behind_what_is_there(log: FaultLog, path: Path) -> None:
    """A second run appends to the file of the first."""
    injected(log, PartFaults(drop=1.0), count=2)
    log.close()
    second = FaultLog(path)
    injected(second, PartFaults(drop=1.0), count=3)
    second.close()
    assert [line["id"] for line in read_jsonl(path)] == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("torn", ['{"part":"wall","id":1', "x" * 100_000])
def test_a_torn_line_does_not_spoil_the_file(path: Path, torn: str) -> None:
    """What a crash left unfinished is cut off, so every line can be read."""
    path.write_text('{"whole":1}\n' + torn)
    FaultLog(path).close()
    assert path.read_text().startswith('{"whole":1}\n')
    log = FaultLog(path)
    log.add(WALL, TS, [(5, "drop", {})])
    log.close()
    assert path.read_text().splitlines()[-1] == f'{{"part":"wall","id":5,"fault":"drop","ts":"{TS}"}}'
