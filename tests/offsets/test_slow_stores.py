"""Offset stores that are slow to answer, or say nothing, without a server."""

import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy.exc import OperationalError

from houses.errors import PositionError, StoreError
from houses.offsets.bounded_store import BoundedStore
from houses.offsets.checkpoint import Checkpoint, taken_over
from houses.offsets.sql_store import SqlStore

RECORD = Checkpoint("folder", ("a", "b"), 1, (1, 2, 3), (4, 5, 6), 7, (8, 9, 10), (0, 1, 2))
SOON_S = 0.15
"""Much less than a save is waited for."""


class SlowStore:
    """A store whose saves take some time, wait for an event, or fail after that."""

    name = "slow"

    def __init__(self) -> None:
        self.record: Checkpoint | None = None
        self.takes_s = 0.0
        self.answers = Event()
        self.answers.set()
        self.error: Exception | None = None
        self.is_closed = False

    def load(self) -> Checkpoint | None:
        return self.record

    def save(self, checkpoint: Checkpoint, *, last: bool = False) -> None:
        time.sleep(self.takes_s)
        self.answers.wait()
        if self.error:
            raise self.error
        self.record = checkpoint

    def forget(self) -> None:
        self.record = None

    def close(self) -> None:
        self.is_closed = True


def seconds_of(store: BoundedStore, generation: int, *, last: bool = False) -> float:
    """How long a save takes that raises nothing."""
    begun_s = time.monotonic()
    store.save(replace(RECORD, generation=generation), last=last)
    return time.monotonic() - begun_s


def refused(store: BoundedStore, generation: int, error: str, *, last: bool = False) -> float:
    """How long a save takes that raises this."""
    begun_s = time.monotonic()
    with pytest.raises(StoreError, match=error):
        store.save(replace(RECORD, generation=generation), last=last)
    return time.monotonic() - begun_s


def test_a_save_that_takes_longer_is_no_error() -> None:
    """Nor holds it the reading up; the first and the last are waited for."""
    slow = SlowStore()
    slow.takes_s = 0.4
    with closing(BoundedStore(slow)) as store:
        store.save(RECORD)
        assert slow.record == RECORD
        for generation in (2, 3, 4):
            assert seconds_of(store, generation) < slow.takes_s
        store.save(last := replace(RECORD, generation=5), last=True)
        assert slow.record == last
    assert slow.is_closed


def test_a_store_that_falls_silent_is_told_of_until_it_answers() -> None:
    """Once two seconds are over, and saves then cost no time; the record is the newest as soon as it answers."""
    slow = SlowStore()
    with closing(BoundedStore(slow)) as store:
        store.save(RECORD)
        slow.answers.clear()
        for generation in (2, 3, 4):  # two of them are left out
            assert seconds_of(store, generation) < 0.4
        time.sleep(2.0)
        refused(store, 5, "slow: has not answered yet")
        assert refused(store, 6, "slow: has not answered yet") < SOON_S
        slow.answers.set()
        time.sleep(SOON_S)
        store.save(newest := replace(RECORD, generation=7))
        assert slow.record == newest


def test_a_store_that_fails_late_is_told_of_until_a_save_is_taken() -> None:
    """Its own words, although no save of them fails in its time."""
    slow = SlowStore()
    with closing(BoundedStore(slow)) as store:
        store.save(RECORD)
        slow.takes_s, slow.error = 0.4, StoreError("slow: down for repair")
        store.save(replace(RECORD, generation=2))
        time.sleep(slow.takes_s)
        refused(store, 3, "down for repair")
        time.sleep(slow.takes_s)
        refused(store, 4, "down for repair")
        slow.takes_s, slow.error = 0.0, None
        time.sleep(0.4)
        store.save(newest := replace(RECORD, generation=5))
        assert slow.record == newest


def test_another_consumers_record_is_told_of_late_rather_than_never() -> None:
    """By the next save, and by the last one itself."""
    for last in (False, True):
        slow = SlowStore()
        with closing(BoundedStore(slow)) as store:
            store.save(RECORD)
            slow.takes_s, slow.error = 0.4, taken_over("slow", "folder")
            if not last:
                store.save(RECORD)
            with pytest.raises(PositionError, match="another consumer has saved positions"):
                store.save(RECORD, last=last)


def test_the_last_save_is_given_up_after_two_seconds() -> None:
    """And closing does not wait for it again. The first is waited for longer, since nothing goes on without it."""
    slow = SlowStore()
    store = BoundedStore(slow)
    store.save(RECORD)
    slow.answers.clear()
    assert 1.9 < refused(store, 2, "slow: no answer within 2 s", last=True) < 3
    begun_s = time.monotonic()
    store.close()
    assert time.monotonic() - begun_s < SOON_S and not slow.is_closed
    slow.answers.set()


def test_an_error_without_words_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers raise some that are empty."""
    store = SqlStore(f"sqlite:///{tmp_path / 'offsets.db'}", None, lambda: "folder")

    def refuse() -> None:
        raise OperationalError(None, None, sqlite3.OperationalError(" \n"))

    monkeypatch.setattr(store._engine, "begin", refuse)
    with pytest.raises(
        StoreError, match=r"offsets.db: OperationalError; check consumer.offset_store, the file and its folder"
    ):
        store.load()


def test_a_table_that_was_dropped_is_made_again(tmp_path: Path) -> None:
    """It is looked for once, and again after an error."""
    path = tmp_path / "offsets.db"
    with closing(SqlStore(f"sqlite:///{path}", None, lambda: "folder")) as store:
        store.save(RECORD)
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE houses_checkpoints")
        with pytest.raises(StoreError, match="no such table"):
            store.save(RECORD)
        store.save(RECORD)
        assert store.load() == RECORD
