"""Stop and reset: only what is the project's own, and never while somebody works in the folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient
from support.command_line import call, check, consuming, ends, make_project, read_houses, running, send_houses
from support.kafka_lab import read_jsonl, wait_until

from houses.config.config import Config
from houses.errors import FolderError, HousesError
from houses.kafka.broker import delete_topics, describe_topics, ensure_topics, watermarks
from houses.kafka.clients import connect
from houses.kafka.local import server as local_kafka
from houses.kafka.local.probe import free_port
from houses.lab import reset as reset_module
from houses.lab import stop as admin
from houses.offsets.binding import load_binding, save_binding
from houses.offsets.stores import checkpoint_store
from houses.system.files import REAL
from houses.system.locks import ROLES, FolderLock, Role, is_alive, lock_owner, process_record
from houses.verify.verify import verify

FILES = {
    "binding.json",
    "closed_ids.bin",
    "consumer_offsets.json",
    "faults.jsonl",
    "houses.jsonl",
    "metrics.jsonl",
    "producer_base_id.json",
    "rejects.jsonl",
    "storno_houses.jsonl",
    "storno_ids.json",
}
OF_TOPICS = {"faults.jsonl", "producer_base_id.json"}


def finished(folder: Path, kafka: str, values: dict[str, object] | None = None) -> Config:
    """A project in which 20 houses were sent and read."""
    made = make_project(folder, kafka, values)
    send_houses(made, 20)
    read_houses(made)
    return made


def names(folder: Path) -> set[str]:
    """What stands in a folder, but for locks."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def topic_ids(made: Config) -> dict[str, str]:
    """Name -> id of the topics that exist."""
    found = describe_topics(made.kafka, [made.kafka.topic, made.consumer.storno_topic])
    return {name: topic.id for name, topic in found.items()}


# --- stop ---


def test_nothing_to_stop_is_fine(tmp_path: Path, kafka: str) -> None:
    """Exit code 0, and it says so."""
    assert check(make_project(tmp_path, kafka), "stop").startswith("Nothing to stop")


def test_stop_ends_producer_storno_loop_and_consumer(tmp_path: Path, kafka: str) -> None:
    """All three end in good order, in this order, and the last house is complete."""
    made = make_project(tmp_path, kafka)
    with (
        consuming(made) as consumer,
        running(made, "produce", "--rate", "500", "--rate", "wall=100") as producer,
        running(made, "storno-loop", "--interval", "0.2") as loop,
    ):
        wait_until(lambda: made.houses_path.stat().st_size > 0, "houses")
        wait_until(lambda: len(owners(made)) == 3, "three locks")
        said = check(made, "stop").splitlines()
        ended = [ends(process) for process in (producer, loop, consumer)]
    assert [line.split(" of ")[0] for line in said] == [
        "Stopped the producer",
        "Stopped the storno-loop",
        "Stopped the consumer",
    ]
    assert [status for status, _ in ended] == [0, 0, 0]
    assert not owners(made)
    read_houses(made)
    certificate = verify(made)
    assert certificate.ok
    assert certificate.pending_ids == 0


def owners(made: Config) -> list[int]:
    """Process ids of all holders of the folder."""
    return [owner.pid for role in ROLES if (owner := lock_owner(made.folder, role))]


def test_a_program_that_only_has_the_recorded_pid_is_never_signalled(tmp_path: Path, kafka: str) -> None:
    """The start time in the pid file is another one: nothing to stop, and the program lives."""
    made = make_project(tmp_path, kafka)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        record = json.loads(process_record(psutil.Process(innocent.pid)))
        record["started_s"] -= 1000
        (made.folder / ".consumer.pid").write_text(json.dumps(record), encoding="ascii")
        assert check(made, "stop").startswith("Nothing to stop")
        assert innocent.poll() is None


def test_a_killed_consumer_that_nobody_has_waited_for_owns_nothing(tmp_path: Path, kafka: str) -> None:
    """Its parent has not looked at it, so the system still lists it: nothing to stop, and nothing runs."""
    made = make_project(tmp_path, kafka)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        (made.folder / ".consumer.pid").write_text(process_record(psutil.Process(process.pid)), encoding="ascii")
        assert lock_owner(made.folder, "consumer") is not None
        process.kill()
        wait_until(lambda: not is_alive(psutil.Process(process.pid)), "its death")
        assert lock_owner(made.folder, "consumer") is None
        assert check(made, "stop").startswith("Nothing to stop")


def test_a_kernel_that_produces_is_never_signalled(tmp_path: Path, kafka: str) -> None:
    """The lock is held by a process that is no `houses produce` (here: pytest): exit code 1 says where to stop it."""
    made = make_project(tmp_path, kafka)
    with FolderLock(made.folder, "producer"):
        done = call(made, "stop")
    assert done.returncode == 1
    assert f"process {os.getpid()}" in done.stderr
    assert "stop it there" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no process is suspended by a signal there")
def test_a_process_that_does_not_end_is_named_not_killed(tmp_path: Path, kafka: str) -> None:
    """After the time limit the error says which one; it lives, and ends when it can."""
    made = make_project(tmp_path, kafka)
    with consuming(made) as process:
        psutil.Process(process.pid).suspend()
        with pytest.raises(HousesError, match=f"process {process.pid}.*still runs after 1 s"):
            admin.stop(made, timeout_s=1)
        psutil.Process(process.pid).resume()
        assert ends(process)[0] == 0


def test_stop_all_finds_experiments_too(tmp_path: Path, kafka: str) -> None:
    """A consumer in output/runs is spared by `stop` and ended by `stop --all`."""
    made = make_project(tmp_path, kafka)
    folder = made.folder / "runs" / "first"
    folder.mkdir(parents=True)
    experiment = made.with_values({"consumer.output_file": "houses.jsonl"}, path=folder / "config.yaml")
    experiment.dump(experiment.path)
    with consuming(experiment) as process:
        assert check(made, "stop").startswith("Nothing to stop")
        assert f"process {process.pid}" in check(made, "stop", "--all")
        assert ends(process)[0] == 0


# --- reset ---


def test_reset_removes_topics_and_files_and_nothing_else(tmp_path: Path, kafka: str) -> None:
    """After --yes only a file of somebody else is left, and ids begin at 0 again."""
    made = finished(tmp_path, kafka)
    assert names(made.folder) == FILES
    (made.folder / "notes.txt").write_text("mine", encoding="ascii")
    before = topic_ids(made)
    said = check(made, "reset", "--yes")
    assert f"delete topics {made.kafka.topic}, {made.consumer.storno_topic} with 60 messages" in said
    assert names(made.folder) == {"notes.txt"}
    assert topic_ids(made) == {}
    send_houses(made, 5)
    read_houses(made)
    assert [line["id"] for line in read_jsonl(made.houses_path)] == list(range(5))
    assert not set(topic_ids(made).values()) & set(before.values())


def test_reset_removes_the_checkpoint_that_a_rescan_put_aside(tmp_path: Path, kafka: str) -> None:
    """It is a file of ours as the others are."""
    made = finished(tmp_path, kafka)
    check(made, "consume", "--rescan", "--until-end")
    assert names(made.folder) == FILES | {"consumer_offsets.json.old"}
    check(made, "reset", "--yes")
    assert names(made.folder) == set()


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_reset_without_a_yes_changes_nothing(tmp_path: Path, kafka: str, answer: str) -> None:
    """No, no answer, and nobody there: exit code 1, all as it was."""
    made = finished(tmp_path, kafka)
    before = topic_ids(made)
    done = call(made, "reset", stdin=answer)
    assert done.returncode == 1
    assert "othing was changed" in done.stderr
    assert ("Error" in done.stderr) is (not answer)  # no is an answer, silence is none
    assert names(made.folder) == FILES
    assert topic_ids(made) == before


def test_a_yes_at_the_question_resets(tmp_path: Path, kafka: str) -> None:
    """One confirmation is enough."""
    made = finished(tmp_path, kafka)
    done = call(made, "reset", stdin="y\n")
    assert (done.returncode, names(made.folder)) == (0, set())


def test_reset_keep_kafka_spares_the_topics_and_what_speaks_of_them(tmp_path: Path, kafka: str) -> None:
    """The used ids stay known, so the next houses are new ones; all of the topic is read again."""
    made = finished(tmp_path, kafka)
    before = topic_ids(made)
    check(made, "reset", "--yes", "--keep-kafka")
    assert names(made.folder) == OF_TOPICS
    assert topic_ids(made) == before
    send_houses(made, 5)
    read_houses(made)
    assert [line["id"] for line in read_jsonl(made.houses_path)] == list(range(25))


def test_reset_archive_moves_the_files_aside(tmp_path: Path, kafka: str) -> None:
    """The topics go, the files are in archive/STAMP as they were."""
    made = finished(tmp_path, kafka)
    houses = made.houses_path.read_bytes()
    check(made, "reset", "--yes", "--archive")
    assert names(made.folder) == {"archive"}
    (stamp,) = (made.folder / "archive").iterdir()
    assert names(stamp) == FILES
    assert (stamp / "houses.jsonl").read_bytes() == houses
    assert topic_ids(made) == {}


def test_reset_offsets_reads_the_kept_topics_from_the_beginning(tmp_path: Path, kafka: str) -> None:
    """Twice in a row: each time the same houses in new files, the earlier ones in an archive of their own."""
    made = finished(tmp_path, kafka)
    for archives in (1, 2):
        check(made, "reset", "--yes", "--offsets")
        read_houses(made)
        assert [line["id"] for line in read_jsonl(made.houses_path)] == list(range(20))
        assert len(list((made.folder / "archive").iterdir())) == archives
    assert verify(made).ok


def test_a_second_reset_has_nothing_to_do(tmp_path: Path, kafka: str) -> None:
    """It asks nothing."""
    made = finished(tmp_path, kafka)
    check(made, "reset", "--yes")
    assert check(made, "reset") == "Nothing to reset\n"


@pytest.mark.parametrize("role", list(ROLES))
def test_reset_never_works_while_the_folder_is_held(tmp_path: Path, kafka: str, role: Role) -> None:
    """A consumer, a producer or a storno loop holds it: exit code 1, nothing touched."""
    made = finished(tmp_path, kafka)
    with FolderLock(made.folder, role):
        done = call(made, "reset", "--yes")
    assert done.returncode == 1
    assert f"process {os.getpid()} is its {role}: stop it first (houses stop)" in done.stderr
    assert names(made.folder) == FILES
    assert len(topic_ids(made)) == 2


def test_a_topic_made_anew_by_somebody_else_stays(tmp_path: Path, kafka: str) -> None:
    """Topics are deleted by id: one that only has the same name is left alone, and named."""
    made = finished(tmp_path, kafka)
    delete_topics(made.kafka, [describe_topics(made.kafka, [made.kafka.topic])[made.kafka.topic]])
    ensure_topics(made)
    anew = topic_ids(made)[made.kafka.topic]
    said = check(made, "reset", "--yes")
    assert f"topic {made.kafka.topic} was made anew by somebody else: it stays" in said
    assert topic_ids(made) == {made.kafka.topic: anew}


def test_a_topic_that_is_not_there_is_named(tmp_path: Path, kafka: str) -> None:
    """Deleted by somebody else, or at another Kafka than before: not passed over as if it had been deleted now."""
    made = finished(tmp_path, kafka)
    delete_topics(made.kafka, [describe_topics(made.kafka, [made.kafka.topic])[made.kafka.topic]])
    said = check(made, "reset", "--yes")
    assert f"topic {made.kafka.topic} does not exist at {kafka}: nothing to delete there" in said
    assert f"Deleted topics: {made.consumer.storno_topic}\n" in said


def test_topics_of_a_folder_that_never_was_read_are_those_of_the_configuration(tmp_path: Path, kafka: str) -> None:
    """Houses were sent and no consumer has run: there is no binding yet, and reset removes the topics all the same."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 5)
    check(made, "reset", "--yes")
    assert topic_ids(made) == {}
    assert names(made.folder) == set()


def test_a_damaged_binding_does_not_stop_the_reset_that_cures_it(tmp_path: Path, kafka: str) -> None:
    """The consumer refuses the folder and names `reset --archive`, which then works."""
    made = finished(tmp_path, kafka)
    made.binding_path.write_text("{", encoding="ascii")
    with pytest.raises(FolderError, match="houses reset --archive"):
        read_houses(made)
    check(made, "reset", "--yes", "--archive")
    send_houses(made, 3)
    assert read_houses(made)["houses"] == 3


def test_the_checkpoint_in_kafkas_group_goes_too(tmp_path: Path, kafka: str) -> None:
    """With consumer_group the record is removed with the rest; kept topics are then read from the beginning."""
    made = finished(tmp_path, kafka, {"consumer.consumer_group": True, "consumer.group_id": "reset-own"})
    assert "delete the checkpoint in Kafka group reset-own" in check(made, "reset", "--yes", "--keep-kafka")
    assert "reset-own" not in groups(made)
    read_houses(made)
    assert [line["id"] for line in read_jsonl(made.houses_path)] == list(range(20))


def groups(made: Config) -> set[str]:
    """Names of the groups that Kafka knows."""
    client = connect(AdminClient, made.kafka)
    return {group.group_id for group in client.list_consumer_groups().result(60).valid}


def test_the_checkpoint_of_another_folder_stays(tmp_path: Path, kafka: str) -> None:
    """Two folders on the same topics and group: the reset of one leaves the other's record where it is."""
    first = finished(tmp_path, kafka, {"consumer.consumer_group": True, "consumer.group_id": "reset-shared"})
    second = first.with_values({}, path=tmp_path / "second" / "config.yaml")
    second.folder.mkdir(parents=True)
    second.dump(second.path)
    binding = load_binding(REAL, first.binding_path)
    assert binding
    save_binding(REAL, second.binding_path, type(binding).new(binding.parts, binding.storno))
    said = check(second, "reset", "--yes", "--keep-kafka")
    assert "holds the checkpoint of another folder" in said
    store = checkpoint_store(first)
    record = store.load()
    store.close()
    assert record
    assert record.folder == binding.folder


def test_a_reset_that_was_cut_short_can_be_repeated(
    tmp_path: Path, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Died after any file: the consumer refuses or goes on without a double, and another reset does the rest."""
    made = finished(tmp_path, kafka)
    unlink = REAL.unlink

    def dying(path: Path) -> None:
        if path == made.storno_houses_path:
            raise OSError(5, "Input/output error")
        unlink(path)

    with reset_module.exclusive(made.folder), monkeypatch.context() as patched:
        plan = reset_module.plan_reset(made, keep_kafka=False, archive=False)
        patched.setattr(REAL, "unlink", dying)
        with pytest.raises(OSError, match="Input/output"):
            reset_module.reset(made, plan)
    assert made.binding_path.exists()
    with pytest.raises(HousesError, match="houses reset --archive"):
        read_houses(made)
    check(made, "reset", "--yes")
    assert names(made.folder) == set()


@pytest.mark.slow
def test_where_deleting_stops_kafka_its_data_are_cleared_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: the plan says so, the local Kafka stops, and starts again without topics."""
    address = f"127.0.0.1:{free_port()}"
    made = make_project(tmp_path, address, {"kafka.data_dir": str(tmp_path / "kafka")})
    try:
        send_houses_after_start(made)
        monkeypatch.setattr(reset_module, "deleting_stops_kafka", lambda _: True)
        with reset_module.exclusive(made.folder):
            plan = reset_module.plan_reset(made, keep_kafka=False, archive=False)
            assert "delete all its topics, those of experiments too" in plan.lines()[0]
            assert local_kafka.status(made.data_dir).running
            reset_module.reset(made, plan)
        assert not local_kafka.status(made.data_dir).running
        assert names(made.folder) == set()
        send_houses_after_start(made)
        assert watermarks(made.kafka, made.kafka.topic, [0]) == {0: (0, 5)}
    finally:
        local_kafka.stop(made.data_dir)


def send_houses_after_start(made: Config) -> None:
    """Start the local Kafka again and send five houses."""
    check(made, "kafka", "start")
    send_houses(made, 5)
