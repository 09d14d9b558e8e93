"""Starting again, case by case: what is read again, what is cut, and what is known without side files or checkpoint."""

import json
from unittest.mock import patch

import pytest
from support.simulation import ALL, Poll, Topics, check_end, lab_of, parts

from houses.errors import FolderError, PositionError
from houses.kafka.clients import TopicInfo
from houses.offsets.binding import Binding, load_binding


def pause(seconds: float) -> Poll:
    """Nothing comes for so long."""
    return Poll((0, 0, 0, 0), seconds)


def test_the_first_checkpoint_comes_before_the_first_line() -> None:
    """Killed with nothing read: binding, record and side files are on the disk, and bound the next start."""
    lab = lab_of([1], [1], [1])
    assert not lab.consume(kill=True)
    record = lab.record()
    assert record and record.low == (0, 0, 0) and record.generation == 1
    binding = load_binding(lab.disk, lab.config.binding_path)
    assert binding and record.folder == binding.folder
    assert lab.disk.durable(lab.config.offsets_path) and lab.disk.durable(lab.config.binding_path)


def test_a_restart_reads_from_the_oldest_pending_part() -> None:
    """Its offset is the low watermark, and the tail begins where the files ended when it came."""
    lab = lab_of([1, 2, 3, 4, 5], [1, 2, 4, 5], [1, 2, 3, 4, 5], offset_save_interval_sec=0.5)
    one_each = Poll((1, 1, 1, 0), 1.1)
    lab.consume([one_each] * 5)
    record = lab.record()
    assert record and (record.low, record.next) == ((2, 4, 2), (5, 4, 5))
    houses = lab.disk.content(lab.config.houses_path) or b""
    second_line = houses.index(b'{"id":2')
    # House 3 began to wait when house 1 was in the file, or before; houses 4 and 5 are to be known.
    assert second_line <= record.tail[0] <= houses.index(b'{"id":4')
    lab.topics.records[1] += parts(2, 3)
    lab.consume(rest=True)
    assert lab.recovered and lab.recovered.begin[:3] == [2, 4, 2]
    again = "reads again from offset 2 / 4 / 2 up to 5 / 4 / 5; 4 of these 6 messages have their line"
    assert f"Recovered: {again}" in lab.said
    assert [line["id"] for line in lab.lines(lab.paths[0])] == [1, 2, 4, 5, 3]


def test_a_clean_restart_with_nothing_pending_reads_no_line() -> None:
    """However long the files are, the tail is empty when nothing was pending at the stop."""
    ids = range(1, 2000)
    lab = lab_of(ids, ids, ids)
    lab.consume(rest=True)
    record = lab.record()
    assert record and record.tail == record.synced and record.synced[0] > 100_000
    before = lab.disk.bytes_read
    lab.consume([ALL])
    assert lab.disk.bytes_read - before < 5_000
    assert "Recovered: goes on at offset 1999 / 1999 / 1999, reads nothing again" in lab.said


def test_a_restart_after_a_kill_reads_only_what_came_since_the_checkpoint() -> None:
    """Restart time depends on the stretch to read again, not on the size of the files."""
    ids = range(1, 5000)
    lab = lab_of(ids, ids, ids)
    lab.consume(rest=True)
    for part, records in enumerate(lab.topics.records[:3], 1):
        records.extend(parts(part, *range(5000, 5010)))
    lab.consume([ALL], kill=True)
    before = lab.disk.bytes_read
    lab.consume(rest=True)
    assert lab.disk.bytes_read - before < 20_000
    check_end(lab)


def test_a_torn_last_line_is_cut_kept_and_written_again() -> None:
    """What followed the last whole line is in NAME.cut, the user is told, and the house is there once."""
    lab = lab_of([1, 2], [1, 2], [1, 2])
    lab.consume([Poll((1, 1, 1, 0)), Poll((1, 1, 1, 0))], kill=True)
    path = lab.config.houses_path
    whole = lab.disk.content(path) or b""
    first = whole.splitlines(keepends=True)[0]
    lab.disk.put(path, whole[: len(first) + 30])
    lab.consume(rest=True)
    assert lab.disk.content(path.with_name("houses.jsonl.cut")) == whole[len(first) : len(first) + 30]
    assert lab.disk.durable(path).startswith(first)
    assert any(f"cut off at byte {len(first)}" in text for text in lab.said)
    check_end(lab)


def test_each_cut_is_kept_behind_the_earlier_ones() -> None:
    """NAME.cut grows: a second crash does not overwrite what the first one left."""
    lab = lab_of([1], [1], [1])
    path = lab.config.houses_path
    for torn in (b'{"id":1,"ho', b"\0\0\0\n{"):
        lab.consume(kill=True)
        lab.disk.put(path, (lab.disk.content(path) or b"") + torn)
    lab.consume(rest=True)
    assert lab.disk.content(path.with_name("houses.jsonl.cut")) == b'{"id":1,"ho\0\0\0\n{'
    check_end(lab)


def test_a_line_that_cannot_be_cut_ends_the_start_in_words() -> None:
    """The file is named, it stays as it is, and the next start cuts it."""
    lab = lab_of([1, 2], [1, 2], [1, 2])
    lab.consume([Poll((1, 1, 1, 0))], kill=True)
    torn = (lab.disk.content(lab.config.houses_path) or b"") + b'{"id":2,"ho'
    lab.disk.put(lab.config.houses_path, torn)

    def fail(_: int, length: int) -> None:
        if length:  # not the new, empty file of what is cut off
            raise OSError(5, "Input/output error")

    with (
        patch.object(lab.disk, "truncate", fail),
        pytest.raises(FolderError, match=r"houses\.jsonl: could not be cut \(Input/output error\): nothing is lost"),
    ):
        lab.consume(rest=True)
    assert lab.disk.content(lab.config.houses_path) == torn
    lab.consume(rest=True)
    check_end(lab)


def test_bytes_behind_the_synced_length_are_written_and_synced_again() -> None:
    """After a failed sync the bytes are seen but not on the disk; the next start brings them there before it reads on."""
    lab = lab_of([1], [1], [1])
    lab.consume(kill=True)
    with pytest.raises(FolderError, match=r"houses\.jsonl: could not be synced \(Input/output error\)"):
        lab.consume([ALL], sync_fuse=4)  # three of the first checkpoint
    path = lab.config.houses_path
    assert lab.disk.content(path) and not lab.disk.durable(path)
    lab.consume(kill=True)
    assert lab.disk.content(path) == lab.disk.durable(path)
    assert [line["id"] for line in lab.lines(path)] == [1]


# --- no checkpoint, no side files ---


def test_without_a_checkpoint_the_files_are_read_and_nothing_is_written_twice() -> None:
    """The record was deleted by hand: houses, stornos, rejects and pending parts are found from files and topics."""
    lab = lab_of([1, 2, 3, 1], [1, 2, 9], [1, 2], stornos=[b"2", b"x"])
    lab.consume(rest=True)
    files = [lab.disk.content(path) for path in lab.paths]
    for path in (lab.config.offsets_path, lab.config.closed_ids_path, lab.config.storno_ids_path):
        lab.disk.put(path, None)
    lab.consume(rest=True)
    assert [lab.disk.content(path) for path in lab.paths] == files
    check_end(lab)


@pytest.mark.parametrize("name", ["storno_ids.json", "closed_ids.bin"])
@pytest.mark.parametrize("data", [None, b"", b"{}", b"garbage" * 20])
def test_a_lost_side_file_is_rebuilt(name: str, data: bytes | None) -> None:
    """Ids long closed stay closed, stornos stay known, and no line is added."""
    lab = lab_of([1, 2, 3], [1, 2], [1, 2], stornos=[b"2", b'{"id":3,"partition":1}', b"x"])
    lab.consume(rest=True)
    files = [lab.disk.content(path) for path in lab.paths]
    wanted = lab.disk.content(lab.config.storno_ids_path) or b""
    lab.disk.put(lab.config.folder / name, data)
    lab.consume(rest=True)
    assert [lab.disk.content(path) for path in lab.paths] == files
    rebuilt = json.loads(lab.disk.content(lab.config.storno_ids_path) or b"")
    assert {k: v for k, v in rebuilt.items() if k != "generation"} == {
        k: v for k, v in json.loads(wanted).items() if k != "generation"
    }
    lab.topics.records[0] += parts(1, 1)
    lab.consume(rest=True)
    assert [line["reason"] for line in lab.lines(lab.paths[2])] == ["malformed", "duplicate"]


def test_a_rebuilt_register_repeats_no_line() -> None:
    """Late lines and rejected stornos that have theirs are known, though nothing was pending and the tail is empty."""
    lab = lab_of([1, 2], [1, 2], [1, 2])
    lab.consume(rest=True)
    lab.topics.records[3] += [b"1", b'{"id":2,"partition":3}', b"x"]
    lab.consume(rest=True)
    files = [lab.disk.content(path) for path in lab.paths]
    lab.disk.put(lab.config.storno_ids_path, None)
    lab.consume(rest=True)
    assert [lab.disk.content(path) for path in lab.paths] == files
    check_end(lab)


def test_a_late_line_alone_does_not_make_a_house_written() -> None:
    """The house line behind the checkpoint is gone, its late line is not: the house is written, as a cancelled one."""
    lab = lab_of([1], [1], [1])
    lab.consume(kill=True)
    lab.consume(
        [ALL, Poll((0, 0, 0, 0), 0.0, lambda _: lab.topics.records[3].append(b"1")), ALL, pause(1.1)], kill=True
    )
    assert [line.get("late") for line in lab.lines(lab.paths[1])] == [True]
    lab.disk.put(lab.config.houses_path, b"")
    lab.consume(rest=True)
    assert not lab.lines(lab.paths[0])
    assert [(line["id"], line.get("late"), line["storno"]) for line in lab.lines(lab.paths[1])] == [
        (1, True, "full"),
        (1, None, "full"),
    ]


def test_stornos_survive_a_crash_while_the_register_is_rebuilt() -> None:
    """Killed at any moment after storno_ids.json was lost: the cancelled house stays cancelled."""
    for fuse in range(1, 40):
        lab = lab_of([1], [1], [1], stornos=[b"1"])
        lab.consume([Poll((0, 0, 0, 1))])
        lab.disk.put(lab.config.storno_ids_path, None)
        lab.consume([ALL], fuse=fuse)
        lab.consume(rest=True)
        check_end(lab)


def test_a_storno_topic_that_lost_its_beginning_cannot_rebuild_the_register() -> None:
    """With storno_ids.json gone too, the missing stornos are named, not forgotten."""
    lab = lab_of([1], [1], [1], stornos=[b"5", b"6"])
    lab.consume(rest=True)
    lab.topics.first[3] = 1
    lab.consume(rest=True)  # the register is there: nothing is missing
    lab.disk.put(lab.config.storno_ids_path, None)
    with pytest.raises(
        PositionError, match="house-storno: offsets 0 to 0 were deleted, 1 of them unread.*--accept-gap"
    ):
        lab.consume(rest=True)


# --- what the restart must not forget ---


def test_an_overdue_id_is_evicted_after_a_restart_too() -> None:
    """Its missing part was passed over before the stop; no new record is needed to know that."""
    lab = lab_of([1, 2], [2], [1, 2], max_pending_age_sec=2.0)
    lab.consume(rest=True)
    lab.consume([ALL, *[Poll((0,) * 4, 1.1)] * 5])
    assert [(r["partition"], r["offset"], r["reason"]) for r in lab.lines(lab.paths[2])] == [
        (0, 0, "evicted"),
        (2, 0, "evicted"),
    ]


def test_a_replay_never_evicts_what_is_still_to_be_read_again() -> None:
    """The wall of house 1 was read before the stop; that its partition is slow now must not cost the house."""
    lab = lab_of([1, 2], [1, 2], [2], max_pending_age_sec=2.0)
    lab.consume(rest=True)
    lab.topics.records[2] += parts(3, 3, 1)
    lab.consume([Poll((9, 0, 0, 0)), *[Poll((0, 0, 9, 0), 1.1)] * 5, Poll((0, 9, 0, 0), 1.1)])
    assert sorted(line["id"] for line in lab.lines(lab.paths[0])) == [1, 2]


def test_an_evicted_id_stays_closed_after_a_restart() -> None:
    """Its wall comes after the restart and goes to rejects as evicted, with or without the cache of closed ids."""
    for lost in (False, True):
        lab = lab_of([1, 2], [2], [1, 2], max_pending_age_sec=2.0)
        lab.consume([ALL, *[Poll((0,) * 4, 1.1)] * 5])
        if lost:
            lab.disk.put(lab.config.closed_ids_path, None)
        lab.topics.records[1] += parts(2, 1)
        lab.consume(rest=True)
        assert [r["reason"] for r in lab.lines(lab.paths[2])] == ["evicted"] * 3
        assert [line["id"] for line in lab.lines(lab.paths[0])] == [2]


def test_closed_ids_of_both_kinds_are_known_after_a_restart() -> None:
    """Written and evicted ones, whichever of them are higher, from the cache and from the files."""
    for evicted, written in ((1, 2), (3, 2)):
        for lost in (False, True):
            lab = lab_of([evicted, written, 4], [written, 4], [evicted, written, 4], max_pending_age_sec=2.0)
            lab.consume([ALL, *[pause(1.1)] * 5])
            if lost:
                lab.disk.put(lab.config.closed_ids_path, None)
            for number in (1, 2, 3):
                lab.topics.records[number - 1] += parts(number, evicted, written, 4)
            lab.consume([Poll((1, 1, 1, 0))] * 4)  # one by one: a batch is looked at as a whole
            reasons = [line["reason"] for line in lab.lines(lab.paths[2])]
            assert sorted(reasons) == ["duplicate"] * 6 + ["evicted"] * 5
            assert [line["id"] for line in lab.lines(lab.paths[0])] == [written, 4]


def test_the_binding_names_the_topics_of_the_first_start() -> None:
    """Names, ids and partition counts, and a UUID of the folder that never changes."""
    lab = lab_of([1], [1], [1])
    lab.consume(rest=True)
    first = load_binding(lab.disk, lab.config.binding_path)
    lab.consume(rest=True)
    assert first == load_binding(lab.disk, lab.config.binding_path)
    assert isinstance(first, Binding) and first.storno == TopicInfo("house-storno", "id-2", 1)
    assert first.parts == TopicInfo("teszt-partitioned", "id-1", 3) and len(first.folder) == 36
    assert isinstance(lab.topics, Topics)
