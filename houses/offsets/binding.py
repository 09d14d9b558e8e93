"""Which topics a folder belongs to, and whether folder, checkpoint record and topics belong together."""

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from houses.config.config import Config
from houses.errors import FolderError, PositionError
from houses.kafka.clients import TopicInfo
from houses.offsets.checkpoint import Checkpoint
from houses.system.files import FileOps, read_file, replace_file


@dataclass(frozen=True, slots=True)
class Binding:
    """What an output folder belongs to: its own UUID and the two topics that it was filled from."""

    folder: str
    parts: TopicInfo
    storno: TopicInfo

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


def check_topics(binding: Binding, parts: TopicInfo | None, storno: TopicInfo | None) -> None:
    """`PositionError` unless the topics are the very ones of the binding, with as many partitions."""
    for bound, found in ((binding.parts, parts), (binding.storno, storno)):
        if found == bound:
            continue
        if found is None:
            what = "is gone"
        elif found.name != bound.name:
            what = f"is not the topic of the configuration ({found.name})"
        elif found.id != bound.id:
            what = f"was deleted and made anew (id {found.id}, was {bound.id})"
        else:
            what = f"has {found.partitions} partitions, had {bound.partitions}"
        raise PositionError(
            f"topic {bound.name} {what}: the files of this folder belong to the earlier one; start "
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
