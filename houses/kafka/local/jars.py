"""The jars of Apache Kafka: a pinned list, a cache shared by all projects of a user, and the one download that fills it."""

import csv
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock

from houses.errors import BrokerError

LOG = logging.getLogger(__name__)

KAFKA_VERSION = "4.3.1"
CACHE_VARIABLE = "HOUSES_JAR_CACHE"
_LIST = Path(__file__).with_name("kafka_jars.csv")
_THREADS = 8
_TIMEOUT_S = 30  # of one connection or one read
_SAY_EVERY_S = 1.0
_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned file of a Maven repository; `sha256` in hexadecimal digits."""

    group: str
    artifact: str
    version: str
    size_bytes: int
    sha256: str

    def path(self, cache: Path) -> Path:
        """Where the file lies in a cache laid out as a Maven repository."""
        return cache.joinpath(
            *self.group.split("."), self.artifact, self.version, f"{self.artifact}-{self.version}.jar"
        )

    def is_whole(self, cache: Path) -> bool:
        """Whether the cache holds exactly the pinned bytes."""
        try:
            return hashlib.sha256(self.path(cache).read_bytes()).hexdigest() == self.sha256
        except OSError:
            return False


def pinned_jars(path: Path = _LIST) -> tuple[Jar, ...]:
    """The jars of kafka_2.13 and slf4j-simple, in the order of the class path."""
    with path.open(encoding="ascii", newline="") as file:
        return tuple(Jar(g, a, v, int(size), sha) for g, a, v, size, sha in list(csv.reader(file))[1:])


def cache_folder() -> Path:
    """Folder of the jar cache: $HOUSES_JAR_CACHE, else the user's cache folder of this system."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("houses-lab") / "jars"


def ensure_jars(repository: str, jars: Sequence[Jar] | None = None) -> list[Path]:
    """The paths of all jars, each with its pinned content; missing and torn ones are fetched first.

    Args:
        repository: address of a Maven repository or mirror; empty for Maven Central.
        jars: the pinned list of Kafka if not given.
    Raises:
        BrokerError: a jar is not to be had, or the repository holds other bytes than the pinned ones.
    """
    jars = pinned_jars() if jars is None else jars
    cache = cache_folder()
    if broken := _broken(jars, cache):
        with _cache_lock(cache):
            # Another process may have filled the cache while this one waited.
            if broken := _broken(jars, cache):
                _fetch(broken, cache, repository)
    return [jar.path(cache) for jar in jars]


def _broken(jars: Sequence[Jar], cache: Path) -> list[Jar]:
    return [jar for jar in jars if not jar.is_whole(cache)]


@contextmanager
def _cache_lock(cache: Path) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / ".lock")
        lock.acquire()
    except OSError as error:
        raise BrokerError(
            f"{cache}: the jar cache cannot be written ({error}): set {CACHE_VARIABLE} to a folder that can"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _fetch(jars: Sequence[Jar], cache: Path, repository: str) -> None:
    total_mb = sum(jar.size_bytes for jar in jars) / _MEGABYTE
    count = "1 jar" if len(jars) == 1 else f"{len(jars)} jars"
    LOG.info(
        f"Kafka {KAFKA_VERSION}: fetching {count} ({total_mb:.0f} MB) from {_name(repository)}, once for all projects"
    )
    progress, said = _Progress(), ""
    with ThreadPoolExecutor(_THREADS) as pool:
        todo = {pool.submit(_fetch_one, jar, cache, repository, progress) for jar in jars}
        try:
            while todo:
                done, todo = wait(todo, _SAY_EVERY_S, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                if (news := f"Kafka {KAFKA_VERSION}: {progress.fetched_mb:.0f} of {total_mb:.0f} MB") != said:
                    LOG.info(said := news)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Progress:
    """Counts the bytes that all threads have fetched; called the way jgo asks for."""

    def __init__(self) -> None:
        self._fetched_bytes = 0
        self._lock = threading.Lock()

    @property
    def fetched_mb(self) -> float:
        """Megabytes so far."""
        return self._fetched_bytes / _MEGABYTE

    def _add(self, length_bytes: int) -> None:
        with self._lock:
            self._fetched_bytes += length_bytes

    @contextmanager
    def __call__(self, _name: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        yield self._add


def _fetch_one(jar: Jar, cache: Path, repository: str, progress: _Progress) -> None:
    # Imported here: only the one download needs them, and they cost 0.1 s.
    import requests

    path = jar.path(cache)
    try:
        # jgo takes any file that is there for a good one, also a torn one.
        path.unlink(missing_ok=True)
        _resolve(jar, cache, repository, progress)
    except (requests.RequestException, RuntimeError, ValueError, OSError) as error:
        raise BrokerError(_unreachable(path.name, repository, error)) from error
    if not jar.is_whole(cache):
        path.unlink(missing_ok=True)
        raise BrokerError(
            f"{_name(repository)}: {path.name} is not the pinned file (sha256 {jar.sha256[:12]}...): "
            "try again, or set kafka.maven_repository to another mirror"
        )


def _resolve(jar: Jar, cache: Path, repository: str, progress: _Progress) -> None:
    from jgo.maven import MavenContext, PythonResolver

    context = MavenContext(
        resolver=PythonResolver(progress_callback=progress),
        repo_cache=cache,
        remote_repos={"mirror": repository.rstrip("/")} if repository else None,
        timeout=_TIMEOUT_S,
    )
    context.project(jar.group, jar.artifact).at_version(jar.version).artifact("", "jar").resolve()


def _unreachable(name: str, repository: str, error: Exception) -> str:
    return (
        f"Kafka {KAFKA_VERSION} is not in the cache yet, and {name} cannot be fetched from {_name(repository)} "
        f"({type(error).__name__}): connect to the network once, or run docker compose up -d, "
        "or set kafka.bootstrap_servers to a Kafka that runs (behind a mirror: kafka.maven_repository)"
    )


def _name(repository: str) -> str:
    return repository or "Maven Central"
