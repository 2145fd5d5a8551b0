"""A part of a recording as a source of its own: a time span, a crop, every k-th record.

Only for recordings of frames (or tracks), where every record has a tick; rows of events, spikes
and intervals are chosen in `rows`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Block, Column, SideArray, Source, SourceInfo, Ticks, TwinSource
from lazystore.schema import JSON

# Up to this stride the frames in between are read and dropped: a decoder has to pass them anyway,
# and a file's read-ahead brings them. Beyond it single records are asked for.
_MAX_STRIDE_READ_THROUGH = 8

type Span = tuple[float | None, float | None]
type Crop = tuple[int, int, int, int]


def record_range_of_span(ticks: Ticks, n_records: int, span: Span) -> tuple[int, int]:
    """Records whose native time lies in [start, stop), as a half-open range.

    Parameters
    ----------
    ticks
        Increasing (equal neighbours allowed).
    n_records
        Length of the recording.
    span
        Native seconds; None leaves that side open.

    Raises
    ------
    UsageError
        If the span is empty or not finite.
    SourceError
        If the ticks go back in time, so that a span is no range of records.

    >>> record_range_of_span(Ticks(Fraction(1, 10)), 100, (1.0, 2.0))
    (10, 20)
    """
    low, high = check_span(span)
    # Exact arithmetic: a bound that is a frame's own time must not fall to either side by rounding.
    if ticks.values is None:
        step, start = ticks.step * ticks.time_base, ticks.start * ticks.time_base
        first = 0 if low is None else math.ceil((low - start) / step)
        last = n_records if high is None else math.ceil((high - start) / step)
    else:
        values = ticks.values
        if len(values) > 1 and bool(np.any(values[1:] < values[:-1])):
            raise SourceError(
                "the recording's times go back, so a time span is no range; choose records instead"
            )
        first = 0 if low is None else _first_at_or_after(values, low / ticks.time_base)
        last = n_records if high is None else _first_at_or_after(values, high / ticks.time_base)
    return max(0, min(first, n_records)), max(0, min(last, n_records))


def check_span(span: Span) -> tuple[Fraction | None, Fraction | None]:
    """Both bounds as exact numbers.

    Raises
    ------
    UsageError
        If a bound is not finite, or the span is empty.
    """
    bounds = []
    for bound in span:
        if bound is not None and not math.isfinite(bound):
            raise UsageError(
                f"time {span!r} has a bound that is no finite number of seconds; leave it out (None)"
            )
        bounds.append(None if bound is None else _as_written(bound))
    low, high = bounds
    if low is not None and high is not None and low >= high:
        raise UsageError(f"time {span!r} is empty; expected start < stop in seconds")
    return low, high


def _as_written(bound: float) -> Fraction:
    # 0.1 means one tenth: the binary neighbour lies above it, and would lose the frame at 0.1 s.
    return Fraction(repr(float(bound)))


def _first_at_or_after(values: NDArray[np.int64], tick: Fraction) -> int:
    bound = math.ceil(tick)
    limits = np.iinfo(np.int64)
    return int(np.searchsorted(values, np.int64(max(limits.min, min(limits.max, bound))), side="left"))


def slice_ticks(ticks: Ticks, start: int, stop: int, every: int) -> Ticks:
    """Ticks of the records start, start + every, ... below stop.

    >>> slice_ticks(Ticks(Fraction(1, 30), start=5, step=2), 10, 20, 3)
    Ticks(time_base=Fraction(1, 30), values=None, start=25, step=6, name='tick', known=True)
    """
    if ticks.values is not None:
        return replace(ticks, values=ticks.values[start:stop:every])
    return replace(ticks, start=ticks.start + start * ticks.step, step=ticks.step * every)


class SelectedSource:
    """Records [start, stop) of a source, every k-th of them, cut to a rectangle.

    Parameters
    ----------
    source
        A recording with ticks.
    time
        (start, stop) in native seconds, half-open; None leaves a side open.
    records
        (start, stop) of record numbers, half-open, instead of `time`.
    crop
        (y0, y1, x0, x1) in pixels, half-open, inside the frame.
    every
        Keep records 0, k, 2k, ... of the span; k >= 1.

    Raises
    ------
    UsageError
        If a selection is empty, lies outside, or does not fit the kind.
    SourceError
        If `time` is given and the recording's times go back.
    """

    def __init__(
        self,
        source: Source,
        *,
        time: Span | None = None,
        records: tuple[int, int] | None = None,
        crop: Crop | None = None,
        every: int | None = None,
    ) -> None:
        info = source.info
        name = info.identity[0].name
        if info.ticks is None:
            raise UsageError(f"{name!r} is of kind {info.kind!r}; its rows are chosen by time, not by record")
        if time is not None and records is not None:
            raise UsageError(f"time={time!r} and records={records!r} are both given; pass one of them")
        if every is not None and every < 1:
            raise UsageError(f"every={every!r} is not a positive whole number; pass for example every=2")
        start, stop = 0, info.length
        if time is not None:
            start, stop = record_range_of_span(info.ticks, info.length, time)
        elif records is not None:
            start, stop = _check_records(records, info.length, name)
        if start >= stop:
            raise UsageError(
                f"time {time!r} holds none of the {info.length} records of {name!r}: {_span_text(info)}"
            )
        self._source = source
        self._start, self._every = start, every or 1
        self._length = len(range(start, stop, self._every))
        self._windows = {
            column.name: _crop_window(column.dims, column.shape, crop) for column in info.columns
        }
        if crop is not None and not any(self._windows.values()):
            raise UsageError(
                f"crop={crop!r} needs frames with y and x, but {name!r} is {info.columns[0].dims}"
            )
        if crop is not None and "geometry" in info.item_attributes:
            raise UsageError(
                f"crop={crop!r} would leave part of the environment of {name!r}; leave crop or env out"
            )
        columns = [
            replace(
                column, shape=(self._length, *_window_shape(column.shape[1:], self._windows[column.name]))
            )
            for column in info.columns
        ]
        selection = {
            "time": None if time is None else list(time),
            "records": [start, stop] if time is not None or records is not None else None,
            "crop": None if crop is None else list(crop),
            "every": every,
        }
        self._info = replace(
            info,
            columns=tuple(columns),
            ticks=slice_ticks(info.ticks, start, stop, self._every),
            side=tuple(
                _select_side(side, slice(start, stop, self._every), crop, info.columns[0])
                for side in info.side
            ),
            attributes=with_selection(info.attributes, selection),
        )

    @property
    def info(self) -> SourceInfo:
        """What the selected part is."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Records [start, stop) of the selection."""
        every = self._every
        first, last = self._start + start * every, self._start + (stop - 1) * every + 1
        if every == 1:
            block = self._source.read(first, last)
            columns = {name: self._cut(name, values) for name, values in block.columns.items()}
            return Block(
                start,
                columns,
                tuple(record - self._start for record in block.missing),
                {record - self._start: reason for record, reason in block.reasons.items()},
                tuple(record - self._start for record in block.doubtful),
                block.broken_packets,
            )
        return self._read_strided(start, stop)

    def twin(self, threads: int) -> SelectedSource | None:
        """The same selection for another thread; see `TwinSource`."""
        whole = self._source.twin(threads) if isinstance(self._source, TwinSource) else None
        if whole is None:
            return None
        other = copy(self)
        other._source = whole
        return other

    def close(self) -> None:
        """Release the whole recording's files."""
        self._source.close()

    def _cut(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        window = self._windows[name]
        return values if not window else np.ascontiguousarray(values[(slice(None), *window)])

    def _read_strided(self, start: int, stop: int) -> Block:
        columns = {
            column.name: np.empty((stop - start, *column.shape[1:]), column.dtype)
            for column in self._info.columns
        }
        missing: dict[int, str | None] = {}
        doubtful: list[int] = []
        broken: list[int] = []
        # Pieces of at most as many source records as the block has, so that memory at most doubles.
        through = self._every <= _MAX_STRIDE_READ_THROUGH
        count = max(1, (stop - start) // self._every) if through else 1
        for first in range(start, stop, count):
            last = min(first + count, stop)
            origin = self._start + first * self._every
            block = self._source.read(origin, self._start + (last - 1) * self._every + 1)
            for name, values in block.columns.items():
                window = self._windows[name] or ()
                columns[name][first - start : last - start] = values[
                    (slice(None, None, self._every), *window)
                ]
            missing |= {
                (record - self._start) // self._every: block.reasons.get(record)
                for record in block.missing
                if (record - self._start) % self._every == 0
            }
            broken += block.broken_packets
            doubtful += [
                (record - self._start) // self._every
                for record in block.doubtful
                if (record - self._start) % self._every == 0
            ]
        reasons = {record: reason for record, reason in missing.items() if reason is not None}
        return Block(start, columns, tuple(missing), reasons, tuple(doubtful), tuple(broken))


def with_selection(attributes: Mapping[str, JSON], selection: Mapping[str, JSON]) -> dict[str, JSON]:
    """The attributes with what was chosen recorded under ``"selection"``; a choice again is appended.

    A selection of a selection keeps both, innermost first, so that the record says what was done.
    """
    chosen: dict[str, JSON] = {name: value for name, value in selection.items() if value is not None}
    if not chosen:
        return dict(attributes)
    before = attributes.get("selection")
    if isinstance(before, Mapping):
        if not set(before) & set(chosen):
            return {**attributes, "selection": {**before, **chosen}}
        chosen = {**chosen, "of": before}
    return {**attributes, "selection": chosen}


def _check_records(records: tuple[int, int], n_records: int, name: str) -> tuple[int, int]:
    start, stop = records
    if not 0 <= start < stop <= n_records:
        raise UsageError(
            f"records {records!r} do not lie in the {n_records} records of {name!r}; expected start < stop"
        )
    return start, stop


def _span_text(info: SourceInfo) -> str:
    assert info.ticks is not None
    ticks = info.ticks
    if ticks.values is not None:
        first, last = int(ticks.values[0]), int(ticks.values[-1])
    else:
        first, last = ticks.start, ticks.start + (info.length - 1) * ticks.step
    first_s, last_s = float(first * ticks.time_base), float(last * ticks.time_base)
    return f"they run from {first_s:g} to {last_s:g} s of its own clock"


def _crop_window(dims: Sequence[str], shape: Sequence[int], crop: Crop | None) -> tuple[slice, ...] | None:
    """Slices of every axis but the first; None where nothing is cut."""
    if crop is None or "y" not in dims or "x" not in dims:
        return None
    y0, y1, x0, x1 = crop
    height, width = shape[dims.index("y")], shape[dims.index("x")]
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise UsageError(
            f"crop={crop!r} does not lie in frames of {height} x {width}; "
            "expected (y0, y1, x0, x1), half-open, in pixels"
        )
    bounds = {"y": slice(y0, y1), "x": slice(x0, x1)}
    return tuple(bounds.get(dim, slice(None)) for dim in dims[1:])


def _window_shape(shape: Sequence[int], window: tuple[slice, ...] | None) -> tuple[int, ...]:
    if window is None:
        return tuple(shape)
    return tuple(len(range(*part.indices(size))) for part, size in zip(window, shape, strict=True))


def _select_side(side: SideArray, records: slice, crop: Crop | None, column: Column) -> SideArray:
    """A coordinate along time, y or x cut like the frames."""
    bounds = {column.dims[0]: records}
    if crop is not None:
        bounds |= {"y": slice(*crop[:2]), "x": slice(*crop[2:])}
    if not any(dim in bounds and dim in column.dims for dim in side.dims):
        return side
    return replace(side, values=side.values[tuple(bounds.get(dim, slice(None)) for dim in side.dims)])
