"""Experiments on a real Kafka: what a run leaves behind, and what ends it."""

import gc
import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.kafka_lab import make_config, wait_until

from houses.config import config
from houses.config.config import Config
from houses.errors import BrokerError, ConfigError, FolderError, HousesError, PositionError
from houses.kafka.broker import describe_topics, ensure_topics_named
from houses.kafka.clients import TopicInfo
from houses.lab.consumer_process import ConsumerChild
from houses.lab.experiment import Experiment
from houses.lab.run import Run
from houses.lab.run_folder import experiment_folder, full_keys
from houses.offsets.binding import Binding, load_binding, save_binding
from houses.records.message import PARTS
from houses.system.files import REAL
from houses.system.locks import FolderLock, is_alive

PART_NAMES = {part.name for part in PARTS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[Experiment]:
    """An experiment that was cancelled in, crashed and stopped: house 0 was written before its storno, house 900 not."""
    project = make_config(tmp_path_factory.mktemp("project"), kafka)
    with Experiment("finished", rate_hz=300, base=project, linger_ms=1) as exp:
        with exp.running(seconds=3):
            exp.storno(900)
            wait_until(lambda: 0 in exp.houses()["id"].tolist(), "house 0 is written")
            exp.storno(0, part="wall")
            exp.kill_consumer()
            exp.wait(0.2)
            exp.restart_consumer()
            wait_until(lambda: exp.sent["roof"] > 900, "house 900 is sent")
        yield exp


def consumer_pid(exp: Experiment) -> int:
    """Process id of the consumer, which has begun to write measurements."""
    wait_until(lambda: exp.latest().get("state") == "running", "the consumer reads")
    return int(exp.latest()["pid"])


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return not is_alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def producer_threads() -> list[str]:
    """Names of the producer threads of this process."""
    return [thread.name for thread in threading.enumerate() if thread.name in PART_NAMES]


# --- a run ---


def test_every_part_is_sent_to_the_same_id_and_every_house_comes_out_once(finished: Experiment) -> None:
    """Also after a kill in the middle, and proved from outside."""
    (sent,) = set(finished.sent.values())
    written = finished.houses()["id"].tolist()
    assert sorted([*written, 900]) == list(range(sent))
    certificate = finished.verify()
    assert certificate.unread == certificate.pending_ids == 0


def test_a_storno_of_a_written_house_is_late_and_one_before_its_parts_is_not(finished: Experiment) -> None:
    """House 0 keeps its line; house 900 has none in houses.jsonl."""
    stornos = finished.stornos().set_index("id")
    assert stornos["late"].to_dict() == {0: True, 900: False}
    assert stornos["excluded"].to_dict() == {0: "wall", 900: "foundation+wall+roof"}
    assert finished.houses().set_index("id")["storno"][0] == "partial"


def test_the_summary_file_holds_parameters_counts_latencies_and_the_certificate(finished: Experiment) -> None:
    """What a sweep over several runs compares."""
    finished.verify()
    summary = json.loads((finished.folder / "summary.json").read_bytes())
    assert summary["parameters"] == {"producer.msgs_per_sec": 300, "producer.rates": {}, "producer.linger_ms": 1}
    assert summary["counts"] == {"houses": len(finished.houses()), "late": 1, "cancelled": 1, "rejects": {}}
    assert 0 < summary["latency"]["p50_ms"] <= summary["latency"]["p99_ms"]
    assert summary["certificate"]["ok"] is True
    assert summary["seconds"] >= 3


def test_summary_shows_an_address_without_its_password(base: Config) -> None:
    """The other parameters stay as they were given."""
    with Experiment("leak", base=base, offset_store="redis://:hunter2@127.0.0.1:1", max_batch=5) as exp:
        exp.results.write_summary()
    text = (exp.folder / "summary.json").read_text()
    assert "hunter2" not in text
    shown = {"consumer.offset_store": "redis://127.0.0.1:1", "consumer.max_batch": 5}
    assert json.loads(text)["parameters"] == exp.summary()["parameters"] == shown


def test_seconds_are_those_of_the_producers_alone(base: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stop takes until all is read would make every short run look slow."""
    drain, seen = ConsumerChild.drain, []

    def slow_drain(child: ConsumerChild, ends: Mapping[int, int]) -> None:
        time.sleep(0.01)
        seen.append(exp.summary()["seconds"])
        time.sleep(0.01)
        drain(child, ends)

    monkeypatch.setattr(ConsumerChild, "drain", slow_drain)
    with Experiment("seconds", rate_hz=100, base=base) as exp, exp.running(seconds=0.3):
        pass
    assert seen == [exp.summary()["seconds"]] and seen[0] >= 0.3


def test_what_is_taken_up_is_counted_with_what_comes(base: Config) -> None:
    """Messages, seconds and parameters stand beside the houses of the same runs."""
    with Experiment("counted", rate_hz=200, base=base, linger_ms=1) as first, first.running(seconds=0.5):
        pass
    with Experiment("counted", base=base, fresh=False, max_batch=500) as exp:
        assert (exp.sent, exp.summary()["seconds"]) == (first.sent, first.summary()["seconds"])
        with exp.running(seconds=0.5):
            pass
    summary = exp.saved_summary()
    assert set(summary["sent"].values()) == {summary["counts"]["houses"]} and exp.sent["wall"] > first.sent["wall"]
    assert summary["seconds"] >= first.summary()["seconds"] + 0.5
    assert summary["parameters"] == first.summary()["parameters"] | {"consumer.max_batch": 500}


def test_seconds_are_unknown_when_an_earlier_run_ended_without_a_summary(base: Config) -> None:
    """They would not belong to its messages; the first run has written one, the second not."""
    with Experiment("unknown", rate_hz=200, base=base) as first:
        with first.running(seconds=0.3):
            pass
        first.start()
        wait_until(lambda: min(first.part_counts()[name].sent for name in PART_NAMES) > 0, "more is sent")
    with Experiment("unknown", base=base, fresh=False) as exp:
        assert exp.sent == first.sent and math.isnan(exp.summary()["seconds"])
        exp.results.write_summary()
        assert exp.saved_summary()["seconds"] is None


def test_a_damaged_summary_is_none(base: Config) -> None:
    """It is written anew in any case."""
    with Experiment("damaged", base=base) as exp:
        for text in ("", "[1]", "{"):
            (exp.folder / "summary.json").write_text(text)
            assert exp.saved_summary() == {}


def test_raw_messages_can_be_looked_at_by_part(finished: Experiment) -> None:
    """As they lie in Kafka, with their key."""
    first = finished.peek("wall", count=1, start=0).iloc[0]
    assert (first["partition"], first["offset"], first["key"]) == (1, 0, "0")
    assert first["value"].startswith("partition_2|id:0|ts:")
    assert finished.peek("storno")["value"].tolist() == ['{"id":900}', '{"id":0,"partition":2}']
    assert finished.peek(count=2)["partition"].tolist() == [0, 0, 1, 1, 2, 2]


def test_the_consumer_measures_itself_ten_times_a_second(finished: Experiment) -> None:
    """Two processes did, one after the other."""
    metrics = finished.metrics()
    assert metrics["pid"].nunique() == 2
    assert metrics["time"].diff().dt.total_seconds().median() == pytest.approx(0.1, abs=0.09)


def test_topics_and_group_are_the_experiments_own_and_in_its_config_file(finished: Experiment) -> None:
    """Name and the first digits of the folder's UUID, so that a class can share one broker."""
    binding = load_binding(REAL, finished.config.binding_path)
    assert binding is not None
    loaded = config.load(finished.folder / "config.yaml", {})
    for name in (loaded.kafka.topic, loaded.consumer.storno_topic, loaded.consumer.group_id):
        assert name.endswith(f"-finished-{binding.folder[:8]}")
    assert loaded.folder == finished.folder


def test_a_run_leaves_no_thread_no_process_and_no_connection(base: Config, kafka: str) -> None:
    """After `close`, which may be called again."""
    gc.collect()
    port = int(kafka.rpartition(":")[2])

    def connections() -> int:
        open_now = psutil.Process().net_connections("tcp")
        return sum(bool(c.raddr) and c.raddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in open_now)

    before = connections()
    exp = Experiment("leaks", rate_hz=100, base=base)
    with exp.running(seconds=0.3):
        exp.storno(1)
        pid = consumer_pid(exp)
        assert connections() > before and len(producer_threads()) == 3
    exp.close()
    exp.close()
    assert is_gone(pid) and not producer_threads()
    wait_until(lambda: connections() <= before, "the connections are closed")
    with pytest.raises(HousesError, match="is closed: take it up again"):
        exp.start()


# --- what ends a run ---


def test_an_exception_in_the_body_stops_both_and_the_rest_can_be_taken_up(base: Config) -> None:
    """What was sent is not lost: the next experiment with fresh=False reads it and goes on with the next id."""
    exp, pids = Experiment("broken", rate_hz=200, base=base), []

    def body() -> None:
        with exp.running():
            exp.wait(0.5)
            pids.append(consumer_pid(exp))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()
    assert is_gone(*pids) and not producer_threads() and not exp.is_running
    sent = max(exp.sent.values())
    with Experiment("broken", base=base, fresh=False) as again:
        with again.running(seconds=0.5):
            pass
        assert again.config.producer.msgs_per_sec == 200
        assert again.verify().unread == 0
        assert again.houses()["id"].max() > sent


def test_the_same_cell_run_twice_stops_the_earlier_experiment(base: Config, said: list[str]) -> None:
    """It says so; the earlier consumer ends, its topics go, and the new one begins with house 0."""
    first = Experiment("twice", rate_hz=200, base=base)
    first.start()
    pid = consumer_pid(first)
    with Experiment("twice", rate_hz=200, base=base) as second:
        assert "experiment 'twice' was still running: it is stopped first" in said
        assert is_gone(pid) and not producer_threads()
        with second.running(seconds=0.3):
            pass
        assert second.houses()["id"].min() == 0
        assert not describe_topics(base.kafka, [first.config.kafka.topic, first.config.consumer.storno_topic])
    first.close()


def test_an_experiment_is_made_again_although_its_consumer_was_killed_from_outside(
    base: Config, said: list[str]
) -> None:
    """How the earlier one ended is a warning, which quotes nothing as an error that is none."""
    first = Experiment("oom", rate_hz=100, base=base)
    first.start()
    psutil.Process(consumer_pid(first)).kill()
    with Experiment("oom", rate_hz=100, base=base) as second, second.running(seconds=0.3):
        pass
    warned = [line for line in said if line.startswith("experiment 'oom'")]
    assert warned[0] == "experiment 'oom' was still running: it is stopped first"
    assert warned[1].startswith(
        "experiment 'oom', the earlier one: the consumer was killed by SIGKILL; nothing is lost"
    )
    assert second.verify().unread == 0


def test_a_stop_in_the_middle_of_a_start_leaves_nothing_running(base: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds a run in which nothing runs yet, and the start finds it ended."""
    real = Run.start

    def start(run: Run) -> None:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(exp.stop).result()
        real(run)

    with Experiment("late", rate_hz=100, base=base) as exp:
        with monkeypatch.context() as patched:
            patched.setattr(Run, "start", start)
            with pytest.raises(HousesError, match="it was stopped at once by somebody else"):
                exp.start()
        assert not exp.is_running and exp.consumer is None and not producer_threads()
        with exp.running(seconds=0.3):
            pass
        assert exp.verify().unread == 0 and exp.sent["wall"] > 0


def test_a_consumer_that_ends_by_itself_is_an_error_with_its_last_line(base: Config) -> None:
    """Here it was stopped from outside, as by `houses stop`."""
    with Experiment("ended", rate_hz=100, base=base) as exp:
        with (
            pytest.raises(
                HousesError, match=r"the consumer ended by itself \(exit status 0\): Stopped: .*consumer\.log"
            ),
            exp.running(30),
        ):
            psutil.Process(consumer_pid(exp)).terminate()
        assert not producer_threads()


def test_a_consumer_that_cannot_start_is_an_error_with_its_last_line(base: Config) -> None:
    """Nothing is sent before it reads."""
    exp = Experiment("damaged", rate_hz=100, base=base)
    exp.config.houses_path.write_bytes(b"no house\n")
    with pytest.raises(HousesError, match=r"the consumer ended with an error: .*houses\.jsonl: damaged at byte 0"):
        exp.start()
    assert exp.sent == dict.fromkeys(PART_NAMES, 0)


def test_leaving_with_the_consumer_killed_names_the_way_on(base: Config) -> None:
    """The messages stay in Kafka."""
    with Experiment("killed", rate_hz=100, base=base) as exp:
        with pytest.raises(HousesError, match=r"restart_consumer"), exp.running(0.5):
            exp.kill_consumer()
        assert not exp.is_running


def test_a_consumer_that_does_not_come_to_the_end_is_an_error_that_names_the_lag(base: Config) -> None:
    """Here it is asked for 1,000,000 messages that nobody sent."""
    with Experiment("lag", rate_hz=0, base=base) as exp, exp.running():
        assert exp._run is not None
        with pytest.raises(HousesError, match=r"after 0 s the consumer has still 1000000 messages to read"):
            exp._run.child.drain({0: 1_000_000}, timeout_s=0.3)


def test_without_complete_houses_stay_open_until_a_later_run_completes_them(base: Config) -> None:
    """The roof is paused: no house is complete, and each is as soon as the roof may send on."""
    with Experiment("open", rate_hz=100, base=base, rates__roof=0) as exp:
        with exp.running(seconds=0.5, complete=False):
            pass
        assert exp.houses().empty and exp.sent["roof"] == 0 < exp.sent["wall"]
        assert exp.verify().pending_ids > 0
        with exp.running(seconds=0.3):
            pass
        assert not exp.houses().empty and exp.sent["roof"] > 0


# --- while it runs ---


def goes_on(exp: Experiment) -> set[str]:
    """The parts that are still sent."""
    before = exp.sent
    exp.wait(0.2)
    return {name for name, count in exp.sent.items() if count > before[name]}


def test_rates_and_faults_change_while_it_runs(base: Config) -> None:
    """Every wall is dropped from then on, and in the end nothing is sent at all."""
    with Experiment("live", rate_hz=300, base=base) as exp, exp.running():
        wait_until(lambda: exp.sent["wall"] > 0, "the wall is sent")
        exp.set_faults("wall", drop=1)
        wait_until(lambda: goes_on(exp) == {"foundation", "roof"}, "the walls are dropped")
        exp.set_rate(0)
        wait_until(lambda: goes_on(exp) == set(), "nothing is sent any more")
        assert exp.config.producer.faults.wall.drop == 1
        exp.set_faults()
        assert exp.config.producer.faults.wall.drop == 0


def test_a_recent_house_is_cancelled_when_none_is_named(base: Config) -> None:
    """Its id comes back."""
    with Experiment("recent", rate_hz=200, base=base) as exp:
        with pytest.raises(HousesError, match="does not run"):
            exp.storno()
        with exp.running():
            wait_until(lambda: min(exp.sent.values()) > 0, "a house is sent")
            house_id = exp.storno()
        assert exp.stornos()["id"].tolist() == [house_id]


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("set_rate", {"rate_hz": -1}, "producer.msgs_per_sec = -1"),
        ("set_rate", {"rate_hz": 1, "part": "door"}, "part 'door'"),
        ("set_faults", {"part": "wall", "drop": 2}, "producer.faults.wall.drop = 2"),
        ("set_faults", {"dorp": 0.1}, "the nearest known one is producer.faults.foundation.drop"),
    ],
)
def test_a_bad_setting_is_refused_in_words(
    finished: Experiment, method: str, arguments: dict[str, Any], message: str
) -> None:
    """And changes nothing."""
    before = finished.config
    with pytest.raises(ConfigError, match=message):
        getattr(finished, method)(**arguments)
    assert finished.config is before


# --- folders, names, keys ---


def test_fresh_deletes_only_the_topics_that_the_old_binding_names(base: Config) -> None:
    """A topic of the same name that somebody made anew stays, and so do files that are not ours."""
    first = Experiment("mine", base=base)
    binding = load_binding(REAL, first.config.binding_path)
    assert binding is not None
    foreign = TopicInfo(binding.parts.name, "AAAAAAAAAAAAAAAAAAAAAA", 3)
    save_binding(REAL, first.config.binding_path, Binding(binding.folder, foreign, binding.storno))
    (first.folder / "notes.txt").write_text("mine")
    with Experiment("mine", base=base):
        assert list(describe_topics(base.kafka, [binding.parts.name, binding.storno.name])) == [binding.parts.name]
        assert (first.folder / "notes.txt").exists()


def test_a_fresh_experiment_holds_no_figures_of_an_earlier_one(base: Config) -> None:
    """A picture in the folder is one of this run; the others of an earlier run go with its files."""
    with Experiment("figures", base=base) as exp:
        for name in ("latency.png", "latency.svg", "blame.png"):
            (exp.folder / name).write_bytes(b"picture")
    Experiment("figures", base=base, fresh=False).close()
    assert len([*exp.folder.glob("*.png"), *exp.folder.glob("*.svg")]) == 3
    Experiment("figures", base=base).close()
    assert not [*exp.folder.glob("*.png"), *exp.folder.glob("*.svg")]


def test_a_damaged_binding_does_not_keep_a_fresh_start_from_working(base: Config, said: list[str]) -> None:
    """The topics that it named stay, as nobody knows which they were."""
    first = Experiment("torn", base=base)
    first.config.binding_path.write_bytes(b"{")
    with Experiment("torn", base=base):
        assert any("its old topics stay" in line for line in said)
    assert describe_topics(base.kafka, [first.config.kafka.topic])


def test_taking_up_what_is_gone_names_the_way_on(base: Config) -> None:
    """The topics were deleted meanwhile."""
    first = Experiment("gone", base=base)
    first.close()
    Experiment("gone", base=base).close()  # deletes the topics
    first.config.dump(first.config.path)
    save_binding(REAL, first.config.binding_path, first._binding)
    with pytest.raises(PositionError, match=r"gone or was made anew: start anew with Experiment\('gone', fresh=True\)"):
        Experiment("gone", base=base, fresh=False)


def test_without_anything_there_fresh_false_begins_anew(base: Config) -> None:
    """As a first run would."""
    with Experiment("first", base=base, fresh=False) as exp, exp.running(0.2):
        pass
    assert exp.verify().ok


def test_an_experiment_that_was_taken_over_does_not_start(base: Config) -> None:
    """Another kernel has begun a fresh one of that name."""
    with Experiment("taken", base=base) as exp:
        new = Binding.new(exp._binding.parts, exp._binding.storno)
        save_binding(REAL, exp.config.binding_path, new)
        with pytest.raises(FolderError, match="another program has taken it over: choose another name"):
            exp.start()


def test_a_folder_in_use_by_another_process_is_refused(
    base: Config, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """After some patience: the consumer of a kernel that was just killed needs a moment."""
    monkeypatch.setattr("houses.lab.run_folder._LOCK_PATIENCE_S", 0.3)
    folder = experiment_folder("used", base.root)
    folder.mkdir(parents=True)
    with FolderLock(folder, "consumer"), pytest.raises(FolderError, match=r"consumer: process \d+\).*another name"):
        Experiment("used", base=base)
    assert len(said) == 1 and said[0].startswith("Waiting for consumer: process ")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".a", "-a", "a b", "é", "x" * 61, "a\n"])
def test_a_name_that_is_no_plain_word_is_refused(name: str) -> None:
    """It becomes a folder and part of a topic."""
    with pytest.raises(ConfigError, match="must be 1 to 60 letters, digits, - or _"):
        experiment_folder(name)


def test_the_folder_is_below_the_project_or_the_run_directory_never_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Papermill, nbmake and JupyterLab start in different folders."""
    monkeypatch.chdir(tmp_path)
    assert experiment_folder("a", env={}) == config.PROJECT_ROOT / "output" / "runs" / "a"
    assert experiment_folder("a", env={"HOUSES_RUN_DIR": str(tmp_path / "r")}) == tmp_path / "r" / "a"
    assert (
        experiment_folder("a", env={"HOUSES_RUN_DIR": "output/runs/r"})
        == config.PROJECT_ROOT / "output" / "runs" / "r" / "a"
    )


def test_short_keys_are_completed() -> None:
    """A last name that is known once is enough; two underscores stand for a dot."""
    assert full_keys({"linger_ms": 5, "rates__wall": 1, "consumer.max_batch": 7, "faults": {}}) == {
        "producer.linger_ms": 5,
        "producer.rates.wall": 1,
        "consumer.max_batch": 7,
        "producer.faults": {},
    }


def test_a_short_key_that_fits_several_is_refused_with_all_of_them() -> None:
    """`wall` has a rate and faults."""
    with pytest.raises(ConfigError, match=r"wall: fits producer\.rates\.wall, producer\.faults\.wall"):
        full_keys({"wall": 1})


def test_what_belongs_to_the_experiment_cannot_be_set() -> None:
    """Its topics, its group and its files are nobody else's."""
    with pytest.raises(ConfigError, match=r"kafka\.topic: an experiment has its own"):
        full_keys({"topic": "mine"})


def test_an_unknown_key_is_refused_with_the_nearest_known_one(base: Config) -> None:
    """Before anything is made."""
    with pytest.raises(ConfigError, match=r"lingerms: unknown key; the nearest known one is producer\.linger_ms"):
        Experiment("unknown", base=base, lingerms=5)
    assert not (experiment_folder("unknown", base.root) / "config.yaml").exists()


def test_topics_of_another_cluster_are_left_alone_when_no_broker_answers(base: Config) -> None:
    """An address where nothing listens, with a Kafka that is not to be started there, is one clear error."""
    away = base.with_values({"kafka.bootstrap_servers": "192.0.2.1:9"})
    ensure_topics_named(base.kafka, {"bystander": 1})
    with pytest.raises(BrokerError, match=r"192\.0\.2\.1:9"):
        Experiment("away", base=away)
    assert describe_topics(base.kafka, ["bystander"])
