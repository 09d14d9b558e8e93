"""The consumer as a process: how it is asked to stop, and how it leaves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.command_line import (
    STOP_LIMIT_S,
    arguments,
    check,
    consuming,
    ends,
    environment,
    is_reading,
    make_project,
    read_houses,
    run,
    running,
    send_houses,
)
from support.kafka_lab import read_jsonl, wait_until

from houses.config.config import Config
from houses.errors import BrokerError
from houses.kafka.broker import describe_topics
from houses.kafka.local import server as local_kafka
from houses.kafka.local.probe import free_port
from houses.offsets.checkpoint import FileStore
from houses.records.metrics import last_metrics
from houses.system.files import REAL
from houses.system.stopping import stop_path
from houses.verify.verify import verify

WAYS = {"file": {}, "group": {"consumer.consumer_group": True, "consumer.group_id": "away"}}


def has_checkpoint(made: Config) -> bool:
    """Whether the stop has saved where the consumer stands: 20 houses read."""
    checkpoint = FileStore(REAL, made.offsets_path).load()
    return checkpoint is not None and checkpoint.next == (20, 20, 20)


def answers(made: Config) -> bool:
    """Whether the broker describes the topic: one that was frozen is fenced by its controller for a while."""
    try:
        return made.kafka.topic in describe_topics(made.kafka, [made.kafka.topic], 2.0)
    except BrokerError:
        return False


def prepare(folder: Path, kafka: str) -> Config:
    """A project with 20 houses to read."""
    made = make_project(folder, kafka)
    send_houses(made, 20)
    return made


def test_ctrl_c_stops_with_a_checkpoint_and_130(tmp_path: Path, kafka: str) -> None:
    """All read houses are in the file, the position is saved, nothing looks like an error."""
    made = prepare(tmp_path, kafka)
    with consuming(made) as process:
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        process.send_signal(signal.SIGINT)
        status, said = ends(process)
    assert status == 130
    assert said.splitlines()[-1] == "Stopped: 20 houses"
    assert has_checkpoint(made)


def test_sigterm_stops_with_a_checkpoint_and_0(tmp_path: Path, kafka: str) -> None:
    """What `houses stop` sends."""
    made = prepare(tmp_path, kafka)
    with consuming(made) as process:
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        process.terminate()
        assert ends(process)[0] == 0
    assert has_checkpoint(made)


def test_the_end_of_stdin_stops_it_when_asked_for(tmp_path: Path, kafka: str) -> None:
    """What is written to stdin before means nothing; its end is the request."""
    made = prepare(tmp_path, kafka)
    with consuming(made, "--stop-with-stdin", stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write("not a command\n")
        process.stdin.flush()
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        process.stdin.close()
        assert process.wait(STOP_LIMIT_S) == 0
    assert has_checkpoint(made)


def test_the_end_of_stdin_means_nothing_otherwise(tmp_path: Path, kafka: str) -> None:
    """A consumer started by a service manager has no stdin, and runs."""
    made = prepare(tmp_path, kafka)
    with consuming(made, stdin=subprocess.DEVNULL) as process:
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        assert process.poll() is None


PARENT = """
import subprocess, sys
process = subprocess.Popen(sys.argv[1:])  # stdin is inherited from the test, which keeps its other end open
print(process.pid, flush=True)
process.wait()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process does not learn of its parent's death there")
def test_the_death_of_its_parent_stops_it(tmp_path: Path, kafka: str) -> None:
    """Even when somebody else still holds its stdin open."""
    made = prepare(tmp_path, kafka)
    command = [sys.executable, "-c", PARENT, *arguments(made, "consume", "--stop-with-stdin")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), start_new_session=True
    ) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        wait_until(lambda: is_reading(made, child.pid), "the consumer reads")
        parent.kill()
        wait_until(lambda: not child.is_running(), "the consumer ends")
    wait_until(lambda: has_checkpoint(made), "its checkpoint")


def test_a_stop_file_is_a_request(tmp_path: Path, kafka: str) -> None:
    """The way of Windows: the file is taken away; one from before the start means nothing."""
    made = prepare(tmp_path, kafka)
    stop_file = stop_path(made.folder, "consumer")
    stop_file.touch()
    os.utime(stop_file, (1, 1))
    with consuming(made) as process:
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        stop_file.touch()
        assert ends(process)[0] == 0
    assert not stop_file.exists()
    assert has_checkpoint(made)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 0)])
def test_a_request_before_the_first_message_ends_it_at_once(tmp_path: Path, name: str, status: int) -> None:
    """While it still looks for Kafka there is nothing to save, and nobody has to wait."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        made = make_project(tmp_path, f"127.0.0.1:{silent.getsockname()[1]}")
        with running(made, "consume") as process:
            silent.accept()
            process.send_signal(getattr(signal, name))
            ended, said = ends(process)
    assert ended == status
    assert said == "Stopped before anything was read\n"


def test_a_second_consumer_is_told_who_the_first_is(tmp_path: Path, kafka: str) -> None:
    """One line with the process id, exit code 1; the first one goes on."""
    made = prepare(tmp_path, kafka)
    with consuming(made) as process:
        second = run(made, "consume")
        assert process.poll() is None
    assert second.returncode == 1
    assert f"process {process.pid} is already the consumer" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_an_older_offset_file_is_refused_with_the_way_on(tmp_path: Path, kafka: str) -> None:
    """`--rescan`, which the message names, goes on from the files and loses nothing."""
    made = prepare(tmp_path, kafka)
    made.offsets_path.write_text('{"0":5,"1":5,"2":5}', encoding="ascii")
    refused = run(made, "consume", "--until-end")
    assert refused.returncode == 1
    assert "with: houses consume --rescan" in refused.stderr
    assert "Stopped: 20 houses" in check(made, "consume", "--until-end", "--rescan")


STUCK = """
import sys, time
from houses.cli.main import main
from houses.offsets import checkpoint
real = checkpoint.FileStore.save
def save(self, record, **options):
    if record.generation > 1:
        time.sleep(60)
    real(self, record, **options)
checkpoint.FileStore.save = save
sys.exit(main(sys.argv[1:]))
"""


def test_a_checkpoint_that_hangs_does_not_hold_the_stop_up(tmp_path: Path, kafka: str) -> None:
    """It leaves without one, says so, and the next start has every house once."""
    made = prepare(tmp_path, kafka)
    command = [sys.executable, "-c", STUCK, *arguments(made, "consume")[3:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        wait_until(lambda: is_reading(made, process.pid), "the consumer reads")
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        begun_s = time.monotonic()
        process.terminate()
        status, said = ends(process)
        assert time.monotonic() - begun_s < STOP_LIMIT_S
    assert status == 0
    assert "leaving without a last checkpoint; nothing is lost" in said
    read_houses(made)
    assert [line["id"] for line in read_jsonl(made.houses_path)] == list(range(20))


# --- a broker that goes away ---


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and data folder of a Kafka that may be killed."""
    data_dir = tmp_path_factory.mktemp("away") / "kafka"
    address = f"127.0.0.1:{free_port()}"
    local_kafka.start(data_dir, address)
    yield address, data_dir
    local_kafka.stop(data_dir)


def broker_process(data_dir: Path) -> psutil.Process:
    """The JVM."""
    pid = local_kafka.status(data_dir).pid
    assert pid
    return psutil.Process(pid)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("outage", ["killed", pytest.param("silent", marks=pytest.mark.slow)])
def test_it_stops_in_time_when_the_broker_is_away(
    tmp_path: Path, own_kafka: tuple[str, Path], way: str, outage: str
) -> None:
    """Killed or frozen, with the checkpoint in a file or in Kafka's group: within 5 s, and nothing is lost or doubled."""
    address, data_dir = own_kafka
    made = make_project(tmp_path, address, WAYS[way] | {"kafka.data_dir": str(data_dir)})
    send_houses(made, 20)
    with consuming(made) as process:
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        broker = broker_process(data_dir)
        if outage == "killed":
            broker.kill()
        else:
            broker.suspend()
        time.sleep(1)
        begun_s = time.monotonic()
        process.terminate()
        status, said = ends(process)
        took_s = time.monotonic() - begun_s
    if outage == "silent":
        broker.resume()
    local_kafka.start(data_dir, address)
    wait_until(lambda: answers(made), "the broker's controller knows it again")
    assert (status, took_s < STOP_LIMIT_S) == (0, True), said
    assert "no checkpoint taken, the last one stays good" in said
    send_houses(made, 5)
    read_houses(made)
    assert [line["id"] for line in read_jsonl(made.houses_path)] == list(range(25))
    assert verify(made).ok


@pytest.mark.slow
def test_it_reads_on_when_the_broker_comes_back(tmp_path: Path, own_kafka: tuple[str, Path]) -> None:
    """A broker that was killed is waited for, not said by the hundred, and no house is lost or doubled."""
    address, data_dir = own_kafka
    made = make_project(tmp_path, address, {"kafka.data_dir": str(data_dir)})
    send_houses(made, 20)
    with consuming(made) as process:
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        broker_process(data_dir).kill()
        wait_until(lambda: bool((last_metrics(made.metrics_path) or {})["last_error"]), "the error in the metrics")
        local_kafka.start(data_dir, address)
        send_houses(made, 5)
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 25, "5 more houses")
        process.terminate()
        status, said = ends(process)
    assert status == 0
    # What was queued before may be handed over just after it is back, and then begins another "outage".
    assert 1 <= said.count("waiting for it to come back") <= 2
    assert [line["id"] for line in read_jsonl(made.houses_path)] == list(range(25))
