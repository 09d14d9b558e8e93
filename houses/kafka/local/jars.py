"""The jars of Apache Kafka: a pinned list, a cache shared by all projects of a user, and the one download that fills it."""

import csv
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import platformdirs
from filelock import FileLock

from houses.errors import BrokerError
from houses.system.files import REAL

LOG = logging.getLogger(__name__)

KAFKA_VERSION = "4.3.1"
CACHE_VARIABLE = "HOUSES_JAR_CACHE"
_LIST = Path(__file__).with_name("kafka_jars.csv")
_MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"
_THREADS = 8
_TIMEOUT_S = 30  # of one connection or one read
_SAY_EVERY_S = 1.0
_CHUNK_BYTES = 65_536
_MEGABYTE = 1_000_000


class Jar(NamedTuple):
    """One pinned file of a Maven repository; `sha256` in hexadecimal digits."""

    group: str
    artifact: str
    version: str
    size_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """Where the file lies in a Maven repository, and in the cache, which is laid out as one."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.name}"

    def is_at(self, path: Path) -> bool:
        """Whether a file holds exactly the pinned bytes."""
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256
        except OSError:
            return False


def pinned_jars(path: Path = _LIST) -> list[Jar]:
    """The jars of a list, in the order of the class path: kafka_2.13 and slf4j-simple if not given."""
    with path.open(encoding="ascii", newline="") as file:
        return [Jar(g, a, v, int(size), sha) for g, a, v, size, sha in list(csv.reader(file))[1:]]


def cache_folder() -> Path:
    """Folder of the jar cache: $HOUSES_JAR_CACHE, else the user's cache folder of this system."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("houses-lab") / "jars"


def ensure_jars(
    repository: str, jars: Sequence[Jar] | None = None, product: str = f"Kafka {KAFKA_VERSION}"
) -> list[Path]:
    """The paths of all jars, each with its pinned content; missing and torn ones are fetched first.

    Args:
        repository: address (http, https or file) of a Maven repository or mirror; empty for Maven Central.
        jars: the pinned list of Kafka if not given.
        product: what the jars are, for messages.
    Raises:
        BrokerError: a jar is not to be had, or the repository holds other bytes than the pinned ones.
    """
    cache = cache_folder()
    paths = {cache / jar.path: jar for jar in (pinned_jars() if jars is None else jars)}
    if _torn(paths):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / ".lock"):
                # Another process may have filled the cache while this one waited.
                if torn := _torn(paths):
                    _Download(repository, product).run(torn)
        except OSError as error:
            raise BrokerError(
                f"{cache}: the jar cache cannot be written ({error}): set {CACHE_VARIABLE} to a folder that can"
            ) from None
    return list(paths)


def _torn(paths: dict[Path, Jar]) -> dict[Path, Jar]:
    """Those that are missing or hold other bytes."""
    return {path: jar for path, jar in paths.items() if not jar.is_at(path)}


class _Download:
    """Fetches jars from one repository, several at a time."""

    def __init__(self, repository: str, product: str) -> None:
        self._address = (repository or _MAVEN_CENTRAL).rstrip("/")
        self._source = repository or "Maven Central"
        self._product = product
        self._fetched_bytes: dict[Path, int] = {}

    def run(self, jars: dict[Path, Jar]) -> None:
        """Bring each jar to its path, saying once a second how far it has come."""
        total_mb = sum(jar.size_bytes for jar in jars.values()) / _MEGABYTE
        count = "1 jar" if len(jars) == 1 else f"{len(jars)} jars"
        LOG.info(f"{self._product}: fetching {count} ({total_mb:.0f} MB) from {self._source}, once for all projects")
        self._fetched_bytes, said = dict.fromkeys(jars, 0), ""
        with ThreadPoolExecutor(_THREADS) as pool:
            todo = {pool.submit(self._fetch, jar, path) for path, jar in jars.items()}
            try:
                while todo:
                    done, todo = wait(todo, _SAY_EVERY_S, FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    fetched_mb = sum(self._fetched_bytes.values()) / _MEGABYTE
                    if (news := f"{self._product}: {fetched_mb:.0f} of {total_mb:.0f} MB") != said:
                        LOG.info(said := news)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, jar: Jar, path: Path) -> None:
        """The file beside the target takes its place when it is whole: a torn one is never used nor kept."""
        beside = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                for chunk in _chunks(f"{self._address}/{jar.path}"):
                    file.write(chunk)
                    self._fetched_bytes[path] += len(chunk)
            if not jar.is_at(beside):
                raise BrokerError(
                    f"{self._source}: {jar.name} is not the pinned file (sha256 {jar.sha256[:12]}...): "
                    "try again, or set kafka.maven_repository to another mirror"
                )
            REAL.rename(beside, path)
        except (OSError, ValueError) as error:  # requests' own errors are OSErrors
            raise BrokerError(
                f"{self._product} is not in the cache yet, and {jar.name} cannot be fetched from {self._source} "
                f"({type(error).__name__}): connect to the network once, or run docker compose up -d, "
                "or set kafka.bootstrap_servers to a Kafka that runs (behind a mirror: kafka.maven_repository)"
            ) from error
        finally:
            beside.unlink(missing_ok=True)


def _chunks(url: str) -> Iterator[bytes]:
    """The content of an address; proxies are those of the environment."""
    if url.startswith("file:"):
        yield Path(url2pathname(urlsplit(url).path)).read_bytes()
        return
    # Imported here: only the one download needs it, and it costs 0.1 s.
    import requests

    # As it is: a server must not pack what is hashed.
    with requests.get(url, stream=True, timeout=_TIMEOUT_S, headers={"Accept-Encoding": "identity"}) as response:
        response.raise_for_status()
        yield from response.iter_content(_CHUNK_BYTES)
