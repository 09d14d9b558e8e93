"""One validated configuration from config.yaml and the environment; all its problems are reported at once.

Every key can be set by an environment variable `HOUSES_SECTION__KEY`, which wins over the file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from houses.config.models import ConsumerConfig, KafkaConfig, ProducerConfig, Settings
from houses.config.raw import KNOWN_KEYS, Draft, Key, is_override, is_secret, variable_name
from houses.config.types import beside, locate
from houses.errors import ConfigError
from houses.system.files import REAL, replace_file

PROJECT_ROOT = Path(__file__).resolve().parents[2]
SUMMARY_NAME = "summary.json"
"""Of an experiment and of a headless run: what it did and measured."""

_WITH_SECRETS = {key[0] for key in KNOWN_KEYS if is_secret(key)}
_NO_EFFECT = ("write_buffer_size", "house_chan_buffer")
_OUTPUT_KEYS = ("output_file", "storno_file", "storno_output_file")


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

    @property
    def rejects_path(self) -> Path:
        """Everything consumed that became no house."""
        return self.folder / "rejects.jsonl"

    @property
    def offsets_path(self) -> Path:
        """The checkpoint, when it is kept in a file."""
        return self.folder / "consumer_offsets.json"

    @property
    def metrics_path(self) -> Path:
        """One line of measurements every `metrics_interval_sec`."""
        return self.folder / "metrics.jsonl"

    @property
    def base_id_path(self) -> Path:
        """The next house id that no producer has taken."""
        return self.folder / "producer_base_id.json"

    @property
    def closed_ids_path(self) -> Path:
        """Cache of the ids that have had their line; can be rebuilt from the files."""
        return self.folder / "closed_ids.bin"

    @property
    def binding_path(self) -> Path:
        """Which topics this folder belongs to."""
        return self.folder / "binding.json"

    @property
    def secrets(self) -> dict[str, str]:
        """What `dump` leaves out, as environment variables for a child process."""
        found = {variable_name(key): self._value(key) for key in KNOWN_KEYS if is_secret(key)}
        return {name: value.get_secret_value() for name, value in found.items() if value}

    def _value(self, key: Key) -> Any:
        value: Any = self
        for name in key:
            value = getattr(value, name)
        return value

    def with_values(self, values: Mapping[str, Any], *, path: Path | None = None) -> "Config":
        """A checked copy with some keys changed, `{"producer.rates.wall": 5}`.

        Args:
            values: dotted key -> value; a section given as a mapping is replaced.
            path: where the copy's config.yaml stands or will stand; relative output files then start at its folder.
        Raises:
            ConfigError: all problems, one a line.
        """
        draft = Draft("", {name: getattr(self, name).model_dump() for name in Settings.model_fields})
        for dotted, value in values.items():
            draft.set_value(tuple(dotted.split(".")), value)
        return _validated(draft, path or self.path, self.notes)

    def without_secrets(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as `with_values` takes them, for showing: those beside secrets as they are here, so without passwords."""
        sections, shown = self._sections(), dict(values)
        for dotted in values:
            section, *names = dotted.split(".")
            if section in _WITH_SECRETS:
                shown[dotted] = reduce(lambda found, name: (found or {}).get(name), names, sections[section])
        return shown

    def _sections(self) -> dict[str, Any]:
        """All values but the secrets."""
        sections = {name: getattr(self, name).model_dump(exclude_none=True) for name in Settings.model_fields}
        for *path_to, name in filter(is_secret, KNOWN_KEYS):
            reduce(dict.__getitem__, path_to, sections).pop(name, None)
        return sections

    def dump(self, path: Path) -> None:
        """Write everything but the secrets as a config.yaml that means the same there.

        Raises:
            ConfigError: an output file is not below the folder of `path`. FolderError: the file cannot be written.
        """
        sections = self._sections()
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
    draft = Draft.read(path, path.name if path.parent == PROJECT_ROOT else str(path))
    draft.apply_environment(env)
    consumer = draft.data.get("consumer")
    notes = tuple(
        f"{draft.source(('consumer', name))}: consumer.{name} has no effect any more; remove it"
        for name in _NO_EFFECT
        if isinstance(consumer, dict) and consumer.get(name) is not None
    )
    return _validated(draft, path, notes)


def child_environment(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a process that gets a dumped configuration: the overrides are in it already, the secrets are not."""
    return {name: value for name, value in env.items() if not is_override(name) or is_secret(Draft.key_of(name))}


def _validated(draft: Draft, path: Path, notes: tuple[str, ...]) -> Config:
    try:
        settings = Settings.model_validate(draft.data, context={"root": path.parent})
    except ValidationError as error:
        draft.add_errors(error)
    if draft.problems:
        raise ConfigError("\n".join(draft.problems))
    return Config(path, settings.kafka, settings.producer, settings.consumer, notes)
