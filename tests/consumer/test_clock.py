"""The clock on the wall jumps by a day while everything runs: eviction, checkpoints and pacing go by another one."""

import os
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.finished_run import Sender
from support.kafka_lab import make_lab, producers, read_jsonl, reading, wait_until

from houses.config.config import Config
from houses.consumer.consumer import consume
from houses.records import message, metrics
from houses.records.message import PARTS
from houses.records.metrics import last_metrics
from houses.system.locks import FolderLock, lock_owner
from houses.verify.verify import verify

DAY = timedelta(days=1)


class WallClock:
    """What `houses` takes for the time of day; the monotonic clock is not touched."""

    def __init__(self) -> None:
        """The true time."""
        self.off = timedelta()

    def shifted(self) -> type[datetime]:
        """A `datetime` whose `now` is off."""
        clock = self

        class Shifted(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> "Shifted":
                return super().now(tz) + clock.off

        return Shifted


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """To be moved by the test."""
    made, true = WallClock(), time.time
    monkeypatch.setattr(time, "time", lambda: true() + made.off.total_seconds())
    for module in (message, metrics):
        monkeypatch.setattr(module, "datetime", made.shifted())
    return made


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
@pytest.mark.parametrize(("patience_s", "evicted"), [(3600, 0), (1, 1)])
def test_nothing_is_given_up_early_or_never(
    tmp_path: Path, kafka: str, clock: WallClock, jump: timedelta, patience_s: float, evicted: int
) -> None:
    """With an hour's patience a part waits through a jump of a day; with a second's it is given up after a jump back."""
    values = {"consumer.max_pending_age_sec": patience_s, "consumer.offset_save_interval_sec": 0.2}
    made = make_lab(tmp_path, kafka, values | {"consumer.metrics_interval_sec": 0.05})
    sender = Sender(made)
    with reading(made):
        sender.part(PARTS[0], 0)
        sender.houses(1)
        wait_until(houses(made, 1), "the first house")
        generation = checkpoints(made)
        clock.off = jump
        sender.houses(2)
        wait_until(houses(made, 2), "a house after the jump")
        wait_until(lambda: checkpoints(made) > generation + 5, "checkpoints go on")
        wait_until(lambda: made.rejects_path.read_bytes().count(b"evicted") == evicted, "the part is given up, or not")
    assert [line["reason"] for line in read_jsonl(made.rejects_path)] == ["evicted"] * evicted
    assert len({line["completed_at"][:10] for line in read_jsonl(made.houses_path)}) == 2, "the clock did not jump"
    assert verify(made).ok


def houses(made: Config, count: int) -> Callable[[], bool]:
    """Whether so many are written."""
    return lambda: made.houses_path.exists() and made.houses_path.read_bytes().count(b"\n") == count


def checkpoints(made: Config) -> int:
    """Generation of the last one."""
    return int((last_metrics(made.metrics_path) or {}).get("checkpoint_generation", 0))


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_producers_keep_their_pace(tmp_path: Path, kafka: str, clock: WallClock, jump: timedelta) -> None:
    """Neither a day's messages at once nor a day's silence."""
    made = make_lab(tmp_path, kafka, {"producer.msgs_per_sec": 100.0})
    with producers(made) as running:
        begun_s = time.monotonic()
        wait_until(lambda: min(running.sent.values()) >= 50, "half a second's messages")
        clock.off = jump
        wait_until(lambda: min(running.sent.values()) >= 150, "a second's messages more")
        assert max(running.sent.values()) <= 100 * (time.monotonic() - begun_s) + 10
    consume(made, lambda: False, until_end=True)
    assert len({line["house"]["partition_1"]["ts"][:10] for line in read_jsonl(made.houses_path)}) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the time of boot is part of it there alone")
@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_the_holder_of_a_folder_is_still_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    """Whoever looks computes its start from the time of boot, which jumps with the clock."""
    with FolderLock(tmp_path, "consumer"):
        true = psutil._pslinux.boot_time
        monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: true() + jump.total_seconds())
        owner = lock_owner(tmp_path, "consumer")
        assert owner is not None and owner.pid == os.getpid()
