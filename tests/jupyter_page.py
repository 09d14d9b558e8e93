"""A real JupyterLab in a real browser: headless Chromium, used as a person would."""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from playwright.sync_api import ConsoleMessage, Locator, Page, sync_playwright

from houses.config import PROJECT_ROOT
from houses.local_kafka import free_port

CHROMIUM = "/usr/bin/chromium"
_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    # Otherwise it looks for its maker's hosts at every start.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
_KERNEL_READY = """() => {
    const context = window.jupyterapp?.shell.currentWidget?.sessionContext, kernel = context?.session?.kernel;
    return context?.isReady && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
_TOKEN = "token-of-the-tests"
_NOT_OURS = re.compile(
    r"favicon"
    r"|api/contents/.* 404|404 .*api/contents/"  # the page that `lab.py lab` opens first is not in a copied folder
    r"|ResizeObserver loop"
)


@contextmanager
def jupyter_lab(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """`lab.py lab` over `folder` on a free port; gives its address. Everything that it started ends with it."""
    port = free_port()
    command = [sys.executable, str(PROJECT_ROOT / "lab.py"), "lab", "--no-browser", f"--ServerApp.port={port}"]
    command += [f"--IdentityProvider.token={_TOKEN}", f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.expose_app_in_browser=True", f"--LabApp.user_settings_dir={folder}/.settings"]
    command += [f"--LabApp.workspaces_dir={folder}/.workspaces"]
    with (folder / "jupyter.log").open("wb") as log:
        server = psutil.Popen(command, cwd=folder, env=os.environ | dict(environment), stdout=log, stderr=log)
        try:
            _await_answer(f"http://127.0.0.1:{port}/api?token={_TOKEN}", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            family = server.children(recursive=True)
            server.terminate()
            try:
                server.wait(20)
            except psutil.TimeoutExpired:
                server.kill()
            psutil.wait_procs(family, 10)


def _await_answer(address: str, server: psutil.Popen, timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            urlopen(address).close()
            return
        except URLError:
            assert server.poll() is None, "JupyterLab has ended: see jupyter.log"
            assert time.monotonic() < deadline_s, "JupyterLab does not answer: see jupyter.log"
            time.sleep(0.1)


class NotebookPage:
    """One notebook in a browser window."""

    def __init__(self, page: Page, errors: list[str]) -> None:
        """Use `open_notebook`."""
        self.page = page
        self.errors = errors
        """What the page's console called an error."""

    # --- cells ---

    def menu(self, menu: str, item: str | re.Pattern[str]) -> None:
        """Click an item of the menu bar."""
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        self.page.get_by_role("menuitem", name=item, exact=isinstance(item, str)).click()

    def run_all(self) -> None:
        """Run all cells; returns at once."""
        self.menu("Run", "Run All Cells")

    def run_cell(self, text: str) -> None:
        """Run the code cell that holds a text; returns at once."""
        self.code_cell(text).locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Shift+Enter")

    def code_cell(self, text: str) -> Locator:
        """The code cell that holds a text."""
        return self.page.locator(".jp-CodeCell").filter(has=self.page.locator(".jp-InputArea", has_text=text)).first

    def await_cells(self, timeout_s: float = 120.0) -> None:
        """Return when no cell runs or waits any more.

        The kernel's status says idle after every message of a widget, so the prompts of the cells are what counts.
        """
        self.page.wait_for_timeout(500)
        busy = self.page.locator(".jp-CodeCell .jp-InputPrompt", has_text="[*]")
        self.page.wait_for_function(
            "() => ![...document.querySelectorAll('.jp-InputPrompt')].some(p => p.textContent.includes('*'))",
            timeout=timeout_s * 1000,
        )
        assert busy.count() == 0
        assert self.cell_errors() == []

    def counted(self, name: str) -> int:
        """The number that the cell printing `NAME: NUMBER` prints when it is run now, after a second."""
        self.page.wait_for_timeout(1000)
        self.run_cell(f"print('{name}:'")
        self.await_cells()
        output = self.code_cell(f"print('{name}:'").locator(".jp-OutputArea-output").inner_text()
        return int(output.removeprefix(f"{name}:"))

    def cell_errors(self) -> list[str]:
        """What cells show as tracebacks."""
        return self.page.locator(
            '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'
        ).all_inner_texts()

    def restart_kernel(self) -> None:
        """Through the menu, with its question answered."""
        self.menu("Kernel", re.compile("^Restart Kernel…"))
        self.page.get_by_role("button", name="Restart", exact=True).or_(
            self.page.get_by_role("button", name=re.compile("Confirm Kernel Restart"))
        ).first.click()
        self.await_kernel()

    def await_kernel(self) -> None:
        """Return when the kernel can be used; before that, running a cell would ask which kernel to take."""
        self.page.wait_for_function(_KERNEL_READY, timeout=90_000)

    # --- the panel ---

    def live(self, number: int = 0) -> Locator:
        """The live part of a panel."""
        return self.page.locator(".houses-live").nth(number)

    def row(self, name: str, number: int = 0) -> str:
        """The text beside a name in the live part."""
        return self.live(number).locator(f'[data-name="{name}"] span').inner_text()

    def await_row(self, name: str, pattern: str, timeout_s: float = 30.0, number: int = 0) -> str:
        """Return the text beside a name when it matches."""
        deadline_s = time.monotonic() + timeout_s
        while not re.search(pattern, text := self.row(name, number)):
            assert time.monotonic() < deadline_s, f"{name}: {text!r} never matched {pattern!r}; error: {self.error()!r}"
            self.page.wait_for_timeout(100)
        return text

    def error(self, number: int = 0) -> str:
        """The error line of the live part."""
        return self.live(number).locator(".houses-error").inner_text()

    def frames(self, number: int = 0) -> int:
        """How many frames the live part has drawn."""
        return int(self.live(number).get_attribute("data-frames") or 0)

    def button(self, name: str) -> Locator:
        """A button of the panel."""
        return self.page.locator(".jupyter-button", has_text=name).first

    def drag_slider(self, number: int, share: float) -> None:
        """Drag the handle of the n-th slider to a share (0 to 1) of its length, with the mouse."""
        slider = self.page.locator(".widget-slider .noUi-base").nth(number)
        slider.scroll_into_view_if_needed()
        box, handle = slider.bounding_box(), slider.locator(".noUi-handle").bounding_box()
        assert box and handle
        mouse, y = self.page.mouse, handle["y"] + handle["height"] / 2
        mouse.move(handle["x"] + handle["width"] / 2, y)
        mouse.down()
        mouse.move(box["x"] + box["width"] * share, y, steps=8)
        mouse.up()

    # --- looks ---

    def set_theme(self, name: str) -> None:
        """`JupyterLab Light` or `JupyterLab Dark`."""
        self.page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)

    def screenshot(self, path: Path) -> None:
        """A picture of the window."""
        self.page.screenshot(path=path)


@contextmanager
def blank_page(size: tuple[int, int] = (1400, 1200)) -> Iterator[Page]:
    """A window with nothing in it."""
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS) as browser,
    ):
        yield browser.new_page(viewport={"width": size[0], "height": size[1]})


@contextmanager
def open_notebook(lab: str, name: str, size: tuple[int, int] = (1400, 1200)) -> Iterator[NotebookPage]:
    """A notebook of the folder in a window of its own, its kernel ready.

    Args:
        lab: what `jupyter_lab` gave.
        name: path of the notebook below its folder.
    """
    errors: list[str] = []
    with blank_page(size) as page:
        page.on("console", lambda message: _note(message, errors))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{lab}/lab/tree/{name}?token={_TOKEN}&reset")
        shown = NotebookPage(page, errors)
        shown.await_kernel()
        yield shown


def _note(message: ConsoleMessage, errors: list[str]) -> None:
    text = f"{message.text} ({message.location.get('url', '')})"
    if message.type == "error" and not _NOT_OURS.search(text):
        errors.append(text)
