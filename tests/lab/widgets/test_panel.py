"""The panel without a page: what its widgets do, and what a frame says."""

import json
import threading
import time
from typing import Any

import psutil
import pytest
from support.kafka_lab import wait_until

import houses
from houses.config.config import Config
from houses.lab.consumer_process import ConsumerChild
from houses.lab.experiment import Experiment
from houses.lab.widgets.panel import Panel, panel

EVIL = "<img src=x onerror=alert(1)>"


def frame(shown: Panel, newest_ms: int = 0) -> dict[str, Any]:
    """What the page would get now, which must be plain JSON."""
    made: dict[str, Any] = json.loads(json.dumps(shown._frame(newest_ms)))
    return made


def status(shown: Panel) -> dict[str, str]:
    """The rows of the status by name."""
    return dict(frame(shown)["status"])


def wait_for_work(exp: Experiment) -> None:
    """Until what was clicked is done."""
    wait_until(lambda: not exp.background.doing, "the background work is done")


def test_houses_panel_is_the_function() -> None:
    """The module of that name is in another folder, and does not take its place."""
    assert houses.panel is panel


def test_start_stop_and_reset_work_and_are_disabled_when_they_make_no_sense(exp: Experiment) -> None:
    """Each click returns at once; the work is done beside it."""
    shown = panel(exp)

    def disabled() -> tuple[bool, ...]:
        shown._synchronise()
        return shown._start.disabled, shown._stop.disabled, shown._reset.disabled

    assert disabled() == (False, True, False)
    shown._start.click()
    assert disabled() == (True, True, True) and status(shown)["experiment"] == "starting"
    wait_for_work(exp)
    assert disabled() == (True, False, True) and status(shown)["experiment"] == "running"
    wait_until(lambda: status(shown)["consumer"] == "running", "the consumer is seen")
    shown._start.click()  # twice does no harm
    wait_for_work(exp)
    shown._stop.click()
    wait_for_work(exp)
    assert disabled() == (False, True, False) and exp.verify().unread == 0
    assert status(shown)["experiment"] == "not running" and status(shown)["consumer"] == "stopped"
    topic = exp.config.kafka.topic
    shown._reset.click()
    shown._reset.click()
    assert disabled() == (True, True, True)
    wait_for_work(exp)
    assert disabled() == (False, True, False) and exp.config.kafka.topic != topic
    assert status(shown)["consumer"] == "not started" and dict(frame(shown)["counters"])["houses"] == "0"


def test_reset_asks_once_more(exp: Experiment) -> None:
    """The first click only changes the button."""
    shown, before = panel(exp), exp.config.kafka.topic
    shown._reset.click()
    shown._synchronise()
    assert shown._reset.description == "Delete all?" and exp.config.kafka.topic == before
    shown._reset.click()
    wait_for_work(exp)
    assert exp.config.kafka.topic != before and exp.background.last_error == ""
    assert frame(shown)["series"] == exp.config.kafka.topic
    shown._synchronise()
    assert shown._reset.description == "Reset"


def test_rates_and_faults_reach_the_experiment_and_every_other_panel(exp: Experiment) -> None:
    """Slider and box show the same; the box goes beyond the slider's end; shares are in per cent."""
    one, other = panel(exp), panel(exp)
    one._rates["wall"][0].value = 1000
    one._rates["roof"][1].value = 12_345
    one._faults["wall", "drop"].value = 2.9
    one._faults["wall", "delay_ms"].value = 300
    assert exp.rate_hz("wall") == 1000 and exp.rate_hz("roof") == 12_345 and exp.rate_hz("foundation") == 200
    assert exp.faults("wall").drop == pytest.approx(0.029) and exp.faults("wall").delay_ms == 300
    for shown in (one, other):
        shown._synchronise()
        assert [widget.value for widget in shown._rates["roof"]] == [5_000, 12_345]
        assert shown._faults["wall", "drop"].value == 2.9 and shown._faults["wall", "delay_ms"].value == 300
    assert exp.rate_hz("roof") == 12_345  # showing it on a slider that ends at 5,000 has not changed it
    one._all[0].value = 500
    assert {exp.rate_hz(name) for name in ("foundation", "wall", "roof")} == {500}


@pytest.mark.parametrize("hz", [0, 200, 1000, 2500.5])
@pytest.mark.parametrize("exactly", [0, 1])
def test_all_parts_can_be_set_to_any_rate_whatever_they_are(exp: Experiment, hz: float, exactly: int) -> None:
    """Also to one that a part has already; only the highest needs the box: a slider is there when they differ."""
    shown = panel(exp)
    exp.set_rate(1000, "wall")
    shown._synchronise()
    assert (shown._all[0].value, shown._all[1].value) == (1000, "")
    shown._all[exactly].value = str(hz) if exactly else hz
    expected = [hz] * 3 if hz != 1000 or exactly else [200, 1000, 200]
    assert [exp.rate_hz(name) for name in ("foundation", "wall", "roof")] == expected
    shown._synchronise()
    assert shown._all[1].value == (f"{hz:g}" if hz != 1000 or exactly else "") and frame(shown)["error"] == ""


def test_a_value_that_is_not_allowed_is_an_error_line_and_the_box_shows_what_is_set(exp: Experiment) -> None:
    """No other value is made of it without a word."""
    shown = panel(exp)
    rate, drop = shown._rates["wall"][1], shown._faults["roof", "drop"]
    for box, typed, said in (
        (rate, 25_000, "rates.wall = 25000"),
        (rate, -1, "= -1"),
        (drop, 150, "roof, drop (%) = 150: must be 0 to 100"),
    ):
        before = box.value
        box.value = typed
        assert said in shown._dashboard.look(0)["error"]
        frame(shown)
        assert box.value == before


@pytest.mark.parametrize("typed", ["many", "", "-1", "nan", "1e9"])
def test_a_bad_rate_for_all_is_an_error_line(exp: Experiment, typed: str) -> None:
    """And changes nothing."""
    shown = panel(exp)
    shown._all[1].value = typed
    assert "must be" in frame(shown)["error"] or "should be" in frame(shown)["error"]
    assert exp.rate_hz("wall") == 200 and shown._all[1].value == "200"


def test_what_a_cell_sets_is_shown(exp: Experiment) -> None:
    """And showing it sets nothing."""
    shown = panel(exp)
    exp.set_rate(77, "wall")
    exp.set_faults("roof", duplicate=0.5)
    before = exp.config
    frame(shown)
    assert shown._rates["wall"][1].value == 77 and shown._faults["roof", "duplicate"].value == 50
    assert exp.config is before


def test_a_storno_is_sent_for_the_id_that_was_typed_or_a_recent_one(exp: Experiment) -> None:
    """Whole or one part, once or again and again."""
    shown = panel(exp)
    with exp.running():
        wait_until(lambda: min(exp.sent.values()) > 0, "a house is sent")
        shown._storno_id.value, shown._storno_part.value = " 1000000 ", "wall"
        shown._storno_once.click()
        wait_for_work(exp)
        frame(shown)
        said = [shown._storno_said.value]
        shown._storno_id.value, shown._storno_part.value = "", "whole house"
        shown._storno_once.click()
        wait_for_work(exp)
        frame(shown)
        said.append(shown._storno_said.value)
        shown._storno_every_s.value, shown._storno_again.value = 0.1, True
        wait_for_work(exp)
        assert exp.storno_interval_s == 0.1
        shown._storno_every_s.value = -5
        assert frame(shown)["error"] == "producer.storno_interval_sec = -5.0: must be 0.01 or more"
        shown._storno_every_s.value = 60
        wait_for_work(exp)
        assert exp.storno_interval_s == 60 and frame(shown)["error"] == ""
        exp.storno_every(7)
        shown._synchronise()
        assert shown._storno_every_s.value == 7 and shown._storno_again.value
        shown._storno_again.value = False
        wait_for_work(exp)
        assert exp.storno_interval_s is None and exp.background.last_error == ""
    stornos = exp.peek("storno", count=100, start=0)["value"].tolist()
    assert (
        stornos[0] == '{"id":1000000,"partition":2}'
        and stornos[1].startswith('{"id":')
        and "partition" not in stornos[1]
    )
    chosen = json.loads(stornos[1])["id"]
    assert said == ["wall of 1000000 cancelled", f"house {chosen} cancelled"]


@pytest.mark.parametrize("typed", ["seven", "-7", "1e3", "\u0667", "1" * 19, EVIL])
def test_a_bad_id_is_an_error_line_that_quotes_it(exp: Experiment, typed: str) -> None:
    """It goes away with the next thing that is done."""
    shown = panel(exp)
    shown._storno_id.value = typed
    shown._storno_once.click()
    error = frame(shown)["error"]
    assert repr(typed)[:20] in error and "must be 1 to 18 digits" in error
    shown._rates["wall"][1].value = 3
    assert frame(shown)["error"] == ""


def test_the_error_of_work_that_was_clicked_is_shown(exp: Experiment) -> None:
    """Here the folder's files are damaged, so the consumer does not start."""
    shown = panel(exp)
    exp.config.houses_path.write_bytes(EVIL.encode() + b"\n")
    shown._start.click()
    wait_for_work(exp)
    assert "damaged at byte 0" in frame(shown)["error"]
    assert status(shown)["experiment"] == "not running"


def test_any_error_of_a_handler_is_shown(exp: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only those that we expect."""

    def fail(*_: object) -> None:
        raise RuntimeError("the roof fell in")

    shown = panel(exp)
    monkeypatch.setattr(exp, "set_rate", fail)
    shown._rates["wall"][1].value = 3
    assert frame(shown)["error"] == "RuntimeError: the roof fell in"


def test_each_start_shows_a_consumer_that_starts(exp: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of Kafka before this start's own consumer has said something; its process begins when that was seen."""
    monkeypatch.setattr(
        "houses.lab.widgets.dashboard._SILENT_S", float("inf")
    )  # as a consumer may be for a while on a busy machine
    looked_at, start = threading.Event(), ConsumerChild.start

    def start_when_looked_at(child: ConsumerChild) -> None:
        assert looked_at.wait(60)
        start(child)

    monkeypatch.setattr(ConsumerChild, "start", start_when_looked_at)
    shown = panel(exp)

    def consumer_and_kafka() -> tuple[str, str]:
        rows = status(shown)
        return rows["consumer"], rows["Kafka"]

    for _ in range(2):
        seen: list[tuple[str, str]] = []
        looked_at.clear()
        shown._start.click()
        wait_until(lambda: consumer_and_kafka() == ("starting", "unknown"), "a start is seen")
        looked_at.set()
        while exp.background.doing:
            seen.append(consumer_and_kafka())
        wait_until(lambda: status(shown)["consumer"] == "running", "the consumer is seen")
        assert set(seen) <= {("starting", "unknown")} | {
            (state, "answers") for state in ("starting", "recovering", "running")
        }
        shown._stop.click()
        seen = []
        while exp.background.doing:
            made = frame(shown)
            seen.append((dict(made["status"])["consumer"], made["error"]))
        assert set(seen) <= {("running", ""), ("stopped", "")}


def test_while_no_consumer_lives_the_lag_grows_and_is_about(exp: Experiment) -> None:
    """Producers go on. Nobody knows how Kafka is, and what the killed one wrote last is in no line."""
    shown = panel(exp)

    def lag() -> int:
        about, number, _ = status(shown)["lag"].split()
        assert about == "about"
        return int(number.replace(",", ""))

    with exp.running():
        wait_until(lambda: dict(frame(shown)["counters"])["houses"] not in ("0", "1"), "houses are counted")
        assert "about" not in status(shown)["lag"] and "about" not in str(frame(shown)["counters"])
        exp.kill_consumer()
        rows = status(shown)
        assert (rows["consumer"], rows["Kafka"]) == ("killed", "unknown") and rows["pending"].startswith("about ")
        first, sent = lag(), sum(exp.sent.values())
        wait_until(lambda: sum(exp.sent.values()) > sent + 60, "more is sent")
        assert lag() >= first + 60
        assert dict(frame(shown)["counters"])["houses"].startswith("about ")
        exp.restart_consumer()
        wait_until(lambda: status(shown)["consumer"] == "running", "the next consumer is seen")
        assert "about" not in status(shown)["lag"] and status(shown)["Kafka"] == "answers"
    counters = dict(frame(shown)["counters"])
    assert counters["houses"].startswith("about ")
    assert 0 < int(counters["houses"].split()[-1].replace(",", "")) <= len(exp.houses())


def test_a_consumer_that_ended_by_itself_is_told_from_one_that_was_killed(exp: Experiment) -> None:
    """With what it said last."""
    shown = panel(exp)
    exp.start()
    assert exp.consumer is not None
    psutil.Process(exp.consumer.pid).kill()
    wait_until(lambda: status(shown)["consumer"] == "ended", "its end is seen")
    assert status(shown)["Kafka"] == "unknown"
    assert frame(shown)["error"].startswith("the consumer was killed by SIGKILL; nothing is lost")
    with pytest.raises(houses.HousesError, match="ended"):
        exp.stop()


def test_an_error_of_repeated_stornos_is_shown_while_they_go_on(
    exp: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the stop that raises it."""

    def fail(*_: object) -> None:
        raise RuntimeError("no storno today")

    monkeypatch.setattr("houses.producer.storno.StornoSender.send", fail)
    shown = panel(exp)
    with exp.running():
        exp.storno_every(0.1)
        wait_until(lambda: frame(shown)["error"] == "RuntimeError: no storno today", "the error is seen")
        assert exp.storno_interval_s == 0.1
        with pytest.raises(RuntimeError, match="no storno today"):
            exp.storno_every(None)


def test_a_panel_that_is_first_looked_at_when_the_experiment_is_closed_has_its_counts(base: Config) -> None:
    """As after Run All: the last cell has closed it before the page asks for the first frame."""
    with Experiment("panel", rate_hz=200, base=base) as exp:
        with exp.running(seconds=0.3):
            pass
        shown, houses = panel(exp), len(exp.houses())
    counters = dict(frame(shown)["counters"])
    assert houses and counters["houses"] == counters["wall"] == f"{houses:,}"


def test_the_panel_of_a_closed_experiment_says_so_and_follows_nothing(base: Config) -> None:
    """Made anew, its folder is that of another experiment."""
    with Experiment("panel", rate_hz=200, base=base) as first:
        shown = panel(first)
        with first.running(seconds=0.3):
            pass
        before = frame(shown)
        with Experiment("panel", rate_hz=200, base=base) as second, second.running(seconds=1.0):
            pass
        after = frame(shown)
    assert "closed: run the cell that makes it (houses.Experiment(...))" in after["error"]
    assert dict(after["status"])["experiment"] == "closed"
    assert after["counters"] == before["counters"] and after["series"] == before["series"]
    buttons = (shown._start, shown._stop, shown._reset, shown._storno_once, shown._storno_again)
    boxes = [*shown._all, *shown._rates["wall"], shown._faults["roof", "drop"]]
    assert all(widget.disabled for widget in (*buttons, *boxes))


def test_a_killed_consumer_and_a_failed_producer_are_seen(exp: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """In plain words."""

    def fail(*_: object) -> None:
        raise RuntimeError("the roof fell in")

    shown = panel(exp)
    exp.start()
    exp.kill_consumer()
    assert status(shown)["consumer"] == "killed"
    monkeypatch.setattr("houses.producer.stream.encode_parts", fail)
    wait_until(lambda: bool(exp.producer_error), "a producer has failed")
    assert frame(shown)["error"] == "RuntimeError: the roof fell in"
    with pytest.raises(RuntimeError, match="the roof fell in"):
        exp.stop()


def test_a_frame_brings_only_the_points_that_are_new(exp: Experiment) -> None:
    """And counters that agree with the files."""
    shown = panel(exp)
    with exp.running():
        wait_until(lambda: len(frame(shown)["points"]) > 3, "some points")
    whole = frame(shown)
    assert all(len(point) == 4 for point in whole["points"])
    assert frame(shown, whole["points"][-2][0])["points"] == whole["points"][-1:]
    counters = dict(whole["counters"])
    assert counters["houses"] == f"{len(exp.houses()):,}" and counters["wall"] == f"{exp.sent['wall']:,}"


def test_the_chart_stands_still_at_the_end_of_a_run_without_what_the_stop_completes(exp: Experiment) -> None:
    """Its last minute stays to be looked at, at the scale of the run; the roofs come all at once at the stop."""
    exp.set_rate(0, "roof")
    shown = panel(exp)
    with exp.running():
        wait_until(lambda: exp.sent["wall"] > 100 and len(frame(shown)["points"]) > 3, "walls are sent")
        running = frame(shown)
        before_ms = time.time_ns() // 1_000_000
    ended, later = frame(shown), frame(shown)
    assert running["live"] and running["now_ms"] <= before_ms <= ended["now_ms"]
    assert not ended["live"] and ended["now_ms"] == later["now_ms"] == exp.done_ms
    assert len(ended["points"]) >= len(running["points"]) and {point[1] for point in ended["points"]} == {0}
    assert len(exp.houses()) > 100 and any(point.houses_hz > 0 for point in shown._dashboard._feed.points)
    with exp.running():
        again = frame(shown)
        assert again["live"] and again["now_ms"] > ended["now_ms"]
        assert {point[1] for point in again["points"] if point[0] <= exp.pauses_ms[0][1]} == {0}
    exp.reset()
    assert frame(shown)["live"] and frame(shown)["points"] == []


def test_an_answer_names_the_view_that_asked_and_an_error_is_an_answer_too(exp: Experiment) -> None:
    """An answer reaches every view of the widget; silence would look like a kernel that is gone."""
    shown = panel(exp)
    sent: list[dict[str, Any]] = []
    shown._chart.send = sent.append
    shown._chart._handle_custom_msg({"view": "v1", "newest_ms": 0}, [])
    shown._chart._handle_custom_msg({"view": "v1", "newest_ms": "many"}, [])
    shown._chart._handle_custom_msg({}, [])
    assert [answer["view"] for answer in sent] == ["v1", "v1", None] and "status" in sent[0]
    assert sent[1].keys() == {"view", "error"} and "'many'" in sent[1]["error"] and "newest_ms" in sent[2]["error"]


def test_a_panel_owns_no_thread(exp: Experiment) -> None:
    """The page asks; nobody pushes."""
    before = threading.active_count()
    for _ in range(3):
        frame(panel(exp))
    assert threading.active_count() == before


def test_a_saved_page_shows_a_sentence_instead_of_a_blank(exp: Experiment) -> None:
    """Without a kernel a widget cannot be shown."""
    bundle = panel(exp)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/html"].startswith("<p><em>Panel of experiment shared: ")


def test_taken_up_again_the_panel_shows_what_is_there(base: Config) -> None:
    """After a restart of the kernel: totals of all consumers so far, and it can be started."""
    with Experiment("again", rate_hz=200, base=base) as first, first.running(seconds=0.5):
        pass
    with Experiment("again", base=base, fresh=False) as exp:
        shown = panel(exp)
        counters = dict(frame(shown)["counters"])
        assert {counters[name] for name in ("foundation", "wall", "roof", "houses")} == {f"{len(exp.houses()):,}"}
        assert status(shown)["consumer"] == "stopped"
        shown._start.click()
        wait_for_work(exp)
        assert exp.is_running
