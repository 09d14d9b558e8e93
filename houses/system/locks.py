"""One owner of a role per folder, and how a process is known again."""

import json
import sys
from pathlib import Path
from typing import Literal, Self

import psutil
from filelock import FileLock, Timeout

from houses.errors import FolderError

Role = Literal["producer", "storno-loop", "consumer", "kafka"]
ROLES: dict[Role, str] = {"producer": "produce", "storno-loop": "storno-loop", "consumer": "consume"}
"""Locks of a folder, in the order in which their holders are stopped: role -> verb that takes it."""


class FolderLock:
    """One owner of a role per folder, across processes. Released by the system when it dies."""

    def __init__(self, folder: Path, role: Role) -> None:
        """Nothing is taken before the `with` statement."""
        self._role = role
        self._folder = folder
        self._pid_path = folder / f".{role}.pid"
        # thread_local=False: the lock is one object for all threads that may stop its owner.
        self._lock = FileLock(folder / f".{role}.lock", thread_local=False)

    def __enter__(self) -> Self:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FolderError(self._held_message()) from None
        self._pid_path.write_text(process_record(psutil.Process()), encoding="ascii")
        return self

    def __exit__(self, *_: object) -> None:
        self._pid_path.unlink(missing_ok=True)
        self._lock.release()

    def _held_message(self) -> str:
        owner = lock_owner(self._folder, self._role)
        who = f"process {owner.pid}" if owner else "another process"
        return (
            f"{self._folder}: {who} is already the {self._role} of this folder: "
            "stop it first (houses stop), or use another folder (consumer.output_file)"
        )


def process_record(process: psutil.Process) -> str:
    """What `lock_owner` knows a process by: its id, and when it began."""
    return json.dumps({"pid": process.pid, "started_s": _started_s(process)})


def _started_s(process: psutil.Process) -> float:
    """A moment that stays the same for as long as the process lives, also when somebody sets the clock."""
    # On Linux psutil adds the time of boot, which moves with the clock: without it, seconds since boot are left.
    return process.create_time() - (psutil.boot_time() if sys.platform == "linux" else 0.0)


def lock_owner(folder: Path, role: Role) -> psutil.Process | None:
    """The living process that holds a role of the folder, or None.

    A process counts only when its start time is the recorded one: a process id alone may meanwhile be another program.
    One that was killed and that its parent has not waited for (a zombie) holds nothing any more.
    """
    try:
        record = json.loads((folder / f".{role}.pid").read_text(encoding="ascii"))
        process = psutil.Process(record["pid"])
        is_it = abs(_started_s(process) - record["started_s"]) < 1.0
        return process if is_it and is_alive(process) else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs: a killed child that nobody has waited for does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
