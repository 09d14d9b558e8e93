"""A notebook run once for each of several values of one parameter, and what the runs have to say side by side."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from houses.errors import HousesError
from houses.lab.analysis.figure import save_figure
from houses.lab.analysis.sweep import plot_sweep
from houses.lab.headless.notebooks import find_notebook
from houses.lab.headless.parameters import check, read_parameters
from houses.lab.headless.runner import RUNS, NotebookRun, new_folder, run_notebook

TABLE_NAME = "sweep.csv"
_FIGURE = "sweep"
COLUMNS = ("ok", "experiment", "houses", "seconds", "houses_per_s", "p50_ms", "p99_ms", "folder")
_MEASURED = ("houses_per_s", "p50_ms", "p99_ms")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What became of all runs."""

    folder: Path
    """Holds a folder a run, sweep.csv, sweep.png and sweep.svg."""
    runs: list[NotebookRun]
    table: pd.DataFrame
    """A row for each experiment of each run: the value, and what `COLUMNS` names; latencies in ms."""

    @property
    def table_file(self) -> Path:
        """The table as CSV."""
        return self.folder / TABLE_NAME

    @property
    def figure_file(self) -> Path:
        """The figure as PNG; an SVG is beside it."""
        return self.folder / f"{_FIGURE}.png"

    @property
    def ok(self) -> bool:
        """Whether every run came to its end."""
        return all(run.ok for run in self.runs)


def sweep_notebook(
    notebook: str | Path,
    parameter: str,
    values: Sequence[Any],
    parameters: Mapping[str, Any] | None = None,
    *,
    report: bool = False,
    hide_code: bool = False,
    runs: Path = RUNS,
) -> Sweep:
    """Run a notebook once for each value, also after a failed run. The types of all values are checked before the first.

    Args:
        notebook, parameters, report, hide_code, runs: see `run_notebook`.
        values: at least one, of the parameter's type or as text, each once.
    Raises:
        HousesError: no such notebook, or values that do not fit.
    """
    source = find_notebook(str(notebook))
    checked = check_values(source, parameter, values, parameters or {})
    folder = new_folder(runs, source.stem)
    done = list[NotebookRun]()
    try:
        for number, value in enumerate(checked, 1):
            run = run_notebook(
                source,
                {**(parameters or {}), parameter: value},
                report=report,
                hide_code=hide_code,
                folder=folder / f"{number:02d}-{parameter}-{re.sub(r'[^A-Za-z0-9.-]+', '_', _shown(value))[:40]}",
            )
            done.append(run)
            table = _table(done, parameter)
            table.to_csv(folder / TABLE_NAME, index=False)  # after each run: a stop keeps what was done
        first = table.drop_duplicates("folder")  # a notebook may make several experiments: the first by name is drawn
        save_figure(plot_sweep(first, parameter), folder, _FIGURE)
    except (KeyboardInterrupt, SystemExit) as stop:
        if done:
            stop.add_note(f"Table:     {folder / TABLE_NAME} ({len(done)} of {len(checked)} runs)")
        raise
    return Sweep(folder, done, table)


def _table(runs: Sequence[NotebookRun], parameter: str) -> pd.DataFrame:
    rows = [row for run in runs for row in _rows(run, parameter)]
    return pd.DataFrame(rows, columns=[parameter, *COLUMNS]).astype(dict.fromkeys(_MEASURED, float))


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def check_values(source: Path, parameter: str, values: Sequence[Any], others: Mapping[str, Any]) -> list[Any]:
    """The values in the parameter's type, each checked together with the other parameters.

    Raises:
        HousesError: all problems, one a line.
    """
    known, problems, checked = read_parameters(source), dict[str, None](), list[Any]()
    for value in values:
        try:
            checked.append(check(known, {**others, parameter: value}, source.stem)[parameter])
        except HousesError as error:
            problems |= dict.fromkeys(str(error).splitlines())
    if parameter in others:
        problems[f"{source.stem}: {parameter}: is swept and given as a parameter too; leave one out"] = None
    twice = [value for at, value in enumerate(checked) if value in checked[:at]]
    problems |= dict.fromkeys(f"{source.stem}: {parameter} = {value!r}: given twice; give it once" for value in twice)
    if problems or not checked:
        raise HousesError("\n".join(problems) or f"{source.stem}: {parameter}: give at least one value")
    return checked


def _rows(run: NotebookRun, parameter: str) -> Iterator[dict[str, Any]]:
    """One for each experiment; one without measurements where there is none."""
    value = run.parameters[parameter]
    common = {parameter: _shown(value) if isinstance(value, list) else value, "ok": run.ok, "folder": run.folder.name}
    for name, summary in (run.experiments or {"": {}}).items():
        counts, seconds = summary.get("counts", {}), summary.get("seconds")
        made = counts.get("houses", 0) + counts.get("cancelled", 0) if counts else None
        latency = summary.get("latency", {})
        yield common | {
            "experiment": name,
            "houses": made,
            "seconds": seconds,
            "houses_per_s": round(made / seconds, 1) if made is not None and seconds else None,
            "p50_ms": latency.get("p50_ms"),
            "p99_ms": latency.get("p99_ms"),
        }
