"""What every view of an event recording can do: windows, frames, filters, export."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.clock import Clock
from lazystore.errors import UsageError
from lazystore.events.bounds import FOREVER, Roi, check_polarity, check_roi, ticks_of_time
from lazystore.events.export import export_events
from lazystore.events.filters import Filter, apply_filters
from lazystore.events.frames import make_frames
from lazystore.events.window import EventWindow, OutsideRecordingWarning, read_only
from lazystore.schema import JSON

if TYPE_CHECKING:
    from lazystore.array.lazy_array import LazyArray


class Events(ABC):
    """A recording of events, or a filtered view of one.

    Attributes
    ----------
    name
        The item's name.
    sensor
        (width, height) in pixels.
    clock
        How the recording's own seconds map to session seconds.
    attrs
        What the item says of itself.
    """

    name: str
    sensor: tuple[int, int]
    clock: Clock
    attrs: Mapping[str, JSON]

    # --- what differs ---------------------------------------------------------------------------

    @property
    @abstractmethod
    def t_start(self) -> int:
        """Time of the earliest event in µs of the recording's own clock."""

    @property
    @abstractmethod
    def t_stop(self) -> int:
        """One µs after the latest event, so that [t_start, t_stop) holds every event."""

    @abstractmethod
    def select(self, t0: int, t1: int, roi: Roi | None = None, polarity: int | None = None) -> EventWindow:
        """The events of [t0, t1) in whole µs, inside `roi`, of one polarity; arguments are checked."""

    @abstractmethod
    def hot_pixels(self, *, sigmas: float = 5.0, max_rate_hz: float | None = None) -> NDArray[np.bool_]:
        """Pixels of the whole recording that fire far too much; see `filters.find_hot_pixels`."""

    @abstractmethod
    def blocks(self, max_events: int = 1 << 20) -> Iterator[EventWindow]:
        """All events in file order, at most `max_events` of the recording at a time."""

    # --- what is the same -----------------------------------------------------------------------

    def window(
        self,
        t0: float,
        t1: float,
        *,
        unit: str = "us",
        roi: Sequence[int] | None = None,
        polarity: Any = None,
    ) -> EventWindow:
        """The events of [t0, t1), in file order.

        Parameters
        ----------
        t0, t1
            Half-open: an event at t1 belongs to the next window. Infinities mean the recording's ends.
        unit
            ``"us"`` or ``"ms"`` of the recording's own clock; ``"s"`` is session seconds.
        roi
            (x0, y0, x1, y1) in whole pixels, x1 and y1 not part of it.
        polarity
            ``"on"``/1 or ``"off"``/0/-1; None for both.

        Returns
        -------
        EventWindow
            Exactly the events with t0 <= t < t1, also where times in the file go back: then they are
            still in file order, and `is_sorted` of the recording is false.

        Warns
        -----
        OutsideRecordingWarning
            If the window lies wholly before or behind the recording.

        Raises
        ------
        UsageError
            If t1 lies before t0, or an argument is none of the above.
        MemoryBudgetError
            If the window holds more than memory should; take shorter ones, or `blocks`.

        Notes
        -----
        Reads the chunks that the window touches, found in O(log n).
        """
        region, sign = check_roi(roi), check_polarity(polarity)
        first = ticks_of_time(t0, unit, self.clock, "t0")
        last = ticks_of_time(t1, unit, self.clock, "t1")
        # An open end is the recording's own, so that the window's bounds mean something.
        first = self.t_start if first == -FOREVER else first
        last = self.t_stop if last == FOREVER else last
        if last < first:
            raise UsageError(f"window [{t0!r}, {t1!r}) {unit} ends before it begins; expected t0 <= t1")
        if last <= self.t_start or first >= self.t_stop:
            warnings.warn(
                f"window [{first}, {last}) us lies outside {self.name!r}, which has events in "
                f"[{self.t_start}, {self.t_stop}) us; it is empty",
                OutsideRecordingWarning,
                stacklevel=2,
            )
        return self.select(first, last, region, sign)

    @property
    def duration_us(self) -> int:
        """µs from the first to behind the last event."""
        return self.t_stop - self.t_start

    def filtered(self, *filters: Filter) -> FilteredEvents:
        """A lazy view without the events that the filters drop; see `lazystore.events.filters`.

        Filters run in the order given, after those that this view already has.
        """
        return FilteredEvents(self, filters)

    def frames(
        self,
        period: float,
        duration: float | None = None,
        *,
        unit: str = "us",
        mode: str = "count",
        **options: Any,
    ) -> LazyArray:
        """Images made of events, one every `period`; see `lazystore.events.frames.make_frames`."""
        return make_frames(self, period, duration, unit=unit, mode=mode, **options)

    def export(
        self, path: str | os.PathLike[str], layout: str | None = None, *, overwrite: bool = False
    ) -> int:
        """Write all events to a file of another kind; see `lazystore.events.export.export_events`."""
        return export_events(self, path, layout, overwrite=overwrite)

    def to_numpy(self) -> NDArray[Any]:
        """Every event in one structured array with fields x, y, t, p. Holds the whole recording."""
        return self.select(self.t_start, self.t_stop).to_numpy()


class FilteredEvents(Events):
    """A recording without the events that filters drop; nothing is read until a window is asked for.

    Parameters
    ----------
    events
        What is filtered.
    filters
        In the order in which they run.

    Notes
    -----
    A window reads as far before its beginning as the filters look back, together, so that it holds
    the same events however it is cut. Where times in the file go back, a filter with a look-back sees
    the events around the window in file order, and may keep others than a pass over the whole file.
    """

    def __init__(self, events: Events, filters: Sequence[Filter]) -> None:
        inner = events if isinstance(events, FilteredEvents) else None
        self._events: Events = events if inner is None else inner._events
        self.filters: tuple[Filter, ...] = (*(() if inner is None else inner.filters), *filters)
        self._look_back_us = sum(one.look_back_us for one in self.filters)
        self.name = events.name
        self.sensor = events.sensor
        self.clock = events.clock
        self._facts: dict[str, JSON] = {"filters": [dict(one.describe()) for one in self.filters]}
        self.attrs = {**self._events.attrs, **self._facts}

    @property
    def t_start(self) -> int:
        """Time of the earliest event of the whole recording in µs of its own clock."""
        return self._events.t_start

    @property
    def t_stop(self) -> int:
        """One µs after the latest event of the whole recording."""
        return self._events.t_stop

    def select(self, t0: int, t1: int, roi: Roi | None = None, polarity: int | None = None) -> EventWindow:
        """The events of [t0, t1) that pass; `roi` and `polarity` are applied last."""
        found = apply_filters(self._events.select(t0 - self._look_back_us, t1), self.filters)
        keep = found.t >= t0
        if roi is not None:
            x, y = found.x, found.y
            keep &= (x >= roi[0]) & (x < roi[2]) & (y >= roi[1]) & (y < roi[3])
        if polarity is not None:
            keep &= found.p == polarity
        facts = dict(self._facts)
        if roi is not None:
            facts["roi"] = list(roi)
        if polarity is not None:
            facts["polarity"] = polarity
        t, x, y, p = (read_only(column[keep]) for column in found.columns.values())
        return EventWindow(t, x, y, p, t0, t1, self.sensor, self.clock, facts)

    def blocks(self, max_events: int = 1 << 20) -> Iterator[EventWindow]:
        """The events that pass, in file order, from at most `max_events` of the recording at a time."""
        carried: EventWindow | None = None
        for block in self._events.blocks(max_events):
            n_carried = 0 if carried is None else len(carried)
            joined = block if carried is None else _join(carried, block)
            place = np.arange(len(joined))
            kept = joined
            for one in self.filters:
                passing = one.keep(kept)
                kept, place = kept.take(passing), place[passing]
            yield kept.take(place >= n_carried, self._facts)
            if self._look_back_us and len(joined):
                carried = joined.take(joined.t >= joined.t[-1] - self._look_back_us)

    def hot_pixels(self, *, sigmas: float = 5.0, max_rate_hz: float | None = None) -> NDArray[np.bool_]:
        """Pixels that fire far too much before anything is filtered."""
        return self._events.hot_pixels(sigmas=sigmas, max_rate_hz=max_rate_hz)

    def count(self) -> int:
        """How many events pass; goes through the whole recording."""
        return sum(len(block) for block in self.blocks())

    def __repr__(self) -> str:
        names = ", ".join(str(one.describe()["filter"]) for one in self.filters) or "nothing"
        return f"<FilteredEvents {self.name!r}, filtered by {names}>"


def _join(one: EventWindow, other: EventWindow) -> EventWindow:
    t, x, y, p = (
        read_only(np.concatenate(pair))
        for pair in zip(one.columns.values(), other.columns.values(), strict=True)
    )
    return EventWindow(t, x, y, p, one.t_start, other.t_stop, other.sensor, other.clock)
