"""The jar cache: a small Maven repository on the loopback stands in for Maven Central."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest

from houses.errors import BrokerError
from houses.kafka.local.jars import Jar, ensure_jars, pinned_jars
from houses.kafka.local.probe import free_port


class Repository:
    """A Maven repository of three small jars that counts what is fetched from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched: list[str] = []
        self.jars = [self._publish(name, (name * 20_000).encode("ascii")) for name in ("ant", "bee", "cat")]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self.fetched, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _publish(self, name: str, content: bytes) -> Jar:
        jar = Jar("org.zoo", name, "1.0", len(content), hashlib.sha256(content).hexdigest())
        (self.folder / jar.path).parent.mkdir(parents=True)
        (self.folder / jar.path).write_bytes(content)
        return jar

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, fetched: list[str], *args: object, directory: str) -> None:
        self._fetched = fetched
        super().__init__(*args, directory=directory)  # type: ignore[arg-type]  # request, address and server as given

    def do_GET(self) -> None:
        self.path = urlsplit(self.path).path  # a proxy is asked for whole addresses
        if self.path.endswith(".jar"):
            self._fetched.append(self.path.rpartition("/")[2])
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Keep the test output clean."""


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """A running repository."""
    repository = Repository(tmp_path / "repository")
    yield repository
    repository.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test alone."""
    monkeypatch.setenv("HOUSES_JAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_pinned_list_is_kafka_with_one_logger() -> None:
    """46 files, each once and with a full sha256, among them Kafka 4.3.1 and slf4j-simple 1.7.36."""
    jars = pinned_jars()
    assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars) == 46
    assert {("kafka_2.13", "4.3.1"), ("slf4j-simple", "1.7.36")} <= {(jar.artifact, jar.version) for jar in jars}
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)


def test_an_empty_cache_is_filled_once_with_progress(repository: Repository, cache: Path, said: list[str]) -> None:
    """The first call fetches each jar, telling so; the second one neither fetches nor speaks."""
    paths = ensure_jars(repository.address, repository.jars)
    assert paths == [cache / jar.path for jar in repository.jars]
    assert said[0] == f"Kafka 4.3.1: fetching 3 jars (0 MB) from {repository.address}, once for all projects"
    assert said[-1] == "Kafka 4.3.1: 0 of 0 MB"
    said.clear()
    assert ensure_jars(repository.address, repository.jars) == paths
    assert sorted(repository.fetched) == ["ant-1.0.jar", "bee-1.0.jar", "cat-1.0.jar"]
    assert said == []


def test_a_full_cache_needs_no_network(repository: Repository) -> None:
    """Once everything is there, a repository that nobody serves is never asked."""
    paths = ensure_jars(repository.address, repository.jars)
    assert ensure_jars(_nobody(), repository.jars) == paths


def test_no_network_and_an_empty_cache_give_one_line_with_the_ways_out(repository: Repository) -> None:
    """The message names what was wanted, from where, and what to do instead."""
    address = _nobody()
    with pytest.raises(BrokerError) as caught:
        ensure_jars(address, repository.jars)
    message = str(caught.value)
    assert "\n" not in message
    assert "-1.0.jar cannot be fetched from " + address in message
    assert all(way in message for way in ("docker compose up -d", "kafka.bootstrap_servers", "kafka.maven_repository"))


@pytest.mark.parametrize("torn", [b"", b"antant", b"\0" * 60_000], ids=["empty", "half", "zeros"])
def test_a_torn_jar_is_fetched_again_once(repository: Repository, torn: bytes) -> None:
    """Only the jar that is not whole is fetched, and then it is."""
    paths = ensure_jars(repository.address, repository.jars)
    paths[0].write_bytes(torn)
    ensure_jars(repository.address, repository.jars)
    assert repository.fetched.count("ant-1.0.jar") == 2
    assert len(repository.fetched) == 4
    assert hashlib.sha256(paths[0].read_bytes()).hexdigest() == repository.jars[0].sha256


def test_a_repository_with_other_bytes_is_refused(repository: Repository, cache: Path) -> None:
    """What is not the pinned file is never used nor kept (a login page of a school network, a tampered mirror)."""
    (repository.folder / repository.jars[1].path).write_bytes(b"<html>please log in</html>")
    with pytest.raises(BrokerError, match=r"bee-1\.0\.jar is not the pinned file"):
        ensure_jars(repository.address, repository.jars)
    assert not list(cache.rglob("bee*.*"))


def test_a_jar_that_the_repository_lacks_is_named(repository: Repository) -> None:
    """A mirror that is not complete gives the same one line."""
    (repository.folder / repository.jars[2].path).unlink()
    with pytest.raises(BrokerError, match=r"cat-1\.0\.jar cannot be fetched from http://127\.0\.0\.1"):
        ensure_jars(repository.address, repository.jars)


def test_a_fetch_that_breaks_off_leaves_nothing_and_the_next_one_is_whole(
    repository: Repository, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network goes in the middle of each file: no target, no half file, and the same error as without a network."""

    def half(self: _Handler, source: BinaryIO, target: BinaryIO) -> None:
        target.write(source.read()[:30_000])

    with monkeypatch.context() as broken:
        broken.setattr(_Handler, "copyfile", half)
        with pytest.raises(BrokerError, match=r"-1\.0\.jar cannot be fetched from .* \(\w+Error\): connect"):
            ensure_jars(repository.address, repository.jars)
    assert [path.name for path in cache.rglob("*.*") if path.is_file()] in ([], [".lock"])
    paths = ensure_jars(repository.address, repository.jars)
    assert all(jar.is_at(path) for jar, path in zip(repository.jars, paths, strict=True))


def test_a_mirror_may_be_a_folder(repository: Repository, tmp_path: Path) -> None:
    """A file:// address, with a blank in its path; what it lacks is named as with any other."""
    mirror = repository.folder.rename(tmp_path / "a mirror")
    assert "%20" in mirror.as_uri()
    paths = ensure_jars(mirror.as_uri(), repository.jars)
    assert all(jar.is_at(path) for jar, path in zip(repository.jars, paths, strict=True))
    paths[0].unlink()
    (mirror / repository.jars[0].path).unlink()
    with pytest.raises(BrokerError, match=r"ant-1\.0\.jar cannot be fetched from file://.*a%20mirror"):
        ensure_jars(mirror.as_uri(), repository.jars)
    assert repository.fetched == []


def test_a_proxy_of_the_environment_is_asked(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A school's way out: the mirror's own name is known to the proxy alone."""
    monkeypatch.setenv("http_proxy", repository.address)
    monkeypatch.setenv("no_proxy", "")
    ensure_jars("http://mirror.invalid/", repository.jars)
    assert len(repository.fetched) == 3


def test_another_pinned_list_is_fetched_under_its_own_name(
    repository: Repository, tmp_path: Path, said: list[str]
) -> None:
    """A CSV of the same form, beside that of Kafka."""
    rows = (",".join(map(str, jar)) for jar in repository.jars)
    (tmp_path / "zoo.csv").write_text("\n".join(["group,artifact,version,size_bytes,sha256", *rows]) + "\n")
    paths = ensure_jars(repository.address, pinned_jars(tmp_path / "zoo.csv"), "Zoo 1.0")
    assert [path.name for path in paths] == ["ant-1.0.jar", "bee-1.0.jar", "cat-1.0.jar"]
    assert said[0].startswith("Zoo 1.0: fetching 3 jars") and said[-1] == "Zoo 1.0: 0 of 0 MB"


def test_two_at_once_fetch_each_jar_once(repository: Repository) -> None:
    """The second one waits for the first and finds a full cache."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: ensure_jars(repository.address, repository.jars), range(2))
    assert first == second
    assert len(repository.fetched) == 3


def test_a_cache_folder_that_cannot_be_made_is_named(cache: Path, repository: Repository) -> None:
    """A file where the cache folder should be: the message says which variable to set."""
    cache.write_bytes(b"")
    with pytest.raises(BrokerError, match="HOUSES_JAR_CACHE"):
        ensure_jars(repository.address, repository.jars)


def _nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"
