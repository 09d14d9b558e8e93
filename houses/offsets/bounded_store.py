"""A checkpoint store that never keeps its caller waiting for long: saving goes on beside the reading."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from houses.errors import StoreError
from houses.offsets.checkpoint import Checkpoint, CheckpointStore

T = TypeVar("T")
CONNECT_S, ANSWER_S = 3, 5
"""How long the driver of a store may take to connect, and for one answer: both, before the patience below is over."""
_PATIENCE_S = 10.0
_SAVE_PATIENCE_S = 0.25
_LATE_S = 2.0


class BoundedStore:
    """Another store, each of whose answers is waited for only so long.

    A save that takes longer goes on by itself, and the next one tells what became of it. After an error that is as if
    the answer had been lost on its way: a store that raises may have kept the record all the same.
    """

    def __init__(self, store: CheckpointStore) -> None:
        """Nothing is asked yet."""
        self._store = store
        self.name = store.name
        self._saving: Future[None] | None = None
        self._begun_s = 0.0
        self._error: BaseException | None = self._silence(_PATIENCE_S)
        """Why the store is not known to keep records; at first because it has not kept one yet."""

    def load(self) -> Checkpoint | None:
        """See `CheckpointStore`; `StoreError` after 10 s."""
        return self._answer(_begin(self._store.load))

    def save(self, checkpoint: Checkpoint, *, last: bool = False) -> None:
        """See `CheckpointStore`. Returns or raises within 0.25 s, with the first record 10 s, with the last 2 s.

        1. The save before it must have ended, else this one is left out; that is an error when it takes more than 2 s.
        2. This one begins. 3. When its time is up it goes on by itself, which is no error yet, unless the one before it has
        failed, or none follows that could tell.

        Raises:
            PositionError: as `CheckpointStore`, perhaps of the save before. StoreError: the store is away or too slow.
        """
        patience_s = self._patience_s(last)
        deadline_s = time.monotonic() + patience_s
        # 1. the one before; while there is an error it has been waited for already
        if not self._has_ended(0.0 if self._error and not last else patience_s):
            if last or time.monotonic() - self._begun_s > _LATE_S:
                self._error = self._error or StoreError(f"{self.name}: has not answered yet")
        elif self._error is None or isinstance(self._error, StoreError):
            # 2. this one
            self._begun_s = time.monotonic()
            self._saving = _begin(lambda: self._store.save(checkpoint))
            # 3. its answer
            if not self._has_ended(deadline_s - time.monotonic()) and last:
                self._error = self._error or self._silence(patience_s)
        if self._error:
            raise self._error.with_traceback(None)

    def _patience_s(self, last: bool) -> float:
        if self._saving is None:
            return _PATIENCE_S
        return _LATE_S if last else _SAVE_PATIENCE_S

    def _has_ended(self, patience_s: float) -> bool:
        """Whether no save is on its way when the time is up; notes what the last one brought."""
        if self._saving:
            try:
                self._error = self._saving.exception(max(patience_s, 0.0))
            except TimeoutError:
                return False
        return True

    def forget(self) -> None:
        """See `CheckpointStore`; `StoreError` after 10 s."""
        self._answer(_begin(self._store.forget))

    def close(self) -> None:
        """See `CheckpointStore`; a save that is on its way gets 2 s to arrive, unless it had them before."""
        if self._has_ended(0.0 if self._error else _LATE_S):
            self._store.close()  # else the save holds its connection

    def _answer(self, future: "Future[T]") -> T:
        try:
            return future.result(_PATIENCE_S)
        except TimeoutError:
            raise self._silence(_PATIENCE_S) from None

    def _silence(self, patience_s: float) -> StoreError:
        return StoreError(f"{self.name}: no answer within {patience_s:g} s")


def _begin(work: Callable[[], T]) -> "Future[T]":
    """Do it in a thread of its own, which keeps no process alive."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # whoever waits raises it
            future.set_exception(error)

    threading.Thread(target=run, name="houses-store", daemon=True).start()
    return future
