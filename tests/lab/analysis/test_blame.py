"""Who keeps houses waiting: tables of blame, the truth beside them, and their figures."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.figures import assert_whole, legend_of, points_of, title_of

from houses.errors import FolderError
from houses.lab.analysis import blame as guilt
from houses.lab.analysis.frames import truth
from houses.producer.faults import FAULTS_NAME, FaultLog
from houses.records.message import PART_NAMES, PARTS
from houses.verify.pending import PendingHouse


def waited(**last_by_ms: list[float]) -> pd.DataFrame:
    """Houses by the part that came last, with the ms that they waited for it alone."""
    rows = [(name, ms) for name, values in last_by_ms.items() for ms in values]
    names, values = [name for name, _ in rows], [ms for _, ms in rows]
    return pd.DataFrame({"last_part": pd.Categorical(names, PART_NAMES), "last_by_ms": pd.Series(values, dtype=float)})


def lacking(*names: str) -> pd.DataFrame:
    """Incomplete houses, each without these parts (names joined by +)."""
    return pd.DataFrame(
        {name: [name not in missing.split("+") for missing in names] for name in PART_NAMES}, dtype=bool
    )


# --- tables ---


def test_blame_counts_the_houses_that_each_part_completed_and_how_long_they_waited() -> None:
    """Three houses waited for the wall, one for the roof, and of one nothing is known."""
    table = guilt.blame(pd.concat([waited(wall=[10, 20, 60], roof=[10]), pd.DataFrame({"last_by_ms": [1.0]})]))
    assert table.index.tolist() == PART_NAMES
    assert table["houses"].tolist() == [0, 3, 1]
    assert table["share"].tolist() == [0, 0.75, 0.25]
    assert table.loc["wall", ["median_ms", "p90_ms", "waiting_share"]].tolist() == [20, 52, 0.9]
    assert pd.isna(table.loc["foundation", "median_ms"])


def test_nobody_is_to_blame_for_no_house() -> None:
    """Shares of nothing are not known."""
    table = guilt.blame(waited())
    assert table["houses"].tolist() == [0, 0, 0]
    assert table[["share", "median_ms", "waiting_share"]].isna().all(axis=None)


def test_a_house_that_lacks_two_parts_counts_for_both() -> None:
    """So the numbers may be more than the houses."""
    assert guilt.blame_pending(lacking("roof", "wall+roof")).to_dict() == {"foundation": 0, "wall": 1, "roof": 2}


def test_pending_houses_say_what_has_come_and_what_is_missing() -> None:
    """Names of the missing parts are joined by +."""
    table = guilt.pending_table([PendingHouse(7, {"wall": 3}), PendingHouse(9, {"foundation": 1, "roof": 2})])
    assert table.to_dict("list") == {
        "id": [7, 9],
        "foundation": [False, True],
        "wall": [True, False],
        "roof": [False, True],
        "missing": ["foundation+roof", "wall"],
    }
    assert table.dtypes.astype(str).tolist() == guilt.pending_table([]).dtypes.astype(str).tolist()


def test_evicted_houses_have_the_parts_that_stand_in_rejects() -> None:
    """Other rejects, and records without an id, belong to no house that was given up."""
    reasons = ["evicted", "evicted", "evicted", "duplicate", "malformed"]
    ids = pd.array([9, 9, 4, 4, None], dtype="Int64")
    rejects = pd.DataFrame({"reason": reasons, "partition": [0, 2, 1, 0, 0], "id": ids})
    table = guilt.evicted(rejects)
    assert table["id"].tolist() == [4, 9]
    assert table["missing"].tolist() == ["foundation+roof", "wall"]
    assert list(table) == list(guilt.pending_table([]))


def test_the_truth_counts_what_was_injected_and_keeps_the_largest_delay(tmp_path: Path) -> None:
    """A torn last line, which a killed producer leaves behind, is left out."""
    foundation, wall, roof = PARTS
    log = FaultLog(tmp_path / FAULTS_NAME)
    log.add(wall, "t", [(0, "delay", {"delay_ms": 80.0}), (5, "delay", {"delay_ms": 30.0}), (6, "duplicate", {})])
    log.add(roof, "t", [(1, "drop", {}), (2, "drop", {}), (3, "malformed", {"kind": "empty"})])
    log.add(foundation, "t", [(0, "shares", {"drop": 0.5, "malformed": 0.0, "duplicate": 0.0})])
    log.close()
    with (tmp_path / FAULTS_NAME).open("ab") as torn:
        torn.write(b'{"part":"roof","id":4,"fault":"drop"')
    table = truth(tmp_path)
    assert table.index.tolist() == PART_NAMES
    assert table.loc["foundation"].tolist() == [0, 0, 0, 0.0]
    assert table.loc["wall"].to_dict() == {"drop": 0, "malformed": 0, "duplicate": 1, "delay_ms": 80.0}
    assert table.loc["roof"].to_dict() == {"drop": 2, "malformed": 1, "duplicate": 0, "delay_ms": 0.0}


def test_without_faults_the_truth_is_nothing(tmp_path: Path) -> None:
    """Producers may never have run in the folder."""
    assert (truth(tmp_path) == 0).all(axis=None)


@pytest.mark.parametrize("line", [b"x", b"[]", b'{"part":"door","fault":"delay","delay_ms":1}', b'{"part":"roof"}'])
def test_a_damaged_line_of_faults_is_an_error_that_quotes_it(tmp_path: Path, line: bytes) -> None:
    """Nothing is left out silently."""
    (tmp_path / FAULTS_NAME).write_bytes(line + b"\n")
    with pytest.raises(FolderError, match="faults.jsonl: not a line of faults") as caught:
        truth(tmp_path)
    assert repr(line) in str(caught.value)


# --- figures ---


def test_the_title_names_the_guilty_part_and_by_how_much() -> None:
    """Nine of ten houses waited 50 ms for the wall."""
    drawn = guilt.plot_blame(waited(wall=[50.0] * 9, roof=[2.0]))
    assert_whole(drawn)
    assert title_of(drawn) == (
        "The wall makes houses wait: it came last in 90% of 10 houses,\n"
        "by 50 ms in the median; over 99% of all the waiting was for it"
    )
    assert legend_of(drawn.axes[0]) == [
        "wall last: 90% of houses, median 50 ms",
        "roof last: 10% of houses, median 2 ms",
    ]
    assert "(ms)" in drawn.axes[0].get_xlabel()
    assert "(%)" in drawn.axes[0].get_ylabel()


@pytest.mark.parametrize(
    "houses",
    [waited(foundation=[50.0], wall=[40.0], roof=[40.0]), waited(foundation=[9.0, 9.0], wall=[1.0], roof=[1.0])],
)
def test_nobody_stands_out_when_all_are_alike_or_nobody_waited_longer_than_a_tick(houses: pd.DataFrame) -> None:
    """Producers send once in 10 ms: less is no fault of a part."""
    assert title_of(guilt.plot_blame(houses)).startswith("No part stands out: foundation came last in ")


def test_curves_begin_at_the_share_of_each_part_and_fall_where_houses_stop_waiting() -> None:
    """Two of four houses waited for the wall, 10 and 30 ms; a clock that runs behind counts as 0.1 ms."""
    drawn = guilt.plot_blame(waited(wall=[30.0, 10.0], roof=[-5.0, 5.0]))
    wall, roof = drawn.axes[0].get_lines()
    assert points_of(wall) == ([0.1, 10.0, 30.0], [50.0, 50.0, 25.0])
    assert points_of(roof) == ([0.1, 0.1, 5.0], [50.0, 50.0, 25.0])
    assert wall.get_linestyle() != roof.get_linestyle() and wall.get_marker() != roof.get_marker()


def test_bars_count_the_missing_parts_and_the_title_names_the_most_frequent() -> None:
    """The roof is missing in three of four houses."""
    drawn = guilt.plot_pending_blame(lacking("roof", "roof", "wall+roof", "foundation"))
    assert_whole(drawn)
    assert title_of(drawn) == "The roof is missing in 3 of 4 houses that lack a part"
    assert [bar.get_width() for bar in drawn.axes[0].patches] == [1, 1, 3]  # type: ignore[attr-defined]
    assert "houses" in drawn.axes[0].get_xlabel()


def test_no_missing_part_stands_out_when_two_are_as_frequent() -> None:
    """Of two houses that lack the same two parts nobody can say which is to blame."""
    title = title_of(guilt.plot_pending_blame(lacking("wall+roof", "wall+roof")))
    assert title == "No part stands out: foundation is missing in 0, wall in 2, roof in 2 of 2 houses that lack a part"


def test_figures_without_houses_say_so() -> None:
    """A run may not have begun, or nothing went wrong."""
    late, missing = guilt.plot_blame(waited()), guilt.plot_pending_blame(lacking())
    assert_whole(late)
    assert_whole(missing)
    assert (title_of(late), title_of(missing)) == ("No house is complete yet", "No house lacks a part")


def test_figures_of_blame_are_drawn_on_the_axes_that_they_are_given() -> None:
    """So that several can share a figure."""
    left, right = Figure().subplots(1, 2)
    assert guilt.plot_blame(waited(wall=[1.0]), left) is left.figure
    assert guilt.plot_pending_blame(lacking("wall"), right) is right.figure
