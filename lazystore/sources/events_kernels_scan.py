"""One pass over decoded events: counts, ranges, disorder, and the first event that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.sources.events_kernels_compile import compiled

EVENTS = 0
ON = 1
BACKWARD = 2
LARGEST_BACKWARD = 3
LAST_T = 4
T_MIN = 5
T_MAX = 6
X_MAX = 7
Y_MAX = 8
NEGATIVE = 9
FIRST_NEGATIVE = 10
FIRST_NEGATIVE_T = 11
OUTSIDE = 12
FIRST_OUTSIDE = 13
FIRST_OUTSIDE_X = 14
FIRST_OUTSIDE_Y = 15
SIZE = 16


def initial_totals() -> NDArray[np.int64]:
    """Totals before the first event."""
    totals = np.zeros(SIZE, np.int64)
    totals[LAST_T] = totals[T_MAX] = np.iinfo(np.int64).min
    totals[T_MIN] = np.iinfo(np.int64).max
    totals[X_MAX] = totals[Y_MAX] = -1
    return totals


@compiled
def add_to_totals(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    width: int,
    height: int,
    totals: NDArray[Any],
) -> None:
    """Count further events into `totals`; `width` and `height` bound x and y."""
    n = t.shape[0]
    first = totals[EVENTS]
    last = totals[LAST_T]
    t_min = totals[T_MIN]
    t_max = totals[T_MAX]
    on = 0
    backward = 0
    largest = totals[LARGEST_BACKWARD]
    x_max = 0
    y_max = 0
    for i in range(n):
        now = t[i]
        if now < last:
            backward += 1
            largest = max(largest, last - now)
        last = now
        t_min = min(t_min, now)
        t_max = max(t_max, now)
        on += p[i]
    for i in range(n):
        x_max = max(x_max, int(x[i]))
        y_max = max(y_max, int(y[i]))
    if n and t_min < 0:
        for i in range(n):
            if t[i] < 0:
                if totals[NEGATIVE] == 0:
                    totals[FIRST_NEGATIVE] = first + i
                    totals[FIRST_NEGATIVE_T] = t[i]
                totals[NEGATIVE] += 1
    if x_max >= width or y_max >= height:
        for i in range(n):
            if x[i] >= width or y[i] >= height:
                if totals[OUTSIDE] == 0:
                    totals[FIRST_OUTSIDE] = first + i
                    totals[FIRST_OUTSIDE_X] = x[i]
                    totals[FIRST_OUTSIDE_Y] = y[i]
                totals[OUTSIDE] += 1
    if n:
        totals[EVENTS] = first + n
        totals[ON] += on
        totals[BACKWARD] += backward
        totals[LARGEST_BACKWARD] = largest
        totals[LAST_T] = last
        totals[T_MIN] = t_min
        totals[T_MAX] = t_max
        totals[X_MAX] = max(totals[X_MAX], x_max)
        totals[Y_MAX] = max(totals[Y_MAX], y_max)
