"""What the consumer's process really does to its output folder, as strace sees it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import marked_consumer
from support.command_line import environment, make_project, read_houses, send_houses
from support.marked_consumer import BEGIN, END

from houses.config.config import Config
from houses.producer.storno import send_storno

pytestmark = pytest.mark.system

CHANGING = [
    "open",
    "openat",
    "openat2",
    "creat",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "truncate",
    "ftruncate",
    "fallocate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "fchownat",
    "utimensat",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "copy_file_range",
    "sendfile",
    "splice",
]
NOT_OURS = (".consumer.lock", ".consumer.pid", "metrics.jsonl")
"""Not part of what must survive: the lock's files and the measurements."""
CALL = re.compile(r"(\w+)\((.*)")


def traced(made: Config) -> Iterator[tuple[str, str, bool]]:
    """Each system call that changed the output folder: its name, its arguments, and whether `FileOps` made it."""
    logs = made.root / "strace"
    logs.mkdir()
    options = ["-ff", "-y", "-s", "200", "-o", str(logs / "thread"), "-e", f"trace={','.join(CHANGING)}"]
    command = ["strace", *options, sys.executable, marked_consumer.__file__, str(made.path)]
    done = subprocess.run(command, env=environment(made), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for log in logs.iterdir():  # one a thread
        inside = 0
        for match in filter(None, map(CALL.match, log.read_text(errors="replace").splitlines())):
            name, arguments = match.groups()
            inside += (f'"{BEGIN}"' in arguments) - (f'"{END}"' in arguments)
            reads_only = name.startswith("open") and not re.search("O_CREAT|O_TRUNC|O_WRONLY|O_RDWR", arguments)
            skipped = reads_only or any(other in arguments for other in (*NOT_OURS, " = -1 E"))
            if str(made.folder) in arguments and not skipped:
                yield name, arguments, inside > 0
    shutil.rmtree(logs)


def test_nothing_changes_the_folder_but_the_calls_that_the_crash_tests_count(tmp_path: Path, kafka: str) -> None:
    """First run, then recovery from a torn line: else a crash point, or a step that needs a sync, would be overlooked."""
    assert shutil.which("strace"), "strace is not installed"
    made = make_project(tmp_path, kafka)
    send_houses(made, 50)
    send_storno(made, 7)
    calls = list(traced(made))
    with made.houses_path.open("ab") as file:
        file.write(b'{"id":')
    send_houses(made, 5)
    calls += traced(made)
    beside = [(name, arguments) for name, arguments, is_ours in calls if not is_ours]
    assert beside == []
    assert {"openat", "pwrite64", "fdatasync", "fsync", "ftruncate", "rename"} <= {name for name, _, _ in calls}
    assert read_houses(made)["houses"] == 0  # all were read
