"""Notebooks run without a browser, in real kernels: their folder, summary, failures, reports and sweeps."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
from support import tiny_notebooks as tiny
from support.command_line import environment, on_terminal
from support.headless import SIGNALS_S, Page, assert_offline, command, ends_after, finished, head_of
from support.kafka_lab import wait_until

from houses.cli.main import main
from houses.config.config import PROJECT_ROOT
from houses.errors import HousesError
from houses.lab.headless.notebooks import all_notebooks
from houses.lab.headless.parameters import Parameter, read_parameters
from houses.lab.headless.progress import plain, short_frames
from houses.lab.headless.report import write_report
from houses.lab.headless.runner import NotebookRun, new_folder, run_notebook
from houses.lab.run_folder import RUN_DIR_VARIABLE
from houses.system.log import progress_shown

ABOUT = """\
import os, sys, houses
print(sys.executable, houses.__file__, os.getcwd(), os.environ["HOUSES_RUN_DIR"], rate_hz, sep="\\n")"""
FAILING = "def lay(stone):\n    return 1 / stone\n\nfor stone in (1, 0):\n    lay(stone)"
RICH = """\
class Widget:
    def _repr_mimebundle_(self, **kwargs):
        view = {"model_id": "x", "version_major": 2, "version_minor": 0}
        return {"application/vnd.jupyter.widget-view+json": view, "text/html": "<b>still</b>", "text/plain": "W"}
Widget()"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    """A small notebook, run in a foreign current directory where another `python3` kernel is installed that cannot work."""
    folder = tmp_path_factory.mktemp("runner {odd}")
    other = folder / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "no", "language": "python"}))
    (folder / "images").mkdir()
    (folder / "elsewhere").mkdir()
    cells = [
        tiny.text("# Title\n\n![a dot](images/dot.svg)"),
        tiny.code(tiny.PARAMETERS, "parameters"),
        tiny.text("## First section"),
        tiny.code(ABOUT),
        tiny.code(tiny.EXPERIMENT),
        tiny.text("## Second section"),
        tiny.code(RICH),
    ]
    (folder / "images" / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="ascii")
    path = tiny.write(folder / "nb" / "tiny.ipynb", *cells)
    (folder / "images").rename(folder / "nb" / "images")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder / "elsewhere")
        patched.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        return run_notebook(path, {"rate_hz": "70"}, report=True, runs=folder / "runs")


# --- a run ---


def test_the_kernel_is_this_python_with_this_package(done: NotebookRun) -> None:
    """Whatever is installed in the Jupyter paths, and in the folder of the run."""
    executable, package, cwd, run_dir, rate_hz = tiny.printed(done.notebook).splitlines()
    assert Path(executable) == Path(sys.executable)
    assert Path(package).parents[1] == PROJECT_ROOT
    assert Path(cwd) == Path(run_dir) == done.folder
    assert rate_hz == "70.0"
    assert RUN_DIR_VARIABLE not in os.environ


def test_all_of_a_run_is_in_its_folder(done: NotebookRun) -> None:
    """Named after time and notebook; nothing is beside the notebook or in the current directory."""
    assert re.fullmatch(r"\d{8}-\d{6}-tiny", done.folder.name)
    names = {"tiny.ipynb", "tiny.html", "parameters.json", "summary.json", "calm"}
    assert {path.name for path in done.folder.iterdir()} == names
    assert {path.name for path in done.source.parent.iterdir()} == {"tiny.ipynb", "images"}
    assert not list((done.folder.parents[1] / "elsewhere").iterdir())


def test_parameters_and_summary_are_files_for_programs(done: NotebookRun) -> None:
    """Those given and the defaults; of each experiment what it says itself."""
    parameters = {"rate_hz": 70.0, "count": 3, "loud": False, "name": "tiny"}
    assert json.loads((done.folder / "parameters.json").read_bytes()) == parameters
    summary = json.loads((done.folder / "summary.json").read_bytes())
    assert summary == done.to_json()
    assert (summary["ok"], summary["error"], summary["stopped"]) == (True, None, None)
    assert summary["parameters"] == parameters
    assert summary["experiments"]["calm"]["counts"]["houses"] == 140
    assert 0 < summary["cell_seconds"] < summary["seconds"] < 60


def test_each_code_cell_is_logged_with_its_section(tmp_path: Path) -> None:
    """The place among the code cells, as a failure counts them; injected parameters are none of them."""
    cells = [tiny.code(tiny.PARAMETERS, "parameters"), tiny.text("## Walls"), tiny.code("1"), tiny.code("2")]
    lines = list[str]()
    with progress_shown(lines.append):
        run = run_notebook(tiny.write(tmp_path / "steps.ipynb", *cells), {"count": 5}, runs=tmp_path / "runs")
    name = run.folder.name
    assert lines == [f"{name}: code cell 1/3", f"{name}: code cell 2/3: Walls", f"{name}: code cell 3/3: Walls"]
    assert 0 < run.cell_seconds < run.seconds


def test_two_runs_of_the_same_second_have_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp alone does not tell them apart."""
    monkeypatch.setattr(time, "strftime", lambda form: "20260131-120000")
    names = [new_folder(tmp_path, "a").name for _ in range(3)]
    assert names == ["20260131-120000-a", "20260131-120000-a-2", "20260131-120000-a-3"]


def test_nothing_is_made_for_parameters_that_do_not_fit(tmp_path: Path) -> None:
    """They are checked before the folder."""
    path = tiny.write(tmp_path / "tiny.ipynb", tiny.code(tiny.PARAMETERS, "parameters"))
    with pytest.raises(HousesError, match="nearest known one is rate_hz"):
        run_notebook(path, {"rate": 1}, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_holds_something_is_refused(done: NotebookRun) -> None:
    """Nothing of an earlier run is overwritten; an empty one is taken."""
    before = (done.folder / "summary.json").read_bytes()
    with pytest.raises(HousesError, match="is not empty; name a new folder"):
        run_notebook(done.source, folder=done.folder)
    assert (done.folder / "summary.json").read_bytes() == before


@pytest.mark.parametrize("option", ["runs", "folder"])
@pytest.mark.parametrize("place", ["file", "file/below", "link"])
def test_a_place_where_no_folder_can_be_is_one_line(tmp_path: Path, option: str, place: str) -> None:
    """A file, or a link to what is gone; no further names are tried there."""
    path = tiny.write(tmp_path / "tiny.ipynb", tiny.text("# Only words"))
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone", target_is_directory=True)
    options: dict[str, Any] = {option: tmp_path / place}
    with pytest.raises(HousesError, match=rf"^{re.escape(str(tmp_path / place))}: no folder .*; name another one$"):
        run_notebook(path, **options)


# --- failures ---


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    """A notebook whose second code cell of three fails."""
    folder = tmp_path_factory.mktemp("failed")
    cells = [tiny.text("# T"), tiny.code("print('before')"), tiny.text("## Walls"), tiny.code(FAILING)]
    path = tiny.write(folder / "bad.ipynb", *cells, tiny.code("print('after')"))
    return run_notebook(path, report=True, runs=folder / "runs")


def test_a_failing_cell_is_told_in_few_lines(failed: NotebookRun) -> None:
    """Section, cell, the lines of code, and the message; no colours."""
    assert failed.failure
    assert str(failed.failure).splitlines() == [
        'failed in section "Walls", code cell 2',
        "  Cell In[2], line 5",
        "  ----> 5     lay(stone)",
        "  Cell In[2], line 2, in lay(stone)",
        "  ----> 2     return 1 / stone",
        "ZeroDivisionError: division by zero",
    ]
    assert json.loads((failed.folder / "summary.json").read_bytes())["error"]["kind"] == "ZeroDivisionError"


def test_a_failed_run_keeps_what_was_done(failed: NotebookRun) -> None:
    """Notebook and report, up to the error."""
    assert not failed.ok
    assert tiny.printed(failed.notebook) == "before\n"
    assert failed.report
    page = failed.report.read_text(encoding="utf-8")
    assert "ZeroDivisionError" in page and "before" in page
    assert head_of(Page(failed.report))[1].endswith(' s: failed in section "Walls", code cell 2')


def test_a_kernel_that_dies_is_a_failure_of_its_cell(tmp_path: Path) -> None:
    """What it still said is kept in a file that the message names."""
    dying = "import os\nos.write(2, b'out of stones')\nos._exit(3)"
    run = run_notebook(tiny.write(tmp_path / "dead.ipynb", tiny.text("# T"), tiny.code(dying)), runs=tmp_path / "runs")
    assert run.failure and (run.failure.section, run.failure.cell) == ("T", 1)
    assert str(run.folder / "kernel.log") in run.failure.message
    assert (run.folder / "kernel.log").read_text(encoding="utf-8") == "out of stones"


def test_a_cell_that_is_to_fail_is_no_failure(tmp_path: Path) -> None:
    """It has the tag `raises-exception`; those behind it run, and the notebook is not marked. A later error counts."""
    cells = [tiny.text("# T"), tiny.code("1 / 0", "raises-exception"), tiny.text("## Later"), tiny.code("print('on')")]
    run = run_notebook(tiny.write(tmp_path / "fine.ipynb", *cells), runs=tmp_path / "runs")
    assert run.ok and tiny.printed(run.notebook) == "on\n"
    assert "An Exception was encountered" not in run.notebook.read_text(encoding="utf-8")
    failed = run_notebook(tiny.write(tmp_path / "not.ipynb", *cells, tiny.code("[][1]")), runs=tmp_path / "runs")
    assert failed.failure and (failed.failure.kind, failed.failure.section) == ("IndexError", "Later")


def test_of_many_frames_the_first_and_the_last_are_shown() -> None:
    """The middle of a deep traceback helps nobody; a SyntaxError has no arrow."""
    deep = [
        f"File /x/{name}.py:{n}, in f()\n      1 a\n----> {n} call()\n      9 b\n" for n, name in enumerate("abcde")
    ]
    assert short_frames(["\x1b[31mE\x1b[0m", *deep])[::2] == (
        "File /x/a.py:0, in f()",
        "File /x/d.py:3, in f()",
        "File /x/e.py:4, in f()",
    )
    assert short_frames(["  Cell In[1], line 1\n    x = = 1\n        ^\nSyntaxError"]) == (
        "Cell In[1], line 1",
        "    x = = 1",
    )


# --- reports ---


def test_a_report_needs_no_network(done: NotebookRun) -> None:
    """nbconvert's own page would load four scripts from servers."""
    assert done.report
    assert_offline(Page(done.report))


def test_a_report_keeps_pictures_alt_texts_and_widgets(done: NotebookRun) -> None:
    """A picture of the text is embedded; a widget is its text/html, not a blank."""
    assert done.report
    page = Page(done.report)
    assert [(source.split(",")[0], alt) for source, alt in page.pictures] == [("data:image/svg+xml;base64", "a dot")]
    assert "<b>still</b>" in page.source


def test_a_report_begins_with_title_time_and_parameters(done: NotebookRun) -> None:
    """Those that were changed say what they are otherwise; the page is called what the notebook is called."""
    assert done.report
    page = Page(done.report)
    began = done.began.isoformat(" ", "seconds")
    assert head_of(page) == [
        *("Title (tiny)", f"Run on {began} for {done.seconds:.1f} s: ok", "Parameter", "Value", "Meaning"),
        *("rate_hz", "70.0", "houses per second (changed from 500.0)"),
        *("count", "3", "how many"),
        *("loud", "False", "whether it is loud"),
        *("name", "tiny", "what it is called"),
    ]
    assert "<title>Title (tiny)</title>" in page.source
    assert abs((datetime.now(UTC) - done.began).total_seconds()) < 600


def test_the_head_of_a_report_shows_signs_as_they_are(tmp_path: Path) -> None:
    """A title, value or comment is text, never a tag."""
    tag = "<script>alert('x')</script> & \""
    known = [Parameter(tag, "str", "", tag), Parameter("n", "str", tag, tag)]
    run = finished(tiny.write(tmp_path / "odd.ipynb", tiny.text(f"# {tag}")), {tag: tag, "n": tag}, stopped=tag)
    page = Page(write_report(run, {each.name: each for each in known}))
    said = "\n".join(head_of(page))  # of a real tag nothing would be left here
    assert said.count("<script>alert('x')</script>") == 7 and "(changed from )" in said


def test_a_report_folds_what_the_notebook_folds(tmp_path: Path) -> None:
    """A solution stays inside its <details>."""
    folded = "<details><summary>Solution</summary>\n\n```python\nx = 42\n```\n\nBecause.\n\n</details>\n\nOpen."
    page = Page(write_report(finished(tiny.write(tmp_path / "folded.ipynb", tiny.text(folded))), {}))
    inside = page.source.partition("<details>")[2].partition("</details>")[0]
    assert "Solution" in inside and "42" in inside and "Because." in inside and "Open." not in inside


def test_a_report_shows_the_code_unless_it_is_hidden(done: NotebookRun, tmp_path: Path) -> None:
    """Results stay."""
    copy = tmp_path / "tiny.ipynb"
    copy.write_bytes(done.notebook.read_bytes())
    page = Page(write_report(replace(done, notebook=copy), read_parameters(done.source), hide_code=True))
    assert done.report and "_repr_mimebundle_" in done.report.read_text(encoding="utf-8")
    assert not any(words in page.source for words in ("_repr_mimebundle_", "In&nbsp;[", "widget-view"))
    assert "<b>still</b>" in page.source and "First section" in page.source
    assert_offline(page)


# --- the command line ---


def test_a_failure_is_exit_code_1_and_a_short_traceback_on_stderr(tmp_path: Path) -> None:
    """Piped, no line holds a control sequence; stdout has a line a cell and says where everything is."""
    path = tiny.write(tmp_path / "bad.ipynb", tiny.text("## Walls"), tiny.code("print(1)"), tiny.code(FAILING))
    process = command(str(path), "--output", str(tmp_path / "runs"))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.splitlines()[0] == 'bad failed in section "Walls", code cell 2'
    assert err.splitlines()[-1] == "ZeroDivisionError: division by zero" and len(err.splitlines()) == 6
    (notebook,) = tmp_path.glob("runs/*-bad/bad.ipynb")
    assert out.splitlines()[0] == f"{notebook.parent.name}: code cell 1/2: Walls"
    assert re.search(r"^bad: failed after [\d.]+ s, [\d.]+ s of them in its cells$", out, re.MULTILINE)
    assert f"Notebook:  {notebook}\n" in out
    assert not any(sign in out + err for sign in ("\x1b", "\r"))


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo terminals there")
def test_a_terminal_shows_the_bar_of_papermill(tmp_path: Path) -> None:
    """80 columns, with the cells done of all; it is gone at the end, and no line a cell stands between."""
    cells = [tiny.text("## Long"), tiny.code("1"), tiny.code("import time; time.sleep(0.5)")]
    path = tiny.write(tmp_path / "07_time_machine.ipynb", *cells)
    status, drawn = on_terminal(None, "run", str(path), "--output", str(tmp_path / "runs"))
    frames = re.split(r"[\r\n]+", plain(drawn))
    assert status == 0
    assert any(re.search(r"^\d{8}-\d{6}-07_time_machine: .*\d/3 \[.*cell", frame) for frame in frames), frames
    assert not any("code cell" in frame for frame in frames)


def test_all_notebooks_run_also_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table says how each ended, and the exit code that not all did well."""
    folder = tmp_path / "notebooks"
    tiny.write(folder / "00_bad.ipynb", tiny.code("1 / 0"))
    tiny.write(folder / "01_good.ipynb", tiny.text("# Only words"))
    (folder / "02_broken.ipynb").write_text("no notebook", encoding="ascii")
    monkeypatch.setattr("houses.lab.headless.notebooks.all_notebooks", lambda: all_notebooks(folder))
    assert main(["run", "--all", "--output", str(tmp_path / "runs")]) == 1
    said = capsys.readouterr()
    rows = [line.split()[:2] for line in said.out.splitlines()[-4:]]
    assert rows == [["notebook", "result"], ["00_bad", "failed"], ["01_good", "ok"], ["02_broken", "failed"]]
    assert "00_bad failed" in said.err and "02_broken.ipynb: is no notebook" in said.err


def test_ctrl_c_leaves_the_table_of_all_notebooks_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the one that was stopped; those behind it are not begun."""
    words = [tiny.text("# Only words")]
    paths = [
        tiny.write(tmp_path / "notebooks" / f"{name}.ipynb", *words) for name in ("00_good", "01_long", "02_never")
    ]

    def interrupted_at_the_second(source: Path, *rest: Any, **options: Any) -> NotebookRun:
        if source == paths[1]:
            stop = KeyboardInterrupt()
            stop.add_note("01_long was stopped after 1.0 s")
            raise stop
        return run_notebook(source, *rest, **options)

    monkeypatch.setattr("houses.lab.headless.notebooks.all_notebooks", lambda: paths)
    monkeypatch.setattr("houses.lab.headless.runner.run_notebook", interrupted_at_the_second)
    assert main(["run", "--all", "--output", str(tmp_path / "runs")]) == 130
    said = capsys.readouterr()
    rows = [line.split()[:2] for line in said.out.splitlines()]
    assert rows == [["notebook", "result"], ["00_good", "ok"], ["01_long", "stopped"]]
    assert said.err.strip() == "01_long was stopped after 1.0 s"


def test_an_unforeseen_error_is_no_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk, as an example: the table has those before it, and the error is told."""
    path = tiny.write(tmp_path / "00_full.ipynb", tiny.text("# Only words"))
    monkeypatch.setattr("houses.lab.headless.notebooks.all_notebooks", lambda: [path])
    monkeypatch.setattr("houses.lab.headless.runner.run_notebook", Mock(side_effect=OSError("no space left")))
    assert main(["run", "--all", "--output", str(tmp_path / "runs")]) == 1
    said = capsys.readouterr()
    assert "stopped" not in said.out and "no space left" in said.err


def test_ctrl_c_before_the_notebook_begins_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While its libraries are loaded."""
    monkeypatch.setattr("houses.lab.headless.runner.find_notebook", Mock(side_effect=KeyboardInterrupt))
    assert main(["run", "01"]) == 130
    said = capsys.readouterr()
    assert (said.out, said.err.strip()) == ("", "Stopped; no notebook was running")


def test_a_folder_without_notebooks_is_an_error_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No empty table, and no exit status 0 for a job of CI."""
    monkeypatch.setattr("houses.lab.headless.notebooks.all_notebooks", lambda: all_notebooks(tmp_path))
    assert main(["run", "--all"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("Error: --all: ") and "holds no notebook" in said.err


def test_help_loads_no_papermill() -> None:
    """It takes seconds to load."""
    code = "import sys; from houses.cli.main import main; main(['run', '--help']); print('papermill' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.splitlines()[-1] == "False"


def test_parameters_of_a_notebook_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With type, default and meaning, without a run."""
    path = tiny.write(tmp_path / "tiny.ipynb", tiny.code(tiny.PARAMETERS, "parameters"))
    assert main(["run", str(path), "--help-parameters"]) == 0
    assert re.search(r"^rate_hz +float +500.0 +houses per second$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("01", "--all"),
        ("--all", "-p", "seconds", "2"),
        ("01", "-p", "seconds", "2", "-p", "seconds", "3"),
        ("01", "-p", "seconds"),
        ("01", "--sweep", "rate_hz"),
    ],
    ids=" ".join,
)
def test_wrong_usage_of_run_is_exit_code_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing runs."""
    assert main(["run", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "Error: " in said.err


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (("-p", "rate_hz=300"), "-p rate_hz 300"),
        (("-p", "rate_hz=300", "-p", "seconds=5"), "-p rate_hz 300"),
        (("--report", "--parameter", "rate_hz=300", "--hide-code"), "--parameter rate_hz 300"),
        (("-p", "name=two words"), "-p name 'two words'"),
        (("-p", "rate_hz=", "5"), "-p rate_hz VALUE"),
        (("--sweep", "rate_hz=100,200"), "--sweep rate_hz 100,200"),
    ],
    ids=str,
)
def test_an_equals_sign_is_answered_with_the_two_words(
    words: tuple[str, ...], right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the user would have to write it, whatever stands behind; a value may have one."""
    assert main(["run", "01", *words]) == 2
    assert capsys.readouterr().err.strip().endswith(f"the name and the value are two words; write: {right}")
    assert main(["run", "01", "-p", "rate", "a=b"]) == 1


def test_another_config_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A notebook takes the project's; an option without effect would deceive."""
    assert main(["--config", str(tmp_path / "config.yaml"), "run", "01"]) == 2
    assert "HOUSES_SECTION__KEY" in capsys.readouterr().err


def test_an_unknown_parameter_of_the_command_line_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1; the real first notebook is known by its number."""
    assert main(["run", "01", "-p", "rate", "5"]) == 1
    assert "Error: 01_first_run: rate: unknown parameter; the nearest known one is rate_hz" in capsys.readouterr().err


# --- signals ---


@pytest.fixture
def process_of(tmp_path: Path) -> Iterator[Any]:
    """Starts `houses run` of one cell, and gives the process and its kernel when the cell runs."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str, running: Path, *words: str, **options: str) -> tuple[subprocess.Popen[str], psutil.Process]:
        path = tiny.write(tmp_path / "long.ipynb", tiny.code("print('first')"), tiny.code(source), tiny.code("'no'"))
        process = command(str(path), "--output", str(tmp_path / "runs"), *words, **options)
        started.append(process)
        wait_until(running.exists, "the cell runs")
        (kernel_process,) = psutil.Process(process.pid).children()
        return process, kernel_process

    yield start
    for process in started:
        process.kill()
        process.wait()


def told(marker: Path, then: str) -> str:
    """A cell that says by a file that it runs."""
    return f"import os, signal, time\nopen({str(marker)!r}, 'w').close()\n{then}"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_interrupts_the_cell_and_keeps_the_rest(
    tmp_path: Path, process_of: Any, number: int, code: int
) -> None:
    """The kernel is gone, notebook, summary and report are written, and no further cell has run."""
    marker = tmp_path / "runs.txt"
    process, kernel_process = process_of(told(marker, "time.sleep(60)"), marker, "--report")
    status, seconds, err = ends_after(process, number)
    assert status == code and seconds < SIGNALS_S
    assert not kernel_process.is_running()
    (folder,) = (tmp_path / "runs").iterdir()
    first, interrupted = tiny.outputs(folder / "long.ipynb")
    assert first["text"] == ["first\n"] and interrupted["ename"] == "KeyboardInterrupt"
    assert json.loads((folder / "summary.json").read_bytes())["stopped"] == signal.Signals(number).name
    assert {path.name for path in folder.iterdir()} >= {"long.html", "parameters.json"}
    said, *where = err.strip().splitlines()
    assert re.fullmatch(r"long was stopped after [\d.]+ s", said)
    files = (("Notebook:", "long.ipynb"), ("Report:  ", "long.html"))
    assert where == [f"{what}  {folder / name} (as far as it came)" for what, name in files]
    page = Page(folder / "long.html")
    assert head_of(page)[1].endswith(f" s: stopped by {signal.Signals(number).name}")


@pytest.mark.slow
def test_a_cell_that_handles_the_interrupt_is_the_last_one(tmp_path: Path, process_of: Any) -> None:
    """What it does then is kept; the next cell does not begin."""
    marker = tmp_path / "runs.txt"
    handling = "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('tidy')"
    process, _ = process_of(told(marker, handling), marker)
    assert ends_after(process, signal.SIGINT)[0] == 130
    (notebook,) = tmp_path.glob("runs/*/long.ipynb")
    assert tiny.printed(notebook) == "first\ntidy\n" and len(tiny.outputs(notebook)) == 2


@pytest.mark.slow
def test_a_kernel_that_does_not_react_is_killed(tmp_path: Path, process_of: Any) -> None:
    """Within ten seconds, with what was done before kept."""
    marker = tmp_path / "runs.txt"
    deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    process, kernel_process = process_of(told(marker, deaf), marker)
    status, seconds, _ = ends_after(process, signal.SIGINT)
    assert status == 130 and seconds < SIGNALS_S
    assert not kernel_process.is_running()
    assert not list(tmp_path.glob("runs/*/.kernel.json"))  # its key
    (notebook,) = tmp_path.glob("runs/*/long.ipynb")
    assert tiny.printed(notebook) == "first\n"
