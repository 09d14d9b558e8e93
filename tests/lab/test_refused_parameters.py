"""What is refused before anything starts: by the functions that take the values, and by each notebook's own first cells."""

import ast
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import houses
from houses.config.config import PROJECT_ROOT, Config
from houses.errors import ConfigError
from houses.lab.experiment import Experiment
from houses.lab.headless.parameters import read_parameters

NOTEBOOKS = PROJECT_ROOT / "notebooks"
_LONG = "x" * 60

BAD: dict[str, list[tuple[str, Any]]] = {
    "01_first_run": [
        *(("rate_hz", value) for value in (9.9, -5.0, 20_001.0)),
        *(("seconds", value) for value in (1.9, -1.0)),
        *(("name", value) for value in ("", "a b", "../up", _LONG + "x")),
    ],
    "02_rates": [
        *(("rate_hz", value) for value in (99.0, 2001.0)),
        *(("seconds", value) for value in (0.1, -1.0)),
        *(("delay_ms", value) for value in (99.0, 1001.0)),
        *(("rates", value) for value in ([], [0, 5], [5, 5], [50, 5], [5, 20_001])),
        *(("lingers_ms", value) for value in ([], [5], [-1, 5], [5, 0], [0, 1001])),
        *(("batches", value) for value in ([], [5], [0, 5], [5, 1])),
        *(("name", value) for value in ("a b", _LONG)),
    ],
    "03_storno": [("rate_hz", 49.0), ("rate_hz", 20_001.0), ("seconds", 0.9), ("name", "a b")],
    "04_crash_lab": [
        *(("crash_at", value) for value in ("", "afterwards", "after sync", "after sync x 0")),
        *(("crashes", value) for value in (0, 5)),
        *(("rate_hz", value) for value in (49.0, 1001.0)),
        ("name", "a b"),
    ],
    "05_offsets": [
        *(("rate_hz", value) for value in (49.0, 20_001.0)),
        ("seconds", 0.4),
        *(("delay_ms", value) for value in (99.0, 10_001.0)),
        ("backlog", 999),
        *(("batches", value) for value in ([], [5], [0, 5], [5, 1], [1, 1_000_001])),
        *(("stores", value) for value in ("", "file,nowhere")),
        *(("name", value) for value in ("a b", _LONG)),
    ],
    "06_who_is_late": [("rate_hz", 49.0), ("rate_hz", 5001.0), ("seconds", 2.9), ("seed", -1), ("name", "a b")],
    "07_time_machine": [
        *(("delay_ms", value) for value in (99.0, 2401.0)),
        *(("rate_hz", value) for value in (49.0, 20_001.0)),
        *(("seconds", value) for value in (3.9, -1.0)),
        ("checks", 0),
        ("name", "a b"),
    ],
}


def begin(path: Path, given: dict[str, Any]) -> None:
    """Run a notebook's cells up to the one that makes the experiment, with parameters as papermill sets them."""
    names: dict[str, Any] = {}
    for cell in json.loads(path.read_bytes())["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            exec(source, names)
            if "parameters" in cell["metadata"].get("tags", ()):
                names |= given
            if "houses.Experiment(" in source:
                return


class TopicsMadeError(Exception):
    """A notebook got so far that it would make topics."""


@pytest.fixture
def no_kafka(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody asks for Kafka in the tests that use this."""

    def never(*_: object) -> None:
        raise TopicsMadeError

    monkeypatch.setattr("houses.lab.run_folder.ensure_broker", never)
    monkeypatch.setenv("HOUSES_RUN_DIR", str(tmp_path))


@pytest.mark.usefixtures("no_kafka")
@pytest.mark.parametrize(
    ("notebook", "name", "value"),
    [
        pytest.param(notebook, name, value, id=f"{notebook} {name} {str(value)[:20]}")
        for notebook, bad in BAD.items()
        for name, value in bad
    ],
)
def test_a_notebook_refuses_a_bad_parameter_before_a_topic_is_made(notebook: str, name: str, value: Any) -> None:
    """In one line that quotes the value; a name and a store with what is added to them, a crash point as such."""
    with pytest.raises(ConfigError) as raised:
        begin(NOTEBOOKS / f"{notebook}.ipynb", {name: value})
    said, quoted = str(raised.value), str(value).rpartition(",")[2] if name == "stores" else str(value)
    assert quoted in said and "must be" in said and "\n" not in said
    assert name in said or name in ("crash_at", "stores")


@pytest.mark.usefixtures("no_kafka")
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("0[1-9]*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_takes_its_defaults_and_the_values_of_tests(path: Path) -> None:
    """They reach the place where topics are made; and every number and list of a notebook is tried with a bad value above."""
    cells = json.loads(path.read_bytes())["cells"]
    (cell,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    both: tuple[dict[str, Any], ...] = ({}, cell["metadata"]["nbmake"]["mock"])
    for given in both:
        with pytest.raises(TopicsMadeError):
            begin(path, given)
    assert {line.partition(":")[0] for line in cell["source"]} == {name for name, _ in BAD[path.stem]}


@pytest.mark.usefixtures("no_kafka")
def test_a_limit_may_depend_on_another_parameter() -> None:
    """The message has the number that comes out."""
    with pytest.raises(ConfigError, match=r"^delay_ms = 300.0: must be at least 100 and at most 200$"):
        begin(NOTEBOOKS / "02_rates.ipynb", {"seconds": 0.2})
    with pytest.raises(TopicsMadeError):
        begin(NOTEBOOKS / "02_rates.ipynb", {"seconds": 0.3})


# --- the functions ---

IDLE: Any = object.__new__(Experiment)
"""An experiment of which nothing is known: whatever is asked of it but a check is an AttributeError."""


def enter(seconds: float) -> None:
    """The beginning of a `with` block."""
    with IDLE.running(seconds=seconds):
        pass


@pytest.mark.usefixtures("no_kafka")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        *((lambda bad=bad: enter(bad), f"seconds = {bad!r}: must be at least 0") for bad in (-5, math.nan, math.inf)),
        (lambda: IDLE.wait(-0.1), "seconds = -0.1: must be at least 0"),
        (lambda: IDLE.inject_blindly(-1), "seed = -1: must be at least 0"),
        (lambda: IDLE.send_backlog(0), "houses = 0: must be at least 1"),
        (lambda: houses.check_moments(IDLE, 0), "count = 0: must be at least 1"),
        (lambda: houses.crash(IDLE, "afterwards"), "crash point 'afterwards': must be before or after"),
        (lambda: houses.try_crashes(IDLE, []), "points = []: give at least one crash point"),
        (lambda: houses.try_crashes(IDLE, ["at random", "later"]), "crash point 'later': must be"),
        (lambda: houses.sweep("s", "rate_hz", []), "rate_hz = []: give at least one value"),
        (lambda: houses.sweep("s", "rate_hz", [5], seconds=-1), "seconds = -1: must be at least 0"),
        (lambda: houses.sweep("s", "rate_hz", [5], backlog=-1), "backlog = -1: must be at least 0"),
        (lambda: houses.sweep("s", "rate_hz", [5, -5]), "producer.msgs_per_sec = -5: must be"),
        (lambda: houses.sweep("s", "linger_ms", [5, "x"], rate_hz=7), "producer.linger_ms = 'x': must be"),
        (lambda: houses.sweep("a b", "rate_hz", [5]), "experiment name 'a b-1': must be"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_bad_value_is_refused_before_anything_starts(call: Callable[[], Any], words: str) -> None:
    """By the function that takes it, in one line."""
    with pytest.raises(ConfigError) as raised:
        call()
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.usefixtures("no_kafka")
def test_all_values_of_a_sweep_are_checked_before_the_first_experiment(base: Config) -> None:
    """Good ones get to the point where topics are made."""
    with pytest.raises(TopicsMadeError):
        houses.sweep("s", "rate_hz", [5, 6], base=base)
    with pytest.raises(ConfigError, match="producer.msgs_per_sec = -6"):
        houses.sweep("s", "rate_hz", [5, -6], base=base)


def test_numbers_at_their_limits_are_taken() -> None:
    """Of lists too."""
    houses.check_limits("n", 2, at_least=2, at_most=2)
    houses.check_limits("n", 10**400, at_least=2)
    houses.check_limits("n", [1, 2], at_least=1, at_most=2, count=2)


@pytest.mark.parametrize("value", ["many", None, [1, "x"], math.nan])
def test_what_is_no_number_is_quoted(value: Any) -> None:
    """What a cell of a notebook may hold, also if its parameter is not typed."""
    with pytest.raises(ConfigError, match=rf"^n = {re.escape(repr(value))}: must be"):
        houses.check_limits("n", value, at_least=1)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("0[1-7]*.ipynb")), ids=lambda path: path.stem)
def test_the_comment_of_a_parameter_gives_the_limits_that_are_checked(path: Path) -> None:
    """As "at least 1", "at most 10" or "1 to 10", in the same numbers."""
    known = read_parameters(path)
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_bytes())["cells"] if cell["cell_type"] == "code"]
    calls = [each for cell in cells if "check_limits" in cell for each in ast.walk(ast.parse(cell))]
    checked = [each for each in calls if isinstance(each, ast.Call) and "check_limits" in ast.unparse(each.func)]
    assert checked
    for call in checked:
        name, limits = ast.literal_eval(call.args[0]), {each.arg: _written(each.value) for each in call.keywords}
        least, most = limits["at_least"], limits.get("at_most")
        ways = [[f"at least {least}", *([f"at most {most}"] if most else [])], [f"{least} to {most}"]]
        assert any(all(_says(known[name].help, words) for words in way) for way in ways), (name, known[name].help)


def _says(text: str, words: str) -> bool:
    return re.search(rf"{re.escape(words)}(?!,?\d)", text) is not None


def _written(number: ast.expr) -> str:
    """As people write it, or the expression."""
    return f"{ast.literal_eval(number):,}" if isinstance(number, ast.Constant) else ast.unparse(number)
