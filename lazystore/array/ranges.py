"""Smallest and largest values and percentiles of a view, from statistics where they are exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.histogram import (
    Digit,
    finite_values,
    first_digit,
    interpolated,
    is_exact,
    level_at,
    n_levels,
    ranks_of_percentile,
)
from lazystore.array.view import View
from lazystore.errors import UsageError

# Values a box holds while they are counted or compared: counting needs 8 bytes for each beside them.
BOX_VALUES = 1024 * 1024

type Number = int | float
type Bracket = tuple[Number, Number]


def real_dtype(view: View) -> np.dtype[Any]:
    """The dtype that levels are counted in.

    Raises
    ------
    UsageError
        If the values have no order: complex numbers, text.
    """
    dtype = view.reader.spec.dtype
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise UsageError(
            f"{view.name!r} holds {dtype} values, which have no range; expected integers or floats"
        )
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def smallest_and_largest(view: View) -> Bracket:
    """Smallest and largest finite value of the frames that are not missing.

    Returns
    -------
    tuple
        Two Python numbers of the array's kind; two NaN where nothing is finite.
    """
    dtype = real_dtype(view)
    view = view.without_missing()
    extremes = _extremes_from_statistics(view)
    if extremes is None:
        parts = [pair for _, pair in view.map_boxes(_extremes, BOX_VALUES) if pair is not None]
        extremes = (min(low for low, _ in parts), max(high for _, high in parts)) if parts else None
    if extremes is None or not extremes[0] <= extremes[1]:
        return math.nan, math.nan
    return (
        (float(extremes[0]), float(extremes[1]))
        if dtype.kind == "f"
        else (int(extremes[0]), int(extremes[1]))
    )


def _extremes(values: NDArray[Any]) -> tuple[Any, Any] | None:
    finite = finite_values(values)
    return (finite.min(), finite.max()) if finite.size else None


def _extremes_from_statistics(view: View) -> tuple[Any, Any] | None:
    frames = view.frames
    if view.statistics is None or not view.holds_whole_frames or isinstance(frames, int) or not len(frames):
        return None
    start, stop = int(min(frames)), int(max(frames)) + 1
    lows = view.statistics.per_frame("min", start, stop)
    highs = view.statistics.per_frame("max", start, stop)
    if lows is None or highs is None:
        return None
    where = np.asarray(frames) - start
    # A frame without a finite value has none to offer: NaN, or a minimum above its maximum.
    return np.fmin.reduce(lows[where]), np.fmax.reduce(highs[where])


def percentile_brackets(view: View, percentiles: tuple[float, ...], *, exact: bool) -> list[Bracket]:
    """Bounds between which numpy's linear percentiles of the finite values lie.

    Parameters
    ----------
    view
        Its missing frames are left out.
    percentiles
        Each 0 to 100.
    exact
        Read on until both bounds are equal: at most 1 pass more over the frames for 4-byte and 3
        for 8-byte values. One- and two-byte integers are exact anyway.

    Raises
    ------
    UsageError
        For a percentile outside 0 to 100, or values without an order.
    """
    for percentile in percentiles:
        if not 0 <= percentile <= 100:
            raise UsageError(f"percentile {percentile!r} is outside 0 to 100")
    dtype = real_dtype(view)
    view = view.without_missing()
    counts = level_counts(view)
    n_values = int(counts.sum())
    if not n_values:
        return [(math.nan, math.nan) for _ in percentiles]
    wanted = [ranks_of_percentile(percentile, n_values) for percentile in percentiles]
    ranks = {rank for low, high, _ in wanted for rank in (low, high)}
    bounds = _bounds_of_ranks(view, dtype, counts, ranks, exact=exact or is_exact(dtype))
    return [
        (
            interpolated(bounds[low][0], bounds[high][0], weight),
            interpolated(bounds[low][1], bounds[high][1], weight),
        )
        for low, high, weight in wanted
    ]


def level_counts(view: View) -> NDArray[np.uint64]:
    """How many finite values each level of the dtype has; from statistics as far as they reach."""
    digit = first_digit(real_dtype(view))
    total = np.zeros(n_levels(real_dtype(view)), np.uint64)
    frames = view.frames
    contiguous = isinstance(frames, range) and len(frames) > 0 and abs(frames.step) == 1
    if view.statistics is None or not view.holds_whole_frames or not contiguous:
        return total + _count(view, digit)
    assert isinstance(frames, range)
    start, stop = min(frames), max(frames) + 1
    known = view.statistics.histogram(start, stop)
    if known is None:
        return total + _count(view, digit)
    total += known.levels
    rest = [slice(None)] * (len(view.shape) - 1)
    for low, high in ((start, known.start), (known.stop, stop)):
        if low < high:
            ends = slice(low - start, high - start)
            if frames.step < 0:
                ends = slice(stop - high, stop - low)
            total += _count(view.pick([ends, *rest]), digit)
    return total


def _count(view: View, digit: Digit) -> NDArray[np.uint64]:
    key_bits = 8 * real_dtype(view).itemsize
    total = np.zeros(1 << digit.bits, np.uint64)
    for _, counts in view.map_boxes(lambda values: digit.count(finite_values(values), key_bits), BOX_VALUES):
        total += counts
    return total


def _bounds_of_ranks(
    view: View, dtype: np.dtype[Any], counts: NDArray[np.uint64], ranks: set[int], *, exact: bool
) -> dict[int, Bracket]:
    """Bounds of the values at some ranks; equal bounds where the digits are used up."""
    key_bits = 8 * dtype.itemsize
    digit = first_digit(dtype)
    places = {rank: (digit, *level_at(counts, rank)) for rank in ranks}
    while exact and any(_is_open(digit, key_bits) for digit, _, _ in places.values()):
        # All ranks have the same number of digits; those in one level share its counts.
        below = {(digit, level): digit.below(level, key_bits) for digit, level, _ in places.values()}
        counted = _count_each(view, list(below.values()), key_bits)
        for rank, (digit, level, offset) in places.items():
            finer = below[digit, level]
            places[rank] = (finer, *level_at(counted[finer], offset))
    return {rank: digit.bounds(level, dtype) for rank, (digit, level, _) in places.items()}


def _is_open(digit: Digit, key_bits: int) -> bool:
    return digit.prefix_bits + digit.bits < key_bits


def _count_each(view: View, digits: list[Digit], key_bits: int) -> dict[Digit, NDArray[np.uint64]]:
    """Counts of several digits in one pass over the frames."""
    totals = {digit: np.zeros(1 << digit.bits, np.uint64) for digit in digits}

    def count(values: NDArray[Any]) -> list[NDArray[np.uint64]]:
        finite = finite_values(values)
        return [digit.count(finite, key_bits) for digit in digits]

    for _, counted in view.map_boxes(count, BOX_VALUES):
        for digit, counts in zip(digits, counted, strict=True):
            totals[digit] += counts
    return totals
