"""lab.py: sets up a .venv, mends it, and hands over. The project in these tests is a stand-in that needs no network."""

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from houses.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[1]
KERNEL_CONFIG = Path("houses", "lab", "headless", "ipython_kernel_config.py")
WHEEL = "houses-1.0-py3-none-any.whl"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
STAND_IN = """
import os, sys, time
print(sys.prefix, os.getcwd(), sys.argv[1:])
if sys.argv[1] == "wait":
    try:
        print("waiting", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)
sys.exit(7)
"""


def write_project(folder: Path) -> None:
    """A project whose only package prints where and with what it was called, and exits with 7."""
    folder.mkdir()
    shutil.copy(ROOT / "lab.py", folder)
    (folder / "pyproject.toml").write_text("", encoding="utf-8")
    (folder / "requirements.txt").write_text(f"./{WHEEL}\n", encoding="utf-8")
    (folder / KERNEL_CONFIG).parent.mkdir(parents=True)
    shutil.copy(ROOT / KERNEL_CONFIG, folder / KERNEL_CONFIG)
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("houses/__main__.py", STAND_IN)
        about = "houses-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: houses\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in project that was set up, in a folder with a space and a letter that is not ASCII."""
    folder = tmp_path_factory.mktemp("lab") / "my läb"
    write_project(folder)
    done = lab(folder, "first")
    assert "Installing" in done.stdout and done.returncode == 7, done.stdout + done.stderr
    return folder


def lab(folder: Path, *words: str, cwd: Path = Path("/")) -> subprocess.CompletedProcess[str]:
    """`python lab.py` of a project, started in another folder."""
    return subprocess.run(
        [sys.executable, str(folder / "lab.py"), *words],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )


def lab_with(folder: Path, statement: str) -> subprocess.CompletedProcess[str]:
    """`python lab.py demo` after a statement that changes the Python it runs in."""
    program = f"import runpy, sys\n{statement}\nsys.argv[1:] = ['demo']\nrunpy.run_path('lab.py', run_name='__main__')"
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)


def test_words_and_exit_code_pass_through_from_any_folder(project: Path, tmp_path: Path) -> None:
    """What runs is .venv's Python, in the folder of the user, and nothing is installed a second time."""
    done = lab(project, "storno", "7", "--part", "wall", cwd=tmp_path)
    assert done.stdout == f"{project / '.venv'} {tmp_path} ['storno', '7', '--part', 'wall']\n"
    assert done.returncode == 7


def test_folder_that_happens_to_be_called_houses_is_not_run(project: Path, tmp_path: Path) -> None:
    """Python alone would take a package in the current folder first."""
    (tmp_path / "houses").mkdir()
    (tmp_path / "houses" / "__main__.py").write_text("print('wrong one')", encoding="utf-8")
    assert "wrong one" not in lab(project, "x", cwd=tmp_path).stdout


@pytest.mark.slow
def test_changed_requirements_are_installed_and_a_failure_is_tried_again(project: Path) -> None:
    """Given a change that cannot be installed: an error, no stamp; when it is mended, the next run makes .venv anew."""
    requirements = project / "requirements.txt"
    requirements.write_text("./absent.whl\n", encoding="utf-8")
    failed = lab(project, "x")
    assert failed.returncode == 1
    assert "absent.whl" in failed.stdout
    assert "lab.py: the installation failed" in failed.stderr
    requirements.write_text(f"./{WHEEL}  # mended\n", encoding="utf-8")
    mended = lab(project, "x")
    assert "Installing" in mended.stdout and mended.returncode == 7
    assert "Installing" not in lab(project, "x").stdout


def test_two_at_once_set_up_one_after_the_other(tmp_path: Path) -> None:
    """Both run in a whole .venv; only the first one makes it."""
    folder = tmp_path / "twice"
    write_project(folder)
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda word: lab(folder, word), ("first", "second")))
    assert [done.returncode for done in both] == [7, 7], both
    assert ["Installing" in done.stdout for done in both].count(True) == 1


def test_changed_project_file_is_installed_into_the_same_venv(project: Path) -> None:
    """What pyproject.toml says, such as a console script, is part of the installation; the rest is kept."""
    keepsake = project / ".venv" / "keepsake"
    keepsake.touch()
    (project / "pyproject.toml").write_text("# changed", encoding="utf-8")
    assert "Installing" in lab(project, "x").stdout
    assert keepsake.exists()


@pytest.mark.slow
def test_moved_project_is_set_up_anew(project: Path, tmp_path: Path) -> None:
    """Programs in .venv hold its path; those of a copied folder would lead to the original."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy, symlinks=True)
    done = lab(copy, "x", cwd=tmp_path)
    assert "Installing" in done.stdout
    assert f"{copy / '.venv'} {tmp_path} ['x']" in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_reach_the_program_that_runs(project: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C and a termination are the program's own to answer, and no process stays behind."""
    with subprocess.Popen(
        [sys.executable, str(project / "lab.py"), "wait"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "['wait']" in process.stdout.readline()
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        assert process.wait(timeout=60) == code


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_python_that_cannot_make_a_venv_names_the_missing_package(tmp_path: Path, module: str) -> None:
    """Debian and Ubuntu split these modules off into a package of their own."""
    write_project(tmp_path / "new")
    done = lab_with(tmp_path / "new", f"sys.modules[{module!r}] = None")
    assert done.returncode == 1
    assert done.stderr.rstrip() == (
        f"lab.py: this Python has no module {module}, so it cannot make .venv. "
        f"On Debian and Ubuntu: sudo apt install python3.{sys.version_info[1]}-venv"
    )
    assert not (tmp_path / "new" / ".venv").exists()


def test_older_python_is_told_what_is_needed() -> None:
    """Before anything is made."""
    done = lab_with(ROOT, "sys.version_info = (3, 10, 0)")
    assert done.returncode == 1
    assert done.stderr.startswith("lab.py: needs Python 3.11 or newer, this is ")


def test_file_stays_readable_for_an_older_python() -> None:
    """Else that sentence would be a SyntaxError: 3.7 is the oldest grammar that the parser knows."""
    ast.parse((ROOT / "lab.py").read_text(encoding="utf-8"), feature_version=(3, 7))


def test_no_word_at_all_shows_what_there_is() -> None:
    """Without setting anything up."""
    for words in ((), ("--help",)):
        done = lab(ROOT, *words)
        assert done.returncode == 0
        for verb in VERBS:
            line = rf"^python3 lab\.py {verb.name} +{re.escape(verb.short_help or '?')}$"
            assert re.search(line, done.stdout, re.MULTILINE), verb.name


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """lab.py as a module, for a project in a temporary folder."""
    spec = importlib.util.spec_from_file_location("lab_py", ROOT / "lab.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    monkeypatch.setattr(loaded, "ROOT", tmp_path)
    monkeypatch.setattr(loaded, "VENV", tmp_path / ".venv")
    return loaded


def test_test_runs_pytest_in_the_project(module: ModuleType, tmp_path: Path) -> None:
    """Two tests at a time unless told otherwise; its options are passed on; `--all` adds the notebooks."""
    start = ["-m", "pytest", "-n", "2", "--dist", "worksteal"]
    assert module.command("test", ["-n", "0", "-k", "x"]) == ([*start, "-n", "0", "-k", "x"], tmp_path)
    words = [*start, "--nbmake", "tests", "notebooks", "--all", "--system"]
    assert module.command("test", ["--all", "--system"]) == (words, tmp_path)


def test_lab_opens_the_contents(module: ModuleType, tmp_path: Path) -> None:
    """On the loopback address; Jupyter makes a token of its own. It asks nobody for news."""
    options, folder = module.command("lab", ["--no-browser"])
    assert options == [
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        "--LabApp.default_url=/lab/tree/notebooks/00_contents.ipynb",
        "--FileContentsManager.pre_save_hook=houses.lab.headless.notebooks.before_save",
        *(["--allow-root"] if os.geteuid() == 0 else []),
        "--no-browser",
    ]
    assert folder == tmp_path
    overrides = tmp_path / ".venv" / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    assert json.loads(overrides.read_bytes())["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_the_kernels_are_mended(project: Path) -> None:
    """What IPython reads at the start of each kernel of this .venv is there, and is the project's file."""
    copied = project / ".venv" / "etc" / "ipython" / KERNEL_CONFIG.name
    assert copied.read_bytes() == (project / KERNEL_CONFIG).read_bytes()


def test_the_help_of_lab_begins_with_ours(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Jupyter's own, of some hundred lines, follows."""
    module.command("lab", ["--help"])
    assert capsys.readouterr().out.startswith("python3 lab.py lab [OPTIONS]  The notebooks in JupyterLab")
    module.command("lab", [])
    assert capsys.readouterr().out == ""


def test_the_campaigns_are_modules_beside_the_tests(module: ModuleType, tmp_path: Path) -> None:
    """Run where the user stands, for paths that are given."""
    for word in ("bench", "crashtest", "soak"):
        assert module.command(word, ["--help"]) == (["-P", "-m", f"campaigns.{word}", "--help"], Path.cwd())
