"""`verify` finds every damage of the files, and nothing where nothing is wrong."""

import re
from pathlib import Path

import pytest
from support.damaged_lines import HOUSE_FILE, REJECTS_FILE
from support.damaged_states import CHECKPOINT, REGISTER, STORNO_FILE
from support.damages import Damage, house
from support.finished_run import (
    FOUNDATION,
    Files,
    Sender,
    consume_to_end,
    copy_run,
    make_finished_run,
)
from support.kafka_lab import make_lab

from houses.config.config import Config
from houses.consumer.consumer import consume
from houses.records.message import encode_storno
from houses.system.locks import FolderLock
from houses.system.log import progress_shown
from houses.verify.certificate import MEANING, Certificate, Findings
from houses.verify.verify import verify


@pytest.fixture(scope="module")
def finished(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A finished run, not to be changed."""
    return make_finished_run(tmp_path_factory.mktemp("finished"), kafka)


@pytest.fixture
def files(finished: Config, tmp_path: Path) -> Files:
    """A copy of the finished run's files, to be damaged."""
    return Files(copy_run(finished, tmp_path / "copy"))


@pytest.fixture
def lab(kafka: str, tmp_path: Path) -> Config:
    """An empty folder with topics of its own."""
    return make_lab(tmp_path, kafka)


# --- a run in which nothing is wrong ---


def test_certificate_of_a_finished_run_counts_every_outcome(finished: Config) -> None:
    """Every figure of the certificate, as it is printed."""
    topics = (finished.kafka.topic, finished.consumer.storno_topic)
    assert verify(finished).lines() == [
        f"topics       {topics[0]}, {topics[1]}",
        "offsets      101 checked; position 35 / 32 / 30 of 36 / 33 / 32",
        "houses       27 written, 2 cancelled; 3 lines of late stornos",
        "rejects      2 duplicate, 3 evicted, 1 malformed, 1 malformed storno, 1 wrong_partition",
        "pending      2 ids with 3 parts",
        "stornos      9 valid; position 9 of 11; 6 houses in the register",
        "unread       4 parts and 2 stornos, no outcome so far",
        "double       0",
        "missing      0",
        "verified     every record below the position has exactly one outcome; 4 parts and 2 stornos have none so far",
    ]


def test_outcomes_add_up_to_the_offsets_read(finished: Config) -> None:
    """Three records a house, one a reject, and what waits or is unread."""
    found = verify(finished)
    rejects = sum(count for reason, count in found.rejects.items() if "storno" not in reason)
    outcomes = 3 * (found.houses + found.cancelled) + rejects
    assert outcomes + found.pending_parts + found.unread == found.offsets
    assert found.ok and found.to_json()["ok"] is True


def test_progress_is_said(finished: Config) -> None:
    """To whom wants to know, as DEBUG of a logger."""
    with progress_shown((said := list[str]()).append):
        verify(finished)
    assert said == ["reading the files"]


def test_folder_without_files_has_read_nothing(lab: Config) -> None:
    """Before the first consumer everything is unread, and that is no fault; but nothing is proved by it."""
    assert verify(lab).lines()[-1] == "unproved     nothing is proved yet: the topics hold no message"
    Sender(lab).houses(1, 2)
    found = verify(lab)
    assert (found.ok, found.unread, found.offsets, found.houses) == (True, 6, 6, 0)
    assert "no checkpoint" in found.notes[0]
    assert (found.proved, found.to_json()["proved"]) == (False, False)
    assert found.lines()[-1].startswith(
        "unproved     nothing is proved yet: no checkpoint lies behind any message; a consumer"
    )


def test_nothing_is_proved_before_a_running_consumer_has_saved_what_it_read(lab: Config) -> None:
    """Its first checkpoint stands before the first message; with the one at its stop all is proved."""
    Sender(lab).houses(1, 2)
    found: list[Certificate] = []

    def look_once() -> bool:
        if not found and lab.houses_path.exists() and lab.houses_path.stat().st_size:
            found.append(verify(lab))
        return bool(found)

    consume(lab, look_once)
    assert (found[0].ok, found[0].proved, found[0].position) == (True, False, (0, 0, 0))
    found.append(verify(lab))
    assert (found[1].ok, found[1].proved, found[1].to_json()["proved"]) == (True, True, True)
    assert found[1].lines()[-1] == "verified     every record below the position has exactly one outcome"


def test_one_of_a_kind_is_written_as_one(lab: Config) -> None:
    """One late line, one id with one part, one house in the register, one message unread."""
    sender = Sender(lab)
    sender.houses(1)
    consume_to_end(lab)
    sender.stornos(encode_storno(1))
    sender.part(FOUNDATION, 2)
    consume_to_end(lab)
    sender.part(FOUNDATION, 3)
    said = str(verify(lab))
    for text in (
        "1 line of a late storno",
        "1 id with 1 part\n",
        "1 valid; position 1 of 1; 1 house in",
        "outcome; 1 part has none so far",
    ):
        assert text in said, said
    sender.stornos(encode_storno(2))
    assert "outcome; 1 part and 1 storno have none so far" in str(verify(lab))


def test_a_storno_that_nobody_has_read_is_said(lab: Config) -> None:
    """The parts are all read, and yet a restart would have something to do."""
    sender = Sender(lab)
    sender.houses(1)
    consume_to_end(lab)
    sender.stornos(encode_storno(1))
    found = verify(lab)
    assert (found.ok, found.unread, found.unread_stornos, found.storno_position, found.storno_end) == (True, 0, 1, 0, 1)
    said = str(found)
    for text in (
        "1 valid; position 0 of 1; 0 houses",
        "unread       1 storno, no outcome",
        "outcome; 1 storno has none so far",
    ):
        assert text in said, said


def test_run_goes_on_after_verify_and_stays_verified(finished: Config, tmp_path: Path) -> None:
    """What was unread gets its outcomes from the next consumer; the pending stay pending."""
    config = copy_run(finished, tmp_path / "copy").with_values({"consumer.max_pending_age_sec": 3600})
    consume_to_end(config)
    found = verify(config)
    assert found.ok, found
    assert (found.unread, found.houses, found.late, found.pending_ids) == (0, 28, 4, 2)


# --- damages ---


DAMAGES = [*HOUSE_FILE, *REJECTS_FILE, *STORNO_FILE, *REGISTER, *CHECKPOINT]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_is_found(files: Files, damage: Damage) -> None:
    """Exactly what was damaged is counted, and a culprit names the place."""
    damage.do(files)
    if damage not in CHECKPOINT:
        files.settle()
    found = verify(files.config)
    expected = {kind: count for kind, count in damage.problems.items() if count}
    assert found.problems == expected, found
    assert not found.ok
    assert any(re.search(damage.says, str(culprit)) for culprit in found.culprits), found


def test_file_shorter_than_the_checkpoint_says_is_found(files: Files) -> None:
    """Also when the lines that are gone were the last ones."""
    data = files.path("houses").read_bytes()
    files.path("houses").write_bytes(data[: data.rindex(b"\n", 0, -1) + 1])
    found = verify(files.config)
    assert found.problems == {"checkpoint": 1, "missing": 3}
    assert f"bytes long, but {len(data)} were on the disk" in str(found)


def test_all_files_gone_is_found_with_ten_culprits(files: Files) -> None:
    """The certificate counts all and shows ten, the kinds in turn."""
    for name in ("houses", "storno_houses", "rejects"):
        files.path(name).unlink()
    found = verify(files.config)
    assert found.problems == {"missing": 95, "checkpoint": 3}
    assert len(found.culprits) == 10
    assert {culprit.kind for culprit in found.culprits} == set(found.problems)


def test_first_culprits_of_many_kinds_are_shown() -> None:
    """Many of one kind do not hide another."""
    findings = Findings()
    for kind in MEANING:
        for number in range(30):
            findings.add(kind, f"place {number}", "wrong")
    assert {culprit.kind for culprit in findings.first()} == set(MEANING)
    assert set(findings.counts.values()) == {30}


# --- what a crash leaves behind is no damage ---


@pytest.mark.parametrize("rest", [b'{"id":99,"house":{"part', b"\0" * 300, b"\0\n\0\n", b'{"id":99}\n{"id'])
def test_rest_behind_the_synced_length_is_told_and_tolerated(files: Files, rest: bytes) -> None:
    """The next start of the consumer cuts it off, and nothing is lost."""
    length = files.path("houses").stat().st_size
    files.add_bytes("houses", rest)
    found = verify(files.config)
    assert found.ok, found
    assert f"houses.jsonl: {len(rest)} bytes from byte {length} on are no whole lines" in found.notes[0]


def test_line_being_written_is_told_and_tolerated(files: Files) -> None:
    """Beside a running consumer the last line may be half there."""
    files.add_bytes("rejects", b'{"topic')
    with FolderLock(files.config.folder, "consumer"):
        found = verify(files.config)
    assert found.ok, found
    assert "a consumer runs" in found.notes[0]
    assert "rejects.jsonl: a line is being written at byte" in found.notes[1]


def test_bad_line_beside_a_running_consumer_is_a_fault(files: Files) -> None:
    """It has cut off what a crash had left when it started."""
    files.add_bytes("houses", b"\0\0\n")
    with FolderLock(files.config.folder, "consumer"):
        assert verify(files.config).problems == {"foreign": 1}


def test_register_that_is_newer_than_the_checkpoint_is_no_fault(files: Files) -> None:
    """A crash between the two leaves it so: the register may be ahead, or be read anew from an earlier offset."""
    files.set_register(generation=99, storno_next=11, full=[*files.register["full"], 13])
    assert verify(files.config).ok
    files.set_register(generation=99, storno_next=0, full=[], partial={}, offsets={})
    assert verify(files.config).ok


def test_lines_ahead_of_the_checkpoint_are_no_fault_but_must_be_true(files: Files) -> None:
    """After a kill the files know more than the checkpoint."""
    files.edit("houses", house(0), lambda record: [record])
    files.set_checkpoint(next=[5, 5, 5], low=[5, 5, 5], tail=[0, 0, 0], storno_next=0)
    files.set_register(storno_next=0)
    found = verify(files.config)
    assert (found.ok, found.unread) == (True, 7), found
    files.edit("houses", house(25), lambda record: [record | {"id": 26}])
    assert verify(files.config).problems == {"wrong": 3, "double": 1}
