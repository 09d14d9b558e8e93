"""The command line itself: help, exit codes, plain output, fast starts."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support.command_line import (
    arguments,
    call,
    commands,
    environment,
    make_project,
    on_terminal,
    read_houses,
    run,
    send_houses,
)
from support.kafka_lab import Values

from houses.cli.main import VERBS, cli, main
from houses.kafka.local import server as local_kafka
from houses.kafka.local.probe import free_port

HEAVY = {"pandas", "matplotlib", "numpy", "IPython", "ipywidgets", "rich", "papermill"}


def examples() -> list[str]:
    """Every example line of the help texts."""
    texts = [cli.help, *(command.help for _, command in commands())]
    return [line.strip() for text in texts for line in (text or "").splitlines() if line.strip().startswith("houses ")]


# --- help ---


@pytest.mark.parametrize("names", [names for names, _ in commands()], ids=" ".join)
def test_each_verb_explains_itself_with_an_example(names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` exits with 0, and shows an example that begins with the verb."""
    assert main([*names, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: houses {' '.join(names)}")
    assert re.search(rf"Examples?:\n +houses {names[0]}", shown)


@pytest.mark.parametrize("example", examples())
def test_each_example_is_understood(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No example has an unknown option, a missing argument or a bad value."""
    called: list[object] = []
    for _, command in commands():
        if not isinstance(command, click.Group):
            monkeypatch.setattr(command, "callback", lambda **values: called.append(values))
    cli.main(shlex.split(example)[1:], standalone_mode=False)
    assert called or "--help" in example


def test_the_list_of_verbs_is_complete() -> None:
    """`houses --help` names each verb, with what it does."""
    shown = run(None, "--help").stdout
    for verb in VERBS:
        assert re.search(rf"^  {verb.name} +{re.escape((verb.short_help or '?')[:20])}", shown, re.MULTILINE)


def test_help_loads_neither_kafka_nor_the_configuration() -> None:
    """So that it comes at once."""
    code = "import sys; from houses.cli.main import main; main(['--help']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    modules = set(loaded.stdout.splitlines()[-1].split())
    assert not modules & (HEAVY | {"confluent_kafka", "pydantic", "yaml"})


def test_the_consumer_loads_no_notebook_library(tmp_path: Path, kafka: str) -> None:
    """No pandas, no matplotlib, no widgets in the consumer's process, also after it has read."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 3)
    code = "import sys; from houses.cli.main import main; main(sys.argv[1:]); print(*sys.modules)"
    command = [sys.executable, "-c", code, *arguments(made, "consume", "--until-end")[3:]]
    loaded = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
    assert "Stopped: 3 houses" in loaded.stdout
    assert not set(loaded.stdout.splitlines()[-1].split()) & HEAVY


# --- exit codes ---


def test_bad_configuration_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    """All problems on stderr, one a line, exit code 1, whatever the verb."""
    (tmp_path / "config.yaml").write_text("producer: {msgs_per_sec: -5, colour: red}\n", encoding="ascii")
    done = run(None, "--config", str(tmp_path / "config.yaml"), "consume")
    assert (done.returncode, done.stdout) == (1, "")
    assert "producer.msgs_per_sec = -5: must be 0 or more" in done.stderr
    assert "colour" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("dance",),
        ("consume", "--faster"),
        ("storno",),
        ("storno", "seven"),
        ("storno", "1234567890123456789"),
        ("storno", "7", "--part", "door"),
        ("produce", "--rate", "door=5"),
        ("produce", "--rate", "fast"),
        ("produce", "--fault", "roof.fire=1"),
        ("produce", "--fault", "roof.drop"),
        ("produce", "--count", "0"),
        ("show", "--pending", "--id", "7"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed on stdout, and stderr says what is wrong."""
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Error: " in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("produse",), "No such command 'produse'. Did you mean 'produce'?"),
        (("kafka", "restart"), "No such command 'restart'. (Did you mean one of: 'start', 'status'?)"),
        (("status", "--config", "x.yaml"), "--config comes before the verb: houses --config PATH status"),
        (("hello", "send", "--config=x"), "--config comes before the verb: houses --config PATH hello send"),
        (("storno", "-5"), "-5: an id is 0 or more, for example: houses storno 7"),
        (("run", "01", "-p", "rate_hz"), "-p: takes a name and a value, for example: -p rate_hz 500"),
        (("run", "01", "--sweep", "rate_hz"), "for example: --sweep rate_hz 100,1000"),
        (("peek", "--cuont", "3"), "No such option '--cuont'."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_slip_of_the_fingers_is_told_what_was_meant(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A verb, one below it, and --config in the wrong place."""
    assert main(list(words)) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("produce", "--rate", "-5"), "producer.msgs_per_sec = -5.0: must be 0 or more"),
        (("produce", "--fault", "roof.drop=2"), "producer.faults.roof.drop = 2.0"),
        (("storno-loop", "--interval", "0"), "producer.storno_interval_sec = 0"),
    ],
    ids=["rate", "fault", "interval"],
)
def test_bad_values_are_quoted_with_what_is_allowed(
    tmp_path: Path, kafka: str, words: tuple[str, ...], said: str
) -> None:
    """A value that only the configuration can judge: one line, exit code 1."""
    done = call(make_project(tmp_path, kafka), *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_kafka_elsewhere_is_one_line(tmp_path: Path) -> None:
    """An address that is not of this machine is never started: exit code 1, why, and what to do."""
    done = run(make_project(tmp_path, "192.0.2.1:9092", {"kafka.topic": "houses"}), "verify")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"Error: kafka.bootstrap_servers = 192\.0\.2\.1:9092: no answer from Kafka \(.+\); see that.*\n", done.stderr
    )


def test_a_proof_starts_no_kafka(tmp_path: Path) -> None:
    """Whoever stopped the local one, or has another running at another address, hears that none answers."""
    made = make_project(tmp_path, f"127.0.0.1:{free_port()}")
    done = run(made, "verify")
    assert (done.returncode, done.stdout) == (1, "")
    assert "start one (" in done.stderr
    assert not local_kafka.status(made.data_dir).running


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, kafka: str) -> None:
    """What the system refuses ends in its words, not in a traceback."""
    made = make_project(tmp_path, kafka)
    made.folder.rmdir()
    made.folder.write_text("a file where the folder should be", encoding="ascii")
    done = run(made, "consume")
    assert done.returncode == 1
    assert re.fullmatch(r"Error: .*output.*\n", done.stderr)


# --- output ---


def test_piped_output_is_plain(tmp_path: Path, kafka: str) -> None:
    """No control sequence reaches a pipe, from any verb."""
    made = make_project(tmp_path, kafka)
    words = [
        ("produce", "--seconds", "0.5", "--rate", "100"),
        ("storno", "3"),
        ("consume", "--until-end"),
        ("status",),
        ("show",),
        ("show", "--pending"),
        ("compact",),
        ("peek",),
        ("verify",),
        ("kafka", "status"),
        ("reset", "--yes"),
    ]
    said = [run(made, *each).stdout for each in words]
    assert all(said)
    assert not any(character < " " and character != "\n" for character in "".join(said))


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo terminals there")
@pytest.mark.parametrize(
    ("words", "title"),
    [
        (("produce", "--seconds", "1"), "Sending"),
        (("consume", "--until-end"), "Reading"),
        (("verify",), "Verifying"),
        (("show", "--pending"), "Looking"),
        (("compact",), "Writing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_terminal_gets_a_progress_bar(tmp_path: Path, kafka: str, words: tuple[str, ...], title: str) -> None:
    """The same verb that is plain in a pipe draws on a terminal, and leaves its lines there."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 2)
    if words[0] != "consume":
        read_houses(made)
    status, drawn = on_terminal(made, *words)
    assert status == 0, drawn
    assert "\x1b[" in drawn
    assert title in drawn
    assert "\x1b[?25h" in drawn  # the cursor is shown again


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path, kafka: str) -> None:
    """`houses peek | head -1` ends quietly."""
    made = make_project(tmp_path, kafka)
    send_houses(made, 2000)
    command = arguments(made, "peek", "--count", "2000")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_key_without_effect_is_said_once_on_stderr(tmp_path: Path, kafka: str) -> None:
    """An old config.yaml is taken, its dead key named, and stdout stays for the data."""
    made = make_project(tmp_path, kafka)
    text = made.path.read_text(encoding="utf-8")
    made.path.write_text(text.replace("consumer:\n", "consumer:\n  house_chan_buffer: 512\n"), encoding="utf-8")
    done = call(made, "show")
    assert done.returncode == 0
    assert done.stderr.count("consumer.house_chan_buffer has no effect") == 1
    assert "house_chan_buffer" not in done.stdout


VALUES: Values = {"producer.msgs_per_sec": 5.0}


def test_the_environment_wins_over_the_file(tmp_path: Path, kafka: str) -> None:
    """A rate set by HOUSES_PRODUCER__MSGS_PER_SEC is the one that is used."""
    made = make_project(tmp_path, kafka, VALUES)
    done = run(made, "produce", "--seconds", "1", HOUSES_PRODUCER__MSGS_PER_SEC="2000")
    match = re.search(r"Sent houses 0 to (\d+)", done.stdout)
    assert match
    assert int(match[1]) > 100
