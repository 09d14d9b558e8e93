"""The limits that the comment of a parameter states. The comment is what the reader sees; nothing else holds them.

- `at least 2`, `more than 0`, `at most 5,000`, `less than 1`: of a number; together they are a range. `at most 1000 * seconds`:
  a multiple of another parameter.
- `output/runs/NAME`: the value names an experiment, and, as in `NAME-late`, further ones.

Of a list each number has to keep them.
"""

import operator
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from houses.errors import ConfigError, HousesError
from houses.runfolder import run_folder

_NAMED = "output/runs/NAME"
_HOLDS = {"at least": operator.ge, "more than": operator.gt, "at most": operator.le, "less than": operator.lt}
_LIMIT = re.compile(rf"\b({'|'.join(_HOLDS)}) (-?\d+(?:,\d{{3}})*(?:\.\d+)?)(?: \* ([A-Za-z_]\w*))?")


def excess(comment: str, items: Sequence[Any], values: Mapping[str, Any]) -> str | None:
    """What a value would have to be, such as `must be at least 2`; None when it keeps all limits of its comment.

    Args:
        items: the value alone, or the numbers of a list.
        values: of all parameters by name, for limits that are multiples of another one.
    Raises:
        HousesError: a limit is a multiple of what is no number among them.
    """
    if _NAMED in comment:
        return _bad_name(comment, str(items[0]))
    limits = [(found.group(), _HOLDS[found[1]], _bound(found, values)) for found in _LIMIT.finditer(comment)]
    if all(holds(item, bound) for item in items if isinstance(item, Real) for _, holds, bound in limits):
        return None
    words = (f"{text} = {bound:g}" if "*" in text else text for text, _, bound in limits)
    return f"must be {' and '.join(words)}"


def _bound(limit: re.Match[str], values: Mapping[str, Any]) -> float:
    number, name = float(limit[2].replace(",", "")), limit[3]
    if name is None:
        return number
    if not isinstance(factor := values.get(name), Real):
        raise HousesError(f"{limit.group()!r}: {name} is no number; correct this comment in the parameters cell")
    return number * float(factor)


def _bad_name(comment: str, name: str) -> str | None:
    try:
        for suffix in re.findall(r"\bNAME([\w-]*)", comment):
            run_folder(name + suffix)
    except ConfigError as error:
        return str(error)
    return None
