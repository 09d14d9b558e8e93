"""Ending this project's processes: found by their locks, asked, waited for, never killed."""

import logging
import time
from pathlib import Path

import psutil

from houses.config.config import Config
from houses.errors import HousesError
from houses.system.locks import ROLES, Role, is_alive, lock_owner
from houses.system.stopping import ask_to_stop

LOG = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 15.0

Holder = tuple[Path, Role, psutil.Process]
"""A folder, a role, and the process that has it."""


def stop(config: Config, *, everywhere: bool = False, timeout_s: float = _STOP_TIMEOUT_S) -> None:
    """Ask the producers and the consumer of the folder to stop, and return when they have ended.

    Args:
        everywhere: also those of the experiments below the project's output folder.
        timeout_s: how long each may take.
    Raises:
        HousesError: one did not end, or is not to be stopped from here; the others are stopped all the same.
    """
    found = holders(config, everywhere=everywhere)
    if not found:
        LOG.info("Nothing to stop: no producer and no consumer runs here")
    problems = [problem for folder, role, owner in found if (problem := _end(folder, role, owner, timeout_s))]
    if problems:
        raise HousesError("\n".join(problems))


def holders(config: Config, *, everywhere: bool) -> list[Holder]:
    """Who works in the folder; `everywhere`: in those of the experiments too."""
    records = (config.root / "output").glob("runs/**/.*.pid") if everywhere else ()
    folders = dict.fromkeys([config.folder, *sorted(path.parent for path in records)])
    return [(folder, role, owner) for role in ROLES for folder in folders if (owner := lock_owner(folder, role))]


def _end(folder: Path, role: Role, process: psutil.Process, timeout_s: float) -> str:
    """Stop the holder of a role; returns what went wrong, in words."""
    who = f"the {role} of {folder} (process {process.pid})"
    try:
        words = process.cmdline()
        # Not `houses VERB`: a notebook's kernel, which does the same work in a thread.
        if ROLES[role] not in words[1:] or not any("houses" in Path(word).name for word in words[1:]):
            return f"{who} runs inside {' '.join(Path(word).name for word in words[:3])}: stop it there"
        ask_to_stop(process, folder, role)
        if not _has_ended(process, timeout_s):
            return (
                f"{who} was asked to stop and still runs after {timeout_s:.0f} s: see what it says, or end it yourself"
            )
    except psutil.NoSuchProcess:
        pass  # it has ended meanwhile
    except psutil.AccessDenied:
        return f"{who} belongs to {process.username()}: stop it as that user"
    LOG.info(f"Stopped {who}")
    return ""


def _has_ended(process: psutil.Process, timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while is_alive(process):  # no wait(): a child whose parent does not look at it stays a zombie, and has ended
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True
