"""The rules of the project itself: which folder may import what, sizes, style, types, requirements."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

import houses

ROOT = Path(__file__).resolve().parents[1]
HOUSES = ROOT / "houses"


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, also inside functions; `from a import b` gives a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A module of this Python, run in the project's folder."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8"
    )


def test_folders_and_libraries_are_used_only_where_they_belong() -> None:
    """The contracts of import-linter in pyproject.toml: what may import what, and which library only where."""
    # Not its command: that keeps a cache in the working folder.
    done = run("-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_folder_holds_twelve_files_at_most() -> None:
    """So that each can be seen at once; directly in houses/ stand only these."""
    numbers = Counter(path.parent for path in HOUSES.rglob("*.py") if path.stem != "__init__")
    assert {folder: number for folder, number in numbers.items() if number > 12} == {}
    assert {path.name for path in HOUSES.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}


@pytest.mark.parametrize("modules", ["houses", "houses.consumer.consumer", "houses.cli.main", "houses.config.config"])
def test_import_loads_neither_tables_nor_figures(modules: str) -> None:
    """The consumer and the command line start fast and stay small."""
    heavy = "{'pandas', 'sqlalchemy', 'redis', 'matplotlib', 'ipywidgets', 'papermill', 'nbconvert', 'IPython', 'hypothesis', 'pytest'}"
    done = run("-c", f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))")
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_a_headless_run_loads_neither_tables_nor_figures() -> None:
    """Its kernel does; before the first cell they would only cost time."""
    done = run(
        "-c",
        "import sys, houses.lab.headless.runner; print({'pandas', 'matplotlib', 'ipywidgets', 'nbconvert'} & {*sys.modules})",
    )
    assert (done.stdout.strip(), done.returncode) == ("set()", 0), done.stderr


@pytest.mark.parametrize("name", dir(houses))
def test_public_name_leads_somewhere(name: str) -> None:
    """To what the stub says defines it: no file hands on what another one holds."""
    stub = (HOUSES / "__init__.pyi").read_text(encoding="utf-8")
    (home,) = re.findall(rf"^from \.([\w.]+) import {name} as {name}$", stub, re.MULTILINE)
    assert getattr(houses, name).__module__ == f"houses.{home}"


def test_unknown_name_is_an_attribute_error() -> None:
    """As in any module, so that `hasattr` works."""
    assert not hasattr(houses, "no_such_name")


def test_functions_are_short() -> None:
    """Nine of ten functions have less than 30 lines, half of them at most about 9."""
    lengths = sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in HOUSES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    )
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[len(lengths) * 9 // 10] < 30


def test_requirements_are_pinned_and_cover_the_package() -> None:
    """One tested set of versions; what pyproject.toml needs is in it."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.split(";")[0].strip() for line in lines if line.strip() and not line.startswith(("#", "-e "))]
    assert [line for line in wanted if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert declared() <= {_normal(line.split("==")[0]) for line in wanted}


def test_package_declares_what_it_imports() -> None:
    """Every third-party import of houses/ is of a distribution that pyproject.toml names."""
    providers = packages_distributions()
    modules = {full.split(".")[0] for path in HOUSES.rglob("*.py") for full in imports_of(path)}
    outside = modules - set(sys.stdlib_module_names) - {"houses", "", "pydantic_core"}  # pydantic's other half
    assert {module for module in outside if not declared() & {_normal(name) for name in providers[module]}} == set()


def declared() -> set[str]:
    """Names of the distributions that the package depends on, its extras too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = chain(project["dependencies"], *project["optional-dependencies"].values())
    return {_normal(re.split(r"[\[<>=!~ ]", text)[0]) for text in wanted}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_code_passes_ruff() -> None:
    """Lint rules and format of pyproject.toml."""
    for arguments in (["check"], ["format", "--check"]):
        done = run("-m", "ruff", *arguments, "--quiet", ".")
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_code_passes_mypy() -> None:
    """Strict types in houses/, tests/ and lab.py."""
    done = run("-m", "mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_notebooks_hold_no_outputs(tmp_path: Path) -> None:
    """nbstripout finds nothing to remove from what git holds; a notebook that was run and saved is the user's own."""
    notebooks = []
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        show = ["git", "show", f"HEAD:notebooks/{path.name}"]
        committed = subprocess.run(show, cwd=ROOT, capture_output=True, check=False)
        notebooks.append(str(tmp_path / path.name))
        Path(notebooks[-1]).write_bytes(path.read_bytes() if committed.returncode else committed.stdout)
    done = run("-m", "nbstripout", "--verify", *notebooks)
    assert notebooks and done.returncode == 0, done.stdout + done.stderr


def test_git_compares_notebooks_without_results_after_the_command_of_the_readme(tmp_path: Path) -> None:
    """What JupyterLab saves beside code and text is neither shown nor committed."""
    (given,) = re.findall(
        r'git config (filter\S+) "\.venv/bin/nbstripout (.+)"', (ROOT / "README.md").read_text("utf-8")
    )
    path = tmp_path / "notebook.ipynb"
    path.write_bytes((ROOT / "notebooks" / "01_first_run.ipynb").read_bytes())
    shutil.copy(ROOT / ".gitattributes", tmp_path)

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    git("init")
    git("config", given[0], f'"{Path(sys.executable).as_posix()}" -m nbstripout {given[1]}')
    git("add", ".")
    git("commit", "--message", "original")
    assert git("show", "HEAD:notebook.ipynb") == path.read_text(encoding="utf-8")
    notebook = json.loads(path.read_bytes())
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    cell["execution_count"], cell["outputs"] = 7, [{"name": "stdout", "output_type": "stream", "text": ["result"]}]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert git("diff") == ""
    cell["source"] = ["changed = 1"]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert "changed = 1" in git("diff") and "result" not in git("diff")
