"""Where reading goes on after a stop: the checkpoint record, and the store that keeps it in a file."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import ConfigDict, Field, TypeAdapter

from houses.errors import PositionError
from houses.records.message import PARTS
from houses.system.files import FileOps, read_file, replace_file, sync_folder

_FORMAT = "houses-checkpoint-1"
_Number = Annotated[int, Field(strict=True, ge=0)]
_Numbers = Annotated[tuple[_Number, ...], Field(min_length=len(PARTS), max_length=len(PARTS))]
"""One of each partition, or of each file."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The record that bounds what a restart must read again. Partitions 0 to 2; files in the order of journal.FILES."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    folder: str
    """UUID of the folder that it belongs to."""
    topic_ids: tuple[str, str]
    """Ids of the parts and the storno topic."""
    generation: _Number
    """Grows by one with each record; the side files carry it too."""
    low: _Numbers
    """Low watermark per partition: the offset of the oldest pending part, else the next offset."""
    next: _Numbers
    """Next offset to read per partition, had nothing been pending."""
    storno_next: _Number
    """Next offset of the storno topic; every storno below it is in the register of this generation."""
    synced: _Numbers
    """Length in bytes per file; all before it is durable."""
    tail: _Numbers
    """Byte per file from which lines may hold offsets at or above the low watermarks."""

    def encode(self) -> bytes:
        """As one line of JSON, well below the 4 KB that a Kafka commit carries."""
        return json.dumps({"format": _FORMAT} | asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes, source: str) -> "Checkpoint":
        """Read a record; `source` names it in the `PositionError` of a damaged or older one."""
        try:
            record = json.loads(data)
            if _is_older(record):
                raise PositionError(
                    f"{source}: written by the older consumer ({data[:60]!r}), whose positions forget pending parts: "
                    "go on from the files themselves with: houses consume --rescan"
                )
            return cls._from_json(record)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise PositionError(
                f"{source}: not a checkpoint ({data[:60]!r}): go on from the files themselves with: "
                "houses consume --rescan"
            ) from None

    @classmethod
    def _from_json(cls, record: dict[str, Any]) -> "Checkpoint":
        if record.pop("format") != _FORMAT:
            raise ValueError("format")
        checkpoint = TypeAdapter(cls).validate_python(record)
        bounds = zip((*checkpoint.low, *checkpoint.tail), (*checkpoint.next, *checkpoint.synced), strict=True)
        if any(low > high for low, high in bounds):
            raise ValueError("order")
        return checkpoint


def _is_older(record: Any) -> bool:
    return isinstance(record, dict) and bool(record) and all(key.isdigit() for key in record)


class CheckpointStore(Protocol):
    """Keeps one checkpoint record per folder; a saved one survives any crash of this program and its machine."""

    name: str
    """Where the record is, for messages."""

    def load(self) -> Checkpoint | None:
        """The last saved record; None when there never was one."""

    def save(self, checkpoint: Checkpoint, *, last: bool = False) -> None:
        """Replace the record. When it returns that is done; of a `BoundedStore` perhaps a little later, by this or the next.

        Args:
            last: no other save follows, and its answer is worth some waiting.
        """

    def forget(self) -> None:
        """Remove the record (`houses reset`, `consume --rescan`)."""

    def close(self) -> None:
        """Give back what the store holds open."""


def taken_over(store: str, folder: str) -> PositionError:
    """The error of a save that finds the record of another consumer, to be raised by the caller."""
    return PositionError(
        f"{store}: another consumer has saved positions of this folder ({folder}) meanwhile: does a copy of it run "
        "elsewhere? Stop one of the two; a copy goes on with a consumer.offset_store of its own, after: "
        "houses consume --rescan"
    )


def old_path(path: Path) -> Path:
    """Where a record goes that is forgotten."""
    return path.with_name(path.name + ".old")


class FileStore:
    """The record in consumer_offsets.json."""

    def __init__(self, ops: FileOps, path: Path) -> None:
        """Nothing is read or written yet."""
        self._ops = ops
        self._path = path
        self.name = str(path)

    def load(self) -> Checkpoint | None:
        """See `CheckpointStore`."""
        data = read_file(self._ops, self._path)
        return None if data is None else Checkpoint.decode(data, self.name)

    def save(self, checkpoint: Checkpoint, *, last: bool = False) -> None:
        """See `CheckpointStore`."""
        replace_file(self._ops, self._path, checkpoint.encode() + b"\n")

    def forget(self) -> None:
        """See `CheckpointStore`; the file stays beside it as NAME.old."""
        with suppress(FileNotFoundError):
            self._ops.rename(self._path, old_path(self._path))
            sync_folder(self._ops, self._path.parent)

    def close(self) -> None:
        """See `CheckpointStore`."""
