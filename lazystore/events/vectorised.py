"""The frame loops in numpy: 3 to 20 times slower than compiled, bit for bit the same.

For the first frames of a process, which do not wait for a compiler. Names, arguments and results are
those of `loops`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.events.loops import XY, P, T


def _places(x: XY, y: XY, plane: Any, out: NDArray[Any]) -> NDArray[np.intp]:
    """Flat places in `out` of shape (plane, y, x)."""
    _, height, width = out.shape
    places = y.astype(np.intp)
    places += np.asarray(plane, np.intp) * height
    places *= width
    places += x
    return places


def count_events(t: T, x: XY, y: XY, p: P, split: int, most: int, out: NDArray[Any]) -> None:
    """Add 1 at each event's pixel, stopping at `most`."""
    places = _places(x, y, split * p, out)
    if x.size + int(out.max(initial=0)) <= most:
        np.add.at(out.ravel(), places, out.dtype.type(1))
        return
    counts = out.astype(np.uint64)
    np.add.at(counts.ravel(), places, np.uint64(1))
    out[...] = np.minimum(counts, np.uint64(most))


def sum_signs(t: T, x: XY, y: XY, p: P, out: NDArray[np.int32]) -> None:
    """Add +1 for ON and -1 for OFF; one plane."""
    np.add.at(out.ravel(), _places(x, y, 0, out), 2 * p.astype(np.int32) - 1)


def mark_polarity(t: T, x: XY, y: XY, p: P, out: NDArray[np.uint8]) -> None:
    """255 where there are ON events, 0 where there is any OFF event; one plane, 127 before."""
    places = _places(x, y, 0, out)
    out.ravel()[places] = 255
    out.ravel()[places[p == 0]] = 0


def sum_exponential(
    t: T, x: XY, y: XY, p: P, t_ref: int, bits: int, low: NDArray[Any], high: NDArray[Any], split: int,
    out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Add exp(-(t_ref - t) / tau) at each event's pixel."""
    np.add.at(out.ravel(), _places(x, y, split * p, out), _weights(t, t_ref, bits, low, high))


def sum_linear(
    t: T, x: XY, y: XY, p: P, t_ref: int, tau: float, split: int, out: NDArray[np.float32]
) -> None:
    """Add 1 - (t_ref - t) / tau at each event's pixel."""
    np.add.at(out.ravel(), _places(x, y, split * p, out), (1.0 - (t_ref - t) / tau).astype(np.float32))


def latest_surface(
    t: T, x: XY, y: XY, p: P, t_ref: int, bits: int, low: NDArray[Any], high: NDArray[Any], split: int,
    out: NDArray[np.float32],
) -> None:  # fmt: skip
    """exp(-(t_ref - t) / tau) of each pixel's latest event."""
    np.maximum.at(out.ravel(), _places(x, y, split * p, out), _weights(t, t_ref, bits, low, high))


def fill_voxels(t: T, x: XY, y: XY, p: P, t0: int, scale: float, out: NDArray[np.float32]) -> None:
    """Share each event's sign between the two bins around (t - t0) * scale; `out` is (bin, y, x)."""
    place = (t - t0) * scale
    below = place.astype(np.intp)
    part = (place - below).astype(np.float32)
    sign = 2 * p.astype(np.float32) - 1
    first = _places(x, y, below, out)
    # Both shares of an event before those of the next one: float sums depend on their order.
    places = np.stack([first, first + out.shape[1] * out.shape[2]], axis=1)
    shares = np.stack([sign * (1 - part), sign * part], axis=1)
    inside = np.stack([np.ones(len(below), np.bool_), below < out.shape[0] - 1], axis=1)
    np.add.at(out.ravel(), places[inside], shares[inside])


def _weights(t: T, t_ref: int, bits: int, low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.float32]:
    age = t_ref - t
    return np.asarray(high[age >> bits] * low[age & ((1 << bits) - 1)], np.float32)
