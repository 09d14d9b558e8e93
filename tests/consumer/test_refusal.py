"""What a start refuses, with which way on, and how it goes on when records were lost to retention."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from support.simulation import Lab, Poll, Topics, check_end, lab_of, parts

from houses.errors import FolderError, HousesError, PositionError

Change = Callable[[Lab], None]


def flip(name: str, position: int) -> Change:
    """Overwrite a byte of a file."""

    def change(lab: Lab) -> None:
        path = lab.config.folder / name
        data = lab.disk.content(path) or b""
        lab.disk.put(path, data[:position] + b"\0" + data[position + 1 :])

    return change


def shorten(name: str) -> Change:
    """Take the last byte of a file away."""
    return lambda lab: lab.disk.put(lab.config.folder / name, (lab.disk.content(lab.config.folder / name) or b"")[:-1])


def replace(name: str, old: bytes, new: bytes) -> Change:
    """Edit a file as `sed -i` does."""
    return lambda lab: lab.disk.put(
        lab.config.folder / name, (lab.disk.content(lab.config.folder / name) or b"").replace(old, new)
    )


def put(name: str, data: bytes) -> Change:
    """Write a file."""
    return lambda lab: lab.disk.put(lab.config.folder / name, data)


def edit_record(**values: Any) -> Change:
    """Change members of the checkpoint record."""

    def change(lab: Lab) -> None:
        record = json.loads(lab.disk.content(lab.config.offsets_path) or b"")
        lab.disk.put(lab.config.offsets_path, json.dumps(record | values).encode())

    return change


def change_topics(**values: Any) -> Change:
    """Change what the broker says of the topics."""

    def change(lab: Lab) -> None:
        for name, value in values.items():
            setattr(lab.topics, name, value)

    return change


def truncate_topic(index: int, length: int) -> Change:
    """The broker has lost the last records of a partition."""
    return lambda lab: lab.topics.records[index].__delitem__(slice(length, None))


REFUSALS: dict[str, tuple[Change, type[HousesError], str]] = {
    "file shorter": (shorten("houses.jsonl"), FolderError, r"houses\.jsonl: \d+ bytes long, but \d+ .*restore"),
    "file gone": (
        put("rejects.jsonl", b""),
        FolderError,
        r"rejects\.jsonl: missing or empty, but \d+ .*reset --archive",
    ),
    "a longer name": (
        replace("houses.jsonl", b"alice", b"alexander"),
        FolderError,
        r"houses\.jsonl: changed at or before byte \d+, .*restore.*reset --archive",
    ),
    "line feeds of Windows": (replace("rejects.jsonl", b"\n", b"\r\n"), FolderError, r"rejects\.jsonl: changed at or"),
    "damaged in the tail": (flip("houses.jsonl", -9), FolderError, r"houses\.jsonl: damaged at byte \d+"),
    "older record": (put("consumer_offsets.json", b'{"0":2,"1":2,"2":2}'), PositionError, "consume --rescan"),
    "no record": (put("consumer_offsets.json", b"[]"), PositionError, r"not a checkpoint .*consume --rescan"),
    "empty record": (put("consumer_offsets.json", b""), PositionError, r"not a checkpoint .*consume --rescan"),
    "record of another folder": (edit_record(folder="x"), PositionError, r"another folder \(x.*group_id.*--rescan"),
    "record of other topics": (edit_record(topic_ids=["x", "y"]), PositionError, "other topics.*--rescan"),
    "position behind the end": (
        truncate_topic(0, 1),
        PositionError,
        r"partition 0: position \d behind|is beyond its end 1",
    ),
    "stornos behind the end": (truncate_topic(3, 0), PositionError, "house-storno: position 1 is beyond its end 0"),
    "parts topic made anew": (
        change_topics(ids=("new", "id-2")),
        PositionError,
        r"deleted and made anew \(id new, was id-1",
    ),
    "storno topic made anew": (
        change_topics(ids=("id-1", "new")),
        PositionError,
        r"house-storno was deleted and made anew",
    ),
    "partitions added": (change_topics(partitions=4), PositionError, "has 4 partitions, had 3.*reset --archive"),
    "damaged binding": (put("binding.json", b"{}"), FolderError, "binding.json: damaged"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_refused_with_the_way_on(case: str) -> None:
    """One clear error, and neither files nor record are touched."""
    lab = lab_of([1, 2, 2], [1], [1], stornos=[b"9"])
    lab.consume(rest=True)
    change, error, message = REFUSALS[case]
    change(lab)
    before = [lab.disk.content(path) for path in (*lab.paths, lab.config.offsets_path, lab.config.storno_ids_path)]
    with pytest.raises(error, match=message) as caught:
        lab.consume(rest=True)
    assert "\n" not in str(caught.value) and lab.left_open == 0
    after = [lab.disk.content(path) for path in (*lab.paths, lab.config.offsets_path, lab.config.storno_ids_path)]
    assert after == before


WAYS_BACK = (
    "restore the file; or read again what the files do not hold: houses consume --rescan; "
    "or start anew: houses reset --archive"
)


def lab_with_stornos(*stornos: bytes) -> Lab:
    """Everything that a file can hold, and stornos that come when the houses are written."""
    foundations = [*parts(1, 1, 1, 2, 2, 3, 4, 5), b"bad"]
    lab = Lab(
        Topics([foundations, parts(2, 1, 2, 3, 4), parts(3, 1, 2, 4, 3), [b"1", b"x", b'{"id":4,"partition":2}']])
    )
    lab.consume(rest=True)
    lab.topics.records[3] += stornos
    lab.consume(rest=True)
    return lab


LOSSES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _: None,
    "half": lambda data: data[: len(data) // 2],
    "a byte": lambda data: data[:-1],
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("name", "stornos"),
    [
        ("houses.jsonl", []),
        ("storno_houses.jsonl", [b"2", b'{"id":3,"partition":1}', b"y", b'{"id":3,"partition":2}', b"4"]),
        ("rejects.jsonl", [b"2", b'{"id":3,"partition":1}', b"y"]),
    ],
)
def test_what_a_file_lost_is_read_again(name: str, stornos: list[bytes], loss: str) -> None:
    """The refusal offers --rescan, which loses and doubles nothing, wherever the run that does it dies."""
    for fuse in (None, *range(1, 40, 3)):
        lab = lab_with_stornos(*stornos)
        path = lab.config.folder / name
        lab.disk.put(path, LOSSES[loss](lab.disk.content(path) or b""))
        with pytest.raises(FolderError) as caught:
            lab.consume(rest=True)
        what = r"missing or empty, but \d+ bytes" if loss == "missing" else r"\d+ bytes long, but \d+"
        assert re.fullmatch(
            f"{re.escape(str(path))}: {what} were .* checkpoint: {re.escape(WAYS_BACK)}", str(caught.value)
        )
        lab.store().forget()
        lab.consume(rest=True, fuse=fuse)
        lab.consume(rest=True)
        check_end(lab)


def test_a_changed_file_is_read_as_it_is_now() -> None:
    """All its lines can be read, only longer: --rescan takes them and writes none again."""
    lab = lab_with_stornos(b"2")
    replace("houses.jsonl", b"alice", b"alexander")(lab)
    changed = lab.disk.content(lab.paths[0])
    with pytest.raises(FolderError, match=re.escape(WAYS_BACK)):
        lab.consume(rest=True)
    lab.store().forget()
    lab.consume(rest=True)
    assert lab.disk.content(lab.paths[0]) == changed


@pytest.mark.parametrize("change", ["late", "twice", "bad"])
def test_reading_again_is_offered_only_where_it_is_right(change: str) -> None:
    """A house would come behind its late line; a house is there twice; a line is none."""
    lab = lab_with_stornos(*([b"2"] if change == "late" else []))
    data = lab.disk.content(lab.paths[0]) or b""
    changes = {"late": b"", "twice": data * 2, "bad": data.replace(b'{"id"', b'{"no"')}
    lab.disk.put(lab.paths[0], changes[change])
    lab.disk.put(lab.config.offsets_path, _record_behind(lab, 3 * len(data)))
    with pytest.raises(FolderError, match="restore the file; or start anew: houses reset --archive$"):
        lab.consume(rest=True)


def _record_behind(lab: Lab, synced: int) -> bytes:
    record = json.loads(lab.disk.content(lab.config.offsets_path) or b"")
    return json.dumps(record | {"synced": [synced, *record["synced"][1:]]}).encode()


def test_records_lost_behind_the_checkpoint_are_noticed() -> None:
    """The broker lost records that have lines already: the position is below its end, but the files know better."""
    lab = lab_of([1, 2, 3], [1], [1])
    lab.consume(kill=True)
    lab.consume([Poll((1, 1, 1, 0))], kill=True)
    lab.topics.records[0].clear()
    with pytest.raises(PositionError, match="partition 0: position 1 is beyond its end 0"):
        lab.consume(rest=True)


def test_another_record_at_a_done_offset_is_refused() -> None:
    """The line at an offset names house 1, the topic now holds house 7 there: not the topic of these files."""
    lab = lab_of([1, 2], [1], [1])
    lab.consume([Poll((1, 1, 1, 0))], kill=True)
    lab.topics.records[0][0] = parts(1, 7)[0]
    with pytest.raises(PositionError, match=r"offset 0 of partition 0 holds .*id:7.*files say 1.*reset --archive"):
        lab.consume(rest=True)


def test_a_bad_line_in_the_middle_is_refused_without_a_checkpoint() -> None:
    """Then nothing says from where on lines could be written again: only what a power cut leaves is cut off."""
    lab = lab_of([1, 2], [1, 2], [1, 2])
    lab.consume(rest=True)
    lab.disk.put(lab.config.offsets_path, None)
    data = lab.disk.content(lab.config.houses_path) or b""
    lab.disk.put(lab.config.houses_path, data.replace(b'{"id":1', b'{"xx":1'))
    with pytest.raises(FolderError, match="damaged at byte 0"):
        lab.consume(rest=True)
    hole = data.replace(b'{"id":1', b"\0" * 7)
    for torn in (data[:-5], hole):
        lab.disk.put(lab.config.offsets_path, None)
        lab.disk.put(lab.config.houses_path, torn)
        lab.consume(rest=True)
        check_end(lab)
    assert (lab.disk.content(lab.config.houses_path.with_name("houses.jsonl.cut")) or b"").endswith(hole)


def test_a_torn_line_is_not_cut_when_its_records_are_gone() -> None:
    """Retention took what the line could be written again from: nothing is cut, the error names the offsets."""
    lab = lab_of([1, 2], [1, 2], [1, 2])
    lab.consume(kill=True)
    lab.disk.put(lab.config.houses_path, b'{"id":1,"ho')
    lab.topics.first[1] = 1
    with pytest.raises(
        PositionError, match=r"torn at byte 0, and partition 1 no longer holds offsets 0 to 0.*--accept-gap"
    ):
        lab.consume(rest=True)
    assert lab.disk.content(lab.config.houses_path) == b'{"id":1,"ho'
    lab.consume(rest=True, accept_gap=True)
    assert gap_lines(lab) == [("teszt-partitioned", 1, 0, "offsets 0 to 0 were deleted before they were read")]


# --- gaps ---


def gap_lines(lab: Lab) -> list[tuple[Any, ...]]:
    """Topic, partition and offset of the gap lines, and their text."""
    lines = [line for line in lab.lines(lab.paths[2]) if line["reason"] == "gap"]
    return [(line["topic"], line["partition"], line["offset"], line["detail"]) for line in lines]


def lab_with_gap() -> Lab:
    """One house written, then unread records deleted by retention in two partitions."""
    lab = lab_of([1, 2, 3, 4], [1, 2, 3, 4], [1, 4])
    lab.consume([Poll((1, 1, 1, 0))])
    lab.topics.first[:3] = [3, 2, 1]
    return lab


GAPS = [
    ("teszt-partitioned", 0, 1, "offsets 1 to 2 were deleted before they were read"),
    ("teszt-partitioned", 1, 1, "offsets 1 to 1 were deleted before they were read"),
]


def test_records_lost_to_retention_are_refused_by_name() -> None:
    """The gap of each partition and the commands that go on; nothing is written."""
    lab = lab_with_gap()
    wanted = (
        "teszt-partitioned partition 0: offsets 1 to 2 were deleted, 2 of them unread; teszt-partitioned partition 1: "
        "offsets 1 to 1 were deleted, 1 of them unread: go on without them: houses consume --accept-gap; or start anew: "
        "houses reset --archive"
    )
    with pytest.raises(PositionError) as caught:
        lab.consume(rest=True)
    assert str(caught.value) == wanted
    assert not lab.lines(lab.paths[2])


def test_an_accepted_gap_has_one_line_a_partition() -> None:
    """Once, however the consumer stops afterwards; reading goes on behind the gap."""
    lab = lab_with_gap()
    lab.consume(rest=True, accept_gap=True)
    assert gap_lines(lab) == GAPS
    assert [line["id"] for line in lab.lines(lab.paths[0])] == [1, 4]
    lab.consume(rest=True)
    assert gap_lines(lab) == GAPS


def test_an_accepted_gap_survives_any_crash() -> None:
    """Killed at each operation of the run that accepts it: one line a partition, and no second question."""
    for fuse in range(1, 40):
        lab = lab_with_gap()
        asked = lab.consume(rest=True, accept_gap=True, fuse=fuse)
        lab.consume(rest=True, accept_gap=not asked)
        assert gap_lines(lab) == GAPS, f"killed at operation {fuse}"
        assert [line["id"] for line in lab.lines(lab.paths[0])] == [1, 4]


def test_an_accepted_gap_is_known_without_a_checkpoint() -> None:
    """The line in rejects.jsonl says it: no second question about the same records."""
    lab = lab_with_gap()
    lab.consume(rest=True, accept_gap=True)
    lab.disk.put(lab.config.offsets_path, None)
    lab.consume(rest=True)
    assert gap_lines(lab) == GAPS


def test_a_gap_that_has_grown_is_asked_about_again() -> None:
    """Also when it begins where an accepted one began: only what is new is named and gets a line."""
    lab = lab_of([1, 2, 3, 4, 5], [5], [5])
    lab.consume(kill=True)
    lab.topics.first[0] = 2
    lab.consume(accept_gap=True, kill=True)
    lab.topics.first[0] = 4
    lab.disk.put(lab.config.offsets_path, None)
    with pytest.raises(PositionError, match="partition 0: offsets 2 to 3 were deleted, 2 of them unread"):
        lab.consume(rest=True)
    lab.consume(rest=True, accept_gap=True)
    assert [(partition, offset) for _, partition, offset, _ in gap_lines(lab)] == [(0, 0), (0, 2)]
    assert [line["id"] for line in lab.lines(lab.paths[0])] == [5]


def test_a_pending_part_that_retention_took_is_part_of_the_gap() -> None:
    """It was read, but its message is gone and it has no line: it counts as lost, the written ones do not."""
    lab = lab_of([7, 1], [1], [1])
    lab.consume(rest=True)
    lab.topics.first[0] = 2
    with pytest.raises(PositionError, match="partition 0: offsets 0 to 1 were deleted, 1 of them unread"):
        lab.consume(rest=True)
    lab.consume(rest=True, accept_gap=True)
    assert gap_lines(lab)[0][:3] == ("teszt-partitioned", 0, 0)


def test_a_new_folder_begins_where_the_topic_begins() -> None:
    """Records that were deleted before the folder existed are no gap."""
    lab = lab_of([1, 2], [1, 2], [1, 2])
    lab.topics.first[:3] = [1, 1, 1]
    lab.consume(rest=True)
    assert [line["id"] for line in lab.lines(lab.paths[0])] == [2] and not gap_lines(lab)
