"""Work that takes long, beside the caller: for handlers of a page, which must return at once."""

import threading
from collections import deque
from collections.abc import Callable

from houses.errors import describe_error

Work = Callable[[], object]


class Background:
    """Does one piece of work after the other in a thread that lives only while there is something to do."""

    def __init__(self) -> None:
        """Nothing to do yet."""
        self._lock = threading.Lock()
        self._queued: deque[tuple[str, Work]] = deque()
        self._thread: threading.Thread | None = None
        self.doing = ""
        """What is being done, in a word or two; empty when nothing is."""
        self.last_error = ""
        """What went wrong last, in one line; empty after work that went well."""

    def submit(self, what: str, work: Work) -> None:
        """Do `work` as soon as all before it is done; returns at once. Its error becomes `last_error`."""
        with self._lock:
            self._queued.append((what, work))
            self.doing = self.doing or what
            if self._thread is None:
                self._thread = threading.Thread(target=self._work_off, name="houses-background", daemon=True)
                self._thread.start()

    def _work_off(self) -> None:
        while work := self._next():
            try:
                work()
                self.last_error = ""
            except Exception as error:  # noqa: BLE001  # shown by whoever asked for the work
                self.last_error = describe_error(error)

    def _next(self) -> Work | None:
        with self._lock:
            if not self._queued:
                self._thread, self.doing = None, ""
                return None
            self.doing, work = self._queued.popleft()
            return work

    def drop_queued(self) -> None:
        """Drop what was not begun."""
        with self._lock:
            self._queued.clear()

    def await_begun(self) -> None:
        """Return when all that was begun is done."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
