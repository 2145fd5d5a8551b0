"""Pairs of matching times, and the piecewise linear line through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazystore.errors import ClockError

# Two clocks that hear the same pulses agree on each interval but for drift (1e-4) and jitter (some
# ms). A pulse that one of them missed makes them differ by a whole interval.
MAX_INTERVAL_DISAGREEMENT = 0.25
MAX_JITTER_S = 0.01


def as_times(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Times as float64 of shape (time,).

    Raises
    ------
    ClockError
        If they are not one-dimensional or not all finite; `name` says whose they are.

    >>> as_times("pulses", [1, 2])
    array([1., 2.])
    """
    times = np.asarray(values, dtype=np.float64)
    if times.ndim != 1:
        raise ClockError(f"{name} have shape {times.shape}; expected one number for each")
    bad = np.flatnonzero(~np.isfinite(times))
    if bad.size:
        raise ClockError(f"{name} hold {float(times[bad[0]])!r} at entry {bad[0]}; expected finite seconds")
    return times


def check_knots(knots: NDArray[np.float64]) -> None:
    """Refuse pairs that no increasing line goes through.

    Parameters
    ----------
    knots
        Shape (knot, 2): own and session seconds.

    Raises
    ------
    ClockError
        If there are fewer than 2 pairs, a time is not finite, or times do not increase strictly.
    """
    if knots.ndim != 2 or knots.shape[1] != 2 or len(knots) < 2:
        raise ClockError(f"matched pairs have shape {knots.shape}; expected 2 or more pairs of seconds")
    for name, times in (("own", knots[:, 0]), ("session", knots[:, 1])):
        as_times(f"{name} times of the pulses", times)
        still = np.flatnonzero(np.diff(times) <= 0)
        if still.size:
            at = int(still[0])
            raise ClockError(
                f"{name} times of the pulses do not increase: {float(times[at])!r} s, then "
                f"{float(times[at + 1])!r} s at pulse {at + 1}; remove doubled or disordered pulses"
            )


def check_intervals(knots: NDArray[np.float64]) -> None:
    """Refuse pulse trains of which one has missed a pulse that the other has.

    Raises
    ------
    ClockError
        If an interval differs between the clocks by more than a quarter of itself and 10 ms.
    """
    own, session = np.diff(knots, axis=0).T
    expected = own * np.median(session / own)
    apart, longer = np.abs(session - expected), np.maximum(session, expected)
    bad = np.flatnonzero((apart > MAX_JITTER_S) & (apart > MAX_INTERVAL_DISAGREEMENT * longer))
    if bad.size:
        at = int(bad[0])
        raise ClockError(
            f"pulses {at} and {at + 1} are {own[at]:.6g} s apart on the own clock and {session[at]:.6g} s "
            "on the reference; one clock has missed a pulse there: remove its partner from the other list"
        )


def interpolate(knots: Sequence[tuple[float, float]], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Piecewise linear from the first of each pair to the second, with the end slopes beyond them.

    Parameters
    ----------
    knots
        At least 2 pairs, strictly increasing in both.
    values
        Any shape.

    Returns
    -------
    np.ndarray
        The shape of `values`, float64, never decreasing where `values` do not.

    >>> interpolate([(0.0, 1.0), (1.0, 2.0), (2.0, 4.0)], np.array([-1.0, 0.5, 1.5, 3.0]))
    array([0. , 1.5, 3. , 6. ])
    """
    x, y = np.array(knots, dtype=np.float64).T
    segment = np.clip(np.searchsorted(x, values, side="right") - 1, 0, len(x) - 2)
    slope = np.diff(y) / np.diff(x)
    result = y[segment] + (values - x[segment]) * slope[segment]
    # Rounding can carry the end of a segment past the start of the next one by an ulp.
    ceiling = np.append(y[1:-1], np.inf)
    return cast("NDArray[np.float64]", np.minimum(result, ceiling[segment]))
