"""Which notebook is meant, what parameters it has, and which values they take."""

from pathlib import Path
from typing import Any

import pytest
from campaigns.bench_notebooks import mock_of
from support import tiny_notebooks as tiny

from houses.errors import HousesError
from houses.lab.headless.notebooks import all_notebooks, find_notebook, headings
from houses.lab.headless.parameters import Parameter, check, read_parameters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three notebooks."""
    for name in ("01_first_run", "02_rates", "02_rooms"):
        tiny.write(tmp_path / f"{name}.ipynb", tiny.text("# Title"), tiny.code(tiny.PARAMETERS, "parameters"))
    return tmp_path


@pytest.fixture
def known(folder: Path) -> dict[str, Parameter]:
    """The parameters of one of them."""
    return read_parameters(folder / "02_rates.ipynb")


# --- notebooks ---


@pytest.mark.parametrize("text", ["01_first_run", "01", "1", "01_first_run.ipynb", "first", "First_Run", "run.ipynb"])
def test_a_notebook_is_found_by_its_name_or_a_part_of_it(folder: Path, text: str) -> None:
    """With or without the suffix, in small or capital letters."""
    assert find_notebook(text, folder) == folder / "01_first_run.ipynb"


def test_a_file_wins_over_a_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is taken from the current directory, and becomes absolute."""
    own = tiny.write(tmp_path / "mine" / "01_first_run.ipynb", tiny.text("# Mine"))
    monkeypatch.chdir(own.parent)
    assert find_notebook("01_first_run.ipynb", folder) == own


def test_an_unknown_notebook_is_answered_with_the_known_ones(folder: Path) -> None:
    """And with the one that is probably meant."""
    with pytest.raises(HousesError, match=r"'02_ratse'.*known are 01_first_run, 02_rates.*the nearest is 02_rates$"):
        find_notebook("02_ratse", folder)


def test_a_beginning_wins_over_a_part(folder: Path) -> None:
    """`02_ra` stays what it is when a later notebook is about a `2002_race`."""
    tiny.write(folder / "09_2002_race.ipynb", tiny.text("# Race"))
    assert find_notebook("02_ra", folder) == folder / "02_rates.ipynb"


def test_a_part_of_several_names_is_answered_with_them(folder: Path) -> None:
    """None is chosen by chance."""
    with pytest.raises(HousesError, match="'02': fits 02_rates, 02_rooms; write more"):
        find_notebook("02", folder)
    with pytest.raises(HousesError, match="'R': fits 01_first_run, 02_rates, 02_rooms; write more"):
        find_notebook("R", folder)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"cells": [3]}', "\x00"])
def test_a_file_that_is_no_notebook_is_one_line(tmp_path: Path, content: str) -> None:
    """Named with its path."""
    path = tmp_path / "no.ipynb"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(HousesError, match="no.ipynb: is no notebook of format 4"):
        read_parameters(path)


def test_a_notebook_that_names_no_kernel_says_what_to_do(tmp_path: Path) -> None:
    """papermill cannot tell then whose parameters these are."""
    path = tiny.write(tmp_path / "bare.ipynb", tiny.code(tiny.PARAMETERS, "parameters"))
    path.write_text(path.read_text(encoding="utf-8").replace("kernelspec", "other"), encoding="utf-8")
    with pytest.raises(HousesError, match="that names its kernel; open and save it in JupyterLab"):
        read_parameters(path)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("# Title\n\nWords.\n\n## Send, join", ["Title", "Send, join"]),
        ("Words only.", []),
        ("## Real\n\n```python\n# a comment\n```\n\n# Last", ["Real", "Last"]),
        ("```\n# never closed", []),
        ("#no_heading", []),
    ],
)
def test_headings_are_those_of_the_text(source: str, found: list[str]) -> None:
    """A comment in a block of code is none."""
    assert headings(source) == found


# --- parameters ---


def test_parameters_have_name_type_default_and_meaning(known: dict[str, Parameter]) -> None:
    """All from the lines of the cell, without running it."""
    assert list(known) == ["rate_hz", "count", "loud", "name"]
    assert known["rate_hz"] == Parameter("rate_hz", "float", 500.0, "houses per second")
    assert str(known["name"]) == "name: str = 'tiny' (what it is called)"


def test_odd_lines_of_a_parameters_cell_are_understood(tmp_path: Path) -> None:
    """A line without type or comment, a list over several lines, what is no literal, and lines that set nothing."""
    source = "import os\nplain = 5\n# only a comment\nlater = 2 * plain\nlong: list[int] = [\n    1,\n    2,\n]  # two"
    found = read_parameters(tiny.write(tmp_path / "odd.ipynb", tiny.code(source, "parameters")))
    assert found["plain"] == Parameter("plain", "int", 5, "")
    assert found["later"].default == "2 * plain"
    assert found["long"] == Parameter("long", "list[int]", [1, 2], "two")
    assert set(found) == {"plain", "later", "long"}


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("rate_hz", "5", 5.0),
        ("rate_hz", 5, 5.0),
        ("rate_hz", "-1e3", -1000.0),
        ("count", "7", 7),
        ("count", "1e3", 1000),
        ("count", 4.0, 4),
        ("count", str(10**30), 10**30),
        ("loud", "true", True),
        ("loud", "False", False),
        ("loud", True, True),
        ("name", "5", "5"),
        ("name", "", ""),
    ],
)
def test_a_value_gets_the_type_of_its_parameter(known: dict[str, Parameter], name: str, given: Any, value: Any) -> None:
    """Text of a command line as well as values of Python."""
    found = check(known, {name: given}, "tiny")[name]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("rate_hz", "fast", "rate_hz = 'fast': must be a finite number (float)"),
        ("rate_hz", "nan", "rate_hz = 'nan': must be a finite number"),
        ("rate_hz", "1e999", "rate_hz = '1e999': must be a finite number"),
        ("rate_hz", True, "rate_hz = True: must be a finite number"),
        ("rate_hz", None, "rate_hz = None: must be a finite number"),
        ("count", "2.5", "count = '2.5': must be a whole number (int)"),
        ("count", "1e30", "count = '1e30': must be a whole number"),
        ("count", True, "count = True: must be a whole number"),
        ("loud", "yes", "loud = 'yes': must be true or false (bool)"),
        ("loud", 1, "loud = 1: must be true or false (bool)"),
        ("name", 5, "name = 5: must be text (str)"),
        ("name", "\udcff", "name = '\\udcff': must be text (str)"),
    ],
)
def test_a_wrong_value_is_quoted_with_its_type(known: dict[str, Parameter], name: str, given: Any, words: str) -> None:
    """Nothing is rounded, cut or guessed."""
    with pytest.raises(HousesError) as raised:
        check(known, {name: given}, "tiny")
    assert f"tiny: {words}" in str(raised.value)


def test_all_problems_are_said_at_once(known: dict[str, Parameter]) -> None:
    """Unknown names with the nearest known one, and then what is known."""
    with pytest.raises(HousesError) as raised:
        check(known, {"rate": 5, "count": "x", "zzz": 1}, "tiny")
    lines = str(raised.value).splitlines()
    assert lines[0] == "tiny: rate: unknown parameter; the nearest known one is rate_hz"
    assert lines[1] == "tiny: count = 'x': must be a whole number (int)"
    assert lines[2] == "tiny: zzz: unknown parameter"
    assert "  rate_hz: float = 500.0 (houses per second)" in lines


def test_a_notebook_without_parameters_says_so(tmp_path: Path) -> None:
    """It takes none."""
    path = tiny.write(tmp_path / "bare.ipynb", tiny.code("x = 1"))
    with pytest.raises(HousesError, match="has no cell with the tag 'parameters'"):
        check(read_parameters(path), {"x": 2}, "bare")


# --- lists ---

LISTS = """\
sizes: list[int] = [1, 20]  # bytes to compare
ratios: list[float] = [0.5, 2]  # to compare
pair: tuple = (1, 2)  # two of them"""


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, Parameter]:
    """Parameters that are lists, and one of a kind that only Python's own notation can tell."""
    return read_parameters(tiny.write(tmp_path / "lists.ipynb", tiny.code(LISTS, "parameters")))


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("sizes", "1, 2,1e3", [1, 2, 1000]),
        ("sizes", "[2, 3.0]", [2, 3]),
        ("sizes", "7", [7]),
        ("sizes", [5, 6.0], [5, 6]),
        ("sizes", [], []),
        ("ratios", "1,2.5", [1.0, 2.5]),
        ("pair", "(3, 4)", (3, 4)),
        ("pair", (3, 4), (3, 4)),
    ],
    ids=str,
)
def test_a_list_is_read_item_by_item(lists: dict[str, Parameter], name: str, given: Any, kept: Any) -> None:
    """With or without its brackets; the default is a list as well."""
    assert check(lists, {name: given}, "tiny") == {name: kept}
    assert lists["sizes"] == Parameter("sizes", "list[int]", [1, 20], "bytes to compare")


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("sizes", "20,2.5", "sizes = '20,2.5': must be whole numbers separated by commas (list[int])"),
        ("sizes", "", "sizes = '': must be whole numbers separated by commas"),
        ("sizes", 20, "sizes = 20: must be whole numbers separated by commas"),
        ("sizes", [1, 2.5], "sizes = [1, 2.5]: must be whole numbers separated by commas"),
        ("ratios", "1,x", "ratios = '1,x': must be finite numbers separated by commas (list[float])"),
        ("pair", "(3,", "pair = '(3,': must be a value as Python writes it (tuple)"),
    ],
    ids=str,
)
def test_a_list_that_is_none_is_quoted(lists: dict[str, Parameter], name: str, given: Any, words: str) -> None:
    """One problem, one line."""
    with pytest.raises(HousesError) as raised:
        check(lists, {name: given}, "tiny")
    assert str(raised.value).startswith(f"tiny: {words}") and "\n" not in str(raised.value)


@pytest.mark.parametrize("path", all_notebooks(), ids=lambda path: path.stem)
def test_the_values_that_shorten_tests_have_the_types_of_their_parameters(path: Path) -> None:
    """So has each default."""
    known = read_parameters(path)
    defaults = {name: parameter.default for name, parameter in known.items()}
    assert check(known, defaults, path.stem) == defaults
    if known:
        mock = mock_of(path)
        assert check(known, mock, path.stem) == mock
