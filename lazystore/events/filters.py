"""Filters of events: each says which events it keeps, and how far back it has to look.

Definitions are exact and local in time, so that a window holds the same events however it is cut
out of a recording in order: a filter that needs history looks back a fixed time and no further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.events.bounds import check_polarity, check_roi
from lazystore.events.compiling import loop_when_ready
from lazystore.events.loops import NEVER
from lazystore.events.window import EventWindow
from lazystore.schema import JSON


class Filter(Protocol):
    """Which events of a window stay."""

    @property
    def look_back_us(self) -> int:
        """How long before an event others matter for it, in µs; 0 if none do."""

    def keep(self, window: EventWindow) -> NDArray[np.bool_]:
        """Shape (event,); right for events whose whole look-back lies in the window."""

    def describe(self) -> Mapping[str, JSON]:
        """For the attributes of what was filtered."""


@dataclass(frozen=True, slots=True)
class Roi:
    """Keeps the events in columns [x0, x1) and rows [y0, y1).

    Raises
    ------
    UsageError
        If an edge is no whole number or the region is empty.
    """

    x0: int
    y0: int
    x1: int
    y1: int

    def __post_init__(self) -> None:
        check_roi((self.x0, self.y0, self.x1, self.y1))

    @property
    def look_back_us(self) -> int:
        return 0

    def keep(self, window: EventWindow) -> NDArray[np.bool_]:
        x, y = window.x, window.y
        return (x >= self.x0) & (x < self.x1) & (y >= self.y0) & (y < self.y1)

    def describe(self) -> Mapping[str, JSON]:
        return {"filter": "roi", "roi": [self.x0, self.y0, self.x1, self.y1]}


@dataclass(frozen=True, slots=True)
class Polarity:
    """Keeps the events of one polarity: ``"on"``/1 or ``"off"``/0/-1.

    Raises
    ------
    UsageError
        If it is none of these.
    """

    polarity: Any

    def __post_init__(self) -> None:
        if check_polarity(self.polarity) is None:
            raise UsageError("polarity=None keeps every event; pass 'on' or 'off'")

    @property
    def look_back_us(self) -> int:
        return 0

    def keep(self, window: EventWindow) -> NDArray[np.bool_]:
        return np.asarray(window.p == check_polarity(self.polarity))

    def describe(self) -> Mapping[str, JSON]:
        return {"filter": "polarity", "polarity": check_polarity(self.polarity)}


@dataclass(frozen=True, slots=True)
class Refractory:
    """Drops an event that follows another one at its pixel, of either polarity, within `period_us`.

    The other one counts whether or not it was kept itself, as in tonic's `refractory_period`: a
    pixel that never pauses stays silent. (With kept events only, one window would depend on the
    whole recording before it.)

    Raises
    ------
    UsageError
        If the period is not a whole number above 0.
    """

    period_us: int

    def __post_init__(self) -> None:
        _check_us(self.period_us, "period_us")

    @property
    def look_back_us(self) -> int:
        return self.period_us

    def keep(self, window: EventWindow) -> NDArray[np.bool_]:
        keep, last = _memory(window)
        loop_when_ready("keep_after_pause")(*window.columns.values(), self.period_us, last, keep)
        return keep

    def describe(self) -> Mapping[str, JSON]:
        return {"filter": "refractory", "period_us": self.period_us}


@dataclass(frozen=True, slots=True)
class BackgroundActivity:
    """Keeps an event only if one of its pixel's 8 neighbours had one at most `duration_us` before.

    The filter of Delbruck, "Frame-free dynamic digital vision" (2008): shot noise strikes pixels
    alone, edges strike neighbours. The pixel's own history does not support it.

    Raises
    ------
    UsageError
        If the duration is not a whole number above 0.
    """

    duration_us: int

    def __post_init__(self) -> None:
        _check_us(self.duration_us, "duration_us")

    @property
    def look_back_us(self) -> int:
        return self.duration_us

    def keep(self, window: EventWindow) -> NDArray[np.bool_]:
        keep, last = _memory(window)
        loop_when_ready("keep_supported")(*window.columns.values(), self.duration_us, last, keep)
        return keep

    def describe(self) -> Mapping[str, JSON]:
        return {"filter": "background_activity", "duration_us": self.duration_us}


@dataclass(frozen=True, slots=True, eq=False)
class HotPixels:
    """Drops every event of the pixels marked in `mask`, shape (y, x), bool; see `find_hot_pixels`.

    Raises
    ------
    UsageError
        If the mask is no boolean image.
    """

    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_:
            raise UsageError(
                f"hot-pixel mask of shape {self.mask.shape} and dtype {self.mask.dtype} is no boolean image; "
                "expected (height, width), as from hot_pixels()"
            )

    @property
    def look_back_us(self) -> int:
        return 0

    def keep(self, window: EventWindow) -> NDArray[np.bool_]:
        if self.mask.shape != window.sensor[::-1]:
            raise UsageError(
                f"hot-pixel mask has shape {self.mask.shape}; the sensor of {window.sensor[0]} x "
                f"{window.sensor[1]} pixels needs {window.sensor[::-1]}"
            )
        return ~self.mask[window.y, window.x]

    def describe(self) -> Mapping[str, JSON]:
        return {"filter": "hot_pixels", "pixels": int(self.mask.sum())}


def find_hot_pixels(
    counts: NDArray[Any], duration_us: int, *, sigmas: float = 5.0, max_rate_hz: float | None = None
) -> NDArray[np.bool_]:
    """Pixels that fire far more than the others.

    Parameters
    ----------
    counts
        Events at each pixel, shape (y, x).
    duration_us
        Length of the recording, > 0.
    sigmas
        A pixel is hot above mean + `sigmas` standard deviations of the pixels that fired at all.
    max_rate_hz
        Used instead, if given: a pixel is hot above this many events a second.

    Returns
    -------
    np.ndarray
        Shape (y, x), bool.

    >>> counts = np.full((8, 8), 2)
    >>> counts[3, 4] = 900
    >>> np.argwhere(find_hot_pixels(counts, 10**6)).tolist()
    [[3, 4]]
    """
    if max_rate_hz is not None:
        return np.asarray(counts > max_rate_hz * duration_us / 1e6)
    fired = counts[counts > 0]
    if not fired.size:
        return np.zeros(counts.shape, np.bool_)
    return np.asarray(counts > fired.mean() + sigmas * fired.std())


def apply_filters(window: EventWindow, filters: tuple[Filter, ...]) -> EventWindow:
    """The events that pass all filters, one after the other."""
    for one in filters:
        window = window.take(one.keep(window))
    return window


def _check_us(value: Any, name: str) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value <= 0:
        raise UsageError(f"{name}={value!r} is not a whole number of us above 0")


def _memory(window: EventWindow) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    width, height = window.sensor
    return np.empty(len(window), np.bool_), np.full((height, width), NEVER)
