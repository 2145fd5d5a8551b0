"""Pixelwise sums over frames as compiled loops, no lock on the interpreter.

A tile of pixels goes through all frames before the next one, so that its sums stay in the
processor's first cache and the frames are read once.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

TILE = 2048


@numba.njit(nogil=True, cache=True)
def add_integers(
    frames: NDArray[Any],
    narrow_total: NDArray[Any],
    narrow_squares: NDArray[Any],
    total: NDArray[Any],
    squares: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
) -> None:
    """Add frames (time, pixel) of at most two bytes a value to sums and extremes (pixel,).

    `narrow_total` and `narrow_squares` are scratch of one tile, wide enough for these frames: half
    the width is twice the values an instruction adds.
    """
    for begin in range(0, frames.shape[1], TILE):
        size = min(TILE, frames.shape[1] - begin)
        narrow_total[:size] = 0
        narrow_squares[:size] = 0
        lows = low[begin : begin + size]
        highs = high[begin : begin + size]
        for i in range(frames.shape[0]):
            row = frames[i, begin : begin + size]
            for j in range(size):
                value = row[j]
                narrow_total[j] += value
                narrow_squares[j] += value * value
                lows[j] = value if value < lows[j] else lows[j]
                highs[j] = value if value > highs[j] else highs[j]
        for j in range(size):
            total[begin + j] += narrow_total[j]
            squares[begin + j] += narrow_squares[j]


@numba.njit(nogil=True, cache=True)
def add_plain(frames: NDArray[Any], total: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> None:
    """Add frames (time, pixel) of integers to sums and extremes alone, in the sums' own width."""
    for begin in range(0, frames.shape[1], TILE):
        size = min(TILE, frames.shape[1] - begin)
        sums = total[begin : begin + size]
        lows = low[begin : begin + size]
        highs = high[begin : begin + size]
        for i in range(frames.shape[0]):
            row = frames[i, begin : begin + size]
            for j in range(size):
                value = row[j]
                sums[j] += value
                lows[j] = value if value < lows[j] else lows[j]
                highs[j] = value if value > highs[j] else highs[j]


@numba.njit(nogil=True)
def _count_odd(values: NDArray[Any]) -> int:
    """How many values are not finite."""
    count = 0
    for j in range(values.size):
        count += values[j] - values[j] != 0.0
    return count


@numba.njit(nogil=True)
def _sum_finite(
    frames: NDArray[Any],
    begin: int,
    sums: NDArray[Any],
    squares: NDArray[Any],
    mean: NDArray[Any],
    lows: NDArray[Any],
    highs: NDArray[Any],
) -> bool:
    """What `sum_floats` asks of a tile from pixel `begin` on; False if a value of it is not finite.

    Sums go over the frames in order; four at once, so that a sum is loaded and stored once for them.
    """
    n, size = len(frames), len(sums)
    end = begin + size
    # What lies outside an arena is NaN in every frame, and so in the first one.
    if _count_odd(frames[0, begin:end]):
        return False
    sums[:] = 0.0
    squares[:] = 0.0
    lows[:size] = frames[0, begin:end]
    highs[:size] = frames[0, begin:end]
    for i in range(0, n - 3, 4):
        first, second = frames[i, begin:end], frames[i + 1, begin:end]
        third, fourth = frames[i + 2, begin:end], frames[i + 3, begin:end]
        for j in range(size):
            sums[j] = (((sums[j] + first[j]) + second[j]) + third[j]) + fourth[j]
        for j in range(size):
            low, high = lows[j], highs[j]
            a, b, c, d = first[j], second[j], third[j], fourth[j]
            low = a if a < low else low
            low = b if b < low else low
            low = c if c < low else low
            lows[j] = d if d < low else low
            high = a if a > high else high
            high = b if b > high else high
            high = c if c > high else high
            highs[j] = d if d > high else high
    for i in range(n - n % 4, n):
        row = frames[i, begin:end]
        for j in range(size):
            sums[j] += row[j]
            lows[j] = row[j] if row[j] < lows[j] else lows[j]
            highs[j] = row[j] if row[j] > highs[j] else highs[j]
    if _count_odd(sums):
        return False
    for j in range(size):
        mean[j] = sums[j] / n
    for i in range(0, n - 3, 4):
        first, second = frames[i, begin:end], frames[i + 1, begin:end]
        third, fourth = frames[i + 2, begin:end], frames[i + 3, begin:end]
        for j in range(size):
            a, b, c, d = first[j] - mean[j], second[j] - mean[j], third[j] - mean[j], fourth[j] - mean[j]
            squares[j] = (((squares[j] + a * a) + b * b) + c * c) + d * d
    for i in range(n - n % 4, n):
        row = frames[i, begin:end]
        for j in range(size):
            deviation = row[j] - mean[j]
            squares[j] += deviation * deviation
    return True


@numba.njit(nogil=True, cache=True)
def sum_floats(
    frames: NDArray[Any],
    count: NDArray[Any],
    total: NDArray[Any],
    spread: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
) -> None:
    """Of the finite values of frames (time, pixel): number, sum, squared deviations, extremes.

    Two passes over a tile: deviations from the mean do not cancel as squares do. All of (pixel,)
    and float64, `count` too, so that every line of the loops is one instruction for many pixels.

    A tile is taken for finite until its sums are not: 0.18 to 0.06 ms a megabyte of float32.
    """
    mean = np.empty(TILE)
    narrow_low, narrow_high = np.empty(TILE, frames.dtype), np.empty(TILE, frames.dtype)
    for begin in range(0, frames.shape[1], TILE):
        size = min(TILE, frames.shape[1] - begin)
        n = count[begin : begin + size]
        sums = total[begin : begin + size]
        squares = spread[begin : begin + size]
        lows = low[begin : begin + size]
        highs = high[begin : begin + size]
        if _sum_finite(frames, begin, sums, squares, mean, narrow_low, narrow_high):
            n[:] = frames.shape[0]
            lows[:] = narrow_low[:size]
            highs[:] = narrow_high[:size]
            continue
        n[:] = 0.0
        sums[:] = 0.0
        squares[:] = 0.0
        lows[:] = np.inf
        highs[:] = -np.inf
        for i in range(frames.shape[0]):
            row = frames[i, begin : begin + size]
            for j in range(size):
                value = np.float64(row[j])
                is_finite = value - value == 0.0
                n[j] += 1.0 if is_finite else 0.0
                sums[j] += value if is_finite else 0.0
                # A comparison with NaN is false; infinities are shut out by their own test.
                lows[j] = value if (value < lows[j]) & is_finite else lows[j]
                highs[j] = value if (value > highs[j]) & is_finite else highs[j]
        for j in range(size):
            mean[j] = sums[j] / max(n[j], 1.0)
        for i in range(frames.shape[0]):
            row = frames[i, begin : begin + size]
            for j in range(size):
                value = np.float64(row[j])
                deviation = value - mean[j] if value - value == 0.0 else 0.0
                squares[j] += deviation * deviation


@numba.njit(nogil=True, cache=True)
def add_bands(
    frames: NDArray[Any], rows: int, total: NDArray[Any], low: NDArray[Any], high: NDArray[Any]
) -> None:
    """Add frames (time, y, x and channel) of integers to sums and extremes of bands of `rows` rows.

    Four rows together, so that a sum is loaded and stored once for them: 27 GB a second of one-byte
    values, where row by row it is 12.
    """
    height, width = frames.shape[1:]
    for i in range(frames.shape[0]):
        for band in range(total.shape[0]):
            top, bottom = band * rows, min((band + 1) * rows, height)
            sums, lows, highs = total[band], low[band], high[band]
            for y in range(top, bottom - 3, 4):
                first, second, third, fourth = (
                    frames[i, y],
                    frames[i, y + 1],
                    frames[i, y + 2],
                    frames[i, y + 3],
                )
                for j in range(width):
                    a, b, c, d = first[j], second[j], third[j], fourth[j]
                    sums[j] += a + b + c + d
                    lows[j] = min(min(min(a, b), min(c, d)), lows[j])
                    highs[j] = max(max(max(a, b), max(c, d)), highs[j])
            for y in range(bottom - (bottom - top) % 4, bottom):
                row = frames[i, y]
                for j in range(width):
                    sums[j] += row[j]
                    lows[j] = min(row[j], lows[j])
                    highs[j] = max(row[j], highs[j])


@numba.njit(nogil=True, cache=True)
def shrink(
    total: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    channels: int,
    rows: int,
    factor: int,
    small_total: NDArray[Any],
    small_low: NDArray[Any],
    small_high: NDArray[Any],
) -> None:
    """Sums and extremes of pixels (y, x and channel) to those of blocks, `rows` high, `factor` wide.

    Down the columns first, where neighbours lie side by side; what is left is a row a block.
    """
    height, width = total.shape
    for block_y in range(small_total.shape[0]):
        top, bottom = block_y * rows, min((block_y + 1) * rows, height)
        sums = total[top].astype(np.float64)
        lows = low[top].copy()
        highs = high[top].copy()
        for y in range(top + 1, bottom):
            more, lower, higher = total[y], low[y], high[y]
            for i in range(width):
                sums[i] += more[i]
                lows[i] = lower[i] if lower[i] < lows[i] else lows[i]
                highs[i] = higher[i] if higher[i] > highs[i] else highs[i]
        for place in range(small_total.shape[1]):
            first = place // channels * factor * channels + place % channels
            block_sum, block_low, block_high = 0.0, lows[first], highs[first]
            for i in range(first, min(first + factor * channels, width), channels):
                block_sum += sums[i]
                block_low = min(block_low, lows[i])
                block_high = max(block_high, highs[i])
            small_total[block_y, place] += block_sum
            small_low[block_y, place] = min(small_low[block_y, place], np.float64(block_low))
            small_high[block_y, place] = max(small_high[block_y, place], np.float64(block_high))
