"""The examples in the docstrings of what notebooks call: each public function has one, and it says what comes out."""

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pandas as pd
import pytest
from support.kafka_lab import make_config

import houses
from houses.lab.experiment import Experiment

NEED_A_KERNEL_OR_A_NOTEBOOK = {"panel", "time_machine", "run_notebook", "sweep_notebook", "crash", "try_crashes"}
FUNCTIONS = [
    name
    for name in dir(houses)
    if isinstance(getattr(houses, name), FunctionType) and name not in NEED_A_KERNEL_OR_A_NOTEBOOK
]


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[Experiment]:
    """What the examples call `exp`: roofs are 300 ms late, house 7 is cancelled, the consumer was killed once."""
    base = make_config(tmp_path_factory.mktemp("examples"), kafka)
    with Experiment("examples", rate_hz=200, base=base, faults={"roof": {"delay_ms": 300}}) as made:
        # Before its parts: on a new Kafka the first storno may take so long that house 7 is written already.
        made.storno(7)
        with made.running(seconds=2.0, complete=False):
            made.wait(0.8)
            made.kill_consumer()
            made.restart_consumer()
        yield made


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_gives_what_it_says(
    name: str, exp: Experiment, kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As somebody would type it who has an experiment at hand."""
    monkeypatch.setenv("HOUSES_KAFKA__BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("HOUSES_RUN_DIR", str(tmp_path))
    public = {other: getattr(houses, other) for other in dir(houses)}
    function = public[name]
    module = importlib.import_module(function.__module__)
    (found,) = doctest.DocTestFinder(recurse=False).find(function, name, module, public | {"exp": exp, "pd": pd})
    assert found.examples, f"{name} has no example"
    said: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(found, out=said.append)
    assert results.failed == 0, "".join(said)
