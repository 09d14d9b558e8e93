"""The notebooks: how they are written, and that they run headlessly wherever they are started."""

import ast
import base64
import copy
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import papermill  # type: ignore[import-untyped]  # it ships no types
import pytest
from campaigns.bench_notebooks import mock_of
from matplotlib.image import imread

from houses.config.config import PROJECT_ROOT

NOTEBOOKS = sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb"))
SOLUTION = re.compile(r"<details><summary>Solution</summary>\n\n```python\n(.*?)```", re.DOTALL)
LONGEST_CELL = 15
WIDEST_LINE = 88
"""What a page of JupyterLab shows without a scroll bar in a window of 1,280 pixels, and a little less."""
END = 10_000
"""Behind the last cell."""
LONGEST_INTRODUCTION = 120

CONTENTS, *EXPERIMENTS = NOTEBOOKS
"""The first one only tells what the others are."""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_experiment = pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)


@pytest.fixture
def headless(tmp_path: Path, kafka: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of its own, in a foreign current directory; returns the folder of the run."""
    monkeypatch.chdir(os.sep)
    monkeypatch.setenv("HOUSES_KAFKA__BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("HOUSES_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    return tmp_path / "run"


def read(path: Path) -> Any:
    """The notebook."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # not annotated there


def code_cells(notebook: Any) -> list[Any]:
    """Its code cells in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters_cell(notebook: Any) -> Any:
    """The one that papermill puts its own behind."""
    (found,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return found


# --- how they are written ---


def test_the_contents_name_each_notebook_and_its_question() -> None:
    """In order, with a link."""
    assert CONTENTS.stem == "00_contents" and EXPERIMENTS
    text = "\n".join(cell.source for cell in read(CONTENTS).cells)
    assert re.findall(r"^\| \[(\w+)\]\(\1\.ipynb\) \| .+\? \|$", text, re.MULTILINE) == [
        path.stem for path in EXPERIMENTS
    ]


def test_the_picture_of_the_contents_has_no_background() -> None:
    """So it stands on a light page and on a dark one: its four corners are transparent."""
    (picture,) = [cell.attachments["flow.png"]["image/png"] for cell in read(CONTENTS).cells if "attachments" in cell]
    pixels = imread(io.BytesIO(base64.b64decode(picture)))
    assert [pixels[y, x, 3] for y in (0, -1) for x in (0, -1)] == [0, 0, 0, 0]


@each_notebook
def test_it_begins_with_a_title_a_question_and_few_words(path: Path) -> None:
    """What it asks and what one will see."""
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ") and "?" in first.source
    assert len(first.source.split()) <= LONGEST_INTRODUCTION


@each_notebook
def test_its_kernel_has_the_name_that_jupyterlab_writes(path: Path) -> None:
    """Another one would be changed by whoever saves it, and git would show it."""
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    assert read(path).metadata["kernelspec"] == kernel


@each_experiment
def test_parameters_are_typed_explained_and_mocked_by_their_names(path: Path) -> None:
    """`rate_hz: float = 1000.0  # houses per second`."""
    notebook = read(path)
    lines = parameters_cell(notebook).source.splitlines()
    names = {line.partition(":")[0] for line in lines}
    for line in lines:
        assert re.fullmatch(r'[a-z_]+: (float|int|str|bool|list\[int\]) = (\S+|"[^"]*"|\[[\d, ]+\])  # .+', line), line
    assert set(mock_of(path)) <= names


@each_notebook
def test_code_is_no_wider_than_the_page(path: Path) -> None:
    """Nor are solutions and commands in the text."""
    lines = []
    for cell in read(path).cells:
        blocks = [cell.source] if cell.cell_type == "code" else SOLUTION.findall(cell.source)
        if cell.cell_type == "markdown":
            blocks += re.findall(r"^    .+$", cell.source, re.MULTILINE)
        lines += [line for block in blocks for line in block.splitlines()]
    assert lines and [line for line in lines if len(line) > WIDEST_LINE] == []


@each_experiment
def test_cells_are_short_and_hold_no_classes_threads_or_loops_that_wait(path: Path) -> None:
    """All machinery is in `houses`, and the last cell closes the experiment."""
    cells = code_cells(read(path))
    for cell in cells:
        assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.source
        nodes = list(ast.walk(ast.parse(cell.source)))
        assert not [node for node in nodes if isinstance(node, ast.ClassDef | ast.While)], cell.source
        assert "threading" not in cell.source and "sleep" not in cell.source
    assert cells[-1].source == "exp.close()"


@each_experiment
def test_it_ends_with_a_summary_and_exercises_with_folded_solutions(path: Path) -> None:
    """Two or three, and each solution is Python."""
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert "## Summary" in text and "## Exercises" in text
    solutions = SOLUTION.findall(text)
    assert len(solutions) in (2, 3) and len(solutions) == text.count("<details>")
    for solution in solutions:
        ast.parse(solution)


# --- how they run ---


def test_papermill_runs_the_first_notebook_in_a_folder_of_its_own(headless: Path) -> None:
    """The figure has an alt text, the files say that all is well, and nothing is written beside the notebook."""
    path = PROJECT_ROOT / "notebooks" / "01_first_run.ipynb"
    before = sorted(path.parent.rglob("*"))
    parameters = mock_of(path) | {"name": "papermill"}
    done = papermill.execute_notebook(path, headless.parent / "done.ipynb", parameters, progress_bar=False)
    folder = headless / "papermill"
    summary = json.loads((folder / "summary.json").read_bytes())
    assert summary["certificate"]["ok"] and summary["counts"]["cancelled"] + summary["counts"]["late"] == 2
    assert {"latency.png", "latency.svg", "config.yaml", "houses.jsonl"} <= {file.name for file in folder.iterdir()}
    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    (figure,) = [output for output in outputs if "image/png" in output.get("data", {})]
    assert "Half of" in figure.metadata["image/png"]["alt"]
    assert sorted(path.parent.rglob("*")) == before


def test_papermill_runs_the_notebook_of_stornos(headless: Path) -> None:
    """With its mock; its own asserts hold, and its certificate."""
    path = PROJECT_ROOT / "notebooks" / "03_storno.ipynb"
    papermill.execute_notebook(path, headless.parent / "done.ipynb", mock_of(path), progress_bar=False)
    summary = json.loads((headless / "03_storno" / "summary.json").read_bytes())
    assert summary["certificate"]["ok"] and (headless / "03_storno" / "fates.png").exists()


LEAKS = """
import gc, threading, psutil
gc.collect()
me = psutil.Process()
ours = {"foundation", "wall", "roof", "storno-loop", "houses-background"}
assert not me.children(recursive=True), me.children(recursive=True)
assert not ours & {thread.name for thread in threading.enumerate()}
def connected(): return [c for c in me.net_connections("tcp") if c.raddr and c.raddr.port == KAFKA_PORT and c.status == "ESTABLISHED"]
for _ in range(50):
    connected() and threading.Event().wait(0.1)
assert not connected(), connected()
"""
"""What holds after a notebook's last cell; a broker's connection may take a moment to close."""


def run_with(path: Path, headless: Path, *more: tuple[int, str]) -> Any:
    """Run a notebook with its mock and further cells, each at an index as `list.insert` takes it."""
    notebook = copy.deepcopy(read(path))
    for index, code in more:
        notebook.cells.insert(len(notebook.cells) if index == END else index, nbformat.v4.new_code_cell(code))  # type: ignore[no-untyped-call]
    source = headless.parent / "changed.ipynb"
    nbformat.write(notebook, source)  # type: ignore[no-untyped-call]
    return papermill.execute_notebook(source, headless.parent / "done.ipynb", mock_of(path), progress_bar=False)


@pytest.mark.slow
@each_experiment
def test_solutions_run_and_nothing_is_left_after_the_last_cell(path: Path, headless: Path, kafka: str) -> None:
    """The solutions of the exercises in their order, the closing cell, and then no thread, process or connection."""
    cells = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    solutions = [code for source in cells for code in SOLUTION.findall(source)]
    check = LEAKS.replace("KAFKA_PORT", kafka.rpartition(":")[2])
    run_with(path, headless, *((-1, code) for code in solutions), (END, check))


def test_a_failing_producer_thread_makes_the_notebook_fail(headless: Path) -> None:
    """Otherwise nobody would see it: papermill and nbmake know nothing of threads."""
    path = PROJECT_ROOT / "notebooks" / "01_first_run.ipynb"
    broken = """
import houses.producer.stream
def encode_parts(*_): raise RuntimeError("the roof fell in")
houses.producer.stream.encode_parts = encode_parts
"""
    with pytest.raises(papermill.PapermillExecutionError, match="the roof fell in"):
        run_with(path, headless, (3, broken))
