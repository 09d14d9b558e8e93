"""The crash campaign on a real Kafka, that it would see what it looks for, and how its script ends."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import psutil
import pytest
from support.kafka_lab import wait_until

from campaigns import crashtest
from campaigns.campaign import Follower, Outcome, campaign
from houses.errors import HousesError
from houses.verify.certificate import Certificate


@pytest.mark.slow
def test_kills_under_load_lose_and_double_nothing(tmp_path: Path, kafka: str) -> None:
    """Twenty at random moments, some of them while it recovers from the one before."""
    said: list[str] = []
    outcome = campaign(tmp_path, kafka, 20, 1, say=said.append)
    assert outcome.ok, f"{outcome}\n{outcome.certificate}"
    assert outcome.in_recovery > 0 and outcome.houses > 1000 and len(said) == outcome.kills == 20
    assert outcome.certificate.cancelled > 0 and outcome.certificate.rejects["duplicate"] > 0
    assert str(outcome).startswith("kills 20 (") and str(outcome).endswith("lost 0, twice 0; verified")


@pytest.mark.parametrize(("ok", "lost", "twice"), [(False, 0, 0), (True, 1, 0), (True, 0, 1)])
def test_anything_lost_or_double_fails_it(ok: bool, lost: int, twice: int) -> None:
    """Whatever the certificate says, and the other way round."""
    certificate: Certificate = SimpleNamespace(ok=ok)  # type: ignore[assignment]
    assert not Outcome(1, 0, 10, lost, twice, certificate).ok


def test_a_line_that_changes_or_vanishes_is_seen(tmp_path: Path) -> None:
    """The newest at the next look, one long ago at the look at all; a torn end may come and go."""
    path = tmp_path / "houses.jsonl"
    follower = Follower(path)
    follower.look()
    path.write_bytes(b"one\ntwo\nthr")
    follower.look()
    path.write_bytes(b"one\ntwo\nfour\n")
    follower.look_at_all()
    path.write_bytes(b"one\ntwo\n")
    with pytest.raises(AssertionError, match=r"houses\.jsonl: a line before byte 13 changed or vanished"):
        follower.look()
    path.unlink()
    with pytest.raises(AssertionError, match="has vanished"):
        follower.look()


def test_an_early_line_that_changes_is_seen_in_the_end(tmp_path: Path) -> None:
    """Too far back for each look."""
    path = tmp_path / "houses.jsonl"
    follower = Follower(path)
    path.write_bytes(b"x\n" * 100_000)
    follower.look()
    path.write_bytes(b"y\n" + b"x\n" * 99_999)
    follower.look()
    with pytest.raises(AssertionError, match="an early line has changed"):
        follower.look_at_all()


def crashed(*words: str, error: Exception) -> int:
    """The exit code of the command, where the campaign ends with an error."""
    with (
        patch("sys.argv", ["crashtest.py", *words]),
        patch("campaigns.crashtest.own_kafka", return_value=MagicMock(__enter__=lambda _: (Path(), ""))),
        patch("campaigns.crashtest.campaign", side_effect=error),
    ):
        return crashtest.main()


def test_the_command_says_what_was_broken_in_its_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    """And repeats how it was called, without the password of a store."""
    address = "postgresql://me:hunter2@h/d"
    said = "houses.jsonl has vanished"
    assert crashed("--kills", "3", "--seed", "7", "--store", address, error=AssertionError(said)) == 1
    out, err = capsys.readouterr()
    assert err == f"BROKEN: {said}\n" and "hunter2" not in out
    assert "--kills 3 --seed 7 --store postgresql://***@h/d" in out


@pytest.mark.parametrize("option", ["--kills", "--power-cuts"])
def test_the_command_refuses_less_than_one(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Instead of doing something else, or nothing."""
    with pytest.raises(SystemExit, match="2"):
        crashed(option, "0", error=HousesError("began"))
    assert capsys.readouterr().err.endswith(f"argument {option}: 0: must be a whole number, 1 or more\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "")])
def test_a_script_that_is_told_to_end_shows_no_traceback(number: int, code: int, said: str) -> None:
    """Ctrl-C and SIGTERM, in the middle of a long simulation."""
    command = [sys.executable, "-m", "campaigns.crashtest", "--power-cuts", "1000000"]
    tests = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=tests, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: psutil.Process(process.pid).cpu_times().user > 2.0, "it works")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code and out == "" and err.startswith(said) and err.count("\n") == bool(said)
