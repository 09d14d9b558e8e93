"""Who listens on a port: nothing, a Kafka, or some other program."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka.admin import AdminClient

from houses.errors import BrokerError
from houses.kafka.local.probe import cluster_id, free_port, is_loopback, look, parse_address, probe

Talk = Callable[[socket.socket], None]


@contextmanager
def program(talk: Talk) -> Iterator[int]:
    """The port of a program that treats each connection with `talk`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, talk), daemon=True).start()
        yield server.getsockname()[1]


def _serve(server: socket.socket, talk: Talk) -> None:
    try:
        while True:
            connection, _ = server.accept()
            with connection:
                talk(connection)
    except OSError:
        return


def _is_silent(connection: socket.socket) -> None:
    while connection.recv(100):
        pass


def _greets(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.9 and more of this\r\n")
    connection.recv(100)


def _answers_http(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def _echoes(connection: socket.socket) -> None:
    connection.sendall(connection.recv(100))


def _hangs_up(connection: socket.socket) -> None:
    connection.recv(1)


def _promises_much(connection: socket.socket) -> None:
    request = connection.recv(100)
    connection.sendall(struct.pack(">i", 2**31 - 1) + request[8:12])


@pytest.mark.parametrize("talk", [_is_silent, _greets, _answers_http, _echoes, _hangs_up, _promises_much])
def test_another_program_is_not_taken_for_kafka(talk: Talk) -> None:
    """Silent or talking, it is "other" and has no cluster id."""
    with program(talk) as port:
        assert probe("127.0.0.1", port, 0.1) == "other"
        assert cluster_id("127.0.0.1", port, 0.1) is None


def test_a_port_that_nobody_listens_on_is_nothing() -> None:
    """A refused connection, and also a host that does not exist, or whose name no host can have: each with its reason."""
    assert look("127.0.0.1", free_port()) == ("nothing", "connection refused")
    for host in ("no-such-host.invalid", "a" * 64 + ".invalid"):
        assert look(host, 9092) == ("nothing", "the host name cannot be resolved")
    assert cluster_id("127.0.0.1", free_port()) is None


def test_a_kafka_is_known_by_its_answer_and_its_cluster_id(kafka: str) -> None:
    """The two raw requests say the same as a real client."""
    host, port = parse_address(kafka)
    assert probe(host, port) == "kafka"
    admin = AdminClient({"bootstrap.servers": kafka})
    assert cluster_id(host, port) == admin.list_topics(timeout=60).cluster_id


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:9092", ("127.0.0.1", 9092)),
        ("[::1]:80", ("::1", 80)),
        (" kafka.school:65535 ", ("kafka.school", 65535)),
    ],
)
def test_an_address_is_split_into_host_and_port(address: str, expected: tuple[str, int]) -> None:
    """Host names, IPv4 and bracketed IPv6."""
    assert parse_address(address) == expected


@pytest.mark.parametrize(
    "address", ["", "9092", ":9092", "host:", "host:0", "host:65536", "host:x", "host:٣", "a:1,b:2"]
)
def test_a_bad_address_is_quoted(address: str) -> None:
    """The error names the key and shows what was given."""
    with pytest.raises(BrokerError, match="kafka.bootstrap_servers = ") as caught:
        parse_address(address)
    assert address in str(caught.value)


def test_loopback_is_this_machine_alone() -> None:
    """localhost, 127/8 and ::1; not the wildcard address, not a name that happens to start alike."""
    assert all(is_loopback(host) for host in ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(
        is_loopback(host) for host in ("0.0.0.0", "10.0.0.1", "localhost.evil.example", "127.0.0.1.nip.io", "")
    )


def test_a_free_port_can_be_bound_and_lies_below_the_outgoing_ones() -> None:
    """Linux hands out outgoing ports from 32768 on."""
    port = free_port()
    assert 20_000 <= port < 32_768
    with socket.create_server(("127.0.0.1", port)):
        assert probe("127.0.0.1", port, 0.1) == "other"
