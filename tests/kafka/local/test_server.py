"""The local Kafka in good and bad circumstances: real processes in temporary folders."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without an __all__

from houses.errors import BrokerError
from houses.kafka.local import jvm as kafka_process
from houses.kafka.local import server as local_kafka
from houses.kafka.local.probe import free_port, parse_address, probe
from houses.kafka.local.server import Status, start, status, stop
from houses.system.locks import is_alive, process_record

_START = "import sys, pathlib; from houses.kafka.local import server; print(server.start(pathlib.Path(sys.argv[1]), sys.argv[2]).pid)"


T = TypeVar("T")


class Lab:
    """One data folder and one address; `start` is instant while its Kafka runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        # Nobody serves this repository: all that runs here runs from the cache alone.
        self.repository = f"http://127.0.0.1:{free_port()}"

    def start(self) -> Status:
        return start(self.folder, self.address, self.repository)

    def start_elsewhere(self) -> "subprocess.Popen[str]":
        """The same start in a process of its own, which prints the broker's pid."""
        command = [sys.executable, "-c", _START, str(self.folder), self.address]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())

    def process(self) -> psutil.Process:
        """The running broker."""
        return psutil.Process(self.start().pid)


@pytest.fixture(scope="module")
def shared(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab for this module, in a path with a blank, a comma and letters beyond ASCII; the jars are in the cache by now."""
    lab = Lab(tmp_path_factory.mktemp("Házak és tető, ünnep") / "output" / "kafka")
    yield lab
    stop(lab.folder)


@pytest.fixture
def lab(shared: Lab) -> Lab:
    """The lab of this module with its Kafka running."""
    shared.start()
    return shared


@pytest.fixture
def fresh(kafka: str, tmp_path: Path) -> Iterator[Lab]:
    """A lab of this test alone, not started yet."""
    lab = Lab(tmp_path / "kafka")
    yield lab
    stop(lab.folder)


# --- start and stop ---


def test_messages_pass_in_a_path_with_a_blank_and_letters_beyond_ascii(lab: Lab) -> None:
    """Topics are made, written and read where the folder's name is `Házak és tető, ünnep`."""
    _send(lab, "spaced", b"brick")
    assert _read(lab, "spaced") == [b"brick"]


def test_a_second_start_finds_the_one_that_runs(lab: Lab, said: list[str]) -> None:
    """Same process, same cluster, and nothing to say."""
    first = status(lab.folder)
    assert start(lab.folder, lab.address, lab.repository) == first
    assert first.running and first.pid and said == []


def test_a_second_start_at_another_address_is_refused(lab: Lab) -> None:
    """One folder, one Kafka: the error names both addresses."""
    other = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerError, match=f"= {other}: .* runs at {lab.address}: stop it first"):
        start(lab.folder, other)


def test_localhost_means_the_ipv4_loopback(lab: Lab) -> None:
    """The Kafka at 127.0.0.1 is found under the name localhost too."""
    assert start(lab.folder, lab.address.replace("127.0.0.1", "localhost")).pid == lab.start().pid


def test_it_listens_on_the_loopback_only(lab: Lab) -> None:
    """Broker and controller: two ports, both on 127.0.0.1."""
    listening = [c.laddr.ip for c in lab.process().net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert [ip.removeprefix("::ffff:") for ip in listening] == ["127.0.0.1", "127.0.0.1"]


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_it_is_out_of_reach_of_the_terminals_ctrl_c(lab: Lab) -> None:
    """It leads a session and a process group of its own."""
    pid = lab.process().pid
    assert os.getsid(pid) == os.getpgid(pid) == pid != os.getpgid(0)


def test_stop_is_orderly_and_both_say_what_they_do(lab: Lab, said: list[str]) -> None:
    """The log ends with a clean shutdown, a second stop is nothing, and a start takes the same data up again."""
    before = lab.start()
    after = Status(False, None, lab.address, before.cluster_id, lab.folder, before.log_path)
    assert stop(lab.folder) == stop(lab.folder) == after
    assert not psutil.pid_exists(before.pid or 0)
    assert (lab.folder / "data" / ".kafka_cleanshutdown").exists()
    assert start(lab.folder, lab.address, lab.repository).cluster_id == before.cluster_id
    assert said == [
        f"Stopping Kafka (process {before.pid})",
        f"Starting Kafka 4.3.1 at {lab.address}, data in {lab.folder}",
        f"Kafka is ready at {lab.address}; it runs until: houses kafka stop",
    ]


def test_nothing_is_made_by_asking(tmp_path: Path) -> None:
    """Status and stop of a folder that does not exist leave it so."""
    folder = tmp_path / "absent"
    assert status(folder) == stop(folder) == Status(False, None, None, None, folder, folder / "kafka.log")
    assert not folder.exists()


# --- crashes ---


def test_killed_and_started_again_it_has_its_data(lab: Lab) -> None:
    """After kill -9 the status says so at once, and the next start serves what was written before."""
    _send(lab, "kept", b"first")
    before = lab.start()
    _kill(lab.process())
    assert not status(lab.folder).running
    after = lab.start()
    _send(lab, "kept", b"second")
    assert _read(lab, "kept") == [b"first", b"second"]
    assert after.cluster_id == before.cluster_id and after.pid != before.pid


def test_half_formatted_data_are_formatted_anew(fresh: Lab) -> None:
    """A format that was killed half-way left files that Kafka neither starts with nor formats over."""
    data = fresh.folder / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\nnode.id=1\n", encoding="ascii")
    (data / "bootstrap.checkpoint").write_bytes(b"\0\0\0")
    started = fresh.start()
    assert started.cluster_id not in (None, "AAAAAAAAAAAAAAAAAAAAAA")
    assert AdminClient({"bootstrap.servers": fresh.address}).list_topics(timeout=60).cluster_id == started.cluster_id


@pytest.mark.slow
@pytest.mark.parametrize("wait_s", [0.0, 0.3, 0.6])
def test_a_start_killed_with_its_format_is_no_obstacle(fresh: Lab, wait_s: float) -> None:
    """SIGKILL to the starter and to Java, some time after Java began to format."""
    starter = fresh.start_elsewhere()
    java = _soon(lambda: psutil.Process(starter.pid).children())
    time.sleep(wait_s)
    _kill(*java, psutil.Process(starter.pid))
    starter.communicate()
    assert fresh.start().running


def test_a_starter_killed_while_kafka_comes_up_leaves_it_to_the_next_one(lab: Lab) -> None:
    """The next start waits for the process that is there instead of starting a second one."""
    stop(lab.folder)
    starter = lab.start_elsewhere()
    _soon((lab.folder / ".kafka.pid").exists)
    _kill(psutil.Process(starter.pid))
    starter.communicate()
    orphan = status(lab.folder).pid
    assert orphan is not None
    assert lab.start().pid == orphan


def test_two_processes_starting_at_once_share_one_kafka(lab: Lab) -> None:
    """Both return, both name the same process."""
    stop(lab.folder)
    both = [lab.start_elsewhere() for _ in range(2)]
    pids = [process.communicate(timeout=120)[0].strip() for process in both]
    assert pids[0] == pids[1] == str(status(lab.folder).pid)


@pytest.mark.slow
def test_two_folders_starting_at_once_at_one_address_share_the_first_kafka(fresh: Lab, tmp_path: Path) -> None:
    """The one that comes second finds its port taken by a Kafka, and uses that."""
    folders = [fresh.folder, tmp_path / "second"]
    try:
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda folder: start(folder, fresh.address, fresh.repository), folders))
    finally:
        stop(folders[1])
    assert sorted(result.running for result in results) == [False, True]
    assert len({result.cluster_id for result in results}) == 1


@pytest.mark.slow
def test_a_taken_controller_port_is_changed(fresh: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody takes the port between the look and the start: the next attempt uses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr(local_kafka, "free_port", lambda: next(ports))
        assert fresh.start().running
    assert next(ports, None) is None


def test_a_kafka_that_dies_at_once_gives_the_line_of_its_log(fresh: Lab) -> None:
    """Data that lost a file Kafka needs: the error quotes the log and says where it is."""
    (fresh.folder / "data").mkdir(parents=True)
    (fresh.folder / "data" / "houses-formatted.json").write_text('{"cluster_id": "AAAAAAAAAAAAAAAAAAAAAA"}')
    with pytest.raises(BrokerError, match=r"Kafka does not start: .*meta\.properties.* \(see .*kafka\.log\)") as caught:
        fresh.start()
    assert "\n" not in str(caught.value)


# --- who is who ---


def test_a_pid_that_is_another_program_now_is_never_signalled(fresh: Lab) -> None:
    """A pid file that names a living process with another start time counts as no Kafka."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        fresh.folder.mkdir()
        record = json.loads(process_record(psutil.Process(bystander.pid)))
        record["started_s"] -= 100
        (fresh.folder / ".kafka.pid").write_text(json.dumps(record))
        assert not status(fresh.folder).running
        assert not stop(fresh.folder).running
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize(
    "content", [None, "", "{}", '{"pid": 1, "started_s": -9.0}'], ids=["lost", "empty", "no pid", "init"]
)
def test_a_kafka_whose_pid_file_is_useless_is_still_known(lab: Lab, content: str | None) -> None:
    """The lock that its process inherited shows that it lives; its command line names the folder."""
    pid, path = lab.start().pid, lab.folder / ".kafka.pid"
    path.unlink() if content is None else path.write_text(content)
    assert status(lab.folder).pid == pid
    assert json.loads(path.read_text())["pid"] == pid
    assert lab.start().pid == pid


def test_a_bystander_with_the_same_folder_in_its_command_is_not_the_broker(fresh: Lab) -> None:
    """Only Java running the broker's class counts, so a search for the folder's name is left alone."""
    fresh.folder.mkdir()
    flag = f"-Dhouses.kafka.folder={fresh.folder}"
    with (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", flag]) as bystander,
        kafka_process.life_lock(fresh.folder),
    ):
        assert not stop(fresh.folder).running
        assert bystander.poll() is None
        bystander.kill()


def test_an_address_beyond_the_loopback_is_never_started_locally(tmp_path: Path) -> None:
    """Neither a name nor the wildcard: nothing is even prepared."""
    for address in ("192.0.2.1:9092", "0.0.0.0:9092", "kafka.school.example:9092"):
        with pytest.raises(BrokerError, match=f"kafka.bootstrap_servers = {address}: .*own loopback"):
            start(tmp_path / "kafka", address)
    assert not (tmp_path / "kafka").exists()


@pytest.mark.parametrize("greeting", [b"", b"220 mail.example ESMTP\r\n"], ids=["silent", "talking"])
def test_a_port_taken_by_another_program_is_reported_with_the_key(
    fresh: Lab, greeting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the address and the key to change, and suggests a free port."""
    monkeypatch.setattr(local_kafka, "_SILENT_PATIENCE_S", 0.1)
    host, port = parse_address(fresh.address)
    with socket.create_server((host, port)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(_greet_all, server, greeting)
        with pytest.raises(BrokerError, match=f"kafka.bootstrap_servers = {fresh.address}: .* not Kafka .* free port"):
            fresh.start()
        server.shutdown(socket.SHUT_RDWR)
    assert not (fresh.folder / "data").exists()


def test_somebody_elses_kafka_at_the_address_is_used(kafka: str, fresh: Lab) -> None:
    """It is not ours, so it is neither recorded nor stopped."""
    found = start(fresh.folder, kafka, fresh.repository)
    assert (found.running, found.pid, found.address) == (False, None, kafka)
    assert found.cluster_id == AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=60).cluster_id
    stop(fresh.folder)
    assert probe(*parse_address(kafka)) == "kafka"


def test_no_network_and_an_empty_cache_start_nothing(fresh: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the ways out; a later start with the network finds a clean folder."""
    monkeypatch.setenv("HOUSES_JAR_CACHE", str(fresh.folder.parent / "empty"))
    with pytest.raises(BrokerError, match="docker compose up -d, or set kafka.bootstrap_servers"):
        fresh.start()
    assert not status(fresh.folder).running
    assert not (fresh.folder / "data").exists()


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BrokerError, match="kafka.data_dir = .*file"):
        start(tmp_path / "file" / "kafka", f"127.0.0.1:{free_port()}")


# --- helpers ---


def _send(lab: Lab, topic: str, value: bytes) -> None:
    admin = AdminClient({"bootstrap.servers": lab.address})
    if topic not in admin.list_topics(timeout=60).topics:
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
    producer = Producer({"bootstrap.servers": lab.address})
    producer.produce(topic, value, partition=0)
    assert producer.flush(60) == 0


def _read(lab: Lab, topic: str) -> list[bytes | None]:
    """All values of a topic's only partition."""
    consumer = Consumer({"bootstrap.servers": lab.address, "group.id": "test", "log_level": 0})
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=60)
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = [message.value() for message in consumer.consume(end, 60)]
    consumer.close()
    return values


def _kill(*processes: psutil.Process) -> None:
    """kill -9, and wait until they are gone, or zombies that nobody has waited for."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # its work was done just before
            process.send_signal(signal.SIGKILL)
    _soon(lambda: not any(is_alive(process) for process in processes))


def _soon(look: Callable[[], T], timeout_s: float = 120.0) -> T:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


def _greet_all(server: socket.socket, greeting: bytes) -> None:
    try:
        while True:
            connection, _ = server.accept()
            connection.sendall(greeting)
    except OSError:
        return


def _environment() -> dict[str, str]:
    root = str(Path(local_kafka.__file__).parents[3])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
