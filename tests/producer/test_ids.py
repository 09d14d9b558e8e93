"""House ids never repeat, whatever died in between."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from houses.errors import FolderError
from houses.kafka.reader import Record
from houses.producer.ids import BLOCK_IDS, IdAllocator, highest_id, pick_recent
from houses.records.message import MAX_ID
from houses.system.files import FileOps


class FullDisk(FileOps):
    """Every sync fails."""

    def sync(self, fd: int) -> None:
        """As when the disk is full."""
        raise OSError(28, "No space left on device")


class CountingDisk(FileOps):
    """Counts the files that were put in place."""

    renames = 0

    def rename(self, source: Path, target: Path) -> None:
        """One more."""
        self.renames += 1
        super().rename(source, target)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the allocator keeps its file."""
    return tmp_path / "producer_base_id.json"


def base_id(path: Path) -> int:
    """What the file says."""
    return int(json.loads(path.read_bytes())["base_id"])


def highest(pairs: list[tuple[bytes | None, bytes | None]]) -> int:
    """The highest id in records with these keys and values."""
    return highest_id(Record(0, 0, None, key, value) for key, value in pairs)


def test_the_first_id_of_all_is_0(path: Path) -> None:
    """Without a file and with an empty topic counting begins at 0, as with the older programs."""
    assert IdAllocator(path).first == 0


def test_the_file_of_the_older_programs_is_taken_up(path: Path) -> None:
    """They wrote {"base_id": 55}, the next free id."""
    shutil.copy(Path(__file__).parents[1] / "legacy" / "producer_base_id.json", path)
    assert IdAllocator(path, highest_in_topic=53).first == 55


def test_ids_begin_behind_the_highest_in_the_topic(path: Path) -> None:
    """A file from before (restored from a backup, say) does not bring ids back that the topic holds."""
    path.write_text('{"base_id":10}')
    assert IdAllocator(path, highest_in_topic=500).first == 501


def test_a_block_is_on_disk_before_its_first_id_is_used(path: Path) -> None:
    """After reserve_through the file names an id behind it, so a crash at that moment repeats nothing."""
    ids = IdAllocator(path)
    ids.reserve_through(0)
    assert base_id(path) > 0
    ids.reserve_through(3 * BLOCK_IDS)
    assert base_id(path) > 3 * BLOCK_IDS


def test_a_crash_leaves_a_gap_and_no_repetition(path: Path) -> None:
    """The next allocator begins behind the whole block of the one that died."""
    dead = IdAllocator(path)
    dead.reserve_through(41)
    assert IdAllocator(path, highest_in_topic=41).first > 41


def test_a_clean_stop_leaves_no_gap(path: Path) -> None:
    """Ids that were reserved and not used are given back."""
    ids = IdAllocator(path)
    ids.reserve_through(41)
    ids.release(42)
    assert IdAllocator(path).first == 42


def test_releasing_gives_back_nothing_that_was_not_reserved_here(path: Path) -> None:
    """A run that sent nothing leaves the file as it was."""
    path.write_text('{"base_id": 55}')
    IdAllocator(path).release(55)
    assert path.read_text() == '{"base_id": 55}'


def test_one_block_is_one_write(path: Path) -> None:
    """Reserving id by id writes the file once per block only."""
    disk = CountingDisk()
    ids = IdAllocator(path, ops=disk)
    for house_id in range(2 * BLOCK_IDS):
        ids.reserve_through(house_id)
    assert disk.renames == 2


def test_threads_share_the_blocks(path: Path) -> None:
    """Three threads that reserve at once leave the file behind the highest of their ids."""
    ids = IdAllocator(path)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(ids.reserve_through, range(0, 200_000, 1000)))
    assert base_id(path) > 199_000


def test_no_id_is_handed_out_when_the_disk_refuses(path: Path) -> None:
    """A failed sync raises, again and again, instead of letting unreserved ids out."""
    ids = IdAllocator(path, ops=FullDisk())
    for _ in range(2):
        with pytest.raises(FolderError, match="No space left"):
            ids.reserve_through(0)


@pytest.mark.parametrize(
    "content", ["", "{", "55", "[]", '{"base_id":"55"}', '{"base_id":true}', '{"base_id":-1}', "\xff"]
)
def test_a_damaged_file_is_refused_and_kept(path: Path, content: str) -> None:
    """Guessing could repeat ids: the error names the file, quotes it and says what to write."""
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(FolderError, match=r"producer_base_id\.json: b.* is not \{\"base_id\":N\}: write the next free"):
        IdAllocator(path)
    assert path.read_bytes() == content.encode("latin-1")


def test_the_last_ids_are_refused_in_time(path: Path) -> None:
    """An id of more than 18 digits is never reserved."""
    path.write_text(json.dumps({"base_id": MAX_ID}))
    with pytest.raises(FolderError, match="houses reset"):
        IdAllocator(path).reserve_through(MAX_ID)


def test_the_highest_id_counts_every_kind_of_record() -> None:
    """Today's and older messages, malformed ones by their key; what has no id is passed over."""
    part = b"partition_1|id:%d|ts:x|name:alice|task:foundation"
    assert highest([(b"3", part % 3), (None, b"part_2|id:0007|ts:x|name:a|task:b|more")]) == 7
    assert highest([(b"9", b""), (b"8", b"\xff"), (None, None), (b"x", b"?"), (b"9" * 19, b"")]) == 9
    assert highest([(None, b"hello")]) == -1


def test_a_recent_id_is_one_of_the_newest_hundred() -> None:
    """Neither older ones nor those of earlier runs are picked, and all of the newest can be."""
    random = Random(1)
    assert {pick_recent(random, 0, 999) for _ in range(5000)} == set(range(900, 1000))
    assert {pick_recent(random, 995, 999) for _ in range(200)} == set(range(995, 1000))
    assert pick_recent(random, 10, 9) is None


def test_an_id_typed_by_hand_at_the_very_end_does_not_end_producing() -> None:
    """No block fits behind it, so the ids go on behind the others."""
    assert highest([(b"999999999999999999", None), (b"41", None)]) == 41
