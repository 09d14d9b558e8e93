"""A real Apache Kafka on this machine, without Docker, Java or Maven installed: start, stop, status.

It listens on the loopback only, keeps its data in one folder, and stays up until it is stopped.
"""

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from houses.errors import BrokerError
from houses.kafka.local import jvm
from houses.kafka.local.jars import KAFKA_VERSION, ensure_jars
from houses.kafka.local.probe import Address, cluster_id, free_port, is_loopback, parse_address, probe
from houses.system.locks import is_alive

LOG = logging.getLogger(__name__)

_READY_TIMEOUT_S = 60.0
_READY_POLL_S = 0.05
_STOP_TIMEOUT_S = 20.0
_OTHER_STARTER_TIMEOUT_S = 600.0  # it may be in the middle of the one download
_SILENT_PATIENCE_S = 3.0
_BIND_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Status:
    """The Kafka of a data folder.

    `running` says whether a process of this folder lives, `pid` is its process id. `address` is where it listens (host:port,
    None before the first start) and `cluster_id` the id of its data. What `start` returns always answers at `address`; with
    `running` false it is a Kafka of somebody else, and `cluster_id` is that one's.
    """

    running: bool
    pid: int | None
    address: str | None
    cluster_id: str | None
    data_dir: Path
    log_path: Path


def start(data_dir: Path, address: str, repository: str = "") -> Status:
    """Return when a Kafka answers at `address`: the one that is there already, else one started with the data in `data_dir`.

    Args:
        data_dir: folder of the data, made if absent.
        address: host:port of this machine's loopback.
        repository: address of a Maven mirror for the first download; empty for Maven Central.
    Raises:
        BrokerError: the address is not a loopback one, something else listens there, or Kafka does not come up.
    """
    at, folder = _local(address), data_dir.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BrokerError(f"kafka.data_dir = {data_dir}: {error.strerror}: set the key to a folder of yours") from None
    with _only_starter(folder):
        return _running(folder, at) or _foreign(folder, at) or _launch(folder, at, repository)


def stop(data_dir: Path) -> Status:
    """Stop the Kafka of this folder and return when it is gone; nothing happens when none runs.

    Raises:
        BrokerError: it cannot be stopped (it belongs to another user).
    """
    folder = data_dir.resolve()
    if folder.is_dir():
        with _only_starter(folder):
            if process := jvm.find_process(folder):
                _end(process)
            jvm.forget(folder)
    return status(folder)


def status(data_dir: Path) -> Status:
    """What is known of the Kafka of this folder, without asking it: running or not, process id, address, cluster id."""
    folder = data_dir.resolve()
    process = jvm.find_process(folder)
    return Status(
        running=process is not None,
        pid=process.pid if process else None,
        address=jvm.read_address(folder),
        cluster_id=jvm.read_cluster_id(folder),
        data_dir=folder,
        log_path=jvm.log_path(folder),
    )


def _local(address: str) -> Address:
    at = parse_address(address)
    if not is_loopback(at.host):
        raise BrokerError(
            f"kafka.bootstrap_servers = {address}: nothing usable answers there, and a Kafka is only ever started on this "
            "machine's own loopback: start that one, or set the key to 127.0.0.1:9092"
        )
    # localhost may mean ::1 as well, where this Kafka does not listen.
    return at._replace(host="127.0.0.1") if at.host.lower() == "localhost" else at


def _only_starter(folder: Path) -> AbstractContextManager[object]:
    """Only one process at a time starts or stops the Kafka of a folder."""
    lock = FileLock(folder / ".start.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        LOG.info("Another process is just starting or stopping this Kafka: waiting for it")
    try:
        return lock.acquire(timeout=_OTHER_STARTER_TIMEOUT_S)
    except Timeout:
        raise BrokerError(f"{folder}: another process has been starting Kafka here for minutes: end it first") from None


def _running(folder: Path, at: Address) -> Status | None:
    """Second start: the Kafka that runs, once it is ready; None when there is none, or it was just about to end."""
    process = jvm.find_process(folder)
    if process is None:
        return None
    if (address := jvm.read_address(folder)) != str(at):
        raise BrokerError(
            f"kafka.bootstrap_servers = {at}: the Kafka of {folder} runs at {address}: "
            "stop it first (houses kafka stop), or set the key to that address"
        )
    return status(folder) if _is_ready(folder, process, at) else None


def _foreign(folder: Path, at: Address) -> Status | None:
    """The Kafka of somebody else at the address, None when nothing is there; raises BrokerError for another program."""
    deadline = time.monotonic() + _SILENT_PATIENCE_S
    # A Kafka that somebody else is just starting takes connections but stays silent for a while.
    while (answer := probe(*at)) == "other" and time.monotonic() < deadline:
        time.sleep(_READY_POLL_S)
    if answer == "other":
        raise BrokerError(
            f"kafka.bootstrap_servers = {at}: a program that is not Kafka listens there: "
            f"end it, or set the key to a free port such as {at._replace(port=free_port(at.host))}"
        )
    return None if answer == "nothing" else Status(False, None, str(at), cluster_id(*at), folder, jvm.log_path(folder))


def _launch(folder: Path, at: Address, repository: str) -> Status:
    classpath = ensure_jars(repository)
    LOG.info(f"Starting Kafka {KAFKA_VERSION} at {at}, data in {folder}")
    for _ in range(_BIND_ATTEMPTS):
        process = jvm.launch(folder, classpath, str(at), free_port())
        if _is_ready(folder, process, at):
            LOG.info(f"Kafka is ready at {at}; it runs until: houses kafka stop")
            return status(folder)
        jvm.forget(folder)
        # Somebody took a port since it was looked at: ours (then theirs is used), or the controller's (then take another).
        if taken := _foreign(folder, at):
            return taken
        if "failed to bind" not in jvm.read_log(folder).lower():
            break
    raise BrokerError(f"{at}: Kafka does not start: {jvm.last_error(folder)}")


def _is_ready(folder: Path, process: psutil.Process, at: Address) -> bool:
    """Wait until the process answers as the cluster of this folder; False when it has ended instead."""
    expected, deadline = jvm.read_cluster_id(folder), time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if probe(*at) == "kafka" and cluster_id(*at) == expected:
            return True
        if not is_alive(process):
            return False
        time.sleep(_READY_POLL_S)
    raise BrokerError(
        f"{at}: Kafka (process {process.pid}) is not ready after {_READY_TIMEOUT_S:.0f} s: "
        f"{jvm.last_error(folder)}: stop it (houses kafka stop) and try again"
    )


def _end(process: psutil.Process) -> None:
    """Ask the process to stop, wait, and only then kill it; psutil refuses when its id has gone to another program."""
    LOG.info(f"Stopping Kafka (process {process.pid})")
    try:
        process.terminate()
        if psutil.wait_procs([process], _STOP_TIMEOUT_S)[1]:
            LOG.info(f"Kafka did not stop within {_STOP_TIMEOUT_S:.0f} s: killing it (its data survive that)")
            process.kill()
            process.wait(_STOP_TIMEOUT_S)
    except psutil.NoSuchProcess:
        return
    except psutil.Error as error:
        raise BrokerError(
            f"Kafka (process {process.pid}) cannot be stopped ({error}): stop it as the user who started it"
        ) from None
