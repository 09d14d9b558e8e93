"""A house's story and the pending set at a position, from topics and files."""

import json
from pathlib import Path

import pytest
from support.finished_run import (
    EVICTED,
    FOUNDATION,
    PENDING,
    ROOF,
    TS,
    UNREAD,
    WALL,
    Files,
    Sender,
    consume_to_end,
    copy_run,
    make_finished_run,
)
from support.kafka_lab import make_lab, read_jsonl, reading, wait_until

from houses.config.config import Config
from houses.kafka.reader import first_and_end
from houses.records.message import encode_storno
from houses.records.metrics import last_metrics
from houses.verify.pending import pending_at, pending_houses
from houses.verify.story import story


@pytest.fixture(scope="module")
def finished(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A finished run, not to be changed."""
    return make_finished_run(tmp_path_factory.mktemp("finished"), kafka)


@pytest.fixture
def lab(kafka: str, tmp_path: Path) -> Config:
    """An empty folder with topics of its own."""
    return make_lab(tmp_path, kafka)


def completed_at(config: Config, house_id: int) -> str:
    """What the house's line says."""
    lines = read_jsonl(config.houses_path) + read_jsonl(config.storno_houses_path)
    return next(str(line["completed_at"]) for line in lines if line["id"] == house_id and "completed_at" in line)


# --- one house's story ---


def test_story_of_a_finished_house(finished: Config) -> None:
    """Three offsets, sent and completed times; a part that came twice is a reject of it."""
    assert story(finished, 3).lines() == [
        f"house 3: finished, completed {completed_at(finished, 3)}",
        f"foundation  written; partition 0 offset 3  sent {TS}  alice  foundation",
        f"wall        written; partition 1 offset 3  sent {TS}  wall_alice  wall",
        f"roof        written; partition 2 offset 3  sent {TS}  roof_alice  roof",
        "reject      wrong_partition; partition 0 offset 32: part 2 belongs to partition 1",
        "reject      duplicate; partition 0 offset 10: house 3 has its foundation",
    ]


def test_story_of_a_partly_cancelled_house_knows_the_excluded_part_s_offset(finished: Config) -> None:
    """Its line does not hold the part, but where it was."""
    assert story(finished, 9).lines() == [
        f"house 9: cancelled in part (wall) before it was complete ({completed_at(finished, 9)})",
        f"foundation  written; partition 0 offset 9  sent {TS}  alice  foundation",
        "wall        written; partition 1 offset 9",
        f"roof        written; partition 2 offset 9  sent {TS}  roof_alice  roof",
        "storno of wall, offset 1",
    ]


def test_story_lists_every_storno_also_repeated_ones(finished: Config) -> None:
    """House 12: its wall, its wall again, then all of it, after it was written."""
    told = story(finished, 12)
    assert (told.state, told.storno) == ("cancelled", "full storno")
    assert [str(storno) for storno in told.stornos] == [
        "storno of wall, offset 5",
        "storno of wall, offset 6",
        "full storno, offset 7",
    ]


def test_story_of_a_storno_that_was_not_read_yet(finished: Config) -> None:
    """House 13 is finished as far as the files know."""
    told = story(finished, 13)
    assert (told.state, told.storno) == ("finished", "")
    assert [str(storno) for storno in told.stornos] == ["full storno, offset 9, not read yet"]


def test_story_of_a_pending_house_says_what_is_missing_and_how_far_that_partition_is_read(finished: Config) -> None:
    """Position, end, and the last house that was read there."""
    assert story(finished, PENDING[0]).lines() == [
        "house 50: pending, waits for wall and roof, cancelled already",
        f"foundation  pending; partition 0 offset 33  sent {TS}  alice  foundation",
        "wall        missing; partition 1 is read to offset 32 of 33, to house 51",
        "roof        missing; partition 2 is read to offset 30 of 32, to house 20",
        "full storno, offset 3",
    ]


def test_story_of_parts_that_were_not_read_yet(finished: Config) -> None:
    """They are in Kafka, behind the consumer's position."""
    told = story(finished, UNREAD)
    assert told.state == "unread"
    assert [(part.state, part.offset) for part in told.parts] == [("unread", 35), ("unread", 32), ("unread", 30)]


def test_story_of_an_evicted_house(finished: Config) -> None:
    """Its parts are rejects; the roof came after it was given up."""
    told = story(finished, EVICTED)
    assert told.state == "evicted"
    assert [(part.state, part.offset, part.name) for part in told.parts] == [
        ("evicted", 21, "alice"),
        ("evicted", 20, "wall_alice"),
        ("evicted", 29, "roof_alice"),
    ]
    assert [reject.detail for reject in told.rejects] == ["no roof", "no roof", "house 20 was given up before"]


def test_story_of_an_unknown_house(finished: Config) -> None:
    """Nobody sent it; a storno may be there all the same."""
    told = story(finished, 1000)
    assert (told.state, [part.state for part in told.parts]) == ("unknown", ["missing"] * 3)
    assert [str(storno) for storno in told.stornos] == ["full storno, offset 8"]


def test_story_as_json_holds_plain_values(finished: Config) -> None:
    """For `show --id N --json`."""
    record = json.loads(json.dumps(story(finished, 3).to_json()))
    assert (record["id"], record["state"]) == (3, "finished")
    assert record["parts"][1]["offset"] == 3
    assert record["rejects"][1] == {
        "partition": 0,
        "offset": 10,
        "reason": "duplicate",
        "detail": "house 3 has its foundation",
    }


def test_story_cannot_move_the_cursor(lab: Config) -> None:
    """Escape sequences in a message are shown, not obeyed."""
    Sender(lab).raw(0, b"partition_1|id:5|ts:\x1b[2J|name:bob\r|task:\xe2\x80\xae")
    consume_to_end(lab)
    assert r"sent \x1b[2J  bob\r  \u202e" in str(story(lab, 5))


def test_story_of_an_older_line(lab: Config) -> None:
    """Prefixes are gone, there is no completed time, and the excluded part's offset is not recorded."""
    old = Path(__file__).parents[1] / "legacy" / "storno_houses.jsonl"
    lab.storno_houses_path.write_bytes(old.read_bytes())
    assert story(lab, 22).lines() == [
        "house 22: cancelled in part (roof) before it was complete",
        "foundation  written; partition 0 offset 22  sent 20261123_141717  alice  foundation",
        "wall        written; partition 1 offset 22  sent 20261123_141717  wall_alice  wall",
        "roof        written; offset not recorded",
    ]


@pytest.mark.parametrize(
    ("house_id", "outcome"),
    [
        (3, "finished, completed {at}"),
        (7, "cancelled before it was complete ({at})"),
        (11, "finished, completed {at}, later cancelled"),
        (13, "finished, completed {at}"),
        (PENDING[1], "pending, waits for roof"),
        (UNREAD, "not read yet, its parts lie in Kafka behind the consumer's position"),
        (EVICTED, "evicted: given up, as other houses had passed what it lacked"),
        (1000, "unknown, no part of it has come"),
    ],
)
def test_the_first_line_says_what_has_become_of_it(finished: Config, house_id: int, outcome: str) -> None:
    """A late storno does not make a finished house one that never was, and what was not read yet is not pending."""
    at = completed_at(finished, house_id) if "{at}" in outcome else ""
    assert story(finished, house_id).lines()[0] == f"house {house_id}: {outcome.format(at=at)}"


def test_the_first_line_tells_stornos_before_from_those_after(lab: Config) -> None:
    """House 1: its wall later. House 2: its wall before, all of it later. House 3: read in part, the rest not yet."""
    sender = Sender(lab)
    sender.stornos(encode_storno(2, WALL))
    sender.houses(1, 2)
    sender.part(ROOF, 3)
    consume_to_end(lab)
    sender.stornos(encode_storno(1, WALL), encode_storno(2), encode_storno(3, WALL))
    consume_to_end(lab)
    sender.part(WALL, 3)
    first, second = completed_at(lab, 1), completed_at(lab, 2)
    assert [story(lab, house_id).lines()[0] for house_id in (1, 2, 3)] == [
        f"house 1: finished, completed {first}, later cancelled in part (wall)",
        f"house 2: cancelled in part (wall) before it was complete ({second}), later cancelled",
        "house 3: pending, waits for foundation and wall, cancelled in part (wall) already",
    ]


# --- the pending set at a position ---


def test_pending_at_the_end_is_what_waits(finished: Config) -> None:
    """The two houses that lack parts."""
    found = pending_at(finished, (35, 32, 30))
    assert (list(found.ids), found.count, found.id_sum) == ([*PENDING], 2, sum(PENDING))
    assert [list(came) for came in found.came] == [[*PENDING], [PENDING[1]], []]
    assert not found.uncertain


def test_pending_at_an_earlier_position_is_rebuilt(finished: Config) -> None:
    """Houses 0 to 4 had a foundation, 0 to 2 a wall, 0 and 1 a roof: 2, 3 and 4 waited."""
    found = pending_at(finished, (5, 3, 2))
    assert list(found.ids) == [2, 3, 4]
    assert [list(came) for came in found.came] == [[2, 3, 4], [2], []]


def test_pending_houses_say_what_has_come_and_where_it_lies(finished: Config) -> None:
    """Offsets of the parts that have come, names of those that have not."""
    assert [house.to_json() for house in pending_houses(finished)] == [
        {"id": PENDING[0], "offsets": {"foundation": 33}, "missing": ["wall", "roof"]},
        {"id": PENDING[1], "offsets": {"foundation": 34, "wall": 31}, "missing": ["roof"]},
    ]


def test_what_is_no_line_does_not_hide_the_pending_houses(finished: Config, tmp_path: Path) -> None:
    """It is for `verify` to report; the other lines of its block count, and so do earlier positions."""
    files = Files(copy_run(finished, tmp_path / "copy"))
    for name in ("houses", "storno_houses", "rejects"):
        files.add_bytes(name, b'junk\n{"id":7,"hou')
    for positions in ((35, 32, 30), (5, 3, 2), (31, 30, 25)):
        whole, found = pending_at(finished, positions), pending_at(files.config, positions)
        assert (found.ids, found.came, found.uncertain) == (whole.ids, whole.came, whole.uncertain)


def test_nothing_is_pending_at_the_beginning(finished: Config) -> None:
    """Position 0 everywhere."""
    assert pending_at(finished, (0, 0, 0)).count == 0


def test_pending_beyond_the_consumer_counts_what_it_will_read(finished: Config) -> None:
    """The foundation and wall of house 60 without its roof."""
    assert list(pending_at(finished, (36, 33, 30)).ids) == [*PENDING, UNREAD]


def test_evicted_house_was_pending_until_it_was_passed_over(finished: Config) -> None:
    """Before a higher roof had come it cannot have been given up; afterwards nobody can say when; with its roof it was."""
    before = pending_at(finished, (31, 30, 19))
    assert EVICTED in before.ids and [EVICTED in came for came in before.came] == [True, True, False]
    later = pending_at(finished, (31, 30, 25))
    assert EVICTED not in later.ids and EVICTED in later.uncertain
    assert EVICTED not in pending_at(finished, (35, 32, 30)).uncertain


def last_position(config: Config) -> list[int]:
    """How far the consumer has read, as it says."""
    return list((last_metrics(config.metrics_path) or {"position": [0, 0, 0]})["position"])


def test_pending_set_equals_what_the_metrics_say(kafka: str, tmp_path: Path) -> None:
    """At every line of metrics.jsonl of a run with parts out of step: the same count, the same sum of ids."""
    config = make_lab(tmp_path, kafka, {"consumer.metrics_interval_sec": 0.01, "consumer.max_batch": 7})
    sender = Sender(config)
    with reading(config):
        for start in range(0, 120, 40):
            ids = range(start, start + 40)
            all_but_one = [i for i in ids if i != 119]
            for part, part_ids in ((FOUNDATION, [*ids, ids[0]]), (ROOF, ids[::-1]), (WALL, all_but_one)):
                sender.part(part, *part_ids)
                count = sum(first_and_end(config.kafka, config.kafka.topic)[p][1] for p in range(3))
                wait_until(lambda: sum(last_position(config)) == count, "all parts are read")  # noqa: B023  # called at once
            sender.stornos(*map(encode_storno, ids[::9]))
    lines = read_jsonl(config.metrics_path)
    assert len({tuple(line["position"]) for line in lines}) >= 9
    for line in lines:
        found = pending_at(config, line["position"])
        assert (found.count, found.id_sum) == (line["pending"], line["pending_id_sum"]), line
