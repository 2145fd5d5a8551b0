"""Rows of events, spikes and intervals chosen by time or by place, in the order of the recording.

Rows may be out of order in time, so a span is no range of rows: one pass counts the rows that are
wanted in each block, and a read then goes to the blocks that hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.protocols import Block, SideArray, Source, SourceInfo
from lazystore.sources.selection import Crop, SelectedSource, Span, check_span, with_selection

ROWS_A_BLOCK = 1 << 20

_MICROSECONDS = Fraction(1, 1_000_000)
# Kind -> (column that a span's start is held against, column for its stop, seconds a unit).
_TIME_COLUMNS = {
    "events": ("t", "t", _MICROSECONDS),
    "spikes": ("spike_time", "spike_time", Fraction(1)),
    # An interval belongs to a span that it touches.
    "intervals": ("stop", "start", Fraction(1)),
}


class RowSource:
    """The rows of a recording that lie in a time span and, for events, in a rectangle.

    Opening reads the recording once; memory is bounded by one block of a million rows.

    Parameters
    ----------
    source
        A source of kind events, spikes or intervals.
    time
        (start, stop) in native seconds, half-open; None leaves a side open.
    crop
        (y0, y1, x0, x1) in pixels, half-open; kept events count from its corner.

    Raises
    ------
    UsageError
        If no row is left, or the kind has no rows, or no pixels to crop.
    """

    def __init__(self, source: Source, *, time: Span | None = None, crop: Crop | None = None) -> None:
        info = source.info
        name = info.identity[0].name
        if info.kind not in _TIME_COLUMNS:
            raise UsageError(f"{name!r} is of kind {info.kind!r}, which has records, not rows")
        if crop is not None and info.kind != "events":
            raise UsageError(f"crop={crop!r} needs pixels, but {name!r} is of kind {info.kind!r}")
        if crop is not None:
            _check_crop(crop, info.item_attributes.get("sensor"))
        self._source = source
        self._crop = crop
        self._from, self._to, unit = _TIME_COLUMNS[info.kind]
        low, high = (None, None) if time is None else check_span(time)
        self._low = None if low is None else low / unit
        self._high = None if high is None else high / unit
        self._side_dim = info.columns[0].dims[0]
        kept_side, counts = self._scan(info)
        # Kept rows in front of each block, and their total at the end.
        self._before = np.concatenate([[0], np.cumsum(counts)])
        total = int(self._before[-1])
        if total == 0:
            raise UsageError(f"time={time!r}, crop={crop!r} leave none of the {info.length} rows of {name!r}")
        self._info = self._describe(info, total, kept_side, time, crop)
        self._cached: tuple[int, dict[str, NDArray[Any]]] | None = None

    @property
    def info(self) -> SourceInfo:
        """What is left of the recording."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Rows [start, stop) of those kept."""
        parts: list[dict[str, NDArray[Any]]] = []
        block = int(np.searchsorted(self._before, start, side="right")) - 1
        position = start
        while position < stop:
            first, last = int(self._before[block]), int(self._before[block + 1])
            if last > position:
                rows = self._kept_rows(block)
                part = slice(position - first, min(stop, last) - first)
                parts.append({name: values[part] for name, values in rows.items()})
                position = min(stop, last)
            block += 1
        names = [column.name for column in self._info.columns]
        return Block(start, {name: np.concatenate([part[name] for part in parts]) for name in names})

    def close(self) -> None:
        """Release the recording's files."""
        self._cached = None
        self._source.close()

    def _scan(self, info: SourceInfo) -> tuple[NDArray[np.bool_] | None, list[int]]:
        has_row_side = any(side.dims[:1] == (self._side_dim,) for side in info.side)
        masks, counts = [], []
        for start in range(0, info.length, ROWS_A_BLOCK):
            columns = self._source.read(start, min(start + ROWS_A_BLOCK, info.length)).columns
            mask = self._mask(columns)
            counts.append(int(np.count_nonzero(mask)))
            if has_row_side:
                masks.append(mask)
        return (np.concatenate(masks) if masks else None), counts

    def _mask(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        mask = np.ones(len(columns[self._from]), np.bool_)
        if self._low is not None:
            # Touching intervals: one that stops exactly at the span's start does not reach into it,
            # whereas an instant at the start does.
            is_instant = self._from == self._to
            mask &= (
                _not_below(columns[self._from], self._low)
                if is_instant
                else columns[self._from] > float(self._low)
            )
        if self._high is not None:
            mask &= ~_not_below(columns[self._to], self._high)
        if self._crop is not None:
            y0, y1, x0, x1 = self._crop
            x, y = columns["x"], columns["y"]
            mask &= (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
        return mask

    def _kept_rows(self, block: int) -> dict[str, NDArray[Any]]:
        if self._cached is not None and self._cached[0] == block:
            return self._cached[1]
        self._cached = None
        start = block * ROWS_A_BLOCK
        columns = self._source.read(start, min(start + ROWS_A_BLOCK, self._source.info.length)).columns
        mask = self._mask(columns)
        kept = {name: values[mask] for name, values in columns.items()}
        if self._crop is not None:
            y0, _, x0, _ = self._crop
            kept["x"], kept["y"] = kept["x"] - kept["x"].dtype.type(x0), kept["y"] - kept["y"].dtype.type(y0)
        self._cached = (block, kept)
        return kept

    def _describe(
        self,
        info: SourceInfo,
        total: int,
        row_mask: NDArray[np.bool_] | None,
        time: Span | None,
        crop: Crop | None,
    ) -> SourceInfo:
        item_attributes = dict(info.item_attributes)
        if crop is not None:
            item_attributes["sensor"] = [crop[3] - crop[2], crop[1] - crop[0]]
        selection = {
            "time": None if time is None else list(time),
            "crop": None if crop is None else list(crop),
        }
        side = []
        trigger_mask = self._trigger_mask(info)
        for array in info.side:
            if row_mask is not None and array.dims[:1] == (self._side_dim,):
                array = replace(array, values=array.values[row_mask])
            elif trigger_mask is not None and array.dims[:1] == ("trigger",):
                array = replace(array, values=array.values[trigger_mask])
            side.append(array)
        return replace(
            info,
            columns=tuple(replace(column, shape=(total, *column.shape[1:])) for column in info.columns),
            side=tuple(side),
            attributes=with_selection(info.attributes, selection),
            item_attributes=item_attributes,
        )

    def _trigger_mask(self, info: SourceInfo) -> NDArray[np.bool_] | None:
        """External triggers keep to the time span; they have no place."""
        times = _side_values(info.side, "triggers/t")
        if times is None:
            return None
        mask = np.ones(len(times), np.bool_)
        if self._low is not None:
            mask &= _not_below(times, self._low)
        if self._high is not None:
            mask &= ~_not_below(times, self._high)
        return mask


def select_source(
    source: Source, *, time: Span | None = None, crop: Crop | None = None, every: int | None = None
) -> Source:
    """What ``--time``, ``--crop`` and ``--every`` leave of a recording, whatever its kind.

    Parameters
    ----------
    source
        Any source; returned as it is if nothing is chosen.
    time
        (start, stop) in native seconds, half-open; None leaves a side open.
    crop
        (y0, y1, x0, x1) in pixels, half-open.
    every
        Keep every k-th record; only for recordings of frames or tracks.

    Raises
    ------
    UsageError
        If the choice is empty, lies outside, or does not fit the kind.
    SourceError
        If a time span is asked of frames whose times go back.
    """
    if time is None and crop is None and every is None:
        return source
    if source.info.kind in _TIME_COLUMNS:
        if every is not None:
            raise UsageError(
                f"every={every!r} would drop rows of kind {source.info.kind!r} without a meaning; "
                "choose them by time or crop"
            )
        return RowSource(source, time=time, crop=crop)
    return SelectedSource(source, time=time, crop=crop, every=every)


def _not_below(values: NDArray[Any], bound: Fraction) -> NDArray[np.bool_]:
    """Rows at or after a bound, exactly: integers against its ceiling, floats as they are."""
    if values.dtype.kind in "iu":
        return np.asarray(values >= -(-bound.numerator // bound.denominator))
    return np.asarray(values >= float(bound))


def _side_values(side: tuple[SideArray, ...], path: str) -> NDArray[Any] | None:
    return next((array.values for array in side if array.path == path), None)


def _check_crop(crop: Crop, sensor: Any) -> None:
    y0, y1, x0, x1 = crop
    width, height = sensor if sensor else (1 << 16, 1 << 16)
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise UsageError(
            f"crop={crop!r} does not lie in a sensor of {height} x {width}; "
            "expected (y0, y1, x0, x1), half-open, in pixels"
        )
