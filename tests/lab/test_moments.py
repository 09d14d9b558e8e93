"""The past of a consumer: its moments, checked and drawn, and the time machine over them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from pyroaring import BitMap64
from support.figures import assert_whole, legend_of, points_of, title_of
from support.kafka_lab import make_config, wait_until

import houses
from houses.errors import BrokerError
from houses.lab.analysis.figure import alt_text
from houses.lab.experiment import Experiment
from houses.lab.moments import check_moments, moments, plot_moments, plot_pending_at, positions_of
from houses.lab.widgets.time_machine import TimeMachine, _numbers, time_machine
from houses.verify.pending import PendingSet

THREE = PendingSet((5, 3, 2), BitMap64([2, 3, 9]), BitMap64(), (BitMap64([2, 3, 9]), BitMap64([2]), BitMap64()))
NOTHING = PendingSet((0, 0, 0), BitMap64(), BitMap64(), (BitMap64(), BitMap64(), BitMap64()))


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[Experiment]:
    """A finished experiment whose roofs were late, and the last of which never came."""
    base = make_config(tmp_path_factory.mktemp("project"), kafka)
    with Experiment("late", rate_hz=200, base=base, faults={"roof": {"delay_ms": 300}}) as exp:
        with exp.running(seconds=1.0, complete=False):
            pass
        yield exp


@pytest.fixture
def unused(tmp_path: Path, kafka: str) -> Iterator[Experiment]:
    """An experiment that was not started."""
    with Experiment("unused", base=make_config(tmp_path, kafka)) as exp:
        yield exp


# --- moments ---


def test_every_moment_is_rebuilt_as_it_was_reported(late: Experiment) -> None:
    """Numbers and sums of ids; some houses wait at most of them."""
    checked = check_moments(late, 7)
    assert len(checked) == 7 and checked["seconds"].is_monotonic_increasing
    assert (checked["pending"] == checked["rebuilt"]).all()
    assert (checked["pending_id_sum"] == checked["rebuilt_id_sum"]).all()
    assert checked["pending"].max() > 0 and (checked["uncertain"] == 0).all()


def test_moments_begin_where_the_consumer_knew_its_positions(late: Experiment) -> None:
    """At 0 seconds, and end at the last positions."""
    rows = moments(late)
    assert rows["seconds"].iloc[0] == 0 and "starting" not in set(rows["state"])
    assert positions_of(rows.iloc[-1]) == tuple(late.latest()["position"])


def test_without_measurements_there_are_no_moments(unused: Experiment) -> None:
    """Neither in the table nor in the figure."""
    assert moments(unused).empty and check_moments(unused).empty
    assert_whole(plot_moments(unused, check_moments(unused)))


def test_the_figure_of_moments_holds_both_numbers(late: Experiment) -> None:
    """A line of what was reported, a circle where it was rebuilt; a difference is counted."""
    checked = check_moments(late, 5)
    drawn = plot_moments(late, checked)
    assert_whole(drawn)
    assert title_of(drawn).startswith("In 5 of 5 moments")
    assert points_of(drawn.axes[0].lines[1])[1] == checked["pending"].tolist()
    wrong = checked.assign(rebuilt_id_sum=-1)
    assert title_of(plot_moments(late, wrong)).startswith("In 0 of 5 moments")


# --- one moment ---


def bars_of(picture: Figure) -> list[list[tuple[float, float]]]:
    """Begin and end of the bars of each collection: missing and come, part by part."""
    boxes = [[path.get_extents() for path in bars.get_paths()] for bars in picture.axes[0].collections]
    return [[(box.x0, box.x1) for box in row] for row in boxes]


def test_consecutive_houses_are_one_bar_filled_where_the_part_had_come() -> None:
    """Foundations of 2, 3 and 9 had come, one wall, no roof."""
    drawn = plot_pending_at(THREE)
    assert_whole(drawn)
    both, alone = (1.5, 3.5), (8.5, 9.5)
    assert bars_of(drawn) == [[], [both, alone], [(2.5, 3.5), alone], [(1.5, 2.5)], [both, alone], []]
    assert title_of(drawn) == "3 houses were pending at offsets 5 / 3 / 2:\n2 lacked the wall, 3 lacked the roof"
    assert legend_of(drawn.axes[0]) == ["had come", "missing"]
    assert "wall 1 of 3" in alt_text(drawn)


def test_a_moment_without_pending_houses_says_so() -> None:
    """Also on given axes."""
    ax = Figure().subplots()
    assert plot_pending_at(NOTHING, ax) is ax.figure
    assert ax.get_title(loc="left") == "No house was pending at offsets 0 / 0 / 0"


# --- the time machine ---


def shown(machine: TimeMachine) -> tuple[str, str, str]:
    """Numbers, picture and error, when what was asked for is done."""
    wait_until(lambda: not machine._work.doing, "the moment is rebuilt")
    return machine._numbers.value, machine._picture.value, machine._error.value


def test_it_begins_where_most_houses_were_pending(late: Experiment) -> None:
    """With the numbers of that line, reported and rebuilt, and a picture that has an alternative text."""
    machine = time_machine(late)
    row = moments(late).iloc[machine._line.value]
    assert row["pending"] == moments(late)["pending"].max()
    numbers, picture, error = shown(machine)
    assert numbers.count(f">{row['pending']:,}<") == 2 and numbers.count(f">{row['pending_id_sum']:,}<") == 2
    assert "the same" in numbers and not error
    assert picture.startswith("<img ") and "houses were pending" in picture.split('alt="')[1]


def test_a_move_shows_another_moment(late: Experiment) -> None:
    """The first line is that of an empty table; the newest that of the end."""
    machine = time_machine(late)
    machine._line.value = 0
    assert "No house was pending" in shown(machine)[1]
    machine._newest.click()
    assert f"{moments(late)['pending'].iloc[-1]:,}" in shown(machine)[0]
    assert machine._line.value == machine._line.max == len(moments(late)) - 1
    machine._newest.click()  # already there: shown again


def test_a_move_returns_at_once_and_overtakes_those_that_have_not_begun(
    late: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Panels share the thread of the page. Of the moves meanwhile only the last is rebuilt; no thread is left."""
    rebuilt: list[tuple[int, ...]] = []
    may_go_on, rebuild = threading.Event(), late.pending_at

    def slow(positions: tuple[int, ...]) -> PendingSet:
        rebuilt.append(positions)
        assert may_go_on.wait(60)
        return rebuild(positions)

    machine = time_machine(late)
    shown(machine)
    monkeypatch.setattr(late, "pending_at", slow)
    machine._line.value = 0
    wait_until(lambda: len(rebuilt) == 1, "the first move has begun")
    for line in (1, 2, 3):
        machine._line.value = line
    assert machine._doing.value == "rebuilding …"
    may_go_on.set()
    numbers = shown(machine)[0]
    assert machine._doing.value == ""
    assert rebuilt == [positions_of(moments(late).iloc[line]) for line in (0, 3)]
    assert f"{moments(late)['seconds'].iloc[3]:.1f} s after" in numbers
    wait_until(lambda: not background_threads(), "its thread has ended")


def test_after_the_experiment_is_closed_no_thread_is_left(tmp_path: Path, kafka: str) -> None:
    """Even when the slider was moved just before."""
    with Experiment("moved", rate_hz=200, base=make_config(tmp_path, kafka)) as exp:
        with exp.running(seconds=0.5):
            pass
        machine = time_machine(exp)
        machine._line.value = 0 if machine._line.value else 1
    wait_until(lambda: not background_threads(), "its thread has ended")


def background_threads() -> list[threading.Thread]:
    """Those that do work beside the page."""
    return [thread for thread in threading.enumerate() if thread.name == "houses-background"]


def test_an_error_is_shown_escaped_and_goes_with_the_next_move(
    late: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that raises would be silent on the page."""

    def fail(*_: Any) -> None:
        raise BrokerError("no <b>Kafka</b>")

    with monkeypatch.context() as patch:
        patch.setattr(type(late), "pending_at", fail)
        machine = time_machine(late)
        assert shown(machine)[2] == "<b>no &lt;b&gt;Kafka&lt;/b&gt;</b>"
    machine._line.value = 0 if machine._line.value else 1
    assert shown(machine)[2] == ""


def test_before_the_first_run_it_says_what_to_do(unused: Experiment) -> None:
    """And a saved page without a kernel has a sentence instead of a blank."""
    machine = houses.time_machine(unused)
    assert "run the experiment" in shown(machine)[0] and shown(machine)[2] == ""
    bundle = machine._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/html"].startswith("<p>") and "unused" in bundle["text/html"]


def test_a_moment_after_a_crash_says_why_it_differs(late: Experiment) -> None:
    """Reported and rebuilt are not the same while the consumer reads again, or when houses were given up about then."""
    rows = moments(late)
    row = rows.iloc[-1].copy()
    row["pending"] += 1
    rebuilt = late.pending_at(positions_of(row))
    assert "different: a restarted consumer" in _numbers(row, rebuilt)
