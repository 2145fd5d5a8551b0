"""Reductions along time from a store's overviews: whole bins as stored, the ends from their frames."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.indexing import Selection
from lazystore.array.pixelwise import added_up, names_for, result_of
from lazystore.array.reading import ordered_map, read_selection
from lazystore.array.view import View
from lazystore.chunks import ceil_div
from lazystore.overviews.levels import GROUP, Levels, exact_dtypes
from lazystore.overviews.rows import Row, joined, needed_for, wide_dtype
from lazystore.protocols import ChunkReader

# What has to be joined for each operation, where the values are integers, and where floats.
_NEEDS = {
    "sum": ("sum",), "mean": ("sum",), "min": ("min",), "max": ("max",),
    "var": ("sum", "sum_squares"), "std": ("sum", "sum_squares"),
}  # fmt: skip


class StoredOverviews:
    """The arrays of an item's ``overview`` group.

    Parameters
    ----------
    levels
        Which there are.
    open_reader
        Gives a reader of the array at a path of the item; called once a path, when it is needed.
    """

    __slots__ = ("_open", "_readers", "levels")

    def __init__(self, levels: Levels, open_reader: Callable[[str], ChunkReader]) -> None:
        self.levels = levels
        self._open = open_reader
        self._readers: dict[str, ChunkReader] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredOverviews, (self.levels, self._open)

    def reader(self, n: int, name: str) -> ChunkReader:
        """Of one array of the level with `n` frames a bin."""
        path = f"{GROUP}/{n}/{name}"
        if path not in self._readers:
            self._readers[path] = self._open(path)
        return self._readers[path]

    def borders(self, start: int, stop: int, n_frames: int) -> tuple[int, int] | None:
        """The largest part of frames [start, stop) that whole exact bins make up, or None."""
        if not self.levels.exact:
            return None
        n = self.levels.exact[0]
        first = ceil_div(start, n) * n
        last = stop if stop == n_frames else stop // n * n
        return (first, last) if first < last else None

    def cover(self, first: int, last: int, n_frames: int) -> Iterator[tuple[int, range]]:
        """The fewest stored bins that make up frames [first, last): frames a bin, bin numbers."""
        position = first
        while position < last:
            n = max(n for n in self.levels.exact if position % n == 0 and min(position + n, n_frames) <= last)
            # As many of this size as there are before a larger one begins, or the end.
            stop = last if last == n_frames else last // n * n
            larger = [m for m in self.levels.exact if m > n]
            if larger and (border := ceil_div(position, larger[0]) * larger[0]) > position:
                stop = min(stop, border)
            bins = range(position // n, ceil_div(stop, n))
            yield n, bins
            position = bins.stop * n

    def row(self, first: int, last: int, n_frames: int, others: Selection, names: Sequence[str]) -> Row:
        """What is stored of frames [first, last), bins' borders, at a selection of the other axes."""

        def read(part: tuple[str, int, range]) -> NDArray[Any]:
            name, n, bins = part
            return read_selection(self.reader(n, name), (bins, *others))

        covering = list(self.cover(first, last, n_frames))
        parts = [(name, n, bins) for n, bins in covering for name in names]
        found = iter(list(ordered_map(read, parts)))
        rows = [dict(zip(names, found, strict=False)) for _ in covering]
        return functools.reduce(joined, (_one(row) for row in rows))

    def close(self) -> None:
        """Release files. Idempotent; the next call opens them again."""
        for reader in self._readers.values():
            reader.close()


def _one(rows: Row) -> Row:
    """Several bins' rows, stacked along axis 0, as one."""
    n_bins = len(next(iter(rows.values())))
    if "squared_deviations" in rows:
        return functools.reduce(joined, ({k: v[i] for k, v in rows.items()} for i in range(n_bins)))
    ufuncs: dict[str, np.ufunc] = {"min": np.minimum, "max": np.maximum}
    result: Row = {}
    for name, values in rows.items():
        if name in ufuncs:
            result[name] = ufuncs[name].reduce(values, axis=0)
        else:
            result[name] = values.sum(axis=0, dtype=wide_dtype(name, values.dtype))
    return result


def reduced_along_time(view: View, operation: str, ddof: float) -> NDArray[Any] | None:
    """A reduction of a view over its frames, or None where overviews do not help.

    Parameters
    ----------
    view
        With an ascending range of frames, without a gap; any selection of the other axes.
    operation
        As in `reduce`.

    Returns
    -------
    np.ndarray
        Over the axes that stay; sums as int64, uint64 or float64. Values that are not finite have
        no place in a stored sum: where whole bins hold one the answer is None.
    """
    frames, overviews = view.frames, view.overviews
    dtype, n_frames = view.reader.spec.dtype, view.reader.spec.shape[0]
    if overviews is None or not isinstance(frames, range) or frames.step != 1:
        return None
    borders = overviews.borders(frames.start, frames.stop, n_frames)
    names = _names(operation, dtype)
    if borders is None or not set(names) <= set(exact_dtypes(dtype, 1)):
        return None
    first, last = borders
    row = overviews.row(first, last, n_frames, view.selection[1:], names)
    if dtype.kind == "f" and (row["valid_count"] != last - first).any():
        return None
    ends = [
        view.pick([slice(start - frames.start, stop - frames.start), *_all(view)])
        for start, stop in ((frames.start, first), (last, frames.stop))
        if start < stop
    ]
    if ends:
        needed = names_for(operation, dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            row = joined({name: row[name] for name in needed}, added_up(ends, needed))
    return result_of(row, operation, len(frames), ddof, dtype)


def _names(operation: str, dtype: np.dtype[Any]) -> tuple[str, ...]:
    if dtype.kind != "f":
        return _NEEDS[operation]
    if operation in ("var", "std"):
        return needed_for("squared_deviations")
    return (*_NEEDS[operation], "valid_count")


def _all(view: View) -> list[slice]:
    return [slice(None)] * (len(view.shape) - 1)
