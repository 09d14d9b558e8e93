"""Who listens on a port: a raw request of Kafka's protocol, since a client cannot tell nothing from not-Kafka."""

import ipaddress
import random
import socket
import struct
from typing import Literal, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from houses.errors import BrokerError

Answer = Literal["nothing", "kafka", "other"]


class Address(NamedTuple):
    """Where a Kafka listens; as text host:port, an IPv6 address in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Look(NamedTuple):
    """What was found at an address."""

    answer: Answer
    why: str = ""
    """Where nothing answers, the reason in words."""


_CORRELATION = 0x486F7573
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, _CORRELATION, -1)
"""The request: length, key, version, a number that the answer repeats, no client id."""
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
        return Look("kafka" if _answers_as_kafka(host, port, timeout_s) else "other")
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
    """The id of the cluster that answers (without TLS or login) at an address; None when no Kafka does."""
    admin = AdminClient({"bootstrap.servers": str(Address(host, port)), "log_level": 0})
    try:
        return str(admin.list_topics(timeout=timeout_s).cluster_id)
    except KafkaException:
        return None


def parse_address(address: str) -> Address:
    """The parts of "host:port" or "[::1]:port"; raises BrokerError for anything else."""
    host, colon, port = address.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536) or "," in host:
        raise BrokerError(f"kafka.bootstrap_servers = {address}: must be one host:port, as in 127.0.0.1:9092")
    return Address(host, int(port))


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


def _answers_as_kafka(host: str, port: int, timeout_s: float) -> bool:
    """Whether the answer begins as one of Kafka's: with its length and our number; OSError when nothing listens."""
    with socket.create_connection((host, port), timeout_s) as connection:
        try:
            connection.sendall(_API_VERSIONS)
            with connection.makefile("rb") as answer:
                length_bytes, correlation = struct.unpack(">ii", answer.read(8))
            return bool(correlation == _CORRELATION and 4 <= length_bytes <= _LONGEST_ANSWER_BYTES)
        except (OSError, struct.error):  # silent, or gone in the middle of it
            return False
