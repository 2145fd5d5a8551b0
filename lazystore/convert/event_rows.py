"""What is counted in a stretch of events: one index row for each chunk, and events in time bins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div

type Rows = dict[str, NDArray[Any]]


def index_rows(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    chunk_events: int,
) -> Rows:
    """One row for each chunk of `chunk_events` events, the last one possibly shorter.

    Parameters
    ----------
    t
        Shape (event,), int64, µs, in file order.
    x, y
        Shape (event,), uint16, pixels.
    p
        Shape (event,), uint8, 1 for ON and 0 for OFF.
    chunk_events
        Events in a chunk, > 0.

    Returns
    -------
    dict
        Arrays of shape (chunk,): ``t_min``, ``t_max`` (int64, µs, both inclusive), ``sorted``
        (bool: times do not fall inside the chunk), ``disorder`` (uint32: events earlier than
        the one before them in the chunk), ``on_count`` (uint32), ``x_min``, ``x_max``, ``y_min``,
        ``y_max`` (uint16, inclusive), ``t_first``, ``t_last`` (int64, µs, in file order).

    >>> rows = index_rows(np.array([5, 7, 6]), *np.array([[1, 2, 3], [4, 4, 4], [1, 0, 1]]), 2)
    >>> rows["t_min"].tolist(), rows["t_max"].tolist(), rows["on_count"].tolist()
    ([5, 6], [7, 6], [1, 1])
    """
    count = ceil_div(t.size, chunk_events)
    rows: Rows = {
        **{name: np.empty(count, np.int64) for name in ("t_min", "t_max", "t_first", "t_last")},
        **{name: np.empty(count, np.uint16) for name in ("x_min", "x_max", "y_min", "y_max")},
        **{name: np.empty(count, np.uint32) for name in ("disorder", "on_count")},
        "sorted": np.empty(count, np.bool_),
    }
    for chunk in range(count):
        part = slice(chunk * chunk_events, (chunk + 1) * chunk_events)
        times = t[part]
        disorder = int(np.count_nonzero(times[1:] < times[:-1]))
        rows["t_min"][chunk], rows["t_max"][chunk] = times.min(), times.max()
        rows["t_first"][chunk], rows["t_last"][chunk] = times[0], times[-1]
        rows["disorder"][chunk], rows["sorted"][chunk] = disorder, disorder == 0
        rows["on_count"][chunk] = np.count_nonzero(p[part])
        for axis, values in (("x", x[part]), ("y", y[part])):
            rows[f"{axis}_min"][chunk], rows[f"{axis}_max"][chunk] = values.min(), values.max()
    return rows


def rate_bins(
    t: NDArray[np.int64], p: NDArray[np.uint8], step_us: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """ON and OFF events in the bins [k * step, (k + 1) * step) that hold any, bins ascending.

    Returns
    -------
    tuple of np.ndarray
        Bin number k (t // step, also for negative t), ON count, OFF count; int64, shape (bin,).

    >>> bins, on, off = rate_bins(np.array([0, 999, 2000, 500]), np.array([1, 0, 1, 1]), 1000)
    >>> bins.tolist(), on.tolist(), off.tolist()
    ([0, 2], [2, 1], [1, 0])
    """
    if t.size == 0:
        empty = np.empty(0, np.int64)
        return empty, empty, empty
    bins = t // step_us
    # Events of one bin mostly stand together: counting runs avoids sorting the events.
    starts = np.concatenate([[0], np.flatnonzero(bins[1:] != bins[:-1]) + 1])
    on = np.add.reduceat(p, starts, dtype=np.int64)
    total = np.diff(starts, append=t.size)
    return sum_bins(bins[starts], on, total - on)


def sum_bins(
    bins: NDArray[np.int64], on: NDArray[np.int64], off: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Add up rows of equal bin, ascending."""
    if bins.size and np.any(bins[1:] <= bins[:-1]):
        order = np.argsort(bins, kind="stable")
        bins, on, off = bins[order], on[order], off[order]
        starts = np.concatenate([[0], np.flatnonzero(bins[1:] != bins[:-1]) + 1])
        bins, on, off = bins[starts], np.add.reduceat(on, starts), np.add.reduceat(off, starts)
    return bins, on, off
