"""The file system as the lab uses it: positioned writes, real syncs, atomic replacement.

Everything that must survive a crash goes through `FileOps`, so that a simulated disk or a crashing one can stand in
for it.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from houses.errors import FolderError

_REPLACE_RETRY_S = 2.0


class FileOps:
    """File operations by descriptor and position, each one system call (or its nearest portable equivalent)."""

    def open(self, path: Path, *, create: bool = True) -> int:
        """Descriptor of a file for reading and writing; `FileNotFoundError` when absent and not to be created."""
        # Never O_APPEND: with it Linux pwrite() ignores the position.
        # <https://man7.org/linux/man-pages/man2/pwrite.2.html>
        flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        return os.open(path, flags | (os.O_CREAT if create else 0), 0o644)

    def close(self, fd: int) -> None:
        """Give a descriptor back."""
        os.close(fd)

    def size(self, fd: int) -> int:
        """Length of an open file in bytes."""
        return os.fstat(fd).st_size

    def is_at(self, fd: int, path: Path) -> bool:
        """Whether an open file is still the one that `path` names."""
        try:
            return os.path.samestat(os.fstat(fd), path.stat())
        except FileNotFoundError:
            return False

    def read(self, fd: int, position: int, length: int) -> bytes:
        """At most `length` bytes from byte `position` on; fewer only at the end of the file."""
        chunks = []
        while length > 0 and (chunk := _read_at(fd, position, length)):
            chunks.append(chunk)
            position, length = position + len(chunk), length - len(chunk)
        return b"".join(chunks)

    def write_at(self, fd: int, position: int, data: bytes) -> None:
        """Write all of `data` at byte `position`; `OSError` when the disk does not take it."""
        view = memoryview(data)
        while view:
            written = _write_at(fd, position, view)
            position, view = position + written, view[written:]

    def sync(self, fd: int) -> None:
        """Return when content and length are on the disk itself."""
        if sys.platform == "darwin":
            # fsync() on macOS leaves data in the drive's cache: man 2 fsync.
            import fcntl

            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            getattr(os, "fdatasync", os.fsync)(fd)

    def truncate(self, fd: int, length: int) -> None:
        """Cut an open file to `length` bytes."""
        os.ftruncate(fd, length)

    def rename(self, source: Path, target: Path) -> None:
        """Put `source` in the place of `target` in one step."""
        deadline = time.monotonic() + _REPLACE_RETRY_S
        while True:
            try:
                os.replace(source, target)
                return
            except PermissionError:
                # Windows refuses to replace a file while a reader holds it open.
                if sys.platform != "win32" or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def unlink(self, path: Path) -> None:
        """Remove a file; nothing happens when it is absent."""
        path.unlink(missing_ok=True)

    def sync_dir(self, folder: Path) -> None:
        """Return when the names in `folder` (created, renamed, removed) are on the disk."""
        if sys.platform == "win32":  # folders cannot be opened there; NTFS journals names by itself
            return
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


REAL = FileOps()


def replace_file(ops: FileOps, path: Path, data: bytes) -> None:
    """Make `path` hold exactly `data`, durably.

    After a crash at any moment it holds either the old or the new bytes.
    """
    stage_file(ops, path, data)
    sync_folder(ops, path.parent)


def stage_file(ops: FileOps, path: Path, data: bytes) -> None:
    """As `replace_file`, but leaves the folder to be synced by the caller (once for several files)."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        _fill(ops, temporary, data)
        ops.rename(temporary, path)
    except OSError as error:
        raise FolderError(
            f"{path}: could not be written ({error.strerror}); the old one stays: free the disk or mend it, then start again"
        ) from error


def sync_folder(ops: FileOps, folder: Path) -> None:
    """Bring the names in `folder` to the disk; `FolderError` when it does not take them."""
    try:
        ops.sync_dir(folder)
    except OSError as error:
        raise FolderError(
            f"{folder}: could not be synced ({error.strerror}): nothing is lost; free the disk or mend it, then start again"
        ) from error


def _fill(ops: FileOps, path: Path, data: bytes) -> None:
    with opened(ops, path, create=True) as fd:
        ops.truncate(fd, 0)
        ops.write_at(fd, 0, data)
        ops.sync(fd)


def read_file(ops: FileOps, path: Path) -> bytes | None:
    """The whole content of a file, or None when it is absent."""
    try:
        with opened(ops, path) as fd:
            return ops.read(fd, 0, ops.size(fd))
    except FileNotFoundError:
        return None


@contextmanager
def opened(ops: FileOps, path: Path, *, create: bool = False) -> Iterator[int]:
    """Descriptor of a file for the time of a `with` block; `FileNotFoundError` when absent and not to be created."""
    fd = ops.open(path, create=create)
    try:
        yield fd
    finally:
        ops.close(fd)


def _read_at(fd: int, position: int, length: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, length, position)
    os.lseek(fd, position, os.SEEK_SET)
    return os.read(fd, length)


def _write_at(fd: int, position: int, data: memoryview) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, position)
    os.lseek(fd, position, os.SEEK_SET)
    return os.write(fd, data)
