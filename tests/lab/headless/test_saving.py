"""Notebooks that are opened and saved, and not run: git sees no change."""

import asyncio
import shutil
from pathlib import Path

import nbformat
import pytest
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from support.jupyter_page import jupyter_lab, open_notebook

from houses.lab.headless.notebooks import NOTEBOOKS, all_notebooks

HOOK = "houses.lab.headless.notebooks.before_save"


@pytest.mark.parametrize("path", all_notebooks(), ids=lambda path: path.stem)
def test_a_notebook_is_saved_as_it_is_in_git(path: Path, tmp_path: Path) -> None:
    """Also when the kernel has told of its Python; by the contents manager that JupyterLab has."""
    notebook = nbformat.read(path, 4)  # type: ignore[no-untyped-call]
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
    manager = AsyncLargeFileManager(root_dir=str(tmp_path), pre_save_hook=HOOK)
    model = {"type": "notebook", "format": "json", "content": notebook}
    asyncio.run(manager.save(model, path.name))  # type: ignore[no-untyped-call]
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_file_that_is_no_notebook_is_saved_as_it_is(tmp_path: Path) -> None:
    """JupyterLab is an editor too."""
    manager = AsyncLargeFileManager(root_dir=str(tmp_path), pre_save_hook=HOOK)
    asyncio.run(manager.save({"type": "file", "format": "text", "content": "metadata"}, "a.txt"))  # type: ignore[no-untyped-call]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "metadata"


@pytest.mark.system
def test_opening_and_saving_in_jupyterlab_changes_nothing(tmp_path: Path) -> None:
    """The kernel has told of its Python by then. One with an attached picture, and one with parameters."""
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    with jupyter_lab(tmp_path, {}) as lab:
        for path in (NOTEBOOKS / "00_contents.ipynb", NOTEBOOKS / "01_first_run.ipynb"):
            copy = tmp_path / "notebooks" / path.name
            before = copy.stat().st_mtime_ns
            with open_notebook(lab, f"notebooks/{path.name}") as page:
                page.page.wait_for_function(
                    "() => jupyterapp.shell.currentWidget.model.getMetadata('language_info')?.version"
                )
                page.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
            assert copy.stat().st_mtime_ns > before
            assert copy.read_bytes() == path.read_bytes(), path.name
