"""Every crash point: a consumer on a real folder is killed before and after each call on its files, one call after the other.

The input is scripted: start, houses, stornos before, between and after the parts, checkpoints, an eviction, a torn line, the
recovery from it, and a stop. Each kill is a real SIGKILL of a process of its own; what it left is gone on from, to the end.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from houses.records.message import PARTS, encode_storno
from houses.system.files import REAL, FileOps
from support.reference import Line
from support.simulated_disk import SimulatedDisk
from support.simulation import ALL, Lab, Poll, Topics, check_end, config_of, parts

_EVICTED = 3


class CountingDisk(SimulatedDisk):
    """The real disk, for a `Lab`; counts each call, and kills its own process before or after one of them."""

    def __init__(self, kill_at: float = float("inf")) -> None:
        """`kill_at`: n is before the n-th call, n + 0.5 after it; counted from 1."""
        super().__init__()
        self.calls = 0
        self._kill_at = kill_at

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.calls += 1
        self._kill_if(self.calls)
        try:
            yield
        finally:
            self._kill_if(self.calls + 0.5)

    def _kill_if(self, now: float) -> None:
        if now == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def content(self, path: Path) -> bytes | None:
        """What a program would read now; None when the file is absent."""
        return path.read_bytes() if path.exists() else None


def _through(name: str) -> Callable[..., Any]:
    def call(disk: CountingDisk, *arguments: Any, **options: Any) -> Any:
        with disk._counted():
            return getattr(REAL, name)(*arguments, **options)

    return call


for _name in [name for name in vars(FileOps) if not name.startswith("_")]:
    setattr(CountingDisk, _name, _through(_name))


def _topics() -> Topics:
    """Ten houses, of which one never gets its wall and roof; stornos come with the script."""
    ids = [1, 2, _EVICTED, 4, 5, 6, 7, 8, 9, 10]
    others = [i for i in ids if i != _EVICTED]
    return Topics(
        [[*parts(1, *ids), b"junk"], parts(2, others[0], *others), parts(3, *others), [encode_storno(5, None)]]
    )


def _arrive(lab: Lab, *stornos: bytes) -> Callable[[object], None]:
    return lambda _: lab.topics.records[3].extend(stornos)


def _first_run(lab: Lab) -> None:
    """Start, houses of which two wait together, late and early stornos, checkpoints, an eviction, and no stop."""
    plan = [
        Poll((2, 2, 1, 1)),
        Poll((1, 1, 1, 1), 0.3, _arrive(lab, encode_storno(1, PARTS[1]), encode_storno(6, PARTS[0]), b"junk")),
        Poll((2, 2, 2, 9), 1.1),
        Poll((1, 1, 1, 9), 0.3, _arrive(lab, encode_storno(1, None), encode_storno(2, PARTS[2]))),
        Poll((0, 0, 0, 9), 3.0),
        Poll((1, 0, 1, 9), 0.1),
    ]
    lab.consume(plan, kill=True)


def _second_run(lab: Lab) -> None:
    """Recovery, the rest, one more late storno, and a clean stop."""
    lab.consume([ALL, Poll((9, 9, 9, 9), 1.1, _arrive(lab, encode_storno(4, None))), Poll((9, 9, 9, 9), 3.0)])


def _lab(folder: Path, topics: Topics, disk: CountingDisk) -> Lab:
    config = config_of(
        folder, flush_every=2, storno_flush_every=1, offset_save_interval_sec=0.5, max_pending_age_sec=2.0
    )
    config.folder.mkdir(parents=True, exist_ok=True)
    return Lab(topics, config, disk=disk)


def _tear(lab: Lab) -> None:
    """The last line of each file in two, as a power cut may leave it."""
    for path in lab.paths:
        with path.open("ab") as file:
            file.write(b'{"id":9,"ho')


RUNS = {"a start, its work and checkpoints": _first_run, "the recovery from a kill, the rest and a stop": _second_run}


def every_point() -> Iterator[tuple[str, float, int]]:
    """Kill at each point and go on; gives the run, the point and how many houses the files held in the end.

    Raises:
        AssertionError: what the files say in the end is not what the plain reference says.
    """
    topics = _all_arrived()
    for name in RUNS:
        calls = _calls_of(name)
        for at in (point for call in range(1, calls + 1) for point in (call, call + 0.5)):
            yield name, at, _killed_at(name, at, topics)


def first_run_files(folder: Path) -> dict[str, list[Line]]:
    """What the first run writes into a folder, by file, when nobody kills it."""
    lab = _lab(folder, _topics(), CountingDisk())
    _first_run(lab)
    return {path.name: lab.lines(path) for path in lab.paths}


def _calls_of(name: str) -> int:
    """How many calls the run makes when nobody kills it."""
    with _folder() as folder:
        disk = CountingDisk()
        lab = _before(name, folder, _topics())
        lab.disk = disk
        RUNS[name](lab)
        return disk.calls


def _before(name: str, folder: Path, topics: Topics) -> Lab:
    """The folder as the run finds it."""
    lab = _lab(folder, topics, CountingDisk())
    if RUNS[name] is _second_run:
        _first_run(lab)
        _tear(lab)
    return lab


def _killed_at(name: str, at: float, topics: Topics) -> int:
    with _folder() as folder:
        lab = _before(name, folder, _topics())
        if (child := os.fork()) == 0:
            lab.disk = CountingDisk(at)
            RUNS[name](lab)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"{name}: not killed at {at}"
        lab = _lab(folder, topics, CountingDisk())
        assert lab.consume(rest=True)
        assert lab.consume([Poll((9, 9, 9, 9), 3.0)] * 2)
        check_end(lab, evicted=True)
        return len(lab.lines(lab.paths[0]))


def _all_arrived() -> Topics:
    """The topics as they are when both runs are over: what comes while a child runs, only the child knows."""
    with _folder() as folder:
        lab = _lab(folder, _topics(), CountingDisk())
        _first_run(lab)
        _second_run(lab)
        return lab.topics


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="houses-crash-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
