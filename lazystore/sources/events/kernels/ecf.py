"""Prophesee's Event Compression Format (ECF), which compresses the chunks of Metavision HDF5 files.

A chunk is a little-endian u32 ``count << 2 | rows_packed << 1 | columns_packed``, then times, rows,
columns and polarities one after the other, none of them aligned:

- times: u64 first time, then bytes ``step:4 run:4``: the time grows by `step` and holds for `run`
  events; a run of 15 stands for the u16 that follows. Bytes with step 15 carry four bits each of a
  larger step, the lowest first; it is added before the next other byte.
- rows: u16 ``y:11 run:5``; a run of 31 stands for the u16 that follows.
- columns: u16 ``x:11 mask:5``; an event at x, and one at x + 1 + j where bit 4 - j is set.
- polarities: bytes ``p:1 run:7``; a run of 127 stands for the u16 that follows.
- packed columns and polarities: ``x:11 p:1``, four events in three u16.
- packed rows as well: ``y:12 x:11 p:1``, four events in three u32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazystore.sources.events.kernels.compiling import Integer, compiled

MAX_EVENTS = 65535
HEADER_BYTES = 4

# What `decode_ecf` returns besides the number of bytes read.
CUT_OFF = -1
TOO_LONG_RUN = -2
TOO_LARGE_STEP = -3


@compiled
def _u16(data: NDArray[np.uint8], at: Integer) -> Integer:
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@compiled
def _u32(data: NDArray[np.uint8], at: Integer) -> Integer:
    return _u16(data, at) | _u16(data, at + 2) << 16


@compiled
def _times(data: NDArray[np.uint8], at: Integer, t: NDArray[np.int64]) -> Integer:
    end = data.shape[0]
    if at + 8 > end:
        return CUT_OFF
    now = _u32(data, at) | _u32(data, at + 4) << 32
    at += 8
    filled = 0
    shift = 0
    while filled < t.shape[0]:
        if at >= end:
            return CUT_OFF
        step = np.int64(data[at]) >> 4
        run: Integer = np.int64(data[at]) & 15
        at += 1
        if step == 15:
            if shift > 60:
                return TOO_LARGE_STEP
            now += run << shift
            shift += 4
            continue
        shift = 0
        now += step
        if run == 15:
            if at + 2 > end:
                return CUT_OFF
            run = _u16(data, at)
            at += 2
        if filled + run > t.shape[0]:
            return TOO_LONG_RUN
        for i in range(filled, filled + run):
            t[i] = now
        filled += run
    return at


@compiled
def _rows(data: NDArray[np.uint8], at: Integer, y: NDArray[np.uint16]) -> Integer:
    end = data.shape[0]
    filled = 0
    while filled < y.shape[0]:
        if at + 2 > end:
            return CUT_OFF
        word = _u16(data, at)
        at += 2
        run = word & 31
        if run == 31:
            if at + 2 > end:
                return CUT_OFF
            run = _u16(data, at)
            at += 2
        if filled + run > y.shape[0]:
            return TOO_LONG_RUN
        for i in range(filled, filled + run):
            y[i] = word >> 5
        filled += run
    return at


@compiled
def _columns(data: NDArray[np.uint8], at: Integer, x: NDArray[np.uint16]) -> Integer:
    end = data.shape[0]
    n = x.shape[0]
    filled = 0
    while filled < n:
        if at + 2 > end:
            return CUT_OFF
        word = _u16(data, at)
        at += 2
        column = word >> 5
        x[filled] = column
        filled += 1
        for j in range(5):
            # The encoder may look past the last event: what it finds there does not count.
            if word >> (4 - j) & 1 and filled < n:
                x[filled] = column + 1 + j
                filled += 1
    return at


@compiled
def _polarities(data: NDArray[np.uint8], at: Integer, p: NDArray[np.uint8]) -> Integer:
    end = data.shape[0]
    filled = 0
    while filled < p.shape[0]:
        if at >= end:
            return CUT_OFF
        word = np.int64(data[at])
        at += 1
        run: Integer = word & 127
        if run == 127:
            if at + 2 > end:
                return CUT_OFF
            run = _u16(data, at)
            at += 2
        if filled + run > p.shape[0]:
            return TOO_LONG_RUN
        for i in range(filled, filled + run):
            p[i] = word >> 7
        filled += run
    return at


@compiled
def _packed_columns(
    data: NDArray[np.uint8], at: Integer, x: NDArray[np.uint16], p: NDArray[np.uint8]
) -> Integer:
    n = x.shape[0]
    if at + (n + 3) // 4 * 6 > data.shape[0]:
        return CUT_OFF
    for first in range(0, n, 4):
        a = _u16(data, at)
        b = _u16(data, at + 2)
        c = _u16(data, at + 4)
        at += 6
        for j in range(min(4, n - first)):
            if j == 0:
                value = a >> 4
            elif j == 1:
                value = (a & 0xF) | (b >> 8) << 4
            elif j == 2:
                value = (b & 0xFF) | (c >> 12) << 8
            else:
                value = c & 0xFFF
            x[first + j] = value >> 1
            p[first + j] = value & 1
    return at


@compiled
def _packed_rows(
    data: NDArray[np.uint8],
    at: Integer,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
) -> Integer:
    n = x.shape[0]
    if at + (n + 3) // 4 * 12 > data.shape[0]:
        return CUT_OFF
    for first in range(0, n, 4):
        a = _u32(data, at)
        b = _u32(data, at + 4)
        c = _u32(data, at + 8)
        at += 12
        for j in range(min(4, n - first)):
            if j == 0:
                value = a >> 8
            elif j == 1:
                value = (a & 0xFF) | (b >> 16) << 8
            elif j == 2:
                value = (b & 0xFFFF) | (c >> 24) << 16
            else:
                value = c & 0xFFFFFF
            y[first + j] = value >> 12 & 2047
            x[first + j] = value >> 1 & 2047
            p[first + j] = value & 1
    return at


@compiled
def count_ecf(data: NDArray[np.uint8]) -> Integer:
    """Number of events that a chunk declares, or `CUT_OFF`."""
    return _u32(data, 0) >> 2 if data.shape[0] >= HEADER_BYTES else CUT_OFF


@compiled
def decode_ecf(
    data: NDArray[np.uint8],
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
) -> Integer:
    """Decode a chunk into columns of exactly the length that it declares.

    Returns the number of bytes read, or why it cannot be decoded: `CUT_OFF`, `TOO_LONG_RUN` or
    `TOO_LARGE_STEP`.
    """
    flags = _u32(data, 0) & 3
    at = _times(data, HEADER_BYTES, t)
    if at < 0:
        return at
    if flags & 2:
        return _packed_rows(data, at, x, y, p)
    at = _rows(data, at, y)
    if at < 0:
        return at
    if flags & 1:
        return _packed_columns(data, at, x, p)
    at = _columns(data, at, x)
    return at if at < 0 else _polarities(data, at, p)
