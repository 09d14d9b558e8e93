"""The files in the data folder of the local Kafka, all but Kafka's own: settings, marker, log."""

import base64
import json
import shutil
import uuid
from pathlib import Path

from houses.system.files import REAL, replace_file

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


def mark_formatted(folder: Path, cluster_id: str) -> None:
    """Say that the data are complete: without this last step they count as half-formatted."""
    replace_file(REAL, _marker(folder), json.dumps({"cluster_id": cluster_id}).encode("ascii"))


def clear_data(folder: Path) -> None:
    """Remove half-formatted data, which Kafka neither starts with nor formats again."""
    shutil.rmtree(folder / "data", ignore_errors=True)


def new_cluster_id() -> str:
    """22 letters of URL-safe base64; no leading dash, which would read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode("ascii")).startswith("-"):
        pass
    return text


def log_path(folder: Path) -> Path:
    """What the broker has printed since its last start."""
    return folder / "kafka.log"


def begin_log(folder: Path) -> None:
    """Start an empty log and keep the one before it, which tells why a broker has died."""
    if log_path(folder).exists():
        REAL.rename(log_path(folder), folder / "kafka.previous.log")


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
