"""Which summary a kind of item gets: what its single pass computes beside the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lazystore.convert.encoded_summary import EncodedSummary
from lazystore.convert.event_summary import EventSummary
from lazystore.convert.frame_summary import FrameSummary, Shares, SidePieces, has_statistics
from lazystore.convert.overview_summary import OverviewSummary
from lazystore.convert.watch import Watch
from lazystore.errors import SourceError
from lazystore.overviews.levels import Levels
from lazystore.protocols import SideArray, Source, SourceInfo
from lazystore.schema import JSON, ArraySpec, Codec
from lazystore.sources.video.packets import PacketSource

type Side = list[tuple[ArraySpec, SidePieces]]

# A side array is cut along axis 0 so that no piece is above this.
SIDE_CHUNK_BYTES = 4 * 1024 * 1024
SIDE_CODEC = Codec("zstd", 3, "shuffle")


class Summary(Protocol):
    """Shares of a task, and what all shares together add to the item."""

    def share(
        self, start: int, columns: Mapping[str, NDArray[Any]], missing: Sequence[int] = ()
    ) -> dict[str, NDArray[Any]]:
        """One task's share, without the records that are missing; runs on a worker thread."""

    def finish(self, shares: Shares) -> tuple[Side, dict[str, JSON]]:
        """Side arrays of the item, and entries for its attributes."""


class NoSummary:
    """For tables, whose values are small enough to look at."""

    def share(
        self, start: int, columns: Mapping[str, NDArray[Any]], missing: Sequence[int] = ()
    ) -> dict[str, NDArray[Any]]:
        return {}

    def finish(self, shares: Shares) -> tuple[Side, dict[str, JSON]]:
        return [], {}


class _Frames:
    def __init__(self, data: ArraySpec, n_tasks: int, levels: Levels) -> None:
        self._data = data
        self._statistics = FrameSummary(data, n_tasks)
        self._overviews = OverviewSummary(levels, data, data.write_shape[0])

    def share(
        self, start: int, columns: Mapping[str, NDArray[Any]], missing: Sequence[int] = ()
    ) -> dict[str, NDArray[Any]]:
        overviews = self._overviews.begin()
        overviews.add(start, columns[self._data.path], missing)
        return {**self._statistics.share(start, columns, missing), **overviews.arrays()}

    def finish(self, shares: Shares) -> tuple[Side, dict[str, JSON]]:
        return [*self._statistics.side(shares), *self._overviews.side(shares)], {}


class _Events:
    def __init__(self, summary: EventSummary) -> None:
        self._summary = summary

    def share(
        self, start: int, columns: Mapping[str, NDArray[Any]], missing: Sequence[int] = ()
    ) -> dict[str, NDArray[Any]]:
        return self._summary.share(start, columns)

    def finish(self, shares: Shares) -> tuple[Side, dict[str, JSON]]:
        merged = self._summary.merge(shares())
        return side_of_arrays(merged.side), {"events": merged.attributes}


def summary_for(
    info: SourceInfo,
    columns: Sequence[ArraySpec],
    n_tasks: int,
    source: Source,
    levels: Levels,
    workers: int = 1,
    watch: Watch | None = None,
) -> Summary:
    """The summary of an item.

    Parameters
    ----------
    levels
        Overviews of a movie.
    workers
        Threads that one task may take.
    watch
        Of the run that it is for.

    Raises
    ------
    SourceError
        If an event recording does not say its sensor's size.
    """
    if info.kind == "events":
        sensor = info.item_attributes.get("sensor")
        if not isinstance(sensor, Sequence) or len(sensor) != 2:
            raise SourceError(
                f"the event recording names no sensor size ({sensor!r}); expected [width, height]"
            )
        width, height = (int(str(size)) for size in sensor)
        return _Events(EventSummary((width, height), columns[0].chunks[0]))
    if isinstance(source, PacketSource):
        groups = source.frames.seek_frame
        return EncodedSummary(
            source.shown, columns[0], n_tasks, levels, groups=groups, workers=workers, watch=watch
        )
    if info.kind in ("field", "video", "stack") and has_statistics(columns[0].dtype):
        return _Frames(columns[0], n_tasks, levels)
    return NoSummary()


def side_of_arrays(arrays: Iterable[SideArray]) -> Side:
    """Specs and pieces of arrays that are in memory."""
    return [_side(array) for array in arrays]


def _side(array: SideArray) -> tuple[ArraySpec, SidePieces]:
    values = np.asarray(array.values)
    if values.dtype.kind == "O":
        values = values.astype(str)
    if values.dtype.byteorder == ">":
        values = values.astype(values.dtype.newbyteorder("="))
    row_bytes = max(1, values.itemsize * int(np.prod(values.shape[1:], dtype=np.int64)))
    rows = max(1, min(len(values), SIDE_CHUNK_BYTES // row_bytes))
    spec = ArraySpec(
        array.path,
        array.dims,
        values.shape,
        np.dtype("U") if values.dtype.kind == "U" else values.dtype,
        (rows, *(max(1, size) for size in values.shape[1:])),
        codec=SIDE_CODEC,
        attributes=array.attributes,
    )
    return spec, lambda: (values[start : start + rows] for start in range(0, len(values), rows))
