"""Crash points: how they are written, and where they end the process."""

import subprocess
import sys
from pathlib import Path

import pytest

from houses.errors import ConfigError
from houses.system.crash_points import CrashingOps, CrashPoint
from houses.system.files import replace_file


class Died(BaseException):
    """Stands for the end of the process."""


def die() -> None:
    """As `kill_this_process`, for a test that goes on."""
    raise Died


@pytest.mark.parametrize("text", ["after sync houses.jsonl", "before rename consumer_offsets.json 3"])
def test_a_crash_point_is_written_as_it_is_read(text: str) -> None:
    """The first such call is the default."""
    assert str(CrashPoint.parse(text)) in (text, f"{text} 1")
    assert CrashPoint.parse(str(CrashPoint.parse(text))) == CrashPoint.parse(text)


@pytest.mark.parametrize(
    "text", ["", "after", "sync houses.jsonl", "after fsync houses.jsonl", "after sync a b", "after sync a 0"]
)
def test_text_in_another_form_is_refused(text: str) -> None:
    """The message quotes it and shows the form."""
    with pytest.raises(ConfigError, match="for example: after sync houses.jsonl 200") as caught:
        CrashPoint.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("at", "content", "temporary"),
    [
        ("before write file.json.tmp", b"old", b""),
        ("after write file.json.tmp", b"old", b"new"),
        ("after sync file.json.tmp", b"old", b"new"),
        ("before rename file.json", b"old", b"new"),
        ("after rename file.json", b"new", None),
        ("before sync_dir folder", b"new", None),
    ],
)
def test_everything_before_the_point_is_done_and_nothing_behind_it(
    tmp_path: Path, at: str, content: bytes, temporary: bytes | None
) -> None:
    """Seen in the steps of replacing a file."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "file.json"
    path.write_bytes(b"old")
    with pytest.raises(Died):
        replace_file(CrashingOps(CrashPoint.parse(at), die), path, b"new")
    assert path.read_bytes() == content
    left = path.with_name("file.json.tmp")
    assert (left.read_bytes() if left.exists() else None) == temporary


def test_the_nth_call_counts(tmp_path: Path) -> None:
    """Two pass, the third does not."""
    ops = CrashingOps(CrashPoint.parse("after unlink gone 3"), die)
    ops.unlink(tmp_path / "gone")
    ops.unlink(tmp_path / "other")
    ops.unlink(tmp_path / "gone")
    with pytest.raises(Died):
        ops.unlink(tmp_path / "gone")


def test_the_process_is_killed_without_any_farewell() -> None:
    """Not even `finally` runs."""
    code = (
        "from houses.system.crash_points import kill_this_process\ntry: kill_this_process()\nfinally: print('farewell')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode != 0 and done.stdout == b""
