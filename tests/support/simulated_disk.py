"""A disk in memory that can die: what was not synced when the power goes is there, torn or lost, as chance has it."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from houses.system.files import FileOps

_REACHES = 0.7
"""Share of the changes not synced that reach the platter all the same."""


class Crash(BaseException):
    """The process or the machine dies here; no Exception, so that nothing on the way out handles it."""


class Inode:
    """Content of a file: as programs see it, as it is on the platter, and what the system still has to bring there."""

    def __init__(self) -> None:
        """Empty."""
        self.visible = bytearray()
        self.durable = bytearray()
        self.unsynced: list[Callable[[bytearray, Random | None], None]] = []

    def change(self, action: Callable[[bytearray, Random | None], None]) -> None:
        """Do it now to what programs see, later to the platter."""
        action(self.visible, None)
        self.unsynced.append(action)

    def sync(self) -> None:
        """Bring everything to the platter."""
        for action in self.unsynced:
            action(self.durable, None)
        self.unsynced.clear()

    def lose_power(self, random: Random) -> None:
        """Of the changes not synced, some reach the platter, some in part, some not."""
        for action in self.unsynced:
            if random.random() < _REACHES:
                action(self.durable, random)
        self.unsynced.clear()
        self.visible = bytearray(self.durable)


class SimulatedDisk(FileOps):
    """Files in memory. `fuse` counts operations down; at 0 the process dies in the middle of that one."""

    def __init__(self) -> None:
        """Empty, and it does not die."""
        self.fuse: int | None = None
        self.sync_fuse: int | None = None
        """Counts syncs of files down; that at 0 fails: its bytes stay visible, but never reach the platter by themselves."""
        self.keeps_names = True
        """Whether folders can be synced."""
        self._names: dict[Path, Inode] = {}
        self._durable_names: dict[Path, Inode] = {}
        self._unsynced_names: list[dict[Path, Inode | None]] = []
        self._open: dict[int, Inode] = {}
        self._dead = False
        self.bytes_read = 0

    # --- what the program under test calls ---

    def open(self, path: Path, *, create: bool = True) -> int:
        """See `FileOps`."""
        if path not in self._names:
            if not create:
                raise FileNotFoundError(path)
            self._count()
            self._name({path: Inode()})
        descriptor = max(self._open, default=2) + 1
        self._open[descriptor] = self._names[path]
        return descriptor

    def close(self, fd: int) -> None:
        """See `FileOps`."""
        self._open.pop(fd)

    def size(self, fd: int) -> int:
        """See `FileOps`."""
        return len(self._open[fd].visible)

    def is_at(self, fd: int, path: Path) -> bool:
        """See `FileOps`."""
        return self._names.get(path) is self._open[fd]

    def read(self, fd: int, position: int, length: int) -> bytes:
        """See `FileOps`."""
        data = bytes(self._open[fd].visible[position : position + length])
        self.bytes_read += len(data)
        return data

    def write_at(self, fd: int, position: int, data: bytes) -> None:
        """See `FileOps`; a process that dies in it has written a part."""
        if self.fuse is not None and self.fuse <= 1:
            self._open[fd].change(_write(position, data[: len(data) * 2 // 3]))
        self._count()
        self._open[fd].change(_write(position, data))

    def sync(self, fd: int) -> None:
        """See `FileOps`."""
        self._count()
        self.sync_fuse = None if self.sync_fuse is None else self.sync_fuse - 1
        if self.sync_fuse == 0:
            # As Linux does: the pages count as clean from now on, <https://lwn.net/Articles/752063/>.
            self._open[fd].unsynced.clear()
            raise OSError(5, "Input/output error")
        self._open[fd].sync()

    def truncate(self, fd: int, length: int) -> None:
        """See `FileOps`."""
        self._count()
        self._open[fd].change(_truncate(length))

    def rename(self, source: Path, target: Path) -> None:
        """See `FileOps`."""
        if source not in self._names:
            raise FileNotFoundError(source)
        self._count()
        inode = self._names[source]
        self._name({source: None, target: inode})

    def unlink(self, path: Path) -> None:
        """See `FileOps`."""
        self._count()
        self._name({path: None})

    def sync_dir(self, folder: Path) -> None:
        """See `FileOps`."""
        self._count()
        if not self.keeps_names:
            raise OSError(5, "Input/output error")
        for change in self._unsynced_names:
            _apply(change, self._durable_names)
        self._unsynced_names.clear()

    # --- what tests call ---

    def kill_process(self) -> None:
        """The process is gone, the system is not: everything written is still there."""
        self._open.clear()
        self._dead = False
        self.fuse = self.sync_fuse = None

    def cut_power(self, random: Random) -> None:
        """The machine is gone: of what was not synced, names and bytes, that is left which chance has it."""
        self.kill_process()
        for change in self._unsynced_names:
            if random.random() < _REACHES:
                _apply(change, self._durable_names)
        self._unsynced_names.clear()
        for inode in {id(inode): inode for inode in [*self._names.values(), *self._durable_names.values()]}.values():
            inode.lose_power(random)
        self._names = dict(self._durable_names)

    @property
    def has_unsynced(self) -> bool:
        """Whether a power cut could take something."""
        return bool(self._unsynced_names) or any(inode.unsynced for inode in self._names.values())

    @property
    def open_files(self) -> int:
        """Descriptors that were not given back."""
        return len(self._open)

    def content(self, path: Path) -> bytes | None:
        """What a program would read now; None when the file is absent."""
        return bytes(self._names[path].visible) if path in self._names else None

    def durable(self, path: Path) -> bytes:
        """What would surely be there after a power cut."""
        return bytes(self._durable_names[path].durable) if path in self._durable_names else b""

    def put(self, path: Path, data: bytes | None) -> None:
        """Change a file from outside, durably; None removes it."""
        inode = None if data is None else Inode()
        if inode:
            inode.visible[:] = inode.durable[:] = data or b""
        for names in (self._names, self._durable_names):
            _apply({path: inode}, names)

    def _name(self, change: dict[Path, Inode | None]) -> None:
        """Change names in one step, as the journal of a file system does; None: the name goes."""
        _apply(change, self._names)
        self._unsynced_names.append(change)

    def _count(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            self._dead = self._dead or self.fuse <= 0
        if self._dead:
            raise Crash


def _apply(change: dict[Path, Inode | None], names: dict[Path, Inode]) -> None:
    for path, inode in change.items():
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode


def _write(position: int, data: bytes) -> Callable[[bytearray, Random | None], None]:
    def action(content: bytearray, random: Random | None) -> None:
        start, end = 0, len(data)
        if random and random.random() < 0.5:  # torn: a stretch of it arrives, what lacks before it is zeros
            start, end = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
            start = start if random.random() < 0.3 else 0
        content.extend(bytes(max(0, position + end - len(content))))
        content[position + start : position + end] = data[start:end]

    return action


def _truncate(length: int) -> Callable[[bytearray, Random | None], None]:
    def action(content: bytearray, _: Random | None) -> None:
        del content[length:]

    return action
