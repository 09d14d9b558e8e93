"""The producers on a real Kafka: what arrives, in which order, at which rates, with which faults."""

import json
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.kafka_lab import (
    ids_of,
    make_config,
    make_lab,
    part_ids,
    producers,
    read_jsonl,
    read_parts,
    seconds,
    sent,
    wait_until,
)

from houses.config.config import Config
from houses.config.models import PartFaults
from houses.errors import BrokerError, ConfigError, FolderError, HousesError
from houses.kafka.reader import last_records
from houses.producer.ids import BLOCK_IDS
from houses.producer.producers import Producers
from houses.producer.stream import PartStream
from houses.records.message import PARTS
from houses.system.locks import lock_owner


@pytest.fixture
def lab(tmp_path: Path, kafka: str) -> Config:
    """A folder and topics of the test's own; 500 messages per second of each part."""
    return make_lab(tmp_path, kafka, {"producer.msgs_per_sec": 500.0, "producer.seed": 1})


def test_every_part_sends_the_same_ids_to_its_own_partition(lab: Config) -> None:
    """Ids 0, 1, 2, ... once in each partition, in order, with a worker of the part and the part's task."""
    with producers(lab) as running:
        wait_until(sent(running, 100), "100 messages of each part")
    found = read_parts(lab)
    assert ids_of(found["wall"]) == list(range(running.highest_id + 1))
    assert ids_of(found["foundation"]) == ids_of(found["wall"]) == ids_of(found["roof"])
    for part in PARTS:
        assert {message and (message.number, message.task) for message in found[part.name]} == {
            (part.number, part.name)
        }
        assert {message and message.name for message in found[part.name]} == set(part.workers)


def test_a_rate_that_is_set_during_the_start_counts_and_nobody_sees_half_of_the_parts(
    lab: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread asks and sets between the first part and the second."""
    begin, seen, threads = PartStream.begin, list[int](), list[threading.Thread]()
    running = producers(lab)

    def interrupted(stream: PartStream, *settings: Any) -> None:
        begin(stream, *settings)
        seen.append(len(running.sent))
        threads.append(threading.Thread(target=running.set_rate, args=(stream.part.name, 70)))
        threads[-1].start()
        threads[-1].join(0.2)

    monkeypatch.setattr(PartStream, "begin", interrupted)
    with running:
        for thread in threads:
            thread.join()
        assert seen == [0, 0, 0] and {counts.rate_hz for counts in running.counts.values()} == {70}


def test_the_key_is_the_id_in_digits(lab: Config) -> None:
    """So that another engine can bring the parts of a house together by key."""
    with producers(lab) as running:
        wait_until(sent(running, 20), "20 messages of each part")
    records = last_records(lab.kafka, lab.kafka.topic, 1_000_000)
    assert [record.key for record in records if record.partition == 2] == [
        b"%d" % i for i in range(running.highest_id + 1)
    ]


def test_nothing_is_sent_before_its_time(lab: Config) -> None:
    """The time in message n is not before the start plus n + 1 intervals."""
    started_s = time.time()
    with producers(lab) as running:
        wait_until(sent(running, 200), "200 messages of each part")
    # The last stretch, up to the id that the fastest part had begun, is unpaced: at most some ticks of it.
    for messages in read_parts(lab).values():
        assert all(seconds(m.ts) >= started_s + (m.id + 1) / 500 - 0.001 for m in messages[:200] if m)


def test_a_paused_part_is_completed_on_the_way_out(lab: Config) -> None:
    """The wall sends nothing while its rate is 0, and every id of the others when the producers stop."""
    with producers(lab.with_values({"producer.rates.wall": 0})) as running:
        wait_until(sent(running, 100, "foundation", "roof"), "100 messages of the other parts")
        assert running.sent["wall"] == 0
    ids = part_ids(lab)
    assert ids["foundation"] == ids["wall"] == ids["roof"] == list(range(running.highest_id + 1))


def test_stopping_incomplete_leaves_the_parts_where_they_are(lab: Config) -> None:
    """With complete=False the paused wall has sent nothing at the end either."""
    running = producers(lab.with_values({"producer.rates.wall": 0})).start()
    wait_until(sent(running, 100, "foundation", "roof"), "100 messages of the other parts")
    running.stop(complete=False)
    assert part_ids(lab)["wall"] == []


def test_an_exception_in_the_body_stops_at_once_and_goes_on(lab: Config) -> None:
    """The producers are gone, nothing was completed, and the exception is the one of the body."""
    running = producers(lab.with_values({"producer.rates.wall": 0}))

    def body() -> None:
        with running:
            wait_until(sent(running, 10, "roof"), "10 roofs")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()
    assert part_ids(lab)["wall"] == []
    assert running.queued == 0
    assert lock_owner(lab.folder, "producer") is None


def test_slower_parts_drift_and_skip_nothing(lab: Config) -> None:
    """A part at a tenth of the rate is at a tenth of the ids, each of them in its turn."""
    running = producers(lab.with_values({"producer.rates.roof": 50.0})).start()
    wait_until(sent(running, 300, "wall"), "300 walls")
    running.stop(complete=False)
    ids = part_ids(lab)
    assert ids["roof"] == list(range(len(ids["roof"])))
    assert 0 < len(ids["roof"]) < len(ids["wall"]) / 5


def is_at_rest(running: Producers) -> bool:
    """Whether all parts have sent the same and send no more: what was due before the pause may go out after it."""
    before = running.sent
    time.sleep(0.2)
    return running.sent == before and len(set(before.values())) == 1


def test_rates_change_while_it_runs(lab: Config) -> None:
    """Paused producers stay where they are, all at the same id, and go on when the rate returns."""
    with producers(lab) as running:
        wait_until(sent(running, 50), "50 messages of each part")
        running.set_rate(None, 0)
        wait_until(partial(is_at_rest, running), "all parts at rest at the same id")
        paused = running.sent
        running.set_rate("wall", 2000)
        wait_until(sent(running, paused["wall"] + 100, "wall"), "100 walls more")
        assert running.sent["roof"] == paused["roof"]
        assert running.counts["wall"].rate_hz == 2000


def test_rate_and_faults_can_be_set_before_the_start(lab: Config) -> None:
    """What is set before the start holds from the first message."""
    running = producers(lab)
    running.set_rate(None, 0)
    running.set_faults("wall", PartFaults(duplicate=1.0))
    with running:
        running.set_rate(None, 500)
        wait_until(sent(running, 20), "20 messages of each part")
    lines = read_jsonl(lab.folder / "faults.jsonl")
    assert {line["rate_hz"] for line in lines if line["fault"] == "start"} == {0}
    assert part_ids(lab)["wall"][:4] == [0, 0, 1, 1]


@pytest.mark.parametrize("rate_hz", [-1, 20_001, float("nan")])
def test_a_rate_out_of_bounds_is_refused(lab: Config, rate_hz: float) -> None:
    """The error quotes the rate, and the old one stays."""
    running = producers(lab)
    with pytest.raises(ConfigError, match="must be 0"):
        running.set_rate(None, rate_hz)


def test_an_unknown_part_is_refused(lab: Config) -> None:
    """The error lists the names there are."""
    running = producers(lab)
    with pytest.raises(ConfigError, match="part 'rof': must be one of foundation, wall, roof"):
        running.set_rate("rof", 1)
    with pytest.raises(ConfigError, match="part 'rof'"):
        running.set_faults("rof", PartFaults())


def test_the_next_run_goes_on_behind_the_last_id(lab: Config) -> None:
    """Two runs together give every id once, without a gap."""
    for _ in range(2):
        with producers(lab) as running:
            wait_until(sent(running, 30), "30 messages of each part")
    assert part_ids(lab)["roof"] == list(range(running.highest_id + 1))
    assert running.first_id >= 30


def test_ids_do_not_repeat_when_their_file_is_gone(lab: Config) -> None:
    """Without producer_base_id.json the next run begins behind the highest id in the topic."""
    for _ in range(2):
        with producers(lab) as running:
            wait_until(sent(running, 30), "30 messages of each part")
        lab.base_id_path.unlink()
    ids = part_ids(lab)["foundation"]
    assert ids == list(range(running.highest_id + 1))


def test_a_stopped_run_owes_no_ids(lab: Config) -> None:
    """After a clean stop the file names the next id, not the end of a block."""
    with producers(lab) as running:
        wait_until(sent(running, 30), "30 messages of each part")
        assert json.loads(lab.base_id_path.read_text())["base_id"] >= BLOCK_IDS
    assert lab.base_id_path.read_text() == f'{{"base_id":{running.highest_id + 1}}}'


def test_a_folder_has_one_producer_at_a_time(lab: Config) -> None:
    """The second one is told who holds the folder; when the first is gone it may start."""
    with producers(lab), pytest.raises(FolderError, match="is already the producer of this folder"):
        producers(lab).start()
    producers(lab).start().stop()


def test_stopping_twice_is_harmless_and_starting_twice_is_refused(lab: Config) -> None:
    """A second stop does nothing, a second start says to make new producers."""
    running = producers(lab).start()
    running.stop()
    running.stop()
    with pytest.raises(HousesError, match="make new ones"):
        running.start()


def test_producers_need_their_topic(tmp_path: Path, kafka: str) -> None:
    """An absent topic is an error at the start, is not created, and the folder is free again."""
    config = make_config(tmp_path, kafka)
    with pytest.raises(BrokerError, match=f"topic {config.kafka.topic}: .*[Uu]nknown topic"):
        producers(config).start()
    assert lock_owner(config.folder, "producer") is None


def test_all_ids_up_to_one_can_be_sent_at_once(lab: Config) -> None:
    """send_through(n) sends every id up to n in every part, also while they are paused."""
    with producers(lab.with_values({"producer.msgs_per_sec": 0})) as running:
        running.send_through(4999)
        assert running.sent == {part.name: 5000 for part in PARTS}
    assert part_ids(lab) == {part.name: list(range(5000)) for part in PARTS}


def test_a_recent_id_is_one_of_this_run(lab: Config) -> None:
    """None before the first message, then always one that some part has begun."""
    with producers(lab.with_values({"producer.msgs_per_sec": 0})) as running:
        assert running.recent_id() is None
        running.send_through(9)
        assert {running.recent_id() for _ in range(200)} == set(range(10))


def test_the_measured_rate_follows_the_stream(lab: Config) -> None:
    """It is above 0 while the part sends and falls towards 0 while it is paused."""
    with producers(lab) as running:
        wait_until(lambda: running.counts["wall"].measured_hz > 100, "a rate above 100")
        running.set_rate(None, 0)
        wait_until(lambda: running.counts["wall"].measured_hz == 0, "a rate of 0")
