"""An event recording in a store: exact windows in the time one or two chunks take to decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.lazy_array import LazyArray
from lazystore.array.reading import bulk_read
from lazystore.cache.guard import check_budget
from lazystore.clock import Clock
from lazystore.errors import StoreError, UsageError
from lazystore.events.base import Events
from lazystore.events.bounds import Roi, ticks_of_time
from lazystore.events.display import html_of, text_of
from lazystore.events.filters import find_hot_pixels
from lazystore.events.index import EventIndex
from lazystore.events.together import fetch_together
from lazystore.events.window import COLUMNS, EventWindow, read_only
from lazystore.protocols import ChunkReader
from lazystore.schema import JSON

if TYPE_CHECKING:
    import xarray

EVENT_BYTES = 13
# A window of more chunks than this is a scan: keeping it would throw out what is being watched.
SCAN_CHUNKS = 32
# From here on chunks are asked for together, so that a store far away is asked once.
MANY_CHUNKS = 4

type SideLoader = Callable[[], NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Triggers:
    """External triggers: t (int64, µs of the recording's own clock), id (channel), p (1 rising edge)."""

    t: NDArray[np.int64]
    id: NDArray[Any]
    p: NDArray[Any]

    def __len__(self) -> int:
        return len(self.t)


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """Events in bins of `step_us`: start of each bin (t, int64, µs), ON and OFF events in it."""

    t: NDArray[np.int64]
    on: NDArray[Any]
    off: NDArray[Any]
    step_us: int

    @property
    def per_second(self) -> NDArray[np.float64]:
        """Events a second, both polarities, shape (bin,)."""
        rate: NDArray[np.float64] = np.add(self.on, self.off, dtype=np.float64) * (1e6 / self.step_us)
        return rate


class EventStream(Events):
    """An event recording.

    Parameters
    ----------
    columns
        Readers of ``t`` (int64, µs), ``x``, ``y`` (uint16), ``p`` (uint8, 0/1), all over (event,) in
        chunks of the same length; cached ones make a warm window take microseconds.
    index
        Bounds of every chunk.
    sensor
        (width, height) in pixels.
    name
        The item's name.
    clock
        How the recording's own seconds map to session seconds.
    attrs
        What the item says of itself.
    side
        Loaders of small arrays by path: ``rate/*``, ``summary/*``, ``triggers/*``. Called when
        first asked for; must pickle with the stream.
    far
        Whether each read costs a round trip: then the columns of a window are read at the same time,
        on threads.

    Raises
    ------
    UsageError
        If the columns differ in length or chunks, or one is missing.

    Notes
    -----
    Immutable and free of locks; use it from any thread. It pickles as its readers do.
    """

    def __init__(
        self,
        columns: Mapping[str, ChunkReader],
        index: EventIndex,
        *,
        sensor: tuple[int, int],
        name: str = "events",
        clock: Clock | None = None,
        attrs: Mapping[str, JSON] | None = None,
        side: Mapping[str, SideLoader] | None = None,
        far: bool = False,
    ) -> None:
        for column in COLUMNS:
            spec = columns[column].spec if column in columns else None
            if spec is None or spec.shape != (index.n_events,) or spec.chunks != (index.chunk_events,):
                found = "is missing" if spec is None else f"has shape {spec.shape}, chunks {spec.chunks}"
                raise UsageError(
                    f"column {column!r} of {name!r} {found}; expected ({index.n_events},) in chunks of "
                    f"{index.chunk_events} events"
                )
        self.columns = dict(columns)
        self.index = index
        self.name = name
        self.sensor = (int(sensor[0]), int(sensor[1]))
        self.clock = clock if clock is not None else Clock()
        self.attrs = dict(attrs or {})
        self.side = dict(side or {})
        self.far = far
        self._t_start, self._t_stop = index.t_first, index.t_last + 1
        self._in_order = index.is_sorted and index.is_whole

    # --- what it is -----------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.index.n_events

    @property
    def t_start(self) -> int:
        """Time of the earliest event in µs of the recording's own clock."""
        return self._t_start

    @property
    def t_stop(self) -> int:
        """One µs after the latest event, so that [t_start, t_stop) holds every event."""
        return self._t_stop

    @property
    def is_sorted(self) -> bool:
        """Whether times never go back in the file; windows are exact either way."""
        return self.index.is_sorted

    @property
    def n_on(self) -> int:
        """ON events in the whole recording."""
        return int(self.index.on_count.sum(dtype=np.int64))

    # --- windows --------------------------------------------------------------------------------

    def select(self, t0: int, t1: int, roi: Roi | None = None, polarity: int | None = None) -> EventWindow:
        """The events of [t0, t1) in whole µs, inside `roi`, of one polarity; arguments are checked."""
        if self._in_order and roi is None and polarity is None:
            self._fetch(range(*self.index.span(t0, t1)))
            start, stop = self._place(t0), self._place(t1)
            return self._made(self._columns(start, stop, fetch=False), t0, t1)
        chunks = self.index.candidates(t0, t1, roi, polarity)
        self._fetch(chunks)
        parts, count = [], 0
        for chunk in chunks:
            parts.append(self._chunk_part(chunk, t0, t1, roi, polarity, scan=len(chunks) > SCAN_CHUNKS))
            count += len(parts[-1][0])
            self._check_budget(count)
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else _none()
        facts: dict[str, JSON] = {} if roi is None else {"roi": list(roi)}
        if polarity is not None:
            facts["polarity"] = polarity
        return self._made(columns, t0, t1, facts)

    def window_by_index(self, start: int, stop: int) -> EventWindow:
        """The events [start, stop) by number in the file; negative numbers count from the end.

        Raises
        ------
        UsageError
            If the range is not inside the recording.
        """
        first, last = (number + len(self) if number < 0 else number for number in (start, stop))
        if not 0 <= first <= last <= len(self):
            raise UsageError(
                f"events [{start!r}, {stop!r}) are not inside {self.name!r} with {len(self)} events; "
                "expected start <= stop"
            )
        columns = self._columns(first, last)
        t = columns[0]
        bounds = (int(t.min()), int(t.max()) + 1) if len(t) else (self._t_start, self._t_start)
        return self._made(columns, *bounds)

    def window_by_count(self, t0: float, count: int, *, unit: str = "us") -> EventWindow:
        """`count` events in file order, from the first one that is not before `t0`.

        Parameters
        ----------
        t0, unit
            As for `window`.
        count
            Fewer come where the recording ends; negative gives the events before that place.
        """
        place = self.place_of(t0, unit=unit)
        start, stop = (place, place + count) if count >= 0 else (place + count, place)
        return self.window_by_index(max(0, start), min(len(self), stop))

    def place_of(self, t0: float, *, unit: str = "us") -> int:
        """Number of the first event in the file that is not before `t0`; the length if there is none."""
        return self._place(ticks_of_time(t0, unit, self.clock, "t0"))

    def blocks(self, max_events: int = 1 << 20) -> Iterator[EventWindow]:
        """All events in file order, at most `max_events` at a time, in whole chunks."""
        step = max(1, max_events // self.index.chunk_events) * self.index.chunk_events
        for start in range(0, len(self), step):
            columns = self._columns(start, min(start + step, len(self)), scan=True)
            yield self._made(columns, int(columns[0].min()), int(columns[0].max()) + 1)

    def __getitem__(self, key: slice) -> EventWindow:
        """``e[a:b]`` is `window_by_index`, cut to the recording as numpy cuts."""
        if not isinstance(key, slice) or key.step not in (None, 1):
            raise TypeError(f"events are taken by a slice without a step, as in e[0:1000], not {key!r}")
        start, stop, _ = key.indices(len(self))
        return self.window_by_index(start, max(start, stop))

    def _place(self, tick: int) -> int:
        """Number of the first event in the file at or after a tick."""
        index = self.index
        chunk, _ = index.span(tick, tick)
        if chunk == len(index.t_min):
            return index.n_events
        begin = chunk * index.chunk_events
        if tick <= index.t_min[chunk]:
            return begin
        t = self.columns["t"].read_chunk((chunk,))
        inside = t.searchsorted(tick, "left") if index.sorted[chunk] else np.argmax(t >= tick)
        return begin + int(inside)

    def _columns(
        self, start: int, stop: int, *, scan: bool = False, fetch: bool = True
    ) -> list[NDArray[Any]]:
        """t, x, y, p of the events [start, stop); a scan keeps nothing in the cache."""
        if start >= stop:
            return _none()
        self._check_budget(stop - start)
        size = self.index.chunk_events
        first, last = start // size, (stop - 1) // size
        if fetch and not scan:
            self._fetch(range(first, last + 1))
        columns = []
        for name in COLUMNS:
            reader = self.columns[name]
            if first == last:
                columns.append(reader.read_chunk((first,))[start - first * size : stop - first * size])
                continue
            chunks = [(chunk,) for chunk in range(first, last + 1)]
            if scan or last - first >= SCAN_CHUNKS:
                parts = bulk_read(reader)(chunks)
            elif last - first >= MANY_CHUNKS:
                parts = reader.read_chunks(chunks)
            else:  # one by one: a hit costs 0.7 us, a batch of hits 12 us
                parts = [reader.read_chunk(chunk) for chunk in chunks]
            parts[0] = parts[0][start - first * size :]
            parts[-1] = parts[-1][: stop - last * size]
            columns.append(np.concatenate(parts))
        return columns

    def _fetch(self, chunks: Sequence[int]) -> None:
        """Have chunks of all columns at once, where they are few enough to be kept."""
        if len(chunks) <= SCAN_CHUNKS:
            fetch_together(self.columns, chunks, far=self.far)

    def _chunk_part(
        self, chunk: int, t0: int, t1: int, roi: Roi | None, polarity: int | None, *, scan: bool
    ) -> list[NDArray[Any]]:
        """t, x, y, p of one chunk's events of a window, in file order."""

        def read(name: str) -> NDArray[Any]:
            reader = self.columns[name]
            return bulk_read(reader)([(chunk,)])[0] if scan else reader.read_chunk((chunk,))

        t = read("t")
        keep: Any = slice(None)
        if self.index.t_min[chunk] < t0 or self.index.t_max[chunk] >= t1:
            if self.index.sorted[chunk]:
                keep = slice(*map(int, t.searchsorted([t0, t1], "left")))
            else:
                keep = np.flatnonzero((t >= t0) & (t < t1))
        t, x, y, p = t[keep], *(read(name)[keep] for name in "xyp")
        if roi is None and polarity is None:
            return [t, x, y, p]
        mask = np.ones(len(t), np.bool_)
        if roi is not None:
            mask &= (x >= roi[0]) & (x < roi[2]) & (y >= roi[1]) & (y < roi[3])
        if polarity is not None:
            mask &= p == polarity
        return [column[mask] for column in (t, x, y, p)]

    def _check_budget(self, count: int) -> None:
        check_budget(
            count * EVENT_BYTES,
            f"{self.name!r}: this would load {count} events,",
            "Take a shorter window, go through blocks()",
        )

    def _made(
        self, columns: list[NDArray[Any]], t0: int, t1: int, attrs: Mapping[str, JSON] | None = None
    ) -> EventWindow:
        t, x, y, p = (read_only(column) for column in columns)
        return EventWindow(t, x, y, p, t0, t1, self.sensor, self.clock, attrs or {})

    # --- what is stored beside ------------------------------------------------------------------

    @property
    def triggers(self) -> Triggers:
        """External triggers; empty if the recording has none. Reads at every call."""
        if "triggers/t" not in self.side:
            empty = np.empty(0, np.int64)
            return Triggers(empty, empty.astype(np.uint8), empty.astype(np.uint8))
        return Triggers(*(self.side[f"triggers/{name}"]() for name in ("t", "id", "p")))

    def rate(self) -> Rate:
        """Events over time, from the conversion pass."""
        t, on, off = (self._stored(f"rate/{name}") for name in ("t", "on", "off"))
        step_us = int(t[1] - t[0]) if len(t) > 1 else max(1, self.duration_us)
        return Rate(t, on, off, step_us)

    def pixel_count(self) -> NDArray[Any]:
        """Events at each pixel in the whole recording, shape (y, x), from the conversion pass."""
        return self._stored("summary/pixel_count")

    def hot_pixels(self, *, sigmas: float = 5.0, max_rate_hz: float | None = None) -> NDArray[np.bool_]:
        """Pixels that fire far too much; see `lazystore.events.filters.find_hot_pixels`."""
        return find_hot_pixels(self.pixel_count(), self.duration_us, sigmas=sigmas, max_rate_hz=max_rate_hz)

    def _stored(self, path: str) -> NDArray[Any]:
        if path not in self.side:
            raise StoreError(
                f"{self.name!r} has no {path!r}; the store is unfinished or foreign: convert "
                "the recording again"
            )
        return self.side[path]()

    # --- the whole recording --------------------------------------------------------------------

    def column(self, name: str) -> LazyArray:
        """One column over the whole recording, as a lazy array."""
        return LazyArray(
            self.columns[name], name=f"{self.name}/{name}", attrs=self.columns[name].spec.attributes
        )

    def to_xarray(self) -> xarray.Dataset:
        """A lazy Dataset of the columns over ``event``; reads nothing."""
        import xarray

        from lazystore.array.xarray_adapter import lazy_variable

        return xarray.Dataset(
            {name: lazy_variable(self.column(name)) for name in COLUMNS},
            attrs={"sensor": list(self.sensor), "t_start_us": self._t_start, "t_stop_us": self._t_stop},
        )

    def close(self) -> None:
        """Release files; the next read opens them again. Idempotent."""
        for reader in self.columns.values():
            reader.close()

    def __repr__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)


def _none() -> list[NDArray[Any]]:
    return [np.empty(0, dtype) for dtype in (np.int64, np.uint16, np.uint16, np.uint8)]
