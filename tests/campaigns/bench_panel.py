"""Measures the panel in a real browser: frames a second, and what they cost the kernel. Run by `lab.py bench --panel`."""

from pathlib import Path
from typing import Any

import nbformat
import psutil
from support.jupyter_page import NotebookPage, jupyter_lab, open_notebook

_SECONDS = 15.0
_CELLS = {
    "pid": "import os\n\nprint('kernel', os.getpid())",
    "start": "import houses\n\nexp = houses.Experiment('bench', rate_hz=1000)\nexp.start()",
    "panel": "houses.panel(exp)",
    "busy": "import time\n\nend_s = time.monotonic() + 40\nwhile time.monotonic() < end_s:\n    pass",
}


def measure_panel(folder: Path, address: str) -> dict[str, Any]:
    """Frames a second and CPU of the kernel, at 3 x 1,000 messages a second, beside an idle and beside a busy cell.

    The kernel holds the producers too, so their share, measured without the panel, is subtracted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in _CELLS.values()])  # type: ignore[no-untyped-call]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(notebook, folder / "bench.ipynb")  # type: ignore[no-untyped-call]
    environment = {"HOUSES_KAFKA__BOOTSTRAP_SERVERS": address, "HOUSES_RUN_DIR": str(folder)}
    with jupyter_lab(folder, environment) as lab, open_notebook(lab, "bench.ipynb", (1400, 1800)) as page:
        kernel = _start(page)
        without, _ = _measure(page, kernel)
        page.run_cell(_CELLS["panel"])
        page.live().wait_for()
        page.await_cells()
        shown, frames = _measure(page, kernel)
        page.run_cell("end_s = time.monotonic()")
        _, busy_frames = _measure(page, kernel)
    return {
        "panel: frames a second, no cell running": frames,
        "panel: frames a second, beside a busy cell": busy_frames,
        "panel: CPU of the kernel for it, % of a core": shown - without,
        "panel: CPU of the producers in it, % of a core": without,
    }


def _start(page: NotebookPage) -> psutil.Process:
    page.run_cell("os.getpid()")
    page.run_cell("exp.start()")
    page.await_cells()
    text = page.page.locator(".jp-OutputArea-output", has_text="kernel").first.inner_text()
    return psutil.Process(int(text.split()[1]))


def _measure(page: NotebookPage, kernel: psutil.Process) -> tuple[float, float]:
    """CPU in per cent of a core, and frames a second where a panel is shown."""
    has_panel = page.page.locator(".houses-live").count() > 0
    frames, used_s = page.frames() if has_panel else 0, _used_s(kernel)
    page.page.wait_for_timeout(_SECONDS * 1000)
    drawn = page.frames() - frames if has_panel else 0
    return 100 * (_used_s(kernel) - used_s) / _SECONDS, drawn / _SECONDS


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
