"""Measures how long the notebooks take, run headlessly one after the other. Run by `lab.py bench --notebooks`."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from houses.lab.headless.notebooks import all_notebooks
from houses.lab.headless.runner import run_notebook


def measure_notebooks(folder: Path, address: str) -> dict[str, Any]:
    """Seconds of each notebook, its kernel's start included: as it is, and with the values that nbmake sets for tests."""
    os.environ["HOUSES_KAFKA__BOOTSTRAP_SERVERS"] = address  # of the kernels
    in_full = {source.stem: _seconds(source, {}, folder) for source in all_notebooks()}
    mocks = {source: mock for source in all_notebooks() if (mock := mock_of(source))}
    mocked = {source.stem: _seconds(source, mock, folder) for source, mock in mocks.items()}
    return {
        "notebooks: in full, s": {"slowest": max(in_full.values())} | in_full,
        "notebooks: as tests run them, s": {"slowest": max(mocked.values())} | mocked,
    }


def mock_of(source: Path) -> dict[str, Any]:
    """Values for tests, which nbmake sets behind the parameters cell; empty when it has none."""
    cells = json.loads(source.read_bytes())["cells"]
    mocks = [cell["metadata"]["nbmake"]["mock"] for cell in cells if "nbmake" in cell["metadata"]]
    return dict(*mocks)


def _seconds(source: Path, parameters: Mapping[str, Any], folder: Path) -> float:
    begun_s = time.perf_counter()
    done = run_notebook(source, parameters, runs=folder)
    assert done.failure is None, f"{source.stem}: {done.failure}"
    return time.perf_counter() - begun_s
