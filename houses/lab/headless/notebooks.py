"""The notebooks as files: found by path or name, their cells, and the headings that name their sections."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from houses.config.config import PROJECT_ROOT
from houses.errors import HousesError

NOTEBOOKS = PROJECT_ROOT / "notebooks"
_SUFFIX = ".ipynb"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its kind (`code`, `markdown` or `raw`), its text and its tags."""

    kind: str
    source: str
    tags: tuple[str, ...] = ()


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
    raise HousesError(f"notebook {text!r}: no such file, and no such name in {folder}{_instead(name, list(known))}")


def _fitting(name: str, known: Sequence[str]) -> list[str]:
    """That very name, else those that begin so, else those that have it inside; small and capital letters are alike."""
    small = name.lower()
    ways = (name.__eq__, lambda each: each.lower().startswith(small), lambda each: small in each.lower())
    return next((found for fits in ways if (found := [*filter(fits, known)])), [])


def _instead(name: str, known: Sequence[str]) -> str:
    if not known:
        return ", which holds none; name a file"
    listed = f"; known are {', '.join(known)}"
    return f"{listed}; the nearest is {near[0]}" if (near := get_close_matches(name, known, 1)) else listed


def read_cells(path: Path) -> list[Cell]:
    """The cells of a notebook file of format 4.

    Raises:
        HousesError: the file is no such notebook.
    """
    try:
        return [_cell(raw) for raw in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise HousesError(f"{path}: is no notebook of format 4; open and save it in JupyterLab") from None


def _cell(raw: dict[str, Any]) -> Cell:
    return Cell(raw["cell_type"], "".join(raw["source"]), tuple(raw.get("metadata", {}).get("tags", ())))


def before_save(*, model: dict[str, Any], **_: Any) -> None:
    """Leave out the version of Python when JupyterLab saves a notebook, so that opening and saving changes no file of git.

    `lab.py lab` names it as the server's hook, <https://jupyter-server.readthedocs.io/en/stable/developers/savehooks.html>.
    """
    if model["type"] == "notebook":
        model["content"]["metadata"].pop("language_info", None)


def heading_of(source: str) -> str | None:
    """The last heading in the text of a markdown cell; None when there is none.

    Example:
        >>> heading_of("Some words.\\n\\n## Send, join, stop")
        'Send, join, stop'
    """
    return next(reversed([*_headings(source)]), None)


def title_of(path: Path) -> str:
    """The first heading of a notebook; where it has none, the name of the file.

    Raises:
        HousesError: the file is no notebook.
    """
    texts = (cell.source for cell in read_cells(path) if cell.kind == "markdown")
    return next((heading for text in texts for heading in _headings(text)), path.stem)


def _headings(source: str) -> Iterator[str]:
    fenced = False
    for line in source.splitlines():
        fenced ^= line.startswith("```")  # a # in a block of code is a comment
        if not fenced and line.startswith("#") and line.lstrip("#").startswith(" "):
            yield line.strip("# ")
