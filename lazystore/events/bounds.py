"""What a caller's times, regions and polarities mean, exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from lazystore.clock import Clock
from lazystore.errors import UsageError
from lazystore.events.window import MICROSECOND

TIME_UNITS = ("us", "ms", "s")
_TICKS = {"us": 1, "ms": 1000}
# Beyond every tick, with room to add durations.
FOREVER = 2**62
_POLARITIES: dict[Any, int] = {"on": 1, "off": 0, 1: 1, 0: 0, -1: 0}

type Roi = tuple[int, int, int, int]


def ticks_of_time(value: float, unit: str, clock: Clock, name: str) -> int:
    """The first µs tick that is not before a time, so that half-open stays half-open.

    Parameters
    ----------
    value
        Finite number, or an infinity for "from the beginning", "to the end".
    unit
        ``"us"`` or ``"ms"`` in the recording's own clock, ``"s"`` in session seconds.
    clock
        The recording's clock.
    name
        Of the argument, for messages.

    Raises
    ------
    UsageError
        If the unit is unknown or the value is no number.

    >>> ticks_of_time(1.0001, "ms", Clock(), "t0"), ticks_of_time(2.5, "s", Clock(offset_s=2.0), "t0")
    (1001, 500000)
    """
    if unit not in TIME_UNITS:
        raise UsageError(f"unit={unit!r} is not one of {', '.join(TIME_UNITS)}")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}={value!r} is no number; expected a time in {unit}") from error
    if math.isnan(number):
        raise UsageError(f"{name}={value!r} is no time; expected a number in {unit}")
    if math.isinf(number):
        return FOREVER if number > 0 else -FOREVER
    if unit == "s":
        tick = _tick_of_second(number, clock)
    elif isinstance(value, int | np.integer):
        tick = int(value) * _TICKS[unit]
    else:
        tick = math.ceil(Fraction(number) * _TICKS[unit])
    return min(max(tick, -FOREVER), FOREVER)


def _tick_of_second(second: float, clock: Clock) -> int:
    """As `Clock.first_tick_at`: a guess that one comparison proves, because a search costs 50 us."""
    guess = math.ceil(clock.to_native(second) * 1e6)
    if abs(guess) < FOREVER:
        before, at = clock.ticks_to_session([guess - 1, guess], MICROSECOND)
        if before < second <= at:
            return guess
    return clock.first_tick_at(second, MICROSECOND)


def ticks_of_duration(value: float, unit: str, name: str) -> int:
    """A length of time in whole µs.

    Raises
    ------
    UsageError
        If the unit is unknown, or the length is not a whole number of µs above 0.

    >>> ticks_of_duration(0.25, "ms", "period")
    250
    """
    if unit not in TIME_UNITS:
        raise UsageError(f"unit={unit!r} is not one of {', '.join(TIME_UNITS)}")
    factor = _TICKS.get(unit, 10**6)
    if isinstance(value, int | np.integer):
        exact = Fraction(int(value) * factor)
    elif math.isfinite(value):
        # 0.01 s means 10,000 µs, although no float says it exactly.
        exact = Fraction(round(Fraction(value) * factor * 1000), 1000)
    else:
        exact = Fraction(0)
    if exact.denominator != 1 or exact <= 0:
        raise UsageError(
            f"{name}={value!r} {unit} is not a whole number of us above 0; pass for example 1000"
        )
    return int(exact)


def check_roi(roi: Sequence[int] | None) -> Roi | None:
    """A region (x0, y0, x1, y1), half-open.

    Raises
    ------
    UsageError
        If it is not four whole numbers with x0 < x1 and y0 < y1.
    """
    if roi is None:
        return None
    edges = tuple(roi)
    whole = all(isinstance(edge, int | np.integer) and not isinstance(edge, bool) for edge in edges)
    if len(edges) != 4 or not whole or not (edges[0] < edges[2] and edges[1] < edges[3]):
        raise UsageError(
            f"roi={roi!r} is not (x0, y0, x1, y1) in whole pixels with x0 < x1 and y0 < y1; x1 and y1 are "
            "not part of it"
        )
    x0, y0, x1, y1 = (int(edge) for edge in edges)
    return x0, y0, x1, y1


def check_polarity(polarity: Any) -> int | None:
    """1 for ON, 0 for OFF, None for both.

    Raises
    ------
    UsageError
        If it is none of these.

    >>> check_polarity("ON"), check_polarity(-1), check_polarity(True)
    (1, 0, 1)
    """
    if polarity is None:
        return None
    key = polarity.lower() if isinstance(polarity, str) else polarity
    try:
        return _POLARITIES[key]
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"polarity={polarity!r} is not one of 'on', 'off', 1, 0, -1 (OFF) or None for both"
        ) from error
