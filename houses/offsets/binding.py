"""Which topics a folder belongs to, and whether folder, checkpoint record and topics belong together."""

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from houses.config.config import Config
from houses.errors import FolderError, PositionError
from houses.kafka.clients import TopicInfo
from houses.offsets.checkpoint import Checkpoint
from houses.system.files import FileOps, read_file, replace_file


class Change(NamedTuple):
    """How a topic differs from the one that a folder is bound to."""

    bound: TopicInfo
    found: TopicInfo | None
    """None: it is gone."""
    is_other: bool
    """Whether what is there is not the bound topic at all: gone, another name, or made anew."""
    what: str
    """The difference in words, to follow the name of the bound topic."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What an output folder belongs to: its own UUID and the two topics that it was filled from."""

    folder: str
    parts: TopicInfo
    storno: TopicInfo

    @property
    def topics(self) -> tuple[TopicInfo, TopicInfo]:
        """Both, the parts topic first."""
        return self.parts, self.storno

    def changes(self, parts: TopicInfo | None, storno: TopicInfo | None) -> list[Change]:
        """How the topics that are there now differ from the bound ones; empty when they are the very ones."""
        pairs = zip(self.topics, (parts, storno), strict=True)
        return [_change(bound, found) for bound, found in pairs if found != bound]

    @classmethod
    def new(cls, parts: TopicInfo, storno: TopicInfo) -> "Binding":
        """A binding with a folder UUID that was never used before."""
        return cls(str(uuid.uuid4()), parts, storno)


def save_binding(ops: FileOps, path: Path, binding: Binding) -> None:
    """Write the binding file durably."""
    replace_file(ops, path, (json.dumps(asdict(binding), indent=1) + "\n").encode())


def load_binding(ops: FileOps, path: Path) -> Binding | None:
    """The binding of a folder, None when it has none; `FolderError` when the file is damaged."""
    if (data := read_file(ops, path)) is None:
        return None
    try:
        record = json.loads(data)
        return Binding(str(uuid.UUID(record["folder"])), TopicInfo(**record["parts"]), TopicInfo(**record["storno"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FolderError(
            f"{path}: damaged ({data[:60]!r}): restore it, or start anew with: houses reset --archive"
        ) from None


def bound_to(config: Config, ops: FileOps, parts: TopicInfo, storno: TopicInfo) -> Binding:
    """The binding of a folder, made at its first use; `PositionError` when it belongs to other topics than these."""
    binding = load_binding(ops, config.binding_path)
    if binding is None:
        binding = Binding.new(parts, storno)
        save_binding(ops, config.binding_path, binding)
    check_topics(binding, parts, storno)
    return binding


def _change(bound: TopicInfo, found: TopicInfo | None) -> Change:
    if found is None:
        return Change(bound, found, True, "is gone")
    if found.name != bound.name:
        return Change(bound, found, True, f"is not the topic of the configuration ({found.name})")
    if found.id != bound.id:
        return Change(bound, found, True, f"was deleted and made anew (id {found.id}, was {bound.id})")
    return Change(bound, found, False, f"has {found.partitions} partitions, had {bound.partitions}")


def check_topics(binding: Binding, parts: TopicInfo | None, storno: TopicInfo | None) -> None:
    """`PositionError` unless the topics are the very ones of the binding, with as many partitions."""
    for change in binding.changes(parts, storno):
        raise PositionError(
            f"topic {change.bound.name} {change.what}: the files of this folder belong to the earlier one; start "
            "anew with: houses reset --archive"
        )


def check_owner(checkpoint: Checkpoint | None, binding: Binding, store: str) -> None:
    """`PositionError` unless a record, kept in `store`, is of this folder and its topics."""
    if checkpoint is None:
        return
    if checkpoint.folder != binding.folder:
        raise PositionError(
            f"{store}: holds the positions of another folder ({checkpoint.folder}, this one is {binding.folder}): "
            "choose another consumer.group_id, or start from the files with: houses consume --rescan"
        )
    if checkpoint.topic_ids != (binding.parts.id, binding.storno.id):
        raise PositionError(f"{store}: was saved for other topics; start from the files with: houses consume --rescan")
