"""The notebooks as files: found by path or name, and the headings that name their sections."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from houses.config.config import PROJECT_ROOT
from houses.errors import HousesError

NOTEBOOKS = PROJECT_ROOT / "notebooks"
_SUFFIX = ".ipynb"


def all_notebooks(folder: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks of a folder, in the order of their names."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def find_notebook(text: str, folder: Path = NOTEBOOKS) -> Path:
    """The notebook that is meant: a file, or the name of one in notebooks/, or the only one whose name begins so or has it inside.

    Raises:
        HousesError: there is none, or several; names those that there are, and the nearest.
    """
    path = Path(text)
    if path.suffix == _SUFFIX and path.is_file():
        return path.absolute()
    known = {path.stem: path for path in all_notebooks(folder)}
    name = text.removesuffix(_SUFFIX)
    fitting = _fitting(name, list(known)) if name else []
    if len(fitting) == 1:
        return known[fitting[0]]
    if fitting:
        raise HousesError(f"notebook {text!r}: fits {', '.join(fitting)}; write more of the name")
    near = get_close_matches(name, known, 1)
    instead = f"; known are {', '.join(known)}" if known else ", which holds none; name a file"
    instead += f"; the nearest is {near[0]}" if near else ""
    raise HousesError(f"notebook {text!r}: no such file, and no such name in {folder}{instead}")


def _fitting(name: str, known: Sequence[str]) -> list[str]:
    """That very name, else those that begin so, else those that have it inside; small and capital letters are alike."""
    small = name.lower()
    ways = (name.__eq__, lambda each: each.lower().startswith(small), lambda each: small in each.lower())
    return next((found for fits in ways if (found := [*filter(fits, known)])), [])


def before_save(*, model: dict[str, Any], **_: Any) -> None:
    """Leave out the version of Python when JupyterLab saves a notebook, so that opening and saving changes no file of git.

    `lab.py lab` names it as the server's hook, <https://jupyter-server.readthedocs.io/en/stable/developers/savehooks.html>.
    """
    if model["type"] == "notebook":
        model["content"]["metadata"].pop("language_info", None)


def headings(source: str) -> list[str]:
    """The headings in the text of a markdown cell, in order.

    Example:
        >>> headings("# Stornos\\n\\nSome words.\\n\\n## Send, join, stop")
        ['Stornos', 'Send, join, stop']
    """
    text = re.sub(
        r"^```.*?(^```|\Z)", "", source, flags=re.DOTALL | re.MULTILINE
    )  # a # in a block of code is a comment
    return [line.strip("# ") for line in re.findall(r"^#+ .+$", text, re.MULTILINE)]
