"""Configuration of the lab's kernels, which `lab.py lab` copies to where IPython looks for it: .venv/etc/ipython.

A kernel of ipykernel 7.3.0 takes messages of its control channel before its start is over, and some that come in that
moment are lost: the lock and the manager that they need are not there yet. JupyterLab sends such a message, for the
thread that answers widgets, as soon as a kernel was restarted; without an answer to it a panel is dead.
"""

import asyncio
from typing import Any

from ipykernel import kernelbase

Kernel: Any = kernelbase.Kernel
_start, _dispatch_control = Kernel.start, Kernel.dispatch_control


def _start_and_say_so(kernel: Any) -> None:
    _start(kernel)
    kernel.has_started = True


async def _dispatch_once_started(kernel: Any, message: Any) -> None:
    while not getattr(kernel, "has_started", False):
        await asyncio.sleep(0.001)
    await _dispatch_control(kernel, message)


Kernel.start, Kernel.dispatch_control = _start_and_say_so, _dispatch_once_started
