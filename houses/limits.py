"""The limits that the comment of a parameter states. The comment is what the reader sees; nothing else holds them.

- `at least 2`, `more than 0`, `at most 5,000`, `less than 1`: of a number; together they are a range. `at most 1000 * seconds`:
  a multiple of another parameter.
- `separated by commas`: the value is a list in a text, of numbers like those of the default; the limits hold for each.
- `output/runs/NAME`: the value names an experiment, and, as in `NAME-late`, further ones.
"""

import operator
import re
from collections.abc import Mapping
from contextlib import suppress
from numbers import Real
from typing import Any

from houses.errors import ConfigError, HousesError
from houses.runfolder import run_folder

LIST = "separated by commas"
_NAMED = "output/runs/NAME"
_HOLDS = {"at least": operator.ge, "more than": operator.gt, "at most": operator.le, "less than": operator.lt}
_LIMIT = re.compile(rf"\b({'|'.join(_HOLDS)}) (-?\d+(?:,\d{{3}})*(?:\.\d+)?)(?: \* ([A-Za-z_]\w*))?")


def excess(comment: str, value: Any, values: Mapping[str, Any]) -> str | None:
    """What the value would have to be, such as `must be at least 2`; None when it keeps all limits of its comment.

    Args:
        values: of all parameters by name, for limits that are multiples of another one.
    Raises:
        HousesError: a limit is a multiple of what is no number among them.
    """
    if _NAMED in comment and isinstance(value, str):
        return _bad_name(comment, value)
    limits = [(found.group(), _HOLDS[found[1]], _bound(found, values)) for found in _LIMIT.finditer(comment)]
    if all(holds(number, bound) for number in _numbers(comment, value) for _, holds, bound in limits):
        return None
    words = (f"{text} = {bound:g}" if "*" in text else text for text, _, bound in limits)
    return f"must be {' and '.join(words)}"


def _numbers(comment: str, value: Any) -> list[Any]:
    """The number, or those of a list; none in another text."""
    if LIST not in comment or not isinstance(value, str):
        return [value] if isinstance(value, Real) else []
    with suppress(ValueError):
        return [float(item) for item in value.split(",")]
    return []  # words


def _bound(limit: re.Match[str], values: Mapping[str, Any]) -> float:
    number, name = float(limit[2].replace(",", "")), limit[3]
    if name is None:
        return number
    if not isinstance(factor := values.get(name), Real):
        raise HousesError(f"{limit.group()!r}: {name} is no number; correct this comment in the parameters cell")
    return number * float(factor)


def _bad_name(comment: str, value: str) -> str | None:
    try:
        for suffix in re.findall(r"\bNAME([\w-]*)", comment):
            run_folder(value + suffix)
    except ConfigError as error:
        return str(error)
    return None
