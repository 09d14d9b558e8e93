"""Configuration of the lab's kernels, which `lab.py` copies to where IPython looks for it: .venv/etc/ipython.

Two defects of ipykernel 7.3.0 leave JupyterLab without an answer, a cell with `[*]` or a panel dead, until a restart:

- It takes messages of its control channel before its start is over, and some that come in that moment are lost, as the
  lock and the manager that they need are not there yet. JupyterLab asks there for the thread that answers widgets.
- Its shell replies pass by the stream that reads their socket, which may then miss that a request has come:
  <https://github.com/ipython/ipykernel/issues/1554>. So they go through the stream, as in 7.4.0.
"""

import asyncio
from typing import Any

from ipykernel import kernelbase, subshell_manager

Kernel: Any = kernelbase.Kernel
Manager: Any = subshell_manager.SubshellManager
_start, _dispatch_control = Kernel.start, Kernel.dispatch_control


def _start_and_say_so(kernel: Any) -> None:
    Manager._send_on_shell_channel = lambda _, message: kernel.shell_stream.send_multipart(message)
    _start(kernel)
    kernel.has_started = True


async def _dispatch_once_started(kernel: Any, message: Any) -> None:
    while not getattr(kernel, "has_started", False):
        await asyncio.sleep(0.001)
    await _dispatch_control(kernel, message)


Kernel.start, Kernel.dispatch_control = _start_and_say_so, _dispatch_once_started
