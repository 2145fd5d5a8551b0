"""What is known of one bin of frames, pixel by pixel: added to, joined with its neighbours, exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div
from lazystore.overviews.levels import Preview, preview_shape

type Row = dict[str, NDArray[Any]]
"""``sum``, ``min``, ``max`` and, by type, ``sum_squares`` or ``squared_deviations`` and ``valid_count``."""

# The scratch sums of one-byte frames hold this many of them.
MAX_FRAMES_A_CALL = 32_768


def row_of_frames(frames: NDArray[Any]) -> Row:
    """The row of a bin.

    Parameters
    ----------
    frames
        Shape (time, ...), one frame at least, real values of at most four bytes, or floats.

    Returns
    -------
    Row
        Arrays of a frame's shape: integer sums as int64 (squares uint64), exact; floating ones as
        float64 over the finite values, of which ``valid_count`` tells the number.

    >>> row = row_of_frames(np.array([[1, 200], [3, 100]], np.uint8))
    >>> [row[name].tolist() for name in ("sum", "sum_squares", "min", "max")]
    [[4, 300], [10, 50000], [1, 100], [3, 200]]
    """
    flat = np.ascontiguousarray(frames).reshape(len(frames), -1)
    row = _of_floats(flat) if flat.dtype.kind == "f" else _of_integers(flat)
    return {name: values.reshape(frames.shape[1:]) for name, values in row.items()}


def _of_integers(flat: NDArray[Any]) -> Row:
    from lazystore.overviews.kernels import TILE, add_integers, add_plain

    values = flat.view(np.uint8) if flat.dtype.kind == "b" else flat
    total = np.zeros(values.shape[1], np.int64)
    low, high = values[0].copy(), values[0].copy()
    row = {"sum": total, "min": low.view(flat.dtype), "max": high.view(flat.dtype)}
    if values.dtype.itemsize > 2:
        add_plain(values, total, low, high)
        return row
    squares = np.zeros(values.shape[1], np.uint64)
    narrow = (np.int32, np.uint32) if values.dtype.itemsize == 1 else (np.int64, np.uint64)
    scratch = np.empty(TILE, narrow[0]), np.empty(TILE, narrow[1])
    for start in range(0, len(values), MAX_FRAMES_A_CALL):
        add_integers(values[start : start + MAX_FRAMES_A_CALL], *scratch, total, squares, low, high)
    return {**row, "sum_squares": squares}


def _of_floats(flat: NDArray[Any]) -> Row:
    from lazystore.overviews.kernels import sum_floats

    # Compiled loops have no half precision; widening is exact.
    values = flat.astype(np.float32) if flat.dtype.itemsize == 2 else flat
    count, total, spread, low, high = (np.empty(values.shape[1]) for _ in range(5))
    sum_floats(values, count, total, spread, low, high)
    return {
        "sum": total, "squared_deviations": spread, "min": low, "max": high,
        "valid_count": count.astype(np.int64),
    }  # fmt: skip


def joined(row: Row, other: Row) -> Row:
    """Two neighbouring bins as one; deviations by the update of Chan, Golub and LeVeque (1983).

    >>> parts = [row_of_frames(np.array(part, np.uint8)) for part in ([[1], [2]], [[9]])]
    >>> joined(*parts)["sum"].tolist(), joined(*parts)["max"].tolist()
    ([12], [9])
    """
    result: Row = {}
    for name, values in row.items():
        if name in ("min", "max"):
            result[name] = (np.minimum if name == "min" else np.maximum)(values, other[name])
        elif name != "squared_deviations":
            # Stored sums are as narrow as their own bins allow.
            result[name] = np.add(values, other[name], dtype=wide_dtype(name, values.dtype))
    if "squared_deviations" in row:
        n, m = row["valid_count"].astype(np.int64), other["valid_count"].astype(np.int64)
        step = other["sum"] / np.maximum(m, 1) - row["sum"] / np.maximum(n, 1)
        between = np.where((n > 0) & (m > 0), step * step * (n * (m / np.maximum(n + m, 1))), 0.0)
        result["squared_deviations"] = row["squared_deviations"] + other["squared_deviations"] + between
    return result


def needed_for(name: str) -> tuple[str, ...]:
    """Names of what has to be joined for one of them to be.

    >>> needed_for("min"), needed_for("squared_deviations")
    (('min',), ('squared_deviations', 'sum', 'valid_count'))
    """
    return (name, "sum", "valid_count") if name == "squared_deviations" else (name,)


def empty_row(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Row:
    """The row of no frames: it changes nothing that it is joined with."""
    if dtype.kind == "f":
        row = {name: np.zeros(shape) for name in ("sum", "squared_deviations")}
        low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
        return {**row, "min": low, "max": high, "valid_count": np.zeros(shape, np.int64)}
    least, most = (False, True) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    row = {"sum": np.zeros(shape, np.int64)}
    row |= {"min": np.full(shape, most, dtype), "max": np.full(shape, least, dtype)}
    if dtype.itemsize <= 2:
        row["sum_squares"] = np.zeros(shape, np.uint64)
    return row


def wide_dtype(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What sums of a name are added in: any number of bins fits.

    >>> wide_dtype("sum", np.dtype("u2")).name, wide_dtype("sum_squares", np.dtype("u4")).name
    ('int64', 'uint64')
    """
    if dtype.kind == "f":
        return np.dtype(np.float64)
    return np.dtype(np.uint64 if name == "sum_squares" else np.int64)


class SmallSums:
    """The small picture of one bin of integers, added to frame by frame: exact, whatever the order.

    Keeps a row for each band of the preview's blocks: along it neighbours add in one instruction, and
    blocks are made once a bin.

    Parameters
    ----------
    shape
        Of a frame: (y, x[, channel]).
    dtype
        Truth values, or integers of at most four bytes.
    preview
        Its blocks of pixels; no more than its `n` frames are added.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], preview: Preview) -> None:
        self._shape, self._factor, self._n_frames = shape, preview.factor, 0
        self._dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
        limits = np.iinfo(self._dtype)
        height, width = shape[0], math.prod(shape[1:])
        bands = (ceil_div(height, preview.factor), width)
        largest = max(limits.max, -limits.min) * preview.n * min(preview.factor, height)
        # Half the width is twice the values an instruction adds.
        self._total = np.zeros(bands, np.int32 if largest < 2**31 else np.int64)
        self._low = np.full(bands, limits.max, self._dtype)
        self._high = np.full(bands, limits.min, self._dtype)

    def add(self, frames: NDArray[Any]) -> None:
        """Add frames (time, y, x[, channel])."""
        from lazystore.overviews.kernels import add_bands

        # Not -1, which has no meaning where a bin has lost all its frames.
        lines = (len(frames), frames.shape[1], math.prod(frames.shape[2:]))
        values = np.ascontiguousarray(frames).view(self._dtype).reshape(lines)
        add_bands(values, self._factor, self._total, self._low, self._high)
        self._n_frames += len(frames)

    def row(self) -> Row:
        """The row, as `small_row` has it."""
        shape = preview_shape((1, *self._shape), Preview(1, self._factor))[1:]
        row = empty_small_row(shape)
        channels = 1 if len(shape) == 2 else shape[2]
        if self._n_frames:
            _shrink((self._total, self._low, self._high), channels, 1, self._factor, row)
        heights, widths = (_block_sizes(size, self._factor) for size in self._shape[:2])
        block = heights[:, None] * widths * self._n_frames
        row["valid_count"] += block.reshape(*block.shape, *[1] * (len(shape) - 2))
        return row


def small_row(frames: NDArray[Any], preview: Preview) -> Row:
    """Of the preview's blocks of pixels over frames (time, y, x[, channel]), time at least 1.

    Returns
    -------
    Row
        ``sum``, ``min``, ``max`` as float64, ``valid_count`` as int64; shape (y, x[, channel]).
    """
    if frames.dtype.kind != "f":
        sums = SmallSums(frames.shape[1:], frames.dtype, Preview(len(frames), preview.factor))
        sums.add(frames)
        return sums.row()
    # Over time first, many pixels at once; blocks are then made of one picture.
    found = row_of_frames(frames)
    row = empty_small_row(preview_shape(frames.shape, preview)[1:])
    channels, factor = 1 if frames.ndim == 3 else frames.shape[3], preview.factor
    _shrink((found["sum"], found["min"], found["max"]), channels, factor, factor, row)
    valid, counts = found["valid_count"], empty_small_row(row["sum"].shape)
    _shrink((valid, valid, valid), channels, factor, factor, counts)
    return {**row, "valid_count": counts["sum"].astype(np.int64)}


def empty_small_row(shape: tuple[int, ...]) -> Row:
    """The row of a small picture without frames."""
    row = empty_row(np.dtype(np.float64), shape)
    return {name: row[name] for name in ("sum", "valid_count", "min", "max")}


def _block_sizes(size: int, factor: int) -> NDArray[np.int64]:
    """Pixels a block along one axis; the last may have fewer."""
    starts = np.arange(0, size, factor)
    return np.asarray(np.minimum(starts + factor, size) - starts, np.int64)


def _shrink(large: tuple[NDArray[Any], ...], channels: int, rows: int, factor: int, row: Row) -> None:
    """Sum, smallest and largest value of pixels, added to those of blocks of `rows` by `factor`."""
    from lazystore.overviews.kernels import shrink

    # Pixels and channels of a line side by side.
    small = (row[name].reshape(len(row[name]), -1) for name in ("sum", "min", "max"))
    flat = (values.reshape(len(values), -1) for values in large)
    shrink(*flat, channels, rows, factor, *small)  # type: ignore[call-arg,arg-type]  # three and three


def variance_of_integers(total: NDArray[Any], squares: NDArray[Any], n: int, ddof: float) -> NDArray[Any]:
    """Variance from exact sums over `n` values, correct to rounding.

    With q the mean rounded to an integer, Σ(x - q)² is an integer that fits where Σx² does, and
    what is left to subtract is at most half of it: nothing cancels.

    >>> variance_of_integers(np.array([6]), np.array([14], np.uint64), 3, 0).tolist()
    [0.6666666666666666]
    """
    if n - ddof <= 0:
        return np.full(total.shape, np.nan)
    total = total.astype(np.int64)
    middle = (2 * total + n) // (2 * n)
    rest = total - n * middle
    about_middle = squares.astype(np.int64) - middle * (2 * total - n * middle)
    return np.asarray((about_middle - rest * (rest / n)) / (n - ddof))
