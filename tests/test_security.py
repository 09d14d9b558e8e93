"""What must hold whatever else happens: nothing listens beyond this machine, nothing that is read is run, no secret is shown."""

import ast
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest
from support import tiny_notebooks as tiny
from support.command_line import check, consuming, make_project, run, send_houses
from support.kafka_lab import wait_until

from houses.config import config
from houses.config.config import PROJECT_ROOT
from houses.errors import ConfigError
from houses.kafka.broker import ensure_topics
from houses.kafka.local.probe import free_port, probe
from houses.lab.consumer_process import ConsumerChild
from houses.lab.headless.runner import run_notebook
from houses.system.files import REAL

SECRET = "hunter2-not-to-be-seen"
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "pickle", "cPickle", "marshal", "shelve", "dill", "joblib"),
    *(
        "read_pickle",
        "to_pickle",
        "allow_pickle",
        "system",
        "popen",
        "unsafe_load",
        "full_load",
        "FullLoader",
        "Loader",
    ),
}


def names_of(path: Path) -> Iterator[tuple[str, int]]:
    """Every name that a file calls, imports, reads or passes, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name, getattr(node, "lineno", 0)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((part, node.lineno) for alias in aliases for part in alias.name.split("."))


HOUSES = PROJECT_ROOT / "houses"


@pytest.mark.parametrize("path", sorted(HOUSES.rglob("*.py")), ids=lambda path: str(path.relative_to(HOUSES)))
def test_no_input_is_run_or_unpickled(path: Path) -> None:
    """`re.compile` aside; and no shell is asked."""
    source = path.read_text(encoding="utf-8")
    allowed = (
        {"compile"} if "re.compile(" in source and source.count("compile(") == source.count("re.compile(") else set()
    )
    assert [found for found in names_of(path) if found[0] in FORBIDDEN - allowed] == []
    assert "shell=True" not in source and "yaml.load(" not in source


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    """A tag that would run a program is an error, and the program does not run."""
    path, mark = tmp_path / "config.yaml", tmp_path / "it-ran"
    path.write_text(f"kafka: !!python/object/apply:os.system ['touch {mark}']\n", encoding="ascii")
    with pytest.raises(ConfigError):
        config.load(path, {})
    assert not mark.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="modes mean nothing there")
def test_what_is_written_only_its_owner_may_change(tmp_path: Path, kafka: str) -> None:
    """Also with an open umask: every file that producers, a consumer at work and the rest leave in the folder."""
    made = make_project(tmp_path, kafka, {"producer.faults.wall": {"duplicate": 0.5}})
    before = os.umask(0)
    try:
        check(made, "produce", "--seconds", "0.5")
        with consuming(made):
            found = [path for path in made.folder.rglob("*") if path.is_file()]
        REAL.close(REAL.open(made.folder / "made"))
    finally:
        os.umask(before)
    names = {path.name for path in found}
    assert {"houses.jsonl", "metrics.jsonl", "faults.jsonl", ".consumer.pid", ".consumer.lock", "binding.json"} <= names
    for path in (*found, made.folder / "made"):
        assert not stat.S_IMODE(path.stat().st_mode) & (stat.S_IWGRP | stat.S_IWOTH | 0o111), path


@pytest.mark.system
def test_jupyterlab_listens_here_only_and_wants_its_token(tmp_path: Path) -> None:
    """Started as the README says, but for the browser: a request without the token is refused."""
    port = free_port()
    words = ["lab", "--no-browser", f"--ServerApp.port={port}", f"--ServerApp.root_dir={tmp_path}"]
    log = tmp_path / "log"
    with log.open("wb") as out:
        server = psutil.Popen([sys.executable, str(PROJECT_ROOT / "lab.py"), *words], stdout=out, stderr=out)
    try:
        wait_until(lambda: f"http://127.0.0.1:{port}/lab" in log.read_text(), "JupyterLab says its address")
        wait_until(lambda: probe("127.0.0.1", port) != "nothing", "it listens, which may be a little later")
        for path in ("/api/contents", "/api/kernels", "/lab"):
            assert answer(f"http://127.0.0.1:{port}{path}") in (403, "login")
        assert {"127.0.0.1"} <= listening(server) <= {"127.0.0.1", "::1"}
        assert "?token=" in log.read_text()
    finally:
        for each in server.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        server.kill()
        server.wait()


def listening(server: psutil.Process) -> set[str]:
    """Addresses at which a process and its children listen."""
    found = set()
    for each in (server, *server.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # JupyterLab asks programs for their version; they may end meanwhile
            found |= {c.laddr.ip for c in each.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    return found


def answer(address: str) -> int | str:
    """The status of a request without a token, or `login` where it leads to the question for one."""
    try:
        with urlopen(address) as response:
            return "login" if "/login" in response.url else int(response.status)
    except HTTPError as error:
        return error.code


def test_no_secret_is_in_anything_that_a_run_leaves(
    tmp_path: Path, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that is not needed here: not in the files, the logs, the executed notebook, the report or what is said."""
    made = make_project(tmp_path, kafka)
    variables = {
        "HOUSES_KAFKA__SECURITY__SASL_PASSWORD": SECRET,
        "HOUSES_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "HOUSES_CONSUMER__OFFSET_STORE_PASSWORD": SECRET,
    }
    cells = (
        "import houses\nexp = houses.Experiment('secret', rate_hz=100)\nprint(exp, exp.config)\nexp.config",
        "with exp.running(seconds=0.3): pass\nprint(exp.verify())\nexp.close()",
        "houses.Experiment('secret', rate_hz=-1)",
    )
    notebook = tiny.write(tmp_path / "a.ipynb", *map(tiny.code, cells))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = run_notebook(notebook, {}, folder=tmp_path / "run", report=True)
    assert done.failure and "rate_hz" in str(done.failure)
    said = repr(done)
    send_houses(made, 5)
    for words in (["consume", "--until-end"], ["status"], ["verify"]):
        done_by_hand = run(made, *words, **variables)
        said += done_by_hand.stdout + done_by_hand.stderr
    texts = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(name.endswith(".html") for name in texts) and any(name.endswith("consumer.log") for name in texts)
    assert [name for name, text in texts.items() if SECRET.encode() in text] == [] and SECRET not in said


def test_no_secret_is_among_the_arguments_of_a_process(tmp_path: Path, kafka: str) -> None:
    """Every user of the machine can read those; the consumer of an experiment is given it all the same."""
    made = make_project(tmp_path, kafka)
    ensure_topics(made)
    child = ConsumerChild(config.load(made.path, {"HOUSES_CONSUMER__OFFSET_STORE_PASSWORD": SECRET}))
    child.start()
    try:
        assert child.pid is not None
        process = psutil.Process(child.pid)
        assert SECRET not in " ".join(process.cmdline()) and SECRET in process.environ().values()
    finally:
        child.kill()
