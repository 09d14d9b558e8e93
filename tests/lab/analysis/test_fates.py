"""What became of cancelled houses: the table of their fates, and its figure."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.figures import assert_whole, legend_of, title_of

from houses.errors import HousesError
from houses.lab.analysis.fates import fates, plot_fates
from houses.lab.analysis.figure import alt_text
from houses.lab.analysis.frames import load
from houses.records.decode import PartEntry
from houses.records.lines import house_line, late_line, storno_line
from houses.records.message import FULL

NOON = "2026-01-31T12:00:00.000000Z"
WALL = 2


def entry(offset: int, name: str, task: str) -> PartEntry:
    """A part that was sent at noon."""
    return offset, f'{NOON}","name":"{name}","task":"{task}', None


def house(house_id: int) -> tuple[int, PartEntry, PartEntry, PartEntry]:
    """A house whose parts all have its id for offset."""
    return (
        house_id,
        entry(house_id, "alice", "foundation"),
        entry(house_id, "wall_bob", "wall"),
        entry(house_id, "roof_bob", "roof"),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """House 1 is well, 2 and 3 were written before their stornos came, 4 and 5 were diverted, 5 cancelled further later."""
    written = [house_line(house(house_id), NOON) for house_id in (1, 2, 3)]
    (tmp_path / "houses.jsonl").write_text("".join(written), encoding="ascii")
    diverted = [storno_line(house(4), FULL, 0, NOON), storno_line(house(5), WALL, 1, NOON)]
    late = [late_line(2, WALL, 2), late_line(3, WALL, 3), late_line(3, FULL, 4), late_line(5, FULL, 5)]
    (tmp_path / "storno_houses.jsonl").write_text("".join(diverted + late), encoding="ascii")
    return tmp_path


def cases(*rows: tuple[str, str, str, str, bool]) -> pd.DataFrame:
    """Cases: way, moment, file, excluded, late."""
    return pd.DataFrame(rows, columns=["way", "moment", "file", "excluded", "late"])


def test_a_fate_is_the_file_of_the_house_and_its_last_line(folder: Path) -> None:
    """Of several lines about a house the last one counts, and one that came before it is complete keeps its file."""
    everything = "foundation+wall+roof"
    assert fates(load(folder), [5, 4, 3, 2, 1, 9]).to_dict("split", index=False)["data"] == [
        [5, "storno_houses.jsonl", everything, True],
        [4, "storno_houses.jsonl", everything, False],
        [3, "houses.jsonl", everything, True],
        [2, "houses.jsonl", "wall", True],
        [1, "houses.jsonl", "", False],
        [9, "", "", False],
    ]


def test_without_files_every_house_is_nowhere(tmp_path: Path) -> None:
    """The consumer may not have written yet; and of no house there is no row."""
    assert fates(load(tmp_path), [7]).to_dict("records") == [{"id": 7, "file": "", "excluded": "", "late": False}]
    assert list(fates(load(tmp_path), [])) == ["id", "file", "excluded", "late"]


def test_each_case_has_a_cell_that_says_what_is_excluded() -> None:
    """Rows and columns are in the order of their first appearance; the title counts."""
    drawn = plot_fates(
        cases(
            ("all", "before", "storno_houses.jsonl", "foundation+wall+roof", False),
            ("some", "before", "storno_houses.jsonl", "foundation+roof", True),
            ("all", "after", "houses.jsonl", "wall", True),
            ("some", "after", "houses.jsonl", "", False),
            ("some", "never", "", "", False),
        ),
        "way",
        "moment",
    )
    assert_whole(drawn)
    (ax,) = drawn.axes
    told = {text.get_position(): text.get_text() for text in ax.texts}
    assert told == {
        (0, 0): "all",
        (0, 1): "foundation\nroof\nlate",
        (1, 0): "wall\nlate",
        (1, 1): "nothing",
        (2, 1): "no line",
    }
    assert [label.get_text() for label in ax.get_xticklabels()] == ["before", "after", "never"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["all", "some"]
    assert [patch.get_hatch() for patch in ax.patches] == ["", "////", "////", "", ""]
    assert title_of(drawn) == (
        "2 of 5 houses were cancelled in time and went to storno_houses.jsonl;\n"
        "1 was written before: it stays in houses.jsonl, with a late line"
    )
    assert "after, all: houses.jsonl, excluded wall, late." in alt_text(drawn)
    assert len(legend_of(ax)) == 4


def test_a_figure_of_no_case_says_so() -> None:
    """Nobody may have been cancelled."""
    drawn = plot_fates(cases(), "way", "moment")
    assert_whole(drawn)
    assert title_of(drawn) == "No house is cancelled"


def test_fates_are_drawn_on_the_axes_that_they_are_given() -> None:
    """So that several can share a figure."""
    ax = Figure().subplots()
    assert plot_fates(cases(("all", "never", "", "", False)), "way", "moment", ax) is ax.figure


def test_a_missing_column_and_two_cases_in_one_cell_are_errors() -> None:
    """The message names them."""
    case = ("all", "never", "", "", False)
    with pytest.raises(HousesError, match="no column 'when' in the table of cases: it has way, moment"):
        plot_fates(cases(case), "way", "when")
    with pytest.raises(HousesError, match=r"two cases for \['all', 'never'\]"):
        plot_fates(cases(case, case), "way", "moment")
