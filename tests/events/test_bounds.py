from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.clock import Clock
from lazystore.errors import UsageError
from lazystore.events.bounds import ticks_of_duration, ticks_of_time

MICROSECOND = Fraction(1, 10**6)
clocks = st.one_of(
    st.builds(Clock, offset_s=st.floats(-1e6, 1e6), rate=st.floats(0.5, 2.0)),
    st.just(Clock(offset_s=-1.7e9)),
    st.just(Clock(knots=((0.0, 5.0), (10.0, 15.001), (20.0, 25.0)), known="synchronised")),
)


@given(second=st.floats(-1e7, 1e7), clock=clocks)
def test_session_seconds_are_the_clocks_own(second, clock):
    """The shortcut gives the tick that the clock's exact search gives."""
    assert ticks_of_time(second, "s", clock, "t0") == clock.first_tick_at(second, MICROSECOND)


@given(ticks=st.integers(-(2**60), 2**60), clock=clocks)
def test_whole_microseconds_stay_as_they_are(ticks, clock):
    """Integers in µs never pass through a float."""
    assert ticks_of_time(ticks, "us", clock, "t0") == ticks


@given(st.floats(-1e12, 1e12))
def test_fractions_of_microseconds_round_up(value):
    """The first tick that is not before a time begins its window."""
    tick = ticks_of_time(value, "us", Clock(), "t0")
    assert tick - 1 < Fraction(value) <= tick


@pytest.mark.parametrize(
    ("value", "unit", "ticks"),
    [
        (10_000, "us", 10_000),
        (0.01, "s", 10_000),
        (1 / 3 * 3, "ms", 1000),
        (0.1, "ms", 100),
        (2, "s", 2_000_000),
    ],
)
def test_durations_are_whole_microseconds(value, unit, ticks):
    """0.01 s is 10,000 µs, although no float says it exactly."""
    assert ticks_of_duration(value, unit, "period") == ticks


@pytest.mark.parametrize("value", [0, -5, 0.5, float("nan"), float("inf"), 1 / 3])
def test_durations_that_are_none(value):
    """Zero, negative and fractional µs are refused."""
    with pytest.raises(UsageError, match="is not a whole number of us above 0"):
        ticks_of_duration(value, "us", "period")
