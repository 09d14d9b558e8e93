"""A checkpoint store that never keeps its caller waiting for long: saving goes on beside the reading."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from houses.checkpoint import Checkpoint, CheckpointStore
from houses.errors import PositionError, StoreError

T = TypeVar("T")
_PATIENCE_S = 10.0
_SAVE_PATIENCE_S = 0.25
_FAREWELL_S = 2.0


class BoundedStore:
    """Another store, each of whose answers is waited for only so long.

    A save that takes longer goes on by itself, and the next one is refused until it has ended. That is as if the answer
    had been lost on its way: a store that raises may have kept the record all the same.
    """

    def __init__(self, store: CheckpointStore) -> None:
        """Nothing is asked yet."""
        self._store = store
        self._saving: Future[None] | None = None
        self._patience_s = _PATIENCE_S
        self.name = store.name

    def load(self) -> Checkpoint | None:
        """See `CheckpointStore`; `StoreError` after 10 s."""
        return self._answer(_begin(self._store.load), _PATIENCE_S)

    def save(self, checkpoint: Checkpoint) -> None:
        """See `CheckpointStore`; `StoreError` after 0.25 s, of the first record after 10 s."""
        if (earlier := self._saving) and not earlier.done():
            raise StoreError(f"{self.name}: has not answered yet")
        # What became of the earlier one matters only when this folder's record is somebody else's by now.
        if earlier and isinstance(refusal := earlier.exception(), PositionError):
            raise refusal
        self._saving = _begin(lambda: self._store.save(checkpoint))
        self._answer(self._saving, self._patience_s)
        self._patience_s = _SAVE_PATIENCE_S

    def forget(self) -> None:
        """See `CheckpointStore`; `StoreError` after 10 s."""
        self._answer(_begin(self._store.forget), _PATIENCE_S)

    def close(self) -> None:
        """See `CheckpointStore`; a save that is on its way gets 2 s to arrive."""
        if self._saving:
            try:
                self._saving.exception(_FAREWELL_S)
            except TimeoutError:
                return  # it holds its connection
        self._store.close()

    def _answer(self, future: "Future[T]", patience_s: float) -> T:
        try:
            return future.result(patience_s)
        except TimeoutError:
            raise StoreError(f"{self.name}: no answer within {patience_s:g} s") from None


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
