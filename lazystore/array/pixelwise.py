"""Frames added up pixel by pixel while they are decoded, on every core: no temporary beside the sums.

Decoding is all that this should cost: a batch of chunks is decoded into memory that is used again, and
compiled loops add it to the sums while it is still in the processor's cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.frame_runs import MAX_RUN_FRAMES, Run, columns_of, decoded, n_frames_of, stretches
from lazystore.array.reading import ordered_map, positions_of, read_threads
from lazystore.array.view import View
from lazystore.overviews.rows import Row, joined, variance_of_integers, wide_dtype

# Sums that runs under way may hold together.
MAX_SUMS_BYTES = 256 * 1024 * 1024


def names_for(operation: str, dtype: np.dtype[Any], *, skipna: bool = False) -> tuple[str, ...]:
    """What has to be added up.

    >>> names_for("std", np.dtype("u1")), names_for("mean", np.dtype("f4"))
    (('sum', 'sum_squares'), ('sum',))
    """
    if operation in ("min", "max"):
        return (operation,)
    if operation in ("var", "std"):
        exact = dtype.kind in "biu" and dtype.itemsize <= 2
        return ("sum", "sum_squares") if exact else ("sum", "squared_deviations", "valid_count")
    return ("sum", "valid_count") if skipna and dtype.kind == "f" else ("sum",)


def added_up(
    views: Sequence[View], names: Sequence[str], *, skipna: bool = False, rounded: bool = False
) -> Row:
    """What is known of the frames of some views, pixel by pixel.

    Parameters
    ----------
    views
        Of one array, with at least one frame together and the same selection of the other axes.
    names
        From `names_for`.
    skipna
        Leave NaN out; else it stays, and infinities do what they do in numpy.
    rounded
        Add integers up in float64, for means of values whose exact sum might overflow.

    Returns
    -------
    Row
        Arrays over the axes that are left beside time.

    Notes
    -----
    Runs of frames are added up on threads and joined in their order; where one begins depends on the
    selection only, so the result does not depend on the number of threads.
    """
    columns = list(columns_of(views[0]))
    dtype = views[0].reader.spec.dtype
    adder = functools.partial(_add_run, names=tuple(names), skipna=skipna, rounded=rounded)
    # Of every name eight bytes at most, for the runs being added up and those that wait to be joined.
    sums_bytes = 8 * len(names) * max(math.prod(column.shape) for column in columns)
    threads = max(1, min(read_threads(), MAX_SUMS_BYTES // max(1, 3 * sums_bytes)))
    shape = views[0].shape[1:]
    result: Row = {}
    along_time = list(stretches(views))
    todo = (Run(view, column, pieces) for column in columns for view, pieces in along_time)
    found = ordered_map(adder, todo, threads)
    boxed = [len(positions_of(entry)) for entry in views[0].selection[1:]]
    for number, column in enumerate(columns):
        row: Row = {}
        with np.errstate(invalid="ignore", over="ignore"):
            for _ in along_time:
                more = next(found)
                row = _joined(row, more, skipna=skipna and dtype.kind == "f") if row else more
        row = {name: _widened(name, values) for name, values in row.items()}
        if len(columns) == 1:
            return {name: values.reshape(shape) for name, values in row.items()}
        for name, values in row.items():
            if not number:
                result[name] = np.empty(boxed, values.dtype)
            result[name][column.target] = values.reshape(column.shape)
    return {name: values.reshape(shape) for name, values in result.items()}


def _joined(row: Row, other: Row, *, skipna: bool) -> Row:
    together = joined(row, other)
    if skipna:
        for name, ufunc in (("min", np.fmin), ("max", np.fmax)):
            if name in row:
                together[name] = ufunc(row[name], other[name])
    return together


def _widened(name: str, values: NDArray[Any]) -> NDArray[Any]:
    return values if name in ("min", "max") else values.astype(wide_dtype(name, values.dtype), copy=False)


def result_of(row: Row, operation: str, n_frames: int, ddof: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A reduction over time from what was added up over `n_frames` values; dtypes as in `reduce`."""
    if operation in ("min", "max"):
        return row[operation].astype(dtype, copy=False)
    total = row["sum"]
    if operation == "sum":
        return total.astype(np.uint64) if dtype.kind == "u" else total
    n = row.get("valid_count", n_frames)
    with np.errstate(invalid="ignore", divide="ignore"):
        if operation == "mean":
            return np.asarray(total / n)
        if "sum_squares" in row:
            variance = variance_of_integers(total, row["sum_squares"], n_frames, ddof)
        else:
            variance = np.where(n - ddof > 0, row["squared_deviations"] / (n - ddof), np.nan)
        return np.sqrt(variance) if operation == "std" else variance


def folded(row: Row, n_frames: int, axes: tuple[int, ...], *, skipna: bool) -> tuple[Row, int]:
    """The row over some of its own axes too, and how many values each is of then.

    Parameters
    ----------
    axes
        Positions among the axes beside time.
    """
    shape = next(iter(row.values())).shape
    n_values = n_frames * math.prod(shape[axis] for axis in axes)
    result: Row = {}
    for name, values in row.items():
        if name in ("min", "max"):
            plain, skipping = (np.minimum, np.fmin) if name == "min" else (np.maximum, np.fmax)
            result[name] = (skipping if skipna else plain).reduce(values, axis=axes)
        elif name in ("sum", "valid_count"):
            result[name] = values.sum(axis=axes, dtype=wide_dtype(name, values.dtype))
    if "sum_squares" in row or "squared_deviations" in row:
        # Sums of squares of all pixels might overflow: from here on distances from the mean of all.
        n = row.get("valid_count", np.float64(n_frames))
        if "sum_squares" in row:
            spread = n * variance_of_integers(row["sum"], row["sum_squares"], n_frames, 0)
        else:
            spread = row["squared_deviations"]
        count = result.setdefault("valid_count", np.full(result["sum"].shape, n_values, np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            middle = np.expand_dims(result["sum"] / count, axes)
            apart = np.where(np.asarray(n) > 0, row["sum"] / n - middle, 0.0)
            result["squared_deviations"] = (spread + n * apart * apart).sum(axis=axes)
    return result, n_values


# --- reading and adding -------------------------------------------------------------------------


def _add_run(run: Run, *, names: tuple[str, ...], skipna: bool, rounded: bool) -> Row:
    dtype = run.view.reader.spec.dtype
    size = math.prod(run.column.shape)
    n_frames = sum(n_frames_of(source) for _, source in run.pieces)
    row = {name: _nothing(name, names, dtype, size, n_frames, skipna, rounded) for name in names}
    add = _adder(names, row, skipna=skipna and dtype.kind == "f")
    column = run.column
    for frames in decoded(run):
        values = frames if column.picked is None else np.take(frames, column.picked, axis=1)
        add(_for_kernels(values), column.starts, column.length)
    return {name: _as_counted(name, values) for name, values in row.items()}


def _as_counted(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Squares, which are added up in the values' own sign, and counts, added up in float64, as integers."""
    if name == "sum_squares":
        return values.view(f"u{values.itemsize}")
    return values.astype(np.int64) if name == "valid_count" else values


def _for_kernels(frames: NDArray[Any]) -> NDArray[Any]:
    """In a type that compiled loops have; widening is exact."""
    if frames.dtype.kind == "b":
        return frames.view(np.uint8)
    return frames.astype(np.float32) if frames.dtype == np.float16 else frames


def _nothing(
    name: str,
    names: Sequence[str],
    dtype: np.dtype[Any],
    size: int,
    n_frames: int,
    skipna: bool,
    rounded: bool,
) -> NDArray[Any]:
    """The row of no frames, in a type that holds so many."""
    if name in ("min", "max"):
        kind = np.dtype(np.float32) if dtype == np.float16 else dtype
        return np.full(size, _start_of(name, dtype, skipna), kind)
    if dtype.kind == "f" or rounded or "squared_deviations" in names:
        return np.zeros(size, np.float64)
    # One byte a value, or two and no squares: half the width is twice the values an instruction adds.
    is_narrow = dtype.itemsize + (name == "sum_squares") <= 2 and n_frames <= MAX_RUN_FRAMES
    return np.zeros(size, f"{'i' if dtype.kind == 'i' else 'u'}{4 if is_narrow else 8}")


def _start_of(name: str, dtype: np.dtype[Any], skipna: bool) -> Any:
    if dtype.kind == "f":
        return math.nan if skipna else (math.inf if name == "min" else -math.inf)
    if dtype.kind == "b":
        return name == "min"
    return np.iinfo(dtype).max if name == "min" else np.iinfo(dtype).min


def _adder(names: tuple[str, ...], row: Row, *, skipna: bool) -> Callable[..., None]:
    from lazystore.array import pixel_kernels as kernels

    def extremes(frames: NDArray[Any], starts: NDArray[np.int64], length: int) -> None:
        for name, kernel in (("min", kernels.lower), ("max", kernels.heighten)):
            if name in row:
                kernel(
                    frames,
                    starts,
                    length,
                    skipna,
                    row[name].view(np.uint8) if row[name].dtype.kind == "b" else row[name],
                )

    def spread(frames: NDArray[Any], starts: NDArray[np.int64], length: int) -> None:
        sums = (row["sum"], row["valid_count"], row["squared_deviations"])
        kernels.add_spread(frames, starts, length, skipna, *sums)

    def sums(frames: NDArray[Any], starts: NDArray[np.int64], length: int) -> None:
        if "sum_squares" in row:
            kernels.add_squares(frames, starts, length, row["sum"], row["sum_squares"])
        elif "valid_count" in row:
            kernels.add_valid(frames, starts, length, row["sum"], row["valid_count"])
        else:
            kernels.add_sum(frames, starts, length, row["sum"])

    return extremes if "sum" not in names else spread if "squared_deviations" in names else sums
