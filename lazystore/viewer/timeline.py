"""One slider in session seconds, and which sample of each item a step shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import UsageError

# A slider of more steps than pixels of any screen gains nothing, and napari keeps them as floats.
MAX_STEPS = 2_000_000
DEFAULT_STEP_S = 1 / 30


class Samples(Protocol):
    """When an item's samples were taken."""

    @property
    def span_s(self) -> tuple[float, float]:
        """Session seconds of the first and the last sample."""

    @property
    def interval_s(self) -> float:
        """Typical time between two samples; 0 with a single one."""

    def nearest(self, second: float) -> int | None:
        """Number of the sample nearest to a session second, None outside the recording."""


@dataclass(frozen=True)
class RegularSamples:
    """Samples at ``start_s + i * step_s``, i < size."""

    start_s: float
    step_s: float
    size: int

    @property
    def span_s(self) -> tuple[float, float]:
        return self.start_s, self.start_s + self.step_s * (self.size - 1)

    @property
    def interval_s(self) -> float:
        return self.step_s if self.size > 1 else 0.0

    def nearest(self, second: float) -> int | None:
        """As `Samples.nearest`; a sample lasts from half an interval before to half after it.

        >>> RegularSamples(1.0, 0.5, 3).nearest(1.3), RegularSamples(1.0, 0.5, 3).nearest(2.3)
        (1, None)
        """
        if not self.interval_s:
            return 0 if abs(second - self.start_s) <= DEFAULT_STEP_S / 2 else None
        position = (second - self.start_s) / self.step_s
        index = math.floor(position + 0.5)
        if index == self.size and math.isclose(position, self.size - 0.5):
            index -= 1
        return int(index) if 0 <= index < self.size else None


@dataclass(frozen=True, eq=False)
class ListedSamples:
    """Samples at given session seconds, shape (time,), never going back."""

    times_s: NDArray[np.float64]

    @property
    def span_s(self) -> tuple[float, float]:
        return float(self.times_s[0]), float(self.times_s[-1])

    @cached_property
    def interval_s(self) -> float:
        return float(np.median(np.diff(self.times_s))) if len(self.times_s) > 1 else 0.0

    def nearest(self, second: float) -> int | None:
        """As `Samples.nearest`; inside a gap the nearest sample stays.

        >>> samples = ListedSamples(np.array([0.0, 1.0, 5.0]))
        >>> samples.nearest(2.0), samples.nearest(4.0), samples.nearest(9.0)
        (1, 2, None)
        """
        first, last = self.span_s
        reach = (self.interval_s or DEFAULT_STEP_S) / 2
        if not first - reach <= second <= last + reach:
            return None
        after = int(np.searchsorted(self.times_s, second))
        if after == 0:
            return 0
        if after == len(self.times_s):
            return after - 1
        return after if self.times_s[after] - second < second - self.times_s[after - 1] else after - 1


@dataclass(frozen=True, slots=True)
class Timeline:
    """The slider: step i shows session second ``start_s + i * step_s``, i < n_steps."""

    start_s: float
    step_s: float
    n_steps: int

    def second(self, step: int) -> float:
        """Session second of a step."""
        return self.start_s + step * self.step_s

    def step(self, second: float) -> int:
        """The step nearest to a session second, on the slider.

        >>> Timeline(2.0, 0.5, 10).step(3.1), Timeline(2.0, 0.5, 10).step(99)
        (2, 9)
        """
        return min(max(0, round((second - self.start_s) / self.step_s)), self.n_steps - 1)


def timeline_of(items: Iterable[Samples], rate_hz: float | None = None) -> Timeline:
    """A slider over all items, as fine as the fastest of them.

    Parameters
    ----------
    items
        Sample times of the items that are shown.
    rate_hz
        Steps a second, > 0; None for the smallest interval of any item.

    Raises
    ------
    UsageError
        If there are no items, or the rate is not above 0.

    >>> timeline_of([RegularSamples(0.0, 0.1, 11), RegularSamples(0.5, 0.25, 5)])
    Timeline(start_s=0.0, step_s=0.1, n_steps=16)
    """
    known = list(items)
    if not known:
        raise UsageError("nothing to show: the store holds no movie, events or tracks")
    if rate_hz is not None and not 0 < rate_hz < math.inf:
        raise UsageError(f"rate_hz={rate_hz!r} is not above 0")
    start = min(item.span_s[0] for item in known)
    stop = max(item.span_s[1] for item in known)
    intervals = [item.interval_s for item in known if item.interval_s > 0]
    step = 1 / rate_hz if rate_hz else min(intervals, default=DEFAULT_STEP_S)
    step = max(step, (stop - start) / MAX_STEPS)
    return Timeline(start, step, math.floor((stop - start) / step + 1e-6) + 1)
