"""The offset stores on real servers: one contract for all, outages, a second writer, and no password in any text."""

import shutil
import signal
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import redis
from support.command_line import consuming, ends, make_project, read_houses, run, running, send_houses
from support.kafka_lab import Values, read_jsonl, wait_until
from support.store_servers import ESCAPED, PASSWORD, Server, far_away, server

from houses.config.config import Config
from houses.errors import PositionError, StoreError
from houses.kafka.clients import TopicInfo
from houses.offsets.binding import Binding, save_binding
from houses.offsets.checkpoint import Checkpoint, CheckpointStore
from houses.offsets.stores import checkpoint_store
from houses.records.metrics import last_metrics
from houses.system.files import REAL
from houses.verify.verify import verify

pytestmark = pytest.mark.system

SERVERS = ("postgresql", "mysql", "redis")
RECORD = Checkpoint("", ("a", "b"), 1, (1, 2, 3), (4, 5, 6), 7, (8, 9, 10), (0, 1, 2))


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    """One of each, for all tests of this file."""
    with ExitStack() as stack:
        yield {kind: stack.enter_context(server(kind)) for kind in SERVERS}


def address_of(request: pytest.FixtureRequest) -> str:
    """What a user writes as `consumer.offset_store`, for the kind that the test is run with."""
    if request.param not in SERVERS:
        return "sqlite:///output/offsets.db" if request.param == "sqlite" else str(request.param)
    made: Server = request.getfixturevalue("servers")[request.param]
    return made.address


@pytest.fixture(params=("sqlite", *SERVERS))
def address(request: pytest.FixtureRequest) -> str:
    """Of a store that needs no Kafka."""
    return address_of(request)


@pytest.fixture(params=("kafka", "sqlite", *SERVERS))
def outside(request: pytest.FixtureRequest) -> Values:
    """Settings of each store outside the output folder, or that could be, and a group of the test's own."""
    return {"consumer.offset_store": address_of(request), "consumer.group_id": uuid.uuid4().hex}


def bound(config: Config) -> str:
    """A folder with a binding but without topics; returns its UUID."""
    binding = Binding.new(TopicInfo("a", "a", 3), TopicInfo("b", "b", 1))
    config.folder.mkdir(parents=True, exist_ok=True)
    save_binding(REAL, config.binding_path, binding)
    return binding.folder


def made_config(folder: Path, address: str) -> Config:
    """A configuration that needs no Kafka."""
    return make_project(folder, "127.0.0.1:1", {"consumer.offset_store": address})


def opened(config: Config) -> "closing[CheckpointStore]":
    """The store, closed at the end of the block."""
    return closing(checkpoint_store(config))


# --- the contract ---


def test_a_store_gives_back_what_was_saved_last(tmp_path: Path, address: str) -> None:
    """None at first; each folder has its own; a forgotten record is gone, and forgetting nothing is fine."""
    config = made_config(tmp_path, address)
    with opened(config) as store:
        assert store.load() is None
        store.forget()
    folder = bound(config)
    first = replace(RECORD, folder=folder)
    with opened(config) as store:
        assert store.load() is None
        for generation in (1, 2, 3):
            store.save(replace(first, generation=generation))
    with opened(config) as store:
        assert store.load() == replace(first, generation=3)
        store.save(replace(first, generation=4))
        store.forget()
        assert store.load() is None
        store.save(first)
        assert store.load() == first


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path: Path, address: str) -> None:
    """Both have loaded the same record; whoever saves first keeps it. So with no record at all."""
    config = made_config(tmp_path, address)
    first = replace(RECORD, folder=bound(config))
    for _ in ("without a record", "with one"):
        with opened(config) as original, opened(config) as copy:
            assert original.load() == copy.load()
            generation = (original.load() or first).generation + 1
            original.save(replace(first, generation=generation))
            with pytest.raises(PositionError, match=r"another consumer has saved positions.*copy.*consume --rescan"):
                copy.save(replace(first, generation=generation))
            original.save(replace(first, generation=generation + 1))
            with pytest.raises(PositionError, match="another consumer"):
                copy.save(replace(first, generation=generation + 2))
    with opened(config) as store:
        assert store.load() == replace(first, generation=5)


def test_a_request_that_arrives_behind_a_later_one_changes_nothing(tmp_path: Path, servers: dict[str, Server]) -> None:
    """Given up after some seconds, held back by the network: each save is one request of Redis."""
    config = made_config(tmp_path, servers["redis"].address)
    first = replace(RECORD, folder=bound(config))
    with opened(config) as store:
        for generation in (2, 3, 2):
            store.save(replace(first, generation=generation))
    with opened(config) as store:
        assert store.load() == replace(first, generation=3)


def test_the_password_is_in_no_text(tmp_path: Path, servers: dict[str, Server]) -> None:
    """Neither in the configuration and its file, nor in names, nor in the error of a wrong one."""
    for kind in SERVERS:
        folder = tmp_path / kind
        folder.mkdir()
        config = made_config(folder, servers[kind].address)
        bound(config)
        wrong = config.with_values(
            {"consumer.offset_store": servers[kind].address.replace(ESCAPED, f"wrong-{ESCAPED}")}
        )
        with opened(wrong) as store, pytest.raises(StoreError) as error:
            store.load()
        texts = [repr(config), str(config), config.path.read_text(), store.name, str(error.value), repr(error.value)]
        assert not any(word in text for word in (PASSWORD, ESCAPED, "wrong-") for text in texts), texts
        assert store.name in str(error.value)


# --- consumers ---


def test_restarts_go_on_where_they_were(tmp_path: Path, kafka: str, outside: Values) -> None:
    """Five kills, each of a consumer at work; each house once, and no offset file; the certificate knows the record."""
    slow = {"consumer.max_batch": 10, "consumer.flush_every": 1, "consumer.offset_save_interval_sec": 0.1}
    made = make_project(tmp_path, kafka, outside | slow)
    random = Random(7)
    for round_number in range(1, 6):
        send_houses(made, 1000)
        before = written(made)
        with running(made, "consume") as process:
            await_houses(made, before + random.randint(1, 300))
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert before < written(made) < round_number * 1000
    read_houses(made.with_values({"consumer.max_batch": 1000, "consumer.flush_every": 100}))
    assert sorted(line["id"] for line in read_jsonl(made.houses_path)) == list(range(5000))
    assert verify(made).ok and not made.offsets_path.exists()
    with opened(made) as store:
        record = store.load()
    assert record is not None and record.next == (5000, 5000, 5000)


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_a_store_that_goes_away_holds_nothing_up_but_the_checkpoint(
    tmp_path: Path, kafka: str, servers: dict[str, Server], kind: str, outage: str
) -> None:
    """Houses are written as before, the status says what is wrong, and when it is back the checkpoint is taken."""
    store = servers[kind]
    made = make_project(
        tmp_path, kafka, {"consumer.offset_store": store.address, "consumer.offset_save_interval_sec": 0.2}
    )
    send_houses(made, 20)
    with consuming(made) as process:
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 20, "20 houses")
        store.kill() if outage == "killed" else store.suspend()
        wait_until(lambda: "no checkpoint taken" in last_error(made), "the error in the measurements")
        assert store.address.partition("@")[2] in last_error(made)
        send_houses(made, 40)
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 60, "40 more houses", 2.0)
        store.start() if outage == "killed" else store.resume()
        wait_until(lambda: last_error(made) == "", "the next checkpoint", 30.0)
        process.terminate()
        status, said = ends(process)
    assert status == 0 and PASSWORD not in said and ESCAPED not in said
    assert verify(made).ok
    with opened(made) as opened_store:
        record = opened_store.load()
    assert record is not None and record.next == (60, 60, 60)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_store_far_away_is_slow_but_not_in_trouble(
    tmp_path: Path, kafka: str, servers: dict[str, Server], kind: str
) -> None:
    """40 ms there and back, a few times a save: no error in any measurement, and the record is the newest at the end."""
    with far_away(servers[kind].address, 0.02) as address:
        made = make_project(
            tmp_path, kafka, {"consumer.offset_store": address, "consumer.offset_save_interval_sec": 0.2}
        )
        with consuming(made) as process:
            for sent in (20, 40, 60, 80):
                send_houses(made, 20)
                await_houses(made, sent)
                time.sleep(0.5)
            process.terminate()
            status, said = ends(process)
        with opened(made) as store:
            record = store.load()
    assert status == 0 and "no checkpoint taken" not in said, said
    assert [line["last_error"] for line in read_jsonl(made.metrics_path) if line["last_error"]] == []
    assert record is not None and record.next == (80, 80, 80)


def test_a_redis_that_takes_no_writes_is_waited_for(tmp_path: Path, kafka: str, servers: dict[str, Server]) -> None:
    """It reads and keeps silent on what writes, for longer than an answer is waited for: nobody else has saved anything."""
    store = servers["redis"]
    made = make_project(
        tmp_path, kafka, {"consumer.offset_store": store.address, "consumer.offset_save_interval_sec": 0.2}
    )
    send_houses(made, 20)
    with consuming(made) as process, closing(redis.Redis.from_url(store.address)) as client:
        client.client_pause(8000, all=False)
        wait_until(lambda: "no checkpoint taken" in last_error(made), "the error in the measurements")
        wait_until(lambda: last_error(made) == "", "the next checkpoint", 20.0)
        send_houses(made, 20)
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 40, "20 more houses")
        process.terminate()
        status, said = ends(process)
    assert status == 0, said
    assert "no checkpoint taken, the last one stays good" in said and "another consumer" not in said
    with opened(made) as opened_store:
        record = opened_store.load()
    assert record is not None and record.next == (40, 40, 40)


def written(made: Config) -> int:
    """How many houses have their whole lines."""
    return made.houses_path.read_bytes().count(b"\n") if made.houses_path.exists() else 0


def await_houses(made: Config, count: int) -> None:
    """Return when so many are written, or more."""
    wait_until(lambda: written(made) >= count, f"{count} houses")


def last_error(made: Config) -> str:
    """What the consumer says in its measurements."""
    return str((last_metrics(made.metrics_path) or {}).get("last_error", ""))


def test_an_sqlite_file_that_another_program_holds_is_waited_for(tmp_path: Path, kafka: str) -> None:
    """Houses are written as before, and when it lets go the checkpoint is taken."""
    values = {"consumer.offset_store": "sqlite:///output/offsets.db", "consumer.offset_save_interval_sec": 0.2}
    made = make_project(tmp_path, kafka, values)
    send_houses(made, 20)
    with consuming(made) as process, closing(sqlite3.connect(made.folder / "offsets.db", timeout=60)) as other:
        other.execute("BEGIN EXCLUSIVE")
        wait_until(lambda: "no checkpoint taken" in last_error(made), "the error in the measurements")
        send_houses(made, 40)
        wait_until(lambda: len(read_jsonl(made.houses_path)) == 60, "all houses")
        other.rollback()
        wait_until(lambda: last_error(made) == "", "the next checkpoint")
        process.terminate()
        assert ends(process)[0] == 0
    assert verify(made).ok
    with opened(made) as store:
        record = store.load()
    assert record is not None and record.next == (60, 60, 60)


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_a_store_that_is_away_at_the_start_is_an_error(
    tmp_path: Path, kafka: str, servers: dict[str, Server], kind: str, outage: str
) -> None:
    """One line that names the store and the key; nothing is read."""
    store = servers[kind]
    made = make_project(tmp_path, kafka, {"consumer.offset_store": store.address})
    store.kill() if outage == "killed" else store.suspend()
    try:
        done = run(made, "consume", "--until-end")
    finally:
        store.start() if outage == "killed" else store.resume()
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert store.address.partition("@")[2] in done.stderr and PASSWORD not in done.stderr
    assert not made.houses_path.exists() or made.houses_path.read_bytes() == b""


def test_a_copy_of_a_folder_beside_the_original_is_refused(tmp_path: Path, kafka: str, outside: Values) -> None:
    """At the next checkpoint at the latest, with the way out; the original loses nothing."""
    made = make_project(tmp_path, kafka, outside | {"consumer.offset_save_interval_sec": 0.2})
    why = (
        "another program has set its offsets"
        if made.consumer.store == "kafka"
        else "another consumer has saved positions"
    )
    send_houses(made, 20)
    read_houses(made)
    copy = tmp_path / "copy"
    shutil.copytree(made.folder, copy / "output")
    copied = made.with_values({}, path=copy / "config.yaml")
    copied.dump(copied.path)
    with consuming(made) as original:
        refused = run(copied, "consume", "--until-end")
        if refused.returncode == 0:  # it came first: then the original is the second writer
            status, said = ends(original)
            assert status == 1 and why in said
            return
        original.terminate()
        assert ends(original)[0] == 0
    assert why in refused.stderr and "consume --rescan" in refused.stderr
    assert verify(made).ok
