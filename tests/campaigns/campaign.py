"""The crash campaign: a real broker, real producers with faults, stornos, and a consumer that is killed again and again."""

import hashlib
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from support.command_line import is_reading, make_project, read_houses, running
from support.kafka_lab import Values, read_jsonl, wait_until

from houses.config.config import Config, child_environment, load
from houses.errors import HousesError
from houses.kafka.broker import ensure_topics
from houses.producer.faults import FAULTS_NAME
from houses.producer.producers import Producers
from houses.producer.storno import StornoLoop
from houses.records.message import PARTS
from houses.system.locks import lock_owner
from houses.verify.certificate import Certificate
from houses.verify.verify import verify

_RATE_HZ = 300.0
_RECENT_BYTES = 1 << 16
_LOOK_EVERY_S = 0.05
_STORNO_EVERY_S = 0.05


class Follower:
    """A reader of a growing JSONL file, as a program of a user may be: no whole line that it saw may change or vanish."""

    def __init__(self, path: Path) -> None:
        """Nothing seen yet."""
        self._path = path
        self._seen = 0
        """Bytes of whole lines."""
        self._digest = hashlib.sha256()
        self._recent = b""
        """The last of them."""

    def look(self) -> None:
        """Read what is new, and the last of what is not; AssertionError when that has changed."""
        if not self._path.exists():
            assert not self._seen, f"{self._path.name} has vanished"
            return
        with self._path.open("rb") as file:
            file.seek(self._seen - len(self._recent))
            data = file.read()
        assert data.startswith(self._recent), f"{self._path.name}: a line before byte {self._seen} changed or vanished"
        new = data[len(self._recent) : data.rfind(b"\n") + 1]
        self._seen += len(new)
        self._digest.update(new)
        self._recent = (self._recent + new)[-_RECENT_BYTES:]

    def look_at_all(self) -> None:
        """Every byte that was ever seen, again."""
        self.look()
        with self._path.open("rb") as file:
            assert hashlib.sha256(file.read(self._seen)).digest() == self._digest.digest(), "an early line has changed"


class Outcome(NamedTuple):
    """What a campaign came to."""

    kills: int
    in_recovery: int
    """Kills of a consumer that had taken the folder and did not read on yet."""
    houses: int
    """Ids that were sent whole."""
    lost: int
    """Of these, ids without a line of their house."""
    twice: int
    """Lines of houses beyond the first of an id."""
    certificate: Certificate

    @property
    def ok(self) -> bool:
        """Whether the promise was kept."""
        return self.certificate.ok and not self.lost and not self.twice

    def __str__(self) -> str:
        """In one line."""
        proof = "verified" if self.certificate.ok else "NOT VERIFIED"
        return (
            f"kills {self.kills:,} ({self.in_recovery:,} before it read on), houses {self.houses:,}, lost {self.lost:,}, "
            f"twice {self.twice:,}; {proof}"
        )


def campaign(
    folder: Path, kafka: str, kills: int, seed: int, values: Values | None = None, say: Callable[[str], None] = print
) -> Outcome:
    """Send, cancel, and kill the consumer at random moments, also while it recovers; then read to the end and count.

    Args:
        folder: of the project, empty.
        kafka: bootstrap address.
        seed: of the moments, faults and stornos.
        values: settings, such as another offset store.
    Raises:
        AssertionError: a line that was seen has changed or vanished.
    """
    random = Random(seed)
    faults = {f"producer.faults.{part.name}": {"duplicate": 0.02, "malformed": 0.01} for part in PARTS}
    often = {"consumer.offset_save_interval_sec": 0.2, "consumer.metrics_interval_sec": 0.05, "producer.seed": seed}
    rates = {"producer.msgs_per_sec": _RATE_HZ}
    made = make_project(folder, kafka, faults | often | rates | (values or {}))
    made = load(made.path, made.secrets | child_environment())  # the password of a store, as consumers get it
    ensure_topics(made)
    followers = [Follower(path) for path in (made.houses_path, made.storno_houses_path, made.rejects_path)]
    with sending(made, _STORNO_EVERY_S) as producers:
        in_recovery = sum(_kill_once(made, random, followers, number, say) for number in range(1, kills + 1))
    read_houses(made)
    for follower in followers:
        follower.look_at_all()
    return _counted(made, kills, in_recovery, producers)


@contextmanager
def sending(made: Config, storno_every_s: float) -> Iterator[Producers]:
    """Producers, and stornos of the newest houses."""
    with Producers(made, made.kafka.topic, made.folder) as producers:
        stornos = StornoLoop(made, producers.recent_id, storno_every_s).start()
        try:
            yield producers
        finally:
            stornos.stop()


def _kill_once(
    made: Config, random: Random, followers: list[Follower], number: int, say: Callable[[str], None]
) -> bool:
    """Start the consumer and kill it; whether that was before it read on."""
    with running(made, "consume") as process:
        if random.random() < 0.5:
            _await(process, lambda: is_reading(made, process.pid))
            _watch(followers, random.uniform(0, 1.0))
        else:
            _await(process, lambda: _holds_folder(made, process.pid))
            _watch(followers, random.uniform(0, 0.3))
        reads = is_reading(made, process.pid)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise _ended_by_itself(process)
    say(f"kill {number}: {'while it read' if reads else 'before it read on'}")
    return not reads


def _await(process: "subprocess.Popen[str]", done: Callable[[], bool]) -> None:
    def done_or_dead() -> bool:
        if process.poll() is not None:
            raise _ended_by_itself(process)
        return done()

    wait_until(done_or_dead, "the consumer reads")


def _ended_by_itself(process: "subprocess.Popen[str]") -> HousesError:
    assert process.stdout
    return HousesError(f"the consumer ended by itself: {process.stdout.read().strip()}")


def _holds_folder(made: Config, pid: int) -> bool:
    owner = lock_owner(made.folder, "consumer")
    return owner is not None and owner.pid == pid


def _watch(followers: list[Follower], seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        for follower in followers:
            follower.look()
        time.sleep(min(_LOOK_EVERY_S, left_s))


def _counted(made: Config, kills: int, in_recovery: int, producers: Producers) -> Outcome:
    sent = set(range(producers.first_id, producers.highest_id + 1)) - _spoiled(made)
    lines = [*read_jsonl(made.houses_path), *read_jsonl(made.storno_houses_path)]
    written = Counter(line["id"] for line in lines if not line.get("late"))
    return Outcome(
        kills,
        in_recovery,
        len(sent),
        len(sent - written.keys()),
        sum(count - 1 for count in written.values()),
        verify(made),
    )


def _spoiled(made: Config) -> set[int]:
    """Ids of which a part was replaced by a malformed message: no house can come of them."""
    return {line["id"] for line in read_jsonl(made.folder / FAULTS_NAME) if line["fault"] == "malformed"}
