"""Experiments steered while they run: from other threads, to a crash point, to a new beginning."""

import builtins
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from support.kafka_lab import read_parts, wait_until

from houses.config.config import Config
from houses.errors import ConfigError, HousesError
from houses.lab.consumer_process import ConsumerChild
from houses.lab.experiment import Experiment
from houses.lab.run import Run
from houses.producer.producers import Producers
from houses.producer.storno import StornoLoop
from houses.records.message import PARTS
from houses.system.log import HOUSES, show_in_notebook

TIMEOUT_S = 60
PART_NAMES = {part.name for part in PARTS}


# --- the consumer ---


@pytest.mark.parametrize(
    "at",
    [
        "before sync houses.jsonl 5",
        "after write houses.jsonl 5",
        "after sync houses.jsonl 5",
        "after rename storno_ids.json",  # of the first checkpoint: it dies before it reads anything
        "before rename consumer_offsets.json 2",
    ],
)
def test_a_consumer_that_dies_at_a_crash_point_loses_and_doubles_nothing(base: Config, at: str) -> None:
    """Whether before or after the write, the sync, or a step of a checkpoint."""
    with Experiment("crash", rate_hz=300, base=base, offset_save_interval_sec=0.3) as exp:
        with exp.running():
            exp.crash_consumer(at)
            assert not exp.consumer_alive
            exp.restart_consumer()
            exp.wait(0.3)
        certificate = exp.verify()
        assert certificate.unread == certificate.pending_ids == 0
        assert len(exp.houses()) == exp.sent["wall"] > 0


def test_a_crash_point_that_is_never_reached_is_an_error_that_names_it(
    exp: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no stornos, so their file is never written."""
    monkeypatch.setattr("houses.lab.consumer_process.ConsumerChild.await_crash.__defaults__", (0.3,))
    with (
        exp.running(),
        pytest.raises(HousesError, match=r"crash point \(after write storno_houses\.jsonl 1\) within 0"),
    ):
        exp.crash_consumer("after write storno_houses.jsonl")


def test_a_crash_point_in_another_form_is_refused_before_anything_happens(exp: Experiment) -> None:
    """The consumer lives on."""
    with exp.running():
        with pytest.raises(ConfigError, match=r"crash point 'during lunch'.*for example: after sync houses\.jsonl 200"):
            exp.crash_consumer("during lunch")
        assert exp.consumer_alive


def test_restarts_from_another_thread_do_not_disturb_the_one_that_waits(exp: Experiment) -> None:
    """Between two consumers there is none for a moment, which is no error."""
    failures: list[BaseException] = []

    def restart() -> None:
        try:
            for _ in range(8):
                exp.restart_consumer()
        except HousesError as error:
            failures.append(error)

    with exp.running():
        thread = threading.Thread(target=restart)
        thread.start()
        while thread.is_alive():
            exp.wait(0.05)
    assert failures == [] and exp.verify().unread == 0


def test_catch_up_returns_when_all_that_was_there_is_read(exp: Experiment) -> None:
    """A storno that was sent before has its effect."""
    with exp.running():
        exp.storno(1_000_000)
        exp.catch_up()
        assert exp.latest()["counts"]["stornos"] == 1


@pytest.mark.parametrize("then", ["restart_consumer", "stop"])
def test_catching_up_goes_on_with_the_next_consumer_or_ends_with_a_stop(
    exp: Experiment, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Another thread ends the consumer that it waits for."""
    drain, waits, failures = ConsumerChild.drain, threading.Event(), list[Exception]()

    def until_it_ends(child: ConsumerChild, ends: Mapping[int, int]) -> None:
        if not waits.is_set():
            waits.set()
            wait_until(lambda: not child.alive, "the consumer has ended")
            child.check()
        drain(child, ends)

    def catch_up() -> None:
        try:
            exp.catch_up()
        except HousesError as error:
            failures.append(error)

    monkeypatch.setattr(ConsumerChild, "drain", until_it_ends)
    with exp.running():
        thread = threading.Thread(target=catch_up)
        thread.start()
        assert waits.wait(20)
        getattr(exp, then)()
        thread.join()
    assert failures == []


def test_what_is_awaited_and_does_not_come_is_an_error(exp: Experiment) -> None:
    """Whoever goes on as if it had come would say something of nothing."""
    with exp.running():
        exp.wait_until(lambda: exp.sent["wall"] > 0, TIMEOUT_S)
        with pytest.raises(HousesError, match=r"shared: not what was awaited after 0\.2 s: see consumer\.log there"):
            exp.wait_until(lambda: False, 0.2)
        with pytest.raises(HousesError, match="no castle after"):
            exp.wait_until(lambda: False, 0, "no castle")


def test_what_is_sent_is_never_seen_less_than_before(exp: Experiment) -> None:
    """Not even while a run that has ended becomes an earlier one: whoever asks then waits for that."""
    seen = list[dict[str, int]]()

    class Watched(Counter[str]):
        def update(self, *more: Any, **named: int) -> None:
            thread = threading.Thread(target=lambda: seen.append(exp.sent))
            threads.append(thread)
            thread.start()
            thread.join(0.2)
            super().update(*more, **named)

    with exp.running(seconds=0.3):
        pass
    threads = list[threading.Thread]()
    with exp.running(seconds=0.3):
        exp._sent = Watched(exp._sent)
        threads.clear()
        seen.clear()
    for thread in threads:
        thread.join()
    assert seen == [exp.sent]


def test_a_rate_that_is_set_while_a_run_is_being_made_reaches_it(
    exp: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the settings were read, and before anybody knows of the run."""
    threads = list[threading.Thread]()

    def made(config: Config) -> Run:
        run = Run(config)
        threads.append(threading.Thread(target=exp.set_rate, args=(70, "wall")))
        threads[0].start()
        threads[0].join(0.2)
        return run

    monkeypatch.setattr("houses.lab.experiment.Run", made)
    with exp.running():
        threads[0].join()
        assert exp.part_counts()["wall"].rate_hz == 70


# --- stopped by somebody else ---


def test_a_stop_by_another_thread_ends_the_wait_of_the_cell(exp: Experiment) -> None:
    """In good order: the cell ends without an error, and everything is read."""
    with exp.running(seconds=30):
        exp.wait(0.3)
        exp.background.submit("stopping", exp.stop)
    assert exp.background.last_error == "" and not exp.is_running
    assert exp.verify().unread == 0


def test_a_cell_that_fails_ends_its_own_run_and_no_later_one(exp: Experiment) -> None:
    """Somebody has stopped that one meanwhile and started the next, with the buttons of a panel."""

    def cell() -> None:
        with exp.running():
            exp.stop()
            exp.start()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cell()
    assert exp.is_running and exp.consumer_alive
    exp.stop()
    assert exp.verify().unread == 0


def test_an_experiment_made_again_inside_its_own_run_is_an_error(base: Config, said: list[str]) -> None:
    """The outer one has lost its topics and says so, instead of ending as if all were well."""
    with (
        Experiment("self", rate_hz=100, base=base) as exp,
        pytest.raises(HousesError, match="stopped at once by somebody else"),
        exp.running(),
        Experiment("self", rate_hz=100, base=base),
    ):
        pass
    assert "experiment 'self' was still running: it is stopped first" in said


def test_a_failing_producer_is_raised_by_the_cell_that_waits(exp: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Papermill and nbmake see nothing of an exception in a thread."""

    def fail(*_: object) -> None:
        raise RuntimeError("the roof fell in")

    exp.start()
    monkeypatch.setattr("houses.producer.stream.encode_parts", fail)
    with pytest.raises(RuntimeError, match="the roof fell in"), exp.running(seconds=30):
        pass
    assert not exp.is_running and not exp.consumer_alive


def test_an_interrupted_stop_is_completed_by_the_next(base: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes while it sends the last houses: what was handed over still reaches Kafka."""
    send_through = Producers.send_through

    def interrupted(producers: Producers, house_id: int) -> None:
        send_through(producers, house_id)
        raise KeyboardInterrupt

    with Experiment("interrupted", rate_hz=1000, base=base, linger_ms=3000) as exp:
        monkeypatch.setattr(Producers, "send_through", interrupted)
        with pytest.raises(KeyboardInterrupt), exp.running(seconds=0.5):
            pass
        sent = exp.sent
        assert min(sent.values()) > 0
        assert {name: len(messages) for name, messages in read_parts(exp.config).items()} == sent


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 0.3])
def test_closing_in_the_middle_of_a_start_leaves_nothing_running(base: Config, after_s: float) -> None:
    """Whoever clicks Start and then runs the last cell, or the first one again."""
    exp = Experiment("hasty", rate_hz=100, base=base)
    exp.background.submit("starting", exp.start)
    time.sleep(after_s)
    exp.close()
    assert not exp.is_running and not exp.consumer_alive
    assert not PART_NAMES & {thread.name for thread in threading.enumerate()}
    assert not [child for child in psutil.Process().children() if str(exp.folder) in " ".join(child.cmdline())]


def test_a_storno_loop_that_is_just_starting_is_ended_by_the_stop(
    exp: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection takes a moment, in another thread; here until the stop has begun."""
    connecting, stopping = threading.Event(), threading.Event()
    connect, stop = StornoLoop.start, Run.stop

    def connect_late(loop: StornoLoop) -> StornoLoop:
        connecting.set()
        assert stopping.wait(TIMEOUT_S)
        return connect(loop)

    def say_and_stop(run: Run, complete: bool) -> None:
        stopping.set()
        stop(run, complete)

    monkeypatch.setattr(StornoLoop, "start", connect_late)
    monkeypatch.setattr(Run, "stop", say_and_stop)
    exp.start()
    exp.background.submit("stornos", lambda: exp.storno_every(0.2))
    assert connecting.wait(TIMEOUT_S)
    exp.stop()
    exp.close()
    assert exp.background.last_error == ""
    assert not [thread for thread in threading.enumerate() if thread.name == "storno-loop"]


def test_a_failed_storno_does_not_keep_the_rest_from_ending_well(exp: Experiment) -> None:
    """Everything is sent and read; then the error is raised."""
    exp.set_rate(0, "roof")
    exp.start()
    exp.storno_every(60)
    assert exp._run and exp._run._storno_loop
    exp._run._storno_loop.error = HousesError("storno of house 3: not confirmed")
    exp.wait_until(lambda: exp.sent["wall"] > 0, TIMEOUT_S)
    with pytest.raises(HousesError, match="storno of house 3"):
        exp.stop()
    assert len(exp.houses()) == exp.sent["roof"] > 0
    assert exp.verify().unread == 0


def test_two_threads_may_write_the_summary_at_once(exp: Experiment) -> None:
    """A cell and the button of a panel."""
    errors: list[Exception] = []

    def write() -> None:
        try:
            for _ in range(30):
                exp.results.write_summary()
        except HousesError as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_what_other_threads_say_is_printed_nowhere(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cell of a notebook they would stand under whatever runs just then; what the main thread says is printed once."""
    log = logging.getLogger("houses.producer.sender")
    thread = threading.Thread(target=log.warning, args=("Kafka is away",))
    monkeypatch.setattr(builtins, "get_ipython", lambda: SimpleNamespace(kernel=object()), raising=False)
    log.info("nobody listens yet")
    try:
        show_in_notebook()
        show_in_notebook()
        thread.start()
        thread.join()
        log.info("Kafka starts")
        logging.getLogger("houses.consumer.loop").info("of another place")
    finally:
        HOUSES.removeHandler(HOUSES.handlers[-1])
        HOUSES.setLevel(logging.NOTSET)
        HOUSES.propagate = True
    assert capfd.readouterr() == ("Kafka starts\n", "")


# --- what is refused changes nothing ---


@pytest.mark.parametrize("part", ["", "rof"])
def test_settings_of_an_unknown_part_change_nothing(exp: Experiment, part: str) -> None:
    """An empty name is none either, and not all parts; whether it runs or not."""
    before = exp.config
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"part '{part}': must be one of"):
            exp.set_rate(5, part)
        with pytest.raises(ConfigError, match=f"part '{part}': must be one of"):
            exp.set_faults(part, drop=0.5)
        assert exp.config == before
        exp.start()


def test_bad_values_change_nothing(exp: Experiment) -> None:
    """Of all parts neither, and the stornos that come again and again go on."""
    before = exp.config
    with exp.running():
        exp.storno_every(60)
        refusals: list[Callable[[], None]] = [
            lambda: exp.set_rate(-1),
            lambda: exp.set_faults(drop=2),
            lambda: exp.set_faults("wall", dorp=0.5),
            lambda: exp.storno_every(0),
            lambda: exp.crash_consumer("at some time"),
        ]
        for refused in refusals:
            with pytest.raises(ConfigError):
                refused()
        assert exp.config == before and exp.storno_interval_s == 60 and exp.consumer_alive
        assert {counts.rate_hz for counts in exp.part_counts().values()} == {200}


def test_blind_faults_of_a_seed_that_is_none_leave_the_others(exp: Experiment) -> None:
    """What was set before stays."""
    exp.set_faults(drop=0.5)
    with pytest.raises(TypeError):
        exp.inject_blindly([1])  # type: ignore[arg-type]  # as a cell may
    assert exp.faults("wall").drop == 0.5


@pytest.mark.parametrize("fresh", [True, False])
def test_an_experiment_with_values_that_are_refused_leaves_the_earlier_one(base: Config, fresh: bool) -> None:
    """It runs on: the cell is corrected and run again."""
    with Experiment("kept", base=base) as earlier, earlier.running():
        for values in ({"rate_hz": -1}, {"linger_ms": -1}, {"nothing": 1}):
            with pytest.raises(ConfigError):
                Experiment("kept", base=base, fresh=fresh, **values)
        assert earlier.is_running and earlier.consumer_alive and not earlier.closed


# --- a new beginning ---


def test_reset_begins_anew_with_the_rates_and_faults_as_they_are_set(exp: Experiment) -> None:
    """Other topics, an empty folder, ids from 0."""
    with exp.running(seconds=0.3):
        exp.set_rate(70, "wall")
        exp.set_faults("roof", delay_ms=5)
    before = exp.config.kafka.topic
    exp.reset()
    assert exp.config.kafka.topic != before and exp.config.kafka.topic.startswith(before[:-8])
    assert set(exp.sent.values()) == {0} and exp.houses().empty and exp.latest() == {}
    assert exp.rate_hz("wall") == 70 and exp.rate_hz("roof") == 200 and exp.faults("roof").delay_ms == 5
    with exp.running(seconds=0.3):
        pass
    assert exp.verify().unread == 0 and exp.houses()["id"].min() == 0


def test_reset_keeps_the_settings_of_an_experiment_that_was_taken_up(base: Config) -> None:
    """Those that were given when it was made first, too; its topics and its group get one new suffix, not a second."""
    Experiment("kept", rate_hz=150, base=base, linger_ms=7).close()
    with Experiment("kept", base=base, fresh=False) as exp:
        before = exp.config
        exp.reset()
        assert exp.rate_hz("wall") == 150 and exp.config.producer.linger_ms == 7
        for old, new in (
            (before.kafka.topic, exp.config.kafka.topic),
            (before.consumer.storno_topic, exp.config.consumer.storno_topic),
            (before.consumer.group_id, exp.config.consumer.group_id),
        ):
            assert new != old and new[:-8] == old[:-8]


def test_a_reset_while_it_runs_stops_it_first(exp: Experiment) -> None:
    """As the button of a panel would."""
    exp.start()
    exp.reset()
    assert not exp.is_running and exp.houses().empty


def test_a_backlog_waits_for_the_next_consumer(exp: Experiment) -> None:
    """Whole houses, whatever rates and faults are set, and they count as sent."""
    exp.set_faults(drop=1.0)
    exp.set_rate(0)
    exp.send_backlog(5_000)
    assert set(exp.sent.values()) == {5_000} and exp.houses().empty
    with exp.running():
        with pytest.raises(HousesError, match="send a backlog before its start"):
            exp.send_backlog(1)
        exp.catch_up()
    assert len(exp.houses()) == 5_000


# --- stornos and blind faults ---


def test_stornos_come_again_and_again_until_they_are_ended(exp: Experiment) -> None:
    """The interval can be asked for, and a second call replaces the first."""
    with exp.running():
        assert exp.storno_interval_s is None
        exp.storno_every(60)
        exp.storno_every(0.05)
        assert exp.storno_interval_s == 0.05
        wait_until(lambda: exp.latest()["counts"].get("stornos", 0) >= 3, "three stornos are read")
        exp.storno_every(None)
        assert exp.storno_interval_s is None
        exp.catch_up()
        before = exp.latest()["counts"]["stornos"]
        time.sleep(0.3)
        assert exp.latest()["counts"]["stornos"] == before
        exp.storno_every(0.05)  # the end of the run ends it too
    assert not [thread for thread in threading.enumerate() if thread.name == "storno-loop"]


def test_a_closed_experiment_cancels_nothing(base: Config) -> None:
    """Its connection would stay, and its topics may be gone."""
    exp = Experiment("over", base=base)
    exp.close()
    with pytest.raises(HousesError, match="'over' is closed: take it up again"):
        exp.storno(1)
    assert exp._stornos is None


def test_blind_faults_are_the_only_ones(exp: Experiment) -> None:
    """What was set before, of whichever part, is off."""
    exp.set_faults(duplicate=0.5, malformed=0.1)
    exp.inject_blindly(1)
    assert {(exp.faults(part.name).duplicate, exp.faults(part.name).malformed) for part in PARTS} == {(0, 0)}


def test_blind_faults_follow_from_their_seed_alone(exp: Experiment) -> None:
    """One part is late, one drops; over many seeds it may be any of them."""
    guilty = set()
    for seed in range(40):
        exp.inject_blindly(seed)
        first = {part.name: exp.faults(part.name) for part in PARTS}
        exp.inject_blindly(seed)
        assert first == {part.name: exp.faults(part.name) for part in PARTS}
        (late,) = [name for name, faults in first.items() if faults.delay_ms]
        (lossy,) = [name for name, faults in first.items() if faults.drop]
        guilty.add((late, lossy))
    assert len(guilty) == len(PARTS) ** 2
