"""Times in a file -> integer ticks with a time base, exactly where that is possible.

Stores keep integer ticks. Most time columns are decimals or counts, for which some tick of 1 s,
1 ms, 1 µs or 1 ns reproduces every float bit for bit. Others (``n / 30``, sums of steps) are
tried as a regular rate; what is left is rounded to ns, its largest error is recorded, and the
source keeps the floats themselves as a column `source_time`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Ticks
from lazystore.schema import JSON
from lazystore.units import parse_unit

# Finest tick: finer ones overflow int64 within hours and no such clock is stored as float seconds.
_FINEST = Fraction(1, 10**9)
# Rates of recordings are whole numbers, NTSC's n * 1000 / 1001, or plain ratios.
_MAX_RATE_DENOMINATOR = 1001


@dataclass(frozen=True, slots=True)
class TickFit:
    """Ticks, and how far their seconds are from the times they stand for.

    Attributes
    ----------
    ticks
        Regular (no `values`) where all steps are equal.
    max_rounding_s
        0.0 if ``float64(tick) * time_base`` gives every time back bit for bit.
    backward_steps
        Times that lie before the one in front of them.
    """

    ticks: Ticks
    max_rounding_s: float
    backward_steps: int

    @property
    def is_exact(self) -> bool:
        """Whether the ticks say all that the times say."""
        return self.max_rounding_s == 0.0

    def attributes(self, column: str, unit: str) -> dict[str, JSON]:
        """For ``attrs.lazystore["source"]["time"]``."""
        facts: dict[str, JSON] = {"column": column, "unit": unit, "exact": self.is_exact}
        return facts if self.is_exact else {**facts, "max_rounding_s": self.max_rounding_s}

    def problems(self) -> tuple[str, ...]:
        """One line if times go back."""
        if not self.backward_steps:
            return ()
        return (f"{self.backward_steps} times lie before the one in front of them; kept in file order",)


def fit_ticks(times: NDArray[Any], unit: str = "s") -> TickFit:
    """Ticks that stand for the times of a recording's records.

    Parameters
    ----------
    times
        Shape (record,), finite float or any integer dtype, in `unit`.
    unit
        A unit of time.

    Raises
    ------
    SourceError
        If a time is not finite or does not fit in int64 ticks.
    UsageError
        If `unit` measures no time.

    >>> fit = fit_ticks(np.array([0.5, 0.75, 1.25]))
    >>> fit.ticks.values, fit.ticks.time_base, fit.is_exact
    (array([ 500,  750, 1250]), Fraction(1, 1000), True)
    >>> fit_ticks(np.arange(4) / 30).ticks
    Ticks(time_base=Fraction(1, 30), values=None, start=0, step=1, name='tick', known=True)
    """
    one = parse_unit(unit)
    if one.quantity != "time":
        raise UsageError(f"unit {unit!r} measures {one.quantity}; times need one of s, ms, us, ns, min, h")
    if times.dtype.kind in "iu":
        if times.dtype == np.uint64 and times.size and times.max() > np.iinfo(np.int64).max:
            raise SourceError(f"time {int(times.max())} does not fit in a 64-bit signed tick")
        return _fit(times.astype(np.int64), one.in_base, 0.0)
    values = times.astype(np.float64, copy=False)
    broken = np.flatnonzero(~np.isfinite(values))
    if broken.size:
        raise SourceError(
            f"time of record {int(broken[0])} is {float(values[broken[0]])!r}; expected a finite number "
            "for every record"
        )
    for base in _bases(values, one.in_base):
        ticks = _round(values, one.in_base / base)
        if ticks is not None and np.array_equal(_back(ticks, base / one.in_base), values):
            return _fit(ticks, base, 0.0)
    ticks = _round(values, one.in_base / _FINEST)
    if ticks is None:
        worst = values[np.argmax(np.abs(values))]
        raise SourceError(
            f"time {float(worst)!r} {one.symbol} does not fit in 64-bit ns; "
            "check the unit of the times (time_unit=)"
        )
    error = np.abs(_back(ticks, _FINEST / one.in_base) - values).max() * float(one.in_base)
    # A difference that is lost in the subtraction still is not nothing.
    return _fit(ticks, _FINEST, max(float(error), float(np.finfo(np.float64).tiny)))


def _bases(values: NDArray[np.float64], unit_s: Fraction) -> list[Fraction]:
    """Time bases worth trying, coarsest first."""
    bases = [unit_s]
    while bases[-1] > _FINEST:
        bases.append(max(bases[-1] / 1000, _FINEST))
    if values.size > 2 and values[-1] > values[0]:
        mean_s = Fraction(float(values[-1] - values[0])) / (values.size - 1) * unit_s
        rate = (1 / mean_s).limit_denominator(_MAX_RATE_DENOMINATOR)
        if rate > 0:
            bases.append(1 / rate)
    return bases


def _round(values: NDArray[np.float64], ticks_per_unit: Fraction) -> NDArray[np.int64] | None:
    """Nearest ticks, None where they leave int64."""
    scaled = values * float(ticks_per_unit)
    if values.size and np.abs(scaled).max() >= 2.0**62:
        return None
    return np.rint(scaled).astype(np.int64)


def _back(ticks: NDArray[np.int64], units_per_tick: Fraction) -> NDArray[np.float64]:
    """The floats that readers compute from ticks: times the numerator, then divided."""
    back: NDArray[np.float64] = ticks.astype(np.float64) * units_per_tick.numerator
    back /= units_per_tick.denominator
    return back


def _fit(ticks: NDArray[np.int64], base: Fraction, max_rounding_s: float) -> TickFit:
    steps = np.diff(ticks)
    backward = int(np.count_nonzero(steps < 0))
    if ticks.size == 0:
        return TickFit(Ticks(base), max_rounding_s, backward)
    step = int(steps[0]) if steps.size else 1
    if step > 0 and (steps == step).all():
        return TickFit(Ticks(base, start=int(ticks[0]), step=step), max_rounding_s, backward)
    return TickFit(Ticks(base, ticks), max_rounding_s, backward)


TIME_NAMES: Mapping[str, str] = {
    "t": "s",
    "time": "s",
    "times": "s",
    "timestamp": "s",
    "timestamps": "s",
    "seconds": "s",
    "sec": "s",
    **{
        f"{name}_{suffix}": unit
        for name in ("t", "time", "timestamp", "timestamps")
        for suffix, unit in {"s": "s", "sec": "s", "ms": "ms", "us": "us", "ns": "ns"}.items()
    },
}
"""Column names (lower case) that mean the time of a record, and the unit that the name says."""


def find_time(names: tuple[str, ...], chosen: str | None) -> int | None:
    """Number of the time column: the one chosen, else the first of a telling name, else None.

    Raises
    ------
    SourceError
        If the chosen name is no column.

    >>> find_time(("x", "Time_ms"), None), find_time(("x", "y"), None)
    (1, None)
    """
    if chosen is not None:
        if chosen not in names:
            raise SourceError(f"time_column={chosen!r} is none of the columns: {', '.join(names)}")
        return names.index(chosen)
    for number, name in enumerate(names):
        if name.strip().lower() in TIME_NAMES:
            return number
    return None


def time_unit(name: str, given: str | None) -> str:
    """Symbol of a time column's unit: the one given, else what its name says, else seconds.

    >>> time_unit("time_ms", None), time_unit("stamp", "us")
    ('ms', 'us')
    """
    return parse_unit(given or TIME_NAMES.get(name.strip().lower(), "s")).symbol
