"""Per-frame statistics as compiled loops: one pass over the pixels, no lock on the interpreter."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def count_bytes(
    frames: NDArray[Any],
    offset: int,
    counts: NDArray[Any],
    minimum: NDArray[Any],
    maximum: NDArray[Any],
    totals: NDArray[Any],
    squares: NDArray[Any],
) -> None:
    """Histogram of every one-byte frame, and what follows from it: smallest, largest, sums.

    C-contiguous frames (n, pixels), uint8, into counts (n, 256) of the levels `offset` to
    `offset` + 255 in the order of the values: 0 for uint8, -128 for int8 seen as uint8.

    Neighbouring pixels of a camera are often equal; eight tables, one a byte of a word, keep an
    addition from waiting for the one before it (0.17 to 0.085 ms a 640 x 480 frame).
    """
    tables = np.empty((8, 256), np.uint32)
    byte = np.uint64(255)
    for i in range(frames.shape[0]):
        frame = frames[i]
        whole = frame.size // 8 * 8
        tables[:] = 0
        for word in frame[:whole].view(np.uint64):
            tables[0, word & byte] += 1
            tables[1, (word >> np.uint64(8)) & byte] += 1
            tables[2, (word >> np.uint64(16)) & byte] += 1
            tables[3, (word >> np.uint64(24)) & byte] += 1
            tables[4, (word >> np.uint64(32)) & byte] += 1
            tables[5, (word >> np.uint64(40)) & byte] += 1
            tables[6, (word >> np.uint64(48)) & byte] += 1
            tables[7, word >> np.uint64(56)] += 1
        for value in frame[whole:]:
            tables[0, value] += 1
        low, high = 256, -1
        total, square = np.int64(0), np.uint64(0)
        for level in range(256):
            count = np.int64(tables[:, (level + offset) & 255].sum())
            counts[i, level] = count
            if count:
                low = min(low, level)
                high = level
            value = level + offset
            total += count * value
            square += np.uint64(count * value * value)
        minimum[i] = low + offset
        maximum[i] = high + offset
        totals[i] = total
        squares[i] = square


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
