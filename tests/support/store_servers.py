"""Real servers for the offset stores, each on a port and in a folder of its own, and not as root."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from houses.kafka.local.probe import free_port

PASSWORD = "s3cret/@:%"  # characters that an address must escape
ESCAPED = "s3cret%2F%40%3A%25"
_READY_TIMEOUT_S = 30.0


@dataclass
class Server:
    """A server that may be stopped, frozen and started again."""

    address: str
    """For `consumer.offset_store`, with its password."""
    command: list[str]
    user: str | None
    folder: Path
    is_ready: Callable[[], bool]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Return when it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, user=self.user, stdout=log, stderr=log, cwd=self.folder, env=os.environ | {"LC_ALL": "C"}
            )
        deadline_s = time.monotonic() + _READY_TIMEOUT_S
        while not self.is_ready():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline_s, (self.folder / "server.log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """End it without warning, with its children."""
        for process in reversed(self._family()):  # the parent first: it would start children anew
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process:
            self.process.wait()

    def suspend(self) -> None:
        """Freeze it: it takes connections and says nothing."""
        for process in self._family():
            process.suspend()

    def resume(self) -> None:
        """Let it go on."""
        for process in self._family():
            process.resume()

    def _family(self) -> list[psutil.Process]:
        if self.process is None or self.process.poll() is not None:
            return []
        parent = psutil.Process(self.process.pid)
        return [*parent.children(recursive=True), parent]


@contextmanager
def server(kind: str) -> Iterator[Server]:
    """`postgresql`, `mysql` (MariaDB) or `redis`, until the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix=f"houses-{kind}-"))
    user = {"postgresql": "postgres", "mysql": "mysql", "redis": "redis"}[kind] if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    made = {"postgresql": _postgresql, "mysql": _mariadb, "redis": _redis}[kind](folder, user, free_port())
    try:
        made.start()
        yield made
    finally:
        made.resume()
        made.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def far_away(address: str, one_way_s: float) -> Iterator[str]:
    """The address of a server as if it were this far: every piece of bytes takes so long, there and back."""
    parts = urlsplit(address)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = (listener, (parts.hostname or "", parts.port or 0), one_way_s)
        threading.Thread(target=_relay_all, args=arguments, daemon=True).start()
        yield address.replace(f":{parts.port}/", f":{listener.getsockname()[1]}/")
        listener.shutdown(socket.SHUT_RDWR)


def _relay_all(listener: socket.socket, server: tuple[str, int], one_way_s: float) -> None:
    with suppress(OSError):  # the end of the block
        while True:
            near, far = listener.accept()[0], socket.create_connection(server)
            for ends in ((near, far), (far, near)):
                ends[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_relay, args=(*ends, one_way_s), daemon=True).start()


def _relay(source: socket.socket, target: socket.socket, one_way_s: float) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            time.sleep(one_way_s)
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _run(command: list[str], user: str | None, folder: Path, **options: Any) -> None:
    done = subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def _postgresql(folder: Path, user: str | None, port: int) -> Server:
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    options = ["--username=houses", "--pwfile=password", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
    _run([str(binaries / "initdb"), "-D", str(folder / "data"), *options], user, folder)
    command = [str(binaries / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", ""]
    address = f"postgresql://houses:{ESCAPED}@127.0.0.1:{port}/postgres"
    return Server(address, command, user, folder, lambda: _answers(address))


def _mariadb(folder: Path, user: str | None, port: int) -> Server:
    data = f"--datadir={folder / 'data'}"
    _run(
        ["mariadb-install-db", "--no-defaults", data, "--skip-test-db", "--auth-root-authentication-method=normal"],
        user,
        folder,
    )
    statements = (
        "CREATE DATABASE IF NOT EXISTS houses;",
        f"CREATE USER IF NOT EXISTS 'houses'@'%' IDENTIFIED BY '{PASSWORD}';",
        "GRANT ALL ON houses.* TO 'houses'@'%';",
    )
    (folder / "init.sql").write_text("\n".join(statements) + "\n")
    command = ["mariadbd", "--no-defaults", "--skip-name-resolve", data, f"--port={port}", "--bind-address=127.0.0.1"]
    command += [f"--socket={folder / 'socket'}", f"--init-file={folder / 'init.sql'}", f"--pid-file={folder / 'pid'}"]
    address = f"mysql://houses:{ESCAPED}@127.0.0.1:{port}/houses"
    return Server(address, command, user, folder, lambda: _answers(address))


def _redis(folder: Path, user: str | None, port: int) -> Server:
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD]
    command += ["--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always"]
    address = f"redis://:{ESCAPED}@127.0.0.1:{port}/0"
    return Server(address, command, user, folder, lambda: _answers(address))


def _answers(address: str) -> bool:
    """Whether its login works, asked without the code under test."""
    parts = urlsplit(address)
    login: dict[str, Any] = {"host": parts.hostname, "port": parts.port, "password": PASSWORD}
    try:
        if parts.scheme == "redis":
            import redis

            return bool(redis.Redis(**login).ping())
        if parts.scheme == "postgresql":
            import psycopg

            psycopg.connect(**login, user="houses", dbname="postgres", connect_timeout=2).close()
        else:
            import pymysql  # type: ignore[import-untyped]  # it ships no types

            pymysql.connect(**login, user="houses", database="houses", connect_timeout=2).close()
    except Exception:  # noqa: BLE001  # each library has its own
        return False
    return True
