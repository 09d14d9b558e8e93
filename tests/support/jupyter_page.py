"""A real JupyterLab in a real browser: headless Chromium, used as a person would."""

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil
from playwright.sync_api import ConsoleMessage, Error, Locator, Page, sync_playwright

from houses.config.config import PROJECT_ROOT
from houses.kafka.local.probe import free_port

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
_MESSAGES = """() => Promise.race([
    jupyterapp.shell.currentWidget.sessionContext.session.kernel._msgChain.then(() => 'all are handled'),
    new Promise(resolve => setTimeout(resolve, 2000, 'the page is stuck in one of them')),
])"""
_WATCH_PROMPT = """prompt => {
    window.promptHasChanged = false;
    const see = (_, observer) => { window.promptHasChanged = true; observer.disconnect(); };
    new MutationObserver(see).observe(prompt, { childList: true, characterData: true, subtree: true });
}"""
_PATIENCE_S = 180.0
"""Bounds what hangs; on a busy machine a kernel, or a cell that makes topics, may take half a minute."""
_LOOK_S = 5.0
"""What a page that is only to be described gets for each answer."""
_END_S = 30.0
"""What the server gets to end a kernel, which it waits for."""
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
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={_TOKEN}", f"--ServerApp.root_dir={folder}"]
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


def _await_answer(address: str, server: psutil.Popen, timeout_s: float = _PATIENCE_S) -> None:
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
        """Run all cells; returns when the first one is taken."""
        self.code_cell("").locator(".jp-InputPrompt").evaluate(_WATCH_PROMPT)
        self.menu("Run", "Run All Cells")
        self.page.wait_for_function("() => window.promptHasChanged")

    def run_cell(self, text: str) -> None:
        """Run the code cell that holds a text; returns when it is taken, which its prompt shows."""
        prompt = self.code_cell(text).locator(".jp-InputPrompt")
        prompt.click()
        prompt.evaluate(_WATCH_PROMPT)
        self.page.keyboard.press("Shift+Enter")
        self.page.wait_for_function("() => window.promptHasChanged")

    def code_cell(self, text: str) -> Locator:
        """The code cell that holds a text."""
        return self.page.locator(".jp-CodeCell").filter(has=self.page.locator(".jp-InputArea", has_text=text)).first

    def await_cells(self, timeout_s: float = _PATIENCE_S) -> None:
        """Return when no cell runs or waits any more.

        The kernel's status says idle after every message of a widget, so the prompts of the cells are what counts.
        """
        self.page.wait_for_function(
            "() => ![...document.querySelectorAll('.jp-InputPrompt')].some(p => p.textContent.includes('*'))",
            timeout=timeout_s * 1000,
        )
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
        """Through the menu, with its question answered; returns at once."""
        self.menu("Kernel", re.compile("^Restart Kernel…"))
        self.page.get_by_role("button", name="Restart", exact=True).or_(
            self.page.get_by_role("button", name=re.compile("Confirm Kernel Restart"))
        ).first.click()

    def await_kernel(self) -> None:
        """Return when the kernel can be used; before that, running a cell would ask which kernel to take."""
        self.page.wait_for_function(_KERNEL_READY)

    def shows(self) -> str:
        """For a failure: prompts, outputs, dialogs, the console's errors, the kernel's messages, and where a picture is."""
        looks: dict[str, Callable[[], object]] = {
            "prompts": self.page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts,
            "outputs": self.page.locator(".jp-OutputArea-output").all_inner_texts,
            "dialogs": self.page.locator(".jp-Dialog").all_inner_texts,
            "messages": lambda: self.page.evaluate(_MESSAGES),
            "picture": self._picture,
        }
        return "\n".join([f"console: {self.errors}", *(f"{name}: {self._seen(look)}" for name, look in looks.items())])

    def _seen(self, look: Callable[[], object]) -> object:
        """What it gives, or why there is nothing: no kernel yet, a page that is closed or hangs. The failure itself counts."""
        try:
            self.page.wait_for_function("() => true", timeout=_LOOK_S * 1000)  # a look at a page that hangs has no end
            return look()
        except Error as error:
            return error.message.splitlines()[0]

    def _picture(self) -> Path:
        path = Path(tempfile.mkdtemp(prefix="page-")) / "page.png"
        self.page.screenshot(path=path, timeout=_LOOK_S * 1000)
        return path

    # --- the panel ---

    def live(self, number: int = 0) -> Locator:
        """The live part of a panel."""
        return self.page.locator(".houses-live").nth(number)

    def row(self, name: str, number: int = 0) -> str:
        """The text beside a name in the live part."""
        return self.live(number).locator(f'[data-name="{name}"] span').inner_text()

    def await_row(self, name: str, pattern: str, timeout_s: float = _PATIENCE_S, number: int = 0) -> str:
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

    def await_frames(self, count: int, number: int = 0) -> None:
        """Return when the live part has drawn so many frames more."""
        self.live(number).wait_for()
        wanted = self.frames(number) + count
        self.page.wait_for_function(
            "([at, wanted]) => Number(document.querySelectorAll('.houses-live')[at].dataset.frames) >= wanted",
            arg=[number, wanted],
        )

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
    """A notebook of the folder in a window of its own, with a kernel of its own, which is ready and ends with it.

    Args:
        lab: what `jupyter_lab` gave.
        name: path of the notebook below its folder.
    """
    errors: list[str] = []
    with blank_page(size) as page:
        page.set_default_timeout(_PATIENCE_S * 1000)
        page.on("console", lambda message: _note(message, errors))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{lab}/lab/tree/{name}?token={_TOKEN}&reset")
        shown = NotebookPage(page, errors)
        try:
            shown.await_kernel()
            page.evaluate("() => jupyterapp.restored")  # until then it moves the focus
            yield shown
        except Exception as error:
            error.add_note(shown.shows())
            raise
        finally:
            _end_kernel(lab, name)


def _end_kernel(lab: str, name: str) -> None:
    """Else whoever opens the notebook next takes it over, and a page restores all widgets of a kernel before it shows outputs."""
    login = {"Authorization": f"token {_TOKEN}"}
    with suppress(OSError):  # URLError, or a timeout: a server that has gone must not hide why
        with urlopen(Request(f"{lab}/api/sessions", headers=login), timeout=_END_S) as answer:
            sessions = [session["id"] for session in json.load(answer) if session["path"] == name]
        for session in sessions:
            url = f"{lab}/api/sessions/{session}"
            urlopen(Request(url, headers=login, method="DELETE"), timeout=_END_S).close()


def _note(message: ConsoleMessage, errors: list[str]) -> None:
    text = f"{message.text} ({message.location.get('url', '')})"
    if message.type == "error" and not _NOT_OURS.search(text):
        errors.append(text)
