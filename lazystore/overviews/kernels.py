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
    """
    mean = np.empty(TILE)
    for begin in range(0, frames.shape[1], TILE):
        size = min(TILE, frames.shape[1] - begin)
        n = count[begin : begin + size]
        sums = total[begin : begin + size]
        squares = spread[begin : begin + size]
        lows = low[begin : begin + size]
        highs = high[begin : begin + size]
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
def shrink(
    total: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    channels: int,
    factor: int,
    small_total: NDArray[Any],
    small_low: NDArray[Any],
    small_high: NDArray[Any],
) -> None:
    """Sums and extremes of pixels (y, x and channel) to those of blocks of `factor` squared.

    Down the columns first, where neighbours lie side by side; what is left is a row a block.
    """
    height, width = total.shape
    for block_y in range(small_total.shape[0]):
        top, bottom = block_y * factor, min((block_y + 1) * factor, height)
        sums = total[top].astype(np.float64)
        lows = low[top].copy()
        highs = high[top].copy()
        for y in range(top + 1, bottom):
            more, lower, higher = total[y], low[y], high[y]
            for i in range(width):
                sums[i] += more[i]
                lows[i] = lower[i] if lower[i] < lows[i] else lows[i]
                highs[i] = higher[i] if higher[i] > highs[i] else highs[i]
        for i in range(width):
            place = i // channels // factor * channels + i % channels
            small_total[block_y, place] += sums[i]
            small_low[block_y, place] = min(small_low[block_y, place], np.float64(lows[i]))
            small_high[block_y, place] = max(small_high[block_y, place], np.float64(highs[i]))
