"""A consumer that dies where one chooses: file operations that kill their own process at one of their calls."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from houses.errors import ConfigError
from houses.system.files import FileOps

AT_RANDOM = "at random"
"""In the place of a crash point: a kill from outside, whatever the consumer does just then."""
_FORM = re.compile(r"(before|after) (write|sync|rename|truncate|unlink|sync_dir) (\S+)(?: ([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """A moment between two system calls: before or after the n-th call of one kind on one file."""

    when: str
    call: str
    file: str
    """Name of the file; of a rename the new name, of a sync_dir that of the folder."""
    nth: int = 1

    @classmethod
    def parse(cls, text: str) -> "CrashPoint":
        """From text such as `after sync houses.jsonl` or, for the 200th such call, `after sync houses.jsonl 200`.

        Raises:
            ConfigError: the text has another form.
        """
        if (match := _FORM.fullmatch(text)) is None:
            raise ConfigError(
                f"crash point {text!r}: must be before or after; write, sync, rename, truncate, unlink or sync_dir; "
                "a file name; and perhaps which such call, for example: after sync houses.jsonl 200"
            )
        when, call, file, nth = match.groups()
        return cls(when, call, file, int(nth or 1))

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"{self.when} {self.call} {self.file} {self.nth}"


def check_crash_point(at: str) -> None:
    """Refuse what is neither a crash point as `CrashPoint` reads it nor "at random".

    Raises:
        ConfigError: names the forms that there are.

    Example:
        >>> check_crash_point("after sync houses.jsonl 200")
    """
    if at != AT_RANDOM:
        CrashPoint.parse(at)


def kill_this_process() -> None:
    """End at once, without any farewell: SIGKILL, or what comes closest elsewhere."""
    psutil.Process().kill()


class CrashingOps(FileOps):
    """Real file operations that end the process at a crash point."""

    def __init__(self, point: CrashPoint, die: Callable[[], None] = kill_this_process) -> None:
        """`die` is called at the point; by default it does not return."""
        self._point, self._die = point, die
        self._left = point.nth
        self._names: dict[int, str] = {}

    @contextmanager
    def _moment(self, call: str, file: str) -> Iterator[None]:
        due = (call, file) == (self._point.call, self._point.file)
        self._left -= due
        if due and self._left == 0 and self._point.when == "before":
            self._die()
        yield
        if due and self._left == 0 and self._point.when == "after":
            self._die()

    def open(self, path: Path, *, create: bool = True) -> int:
        """As `FileOps`; descriptors are known by their file from now on."""
        fd = super().open(path, create=create)
        self._names[fd] = path.name
        return fd

    def write_at(self, fd: int, position: int, data: bytes) -> None:
        """`write` of a crash point."""
        with self._moment("write", self._names[fd]):
            super().write_at(fd, position, data)

    def sync(self, fd: int) -> None:
        """`sync` of a crash point."""
        with self._moment("sync", self._names[fd]):
            super().sync(fd)

    def truncate(self, fd: int, length: int) -> None:
        """`truncate` of a crash point."""
        with self._moment("truncate", self._names[fd]):
            super().truncate(fd, length)

    def rename(self, source: Path, target: Path) -> None:
        """`rename` of a crash point."""
        with self._moment("rename", target.name):
            super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """`unlink` of a crash point."""
        with self._moment("unlink", path.name):
            super().unlink(path)

    def sync_dir(self, folder: Path) -> None:
        """`sync_dir` of a crash point."""
        with self._moment("sync_dir", folder.name):
            super().sync_dir(folder)
