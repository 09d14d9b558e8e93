"""The schedule: how many messages are due, however the rate changes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houses.config.types import MAX_RATE_HZ
from houses.errors import ConfigError
from houses.producer.stream import Schedule, check_rate

rates = st.floats(0, MAX_RATE_HZ)
steps = st.lists(st.tuples(st.floats(0, 1000), rates), max_size=20)


def test_due_is_rate_times_time() -> None:
    """1,000 messages per second for 10 seconds are 10,000 messages, none of them early."""
    schedule = Schedule(100.0, 1000.0)
    assert [schedule.due(100.0 + t) for t in (0.0, 0.0004, 0.001, 1.0, 10.0)] == [0, 0, 1, 1000, 10_000]


def test_a_stalled_thread_finds_exactly_what_it_missed() -> None:
    """The schedule does not know about stalls: what was due in one is still due after it."""
    schedule = Schedule(0.0, 500.0)
    assert schedule.due(7.0) - schedule.due(2.0) == 2500


def test_a_pause_sends_nothing_and_owes_nothing() -> None:
    """No message is due for the time in which the rate was 0."""
    schedule = Schedule(0.0, 100.0)
    schedule.set_rate(1.0, 0.0)
    assert schedule.due(50.0) == 100
    schedule.set_rate(50.0, 10.0)
    assert schedule.due(51.0) == 110


def test_changes_faster_than_the_rate_do_not_stop_the_stream() -> None:
    """At 5 messages per second a slider that moves every 50 ms never moves a message away."""
    schedule = Schedule(0.0, 5.0)
    for step in range(1, 201):
        schedule.set_rate(step * 0.05, 5.0 + step % 2 * 0.001)
    assert schedule.due(10.0) == 50


def test_nothing_is_due_before_the_start() -> None:
    """A delayed stream asks about a moment before the start, and nothing is due then."""
    assert Schedule(10.0, 1000.0).due(9.0) == 0


def test_a_delayed_question_sees_the_rate_of_then() -> None:
    """A stream that is 2 seconds late meets a rate change 2 seconds late, and all messages before it."""
    schedule = Schedule(0.0, 100.0)
    schedule.set_rate(5.0, 0.0)
    assert [schedule.due(now - 2.0) for now in (5.0, 7.0, 60.0)] == [300, 500, 500]


@given(steps, rates)
def test_parts_changed_together_stay_together(changes: list[tuple[float, float]], first_hz: float) -> None:
    """Asking at other moments in between changes nothing: the count depends on the rates and times alone."""
    asked, silent = Schedule(0.0, first_hz), Schedule(0.0, first_hz)
    now_s = 0.0
    for gap_s, rate_hz in changes:
        asked.due(now_s + gap_s / 2)
        now_s += gap_s
        asked.set_rate(now_s, rate_hz)
        silent.set_rate(now_s, rate_hz)
    assert asked.due(now_s + 1.0) == silent.due(now_s + 1.0)


@given(steps, rates)
def test_the_count_is_the_integral_of_the_rate(changes: list[tuple[float, float]], first_hz: float) -> None:
    """Nothing is lost or gained at a change, whatever the rates were."""
    schedule, now_s, rate_hz, exact = Schedule(0.0, first_hz), 0.0, first_hz, 0.0
    for gap_s, next_hz in changes:
        now_s, exact, rate_hz = now_s + gap_s, exact + gap_s * rate_hz, next_hz
        schedule.set_rate(now_s, rate_hz)
    exact += 3.0 * rate_hz
    assert math.isclose(schedule.due(now_s + 3.0), exact, rel_tol=1e-9, abs_tol=1.0)


@pytest.mark.parametrize("rate_hz", [-1, 20_001, math.nan, math.inf])
def test_a_rate_out_of_bounds_is_refused(rate_hz: float) -> None:
    """The error quotes the rate and the bounds."""
    with pytest.raises(ConfigError, match=rf"rate {rate_hz}: must be 0 \(paused\) to 20000"):
        check_rate(rate_hz)
