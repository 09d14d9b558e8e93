"""Crash after crash of one experiment, and what each cost."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from houses.config.config import Config
from houses.errors import ConfigError, HousesError
from houses.lab import trials
from houses.lab.consumer_process import LOG_NAME
from houses.lab.experiment import Experiment
from houses.lab.trials import crash, try_crashes
from houses.system.crash_points import AT_RANDOM

POINTS = ["after write houses.jsonl 40", "before rename consumer_offsets.json 2", AT_RANDOM]


@pytest.fixture
def exp(base: Config) -> Iterator[Experiment]:
    """One whose roofs are late, with a checkpoint twice a second."""
    faults = {"roof": {"delay_ms": 200}}
    with Experiment("crashes", rate_hz=200, base=base, offset_save_interval_sec=0.5, faults=faults) as made:
        yield made


def test_no_crash_loses_or_doubles_anything(exp: Experiment, said: list[str]) -> None:
    """A row a point; the pending houses at least are read again, and recovery says from where."""
    with exp.running():
        exp.wait(0.5)
        table = try_crashes(exp, POINTS)
    assert (
        table["crash_at"].tolist() == POINTS
        and [line.split(": ")[0] for line in said if line.endswith("again")] == POINTS
    )
    assert (table[["lost", "twice"]] == 0).all(axis=None)
    assert (table["read_again"] > 0).all() and (table["seconds_away"] > 0).all()
    assert exp.verify().unread == 0
    assert (exp.folder / LOG_NAME).read_text("utf-8").count("Recovered: reads again from offset") >= len(POINTS)


def test_without_a_checkpoint_after_the_crash_nothing_is_said_of_losses(base: Config) -> None:
    """`verify` would go by the one before the crash, and find nothing lost of what it does not look at."""
    with (
        Experiment("unsaved", rate_hz=200, base=base, offset_save_interval_sec=0) as exp,
        patch.object(trials, "_PATIENCE_S", 0.5),
        exp.running(),
        pytest.raises(HousesError, match=r"no checkpoint after 0\.5 s: see consumer\.log"),
    ):
        try_crashes(exp, [AT_RANDOM])


def test_a_point_in_another_form_is_refused_and_the_consumer_lives(exp: Experiment) -> None:
    """Before anything is stopped."""
    with exp.running():
        with pytest.raises(ConfigError, match="after lunch"):
            crash(exp, "after lunch")
        assert exp.consumer_alive
