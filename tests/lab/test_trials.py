"""Comparing runs: sweeps over a setting, the naive consumer beside ours, and tables for notebooks."""

import os
from unittest.mock import patch

import pandas as pd
import pytest

from houses.config.config import Config
from houses.errors import ConfigError, HousesError
from houses.lab import trials
from houses.lab.analysis.figure import as_table
from houses.lab.experiment import Experiment
from houses.lab.naive import NAIVE_POSITIONS, NaiveConsumer
from houses.lab.trials import sweep


def test_a_sweep_has_a_row_a_value_from_an_experiment_of_its_own(base: Config, said: list[str]) -> None:
    """Rate and latency are of the time while it sends."""
    table = sweep("rates", "rate_hz", [100, 300], seconds=2, base=base)
    assert table["rate_hz"].tolist() == [100, 300]
    slow, fast = table["houses_per_s"]
    assert 1.5 < fast / slow < 6  # three, on a machine that has time for it
    assert (table["p50_ms"] <= table["p99_ms"]).all() and (table["p50_ms"] > 0).all() and (table["pending"] >= 0).all()
    assert sorted(path.name for path in (base.root / "output" / "runs").iterdir()) == ["rates-1", "rates-2"]
    assert [line.split(":")[0] for line in said if line.startswith("rate_hz")] == ["rate_hz = 100", "rate_hz = 300"]


def test_a_consumer_that_falls_silent_is_one_clear_error(base: Config) -> None:
    """Not a division by the no seconds between a line of metrics.jsonl and itself."""
    said = {"time": "2026-01-31T12:00:00.000000Z", "pid": 1, "counts": {"houses": 9}, "durable_latency_ms": {}}
    with (
        patch.object(Experiment, "latest", return_value=said),
        patch.object(Experiment, "wait"),
        patch.object(trials, "_PATIENCE_S", 0.1),
        pytest.raises(HousesError, match=r"no measurement after 0\.1 s: see consumer\.log"),
    ):
        sweep("silent", "rate_hz", [100], base=base)


def test_a_sweep_in_which_no_house_comes_is_one_clear_error(base: Config) -> None:
    """Not a row of what was measured of nothing; while producers send, and from a backlog."""
    with patch.object(trials, "_PATIENCE_S", 0.3), pytest.raises(HousesError, match=r"no house after 0\.3 s"):
        sweep("roofless", "rates__roof", [0], rate_hz=100, base=base)
    with (
        patch.object(trials, "_PATIENCE_S", 0.3),
        patch.object(Experiment, "send_backlog"),
        Experiment("empty", base=base) as exp,
        pytest.raises(HousesError, match=r"no house of the backlog after 0\.3 s"),
    ):
        trials._work_off(exp, 1_000, 1.0)


def test_a_backlog_is_joined_faster_than_houses_are_sent(base: Config) -> None:
    """The consumer does not wait for producers then."""
    table = sweep("backlog", "max_batch", [1_000], seconds=1.0, backlog=20_000, base=base, rate_hz=100)
    assert table["houses_per_s"][0] > 200
    assert 0 < table["fsyncs_per_house"][0] < 0.1  # a batch of 1,000 messages holds 333 houses


def test_a_sweep_over_an_unknown_setting_is_refused(base: Config) -> None:
    """Before anything runs."""
    with pytest.raises(ConfigError, match="lingerms: unknown key"):
        sweep("typo", "lingerms", [1], base=base)


def test_kills_make_the_naive_consumer_lose_and_double_houses_and_ours_not(base: Config) -> None:
    """What was in the table when it saved its position is lost; what it wrote since then comes again."""
    with Experiment("naive", rate_hz=300, base=base, faults={"roof": {"delay_ms": 900}}) as exp:
        with NaiveConsumer(exp) as naive, exp.running():
            for delay_ms in (900, 0):
                exp.set_faults("roof", delay_ms=delay_ms)
                exp.wait(1.5)
                naive.kill()
                exp.kill_consumer()
                naive.start()
                exp.restart_consumer()
        table = naive.compare()
        assert table.loc["exactly once"].tolist() == [exp.sent["wall"], 0, 0]
        assert table.loc["naive", "lost"] > 0 and table.loc["naive", "twice"] > 0
        assert NaiveConsumer(exp).compare().loc["naive", "written"] == 0  # a new one begins with an empty folder


def test_a_naive_consumer_that_saves_nothing_is_not_killed_but_an_error(base: Config) -> None:
    """There would be nothing to see: neither a house that is lost nor one that comes twice."""
    with Experiment("unsaved", base=base) as exp, NaiveConsumer(exp) as naive:
        with (
            patch.object(NaiveConsumer, "_since_save_s", return_value=0.0),
            patch("houses.lab.naive._PATIENCE_S", 0.3),
            pytest.raises(HousesError, match=r"has saved no position for 0 s"),
        ):
            naive.kill()
        assert naive._child and naive._child.alive


def test_a_naive_consumer_that_ends_by_itself_is_an_error_with_its_last_line(base: Config) -> None:
    """Here its file of positions is damaged."""
    with Experiment("damaged", base=base) as exp:
        naive = NaiveConsumer(exp)
        positions = exp.folder / "naive" / NAIVE_POSITIONS
        positions.parent.mkdir()
        positions.write_text("[")
        os.utime(positions, (0, 0))  # so that it has not just been saved
        naive.start()
        with pytest.raises(HousesError, match=r"the naive consumer ended .*naive\.log"):
            naive.kill()


def test_a_naive_consumer_that_is_stopped_at_once_still_reads_what_is_there(base: Config) -> None:
    """The request comes before it has connected."""
    with Experiment("hasty", rate_hz=200, base=base) as exp:
        with exp.running(seconds=0.3):
            pass
        naive = NaiveConsumer(exp)
        naive.start()
        naive.stop()
        assert naive.compare().loc["naive"].tolist() == [exp.sent["wall"], 0, 0]


def test_without_a_kill_the_naive_consumer_is_right_too(base: Config) -> None:
    """Which is why nobody notices."""
    with Experiment("lucky", rate_hz=200, base=base) as exp:
        with NaiveConsumer(exp) as naive, exp.running(seconds=0.5):
            pass
        assert naive.compare().loc["naive"].tolist() == naive.compare().loc["exactly once"].tolist()


def test_a_table_for_a_page_is_escaped_and_has_times_to_the_millisecond() -> None:
    """Text of messages is anybody's."""
    time = pd.Timestamp("2026-01-31T12:00:00.123456Z")
    frame = pd.DataFrame({"time": [time] * 3, "value": ["<script>"] * 3, "ms": [1234.56] * 3})
    frame["raw"] = [b"<script>"] * 3
    frame["several"] = [["<script>"], float("nan"), ["<script>"]]
    html = as_table(frame, rows=2).to_html()
    assert "<script>" not in html and html.count("&lt;script&gt;") == 3 * 2 - 1 and "nan" not in html
    assert "12:00:00.123456" in html and "1,234.6" in html
