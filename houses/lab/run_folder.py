"""The folder of an experiment: its place, its configuration, its own topics, fresh or as they are."""

import logging
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from houses.config.config import PROJECT_ROOT, Config, load
from houses.config.raw import KNOWN_KEYS
from houses.errors import ConfigError, FolderError, PositionError
from houses.kafka.broker import delete_topics, describe_topics, ensure_broker, ensure_topics
from houses.lab.reset import deleting_stops_kafka, exclusive, known_files, sound_binding
from houses.offsets.binding import Binding, load_binding, save_binding
from houses.system.files import REAL
from houses.system.locks import ROLES, lock_owner

LOG = logging.getLogger(__name__)

RUN_DIR_VARIABLE = "HOUSES_RUN_DIR"
"""Environment variable with the folder for the experiments of one headless run."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_LOCK_PATIENCE_S = 10.0
_METRICS_INTERVAL_S = 0.1
# What an experiment sets itself: nothing of it is shared with anybody.
_OWN_NAMES = ("kafka.topic", "consumer.storno_topic", "consumer.group_id")
_OWN_FILES = {
    "consumer.output_file": "houses.jsonl",
    "consumer.storno_file": None,
    "consumer.storno_output_file": None,
}


def experiment_folder(name: str, root: Path = PROJECT_ROOT, env: Mapping[str, str] = os.environ) -> Path:
    """Folder of the experiment of that name: in output/runs of the project, or in HOUSES_RUN_DIR; never the current directory.

    Args:
        root: where relative paths start; the folder of config.yaml.

    Raises:
        ConfigError: the name is none for a folder and a topic.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"experiment name {name!r}: must be 1 to 60 letters, digits, - or _, and begin with a letter or digit"
        )
    return root / (env.get(RUN_DIR_VARIABLE) or Path("output", "runs")) / name


def settings_of(rate_hz: float | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """What an experiment sets of config.yaml, by full keys: one rate for all parts where it is given, and other values."""
    rates = {} if rate_hz is None else {"producer.msgs_per_sec": rate_hz, "producer.rates": {}}
    return rates | full_keys(values)


def full_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of config.yaml from short ones: `linger_ms` is `producer.linger_ms`, `rates__wall` is `producer.rates.wall`.

    Raises:
        ConfigError: a short key fits several, or belongs to the experiment itself.
    """
    full = {_full_key(short): value for short, value in values.items()}
    for key in full.keys() & {*_OWN_NAMES, *_OWN_FILES}:
        raise ConfigError(f"{key}: an experiment has its own; leave it out")
    return full


def _full_key(short: str) -> str:
    path = tuple(re.split(r"__|\.", short))
    found = [".".join(key) for key in KNOWN_KEYS if key[-len(path) :] == path]
    if len(found) > 1:
        raise ConfigError(f"{short}: fits {', '.join(found)}; write one of them, with __ for each dot")
    return found[0] if found else ".".join(path)


def check_experiment(
    name: str, rate_hz: float | None = None, *, fresh: bool = True, base: Config | None = None, **values: Any
) -> None:
    """Refuse a name and settings that `Experiment` refuses; takes what that takes, makes nothing and needs no Kafka.

    Raises:
        ConfigError: as the message says.

    Example:
        >>> check_experiment("slow", rate_hz=5)
    """
    base = base or load()
    experiment_folder(name, base.root)
    base.with_values(settings_of(rate_hz, values))


def prepare(base: Config, folder: Path, values: Mapping[str, Any], *, fresh: bool) -> tuple[Config, Binding]:
    """Make the folder and its topics ready; both are bound to each other from then on.

    1. Nobody else works in the folder. 2. A broker answers. 3. Fresh: the topics of its old binding go, by id, then its files.
    4. The new configuration is written; topics are made and bound, or those of the old binding taken up.

    Args:
        base: the project's configuration, or the folder's own; without `fresh`, that of the folder counts in any case.
        values: full keys of config.yaml that win over it.
    Raises:
        ConfigError, BrokerError, FolderError, PositionError: as the message says.
    """
    path = folder / "config.yaml"
    with _alone_in(folder):  # 1.
        old = None if fresh else load_binding(REAL, folder / "binding.json")
        base = load(path) if old and path.exists() else base
        folder_uuid = old.folder if old else str(uuid.uuid4())
        config = base.with_values(_own_values(base, folder, old, folder_uuid) | dict(values), path=path)
        ensure_broker(config)  # 2.
        if fresh:
            _clear(config)  # 3.
        config.dump(path)  # 4.
        if old:
            _check_topics(config, old)
            return config, old
        binding = Binding(folder_uuid, *ensure_topics(config))
        save_binding(REAL, config.binding_path, binding)
        return config, binding


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder; the consumer of a kernel that has just ended needs a few seconds to stop."""
    begun_s = time.monotonic()
    said = False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(folder))
                break
            except FolderError:
                if time.monotonic() > begun_s + _LOCK_PATIENCE_S:
                    raise FolderError(
                        f"experiment {folder.name!r} is used by another program ({_users(folder)}): close it there "
                        "(exp.close(), or end its kernel), or choose another name"
                    ) from None
                if not said:
                    LOG.info(f"Waiting for {_users(folder)} to leave {folder}")
                said = True
                time.sleep(0.1)
        yield


def _users(folder: Path) -> str:
    owners = {role: owner.pid for role in ROLES if (owner := lock_owner(folder, role))}
    return ", ".join(f"{role}: process {pid}" for role, pid in owners.items()) or "a process that is just ending"


def _own_values(base: Config, folder: Path, old: Binding | None, folder_uuid: str) -> dict[str, Any]:
    suffix = f"{folder.name}-{folder_uuid[:8]}"
    earlier = re.compile(f"-{re.escape(folder.name)}-[0-9a-f]{{8}}$")  # where `base` is this folder's own configuration
    bases = (base.kafka.topic, base.consumer.storno_topic, base.consumer.group_id)
    names = [f"{earlier.sub('', name)}-{suffix}" for name in bases]
    if old:
        names[:2] = old.parts.name, old.storno.name
    own = dict(zip(_OWN_NAMES, names, strict=True))
    return own | _OWN_FILES | {"consumer.metrics_interval_sec": _METRICS_INTERVAL_S}


def _clear(config: Config) -> None:
    binding = sound_binding(config, "its old topics stay")
    if binding and not deleting_stops_kafka(config):
        delete_topics(config.kafka, binding.topics)
    for file in [*known_files(config), *config.folder.glob("*.png"), *config.folder.glob("*.svg")]:
        REAL.unlink(file)
    REAL.sync_dir(config.folder)


def _check_topics(config: Config, binding: Binding) -> None:
    names = [topic.name for topic in binding.topics]
    for change in binding.changes(*map(describe_topics(config.kafka, names).get, names)):
        raise PositionError(
            f"{config.folder}: its topic {change.bound.name} is gone or was made anew: start anew with "
            f"Experiment({config.folder.name!r}, fresh=True)"
        )
