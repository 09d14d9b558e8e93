"""Which notebook is meant, what parameters it has, and which values they take."""

import re
from pathlib import Path
from typing import Any

import pytest
from campaigns.bench_notebooks import mock_of
from support import tiny_notebooks as tiny

from houses.errors import HousesError
from houses.lab.headless.notebooks import all_notebooks, find_notebook, heading_of, read_cells, title_of
from houses.lab.headless.parameters import _LIMIT, _OF_LISTS, Parameter, check, read_parameters


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
        read_cells(path)


@pytest.mark.parametrize(
    ("source", "heading"),
    [
        ("# Title\n\nWords.\n\n## Send, join", "Send, join"),
        ("Words only.", None),
        ("## Real\n\n```python\n# a comment\n```", "Real"),
        ("#no_heading", None),
    ],
)
def test_the_last_heading_names_the_section(source: str, heading: str | None) -> None:
    """A comment in a block of code is none."""
    assert heading_of(source) == heading


def test_the_first_heading_is_the_title(tmp_path: Path) -> None:
    """Not a later one; without any it is the name of the file."""
    cells = [tiny.code("# code"), tiny.text("Words."), tiny.text("# Rates\n\n## First"), tiny.text("# Later")]
    assert title_of(tiny.write(tmp_path / "a.ipynb", *cells)) == "Rates"
    assert title_of(tiny.write(tmp_path / "bare.ipynb", tiny.code("# code"))) == "bare"


# --- parameters ---


def test_parameters_have_name_type_default_and_meaning(known: dict[str, Parameter]) -> None:
    """All from the lines of the cell, without running it."""
    assert list(known) == ["rate_hz", "count", "loud", "name"]
    assert known["rate_hz"] == Parameter("rate_hz", "float", 500.0, "houses per second")
    assert str(known["name"]) == "name: str = 'tiny' (what it is called)"


def test_odd_lines_of_a_parameters_cell_are_understood(tmp_path: Path) -> None:
    """A # or = inside a text, a line without type or comment, and lines that set nothing."""
    source = 'mark: str = "a # b = c"  # what = stands\nplain = 5\n# only a comment\nimport os\nlater = 2 * plain'
    found = read_parameters(tiny.write(tmp_path / "odd.ipynb", tiny.code(source, "parameters")))
    assert found["mark"] == Parameter("mark", "str", "a # b = c", "what = stands")
    assert found["plain"] == Parameter("plain", "int", 5, "")
    assert found["later"].default == "2 * plain"
    assert set(found) == {"mark", "plain", "later"}


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


# --- limits ---

LIMITED = """\
seconds: float = 2.0  # how long, at least 1, at most 5,000
share: float = 0.5  # of all, more than 0 and less than 1
delay_ms: float = 300.0  # how late, at least -0.5 and at most 1000 * seconds
count: int = 3  # how many, at least 1
sizes: str = "1,20"  # bytes to compare, at least 1
ratios: str = "0.5,2"  # to compare, more than 0
words: str = "a,b"  # two of at most 1 letter
steps: list[int] = [1, 20]  # at least 1, two or more, ascending
order: list[int] = [1, 2]  # ascending
rates: str = "5,50"  # houses/s, ascending, more than 0
crash_at: str = "after write houses.jsonl 40"  # the first crash; or "at random"
name: str = "x"  # all files are in output/runs/NAME and in NAME-late"""


@pytest.fixture
def limited(tmp_path: Path) -> dict[str, Parameter]:
    """Parameters whose comments state limits."""
    return read_parameters(tiny.write(tmp_path / "limited.ipynb", tiny.code(LIMITED, "parameters")))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"seconds": "1"}, {"seconds": 1.0}),
        ({"seconds": "5000"}, {"seconds": 5000.0}),
        ({"share": "0.999"}, {"share": 0.999}),
        ({"count": "9" * 400}, {"count": int("9" * 400)}),
        ({"delay_ms": -0.5}, {"delay_ms": -0.5}),
        ({"delay_ms": 4000, "seconds": 4}, {"delay_ms": 4000.0, "seconds": 4.0}),
        ({"sizes": "1, 2,1e3"}, {"sizes": "1,2,1000"}),
        ({"ratios": "1,2.5"}, {"ratios": "1.0,2.5"}),
        ({"words": "5, c"}, {"words": "5, c"}),
        ({"steps": "[2, 3.0]"}, {"steps": [2, 3]}),
        ({"rates": "7"}, {"rates": "7"}),
        ({"crash_at": "at random"}, {"crash_at": "at random"}),
        ({"crash_at": "before sync houses.jsonl"}, {"crash_at": "before sync houses.jsonl"}),
        ({"name": "x" * 55}, {"name": "x" * 55}),
    ],
    ids=str,
)
def test_a_value_at_its_limit_is_taken(
    limited: dict[str, Parameter], given: dict[str, Any], kept: dict[str, Any]
) -> None:
    """Lists are written as a notebook reads them."""
    assert check(limited, given, "tiny") == kept


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seconds": "0.9"}, "seconds = 0.9: must be at least 1 and at most 5,000"),
        ({"seconds": "-5"}, "seconds = -5.0: must be at least 1"),
        ({"seconds": 5001}, "seconds = 5001.0: must be at least 1 and at most 5,000"),
        ({"share": "0"}, "share = 0.0: must be more than 0 and less than 1"),
        ({"share": 1}, "share = 1.0: must be more than 0 and less than 1"),
        ({"delay_ms": 2001}, "delay_ms = 2001.0: must be at least -0.5 and at most 1000 * seconds = 2,000"),
        (
            {"delay_ms": 4000, "seconds": 3},
            "delay_ms = 4000.0: must be at least -0.5 and at most 1000 * seconds = 3,000",
        ),
        (
            {"delay_ms": 4e6, "seconds": 2500},
            "delay_ms = 4000000.0: must be at least -0.5 and at most 1000 * seconds = 2,500,000",
        ),
        ({"sizes": "20,0"}, "sizes = '20,0': must be at least 1"),
        ({"sizes": "20,2.5"}, "sizes = '20,2.5': must be whole numbers separated by commas, such as 1,20"),
        ({"sizes": ""}, "sizes = '': must be whole numbers separated by commas, such as 1,20"),
        ({"sizes": 20}, "sizes = 20: must be whole numbers separated by commas, such as 1,20"),
        ({"ratios": "1,x"}, "ratios = '1,x': must be finite numbers separated by commas, such as 0.5,2"),
        ({"ratios": "1.0,0"}, "ratios = '1.0,0.0': must be more than 0"),
        ({"steps": [1]}, "steps = [1]: must be two or more ascending numbers, each at least 1"),
        ({"steps": [0, 5]}, "steps = [0, 5]: must be two or more ascending numbers, each at least 1"),
        ({"order": [2, 1]}, "order = [2, 1]: must be ascending numbers"),
        ({"steps": "5"}, "steps = '5': must be a value as Python writes it (list[int])"),
        ({"steps": [1, 2.5]}, "steps = [1, 2.5]: must be a value as Python writes it (list[int])"),
        ({"rates": "50,5"}, "rates = '50,5': must be ascending numbers, each more than 0"),
        ({"rates": "5,5"}, "rates = '5,5': must be ascending numbers, each more than 0"),
        ({"crash_at": "afterwards"}, "crash_at = 'afterwards': crash point 'afterwards': must be before or after"),
        ({"name": "a b"}, "name = 'a b': experiment name 'a b': must be 1 to 60 letters"),
        ({"name": "x" * 56}, f"name = '{'x' * 56}': experiment name '{'x' * 56}-late': must be 1 to 60 letters"),
    ],
    ids=str,
)
def test_a_value_beyond_its_limit_is_quoted_with_the_limit(
    limited: dict[str, Parameter], given: dict[str, Any], words: str
) -> None:
    """One problem, one line."""
    with pytest.raises(HousesError) as raised:
        check(limited, given, "tiny")
    assert str(raised.value).startswith(f"tiny: {words}") and "\n" not in str(raised.value)


def test_a_default_that_no_longer_fits_is_told(limited: dict[str, Parameter]) -> None:
    """Its limit is a multiple of what was given."""
    with pytest.raises(HousesError, match=r"^tiny: delay_ms = 300.0 \(its default\): .* 1000 \* seconds = 200$"):
        check(limited | {"seconds": Parameter("seconds", "float", 2.0, "")}, {"seconds": 0.2}, "tiny")


def test_a_limit_by_an_unknown_parameter_is_the_mistake_of_the_notebook(limited: dict[str, Parameter]) -> None:
    """The message says where it stands."""
    limited["odd"] = Parameter("odd", "int", 1, "at most 2 * nothing")
    with pytest.raises(HousesError, match=r"'at most 2 \* nothing': nothing is no number; correct this comment"):
        check(limited, {}, "tiny")


@pytest.mark.parametrize("path", all_notebooks(), ids=lambda path: path.stem)
def test_every_number_that_a_notebook_takes_has_limits_that_are_understood(path: Path) -> None:
    """A wording that `limits` does not know would be no limit, without a word; every rate has an upper one."""
    odd = r"\b(least|most|more|less|than|between|from|up to|max\w*|min\w*|above|below|over|under|positive|limit\w*)\b|[<>≤≥]"
    for name, parameter in read_parameters(path).items():
        limits = [found.group() for found in _LIMIT.finditer(parameter.help)]
        rest = re.sub("|".join([_LIMIT.pattern, *_OF_LISTS]), "", parameter.help)
        assert not re.search(odd, rest), f"{name}: {rest}"
        assert limits or (parameter.type not in ("int", "float") and not parameter.listed), name
        assert "rate" not in name or any(limit.startswith("at most") for limit in limits), name


@pytest.mark.parametrize("path", all_notebooks(), ids=lambda path: path.stem)
def test_the_notebooks_keep_their_own_limits(path: Path) -> None:
    """By their defaults, and by the values that shorten tests."""
    known = read_parameters(path)
    assert check(known, {}, path.stem) == {}
    if known:
        mock = mock_of(path)
        assert check(known, mock, path.stem) == mock
