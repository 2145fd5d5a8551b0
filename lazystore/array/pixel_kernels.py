"""Frames added up pixel by pixel, as compiled loops: what is asked for and nothing else, no interpreter lock.

All take frames of shape (time, value), C-contiguous, and the lines of a picture in them: where each begins,
and how many values it has. What they add to lies without gaps, line after line. A tile of values goes
through all frames before the next, so that its sums stay in the processor's first cache.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

TILE = 4096

type Array = NDArray[Any]


@numba.njit(nogil=True, cache=True)
def add_sum(frames: Array, starts: Array, length: int, total: Array) -> None:
    """Add every value in the sums' own width."""
    for line in range(starts.size):
        for begin in range(0, length, TILE):
            size, source = min(TILE, length - begin), starts[line] + begin
            sums = total[line * length + begin : line * length + begin + size]
            for i in range(frames.shape[0]):
                row = frames[i, source : source + size]
                for j in range(size):
                    sums[j] += row[j]


@numba.njit(nogil=True, cache=True)
def add_valid(frames: Array, starts: Array, length: int, total: Array, count: Array) -> None:
    """Add what is not NaN, and count it."""
    for line in range(starts.size):
        for begin in range(0, length, TILE):
            size, source = min(TILE, length - begin), starts[line] + begin
            sums = total[line * length + begin : line * length + begin + size]
            counts = count[line * length + begin : line * length + begin + size]
            for i in range(frames.shape[0]):
                row = frames[i, source : source + size]
                for j in range(size):
                    value = row[j]
                    is_valid = value == value
                    sums[j] += value if is_valid else 0.0
                    counts[j] += 1.0 if is_valid else 0.0


@numba.njit(nogil=True, cache=True)
def add_squares(frames: Array, starts: Array, length: int, total: Array, squares: Array) -> None:
    """Add every value and its square; integers of at most two bytes."""
    for line in range(starts.size):
        for begin in range(0, length, TILE):
            size, source = min(TILE, length - begin), starts[line] + begin
            sums = total[line * length + begin : line * length + begin + size]
            sums_2 = squares[line * length + begin : line * length + begin + size]
            for i in range(frames.shape[0]):
                row = frames[i, source : source + size]
                for j in range(size):
                    value = row[j]
                    sums[j] += value
                    sums_2[j] += value * value


@numba.njit(nogil=True, cache=True)
def add_spread(
    frames: Array, starts: Array, length: int, skips: bool, total: Array, count: Array, spread: Array
) -> None:
    """Add values, how many there are, and their squared distances from their mean, all float64.

    Distances from these frames' own mean, in a second pass over the tile: nothing cancels. They join what
    was there before by the update of Chan, Golub and LeVeque (1983). `skips` leaves NaN out.
    """
    sums, mean = np.empty(TILE), np.empty(TILE)
    counts, squares = np.empty(TILE), np.empty(TILE)
    for line in range(starts.size):
        for begin in range(0, length, TILE):
            size, source = min(TILE, length - begin), starts[line] + begin
            target = line * length + begin
            sums[:size] = 0.0
            counts[:size] = 0.0
            squares[:size] = 0.0
            for i in range(frames.shape[0]):
                row = frames[i, source : source + size]
                for j in range(size):
                    value = np.float64(row[j])
                    is_valid = (value == value) | (not skips)
                    sums[j] += value if is_valid else 0.0
                    counts[j] += 1.0 if is_valid else 0.0
            for j in range(size):
                mean[j] = sums[j] / max(counts[j], 1.0)
            for i in range(frames.shape[0]):
                row = frames[i, source : source + size]
                for j in range(size):
                    value = np.float64(row[j])
                    distance = value - mean[j] if (value == value) | (not skips) else 0.0
                    squares[j] += distance * distance
            for j in range(size):
                n, m = count[target + j], counts[j]
                step = mean[j] - total[target + j] / max(n, 1.0)
                between = step * step * (n * (m / max(n + m, 1.0)))
                spread[target + j] += squares[j] + (between if (n > 0.0) & (m > 0.0) else 0.0)
                total[target + j] += sums[j]
                count[target + j] = n + m


@numba.njit(nogil=True, cache=True)
def lower(frames: Array, starts: Array, length: int, skips: bool, low: Array) -> None:
    """Smallest values. NaN stays, from a start of infinity; `skips` leaves it out, from a start of NaN."""
    for line in range(starts.size):
        for begin in range(0, length, TILE):
            size, source = min(TILE, length - begin), starts[line] + begin
            lows = low[line * length + begin : line * length + begin + size]
            for i in range(frames.shape[0]):
                row = frames[i, source : source + size]
                if skips:
                    for j in range(size):
                        value = row[j]
                        lows[j] = value if (value < lows[j]) | (lows[j] != lows[j]) else lows[j]
                else:
                    for j in range(size):
                        value = row[j]
                        lows[j] = value if (value < lows[j]) | (value != value) else lows[j]


@numba.njit(nogil=True, cache=True)
def heighten(frames: Array, starts: Array, length: int, skips: bool, high: Array) -> None:
    """Largest values; NaN as in `lower`, from a start of minus infinity."""
    for line in range(starts.size):
        for begin in range(0, length, TILE):
            size, source = min(TILE, length - begin), starts[line] + begin
            highs = high[line * length + begin : line * length + begin + size]
            for i in range(frames.shape[0]):
                row = frames[i, source : source + size]
                if skips:
                    for j in range(size):
                        value = row[j]
                        highs[j] = value if (value > highs[j]) | (highs[j] != highs[j]) else highs[j]
                else:
                    for j in range(size):
                        value = row[j]
                        highs[j] = value if (value > highs[j]) | (value != value) else highs[j]
