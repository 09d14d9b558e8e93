"""The long run, in short: what grows with the messages would show."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from campaigns.soak import LAG_LIMIT, Outcome, Sample, soak
from houses.verify.certificate import Certificate

OK: Certificate = SimpleNamespace(ok=True)  # type: ignore[assignment]
STEADY = [Sample(1, 500_000 + 10_000 * number, 60.0, 16, 6, 100) for number in range(1, 101)]


@pytest.mark.slow
def test_a_million_messages_leave_memory_files_and_threads_as_they_are(tmp_path: Path, kafka: str) -> None:
    """With a small machine's settings, stornos, faults and restarts, and each message has its outcome."""
    outcome = soak(tmp_path, kafka, 1_000_000, 1)
    assert outcome.problems == [], str(outcome)
    assert (
        outcome.certificate.cancelled > 0
        and {"duplicate", "malformed", "evicted"} <= outcome.certificate.rejects.keys()
    )


def outcome_of(samples: list[Sample], certificate: Certificate = OK) -> Outcome:
    """As if a long run had seen these."""
    return Outcome(samples, 100.0, 0.5, certificate)


def test_a_steady_consumer_has_no_problems() -> None:
    """Also when an earlier life needed more, when it grew while it warmed up, and when a checkpoint had a client."""
    earlier = [Sample(0, 100, 500.0, 99, 99, LAG_LIMIT + 1)]
    warming_up = [sample._replace(memory_mb=40.0 + number / 2) for number, sample in enumerate(STEADY[:30])]
    at_a_checkpoint = STEADY[-1]._replace(handles=20, threads=10)
    assert outcome_of([*earlier, *warming_up, *STEADY[30:], at_a_checkpoint]).problems == []


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ([s._replace(memory_mb=60 + 1.1 * s.messages / 1e6) for s in STEADY], "the memory grew by 1.10 MB per million"),
        ([*STEADY[:50], *(s._replace(handles=17) for s in STEADY[50:])], "16 open files became 17"),
        ([*STEADY[:50], *(s._replace(threads=7) for s in STEADY[50:])], "6 threads became 7"),
        ([*STEADY[:-1], STEADY[-1]._replace(lag=LAG_LIMIT + 1)], "the lag was 150,001"),
    ],
)
def test_what_grows_is_a_problem(samples: list[Sample], problem: str) -> None:
    """One, with its figures."""
    (found,) = outcome_of(samples).problems
    assert found.startswith(problem)


def test_a_proof_that_fails_is_a_problem() -> None:
    """Whatever the figures say."""
    assert len(outcome_of(STEADY, SimpleNamespace(ok=False)).problems) == 1  # type: ignore[arg-type]
