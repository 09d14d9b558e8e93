"""Headless runs as people start them, how they end, and what a browser would fetch for their reports."""

import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from houses.lab.headless.runner import NotebookRun
from support.command_line import environment

SIGNALS_S = 30.0
"""What a stop may take: ten seconds, and what a busy machine needs besides."""


def command(*words: str, **variables: str) -> "subprocess.Popen[str]":
    """`houses run` as a process in a foreign directory, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "houses", "run", *words],
        cwd=os.path.abspath(os.sep),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(**variables),
    )


def ends_after(process: "subprocess.Popen[str]", number: int) -> tuple[int, float, str]:
    """Exit code after a signal, the seconds that it took, and what was said on stderr."""
    begun_s = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    return process.returncode, time.monotonic() - begun_s, err


class Page(HTMLParser):
    """What a browser would fetch for a page, and the pictures with their alt texts."""

    def __init__(self, path: Path) -> None:
        """Read all of it."""
        super().__init__()
        self.fetched: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.policy = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        addresses = [values.get("src"), values.get("href") if tag == "link" else None, values.get("data")]
        self.fetched += [address for address in addresses if address is not None]
        if tag == "img":
            self.pictures.append((values["src"], values["alt"]))
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]


def finished(notebook: Path, parameters: dict[str, Any] | None = None, stopped: str | None = None) -> NotebookRun:
    """What a run says of itself that has left this notebook."""
    began = datetime(2026, 1, 31, tzinfo=UTC)
    return NotebookRun(notebook, notebook, parameters or {}, began, 1.0, 0.5, None, stopped)


def head_of(page: Page) -> list[str]:
    """The words of a report's head, one text between two tags each."""
    head = page.source.partition('<header class="run jp-RenderedHTMLCommon">')[2].partition("</header>")[0]
    return [unescape(text).strip() for text in re.split(r"<[^>]*>", head) if text.strip()]


def assert_offline(page: Page) -> None:
    """Every picture is inside; no script, style or import leads to a server; and the browser is told so."""
    assert all(address.startswith("data:") for address in page.fetched), page.fetched
    assert not re.search(r"""@import|url\(\s*['"]?(https?:)?//|import\(|\.src\s*=""", page.source)
    assert "default-src 'none'" in page.policy and "http" not in page.policy
