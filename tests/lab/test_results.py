"""What can be asked of an experiment on a real Kafka beside its tables: stories, pending houses, truth, restarts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kafka_lab import make_config, wait_until

from houses.lab.analysis.blame import blame, blame_pending
from houses.lab.analysis.timeline import restarts
from houses.lab.experiment import Experiment


@pytest.fixture(scope="module")
def roofless(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[Experiment]:
    """An experiment of which the roofs stopped: 20 houses at least are complete, whose walls came 50 ms late; the rest waits.

    It was stopped with houses pending, and its consumer has gone on once since.
    """
    project = make_config(tmp_path_factory.mktemp("project"), kafka)
    with Experiment("roofless", rate_hz=200, base=project, linger_ms=1) as exp:
        exp.set_faults("wall", delay_ms=50)
        with exp.running(complete=False):
            wait_until(lambda: len(exp.houses()) >= 20, "20 houses are complete")
            exp.set_rate(0, "roof")
            wait_until(lambda: exp.latest()["pending"] >= 30, "30 houses wait")
        with exp.running(complete=False):
            pass
        yield exp


def test_the_missing_part_is_found_in_the_pending_houses(roofless: Experiment) -> None:
    """All of them lack the roof, and their number is the consumer's own."""
    pending = roofless.pending()
    assert len(pending) == roofless.latest()["pending"] >= 30
    assert blame_pending(pending)["roof"] == len(pending)
    assert pending["missing"].str.endswith("roof").all()


def test_the_pending_houses_of_a_moment_are_those_of_its_positions(roofless: Experiment) -> None:
    """Those of now, and none at the beginning."""
    now = roofless.pending_at(roofless.latest()["position"])
    assert list(now.ids) == roofless.pending()["id"].tolist()
    assert roofless.pending_at((0, 0, 0)).count == 0


def test_stories_tell_of_one_house_each(roofless: Experiment) -> None:
    """House 0 was complete; a later one waits for its roof."""
    waiting = int(roofless.pending()["id"].iloc[0])
    assert roofless.story(0).state == "finished"
    story = roofless.story(waiting)
    assert story.state == "pending"
    assert story.parts[2].state == "missing"


def test_blame_finds_what_the_truth_says_was_injected(roofless: Experiment) -> None:
    """The walls were delayed by 50 ms, less a tick or two that the others may be late themselves."""
    table = blame(roofless.houses())
    assert roofless.truth()["delay_ms"].to_dict() == {"foundation": 0, "wall": 50, "roof": 0}
    assert table["waiting_share"].idxmax() == "wall"
    assert 20 < table.loc["wall", "median_ms"] < 1000


def test_a_restart_says_from_where_it_reads_before_it_does(roofless: Experiment) -> None:
    """So what it reads again is known to the message: all from the oldest pending part on, as the earlier one left it."""
    metrics = roofless.metrics()
    (row,) = restarts(metrics).to_dict("records")
    earlier = metrics[metrics["pid"] == row["pid_before"]].iloc[-1]
    assert not row["crash"] and earlier["state"] == "stopped"
    assert row["foundation_again"] == earlier["foundation_position"] - earlier["foundation_low"] >= 30
    assert row["roof_again"] == 0


@pytest.mark.parametrize("store", ["file", "kafka"])
def test_the_checkpoint_is_read_back_from_wherever_it_is(tmp_path: Path, kafka: str, store: str) -> None:
    """None before the first run; afterwards the position behind all messages, which is also what the consumer said."""
    with Experiment("store", rate_hz=200, base=make_config(tmp_path, kafka), offset_store=store) as exp:
        assert exp.checkpoint() == {}
        with exp.running(seconds=0.2):
            pass
        saved = exp.checkpoint()
        assert saved["low"] == saved["next"] == tuple(exp.latest()["position"]) == tuple(exp.sent.values())
        assert saved["synced"][0] == exp.config.houses_path.stat().st_size
        assert exp.config.offsets_path.exists() == (store == "file")
