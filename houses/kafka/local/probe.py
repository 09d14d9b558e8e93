"""Who listens on a port: two raw requests of Kafka's protocol, for when a client cannot tell nothing from not-Kafka."""

import ipaddress
import random
import socket
import struct
from typing import Literal, NamedTuple

from houses.errors import BrokerError

Answer = Literal["nothing", "kafka", "other"]


class Look(NamedTuple):
    """What was found at an address."""

    answer: Answer
    why: str = ""
    """Where nothing answers, the reason in words."""


_API_VERSIONS = (18, 0)
_METADATA = (3, 4)
_CORRELATION = 0x486F7573
_LONGEST_ANSWER_BYTES = 1_000_000
# Below the range from which Linux (32768) and the others (49152) hand out ports of outgoing connections.
_FREE_PORTS = range(20_000, 32_768)


def probe(host: str, port: int, timeout_s: float = 0.3) -> Answer:
    """The answer of `look` alone."""
    return look(host, port, timeout_s).answer


def look(host: str, port: int, timeout_s: float = 0.3) -> Look:
    """What listens at an address: nothing, a Kafka, or something that does not answer as Kafka in `timeout_s` seconds.

    A Kafka answers in about 3 ms, nobody refuses at once, only a silent program takes the whole time. A Kafka that is just
    starting, or one that expects TLS, counts as "other".

    Source:
        ApiVersions request, version 0: <https://kafka.apache.org/protocol#The_Messages_ApiVersions>
    """
    try:
        return Look("other" if _ask(host, port, _API_VERSIONS, b"", timeout_s) is None else "kafka")
    except (OSError, UnicodeError) as error:
        return Look("nothing", _in_words(error, timeout_s))


def _in_words(error: OSError | UnicodeError, timeout_s: float) -> str:
    match error:
        case UnicodeError() | socket.gaierror():
            return "the host name cannot be resolved"
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return f"no connection within {timeout_s:g} s"
        case _:
            return error.strerror or str(error)


def cluster_id(host: str, port: int, timeout_s: float = 1.0) -> str | None:
    """The id of the cluster that answers (without TLS or login) at an address; None when no Kafka does.

    Source:
        Metadata request, version 4: <https://kafka.apache.org/protocol#The_Messages_Metadata>
    """
    try:
        # No topics wanted, none to be created.
        answer = _ask(host, port, _METADATA, struct.pack(">i?", 0, False), timeout_s)
        return None if answer is None else _cluster_id_of(answer)
    except (OSError, UnicodeError, struct.error):
        return None


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[::1]:port"; raises BrokerError for anything else."""
    host, colon, port = address.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536) or "," in host:
        raise BrokerError(f"kafka.bootstrap_servers = {address}: must be one host:port, as in 127.0.0.1:9092")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on at this moment, outside the range of outgoing connections; raises BrokerError."""
    for port in random.sample(_FREE_PORTS, 100):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as candidate:
            try:
                candidate.bind((host, port))
                return port
            except OSError:
                continue
    raise BrokerError(f"{host}: 100 ports tried and none is free: close some programs and try again")


def _ask(host: str, port: int, api: tuple[int, int], body: bytes, timeout_s: float) -> bytes | None:
    """What follows the correlation id in Kafka's answer; None when it is no such answer, OSError when nothing listens."""
    request = struct.pack(">hhih", *api, _CORRELATION, -1) + body
    with socket.create_connection((host, port), timeout_s) as connection:
        try:
            connection.sendall(struct.pack(">i", len(request)) + request)
            length_bytes, correlation = struct.unpack(">ii", _receive(connection, 8))
            if correlation != _CORRELATION or not 4 <= length_bytes <= _LONGEST_ANSWER_BYTES:
                return None
            return _receive(connection, length_bytes - 4)
        except OSError:
            return None


def _receive(connection: socket.socket, length_bytes: int) -> bytes:
    data = b""
    while len(data) < length_bytes:
        chunk = connection.recv(length_bytes - len(data))
        if not chunk:
            raise ConnectionResetError("closed in the middle of an answer")
        data += chunk
    return data


def _cluster_id_of(metadata: bytes) -> str | None:
    """The cluster id in a Metadata response: throttle time, then the brokers, then the id."""
    count, position = struct.unpack_from(">i", metadata, 4)[0], 8
    for _ in range(count):
        _, position = _string(metadata, position + 4)
        _, position = _string(metadata, position + 4)
    return _string(metadata, position)[0]


def _string(data: bytes, position: int) -> tuple[str | None, int]:
    length_bytes: int = struct.unpack_from(">h", data, position)[0]
    start = position + 2
    if length_bytes < 0:
        return None, start
    return data[start : start + length_bytes].decode("utf-8", "replace"), start + length_bytes
