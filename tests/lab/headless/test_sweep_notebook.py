"""Sweeps: a notebook run for several values of a parameter, its table and its figure."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
from support import tiny_notebooks as tiny

from houses.cli.main import main
from houses.errors import HousesError
from houses.lab.headless.runner import NotebookRun, run_notebook
from houses.lab.headless.sweep import sweep_notebook


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    """A notebook whose latency follows its rate, and that fails at 13."""
    failing = "assert rate_hz != 13, 'unlucky'"
    cells = [tiny.code(tiny.PARAMETERS, "parameters"), tiny.code(failing), tiny.code(tiny.EXPERIMENT)]
    return tiny.write(tmp_path / "swept.ipynb", *cells)


def test_a_sweep_compares_its_runs(swept: Path, tmp_path: Path) -> None:
    """A folder a value, also after a failed one; a table and a figure in both formats."""
    sweep = sweep_notebook(swept, "rate_hz", ["13", "100"], {"name": "x"}, runs=tmp_path / "runs")
    assert [run.ok for run in sweep.runs] == [False, True] and not sweep.ok
    table = pd.read_csv(sweep.folder / "sweep.csv")
    assert table["rate_hz"].tolist() == [13.0, 100.0]
    assert table.loc[1, ["p50_ms", "p99_ms", "houses_per_s"]].tolist() == [1.0, 10.0, 100.0]
    folders = ["01-rate_hz-13.0", "02-rate_hz-100.0"]
    names = sorted(path.name for path in sweep.folder.iterdir())
    assert names == [*folders, "sweep.csv", "sweep.png", "sweep.svg"]
    assert json.loads((sweep.folder / folders[1] / "parameters.json").read_bytes())["name"] == "x"


def test_values_of_a_sweep_are_checked_before_its_first_run(swept: Path, tmp_path: Path) -> None:
    """All problems at once."""
    with pytest.raises(HousesError) as raised:
        sweep_notebook(swept, "rate_hz", ["5", "x", "5.0", "nan"], {"rate_hz": 1}, runs=tmp_path / "runs")
    said = str(raised.value)
    assert all(
        words in said for words in ("rate_hz = 'x'", "rate_hz = 'nan'", "5.0: given twice", "is swept and given")
    )
    assert not (tmp_path / "runs").exists()


def test_lists_are_values_of_a_sweep_too(tmp_path: Path) -> None:
    """In table and folders as one types them."""
    path = tiny.write(tmp_path / "lists.ipynb", tiny.code("sizes: list[int] = [1, 20]", "parameters"))
    sweep = sweep_notebook(path, "sizes", [[1, 2], "3"], runs=tmp_path / "runs")
    assert sweep.ok and sweep.table["sizes"].tolist() == ["1,2", "3"]
    assert [run.folder.name for run in sweep.runs] == ["01-sizes-1_2", "02-sizes-3"]
    with pytest.raises(HousesError, match=r"sizes = \[3\]: given twice"):
        sweep_notebook(path, "sizes", [[3], "3"], runs=tmp_path / "runs")


def test_a_sweep_without_any_house_has_a_figure_that_says_so(tmp_path: Path) -> None:
    """A notebook without an experiment; words for values."""
    path = tiny.write(tmp_path / "words.ipynb", tiny.code('mode: str = "a"', "parameters"))
    sweep = sweep_notebook(path, "mode", ["a", "b, c"], runs=tmp_path / "runs")
    assert sweep.ok and sweep.table["p50_ms"].isna().all()
    assert [run.folder.name for run in sweep.runs] == ["01-mode-a", "02-mode-b_c"]
    assert "No run to compare yet" in (sweep.folder / "sweep.svg").read_text(encoding="utf-8")


def test_a_sweep_prints_a_table(swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The values and what was measured; spaces around a comma do not matter."""
    assert main(["run", str(swept), "--sweep", "rate_hz", "100, 200", "--output", str(tmp_path / "runs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-6].split() == ["rate_hz", "ok", "houses", "seconds", "houses_per_s", "p50_ms", "p99_ms"]
    assert [line.split()[0] for line in lines[-5:-3]] == ["100.0", "200.0"]
    (folder,) = (tmp_path / "runs").iterdir()
    files = [("Folder:  ", folder), ("Table:   ", folder / "sweep.csv"), ("Figure:  ", folder / "sweep.png")]
    assert lines[-3:] == [f"{what}{path}" for what, path in files] and all(path.exists() for _, path in files)
    assert "02-rate_hz-200.0: code cell 1/3" in lines


def test_a_sweep_names_the_report_of_each_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below table and figure."""
    path = tiny.write(tmp_path / "words.ipynb", tiny.code('mode: str = "a"', "parameters"))
    assert main(["run", str(path), "--sweep", "mode", "a,b", "--report", "--output", str(tmp_path / "runs")]) == 0
    reports = sorted(tmp_path.glob("runs/*/*/words.html"))
    assert capsys.readouterr().out.splitlines()[-2:] == [f"Report:  {report}" for report in reports]


def test_a_stopped_sweep_says_where_the_table_of_its_runs_is(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those before the one that was stopped."""
    ends = iter([run_notebook, stopped_run])

    def run_next(*words: Any, **options: Any) -> NotebookRun:
        return next(ends)(*words, **options)

    monkeypatch.setattr("houses.lab.headless.sweep.run_notebook", run_next)
    with pytest.raises(KeyboardInterrupt) as stopped:
        sweep_notebook(swept, "rate_hz", [100, 200, 300], runs=tmp_path / "runs")
    (table,) = tmp_path.glob("runs/*/sweep.csv")
    assert stopped.value.__notes__ == [f"Table:     {table} (1 of 3 runs)"]
    assert pd.read_csv(table)["rate_hz"].tolist() == [100.0]


def test_a_sweep_that_is_stopped_at_its_figure_says_where_its_table_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All runs are in it."""
    path = tiny.write(tmp_path / "words.ipynb", tiny.code('mode: str = "a"', "parameters"))
    monkeypatch.setattr("houses.lab.headless.sweep.save_figure", Mock(side_effect=KeyboardInterrupt))
    assert main(["run", str(path), "--sweep", "mode", "a,b", "--output", str(tmp_path / "runs")]) == 130
    (table,) = tmp_path.glob("runs/*/sweep.csv")
    assert f"Table:     {table} (2 of 2 runs)" in capsys.readouterr().err.splitlines()


def stopped_run(*_: object, **__: object) -> NotebookRun:
    """As a run that Ctrl-C ends."""
    raise KeyboardInterrupt
