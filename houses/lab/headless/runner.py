"""A notebook run without a browser: checked parameters, a folder of its own, progress, a summary, a report.

Everything of a run is in output/runs/STAMP-NAME: the executed notebook, parameters.json, summary.json, and a folder for
each of its experiments.
"""

import json
import logging
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import papermill  # type: ignore[import-untyped]  # it ships no types
from papermill.clientwrap import PapermillNotebookClient  # type: ignore[import-untyped]
from papermill.engines import NBClientEngine, papermill_engines  # type: ignore[import-untyped]
from papermill.exceptions import PapermillExecutionError  # type: ignore[import-untyped]
from papermill.execute import remove_error_markers  # type: ignore[import-untyped]
from papermill.iorw import load_notebook_node, write_ipynb  # type: ignore[import-untyped]

from houses.config.config import PROJECT_ROOT, SUMMARY_NAME
from houses.errors import HousesError
from houses.lab.headless.kernel import KERNEL_NAME, LOG_NAME, Kernel, StopGuard
from houses.lab.headless.notebooks import find_notebook, title_of
from houses.lab.headless.parameters import Parameter, check, read_parameters
from houses.lab.headless.progress import (
    PARAMETERS_NAME,
    CellWatch,
    Failure,
    ShowStep,
    StoppedError,
    seconds_in_cells,
    seconds_of_cells,
)

RUNS = PROJECT_ROOT / "output" / "runs"
_ENGINE = "houses"
_START_TIMEOUT_S = 60
_LOG = logging.getLogger("papermill.client")
_LOG.addHandler(logging.NullHandler())  # what the client complains of is said once, by the failure


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
        return self.failure.lines()[0] if self.failure else "ok"

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
            "error": self.failure and self.failure.to_json(),
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
    show: ShowStep = lambda step: None,
) -> NotebookRun:
    """Run a notebook from its first cell to its last in a kernel of this Python; a failing cell ends it, and is no exception.

    Ctrl-C and SIGTERM interrupt the cell, whose experiment then stops; a kernel that does not react is killed after five
    seconds. What was done so far is kept, and KeyboardInterrupt or SystemExit (128 + signal) raised.

    Args:
        notebook: a file, or a name in notebooks/ (`01_first_run`, `01`).
        parameters: values for names of its parameters cell; text is converted to their types.
        report: write NOTEBOOK.html too; with `hide_code` without the code.
        runs: where the folder of the run is made.
        folder: an empty or new folder to take instead of one named after time and notebook.
        show: told where it stands, at each code cell.
    Raises:
        HousesError: no such notebook, parameters that do not fit, or a folder that holds something or cannot be made.
    """
    source = find_notebook(str(notebook))
    known = read_parameters(source)
    given = check(known, parameters or {}, source.stem)
    folder = _made(folder) if folder else new_folder(runs, source.stem)
    values = {name: parameter.default for name, parameter in known.items()} | given
    _write(folder / PARAMETERS_NAME, values)
    with Kernel(folder) as kernel, StopGuard(kernel) as guard:
        began, target = datetime.now().astimezone(), folder / source.name
        watch = CellWatch(source, show, guard, seconds_of_cells(folder, source.name, values))
        _execute(source, target, given, kernel, watch)
        times = (began, time.monotonic() - watch.begun_s, watch.cell_seconds)
        stopped = signal.Signals(guard.asked).name if guard.asked else None
        run = NotebookRun(target, source, values, *times, watch.failure, stopped, _summaries(folder))
        if report or hide_code:
            run = replace(run, report=_report(run, known, hide_code))
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


def _report(run: NotebookRun, known: Mapping[str, Parameter], hide_code: bool) -> Path | None:
    """The report of a run; None when not even its first cell was begun."""
    from houses.lab.headless.report import About, Used, write_report

    if not run.notebook.exists():
        return None
    parameters = [Used(each.name, run.parameters[each.name], each.default, each.help) for each in known.values()]
    about = About(title_of(run.source), run.source.stem, run.began, run.seconds, run.outcome, parameters)
    return write_report(run.notebook, run.source.parent, about, hide_code=hide_code)


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


# --- papermill ---


class _Engine(NBClientEngine):  # type: ignore[misc]  # papermill ships no types
    """papermill's own way to run cells, with a kernel that is given."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
        """Run all cells; the client starts and ends the kernel."""
        kernel: Kernel = options["kernel"]
        client = PapermillNotebookClient(
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=_START_TIMEOUT_S,
            on_cell_start=options["watch"].on_cell_start,
            on_cell_error=options["watch"].on_cell_error,
            log=_LOG,
        )
        client.km = kernel.manager
        try:
            client.execute(**kernel.options)
        finally:
            options["watch"].cell_seconds = seconds_in_cells(nb_man.nb)


papermill_engines.register(_ENGINE, _Engine)


def _execute(source: Path, target: Path, given: dict[str, Any], kernel: Kernel, watch: CellWatch) -> None:
    """Run the cells, saving the notebook after each; what went wrong, if anything did, is in `watch`."""
    own = {"engine_name": _ENGINE, "kernel_name": KERNEL_NAME, "language": "python", "progress_bar": False}
    paths = [str(path).replace("{", "{{").replace("}", "}}") for path in (source, target)]  # papermill fills in braces
    try:
        papermill.execute_notebook(*paths, given, kernel=kernel, watch=watch, **own)
    except PapermillExecutionError:
        if watch.failure is None:  # all errors were expected: papermill has marked the first one all the same
            write_ipynb(remove_error_markers(load_notebook_node(str(target))), str(target))
    except StoppedError:
        pass
    except RuntimeError as error:  # DeadKernelError, or a kernel that never answered
        watch.fail(type(error).__name__, f"{error}; what it said: {target.parent / LOG_NAME}")
