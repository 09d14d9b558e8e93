"""One validated configuration from config.yaml and the environment; all its problems are reported at once.

Every key can be set by an environment variable `HOUSES_SECTION__KEY`, which wins over the file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from houses.config.models import ConsumerConfig, KafkaConfig, ProducerConfig, Settings
from houses.config.raw import KNOWN_KEYS, RawConfig, is_override, is_secret, value_at, variable_name
from houses.config.types import beside, locate
from houses.errors import ConfigError
from houses.system.files import REAL, replace_file

PROJECT_ROOT = Path(__file__).resolve().parents[2]
SUMMARY_NAME = "summary.json"
"""Of an experiment and of a headless run: what it did and measured."""

_SECRETS = tuple(filter(is_secret, KNOWN_KEYS))
_NO_EFFECT = ("write_buffer_size", "house_chan_buffer")
_OUTPUT_KEYS = ("output_file", "storno_file", "storno_output_file")


class _InFolder:
    """The path of a file in the folder of a configuration."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, config: "Config", _: type) -> Path:
        return config.folder / self._name


@dataclass(frozen=True)
class Config:
    """The settings of one output folder and its topics; immutable."""

    path: Path
    """The file they were read from; relative paths in it start at its folder."""
    kafka: KafkaConfig
    producer: ProducerConfig
    consumer: ConsumerConfig
    notes: tuple[str, ...] = ()
    """What the user should be told once, such as a key without effect."""

    @property
    def root(self) -> Path:
        """Folder of config.yaml."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        """Folder of the local Kafka."""
        return locate(self.root, self.kafka.data_dir)

    @property
    def folder(self) -> Path:
        """The folder of all output files."""
        return self.houses_path.parent

    @property
    def houses_path(self) -> Path:
        """Finished houses."""
        return locate(self.root, self.consumer.output_file)

    @property
    def storno_houses_path(self) -> Path:
        """Cancelled houses and late stornos."""
        return beside(self.houses_path, self.consumer.storno_output_file, "storno_output_file", self.root)

    @property
    def storno_ids_path(self) -> Path:
        """The register of stornos."""
        return beside(self.houses_path, self.consumer.storno_file, "storno_file", self.root)

    rejects_path = _InFolder("rejects.jsonl")
    """Everything consumed that became no house."""
    offsets_path = _InFolder("consumer_offsets.json")
    """The checkpoint, when it is kept in a file."""
    metrics_path = _InFolder("metrics.jsonl")
    """One line of measurements every `metrics_interval_sec`."""
    base_id_path = _InFolder("producer_base_id.json")
    """The next house id that no producer has taken."""
    closed_ids_path = _InFolder("closed_ids.bin")
    """Cache of the ids that have had their line; can be rebuilt from the files."""
    binding_path = _InFolder("binding.json")
    """Which topics this folder belongs to."""

    @property
    def secrets(self) -> dict[str, str]:
        """What `dump` leaves out, as environment variables for a child process."""
        found = {variable_name(key): value_at(self._sections(), key) for key in _SECRETS}
        return {name: value.get_secret_value() for name, value in found.items() if value}

    def _sections(self) -> dict[str, Any]:
        return {name: getattr(self, name).model_dump() for name in Settings.model_fields}

    def with_values(self, values: Mapping[str, Any], *, path: Path | None = None) -> "Config":
        """A checked copy with some keys changed, `{"producer.rates.wall": 5}`.

        Args:
            values: dotted key -> value; a section given as a mapping is replaced.
            path: where the copy's config.yaml stands or will stand; relative output files then start at its folder.
        Raises:
            ConfigError: all problems, one a line.
        """
        raw = RawConfig("", self._sections())
        for dotted, value in values.items():
            raw.set_value(tuple(dotted.split(".")), value)
        return _validated(raw, path or self.path, self.notes)

    def without_secrets(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as `with_values` takes them, for showing: those beside secrets as they are here, so without passwords."""
        beside_secrets = {key[0] for key in _SECRETS}
        paths = {dotted: tuple(dotted.split(".")) for dotted in values}
        here = {dotted: value_at(self._public(), key) for dotted, key in paths.items() if key[0] in beside_secrets}
        return {**values, **here}

    def _public(self) -> dict[str, Any]:
        """All values that were set, but the secrets."""
        sections = {name: getattr(self, name).model_dump(exclude_none=True) for name in Settings.model_fields}
        for *path_to, name in _SECRETS:
            value_at(sections, path_to).pop(name, None)
        return sections

    def dump(self, path: Path) -> None:
        """Write everything but the secrets as a config.yaml that means the same there.

        Raises:
            ConfigError: an output file is not below the folder of `path`. FolderError: the file cannot be written.
        """
        sections = self._public()
        consumer, folder = sections["consumer"], Path(os.path.abspath(path)).parent
        for name in _NO_EFFECT:
            consumer.pop(name, None)
        for name in filter(consumer.get, _OUTPUT_KEYS):
            file = locate(self.root, consumer[name])
            if not file.is_relative_to(folder):
                raise ConfigError(f"{path}: consumer.{name} = {file}: must be under {folder} to be written there")
            consumer[name] = file.relative_to(folder).as_posix()
        replace_file(REAL, path, yaml.safe_dump(sections, sort_keys=False, allow_unicode=True).encode())


def load(path: Path | None = None, env: Mapping[str, str] = os.environ) -> Config:
    """Read config.yaml (by default the project's, wherever the program was started) and the environment.

    Raises:
        ConfigError: all problems, one a line: source, key = value: what is allowed.
    """
    path = Path(os.path.abspath(path or PROJECT_ROOT / "config.yaml"))
    raw = RawConfig.read(path, path.name if path.parent == PROJECT_ROOT else str(path))
    raw.apply_environment(env)
    consumer = raw.data.get("consumer")
    notes = tuple(
        f"{raw.source(('consumer', name))}: consumer.{name} has no effect any more; remove it"
        for name in _NO_EFFECT
        if isinstance(consumer, dict) and consumer.get(name) is not None
    )
    return _validated(raw, path, notes)


def child_environment(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a process that gets a dumped configuration: the overrides are in it already, the secrets are not."""
    return {name: value for name, value in env.items() if not is_override(name) or is_secret(RawConfig.key_of(name))}


def _validated(raw: RawConfig, path: Path, notes: tuple[str, ...]) -> Config:
    try:
        settings = Settings.model_validate(raw.data, context={"root": path.parent})
    except ValidationError as error:
        raw.add_errors(error)
    if raw.problems:
        raise ConfigError("\n".join(raw.problems))
    return Config(path, settings.kafka, settings.producer, settings.consumer, notes)
