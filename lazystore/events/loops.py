"""The loops over events, as plain Python that numba compiles (`compiling`).

Events come as read-only columns t (int64, µs), x, y (uint16), p (uint8, 0/1) of shape (event,).
Coordinates lie inside the sensor: the converter refuses others. Frames are `out`, float32 or integers,
shape (polarity, y, x): one plane for both polarities, or OFF and ON; `split` is 1 where there are two.

Indices are unsigned: a signed one may be negative, and is checked for it, at 0.5 ns an event.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

type T = NDArray[np.int64]
type XY = NDArray[np.uint16]
type P = NDArray[np.uint8]

NEVER = np.iinfo(np.int64).min


# --- frames -------------------------------------------------------------------------------------


def count_events(t: T, x: XY, y: XY, p: P, split: int, most: int, out: NDArray[Any]) -> None:
    """Add 1 at each event's pixel, stopping at `most`."""
    for i in range(x.size):
        plane = split & p[i]
        if out[plane, y[i], x[i]] < most:
            out[plane, y[i], x[i]] += 1


def sum_signs(t: T, x: XY, y: XY, p: P, out: NDArray[np.int32]) -> None:
    """Add +1 for ON and -1 for OFF; one plane."""
    for i in range(x.size):
        out[0, y[i], x[i]] += 2 * np.int32(p[i]) - 1


def mark_polarity(t: T, x: XY, y: XY, p: P, out: NDArray[np.uint8]) -> None:
    """255 where there are ON events, 0 where there is any OFF event; one plane, 127 before."""
    for i in range(x.size):
        if p[i] == 0:
            out[0, y[i], x[i]] = 0
        elif out[0, y[i], x[i]] != 0:
            out[0, y[i], x[i]] = 255


def sum_exponential(
    t: T, x: XY, y: XY, p: P, t_ref: int, bits: int, low: NDArray[Any], high: NDArray[Any], split: int,
    out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Add exp(-(t_ref - t) / tau) at each event's pixel; `bits`, `low`, `high` from `decay_tables`."""
    shift, mask, planes = np.uint64(bits), np.uint64((1 << bits) - 1), np.uint8(split)
    before: Any = np.int64(-1)
    weight = np.float32(0)
    for i in range(x.size):
        age = t_ref - t[i]
        if age != before:  # events often share a µs
            before = age
            place = np.uint64(age)
            weight = np.float32(high[place >> shift] * low[place & mask])
        out[planes & p[i], y[i], x[i]] += weight


def sum_linear(
    t: T, x: XY, y: XY, p: P, t_ref: int, tau: float, split: int, out: NDArray[np.float32]
) -> None:
    """Add 1 - (t_ref - t) / tau at each event's pixel; no event is older than tau."""
    for i in range(x.size):
        out[split & p[i], y[i], x[i]] += np.float32(1.0 - (t_ref - t[i]) / tau)


def latest_surface(
    t: T, x: XY, y: XY, p: P, t_ref: int, bits: int, low: NDArray[Any], high: NDArray[Any], split: int,
    out: NDArray[np.float32],
) -> None:  # fmt: skip
    """exp(-(t_ref - t) / tau) of each pixel's latest event, which has the largest value."""
    shift, mask, planes = np.uint64(bits), np.uint64((1 << bits) - 1), np.uint8(split)
    before: Any = np.int64(-1)
    value = np.float32(0)
    for i in range(x.size):
        age = t_ref - t[i]
        if age != before:
            before = age
            place = np.uint64(age)
            value = np.float32(high[place >> shift] * low[place & mask])
        plane = planes & p[i]
        if value > out[plane, y[i], x[i]]:
            out[plane, y[i], x[i]] = value


def fill_voxels(t: T, x: XY, y: XY, p: P, t0: int, scale: float, out: NDArray[np.float32]) -> None:
    """Share each event's sign between the two bins around (t - t0) * scale; `out` is (bin, y, x)."""
    last = out.shape[0] - 1
    one = np.float32(1)
    width, plane = np.uint64(out.shape[2]), np.uint64(out.shape[1] * out.shape[2])
    flat = out.reshape(-1)
    before: Any = np.int64(-1)
    whole: Any = np.int64(0)
    first, part, rest = np.uint64(0), np.float32(0), one
    for i in range(x.size):
        after = t[i] - t0
        if after != before:
            before = after
            place = after * scale
            whole = np.int64(place)
            part = np.float32(place - np.float64(whole))
            rest = one - part
            first = np.uint64(whole) * plane
        at = first + np.uint64(y[i]) * width + np.uint64(x[i])
        sign = np.float32(2) * np.float32(p[i]) - one
        flat[at] += sign * rest
        if whole < last:
            flat[at + plane] += sign * part


# --- filters: `last` is each pixel's latest time, shape (y, x), NEVER before its first event ----


def keep_after_pause(
    t: T, x: XY, y: XY, p: P, period: int, last: NDArray[np.int64], keep: NDArray[np.bool_]
) -> None:
    """Whether the event before at the same pixel lies at least `period` back."""
    for i in range(t.size):
        before = last[y[i], x[i]]
        keep[i] = before == NEVER or t[i] - before >= period
        last[y[i], x[i]] = t[i]


def keep_supported(
    t: T, x: XY, y: XY, p: P, duration: int, last: NDArray[np.int64], keep: NDArray[np.bool_]
) -> None:
    """Whether one of the 8 neighbours had an event at most `duration` before."""
    height, width = last.shape
    for i in range(t.size):
        # Any: a type checker does not know that numba's sums of integers are integers.
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


def write_digits(t: T, x: XY, y: XY, p: P, out: NDArray[np.uint8]) -> int:
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
