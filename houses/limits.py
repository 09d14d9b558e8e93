"""The limits that the comment of a parameter states. The comment is what the reader sees; nothing else holds them.

- `at least 2`, `more than 0`, `at most 5,000`, `less than 1`: of a number; together they are a range. `at most 1000 * seconds`:
  a multiple of another parameter. Of a list each number has to keep them.
- `two or more`, `ascending`: of a list.
- `output/runs/NAME`: the value names an experiment, and, as in `NAME-late`, further ones.
- `or "at random"`: the value is a crash point, or these words.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

from houses.errors import ConfigError, HousesError
from houses.lab.run_folder import run_folder
from houses.system.crash_points import AT_RANDOM, CrashPoint

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
        run_folder(name + suffix)


def _check_crash(_: str, point: str) -> None:
    if point != AT_RANDOM:
        CrashPoint.parse(point)


_OF_TEXTS = {"output/runs/NAME": _check_names, f'or "{AT_RANDOM}"': _check_crash}
