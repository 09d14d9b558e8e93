"""A disk that is full, fails or is changed from outside: a clear error, no checkpoint after it, and nothing lost on restart."""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.command_line import check, consuming, ends, make_project, read_houses, run, send_houses
from support.kafka_lab import read_jsonl, wait_until
from support.simulated_disk import SimulatedDisk
from support.simulation import Lab, Poll, Topics, check_end, config_of, parts

from houses.config.config import Config
from houses.errors import FolderError
from houses.records.message import encode_storno
from houses.verify.verify import verify

CHANGING = ("open", "write_at", "sync", "truncate", "rename", "sync_dir")
ERRORS = (errno.ENOSPC, errno.EIO)


class FailingDisk(SimulatedDisk):
    """Its n-th call of one kind fails; a write that fails has written a part, a sync has kept nothing."""

    def __init__(self) -> None:
        """Nothing fails yet."""
        super().__init__()
        self.failing: tuple[str, int, int] | None = None
        """Name of the call, how many are left, errno."""
        self.names: dict[str, int] = dict.fromkeys(CHANGING, 0)
        """How often each was called."""

    def fails(self, name: str) -> bool:
        """Count a call; whether it is the one."""
        self.names[name] += 1
        if self.failing and self.failing[0] == name:
            self.failing = (name, self.failing[1] - 1, self.failing[2])
            return self.failing[1] == 0
        return False

    def error(self) -> OSError:
        """As the system raises it."""
        assert self.failing
        return OSError(self.failing[2], os.strerror(self.failing[2]))


def _failing(name: str) -> Callable[..., Any]:
    real = getattr(SimulatedDisk, name)

    def call(disk: FailingDisk, *arguments: Any, **options: Any) -> Any:
        only_reads = options.get("create") is False
        if only_reads or not disk.fails(name):
            return real(disk, *arguments, **options)
        if name == "write_at":
            fd, position, data = arguments
            real(disk, fd, position, data[: len(data) // 2])
        if name == "sync":
            disk._open[arguments[0]].unsynced.clear()  # Linux calls the pages clean from now on
        raise disk.error()

    return call


for _name in CHANGING:
    setattr(FailingDisk, _name, _failing(_name))


def lab_on(disk: FailingDisk) -> Lab:
    """Six houses, one cancelled late and one early, with a part that waits and junk."""
    topics = Topics([parts(1, *range(7)), parts(2, *range(6)), [*parts(3, *range(6)), b"junk"], [encode_storno(3)]])
    return Lab(topics, config_of(offset_save_interval_sec=0.5, max_pending_age_sec=1e6), disk=disk)


def script(lab: Lab) -> None:
    """A run with checkpoints and a late storno."""
    late = Poll((1, 1, 1, 9), 0.6, lambda _: lab.topics.records[3].append(encode_storno(0)))
    lab.consume([Poll((2, 2, 2, 9), 0.6), late, Poll((2, 2, 2, 9), 0.6), Poll((9, 9, 9, 9), 0.6)])


def counted() -> dict[str, int]:
    """How often the script makes each call."""
    disk = FailingDisk()
    script(lab_on(disk))
    return disk.names


CASES = [(name, nth, error) for name, count in counted().items() for nth in range(1, count + 1) for error in ERRORS]


@pytest.mark.parametrize(("name", "nth", "error"), CASES)
def test_a_call_that_fails_ends_the_consumer_and_loses_nothing(name: str, nth: int, error: int) -> None:
    """Each write, sync, rename and so on of the script, full or broken; then power cut or not, and on to the end."""
    for power_goes in (False, True):
        disk = FailingDisk()
        lab = lab_on(disk)
        disk.failing = (name, nth, error)
        before = 0
        with pytest.raises(FolderError, match=re.escape(os.strerror(error))) as caught:
            script(lab)
        assert "/lab/output" in str(caught.value) and str(caught.value).count("\n") == 0
        disk.failing = None
        record = lab.record() if lab.disk.content(lab.config.offsets_path) else None
        if power_goes:
            disk.cut_power(Random(nth))
        elif record:  # the files reach as far as it says: nothing was recorded behind the error
            before = record.generation
            for path, synced in zip(lab.paths, record.synced, strict=True):
                assert len(lab.disk.durable(path)) >= synced
        assert lab.consume(rest=True)
        check_end(lab)
        after = lab.record()
        assert after and after.generation > before


# --- somebody changes the files while the consumer runs ---


def cut(path: Path) -> None:
    """To half of its length."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """As an editor that saves nothing."""
    path.write_bytes(b"")


def replace_by_folder(path: Path) -> None:
    """The name stands for something else now."""
    path.unlink()
    path.mkdir()


def replace_by_copy(path: Path) -> None:
    """As many editors save: the same bytes in another file."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


CHANGES: dict[Callable[[Path], None], str] = {
    cut: "bytes long, but",
    empty: "bytes long, but",
    Path.unlink: "removed or replaced",
    replace_by_folder: "removed or replaced",
    replace_by_copy: "removed or replaced",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("more", [True, False], ids=["houses come", "nothing comes"])
def test_a_file_that_is_changed_while_the_consumer_runs_ends_it(
    tmp_path: Path, kafka: str, change: Callable[[Path], None], more: bool
) -> None:
    """With the next house or checkpoint; where the restart cannot mend it, it refuses until the file is back."""
    made = make_project(tmp_path, kafka, {"consumer.offset_save_interval_sec": 0.5})
    send_houses(made, 20)
    with consuming(made) as process:
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        kept = made.houses_path.read_bytes()
        change(made.houses_path)
        if more:
            send_houses(made, 10)
        status, said = ends(process)
    assert status == 1 and f"{made.houses_path}: " in said and CHANGES[change] in said and "--rescan" in said
    again = run(made, "consume", "--until-end")
    if again.returncode:  # else no checkpoint lay behind what is missing, and it was read again
        assert str(made.houses_path) in again.stderr and len(again.stderr.splitlines()) == 1
        _remove(made.houses_path)
        made.houses_path.write_bytes(kept)
        read_houses(made)
    assert sorted(line["id"] for line in read_jsonl(made.houses_path)) == list(range(30 if more else 20))
    assert verify(made).ok


def _remove(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["houses.jsonl", "binding.json", "storno_ids.json", "consumer_offsets.json"])
def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path: Path, kafka: str, name: str) -> None:
    """At the start; it is named, and left as it is."""
    made = make_project(tmp_path, kafka)
    (made.folder / name).mkdir(parents=True)
    (made.folder / name / "kept").touch()
    done = run(made, "consume", "--until-end")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and name in done.stderr, done.stderr
    assert (made.folder / name / "kept").exists()


def test_a_link_out_of_the_project_is_refused(tmp_path: Path, kafka: str) -> None:
    """Nothing is written where it leads."""
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    outside.mkdir()
    made = make_project(project, kafka)
    made.folder.rmdir()
    made.folder.symlink_to(outside)
    done = run(made, "consume", "--until-end")
    assert done.returncode == 1 and "output_file" in done.stderr, done.stderr
    assert list(outside.iterdir()) == []


# --- real small disks ---


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder on a tmpfs of its own, whose options the test gives."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """With other options; what is on it stays."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def finish(made: Config, houses: int) -> None:
    """With room again everything is there once."""
    check(made, "consume", "--until-end")
    assert sorted(line["id"] for line in read_jsonl(made.houses_path)) == list(range(houses))
    assert verify(made).ok


@pytest.mark.system
@pytest.mark.parametrize("small_disk", ["size=256k"], indirect=True)
def test_a_full_disk_ends_the_consumer_and_with_room_it_goes_on(small_disk: Path, kafka: str) -> None:
    """A tmpfs of 256 kB, and 2,000 houses of 300 bytes."""
    made = make_project(small_disk, kafka)
    send_houses(made, 2000)
    done = run(made, "consume", "--until-end")
    assert done.returncode == 1 and "No space left on device" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) <= 2 and "free the disk" in done.stderr
    remount(small_disk, "size=16m")
    finish(made, 2000)


@pytest.mark.system
@pytest.mark.parametrize("small_disk", ["size=16m"], indirect=True)
def test_a_full_inode_table_ends_the_consumer_and_with_room_it_goes_on(small_disk: Path, kafka: str) -> None:
    """No file can be made; and a checkpoint needs temporary ones."""
    made = make_project(small_disk, kafka)
    send_houses(made, 20)
    used = sum(1 for _ in small_disk.rglob("*")) + 1
    remount(small_disk, f"nr_inodes={used + 3}")
    done = run(made, "consume", "--until-end")
    assert done.returncode == 1 and "No space left on device" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    remount(small_disk, "nr_inodes=1000")
    finish(made, 20)


@pytest.mark.system
@pytest.mark.parametrize("small_disk", ["size=16m"], indirect=True)
def test_a_read_only_folder_ends_the_consumer(small_disk: Path, kafka: str) -> None:
    """At the start, in one line."""
    made = make_project(small_disk, kafka)
    send_houses(made, 20)
    remount(small_disk, "ro")
    done = run(made, "consume", "--until-end")
    assert done.returncode == 1 and "Read-only file system" in done.stderr and len(done.stderr.splitlines()) == 1
    remount(small_disk, "rw")
    finish(made, 20)
