"""Per-frame statistics as compiled loops: one pass over the pixels, no lock on the interpreter."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def count_bytes(frames: NDArray[Any], counts: NDArray[Any]) -> None:
    """Histogram of every uint8 frame: (n, pixels) into (n, 256) uint32."""
    for i in range(frames.shape[0]):
        for j in range(frames.shape[1]):
            counts[i, frames[i, j]] += 1


@numba.njit(nogil=True, cache=True)
def count_shorts(
    frames: NDArray[Any],
    offset: int,
    totals: NDArray[Any],
    squares: NDArray[Any],
    counts: NDArray[Any],
) -> None:
    """Sums of every 16-bit frame (n, pixels), and counts of value + offset over all of them."""
    for i in range(frames.shape[0]):
        total = np.int64(0)
        square = np.uint64(0)
        for j in range(frames.shape[1]):
            value = np.int64(frames[i, j])
            total += value
            square += np.uint64(value * value)
            counts[value + offset] += 1
        totals[i] = total
        squares[i] = square


@numba.njit(nogil=True, cache=True)
def sum_floats(
    frames: NDArray[Any],
    keys: NDArray[Any],
    shift: int,
    sign: int,
    mask: int,
    minimum: NDArray[Any],
    maximum: NDArray[Any],
    totals: NDArray[Any],
    squares: NDArray[Any],
    valid: NDArray[Any],
    counts: NDArray[Any],
    others: NDArray[Any],
) -> None:
    """Statistics of the finite values of every float frame, and counts over their top bits.

    `keys` are the same values as unsigned integers. With the sign bit flipped for positive values
    and all bits for negative ones, integers order as the floats do; the top 16 bits number a bin.
    `others` counts NaN, -inf and +inf.
    """
    for i in range(frames.shape[0]):
        low = np.inf
        high = -np.inf
        total = 0.0
        square = 0.0
        n = 0
        for j in range(frames.shape[1]):
            value = np.float64(frames[i, j])
            if np.isfinite(value):
                low = min(low, value)
                high = max(high, value)
                total += value
                square += value * value
                n += 1
                key = np.uint64(keys[i, j])
                key = (~key & np.uint64(mask)) if key & np.uint64(sign) else key | np.uint64(sign)
                counts[key >> np.uint64(shift)] += 1
            elif np.isnan(value):
                others[0] += 1
            elif value < 0:
                others[1] += 1
            else:
                others[2] += 1
        minimum[i] = low if n else np.nan
        maximum[i] = high if n else np.nan
        totals[i] = total
        squares[i] = square
        valid[i] = n
