"""The loops over events, compiled by numba outside the GIL and kept on disk.

Imported when a frame or a filter first needs one: numba takes up to 1.4 s to import, and a loop 0.2
to 0.5 s to compile once a machine. Events come as read-only columns, so that each loop is compiled
for one kind of array only. Coordinates lie inside the sensor: the converter refuses others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
from numpy.typing import NDArray

type Columns = tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]

NEVER = np.iinfo(np.int64).min


def compiled[F: Callable[..., Any]](function: F) -> F:
    """The function as machine code that releases the GIL, cached on disk."""
    return cast(F, numba.njit(nogil=True, cache=True)(function))


# --- frames -------------------------------------------------------------------------------------
# `out` has shape (polarity, y, x): one plane for both polarities, or OFF and ON. `split` is 1 where
# there are two.


@compiled
def count_events(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    split: int,
    most: int,
    out: NDArray[Any],
) -> None:
    """Add 1 at each event's pixel, stopping at `most`."""
    for i in range(x.size):
        plane = split & p[i]
        if out[plane, y[i], x[i]] < most:
            out[plane, y[i], x[i]] += 1


@compiled
def sum_signs(
    x: NDArray[np.uint16], y: NDArray[np.uint16], p: NDArray[np.uint8], out: NDArray[np.int16]
) -> None:
    """Add +1 for ON and -1 for OFF, staying within int16; `out` has shape (y, x)."""
    for i in range(x.size):
        value = np.int64(out[y[i], x[i]]) + 2 * np.int64(p[i]) - 1
        if -32768 <= value <= 32767:
            out[y[i], x[i]] = value


@compiled
def mark_polarity(
    x: NDArray[np.uint16], y: NDArray[np.uint16], p: NDArray[np.uint8], out: NDArray[np.uint8]
) -> None:
    """255 where there are ON events, 0 where there is any OFF event; `out` has shape (y, x)."""
    for i in range(x.size):
        if p[i] == 0:
            out[y[i], x[i]] = 0
        elif out[y[i], x[i]] != 0:
            out[y[i], x[i]] = 255


@compiled
def decay_tables(look_back: int, tau: float) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """exp(-age / tau) of any age up to `look_back` as a product of two table entries.

    An exponential an event takes three times as long as everything else in a loop. Ages are whole
    µs: exp of the high bits times exp of the low bits is right to 2 units in the last place of float64.
    """
    bits = 1
    while (1 << (2 * bits)) <= look_back:
        bits += 1
    low = np.empty(1 << bits)
    high = np.empty((look_back >> bits) + 1)
    for i in range(low.size):
        low[i] = math.exp(-i / tau)
    for i in range(high.size):
        high[i] = math.exp(-(i << bits) / tau)
    return bits, low, high


@compiled
def sum_exponential(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    t_ref: int,
    look_back: int,
    tau: float,
    split: int,
    out: NDArray[np.float32],
) -> None:
    """Add exp(-(t_ref - t) / tau) at each event's pixel; no event is older than `look_back`."""
    bits, low, high = decay_tables(look_back, tau)
    mask = (1 << bits) - 1
    for i in range(x.size):
        age = t_ref - t[i]
        out[split & p[i], y[i], x[i]] += np.float32(high[age >> bits] * low[age & mask])


@compiled
def sum_linear(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    t_ref: int,
    tau: float,
    split: int,
    out: NDArray[np.float32],
) -> None:
    """Add max(0, 1 - (t_ref - t) / tau) at each event's pixel."""
    for i in range(x.size):
        weight = 1.0 + (t[i] - t_ref) / tau
        if weight > 0:
            out[split & p[i], y[i], x[i]] += np.float32(weight)


@compiled
def latest_surface(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    t_ref: int,
    look_back: int,
    tau: float,
    split: int,
    out: NDArray[np.float32],
) -> None:
    """exp(-(t_ref - t) / tau) of each pixel's latest event, which has the largest value."""
    bits, low, high = decay_tables(look_back, tau)
    mask = (1 << bits) - 1
    for i in range(x.size):
        age = t_ref - t[i]
        value = np.float32(high[age >> bits] * low[age & mask])
        if value > out[split & p[i], y[i], x[i]]:
            out[split & p[i], y[i], x[i]] = value


@compiled
def fill_voxels(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    t0: int,
    scale: float,
    out: NDArray[np.float32],
) -> None:
    """Share each event's sign between the two bins around (t - t0) * scale; `out` is (bin, y, x)."""
    last = np.uint64(out.shape[0] - 1)
    one = np.float32(1)
    for i in range(x.size):
        place = (t[i] - t0) * scale
        below = np.uint64(place)  # unsigned: a signed index may be negative, and is checked for it
        part = np.float32(place - below)
        sign = np.float32(2) * np.float32(p[i]) - one
        out[below, y[i], x[i]] += sign * (one - part)
        if below < last:
            out[below + np.uint64(1), y[i], x[i]] += sign * part


# --- filters ------------------------------------------------------------------------------------


@compiled
def keep_after_pause(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    period: int,
    last: NDArray[np.int64],
    keep: NDArray[np.bool_],
) -> None:
    """Whether the event before at the same pixel lies at least `period` back; `last` is (y, x)."""
    for i in range(t.size):
        before = last[y[i], x[i]]
        keep[i] = before == NEVER or t[i] - before >= period
        last[y[i], x[i]] = t[i]


@compiled
def keep_supported(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    duration: int,
    last: NDArray[np.int64],
    keep: NDArray[np.bool_],
) -> None:
    """Whether one of the 8 neighbours had an event at most `duration` before; `last` is (y, x)."""
    height, width = last.shape
    for i in range(t.size):
        # Any, because a type checker does not know that numba's sums of integers are integers.
        row: Any = np.int64(y[i])
        column: Any = np.int64(x[i])
        found = False
        for other_row in range(max(0, row - 1), min(height, row + 2)):
            for other_column in range(max(0, column - 1), min(width, column + 2)):
                before = last[other_row, other_column]
                is_self = other_row == row and other_column == column
                if not is_self and before != NEVER and t[i] - before <= duration:
                    found = True
        keep[i] = found
        last[row, column] = t[i]


# --- export -------------------------------------------------------------------------------------


@compiled
def write_digits(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> int:
    """Lines ``t,x,y,p`` in decimal into `out` (48 bytes an event); the number of bytes written."""
    at = 0
    digits = np.empty(20, np.uint8)
    for i in range(t.size):
        for field in range(4):
            if field == 0:
                value = t[i]
            elif field == 1:
                value = np.int64(x[i])
            elif field == 2:
                value = np.int64(y[i])
            else:
                value = np.int64(p[i])
            if value < 0:
                out[at] = 45
                at += 1
                value = -value
            count = 0
            while True:
                digits[count] = 48 + value % 10
                value //= 10
                count += 1
                if value == 0:
                    break
            while count > 0:
                count -= 1
                out[at] = digits[count]
                at += 1
            out[at] = 44 if field < 3 else 10
            at += 1
    return at
