"""The producers with faults and delays on: the topic against faults.jsonl."""

import time
from collections import Counter
from pathlib import Path

import pytest
from support.kafka_lab import ids_of, make_lab, part_ids, producers, read_jsonl, read_parts, seconds, sent, wait_until

from houses.config.config import Config
from houses.config.models import PartFaults
from houses.records.message import PARTS


@pytest.fixture
def lab(tmp_path: Path, kafka: str) -> Config:
    """A folder and topics of the test's own; 500 messages per second of each part."""
    return make_lab(tmp_path, kafka, {"producer.msgs_per_sec": 500.0, "producer.seed": 1})


def test_what_was_injected_is_what_is_recorded(lab: Config) -> None:
    """Per part: the missing ids are the dropped and malformed ones of faults.jsonl, the doubled ones its duplicates."""
    share = {"drop": 0.1, "malformed": 0.1, "duplicate": 0.1}
    config = lab.with_values(
        {"producer.faults": {"wall": share, "roof": {"drop": 0.5}}, "producer.msgs_per_sec": 2000.0}
    )
    with producers(config) as running:
        wait_until(sent(running, 500), "500 messages of each part")
        running.set_faults("foundation", PartFaults(duplicate=0.5))
        wait_until(sent(running, 1000), "1000 messages of each part")
    counts, found = running.counts, read_parts(config)
    lines = read_jsonl(config.folder / "faults.jsonl")
    for part in PARTS:
        hit = {
            kind: {line["id"] for line in lines if (line["part"], line["fault"]) == (part.name, kind)} for kind in share
        }
        times = Counter(ids_of(found[part.name]))
        assert set(range(running.highest_id + 1)) - set(times) == hit["drop"] | hit["malformed"]
        assert {house_id for house_id, n in times.items() if n == 2} == hit["duplicate"]
        assert found[part.name].count(None) == len(hit["malformed"]) == counts[part.name].malformed
        assert len(found[part.name]) == counts[part.name].sent
    assert min(counts["wall"].dropped, counts["wall"].duplicated, counts["foundation"].duplicated) > 0


def test_completing_injects_no_faults(lab: Config) -> None:
    """A paused part whose every message would be dropped still sends all ids when the producers stop."""
    values = {"producer.rates.wall": 0, "producer.faults.wall.drop": 1.0}
    with producers(lab.with_values(values)) as running:
        wait_until(sent(running, 50, "roof"), "50 roofs")
    assert part_ids(lab)["wall"] == list(range(running.highest_id + 1))


def test_a_delay_shifts_the_whole_stream(lab: Config) -> None:
    """Each wall is produced 0.4 s after it was due, in order; its time is that of producing."""
    started_s = time.time()
    running = producers(lab.with_values({"producer.faults.wall.delay_ms": 400})).start()
    wait_until(sent(running, 200), "200 messages of each part")
    running.stop(complete=False)
    walls = [message for message in read_parts(lab)["wall"] if message]
    assert ids_of(list(walls)) == list(range(len(walls)))
    assert all(seconds(wall.ts) >= started_s + 0.4 + (wall.id + 1) / 500 - 0.001 for wall in walls)


def test_a_delay_that_ends_is_caught_up(lab: Config) -> None:
    """When the delay goes back to 0 the part sends what it held back, and nothing is missing."""
    with producers(lab.with_values({"producer.faults.wall.delay_ms": 3_600_000})) as running:
        wait_until(sent(running, 100, "roof"), "100 roofs")
        assert running.sent["wall"] == 0
        running.set_faults("wall", PartFaults())
        wait_until(sent(running, 100, "wall"), "100 walls")
    assert part_ids(lab)["wall"] == list(range(running.highest_id + 1))


def test_changes_are_recorded_with_the_first_id_that_they_touch(lab: Config) -> None:
    """A line for the start, for each rate, delay and share change; none for a value set again."""
    with producers(lab) as running:
        wait_until(sent(running, 10), "10 messages of each part")
        running.set_rate("wall", 100)
        running.set_rate("wall", 100)
        running.set_faults("wall", PartFaults(delay_ms=5, drop=0.5))
    lines = [
        line for line in read_jsonl(lab.folder / "faults.jsonl") if line["part"] == "wall" and line["fault"] != "drop"
    ]
    assert [line["fault"] for line in lines] == ["start", "rate", "delay", "shares"]
    assert lines[0] == {"part": "wall", "id": 0, "fault": "start", "seed": 1, "rate_hz": 500, "ts": lines[0]["ts"]}
    assert (lines[1]["rate_hz"], lines[2]["delay_ms"], lines[3]["drop"]) == (100, 5, 0.5)
    assert lines[1]["id"] >= 10


def test_the_same_seed_chooses_the_same_workers_and_faults(tmp_path: Path, kafka: str) -> None:
    """Two runs with one seed send the same names for the same ids and drop the same of them."""
    runs = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        config = make_lab(
            folder, kafka, {"producer.seed": 5, "producer.msgs_per_sec": 500.0, "producer.faults.roof.drop": 0.3}
        )
        with producers(config) as running:
            wait_until(sent(running, 40), "40 messages of each part")
        runs.append([[(m.id, m.name) for m in messages[:40] if m] for messages in read_parts(config).values()])
    assert runs[0] == runs[1]
