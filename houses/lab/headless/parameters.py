"""The parameters of a notebook, as papermill reads them from its `parameters` cell, and checked values for them."""

import ast
import logging
import math
import numbers
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from papermill import inspect_notebook  # type: ignore[import-untyped]  # it ships no types

from houses.errors import HousesError

_SHOWN_CHARACTERS = 200
_LARGEST_EXACT = 2**53  # beyond it a float is no exact whole number any more
_BAD_TEXT = (ValueError, TypeError, KeyError, OverflowError, SyntaxError, RecursionError, MemoryError)
logging.getLogger("papermill").addHandler(logging.NullHandler())  # what matters of a run is said once, by its failure


@dataclass(frozen=True, slots=True)
class Parameter:
    """One line of a parameters cell, such as `rate_hz: float = 1000.0  # houses per second`."""

    name: str
    type: str
    """As annotated; where it is not, the type of the default."""
    default: Any
    """The value, or its source when it is no literal."""
    help: str

    def __str__(self) -> str:
        return f"{self.name}: {self.type} = {_shown(self.default)}" + (f" ({self.help})" if self.help else "")


def papermill_path(path: Path) -> str:
    """A path as papermill takes it, which fills in what stands between braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def read_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters of a notebook by name; empty when it has no cell with the tag `parameters`.

    papermill reads them without running the cell, and leaves out lines that hold more than one `=`.

    Raises:
        HousesError: the file is no notebook.
    """
    try:
        found = inspect_notebook(papermill_path(path))
    except OSError:
        raise
    except Exception:  # noqa: BLE001  # nbformat and papermill have no common error for what is no notebook
        raise HousesError(
            f"{path}: is no notebook of format 4 that names its kernel; open and save it in JupyterLab"
        ) from None
    return {name: _parameter(**each) for name, each in found.items()}


def _parameter(name: str, inferred_type_name: str, default: str, help: str) -> Parameter:  # noqa: A002  # papermill's name
    value: Any = default
    with suppress(*_BAD_TEXT):
        value = ast.literal_eval(default)
    return Parameter(name, type(value).__name__ if inferred_type_name == "None" else inferred_type_name, value, help)


def check(parameters: Mapping[str, Parameter], given: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The given values in the types of their parameters, by name.

    Args:
        given: values of Python, or text as from a command line.
        label: what to name in messages; the notebook.
    Raises:
        HousesError: all problems, one a line: unknown names, wrong values.
    """
    values, problems = dict[str, Any](), []
    for name, value in given.items():
        try:
            values[name] = _converted(parameters, name, value)
        except ValueError as error:
            problems.append(f"{label}: {name}{error}")
    if not given.keys() <= parameters.keys():
        known = [f"  {parameter}" for parameter in parameters.values()]
        problems += ["known parameters:", *known] if known else ["it has no cell with the tag 'parameters'"]
    if problems:
        raise HousesError("\n".join(problems))
    return values


def _converted(parameters: Mapping[str, Parameter], name: str, value: Any) -> Any:
    """The value in the type of its parameter; a ValueError says what follows the name."""
    if name not in parameters:
        near = get_close_matches(name, parameters, 1)
        raise ValueError(": unknown parameter" + (f"; the nearest known one is {near[0]}" if near else ""))
    kind = parameters[name].type
    convert, words = _KINDS.get(kind, (_literal, "a value as Python writes it"))
    try:
        return convert(value)
    except _BAD_TEXT:
        raise ValueError(f" = {_shown(value)}: must be {words} ({kind})") from None


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


def _list(convert: Callable[[Any], Any], value: Any) -> list[Any]:
    """From a list, or from text with or without its brackets."""
    items = value.strip("[] ").split(",") if isinstance(value, str) else value
    if not isinstance(items, list):
        raise TypeError
    return [convert(item) for item in items]


def _literal(value: Any) -> Any:
    return ast.literal_eval(value) if isinstance(value, str) else value


_KINDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "float": (_float, "a finite number"),
    "int": (_int, "a whole number"),
    "bool": (_bool, "true or false"),
    "str": (_str, "text"),
    "list[int]": (partial(_list, _int), "whole numbers separated by commas"),
    "list[float]": (partial(_list, _float), "finite numbers separated by commas"),
}
