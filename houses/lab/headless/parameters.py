"""The parameters of a notebook: what its `parameters` cell says, and checked values for it."""

import ast
import io
import math
import numbers
import operator
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import Any

from houses.errors import ConfigError, HousesError
from houses.lab.headless.notebooks import read_cells
from houses.lab.run_folder import experiment_folder
from houses.system.crash_points import AT_RANDOM, CrashPoint

_TAG = "parameters"
_SHOWN_CHARACTERS = 200
_LARGEST_EXACT = 2**53  # beyond it a float is no exact whole number any more
_WORDS = {
    "float": "must be a finite number (float)",
    "int": "must be a whole number (int)",
    "bool": "must be true or false (bool)",
    "str": "must be text (str)",
}
_LISTS = {"int": "whole numbers", "float": "finite numbers"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One line of a parameters cell, such as `rate_hz: float = 1000.0  # houses per second`."""

    name: str
    type: str
    """As annotated; where it is not, the type of the default."""
    default: Any
    """The value, or its source when it is no literal."""
    help: str

    @property
    def listed(self) -> str | None:
        """The type of the numbers when the default is several of them in a text, as in `"100,1000"`: then each value is a list."""
        if self.type == "str" and "," in str(self.default):
            for kind in _LISTS:
                with suppress(ValueError):
                    [_CONVERT[kind](item) for item in str(self.default).split(",")]
                    return kind
        return None

    def items(self, value: Any) -> list[Any]:
        """The items of a list; else the value alone.

        Raises:
            ValueError: not all of the list are such numbers.
        """
        if self.listed:
            return [_CONVERT[self.listed](item) for item in value.split(",")]
        return value if isinstance(value, list) else [value]

    def __str__(self) -> str:
        return f"{self.name}: {self.type} = {self.default!r}" + (f" ({self.help})" if self.help else "")


def read_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters of a notebook by name; empty when it has no cell with the tag `parameters`.

    Raises:
        HousesError: the file is no notebook, or that cell is no Python.
    """
    source = next((cell.source for cell in read_cells(path) if _TAG in cell.tags), "")
    try:
        comments = _comments(source)
        return {found.name: found for node in ast.parse(source).body for found in _parameter(node, comments)}
    except (SyntaxError, tokenize.TokenError, ValueError, RecursionError, MemoryError) as error:
        raise HousesError(f"{path}: its parameters cell is no Python: {error}") from None


def _comments(source: str) -> dict[int, str]:
    """Comments by line number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.strip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _parameter(node: ast.stmt, comments: Mapping[int, str]) -> Iterator[Parameter]:
    """The one that a statement sets, if it sets one."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        name, value, kind = node.target.id, node.value, ast.unparse(node.annotation)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        name, value, kind = node.targets[0].id, node.value, None
    else:
        return
    default = _literal(value)
    yield Parameter(name, kind or type(default).__name__, default, comments.get(node.end_lineno or 0, ""))


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def check(parameters: Mapping[str, Parameter], given: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The given values in the types of their parameters, by name; all keep the limits that the comments state (see `limits`).

    Args:
        given: values of Python, or text as from a command line.
        label: what to name in messages; the notebook.
    Raises:
        HousesError: all problems, one a line: unknown names, wrong values, values beyond their limits.
    """
    values, problems = dict[str, Any](), []
    for name, value in given.items():
        try:
            values[name] = _converted(parameters, name, value)
        except ValueError as error:
            problems.append(f"{label}: {name}{error}")
    problems += [f"{label}: {problem}" for problem in _beyond_limits(parameters, values)]
    if not given.keys() <= parameters.keys():
        problems.append(_known(parameters))
    if problems:
        raise HousesError("\n".join(problems))
    return values


def _beyond_limits(parameters: Mapping[str, Parameter], given: Mapping[str, Any]) -> list[str]:
    """Of the given values; when they are fine, of the defaults, for a limit may be a multiple of what is given."""
    values = {name: parameter.default for name, parameter in parameters.items()} | dict(given)
    limits = {name: excess(each.help, each.items(values[name]), values) for name, each in parameters.items()}
    return [f"{name} = {values[name]!r}: {limits[name]}" for name in given if limits[name]] or [
        f"{name} = {values[name]!r} (its default): {limit}" for name, limit in limits.items() if limit
    ]


def _known(parameters: Mapping[str, Parameter]) -> str:
    lines = [f"  {parameter}" for parameter in parameters.values()]
    return "\n".join(["known parameters:", *lines]) if lines else "it has no cell with the tag 'parameters'"


def _converted(parameters: Mapping[str, Parameter], name: str, value: Any) -> Any:
    """The value in the type of its parameter; a ValueError says what follows the name."""
    if name not in parameters:
        near = get_close_matches(name, parameters, 1)
        raise ValueError(": unknown parameter" + (f"; the nearest known one is {near[0]}" if near else ""))
    parameter = parameters[name]
    kind, listed = parameter.type, parameter.listed
    try:
        if listed:
            return ",".join(map(str, parameter.items(_str(value))))
        return _CONVERT[kind](value) if kind in _CONVERT else _other(kind, value)
    except (ValueError, TypeError, KeyError, OverflowError, SyntaxError, RecursionError, MemoryError):
        words = _WORDS.get(kind, f"must be a value as Python writes it ({kind})")
        if listed:
            words = f"must be {_LISTS[listed]} separated by commas, such as {parameter.default}"
        raise ValueError(f" = {_shown(value)}: {words}") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
        raise TypeError
    if not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _int(value: Any) -> int:
    if isinstance(value, str | numbers.Integral) and not isinstance(value, bool):
        with suppress(ValueError):  # 1e3 and 5.0 are whole numbers too
            return int(value)
    number = _float(value)
    if not number.is_integer() or abs(number) > _LARGEST_EXACT:
        raise ValueError
    return int(number)


def _bool(value: Any) -> bool:
    return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # what the system could not decode cannot be written to a file either
    return value


def _other(kind: str, value: Any) -> Any:
    """As Python writes it; a list of one of the types above is checked item by item."""
    value = ast.literal_eval(value) if isinstance(value, str) else value
    if found := re.fullmatch(r"list(?:\[(\w+)\])?", kind):
        if not isinstance(value, list):
            raise TypeError
        return [*map(_CONVERT.get(found[1] or "", lambda item: item), value)]
    return value


_CONVERT: dict[str, Callable[[Any], Any]] = {"float": _float, "int": _int, "bool": _bool, "str": _str}


_HOLDS = {"at least": operator.ge, "more than": operator.gt, "at most": operator.le, "less than": operator.lt}
_LIMIT = re.compile(rf"\b({'|'.join(_HOLDS)}) (-?\d+(?:,\d{{3}})*(?:\.\d+)?)(?: \* ([A-Za-z_]\w*))?")
_OF_LISTS: dict[str, Callable[[Sequence[Any]], bool]] = {
    "two or more": lambda items: len(items) > 1,
    "ascending": lambda items: all(first < second for first, second in pairwise(items)),
}


def excess(comment: str, items: Sequence[Any], values: Mapping[str, Any]) -> str | None:
    """What a value would have to be, such as `must be at least 2`; None when it keeps all limits of its comment.

    Args:
        items: the value alone, or the numbers of a list.
        values: of all parameters by name, for limits that are multiples of another one.
    Raises:
        HousesError: a limit is a multiple of what is no number among them.

    Example:
        >>> excess("messages per batch, at least 1, ascending", [100, 10], {})
        'must be ascending numbers, each at least 1'
    """
    for words, check in _OF_TEXTS.items():
        if words in comment:
            return _refusal(check, comment, str(items[0]))
    limits = [(found.group(), _HOLDS[found[1]], _bound(found, values)) for found in _LIMIT.finditer(comment)]
    rules = {words: holds for words, holds in _OF_LISTS.items() if words in comment}
    numbers = [item for item in items if isinstance(item, Real)]
    in_range = all(holds(number, bound) for number in numbers for _, holds, bound in limits)
    if in_range and all(holds(numbers) for holds in rules.values()):
        return None
    of_the_list = " ".join([*rules, "numbers"]) if rules else ""
    of_each = " and ".join(f"{text} = {bound:,.10g}" if "*" in text else text for text, _, bound in limits)
    return f"must be {', each '.join(filter(None, (of_the_list, of_each)))}"


def _bound(limit: re.Match[str], values: Mapping[str, Any]) -> float:
    number, name = float(limit[2].replace(",", "")), limit[3]
    if name is None:
        return number
    if not isinstance(factor := values.get(name), Real):
        raise HousesError(f"{limit.group()!r}: {name} is no number; correct this comment in the parameters cell")
    return number * float(factor)


def _refusal(check: Callable[[str, str], None], comment: str, value: str) -> str | None:
    try:
        check(comment, value)
    except ConfigError as error:
        return str(error)
    return None


def _check_names(comment: str, name: str) -> None:
    for suffix in re.findall(r"\bNAME([\w-]*)", comment):
        experiment_folder(name + suffix)


def _check_crash(_: str, point: str) -> None:
    if point != AT_RANDOM:
        CrashPoint.parse(point)


_OF_TEXTS = {"output/runs/NAME": _check_names, f'or "{AT_RANDOM}"': _check_crash}
