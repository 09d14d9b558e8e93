"""Notebooks of a few lines, made by the tests that run them."""

import json
from pathlib import Path
from typing import Any

Cell = dict[str, Any]
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
PARAMETERS = """\
rate_hz: float = 500.0  # houses per second
count: int = 3  # how many
loud: bool = False  # whether it is loud
name: str = "tiny"  # what it is called"""
EXPERIMENT = """\
import json, os
from pathlib import Path
folder = Path(os.environ["HOUSES_RUN_DIR"], "calm")
folder.mkdir()
record = {"counts": {"houses": int(2 * rate_hz), "cancelled": 0}, "seconds": 2.0,
          "latency": {"p50_ms": rate_hz / 100, "p99_ms": rate_hz / 10}}
(folder / "summary.json").write_text(json.dumps(record))"""
"""Writes what an experiment of two seconds would say of itself."""


def text(source: str) -> Cell:
    """A markdown cell."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source: str, *tags: str) -> Cell:
    """A code cell."""
    return {
        "cell_type": "code",
        "metadata": {"tags": list(tags)},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


def write(path: Path, *cells: Cell) -> Path:
    """A notebook of these cells, with the kernel named in it that JupyterLab writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbered = [{"id": str(number), **cell} for number, cell in enumerate(cells)]
    record = {"cells": numbered, "metadata": {"kernelspec": KERNEL}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def outputs(path: Path) -> list[Any]:
    """All outputs of an executed notebook in order."""
    cells = json.loads(path.read_bytes())["cells"]
    return [output for cell in cells for output in cell.get("outputs", ())]


def printed(path: Path) -> str:
    """What an executed notebook has printed."""
    return "".join("".join(output["text"]) for output in outputs(path) if output["output_type"] == "stream")
