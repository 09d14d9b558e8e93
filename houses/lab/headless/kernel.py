"""The kernel of a headless run: this very Python, in the folder of the run; and how signals make it stop."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Self

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from houses.config.config import PROJECT_ROOT
from houses.lab.run_folder import RUN_DIR_VARIABLE

KERNEL_NAME = "python3"
LOG_NAME = "kernel.log"
_CONNECTION_NAME = ".kernel.json"
_QUIET = ["--log-level=ERROR"]  # else each run warns that loopback is not encrypted
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_SETTLE_S = 0.3
"""A cell that was just sent runs by then: an interrupt that comes to an idle kernel is lost."""
_PATIENCE_S = 5.0
"""What an interrupted cell may take to stop producers and consumer; the consumer needs 4.5 s at most when it is alone."""
_OVER = -1
"""In the queue of signals: the run has ended."""


class Kernel:
    """A kernel for one run. The client makes its manager of `manager_class`; so it owns the kernel, and ends it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is started yet; all that it writes by itself goes into `folder`, which is there."""
        self._folder = folder
        self._manager: AsyncKernelManager | None = None

    def __enter__(self) -> Self:
        self._log = (self._folder / LOG_NAME).open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        """Close its log, and remove it when nothing was said."""
        self._log.close()
        path = self._folder / LOG_NAME
        if not path.stat().st_size:
            path.unlink()

    @property
    def manager_class(self) -> type[AsyncKernelManager]:
        """Starts this Python: the kernels that are installed in the Jupyter paths may be another one's, or gone."""
        kernel = self

        class Manager(AsyncKernelManager):
            def __init__(self, **options: Any) -> None:
                super().__init__(connection_file=str(kernel._folder / _CONNECTION_NAME), **options)
                kernel._manager = self

            @property
            def kernel_spec(self) -> KernelSpec:
                return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict(extra_arguments=_QUIET))

            async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]  # it is a coroutine there too
                await self._async_start_kernel(**options | kernel._options)

        return Manager

    @property
    def _options(self) -> dict[str, Any]:
        """How it is started: in the folder of the run, where this package is found, and its experiments go there."""
        paths = (str(PROJECT_ROOT), os.environ.get("PYTHONPATH"))
        own = {
            RUN_DIR_VARIABLE: str(self._folder),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # a warning of the debugger, which nobody uses here
        }
        return {"cwd": str(self._folder), "env": os.environ | own, "stdout": self._log, "stderr": self._log}

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the cell that runs; may be called by any thread."""
        self._call(lambda process: process.send_signal(signal.SIGINT))

    def kill(self) -> None:
        """End it without any warning. Its consumer stops by itself, for the pipe that it reads ends."""
        self._call(lambda process: process.kill())

    def _call(self, step: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        """Do what jupyter_client has made a coroutine of although it waits for nothing."""
        if (manager := self._manager) and manager.has_kernel and (process := manager.provisioner):
            with suppress(ProcessLookupError):  # it has ended just now
                asyncio.run(step(process))


class StopGuard:
    """Turns Ctrl-C and termination into an orderly stop of a kernel: first an interrupt, after five seconds a kill.

    Nothing is raised where the signal comes in: the client would lose the outputs that are on their way. `asked` tells of it.
    A second signal kills at once. Outside the main thread signals are left as they are.
    """

    def __init__(self, kernel: Kernel) -> None:
        """No signal is listened to yet."""
        self._kernel = kernel
        self._events = SimpleQueue[int]()  # its put() may be called by the handler of a signal
        self._previous: dict[int, Any] = {}
        self.asked = 0
        """The first signal that came; 0: none."""

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # ignored: nohup, & in a script
                    self._previous[number] = signal.signal(number, self._on_signal)
        threading.Thread(target=self._watch, name="houses-kernel-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._events.put(_OVER)

    def raise_if_asked(self, note: str) -> None:
        """After all is stopped and written: KeyboardInterrupt for Ctrl-C, else SystemExit with 128 + the signal.

        Args:
            note: what the user should know, added to the exception.
        """
        if self.asked:
            error = KeyboardInterrupt() if self.asked == signal.SIGINT else SystemExit(128 + self.asked)
            error.add_note(note)
            raise error

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self.asked = self.asked or number
        self._events.put(number)

    def _watch(self) -> None:
        """Runs in a daemon thread until the guard is left."""
        if self._next() != _OVER:
            second = self._next(_SETTLE_S)
            self._kernel.interrupt()
            if (second or self._next(_PATIENCE_S)) != _OVER:
                self._kernel.kill()

    def _next(self, timeout_s: float | None = None) -> int | None:
        """The next signal, or `_OVER`; None when nothing comes in time."""
        try:
            return self._events.get(timeout=timeout_s)
        except Empty:
            return None
