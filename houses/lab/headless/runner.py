"""A notebook run without a browser: checked parameters, a folder of its own, progress, a summary, a report.

Everything of a run is in output/runs/STAMP-NAME: the executed notebook, parameters.json, summary.json, and a folder for
each of its experiments.
"""

import json
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import papermill  # type: ignore[import-untyped]  # it ships no types
from papermill.exceptions import PapermillExecutionError  # type: ignore[import-untyped]
from papermill.execute import remove_error_markers  # type: ignore[import-untyped]
from papermill.iorw import load_notebook_node, write_ipynb  # type: ignore[import-untyped]

from houses.config.config import PROJECT_ROOT, SUMMARY_NAME
from houses.errors import HousesError
from houses.lab.headless.kernel import KERNEL_NAME, LOG_NAME, Kernel, StopGuard
from houses.lab.headless.notebooks import find_notebook
from houses.lab.headless.parameters import Parameter, check, papermill_path, read_parameters
from houses.lab.headless.progress import CellWatch, Failure, StoppedError
from houses.system.text import visible

RUNS = PROJECT_ROOT / "output" / "runs"
_PARAMETERS_NAME = "parameters.json"


@dataclass(frozen=True, slots=True)
class NotebookRun:
    """What became of one run."""

    notebook: Path
    """The executed notebook, all of it or as far as it came; its folder holds everything of the run."""
    source: Path
    parameters: dict[str, Any]
    began: datetime
    seconds: float
    """From the start of the kernel to its end; loading this program before and writing the report after are not in it."""
    cell_seconds: float
    """How much of it the code cells took; starting and ending the kernel take the rest."""
    failure: Failure | None
    stopped: str | None
    """Name of the signal that ended it, such as SIGINT."""
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each experiment's summary.json says, by the name of the experiment."""
    report: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether every cell ran to its end."""
        return self.failure is None and self.stopped is None

    @property
    def outcome(self) -> str:
        """How it ended, in a few words."""
        if self.stopped:
            return f"stopped by {self.stopped}"
        return str(self.failure).splitlines()[0] if self.failure else "ok"

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.notebook.parent

    def to_json(self) -> dict[str, Any]:
        """What summary.json holds."""
        return {
            "notebook": self.notebook.stem,
            "source": str(self.source),
            "parameters": self.parameters,
            "began": self.began.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "cell_seconds": round(self.cell_seconds, 3),
            "ok": self.ok,
            "error": self.failure and asdict(self.failure),
            "stopped": self.stopped,
            "experiments": self.experiments,
        }


def run_notebook(
    notebook: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    report: bool = False,
    hide_code: bool = False,
    runs: Path = RUNS,
    folder: Path | None = None,
) -> NotebookRun:
    """Run a notebook from its first cell to its last in a kernel of this Python; a failing cell ends it, and is no exception.

    Ctrl-C and SIGTERM interrupt the cell, whose experiment then stops; a kernel that does not react is killed after five
    seconds. What was done so far is kept, and KeyboardInterrupt or SystemExit (128 + signal) raised. A terminal shows papermill's
    bar; where each code cell begins is logged (DEBUG).

    Args:
        notebook: a file, or a name in notebooks/ (`01_first_run`, `01`).
        parameters: values for names of its parameters cell; text is converted to their types.
        report: write NOTEBOOK.html too; with `hide_code` without the code.
        runs: where the folder of the run is made.
        folder: an empty or new folder to take instead of one named after time and notebook.
    Raises:
        HousesError: no such notebook, parameters that do not fit, or a folder that holds something or cannot be made.
    """
    source = find_notebook(str(notebook))
    known = read_parameters(source)
    given = check(known, parameters or {}, source.stem)
    folder = _made(folder) if folder else new_folder(runs, source.stem)
    values = {name: parameter.default for name, parameter in known.items()} | given
    _write(folder / _PARAMETERS_NAME, values)
    with Kernel(folder) as kernel, StopGuard(kernel) as guard:
        began, begun_s = datetime.now().astimezone(), time.monotonic()
        watch, target = CellWatch(folder.name, guard), folder / source.name
        _execute(source, target, given, kernel, watch)
        times = (began, time.monotonic() - begun_s, _seconds_in_cells(target))
        stopped = signal.Signals(guard.asked).name if guard.asked else None
        run = NotebookRun(target, source, values, *times, watch.failure, stopped, _summaries(folder))
        if report or hide_code:
            run = replace(run, report=_report(run, known, hide_code) if target.exists() else None)
        _write(folder / SUMMARY_NAME, run.to_json())
    guard.raise_if_asked(_what_is_left(run, report or hide_code))
    return run


def new_folder(runs: Path, name: str) -> Path:
    """Make a folder `20260131-120000-NAME` (local time) that nobody else has, also of two runs in the same second."""
    stamp, number = time.strftime("%Y%m%d-%H%M%S"), 1
    with _must_be_a_folder(runs):
        runs.mkdir(parents=True, exist_ok=True)
        while True:
            path = runs.absolute() / f"{stamp}-{name}{f'-{number}' if number > 1 else ''}"
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1


def _made(folder: Path) -> Path:
    with _must_be_a_folder(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise HousesError(f"{folder}: is not empty; name a new folder, so that nothing in it is overwritten")
    return folder.absolute()


@contextmanager
def _must_be_a_folder(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HousesError(f"{path}: no folder that can be used ({error.strerror}); name another one") from error


def _write(path: Path, record: Any) -> None:
    path.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="ascii")


def _summaries(folder: Path) -> dict[str, dict[str, Any]]:
    """What the experiments of a run say of themselves, by name; one that never stopped in good order has said nothing."""
    paths = sorted(folder.glob(f"*/{SUMMARY_NAME}"))
    return {path.parent.name: json.loads(path.read_bytes()) for path in paths}


def _seconds_in_cells(notebook: Path) -> float:
    """How long all code cells took together, as papermill noted it; 0.0 when none was begun."""
    cells = load_notebook_node(str(notebook)).cells if notebook.exists() else []
    return sum(cell.metadata.papermill.duration or 0.0 for cell in cells if cell.cell_type == "code")


def _report(run: NotebookRun, known: Mapping[str, Parameter], hide_code: bool) -> Path:
    from houses.lab.headless.report import write_report  # only now: it loads for a second

    return write_report(run, known, hide_code=hide_code)


def _what_is_left(run: NotebookRun, wants_report: bool) -> str:
    """Where to find what a stopped run has done."""
    lines = [f"{run.source.stem} was stopped after {run.seconds:.1f} s"]
    if run.notebook.exists():
        lines.append(f"Notebook:  {run.notebook} (as far as it came)")
    if run.report:
        lines.append(f"Report:    {run.report} (as far as it came)")
    elif wants_report:
        lines.append("Report:    none, because no cell had begun")
    return "\n".join(lines)


def _execute(source: Path, target: Path, given: dict[str, Any], kernel: Kernel, watch: CellWatch) -> None:
    """Run the cells, saving the notebook after each; what went wrong, if anything did, is in `watch`."""
    bar = {"disable": None, "leave": False, "desc": visible(target.parent.name, keep="")}  # None: only on a terminal
    try:
        papermill.execute_notebook(
            papermill_path(source),
            papermill_path(target),
            given,
            kernel_name=KERNEL_NAME,
            language="python",
            progress_bar=bar,
            kernel_manager_class=kernel.manager_class,
            on_notebook_start=watch.on_notebook_start,
            on_cell_start=watch.on_cell_start,
            on_cell_error=watch.on_cell_error,
        )
    except PapermillExecutionError:
        if watch.failure is None:  # all errors were expected: papermill has marked the first one all the same
            write_ipynb(remove_error_markers(load_notebook_node(str(target))), str(target))
    except StoppedError:
        pass
    except RuntimeError as error:  # DeadKernelError, or a kernel that never answered
        watch.fail(type(error).__name__, f"{error}; what it said: {target.parent / LOG_NAME}")
