"""The index of an event recording: one row a chunk, small enough to be kept in memory.

Time bounds find the chunks of a window in O(log n); running extremes keep that true for recordings
whose times go back here and there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div
from lazystore.errors import DamagedStoreError
from lazystore.protocols import ChunkReader

INDEX_COLUMNS = ("t_min", "t_max", "sorted", "on_count", "x_min", "x_max", "y_min", "y_max")
_LATEST = np.iinfo(np.int64).max
_EARLIEST = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, eq=False)
class EventIndex:
    """Bounds of every chunk.

    Attributes
    ----------
    n_events, chunk_events
        Events in the recording, and in each chunk but the last.
    t_min, t_max
        Shape (chunk,), int64, µs, both inclusive. A chunk without readable events has
        ``t_min > t_max`` and is in no window.
    sorted
        Shape (chunk,), bool: times do not fall inside the chunk.
    on_count
        Shape (chunk,), ON events.
    x_min, x_max, y_min, y_max
        Shape (chunk,), pixels, inclusive.
    is_sorted
        Whether times never fall in the whole recording.
    is_whole
        Whether every chunk has readable events.

    Raises
    ------
    DamagedStoreError
        If the columns are not one row a chunk.
    """

    n_events: int
    chunk_events: int
    t_min: NDArray[np.int64]
    t_max: NDArray[np.int64]
    sorted: NDArray[np.bool_]
    on_count: NDArray[Any]
    x_min: NDArray[Any]
    x_max: NDArray[Any]
    y_min: NDArray[Any]
    y_max: NDArray[Any]
    is_sorted: bool = field(init=False)
    is_whole: bool = field(init=False)
    _latest_until: NDArray[np.int64] = field(init=False, repr=False)
    _earliest_from: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = ceil_div(self.n_events, self.chunk_events)
        for name in INDEX_COLUMNS:
            if getattr(self, name).shape != (rows,):
                raise DamagedStoreError(
                    f"index/{name} has shape {getattr(self, name).shape}; {self.n_events} events in chunks "
                    f"of {self.chunk_events} need ({rows},); run lazystore verify"
                )
        in_order = bool(np.all(self.sorted)) and bool(np.all(self.t_min[1:] >= self.t_max[:-1]))
        object.__setattr__(self, "is_sorted", in_order)
        object.__setattr__(self, "is_whole", bool(np.all(self.t_min <= self.t_max)))
        object.__setattr__(self, "_latest_until", np.maximum.accumulate(self.t_max))
        object.__setattr__(self, "_earliest_from", np.minimum.accumulate(self.t_min[::-1])[::-1].copy())

    @property
    def t_first(self) -> int:
        """Earliest time in µs; 0 without events."""
        return int(self.t_min.min()) if len(self.t_min) else 0

    @property
    def t_last(self) -> int:
        """Latest time in µs; -1 without events."""
        return int(self.t_max.max()) if len(self.t_max) else -1

    def chunk_size(self, chunk: int) -> int:
        """Events in one chunk."""
        return min(self.chunk_events, self.n_events - chunk * self.chunk_events)

    def span(self, t0: int, t1: int) -> tuple[int, int]:
        """The chunks [first, stop) outside which no event lies in [t0, t1) µs.

        >>> index = index_of_times(np.array([0, 5, 9, 9]), 2)
        >>> index.span(5, 9), index.span(6, 7)
        ((0, 1), (1, 1))
        """
        first = int(self._latest_until.searchsorted(t0, "left"))
        stop = int(self._earliest_from.searchsorted(t1, "left"))
        return first, max(first, stop)

    def candidates(
        self, t0: int, t1: int, roi: tuple[int, int, int, int] | None = None, polarity: int | None = None
    ) -> list[int]:
        """Chunks that may hold events of a window, in file order."""
        first, stop = self.span(t0, t1)
        part = slice(first, stop)
        wanted = (self.t_max[part] >= t0) & (self.t_min[part] < t1)
        if roi is not None:
            x0, y0, x1, y1 = roi
            wanted &= (self.x_max[part] >= x0) & (self.x_min[part] < x1)
            wanted &= (self.y_max[part] >= y0) & (self.y_min[part] < y1)
        if polarity == 1:
            wanted &= self.on_count[part] > 0
        elif polarity == 0 and stop > first:
            sizes = np.full(stop - first, self.chunk_events)
            sizes[-1] = self.chunk_size(stop - 1)
            wanted &= self.on_count[part] < sizes
        return [first + int(place) for place in np.flatnonzero(wanted)]


def index_of_times(t: NDArray[Any], chunk_events: int) -> EventIndex:
    """An index over times in memory, shape (event,), µs; places and polarities are left open."""
    return index_of_chunks(
        t.size, chunk_events, lambda chunk: {"t": t[chunk * chunk_events : (chunk + 1) * chunk_events]}
    )


def index_of_readers(
    columns: Mapping[str, ChunkReader], missing: Iterable[tuple[int, int]] = ()
) -> EventIndex:
    """An index made by reading every chunk: for stores that have none (unfinished, or foreign).

    Parameters
    ----------
    columns
        Readers of ``t``, ``x``, ``y``, ``p``.
    missing
        Half-open ranges of events that cannot be read; their chunks are in no window.
    """
    spec = columns["t"].spec
    lost = [(int(start), int(stop)) for start, stop in missing]

    def read(chunk: int) -> Mapping[str, NDArray[Any]]:
        start = chunk * spec.chunks[0]
        if any(first < start + spec.chunks[0] and start < last for first, last in lost):
            return {}
        return {name: reader.read_chunk((chunk,)) for name, reader in columns.items()}

    return index_of_chunks(spec.shape[0], spec.chunks[0], read)


def index_of_chunks(
    n_events: int, chunk_events: int, read: Callable[[int], Mapping[str, NDArray[Any]]]
) -> EventIndex:
    """An index from a function that gives the columns of a chunk; none of them for a lost chunk."""
    rows = ceil_div(n_events, chunk_events)
    whole = np.iinfo(np.uint16).max
    index: dict[str, NDArray[Any]] = {
        "t_min": np.full(rows, _LATEST),
        "t_max": np.full(rows, _EARLIEST),
        "sorted": np.ones(rows, np.bool_),
        "on_count": np.zeros(rows, np.uint32),
        **{f"{axis}_{end}": np.zeros(rows, np.uint16) for axis in "xy" for end in ("min", "max")},
    }
    for chunk in range(rows):
        columns = read(chunk)
        if "t" not in columns or not columns["t"].size:
            continue
        t = columns["t"]
        index["t_min"][chunk], index["t_max"][chunk] = t.min(), t.max()
        index["sorted"][chunk] = bool(np.all(t[1:] >= t[:-1]))
        for axis in "xy":
            values = columns.get(axis)
            index[f"{axis}_min"][chunk] = 0 if values is None else values.min()
            index[f"{axis}_max"][chunk] = whole if values is None else values.max()
        if "p" in columns:
            index["on_count"][chunk] = np.count_nonzero(columns["p"])
    return EventIndex(n_events, chunk_events, **index)
