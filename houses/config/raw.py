"""A configuration before it is checked: the values of the file and the environment, where each came from, what is wrong."""

import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from houses.config.models import Section, Settings
from houses.config.types import hide_password
from houses.errors import ConfigError

Key = tuple[str, ...]
_PREFIX = "HOUSES_"
_SHOWN_LENGTH = 80
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError, IndexError)
"""What PyYAML raises; an IndexError of an empty `!!int`."""
_SIMILAR = 0.6  # as difflib.get_close_matches
_WORDS = {
    "greater_than_equal": "must be {ge:.15g} or more",
    "less_than_equal": "must be {le:.15g} or less",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "must be {expected}",
    "model_type": "must be a section with keys of its own, indented below it",
    "houses": "{message}",
}


def _known(model: type[Section], prefix: Key = ()) -> Iterator[tuple[Key, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield (*prefix, name), field
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _known(field.annotation, (*prefix, name))


KNOWN_KEYS: dict[Key, FieldInfo] = dict(_known(Settings))
"""Every section and key, by path."""


def _types(annotation: Any) -> set[Any]:
    arguments = get_args(annotation)
    return set().union(*map(_types, arguments)) if arguments else {annotation}


def is_secret(key: Key) -> bool:
    """Whether the key may stand in the environment only and is never shown."""
    return key in KNOWN_KEYS and SecretStr in _types(KNOWN_KEYS[key].annotation)


def is_override(name: str) -> bool:
    """Whether an environment variable is, or was meant to be, a key of config.yaml."""
    rest = name.removeprefix(_PREFIX)
    return rest != name and ("__" in rest or rest.split("_")[0].lower() in Settings.model_fields)


def value_at(data: Any, key: Iterable[str]) -> Any:
    """What stands under a key in nested mappings; None where nothing does."""
    for name in key:
        data = data.get(name) if isinstance(data, dict) else None
    return data


class RawConfig:
    """Unchecked values; `problems` grows, and nothing is raised, as long as there is something left to check."""

    def __init__(self, label: str, data: dict[str, Any]) -> None:
        """`label` names the file in messages; empty for values given by a program."""
        self.data = data
        self.problems: list[str] = []
        self._label = label
        self._variables: dict[Key, str] = {}

    @classmethod
    def read(cls, path: Path, label: str) -> Self:
        """The values of a YAML file; `ConfigError` when it holds no mapping at all."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise ConfigError(f"{label}: is not UTF-8 text; save it as UTF-8") from None
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; name another file with --config") from None
        raw = cls(label, {})
        raw._parse(text)
        for key in filter(is_secret, KNOWN_KEYS):
            if value_at(raw.data, key) is not None:
                raw._add(key, _secret(key))
                raw._set(key, None)
        return raw

    @staticmethod
    def key_of(variable: str) -> Key:
        """The key that an environment variable means; one with single underscores is not taken, but answered."""
        name = variable.removeprefix(_PREFIX).lower()
        return tuple(name.split("__") if "__" in name else name.split("_", 1))

    def apply_environment(self, env: Mapping[str, str]) -> None:
        """Let every `HOUSES_SECTION__KEY` win over the file."""
        for variable in sorted(filter(is_override, env)):
            key = self.key_of(variable)
            self._variables[key] = variable
            if key not in KNOWN_KEYS or "__" not in variable:
                self._add(key, _unknown(key, variable_name))
                continue
            try:
                self._set(key, _from_text(env[variable], KNOWN_KEYS[key]))
            except _NOT_YAML:
                self._add(key, "cannot be read as a YAML value", env[variable])

    def set_value(self, key: Key, value: Any) -> None:
        """A value given by a program; numbers of numpy count as numbers, paths as text."""
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            value = int(value) if isinstance(value, numbers.Integral) else float(value)
        if is_secret(key):
            self._add(key, _secret(key))
        elif key in KNOWN_KEYS:
            self._set(key, str(value) if isinstance(value, Path) else value)
        else:
            self._add(key, _unknown(key))

    def source(self, key: Key) -> str:
        """What to name as the origin of a value: an environment variable or the file."""
        parents = (key[:length] for length in range(len(key), 0, -1))
        return next((f"environment {self._variables[k]}" for k in parents if k in self._variables), self._label)

    def add_errors(self, error: ValidationError) -> None:
        """Turn what pydantic found into problems."""
        for item in error.errors(include_url=False, include_input=False):
            key = tuple(map(str, item["loc"]))
            if item["type"] in ("extra_forbidden", "invalid_key"):
                self._add(key, _unknown(key))
            else:
                key += (item["ctx"]["key"],) if item.get("ctx", {}).get("key") else ()
                self._add(key, _in_words(item), value_at(self.data, key))

    def _parse(self, text: str) -> None:
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            self._find_duplicates(node, (), set())
            data = loader.construct_document(node) if node else None
        except yaml.MarkedYAMLError as error:
            # Not str(error): it quotes the line, which may hold a secret.
            mark = error.problem_mark
            where = f", line {mark.line + 1} column {mark.column + 1}" if mark else ""
            raise ConfigError(f"{self._label}{where}: is not valid YAML: {error.problem or error.context}") from None
        except _NOT_YAML as error:
            raise ConfigError(f"{self._label}: is not valid YAML: {str(error).splitlines()[0]}") from None
        if not isinstance(data, dict):
            found = "is empty" if data is None else f"holds {_shown(data)}"
            raise ConfigError(f"{self._label}: {found}; must hold the sections {', '.join(Settings.model_fields)}")
        self.data = data

    def _find_duplicates(self, node: yaml.Node | None, key: Key, seen: set[int]) -> None:
        if not isinstance(node, yaml.MappingNode) or id(node) in seen:  # aliases may point back, or fan out
            return
        seen.add(id(node))
        names: set[str] = set()
        for name_node, value_node in node.value:
            name = str(name_node.value)
            if name in names:
                line = name_node.start_mark.line + 1
                self._add((*key, name), f"stands twice, the second time in line {line}; remove one")
            names.add(name)
            self._find_duplicates(value_node, (*key, name), seen)

    def _set(self, key: Key, value: Any) -> None:
        section = self.data
        for name in key[:-1]:
            inner = {} if section.get(name) is None else section[name]
            if not isinstance(inner, dict):
                return  # this section is a problem of its own
            section[name] = section = dict(inner)  # a copy: two YAML aliases may share one mapping
        section[key[-1]] = value

    def _add(self, key: Key, words: str, *value: Any) -> None:
        source = self.source(key)
        name = ".".join(name if name.isprintable() else repr(name) for name in key)
        shown = f" = {_shown(value[0])}" if value else ""
        self.problems.append(f"{source}: {name}{shown}: {words}" if source else f"{name}{shown}: {words}")


def _from_text(text: str, field: FieldInfo) -> Any:
    """The value of an environment variable: text and secrets as they are, anything else as YAML."""
    types = _types(field.annotation)
    if not {str, SecretStr} & types:
        return yaml.safe_load(text)
    return None if text == "" and type(None) in types else text


def _in_words(error: ErrorDetails) -> str:
    return _WORDS.get(error["type"], error["msg"]).format_map(error.get("ctx", {}))


def variable_name(key: Key) -> str:
    """The environment variable that sets a key."""
    return _PREFIX + "__".join(key).upper()


def _unknown(key: Key, written: Callable[[Key], str] = ".".join) -> str:
    """`unknown key` and the known one that is meant, judged by its last name first."""

    def likeness(known: Key) -> tuple[float, float]:
        last = SequenceMatcher(None, known[-1], key[-1]).ratio()
        return last, SequenceMatcher(None, ".".join(known), ".".join(key)).ratio()

    nearest = max(KNOWN_KEYS, key=likeness)
    if likeness(nearest)[0] >= _SIMILAR:
        return f"unknown key; the nearest known one is {written(nearest)}"
    names = [known[-1] for known in KNOWN_KEYS if known[:-1] == key[:-1]] or list(Settings.model_fields)
    return f"unknown key; known are {', '.join(names)}"


def _secret(key: Key) -> str:
    return f"is a secret and belongs in the environment only: set {variable_name(key)}"


def _shown(value: Any) -> str:
    """A value, short, printable, and without the login and the options of an address in it."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return "(empty)" if value is None else str(value).lower()
    text = hide_password(str(value))
    text = text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "..."
    return repr(text) if isinstance(value, str) else text
