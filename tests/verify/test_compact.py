"""houses_live.jsonl: the houses that were not cancelled."""

import json
from pathlib import Path

import pytest
from support.finished_run import (
    Files,
    copy_run,
    make_finished_run,
)
from support.kafka_lab import make_lab

from houses.config.config import Config
from houses.errors import MessageError
from houses.system.log import progress_shown
from houses.verify.compact import compact


@pytest.fixture(scope="module")
def finished(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A finished run, not to be changed."""
    return make_finished_run(tmp_path_factory.mktemp("finished"), kafka)


@pytest.fixture
def files(finished: Config, tmp_path: Path) -> Files:
    """A copy of the finished run's files, to be changed."""
    return Files(copy_run(finished, tmp_path / "copy"))


@pytest.fixture
def lab(kafka: str, tmp_path: Path) -> Config:
    """An empty folder with topics of its own."""
    return make_lab(tmp_path, kafka)


def test_compact_leaves_out_the_cancelled_and_changes_nothing_else(files: Files) -> None:
    """Houses 11 and 12 were cancelled after they were written; the other lines stand as they were."""
    before = files.path("houses").read_bytes()
    with progress_shown((said := list[str]()).append):
        done = compact(files.config)
    assert said == [f"25 houses, {len(before):,} bytes of houses.jsonl read"]
    assert (done.kept, done.dropped, done.path) == (25, 2, files.path("houses_live"))
    kept = [line for line in before.splitlines(keepends=True) if json.loads(line)["id"] not in (11, 12)]
    assert done.path.read_bytes() == b"".join(kept)
    assert files.path("houses").read_bytes() == before
    assert str(done) == f"{done.path}: 25 houses; 2 left out, cancelled as a whole or in part"


def test_compact_again_replaces_the_file_in_one_step(files: Files) -> None:
    """No temporary file stays, and an older result is gone."""
    files.path("houses_live").write_bytes(b"old")
    compact(files.config)
    assert compact(files.config).kept == len(files.read("houses_live")) == 25
    assert not list(files.config.folder.glob("*.tmp"))


def test_compact_takes_stornos_of_the_register_too(files: Files) -> None:
    """The older program wrote no late lines."""
    files.write("storno_houses", [])
    files.set_register(full=[0, 1])
    compact(files.config)
    assert {0, 1, 9}.isdisjoint({record["id"] for record in files.read("houses_live")})


def test_compact_ignores_a_line_that_is_being_written(files: Files) -> None:
    """An unfinished last line is not a house yet."""
    files.add_bytes("houses", b'{"id":99,"hou')
    assert compact(files.config).kept == 25


def test_compact_of_a_damaged_file_leaves_nothing_behind(files: Files) -> None:
    """The error quotes the line; there is no half-written result."""
    files.add_bytes("houses", b"junk\n")
    with pytest.raises(MessageError, match="not a house line: b'junk"):
        compact(files.config)
    assert not list(files.config.folder.glob("houses_live*"))


def test_compact_of_an_empty_folder_is_an_empty_file(lab: Config) -> None:
    """Nothing was written yet."""
    assert (compact(lab).kept, (lab.folder / "houses_live.jsonl").read_bytes()) == (0, b"")
