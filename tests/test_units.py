"""Units: every spelling, exact factors, refusals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.errors import UnitError
from lazystore.units import UNITS, convert, factor, parse_unit

SPELLINGS = {
    "s": ["s", "S", "sec", "secs", "second", "Seconds", " s "],
    "ms": ["ms", "millisecond", "milliseconds", "msec"],
    "us": ["us", "µs", "μs", "microseconds", "Microsecond", "usec"],
    "ns": ["ns", "nanoseconds"],
    "min": ["min", "mins", "minute", "minutes"],
    "h": ["h", "hr", "hour", "hours"],
    "m": ["m", "meter", "metres"],
    "cm": ["cm", "centimeters", "centimetre"],
    "mm": ["mm", "millimetres"],
    "um": ["um", "µm", "micron", "microns", "micrometers"],
    "nm": ["nm", "nanometer"],
    "in": ["in", "inch", "inches"],
    "px": ["px", "pixel", "Pixels"],
}


@pytest.mark.parametrize(
    ("text", "symbol"), [(text, symbol) for symbol, texts in SPELLINGS.items() for text in texts]
)
def test_tolerant_spellings(text: str, symbol: str) -> None:
    """What people write means the symbol that stores keep."""
    assert parse_unit(text).symbol == symbol


def test_every_unit_has_spellings_tested() -> None:
    """The table above covers every unit that lazystore knows."""
    assert set(SPELLINGS) == set(UNITS)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("h", "s", Fraction(3600)),
        ("min", "ms", Fraction(60_000)),
        ("us", "s", Fraction(1, 10**6)),
        ("ns", "us", Fraction(1, 1000)),
        ("in", "cm", Fraction(254, 100)),
        ("m", "nm", Fraction(10**9)),
        ("px", "px", Fraction(1)),
    ],
)
def test_factors_are_exact(source: str, target: str, expected: Fraction) -> None:
    """Factors are rationals, so no conversion drifts."""
    assert factor(source, target) == expected


SYMBOLS = st.sampled_from(sorted(UNITS))


@given(st.integers(), SYMBOLS, SYMBOLS)
def test_there_and_back_is_exact(value: int, source: str, target: str) -> None:
    """Integers survive a conversion and its inverse, between all units of one quantity."""
    if UNITS[source].quantity != UNITS[target].quantity:
        with pytest.raises(UnitError, match=r"cannot become .*expected one of"):
            convert(value, source, target)
    else:
        assert convert(convert(value, source, target), target, source) == value


@given(st.floats(-1e12, 1e12), SYMBOLS)
def test_floats_are_correctly_rounded(value: float, target: str) -> None:
    """A float conversion rounds once: it is the float nearest to the exact result."""
    source = {"time": "us", "length": "um", "pixel": "px"}[UNITS[target].quantity]
    assert convert(value, source, target) == float(Fraction(value) * factor(source, target))


def test_floats_that_are_no_numbers_pass() -> None:
    """NaN and infinities mean the same in every unit."""
    assert math.isnan(convert(math.nan, "s", "ms"))
    assert convert(-math.inf, "s", "ms") == -math.inf


def test_arrays_become_float64() -> None:
    """Integer microseconds become the nearest seconds, NaN stays."""
    ticks = np.array([0, 1, 999_999, 1_700_000_000_000_001], dtype=np.int64)
    seconds = convert(ticks, "us", "s")
    assert seconds.dtype == np.float64
    assert seconds.tolist() == [float(Fraction(int(tick), 10**6)) for tick in ticks]
    assert np.isnan(convert(np.array([np.nan], dtype=np.float32), "cm", "m")).all()


@pytest.mark.parametrize("text", ["", "furlong", "m/s", "s since 1970-01-01"])
def test_unknown_units_are_refused(text: str) -> None:
    """The message names the spelling and the units that exist."""
    with pytest.raises(UnitError, match=r"unit .* is unknown; use one of s, ms, us"):
        parse_unit(text)


def test_pixels_need_a_transform() -> None:
    """Pixels never become centimetres by a factor; the message says what does it."""
    with pytest.raises(UnitError, match=r"'px' is a unit of pixel .* give the item a transform"):
        convert(3, "px", "cm")
