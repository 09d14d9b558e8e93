"""The JSONL files: exact lines, the order in which they reach the disk, and what is read back from them."""

import base64
import json
import os
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records import TS, part_values
from support.simulated_disk import Crash, SimulatedDisk

from houses.consumer.journal import Journal, JsonlFile
from houses.errors import FolderError, MessageError
from houses.records.decode import House, decode_parts
from houses.records.lines import (
    gap_range,
    gap_reject,
    house_line,
    late_line,
    parse_house_line,
    parse_reject_line,
    reject_line,
    split_lines,
    storno_line,
)
from houses.records.message import FULL, PARTS, STORNO, Reject, Storno, encode_part
from houses.records.registers import StornoRegister
from houses.system.files import REAL, read_file, replace_file

LEGACY = Path(__file__).parents[1] / "legacy"
TOPICS = ("teszt-partitioned", "house-storno")
PATHS = (Path("/out/houses.jsonl"), Path("/out/storno_houses.jsonl"), Path("/out/rejects.jsonl"))


def house(house_id: int, *offsets: int) -> House:
    """A house whose parts are at these offsets."""
    entries = [
        decode_parts(part.partition, [offset], [encode_part(part, house_id, TS, part.workers[0])]).entries[0]
        for part, offset in zip(PARTS, offsets, strict=True)
    ]
    return house_id, entries[0], entries[1], entries[2]


SEVEN = house(7, 12, 13, 14)
PART_1 = f'"partition_1":{{"ts":"{TS}","name":"alice","task":"foundation","offset":12}}'
PART_2 = f'"partition_2":{{"ts":"{TS}","name":"wall_alice","task":"wall","offset":13}}'
PART_3 = f'"partition_3":{{"ts":"{TS}","name":"roof_alice","task":"roof","offset":14}}'
OFFSETS = '"offsets":{"1":12,"2":13,"3":14}'


# --- lines ---


def test_a_house_is_this_line() -> None:
    """The contract of houses.jsonl, byte by byte."""
    wanted = f'{{"id":7,"house":{{{PART_1},{PART_2},{PART_3}}},"completed_at":"now"}}\n'
    assert house_line(SEVEN, "now") == wanted


def test_a_cancelled_house_is_this_line() -> None:
    """The contract of storno_houses.jsonl: a full storno shows all parts, a partial one leaves the excluded ones out."""
    assert storno_line(SEVEN, FULL, 3, "now") == (
        f'{{"id":7,"house":{{{PART_1},{PART_2},{PART_3}}},"completed_at":"now","storno":"full","storno_offset":3,{OFFSETS}}}\n'
    )
    assert storno_line(SEVEN, 0b011, 3, "now") == (
        f'{{"id":7,"house":{{{PART_3}}},"completed_at":"now","storno":"partial","excluded_partitions":[1,2],'
        f'"storno_offset":3,{OFFSETS}}}\n'
    )


def test_a_late_storno_is_this_line() -> None:
    """No parts: readers join by id."""
    assert late_line(7, FULL, 3) == '{"id":7,"house":{},"storno":"full","storno_offset":3,"late":true}\n'
    assert late_line(7, 0b101, 3) == (
        '{"id":7,"house":{},"storno":"partial","excluded_partitions":[1,3],"storno_offset":3,"late":true}\n'
    )


def test_a_reject_is_this_line() -> None:
    """The record's place, the reason, and its first 4096 bytes in base64; ASCII whatever it held."""
    line = reject_line(Reject(1, 5, "malformed", "żółć", b"\xff" * 5000), TOPICS)
    raw = base64.b64encode(b"\xff" * 4096).decode()
    detail = '"\\u017c\\u00f3\\u0142\\u0107"'
    assert line == (
        f'{{"topic":"teszt-partitioned","partition":1,"offset":5,"reason":"malformed","detail":{detail},"raw":"{raw}"}}\n'
    )
    assert json.loads(reject_line(Reject(STORNO, 5, "malformed", "", b""), TOPICS))["topic"] == "house-storno"
    assert json.loads(reject_line(Reject(STORNO, 5, "malformed", "", b""), TOPICS))["partition"] == 0


@given(
    st.tuples(*(part_values(part.partition, st.just(7)) for part in PARTS)), st.integers(0, FULL), st.integers(0, 9**9)
)
def test_lines_are_read_back_as_they_were_written(values: tuple[bytes | None, ...], mask: int, offset: int) -> None:
    """Ids, offsets, members, stornos, for any texts; every line is ASCII and one line."""
    batches = [decode_parts(p, [offset + p], [value]) for p, value in enumerate(values)]
    entries = [batch.entries[0] if batch.ids == [7] else plain for batch, plain in zip(batches, SEVEN[1:], strict=True)]
    whole: House = (7, entries[0], entries[1], entries[2])
    line = storno_line(whole, mask, offset, "now") if mask else house_line(whole, "now")
    assert line.isascii() and line.count("\n") == 1
    parsed = parse_house_line(line.encode())
    assert (parsed.id, parsed.mask, parsed.completed_at, parsed.late) == (7, mask, "now", False)
    assert parsed.offsets == {p: entry[0] for p, entry in enumerate(entries)}
    shown = [part for part in PARTS if mask in (0, FULL) or not mask & part.mask]
    assert parsed.parts == {
        f"partition_{part.number}": json.loads(
            f'{{"ts":"{entries[part.partition][1]}","offset":{entries[part.partition][0]}}}'
        )
        for part in shown
    }
    for batch in batches:
        for reject in batch.rejects:
            assert parse_reject_line(reject_line(reject, TOPICS).encode(), TOPICS) == reject


@given(st.one_of(st.binary(max_size=60), st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists)))
def test_what_is_no_line_is_refused_and_nothing_else_happens(data: Any) -> None:
    """Any bytes, any JSON: MessageError, never another error."""
    line = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises(MessageError):
        parse_house_line(line)
    with pytest.raises(MessageError):
        parse_reject_line(line, TOPICS)


@pytest.mark.parametrize(
    "line",
    [
        '{"id":7}',
        '{"id":true,"house":{}}',
        '{"id":7,"house":[]}',
        '{"id":7,"house":{"partition_1":{}}}',
        '{"id":7,"house":{"partition_9":{"offset":1}}}',
        '{"id":7,"house":{"partition_1":{"offset":"1"}}}',
        '{"id":7,"house":{},"storno":"some"}',
        '{"id":7,"house":{},"storno":"partial"}',
        '{"id":7,"house":{},"offsets":[1]}',
    ],
)
def test_a_house_line_that_lacks_something_is_refused(line: str) -> None:
    """The error quotes it."""
    with pytest.raises(MessageError, match="not a house line"):
        parse_house_line(line.encode())


def test_a_gap_says_where_it_begins_and_ends() -> None:
    """From its text, also after it was written and read back."""
    gap = gap_reject(1, 5, 9)
    assert (gap.offset, gap.reason, gap_range(gap)) == (5, "gap", (5, 9))
    assert gap_range(parse_reject_line(reject_line(gap, TOPICS).encode(), TOPICS)) == (5, 9)
    for other in ("some", gap_reject(1, 6, 9).detail):
        with pytest.raises(MessageError, match="not a gap at offset 5"):
            gap_range(Reject(1, 5, "gap", other, b""))


# --- lines of the older consumer ---


def test_houses_of_the_older_consumer_are_read() -> None:
    """Values prefixed with their names, no completed_at: ids 0 to 11 at offsets 0 to 11, prefixes gone."""
    lines = [parse_house_line(line) for line in split_lines((LEGACY / "houses.jsonl").read_bytes())]
    assert [(line.id, dict(line.offsets)) for line in lines] == [(i, {0: i, 1: i, 2: i}) for i in range(12)]
    assert all(line.completed_at is None and line.mask == 0 for line in lines)
    assert lines[0].parts["partition_1"] == {
        "ts": "20261123_141709",
        "name": "alice",
        "task": "foundation",
        "offset": 0,
    }


def test_cancelled_houses_of_the_older_consumer_are_read() -> None:
    """No storno_offset, and no offsets of excluded parts."""
    full, partial = (parse_house_line(line) for line in split_lines((LEGACY / "storno_houses.jsonl").read_bytes()))
    assert (full.id, full.mask, full.offsets, full.storno_offset) == (21, FULL, {0: 21, 1: 21, 2: 21}, None)
    assert (partial.id, partial.mask, partial.offsets, partial.storno_offset) == (22, 0b100, {0: 22, 1: 22}, None)


# --- files ---


class Spy(SimulatedDisk):
    """Notes each write and sync, by file."""

    def __init__(self) -> None:
        """Nothing happened yet."""
        super().__init__()
        self.happened: list[tuple[str, str]] = []
        self._paths: dict[int, str] = {}

    def open(self, path: Path, *, create: bool = True) -> int:
        """See `FileOps`."""
        descriptor = super().open(path, create=create)
        self._paths[descriptor] = path.name
        return descriptor

    def write_at(self, fd: int, position: int, data: bytes) -> None:
        """See `FileOps`."""
        super().write_at(fd, position, data)
        self.happened.append(("write", self._paths[fd]))

    def sync(self, fd: int) -> None:
        """See `FileOps`."""
        super().sync(fd)
        self.happened.append(("sync", self._paths[fd]))


def test_a_commit_syncs_each_file_before_the_next_is_written() -> None:
    """Houses, then storno, then rejects: a storno line is never on the disk before the house that it speaks of."""
    disk = Spy()
    journal = Journal(disk, PATHS, TOPICS)
    stornos = StornoRegister()
    stornos.merge(Storno(8, FULL), 0)
    journal.append_rejects([Reject(0, 1, "malformed", "", b"")])
    assert journal.append_houses([SEVEN, house(8, 1, 2, 3)], stornos, "now") == 1
    journal.append_late(8, stornos)
    assert journal.queued == (1, 2, 1) and journal.lengths == (0, 0, 0)
    journal.commit()
    names = [path.name for path in PATHS]
    assert disk.happened == [(what, name) for name in names for what in ("write", "sync")]
    assert journal.queued == (0, 0, 0) and journal.lengths == tuple(len(disk.durable(path)) for path in PATHS)
    journal.commit()
    assert len(disk.happened) == 6  # nothing to write: nothing to sync


def test_a_commit_that_fails_is_not_tried_again() -> None:
    """The error names the file; what came before it in the order is written, what comes after is not."""
    disk = SimulatedDisk()
    journal = Journal(disk, PATHS, TOPICS)
    stornos = StornoRegister()
    stornos.merge(Storno(7, FULL), 0)
    journal.append_houses([SEVEN, house(6, 1, 2, 3)], stornos, "now")
    journal.append_rejects([Reject(0, 1, "malformed", "", b"")])
    disk.sync_fuse = 2
    with pytest.raises(FolderError, match=r"storno_houses\.jsonl: could not be synced"):
        journal.commit()
    assert [len(disk.durable(path)) > 0 for path in PATHS] == [True, False, False]
    assert journal.lengths[1:] == (0, 0)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """The file cannot be opened: it is named."""
    (tmp_path / "houses.jsonl").mkdir()
    with pytest.raises(FolderError, match=r"houses\.jsonl: cannot be opened for writing"):
        JsonlFile(REAL, tmp_path / "houses.jsonl")


@given(
    st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"")), max_size=12),
    st.integers(1, 9),
    st.booleans(),
)
def test_lines_are_found_however_they_fall_into_chunks(texts: list[bytes], chunk: int, ended: bool) -> None:
    """Position and bytes of each line from any line on, the last one without its line feed too."""
    disk = SimulatedDisk()
    data = b"".join(text + b"\n" for text in texts) + (b"" if ended else b"rest")
    disk.put(PATHS[0], data)
    file = JsonlFile(disk, PATHS[0])
    with patch("houses.consumer.journal._SCAN_BYTES", chunk):
        found = list(file.lines(0))
        assert b"".join(line for _, line in found) == data
        assert [data[at : at + len(line)] for at, line in found] == [line for _, line in found]
        assert all(line.find(b"\n") in (-1, len(line) - 1) for _, line in found)
        for number, (start, _) in enumerate(found):
            assert list(file.lines(start)) == found[number:]


# --- the real file system does what the simulated one does ---


def test_files_are_written_at_known_positions(tmp_path: Path) -> None:
    """Never at the end by itself: a second write at a position replaces the first."""
    descriptor = REAL.open(tmp_path / "a")
    REAL.write_at(descriptor, 0, b"one two")
    REAL.write_at(descriptor, 4, b"six")
    REAL.write_at(descriptor, 9, b"!")
    assert REAL.read(descriptor, 0, 100) == b"one six\0\0!" and REAL.size(descriptor) == 10
    assert REAL.read(descriptor, 4, 3) == b"six" and REAL.read(descriptor, 50, 3) == b""
    REAL.truncate(descriptor, 3)
    REAL.sync(descriptor)
    REAL.close(descriptor)
    assert (tmp_path / "a").read_bytes() == b"one"
    with pytest.raises(FileNotFoundError):
        REAL.open(tmp_path / "absent", create=False)


def test_a_write_that_is_taken_in_pieces_is_finished(tmp_path: Path) -> None:
    """The system may take less than it is given: the rest follows at the right place."""
    pieces: list[int] = []
    real = os.pwrite

    def three_bytes(fd: int, data: Any, position: int) -> int:
        pieces.append(len(data))
        return real(fd, bytes(data[:3]), position)

    with patch("os.pwrite", three_bytes):
        replace_file(REAL, tmp_path / "a", b"0123456789")
    assert read_file(REAL, tmp_path / "a") == b"0123456789" and pieces == [10, 7, 4, 1]


def test_replacing_a_file_leaves_nothing_else(tmp_path: Path) -> None:
    """The old content, longer or shorter, is gone, and so is the temporary file, also one that a crash has left."""
    path = tmp_path / "record"
    (tmp_path / "record.tmp").write_bytes(b"x" * 100)
    for data in (b"first", b"2", b"third one"):
        replace_file(REAL, path, data)
        assert path.read_bytes() == data
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


@pytest.mark.parametrize("fuse", range(1, 9))
def test_a_replaced_file_is_the_old_one_or_the_new_one(fuse: int) -> None:
    """Whenever the power goes, in whatever state the disk comes back."""
    for seed in range(20):
        disk = SimulatedDisk()
        replace_file(disk, Path("/out/a"), b"old" * 10)
        disk.fuse = fuse
        try:
            replace_file(disk, Path("/out/a"), b"new" * 20)
            finished = True
        except Crash:
            finished = False
        disk.cut_power(Random(seed))
        assert disk.content(Path("/out/a")) in ([b"new" * 20] if finished else [b"old" * 10, b"new" * 20])
