from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.clock import Clock
from lazystore.errors import SourceError, UnitError, UsageError
from lazystore.sources.ticks import find_time, fit_ticks, time_unit


def seconds(fit):
    ticks = fit.ticks
    values = ticks.values
    if values is None:
        values = ticks.start + ticks.step * np.arange(500)
    return Clock().ticks_to_session(values, ticks.time_base)


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=40), st.sampled_from([0, 3, 6]))
def test_decimal_seconds_come_back_bit_for_bit(numbers, digits):
    """Times written with up to 6 decimals are exact in ticks, and as the clock's seconds."""
    times = np.array([float(f"{n}e-{digits}") for n in numbers])
    fit = fit_ticks(times)
    assert fit.is_exact
    assert fit.ticks.time_base >= Fraction(1, 10 ** max(digits, 1) * 1000)
    np.testing.assert_array_equal(seconds(fit)[: times.size], times)


@pytest.mark.parametrize("rate", [30, 60, Fraction(30000, 1001), Fraction(25, 3)])
def test_regular_rates_are_found(rate):
    """n / rate becomes a regular axis with the rate's own time base, without one tick a record."""
    times = np.arange(500) * rate.denominator / rate.numerator
    fit = fit_ticks(times)
    assert fit.is_exact
    assert fit.ticks.values is None
    assert fit.ticks.time_base * fit.ticks.step == 1 / Fraction(rate)
    np.testing.assert_array_equal(seconds(fit), times)


def test_other_floats_are_rounded_to_ns_and_say_so():
    """Times that no tick gives back are within half a ns, and the error is recorded."""
    times = np.cumsum(np.random.default_rng(0).random(100))
    fit = fit_ticks(times)
    assert not fit.is_exact
    assert fit.ticks.time_base == Fraction(1, 10**9)
    assert 0 < fit.max_rounding_s <= 0.6e-9
    assert np.abs(seconds(fit) - times).max() == pytest.approx(fit.max_rounding_s)
    assert fit.attributes("t", "s")["max_rounding_s"] == fit.max_rounding_s
    assert "max_rounding_s" not in fit_ticks(np.array([0.5])).attributes("t", "s")


@pytest.mark.parametrize("dtype", ["i8", "u8", "i4", "u2"])
def test_integer_times_are_ticks_of_their_unit(dtype):
    """Integer times are never touched: their unit is the time base."""
    times = np.array([3, 1, 70], dtype)
    fit = fit_ticks(times, "us")
    np.testing.assert_array_equal(fit.ticks.values, [3, 1, 70])
    assert fit.ticks.time_base == Fraction(1, 10**6)
    assert fit.backward_steps == 1
    assert "1 times lie before" in fit.problems()[0]


def test_large_integer_ticks_keep_every_bit():
    """Epoch nanoseconds do not pass through float64."""
    times = np.array([1_700_000_000_123_456_789, 1_700_000_000_123_456_792])
    fit = fit_ticks(times, "ns")
    assert (fit.ticks.start, fit.ticks.step) == (times[0], 3)


def test_float_milliseconds_are_exact_in_their_own_unit():
    """0.1 ms is 100 µs, although 0.0001 s is another float."""
    fit = fit_ticks(np.array([0.1, 0.3, 0.4]), "ms")
    assert fit.is_exact
    np.testing.assert_array_equal(fit.ticks.values, [100, 300, 400])
    assert fit.ticks.time_base == Fraction(1, 10**6)


def test_one_and_no_record():
    """A single time is its own start; none at all is no error."""
    assert fit_ticks(np.array([7])).ticks.start == 7
    assert fit_ticks(np.array([])).ticks.values is None


def test_equal_times_are_not_a_regular_axis():
    """A stopped clock is kept tick by tick."""
    np.testing.assert_array_equal(fit_ticks(np.array([2, 2, 2])).ticks.values, [2, 2, 2])


@pytest.mark.parametrize(
    ("times", "unit", "error", "match"),
    [
        (np.array([0.0, np.nan]), "s", SourceError, "record 1 is nan; expected a finite"),
        (np.array([1e12, 1 / 3]), "s", SourceError, "does not fit in 64-bit ns"),
        (np.array([1 << 63], "u8"), "us", SourceError, "does not fit in a 64-bit signed tick"),
        (np.array([1.0]), "cm", UsageError, "'cm' measures length"),
        (np.array([1.0]), "fortnight", UnitError, "unknown"),
    ],
)
def test_times_that_are_none(times, unit, error, match):
    """Broken times are named with their record."""
    with pytest.raises(error, match=match):
        fit_ticks(times, unit)


def test_time_columns_are_found_by_name():
    """The chosen column wins; a wrong choice lists the columns."""
    assert find_time(("a", "T"), None) == 1
    assert find_time(("t", "b"), "b") == 1
    with pytest.raises(SourceError, match="time_column='q' is none of the columns: t, b"):
        find_time(("t", "b"), "q")
    assert time_unit("timestamp_us", None) == "us"
