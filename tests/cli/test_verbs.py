"""Each verb on a real Kafka: what it does and what it says."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer
from support.command_line import call, check, consuming, ends, make_project, read_houses, run, running, send_houses
from support.kafka_lab import ids_of, read_jsonl, read_parts, wait_until

from houses.cli.produce import rate_values
from houses.config.config import Config
from houses.kafka.broker import delete_topics, describe_topics
from houses.kafka.clients import connect
from houses.kafka.local.probe import free_port
from houses.kafka.reader import last_records
from houses.lab.naive import NAIVE_HOUSES, NAIVE_POSITIONS, naive_consume
from houses.records.message import PARTS, encode_part, utc_now
from houses.system.locks import FolderLock, lock_owner
from houses.system.stopping import StopRequest
from houses.verify import recent
from houses.verify.recent import lines_from_end

COMMANDS = "houses stop, houses --config a.yaml stop"
HOSTILE = "\x1b[31mred\x07\u202eback[/bold]"


def send_raw(made: Config, topic: str, value: bytes, partition: int = 0) -> None:
    """One message of any content."""
    producer = connect(Producer, made.kafka)
    producer.produce(topic, value, partition=partition)
    assert producer.flush(60) == 0


def json_lines(text: str) -> list[dict[str, Any]]:
    """What --json printed."""
    return [json.loads(line) for line in text.splitlines()]


# --- produce ---


def test_produce_count_sends_exactly_so_many_houses(tmp_path: Path, kafka: str) -> None:
    """All three parts, each id once, also at the highest rate; the next run goes on behind them."""
    made = make_project(tmp_path, kafka)
    assert "Sent houses 0 to 1233" in check(made, "produce", "--count", "1234", "--rate", "20000")
    assert "Sent houses 1234 to 1236" in check(made, "produce", "--count", "3")
    assert all(ids_of(sent) == list(range(1237)) for sent in read_parts(made).values())


def test_produce_refuses_a_topic_that_was_made_anew(tmp_path: Path, kafka: str) -> None:
    """The consumer would refuse what it sends there, so nothing is sent."""
    made = make_project(tmp_path, kafka)
    check(made, "consume", "--until-end")
    delete_topics(made.kafka, list(describe_topics(made.kafka, [made.kafka.topic]).values()))
    done = run(made, "produce", "--count", "1")
    assert (done.returncode, "was deleted and made anew" in done.stderr) == (1, True), done.stderr
    assert not any(read_parts(made).values())


def test_produce_completes_the_houses_of_the_slower_parts(tmp_path: Path, kafka: str) -> None:
    """At the end of --seconds every id that was begun is in all parts."""
    made = make_project(tmp_path, kafka)
    check(made, "produce", "--seconds", "0.5", "--rate", "400", "--rate", "roof=20")
    sent = [ids_of(messages) for messages in read_parts(made).values()]
    assert len(sent[0]) > 100
    assert sent[0] == sent[1] == sent[2]


def test_produce_incomplete_leaves_them(tmp_path: Path, kafka: str) -> None:
    """A paused part has sent nothing."""
    made = make_project(tmp_path, kafka)
    check(made, "produce", "--seconds", "0.5", "--rate", "400", "--rate", "roof=0", "--incomplete")
    counts = {name: len(messages) for name, messages in read_parts(made).items()}
    assert counts["foundation"] > 100
    assert counts["roof"] == 0


def test_produce_that_sends_nothing_says_so(tmp_path: Path, kafka: str) -> None:
    """Too short for a message: there is no first and no last house."""
    said = check(make_project(tmp_path, kafka), "produce", "--seconds", "0.3", "--rate", "0.001")
    assert said.splitlines()[-1] == "Nothing was sent"


def test_produce_that_would_never_send_is_refused(tmp_path: Path, kafka: str) -> None:
    """Nobody can change its rates while it runs."""
    done = run(make_project(tmp_path, kafka), "produce", "--rate", "5", "--rate", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: all rates are 0: nothing would ever be sent; give one, such as --rate 200\n"


@pytest.mark.parametrize(
    ("rates", "values"),
    [
        ((("", 1000.0), ("", 500.0)), {"producer.msgs_per_sec": 500.0, "producer.rates": {}}),
        (
            (("wall", 5.0), ("", 9.0), ("roof", 3.0), ("wall", 2.0)),
            {
                "producer.msgs_per_sec": 9.0,
                "producer.rates": {},
                "producer.rates.wall": 2.0,
                "producer.rates.roof": 3.0,
            },
        ),
    ],
)
def test_the_last_rate_of_several_counts(rates: tuple[tuple[str, float], ...], values: dict[str, Any]) -> None:
    """As with any option; one for a single part wins over one for all, wherever it stands."""
    assert rate_values(rates) == values
    assert list(rate_values(rates)) == list(values)


def test_produce_faults_are_those_of_the_options(tmp_path: Path, kafka: str) -> None:
    """All walls dropped, all roofs doubled."""
    made = make_project(tmp_path, kafka)
    check(made, "produce", "--count", "50", "--rate", "5000", "--fault", "wall.drop=1", "--fault", "roof.duplicate=1")
    counts = {name: len(messages) for name, messages in read_parts(made).items()}
    assert counts == {"foundation": 50, "wall": 0, "roof": 100}


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 0)])
def test_produce_stops_complete_when_asked(tmp_path: Path, kafka: str, name: str, status: int) -> None:
    """Ctrl-C is 130; either way the last house has all its parts, and the summary is printed."""
    made = make_project(tmp_path, kafka)
    with running(made, "produce", "--rate", "500", "--rate", "wall=50") as process:
        wait_until(lambda: lock_owner(made.folder, "producer") is not None, "the producer holds the folder")
        wait_until(lambda: bool(last_records(made.kafka, made.kafka.topic, 1)), "messages")
        process.send_signal(getattr(signal, name))
        ended, said = ends(process)
    assert ended == status
    assert "Sent houses 0 to " in said
    sent = [ids_of(messages) for messages in read_parts(made).values()]
    assert sent[0] == sent[1] == sent[2]


def test_produce_that_is_stopped_before_it_sends_says_so(
    tmp_path: Path, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that comes while topics are made ends it at once; after that, only when all is sent."""
    made = make_project(tmp_path, kafka)

    def asked(request: StopRequest, **_: object) -> None:
        request._on_signal(signal.SIGINT, None)

    monkeypatch.setattr(StopRequest, "listen", asked)
    done = call(made, "produce", "--count", "5")
    assert (done.returncode, done.stdout) == (130, "Stopped before anything was sent\n")
    assert not made.base_id_path.exists()


# --- stornos ---


def test_storno_cancels_a_house_or_a_part(tmp_path: Path, kafka: str) -> None:
    """Full and partial: the offset is said, and the houses are written as cancelled."""
    made = make_project(tmp_path, kafka)
    assert "Storno of house 1: offset 0" in check(made, "storno", "1")
    assert "Storno of house 2, wall only: offset 1" in check(made, "storno", "2", "--part", "wall")
    send_houses(made, 4)
    read_houses(made)
    lines = read_jsonl(made.storno_houses_path)
    assert [(line["id"], line["storno"], line.get("excluded_partitions")) for line in lines] == [
        (1, "full", None),
        (2, "partial", [2]),
    ]
    assert [line["id"] for line in read_jsonl(made.houses_path)] == [0, 3]


def test_storno_loop_cancels_recent_houses_until_it_is_stopped(tmp_path: Path, kafka: str) -> None:
    """Each storno is said, and Ctrl-C ends the loop with 130."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 20)
    with running(made, "storno-loop", "--interval", "0.1") as process:
        wait_until(lambda: len(last_records(made.kafka, made.consumer.storno_topic, 9)) >= 2, "two stornos")
        process.send_signal(signal.SIGINT)
        status, said = ends(process)
    assert status == 130
    ids = [int(number) for number in re.findall(r"storno of house (\d+)", said)]
    assert len(ids) >= 2
    assert set(ids) <= set(range(20))
    assert f"Sent {len(ids)} stornos" in said


def test_only_one_storno_loop_runs_in_a_folder(tmp_path: Path, kafka: str) -> None:
    """A second one is told who the first is."""
    made = make_project(tmp_path, kafka)
    with running(made, "storno-loop", "--interval", "60") as process:
        wait_until(lambda: lock_owner(made.folder, "storno-loop") is not None, "the lock")
        second = run(made, "storno-loop")
        assert process.poll() is None
    assert second.returncode == 1
    assert f"process {process.pid} is already the storno-loop" in second.stderr


# --- show ---


def test_show_prints_the_newest_houses_as_a_table(tmp_path: Path, kafka: str) -> None:
    """Finished and cancelled ones together; a late storno counts."""
    made = make_project(tmp_path, kafka)
    check(made, "storno", "3", "--part", "roof")
    send_houses(made, 5)
    read_houses(made)
    check(made, "storno", "4")
    read_houses(made)
    header, *rows = check(made, "show").splitlines()
    assert re.split(r"  +", header) == ["id", "foundation", "wall", "roof", "completed (UTC)", "ms", "state"]
    states = {row.split()[0]: re.split(r"  +", row)[-1] for row in rows}
    assert states == {
        "0": "finished",
        "1": "finished",
        "2": "finished",
        "3": "cancelled roof",
        "4": "cancelled",
    }
    records = json_lines(check(made, "show", "--last", "2", "--json"))
    assert len(records) == 2
    assert {"id", "state", "house", "completed_at", "latency_ms"} == set(records[0])


def test_show_without_houses_says_what_to_do(tmp_path: Path, kafka: str) -> None:
    """No empty table."""
    made = make_project(tmp_path, kafka)
    nothing = "No house is finished yet: "
    assert check(made, "show") == f"{nothing}houses produce sends parts, and houses consume joins them\n"
    assert check(made, "show", "--json") == ""
    send_houses(made, 1)
    assert check(made, "show") == f"{nothing}parts were sent, and houses consume joins them\n"
    with FolderLock(made.folder, "consumer"):
        said = check(made, "show")
    assert said == f"{nothing}the consumer that runs has not come to one; houses status says more\n"


def test_show_pending_names_the_missing_parts(tmp_path: Path, kafka: str) -> None:
    """Offsets of what has come, `missing` for the rest; the table is cut at --last, the count is not."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 2)
    for house_id in (7, 8, 9):
        send_raw(made, made.kafka.topic, encode_part(PARTS[1], house_id, utc_now(), "wall_bob"), 1)
    read_houses(made)
    said = check(made, "show", "--pending", "--last", "2").splitlines()
    assert said[0].startswith("3 houses are pending")
    assert [line.split() for line in said[2:]] == [["7", "missing", "2", "missing"], ["8", "missing", "3", "missing"]]
    records = json_lines(check(made, "show", "--pending", "--json"))
    assert records[2] == {"id": 9, "offsets": {"wall": 4}, "missing": ["foundation", "roof"]}


def test_show_id_tells_the_story_of_a_house(tmp_path: Path, kafka: str) -> None:
    """Three offsets and times of a finished one, with its storno; of a pending one how far its partitions are read."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 2)
    send_raw(made, made.kafka.topic, encode_part(PARTS[1], 7, utc_now(), "wall_bob"), 1)
    check(made, "storno", "1")
    read_houses(made)
    finished = check(made, "show", "--id", "0")
    assert finished.startswith("house 0: finished")
    assert [int(offset) for offset in re.findall(r"offset (\d+)", finished)] == [0, 0, 0]
    assert check(made, "show", "--id", "1").startswith("house 1: cancelled")
    pending = check(made, "show", "--id", "7")
    assert "roof        missing; partition 2 is read to offset 2 of 2" in pending
    (record,) = json_lines(check(made, "show", "--id", "7", "--json"))
    assert record["state"] == "pending"


def test_hostile_content_never_reaches_the_terminal_raw(tmp_path: Path, kafka: str) -> None:
    """Escape sequences, bells and direction marks in a message are shown as escapes by every verb."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 1)
    for part in PARTS:
        value = f"partition_{part.number}|id:5|ts:{HOSTILE}|name:{HOSTILE}|task:{HOSTILE}".encode()
        send_raw(made, made.kafka.topic, value, part.partition)
    send_raw(made, made.kafka.topic, f"partition_1|id:6|ts:x|name:{HOSTILE}|task:t".encode())
    read_houses(made)
    for words in (
        ("show",),
        ("show", "--id", "5"),
        ("show", "--id", "6"),
        ("peek",),
        ("show", "--json"),
        ("peek", "--json"),
    ):
        said = check(made, *words)
        assert "red" in said, words
        assert not any(c != "\n" and not c.isprintable() for c in said), words


def test_content_that_names_commands_is_printed_as_it_is(tmp_path: Path, kafka: str) -> None:
    """Data are data: no verb takes words in them for its own, and what could steer a terminal is escaped beside them."""
    made = make_project(tmp_path, kafka, {"kafka.hello_topic": f"hello-{tmp_path.name[-8:]}"})
    send_houses(made, 1)
    for part in PARTS:
        value = f"partition_{part.number}|id:5|ts:{COMMANDS}|name:{COMMANDS}\x1b|task:{COMMANDS}"
        send_raw(made, made.kafka.topic, value.encode(), part.partition)
    value = f"partition_1|id:6|ts:{COMMANDS}|name:{COMMANDS}|task:{COMMANDS}"
    send_raw(made, made.kafka.topic, value.encode())
    read_houses(made)
    peeked, story, pending = (
        check(made, *words) for words in (("peek",), ("show", "--id", "5"), ("show", "--id", "6"))
    )
    assert peeked.count(COMMANDS) == 12 and peeked.count(f"|name:{COMMANDS}\\x1b|task:") == 3
    assert pending.count(COMMANDS) >= 3 and story.count(COMMANDS) >= 3
    check(made, "hello", "send", "--count", "1")
    send_raw(made, made.kafka.hello_topic, f"{COMMANDS}\x1b".encode())
    with running(made, "hello", "listen", "--from-beginning") as process:
        assert process.stdout
        heard = [process.stdout.readline().rstrip("\n") for _ in range(3)]
    assert heard[2] == f"heard: partition 0, offset 1: {COMMANDS}\\x1b"


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("content", [b"", b"\n", b"a", b"a\n", b"\n\n", b"ab\nc\n\ndef\nrest", b"one\ntwo\nthree\n"])
def test_lines_are_read_from_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int, content: bytes
) -> None:
    """The whole lines in reverse, wherever the blocks divide them; an unterminated last one is left out."""
    monkeypatch.setattr(recent, "_BLOCK_BYTES", block_bytes)
    path = tmp_path / "lines"
    path.write_bytes(content)
    assert list(lines_from_end(path)) == content.split(b"\n")[:-1][::-1]


# --- peek, status, verify, compact ---


def test_peek_prints_raw_messages(tmp_path: Path, kafka: str) -> None:
    """By partition and offset; the storno topic by its name."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 5)
    check(made, "storno", "3")
    heading, *said = check(made, "peek", "--partition", "1", "--from", "2", "--count", "2").splitlines()
    assert re.split(r"  +", heading) == ["partition", "offset", "time (UTC)", "key", "value"]
    assert [line.split()[:2] for line in said] == [["1", "2"], ["1", "3"]]
    assert "partition_2|id:2|" in said[0]
    assert '{"id":3}' in check(made, "peek", "--topic", made.consumer.storno_topic)
    assert len(check(made, "peek", "--count", "1").splitlines()) == 1 + len(PARTS)
    assert len(check(made, "peek", "--count", "1", "--json").splitlines()) == len(PARTS)
    assert check(made, "peek", "--from", "99") == "No messages there\n"
    assert call(made, "peek", "--partition", "9").returncode == 1


def test_status_says_how_things_stand(tmp_path: Path, kafka: str) -> None:
    """Before the first message, while a consumer runs, after it was killed, and what then came."""
    made = make_project(tmp_path, kafka)
    assert f"{made.kafka.topic}: none yet" in check(made, "status")
    send_houses(made, 20)
    with consuming(made) as process:
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        wait_until(lambda: "20 houses" in check(made, "status"), "the figures")
        said = check(made, "status")
        assert f"Consumer:    process {process.pid}" in said
        assert "Lag:         0 messages to read" in said
        assert "state running" in said
    said = check(made, "status")
    assert "Consumer:    none" in said
    assert "it was killed; the next start recovers" in said
    send_houses(made, 3)
    assert "Lag:         9 messages to read" in check(made, "status")


def test_status_without_kafka_says_so_and_starts_none(tmp_path: Path) -> None:
    """Exit code 0: that is how things stand."""
    made = make_project(tmp_path, "127.0.0.1:1")
    said = check(made, "status")
    assert "no answer from Kafka" in said
    assert not made.data_dir.exists()


def test_verify_passes_and_fails_by_its_exit_code(tmp_path: Path, kafka: str) -> None:
    """0 with a certificate; 1 with the culprit when a line was removed; --json is one object."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 5)
    read_houses(made)
    assert "verified" in check(made, "verify")
    (certificate,) = json_lines(check(made, "verify", "--json"))
    assert (certificate["ok"], certificate["houses"]) == (True, 5)
    lines = made.houses_path.read_bytes().splitlines(keepends=True)
    made.houses_path.write_bytes(b"".join(lines[:2] + lines[3:]))
    done = call(made, "verify")
    assert done.returncode == 1
    assert "NOT VERIFIED" in done.stdout
    assert "Traceback" not in done.stderr


def test_compact_writes_the_houses_that_were_not_cancelled(tmp_path: Path, kafka: str) -> None:
    """A house cancelled late is left out, also when only its wall was, and houses.jsonl stays as it is."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 6)
    read_houses(made)
    check(made, "storno", "2")
    check(made, "storno", "5", "--part", "wall")
    read_houses(made)
    before = made.houses_path.read_bytes()
    assert "4 houses; 2 left out, cancelled as a whole or in part" in check(made, "compact")
    assert [line["id"] for line in read_jsonl(made.folder / "houses_live.jsonl")] == [0, 1, 3, 4]
    assert made.houses_path.read_bytes() == before


# --- hello, naive, kafka ---


def test_the_naive_consumer_says_what_it_did(tmp_path: Path, kafka: str, said: list[str]) -> None:
    """Houses written, and those that it forgets at its end."""
    made, folder = make_project(tmp_path, kafka), tmp_path / "naive"
    folder.mkdir()
    send_houses(made, 1)
    send_raw(made, made.kafka.topic, encode_part(PARTS[0], 7, utc_now(), "alice", "foundation"))
    saved = folder / NAIVE_POSITIONS
    naive_consume(made, folder, lambda: saved.exists() and json.loads(saved.read_bytes()) == [2, 1, 1])
    assert said[-1:] == [f"Stopped: 1 house written to {folder / NAIVE_HOUSES}; 1 pending, forgotten now"]


def test_hello_is_sent_and_heard(tmp_path: Path, kafka: str) -> None:
    """A listener hears what is sent after it, each with partition and offset; Ctrl-C ends it with 130."""
    made = make_project(tmp_path, kafka, {"kafka.hello_topic": f"hello-{tmp_path.name[-8:]}"})
    sent = check(made, "hello", "send", "--count", "2", "--interval", "0")
    assert sent.splitlines()[-2:] == ["sent: partition 0, offset 0: Hello 1", "sent: partition 0, offset 1: Hello 2"]
    send_raw(made, made.kafka.hello_topic, HOSTILE.encode())
    with running(made, "hello", "listen", "--from-beginning") as process:
        assert process.stdout
        heard = [process.stdout.readline().rstrip("\n") for _ in range(4)]
        process.send_signal(signal.SIGINT)
        assert ends(process)[0] == 130
    assert heard[1:3] == ["heard: partition 0, offset 0: Hello 1", "heard: partition 0, offset 1: Hello 2"]
    assert r"\x1b[31mred\x07\u202eback[/bold]" in heard[3]


def test_kafka_start_status_and_stop(tmp_path: Path) -> None:
    """The local one of a project: started, found, stopped, with its data kept; a second stop has nothing to do."""
    from houses.kafka.local import server as local_kafka

    address = f"127.0.0.1:{free_port()}"
    made = make_project(tmp_path, address, {"kafka.data_dir": str(tmp_path / "kafka")})
    try:
        assert f"Kafka answers at {address}" in check(made, "kafka", "start")
        pid = local_kafka.status(made.data_dir).pid
        assert f"process {pid} at {address}" in check(made, "kafka", "status")
        with FolderLock(made.folder, "consumer"):
            stopped = check(made, "kafka", "stop").splitlines()[-2:]
        waiting = f"The consumer of {made.folder} (process {os.getpid()}) still runs, and waits until Kafka is back"
        assert stopped == ["Kafka has stopped", waiting]
        assert pid
        assert not psutil.pid_exists(pid)
        assert "Nothing to stop" in check(made, "kafka", "stop")
    finally:
        local_kafka.stop(made.data_dir)
