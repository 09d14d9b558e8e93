"""The kernel of a headless run: this very Python, in the folder of the run; and how signals make it stop."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from houses.config.config import PROJECT_ROOT
from houses.lab.run_folder import RUN_DIR_VARIABLE

KERNEL_NAME = "python3"
LOG_NAME = "kernel.log"
_CONNECTION_NAME = ".kernel.json"
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_SETTLE_S = 0.3
"""A cell that was just sent runs by then: an interrupt that comes to an idle kernel is lost."""
_PATIENCE_S = 5.0
"""What an interrupted cell may take to stop producers and consumer; the consumer needs 4.5 s at most when it is alone."""
_POLL_S = 0.05


class _OwnKernel(KernelSpecManager):
    """Knows one kernel, this Python: what is installed in the Jupyter paths may be another one's, or gone."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        quiet = get_kernel_dict(
            extra_arguments=["--log-level=ERROR"]
        )  # else each run warns that loopback is not encrypted
        return KernelSpec(name=kernel_name, resource_dir=RESOURCES, **quiet)


class Kernel:
    """A kernel for one run. The client that gets `manager` starts it with `options` and ends it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is started yet; all that it writes by itself goes into `folder`, which is there."""
        self._folder = folder
        self.manager = AsyncKernelManager(
            kernel_name=KERNEL_NAME,
            kernel_spec_manager=_OwnKernel(),
            connection_file=str(folder / _CONNECTION_NAME),
        )

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
    def options(self) -> dict[str, Any]:
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
        if self.manager.has_kernel and (provisioner := self.manager.provisioner):
            _call(provisioner.send_signal(signal.SIGINT))

    def kill(self) -> None:
        """End it without any warning. Its consumer stops by itself, for the pipe that it reads ends."""
        if self.manager.has_kernel and (provisioner := self.manager.provisioner):
            _call(provisioner.kill())


def _call(step: Coroutine[Any, Any, None]) -> None:
    """Do what jupyter_client has made a coroutine of although it waits for nothing."""
    with suppress(ProcessLookupError):  # it has ended just now
        asyncio.run(step)


class StopGuard:
    """Turns Ctrl-C and termination into an orderly stop of a kernel: first an interrupt, after five seconds a kill.

    Nothing is raised where the signal comes in: the client would lose the outputs that are on their way. `asked` tells of it.
    A second signal kills at once. Outside the main thread signals are left as they are.
    """

    def __init__(self, kernel: Kernel) -> None:
        """No signal is listened to yet."""
        self._kernel = kernel
        self._count = 0
        self._over = False
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

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._over = True

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
        self._count += 1

    def _watch(self) -> None:
        """Runs in a daemon thread until the guard is left."""
        if self._comes(lambda: self._count > 0):
            self._comes(lambda: self._count > 1, _SETTLE_S)
            self._kernel.interrupt()
            self._comes(lambda: self._count > 1, _PATIENCE_S)
            if not self._over:
                self._kernel.kill()

    def _comes(self, event: Callable[[], bool], timeout_s: float = float("inf")) -> bool:
        """Wait for an event, but not beyond the end of the guard; whether it came."""
        deadline_s = time.monotonic() + timeout_s
        while not (came := event()) and not self._over and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        return came
