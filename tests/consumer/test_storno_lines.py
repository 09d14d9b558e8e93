"""Stornos on a real Kafka, case by case: the exact lines that the consumer writes."""

import json
from pathlib import Path

import pytest
from support.command_line import consuming, ends
from support.kafka_lab import wait_until
from support.records import TS
from support.topic_feed import Feed

from houses.records.message import PARTS, encode_storno
from houses.verify.verify import verify

FULL = encode_storno(7)
FOUNDATION, WALL, ROOF = (encode_storno(7, part) for part in PARTS)
PART_1, PART_2, PART_3 = (
    f'"partition_{part.number}":{{"ts":"{TS}","name":"{part.workers[0]}","task":"{part.name}","offset":0}}'
    for part in PARTS
)
OFFSETS = '"offsets":{"1":0,"2":0,"3":0}'
WHOLE = f'"house":{{{PART_1},{PART_2},{PART_3}}}'


@pytest.fixture
def feed(tmp_path: Path, kafka: str) -> Feed:
    """Topics of the test's own."""
    return Feed(tmp_path, kafka, {"consumer.max_pending_age_sec": 0.1, "consumer.max_batch": 10})


def text(feed: Feed, name: str) -> list[str]:
    """The lines of a file as they stand, but with a fixed completed_at."""
    lines = feed.path(name).read_text(encoding="ascii").splitlines()
    times = [json.loads(line).get("completed_at") for line in lines]
    return [line.replace(time, "NOW") if time else line for line, time in zip(lines, times, strict=True)]


def cancelled(house: str, state: str) -> str:
    """The line of house 7 in storno_houses.jsonl, when it was cancelled before its last part came."""
    return f'{{"id":7,{house},"completed_at":"NOW",{state},{OFFSETS}}}'


def late(state: str) -> str:
    """The line of a storno of house 7 after the house was written."""
    return f'{{"id":7,"house":{{}},{state},"late":true}}'


def register(feed: Feed) -> tuple[list[int], dict[str, list[int]]]:
    """What storno_ids.json says."""
    record = json.loads(feed.config.storno_ids_path.read_text(encoding="ascii"))
    return record["full"], record["partial"]


def proven(feed: Feed) -> bool:
    """Every record has its outcome, every storno is in the register and in the last line of its house."""
    certificate = verify(feed.config)
    assert certificate.ok, certificate
    return True


# --- before the last part ---


def test_a_full_storno_before_the_parts_cancels_the_house(feed: Feed) -> None:
    """The house is written when its third part has come, with all parts, in storno_houses.jsonl only."""
    feed.storno(FULL)
    feed.houses(7)
    assert feed.read() == {"cancelled": 1, "stornos": 1}
    assert text(feed, "houses") == []
    assert text(feed, "storno") == [cancelled(WHOLE, '"storno":"full","storno_offset":0')]
    assert register(feed) == ([7], {}) and proven(feed)


def test_a_partial_storno_before_the_parts_leaves_its_part_out(feed: Feed) -> None:
    """The line keeps the offsets of all three parts."""
    feed.storno(WALL)
    feed.houses(7)
    feed.read()
    state = '"storno":"partial","excluded_partitions":[2],"storno_offset":0'
    assert text(feed, "storno") == [cancelled(f'"house":{{{PART_1},{PART_3}}}', state)]
    assert text(feed, "houses") == [] and register(feed) == ([], {"7": [2]}) and proven(feed)


def test_a_full_storno_between_the_parts_cancels_the_house(feed: Feed) -> None:
    """Two parts are read and wait; the storno alone completes nothing."""
    feed.part(1, 7)
    feed.part(2, 7)
    feed.read()
    feed.storno(FULL)
    assert feed.read() == {"stornos": 1}
    assert text(feed, "storno") == []
    feed.part(3, 7)
    assert feed.read() == {"cancelled": 1}
    assert text(feed, "storno") == [cancelled(WHOLE, '"storno":"full","storno_offset":0')] and proven(feed)


def test_a_partial_storno_between_the_parts_leaves_its_part_out(feed: Feed) -> None:
    """Also when the excluded part is the one that comes last: a storno never completes a house."""
    feed.part(1, 7)
    feed.part(2, 7)
    feed.storno(ROOF)
    feed.read()
    assert text(feed, "storno") == []
    feed.part(3, 7)
    feed.read()
    state = '"storno":"partial","excluded_partitions":[3],"storno_offset":0'
    assert text(feed, "storno") == [cancelled(f'"house":{{{PART_1},{PART_2}}}', state)] and proven(feed)


# --- after the house was written ---


def test_a_full_storno_after_the_house_is_a_late_line(feed: Feed) -> None:
    """The line in houses.jsonl stays; readers join by id."""
    feed.houses(7)
    feed.read()
    before = text(feed, "houses")
    feed.storno(FULL)
    assert feed.read() == {"stornos": 1, "late": 1}
    assert text(feed, "houses") == before == [f'{{"id":7,{WHOLE},"completed_at":"NOW"}}']
    assert text(feed, "storno") == [late('"storno":"full","storno_offset":0')]
    assert register(feed) == ([7], {}) and proven(feed)


def test_a_partial_storno_after_the_house_is_a_late_line(feed: Feed) -> None:
    """It names the excluded part."""
    feed.houses(7)
    feed.read()
    feed.storno(WALL)
    feed.read()
    assert text(feed, "storno") == [late('"storno":"partial","excluded_partitions":[2],"storno_offset":0')]
    assert proven(feed)


def test_a_storno_after_a_running_consumer_wrote_the_house_is_a_late_line(feed: Feed) -> None:
    """It is on the disk within about a second, though nothing else comes."""
    feed.config.dump(feed.config.path)
    with consuming(feed.config) as process:
        feed.houses(7)
        wait_until(lambda: feed.ids() == [7], "the house")
        feed.storno(FULL)
        wait_until(lambda: feed.ids("storno") == [7], "the late line")
        process.terminate()
        assert ends(process)[0] == 0
    assert text(feed, "storno") == [late('"storno":"full","storno_offset":0')] and proven(feed)


def test_a_larger_storno_of_a_cancelled_house_is_a_late_line(feed: Feed) -> None:
    """The house is in storno_houses.jsonl with its wall left out; then all of it is cancelled: the last line counts."""
    feed.storno(WALL)
    feed.houses(7)
    feed.read()
    feed.storno(FULL)
    feed.read()
    state = '"storno":"partial","excluded_partitions":[2],"storno_offset":0'
    assert text(feed, "storno") == [
        cancelled(f'"house":{{{PART_1},{PART_3}}}', state),
        late('"storno":"full","storno_offset":1'),
    ]
    assert register(feed) == ([7], {}) and proven(feed)


# --- while the consumer is down ---


def test_stornos_sent_while_the_consumer_is_down_apply(feed: Feed) -> None:
    """To a written house by a late line, to a pending one and to one whose parts came meanwhile before they are joined."""
    feed.houses(7)
    feed.part(1, 8)
    feed.read()
    feed.houses(9)
    feed.part(2, 8)
    feed.part(3, 8)
    feed.storno(FULL, encode_storno(8), encode_storno(9))
    assert feed.read() == {"stornos": 3, "late": 1, "cancelled": 2}
    assert feed.ids() == [7]
    assert text(feed, "storno")[0] == late('"storno":"full","storno_offset":0')
    assert feed.ids("storno") == [7, 8, 9] or feed.ids("storno") == [7, 9, 8]
    assert [line["storno_offset"] for line in feed.lines("storno")] == [line["id"] - 7 for line in feed.lines("storno")]
    assert proven(feed)


def test_stornos_survive_a_kill(feed: Feed) -> None:
    """Read, not yet in a checkpoint, and the consumer is killed: the next one reads them again."""
    feed.config.dump(feed.config.path)
    feed.part(1, 7, 8)
    with consuming(feed.config) as process:
        feed.storno(WALL)
        feed.houses(8)
        wait_until(lambda: feed.ids() == [8], "house 8")
        process.kill()
    feed.part(2, 7)
    feed.part(3, 7)
    feed.read()
    (line,) = feed.lines("storno")
    assert (line["id"], line["excluded_partitions"], line["offsets"]) == (7, [2], {"1": 0, "2": 1, "3": 1})
    assert proven(feed)


# --- repeated, growing ---


def test_a_repeated_storno_changes_nothing(feed: Feed) -> None:
    """Before and after the house: one line, the first storno's offset, and full absorbs partial."""
    feed.storno(FULL, FULL, WALL)
    feed.houses(7)
    feed.read()
    feed.storno(FULL, ROOF, b"7")
    assert feed.read() == {"stornos": 3}
    assert text(feed, "storno") == [cancelled(WHOLE, '"storno":"full","storno_offset":0')] and proven(feed)


def test_a_repeated_late_storno_has_one_line(feed: Feed) -> None:
    """In one batch, in another, and after a restart."""
    feed.houses(7)
    feed.read()
    feed.storno(WALL, WALL)
    feed.read()
    feed.storno(WALL)
    feed.read()
    assert text(feed, "storno") == [late('"storno":"partial","excluded_partitions":[2],"storno_offset":0')]
    assert proven(feed)


def test_partial_stornos_before_the_house_add_up(feed: Feed) -> None:
    """Two of them leave one part; the offset is that of the one that last changed the state."""
    feed.storno(WALL, FOUNDATION, WALL)
    feed.houses(7)
    feed.read()
    state = '"storno":"partial","excluded_partitions":[1,2],"storno_offset":1'
    assert text(feed, "storno") == [cancelled(f'"house":{{{PART_3}}}', state)] and proven(feed)


def test_three_partial_stornos_before_the_house_are_a_full_one(feed: Feed) -> None:
    """All parts excluded equals full: the line shows them all."""
    feed.storno(ROOF, FOUNDATION, WALL)
    feed.houses(7)
    feed.read()
    assert text(feed, "storno") == [cancelled(WHOLE, '"storno":"full","storno_offset":2')]
    assert register(feed) == ([7], {}) and proven(feed)


def test_three_partial_stornos_after_the_house_are_three_late_lines(feed: Feed) -> None:
    """Each cancels more than the one before; the last one is full."""
    feed.houses(7)
    feed.read()
    feed.storno(ROOF, FOUNDATION, WALL)
    feed.read()
    assert text(feed, "storno") == [
        late('"storno":"partial","excluded_partitions":[3],"storno_offset":0'),
        late('"storno":"partial","excluded_partitions":[1,3],"storno_offset":1'),
        late('"storno":"full","storno_offset":2'),
    ]
    assert register(feed) == ([7], {}) and proven(feed)


def test_partials_before_and_after_the_house_add_up_to_full(feed: Feed) -> None:
    """The wall before, the roof while it waits, the foundation after it was written."""
    feed.storno(WALL)
    feed.part(1, 7)
    feed.read()
    feed.storno(ROOF)
    feed.part(2, 7)
    feed.part(3, 7)
    feed.read()
    feed.storno(FOUNDATION)
    feed.read()
    state = '"storno":"partial","excluded_partitions":[2,3],"storno_offset":1'
    assert text(feed, "storno") == [
        cancelled(f'"house":{{{PART_1}}}', state),
        late('"storno":"full","storno_offset":2'),
    ]
    assert proven(feed)


# --- of other ids ---


def test_a_storno_of_an_id_never_seen_waits_in_the_register(feed: Feed) -> None:
    """No line; the house is cancelled whenever it comes."""
    feed.storno(encode_storno(10**18 - 1), FULL)
    assert feed.read() == {"stornos": 2}
    assert text(feed, "storno") == [] and register(feed) == ([7, 10**18 - 1], {})
    feed.houses(7)
    feed.read()
    assert text(feed, "storno") == [cancelled(WHOLE, '"storno":"full","storno_offset":1')] and proven(feed)


def test_a_storno_does_not_keep_a_pending_house_from_being_given_up(feed: Feed) -> None:
    """A cancelled id is evicted like any other: its parts are reject lines, and it has no storno line."""
    give_up(feed, before=FULL)
    assert text(feed, "storno") == [] and register(feed) == ([7], {}) and proven(feed)


def test_a_storno_of_an_evicted_id_has_no_line(feed: Feed) -> None:
    """It is in the register; the house was never written, so there is nothing to cancel."""
    give_up(feed)
    feed.storno(FULL)
    assert feed.read() == {"stornos": 1}
    assert text(feed, "storno") == [] and register(feed) == ([7], {}) and proven(feed)


def give_up(feed: Feed, before: bytes | None = None) -> None:
    """House 7 without a wall, given up by a running consumer; `before` is a storno that comes first."""
    feed.config.dump(feed.config.path)
    if before:
        feed.storno(before)
    feed.part(1, 7)
    feed.part(3, 7)
    feed.houses(8)
    with consuming(feed.config) as process:
        wait_until(lambda: len(feed.lines("rejects")) == 2, "house 7 is given up")
        process.terminate()
        assert ends(process)[0] == 0
    assert [(line["partition"], line["offset"], line["reason"]) for line in feed.lines("rejects")] == [
        (0, 0, "evicted"),
        (2, 0, "evicted"),
    ]


# --- bad messages ---


def test_a_bad_storno_is_a_reject_line(feed: Feed) -> None:
    """Its place, its bytes and what is wrong with it; the good ones around it apply, and a restart adds nothing."""
    bad = [b"seven", b'{"id":7,"partition":4}', b'{"id":true}', b'{"id":7,"id":7}', b"", None]
    feed.storno(b"5", *bad, FULL)
    assert feed.read() == {"stornos": 2, "malformed": 6}
    topic = feed.config.consumer.storno_topic
    details = [
        "neither digits nor JSON",
        "partition is not a whole number from 0 to 3",
        "id is not a whole number from 0 to 999999999999999999",
        "a JSON key stands twice",
        "empty",
        "empty",
    ]
    raws = ["c2V2ZW4=", "eyJpZCI6NywicGFydGl0aW9uIjo0fQ==", "eyJpZCI6dHJ1ZX0=", "eyJpZCI6NywiaWQiOjd9", "", ""]
    assert text(feed, "rejects") == [
        f'{{"topic":"{topic}","partition":0,"offset":{offset},"reason":"malformed","detail":"{detail}","raw":"{raw}"}}'
        for offset, (detail, raw) in enumerate(zip(details, raws, strict=True), 1)
    ]
    assert register(feed) == ([5, 7], {})
    assert feed.read() == {} and len(text(feed, "rejects")) == 6 and proven(feed)


def test_stornos_of_the_older_programs_are_read(feed: Feed) -> None:
    """JSON with spaces, and bare numbers."""
    feed.houses(7)
    feed.storno(b'{"id": 7, "partition": 2}', b"8", b'{"id": 9, "partition": 0}')
    feed.read()
    assert register(feed) == ([8, 9], {"7": [2]}) and proven(feed)
