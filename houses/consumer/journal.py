"""The three append-only JSONL files.

Nothing visible is ever taken back: files only grow, at known positions, and each commit is durable before the next
begins.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from houses.errors import FolderError
from houses.records.decode import House
from houses.records.lines import house_line, late_line, reject_line, split_lines, storno_line
from houses.records.message import Reject
from houses.records.registers import StornoRegister
from houses.system.files import FileOps, read_file, stage_file, sync_folder

FILES = ("houses", "storno", "rejects")
"""The files in the order of their commit, as checkpoints name them."""

_SCAN_BYTES = 4 << 20


class JsonlFile:
    """One append-only file of lines."""

    def __init__(self, ops: FileOps, path: Path) -> None:
        """Open the file, empty when it is new; the caller syncs the folder."""
        self.path = path
        self._ops = ops
        try:
            self._fd = ops.open(path)
        except OSError as error:
            raise FolderError(f"{path}: cannot be opened for writing ({error.strerror}): check the folder") from None
        self.length_bytes = ops.size(self._fd)
        """Where the next line goes; all before it is durable once `recover` and each `commit` have returned."""
        self.queued: list[str] = []
        """Lines for the next commit."""

    def commit(self) -> None:
        """Write the queued lines and return when they are on the disk."""
        if not self.queued:
            return
        self.check_length()
        data = "".join(self.queued).encode("ascii")
        self._write(self.length_bytes, data)
        self.sync()
        self.length_bytes += len(data)
        self.queued.clear()

    def check_length(self) -> None:
        """`FolderError` unless the file ends where the last commit left it: a write behind a cut would leave a hole."""
        if (found := self._ops.size(self._fd)) != self.length_bytes:
            raise self._meddled(f"{found} bytes long, but {self.length_bytes} were written")

    def check_name(self) -> None:
        """`FolderError` unless the file still has its name: what is written to another one would vanish with it."""
        if not self._ops.is_at(self._fd, self.path):
            raise self._meddled("removed or replaced")

    def _meddled(self, what: str) -> FolderError:
        return FolderError(
            f"{self.path}: {what} while the consumer runs: restore the file, then start again (houses consume; with "
            "--rescan it reads again what the files do not hold), or start anew: houses reset --archive"
        )

    def sync(self) -> None:
        """Return when what was written is on the disk."""
        self._guarded("synced", lambda: self._ops.sync(self._fd))

    def _guarded(self, done: str, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            # No retry: after a failed fsync Linux may call lost pages clean, <https://lwn.net/Articles/752063/>.
            raise FolderError(
                f"{self.path}: could not be {done} ({error.strerror}): nothing is lost; "
                "free the disk or mend it, then start the consumer again"
            ) from error

    def rewrite_from(self, position: int) -> None:
        """Write the bytes from `position` on again in place and sync them.

        An unclean stop may have left them in memory only.
        """
        for start in range(position, self.length_bytes, _SCAN_BYTES):
            data = self._ops.read(self._fd, start, min(_SCAN_BYTES, self.length_bytes - start))
            self._write(start, data)
        if position < self.length_bytes:
            self.sync()

    def _write(self, position: int, data: bytes) -> None:
        self._guarded("written", lambda: self._ops.write_at(self._fd, position, data))

    def cut(self, position: int) -> None:
        """Drop what follows `position`, after keeping it durably in NAME.cut."""
        removed = self._ops.read(self._fd, position, self.length_bytes - position)
        kept = self.path.with_name(self.path.name + ".cut")
        stage_file(self._ops, kept, (read_file(self._ops, kept) or b"") + removed)
        sync_folder(self._ops, kept.parent)
        self._guarded("cut", lambda: self._ops.truncate(self._fd, position))
        self.sync()
        self.length_bytes = position

    def line_ends_at(self, position: int) -> bool:
        """Whether the byte before `position` (1 or more) is a line feed."""
        return self._ops.read(self._fd, position - 1, 1) == b"\n"

    def lines(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Position and bytes of each line from byte `start` on; the last may lack its line feed."""
        rest = b""
        position = start
        while chunk := self._ops.read(self._fd, position + len(rest), _SCAN_BYTES):
            data = rest + chunk
            whole = data.rfind(b"\n") + 1
            for line in split_lines(data[:whole]):
                yield position, line
                position += len(line)
            rest = data[whole:]
        if rest:
            yield position, rest

    def close(self) -> None:
        """Give the file back; what is queued is not written."""
        self._ops.close(self._fd)


class Journal:
    """houses.jsonl, storno_houses.jsonl and rejects.jsonl, committed together."""

    def __init__(self, ops: FileOps, paths: tuple[Path, Path, Path], topics: tuple[str, str]) -> None:
        """Open the three files, in the order of FILES; `topics` are the names of the parts and the storno topic."""
        self._topics = topics
        self.files = tuple(JsonlFile(ops, path) for path in paths)
        self.houses, self.storno, self.rejects = self.files
        sync_folder(ops, paths[0].parent)

    def append_houses(self, houses: list[House], stornos: StornoRegister, completed_at: str) -> int:
        """Queue the lines of completed houses; returns how many of them are cancelled."""
        masks = stornos.masks
        cancelled = [house for house in houses if house[0] in masks] if masks else []
        if cancelled:
            houses = [house for house in houses if house[0] not in masks]
        self.houses.queued += [house_line(house, completed_at) for house in houses]
        self.storno.queued += [
            storno_line(house, masks[house[0]], stornos.offsets.get(house[0]), completed_at) for house in cancelled
        ]
        return len(cancelled)

    def append_late(self, house_id: int, stornos: StornoRegister) -> None:
        """Queue the line of a storno whose house is already written."""
        self.storno.queued.append(late_line(house_id, stornos.masks[house_id], stornos.offsets.get(house_id)))

    def append_rejects(self, rejects: Iterable[Reject]) -> None:
        """Queue the lines of rejected records."""
        self.rejects.queued += [reject_line(reject, self._topics) for reject in rejects]

    @property
    def queued(self) -> tuple[int, ...]:
        """Lines not yet written, per file."""
        return tuple(len(file.queued) for file in self.files)

    def commit(self) -> None:
        """Make all queued lines durable.

        1. houses: write, sync. 2. storno: write, sync. 3. rejects: write, sync. One after the other: a storno line may
        only be on the disk when the houses line that it speaks of is.
        """
        for file in self.files:
            file.commit()

    @property
    def lengths(self) -> tuple[int, ...]:
        """Bytes written and synced, per file."""
        return tuple(file.length_bytes for file in self.files)

    def check_untouched(self) -> None:
        """`FolderError` when somebody has cut, removed or replaced a file since the last commit."""
        for file in self.files:
            file.check_length()
            file.check_name()

    def close(self) -> None:
        """Give the files back; what is queued is not written."""
        for file in self.files:
            file.close()
