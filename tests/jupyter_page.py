"""A real JupyterLab in a real browser: headless Chromium, driven as a person would."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from playwright.sync_api import ConsoleMessage, Locator, Page, sync_playwright

from houses.config import PROJECT_ROOT
from houses.local_kafka import free_port

CHROMIUM = "/usr/bin/chromium"
_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    # Otherwise it looks for its maker's hosts at every start.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
_TOKEN = "token-of-the-tests"
_NOT_OURS = re.compile(r"favicon|ResizeObserver loop|jupyterlab-plugin-playground", re.IGNORECASE)


@contextmanager
def jupyter_lab(environment: Mapping[str, str], folder: Path) -> Iterator[str]:
    """`lab.py lab` on a free port over a copy of the notebooks in `folder`; the address with its token."""
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", f"--IdentityProvider.token={_TOKEN}", f"--ServerApp.root_dir={folder}"]
    command += [
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=log, stderr=log)
        try:
            _await_answer(f"{address}/api?token={_TOKEN}")
            yield f"{address}/lab/tree/NOTEBOOK?token={_TOKEN}"
        finally:
            process.terminate()
            process.wait(20)


def _await_answer(address: str, timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            urlopen(address).close()
            return
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


class NotebookPage:
    """One notebook in a browser window."""

    def __init__(self, page: Page, errors: list[str]) -> None:
        """Use `open_notebook`."""
        self.page = page
        self.errors = errors
        """What the page's console called an error."""

    def run_all(self) -> None:
        """Run all cells; returns at once."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def await_cells(self, timeout_s: float = 90.0) -> None:
        """Return when no cell runs or waits any more.

        The kernel's status says idle after every message of a widget, so the prompts of the cells are what counts.
        """
        prompt = self.page.locator(".jp-CodeCell .jp-InputPrompt")
        busy = prompt.filter(has_text="[*]")
        self.page.wait_for_timeout(500)
        busy.first.wait_for(state="detached", timeout=timeout_s * 1000)

    def live(self) -> Locator:
        """The live part of the first panel."""
        return self.page.locator(".houses-live").first

    def row(self, name: str) -> str:
        """The text beside a name in the live part."""
        return self.live().locator(f'[data-name="{name}"] span').inner_text()

    def frames(self) -> int:
        """How many frames the live part has drawn."""
        return int(self.live().get_attribute("data-frames") or 0)

    def set_theme(self, name: str) -> None:
        """`JupyterLab Light` or `JupyterLab Dark`."""
        self.page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)


@contextmanager
def open_notebook(address: str, notebook: str, size: tuple[int, int] = (1400, 1200)) -> Iterator[NotebookPage]:
    """The notebook in a window of its own, its kernel ready."""
    errors: list[str] = []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS) as browser,
    ):
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.on("console", lambda message: _note(message, errors))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address.replace("NOTEBOOK", notebook))
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(timeout=60_000)
        yield NotebookPage(page, errors)


def _note(message: ConsoleMessage, errors: list[str]) -> None:
    if message.type == "error" and not _NOT_OURS.search(message.text):
        errors.append(f"{message.text} ({message.location})")


def kernel_environment(base: Mapping[str, str], more: Mapping[str, str]) -> dict[str, Any]:
    """Environment in which kernels find this project, whatever folder they start in."""
    return dict(base) | {"PYTHONPATH": str(PROJECT_ROOT)} | dict(more)
