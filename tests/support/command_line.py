"""`houses` as people run it: processes of their own, their output and how they end."""

import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
import pytest

from houses.cli.main import cli, main
from houses.config.config import PROJECT_ROOT, Config, child_environment
from houses.consumer.consumer import consume
from houses.kafka.broker import ensure_topics
from houses.producer.producers import Producers
from houses.records.metrics import last_metrics
from support import kafka_lab
from support.kafka_lab import Values, wait_until

TIMEOUT_S = 120
STOP_LIMIT_S = 15.0
"""What a stop may take: five seconds, and what a busy machine needs besides to start it and to end the process."""
LISTENING = ("produce", "consume", "storno-loop", "hello")
"""Verbs that take over the signals of their process."""


def make_project(folder: Path, kafka: str, values: Values | None = None) -> Config:
    """A project with topics of its own, whose config.yaml says all of it."""
    made = kafka_lab.make_config(folder, kafka, values)
    made.dump(made.path)
    return made


def send_houses(made: Config, count: int) -> None:
    """Send so many complete houses from this process, as fast as it can, with ids on from the last one."""
    ensure_topics(made)
    with Producers(made.with_values({"producer.msgs_per_sec": 0.0}), made.kafka.topic, made.folder) as producers:
        producers.send_through(producers.first_id + count - 1)


def arguments(made: Config | None, *words: str) -> list[str]:
    """The command as an argument list."""
    return [sys.executable, "-m", "houses", *(("--config", str(made.path)) if made else ()), *words]


def environment(made: Config | None = None, /, **variables: str) -> dict[str, str]:
    """That of a child, which finds the package wherever it runs, and the secrets of a project."""
    return child_environment() | {"PYTHONPATH": str(PROJECT_ROOT)} | (made.secrets if made else {}) | variables


def run(made: Config | None, *words: str, stdin: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a verb to its end, with pipes, in a foreign current directory."""
    return subprocess.run(
        arguments(made, *words),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=os.path.abspath(os.sep),
        env=environment(made, **variables),
        check=False,
    )


def call(made: Config | None, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """As `run`, but inside this process, which spares the time of its start; not for verbs that listen to signals."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    command = [*(("--config", str(made.path)) if made else ()), *words]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdin", io.StringIO(stdin))
        with redirect_stdout(out), redirect_stderr(err):
            status = main(command)
    said, complained = (stream.buffer.getvalue().decode() for stream in (_flushed(out), _flushed(err)))
    return subprocess.CompletedProcess(command, status, said, complained)


def _flushed(stream: io.TextIOWrapper) -> Any:
    stream.flush()
    return stream


def check(made: Config, *words: str) -> str:
    """A verb that must succeed; returns what it said on stdout."""
    done = (run if words[0] in LISTENING else call)(made, *words)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def read_houses(made: Config) -> Counter[str]:
    """As `houses consume --until-end`, inside this process; returns the outcomes by kind."""
    return consume(made, lambda: False, until_end=True)


def on_terminal(made: Config | None, *words: str, columns: int = 80) -> tuple[int, str]:
    """Exit code of a verb on a terminal so many columns wide, and all that it drew; not on Windows."""
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))  # tqdm draws nothing on a terminal without rows
    variables = environment(TERM="xterm-256color", COLUMNS=str(columns))
    process = subprocess.Popen(arguments(made, *words), stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    drawn = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return process.wait(), drawn.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says EIO when the other side is closed
        return b""


@contextmanager
def running(made: Config, *words: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A verb that runs on in a group of its own; killed at the end of the block if it still lives."""
    process = subprocess.Popen(
        arguments(made, *words),
        text=True,
        start_new_session=True,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        | {"env": environment(made)}
        | options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in filter(None, (process.stdin, process.stdout)):
            stream.close()


@contextmanager
def consuming(made: Config, *words: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A consumer that has begun to read."""
    with running(made, "consume", *words, **options) as process:
        wait_until(lambda: is_reading(made, process.pid), "the consumer reads")
        yield process


def is_reading(made: Config, pid: int) -> bool:
    """Whether the consumer of that process id is past its recovery: it may already wait, when much is pending."""
    line = last_metrics(made.metrics_path)
    return line is not None and line["pid"] == pid and line["state"] in ("running", "waiting")


def ends(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit status of a process that was asked to end, and what it said."""
    said, _ = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, said


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All verbs, and those below them, with their names."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
