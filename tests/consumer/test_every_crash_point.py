"""A consumer killed before and after each of its calls on files, one after the other."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.crash_points import CountingDisk, first_run_files
from support.simulated_disk import SimulatedDisk

from houses.system.files import FileOps

TESTS = Path(__file__).parents[1]


def test_the_script_goes_through_all_that_a_consumer_does(tmp_path: Path) -> None:
    """Else its points prove less than they say: late stornos, an eviction, a reject and checkpoints are in its first run."""
    lines = first_run_files(tmp_path)
    assert any(line.get("late") for line in lines["storno_houses.jsonl"])
    assert any(line["house"] for line in lines["storno_houses.jsonl"])
    assert {"malformed", "duplicate", "evicted"} <= {line["reason"] for line in lines["rejects.jsonl"]}
    assert len(lines["houses.jsonl"]) >= 2


def test_every_call_on_files_is_counted() -> None:
    """A call that `FileOps` gets later must be counted too."""
    calls = {name for name in vars(FileOps) if not name.startswith("_")}
    assert calls <= vars(CountingDisk).keys() and calls <= vars(SimulatedDisk).keys()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_no_crash_point_loses_or_doubles_anything() -> None:
    """All of them, each a SIGKILL; in a process without threads, for it forks."""
    command = [sys.executable, "-m", "campaigns.crashtest", "--points"]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    points = int(done.stdout.split()[2].strip(",").replace(",", ""))
    assert points > 400 and done.stdout.endswith("lost 0, twice 0\n")
