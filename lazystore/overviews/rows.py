"""What is known of one bin of frames, pixel by pixel: added to, joined with its neighbours, exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def small_row(frames: NDArray[Any], preview: Preview) -> Row:
    """Of the preview's blocks of pixels over frames (time, y, x[, channel]), time at least 1.

    Returns
    -------
    Row
        ``sum``, ``min``, ``max`` as float64, ``valid_count`` as int64; shape (y, x[, channel]).
    """
    # Over time first, many pixels at once; blocks are then made of one picture.
    row = _plain_row(frames)
    shape = preview_shape(frames.shape, preview)[1:]
    total, low, high = np.zeros(shape), np.full(shape, np.inf), np.full(shape, -np.inf)
    _shrink(row["sum"], row["min"], row["max"], preview.factor, total, low, high)
    if "valid_count" in row:
        valid, count = row["valid_count"], np.zeros(shape)
        _shrink(valid, valid, valid, preview.factor, count, np.zeros(shape), np.zeros(shape))
        counts = count.astype(np.int64)
    else:
        heights, widths = (_block_sizes(size, preview.factor) for size in frames.shape[1:3])
        block = heights[:, None] * widths * len(frames)
        counts = np.broadcast_to(block.reshape(*block.shape, *[1] * (len(shape) - 2)), shape).copy()
    return {"sum": total, "valid_count": counts, "min": low, "max": high}


def _block_sizes(size: int, factor: int) -> NDArray[np.int64]:
    """Pixels a block along one axis; the last may have fewer."""
    starts = np.arange(0, size, factor)
    return np.asarray(np.minimum(starts + factor, size) - starts, np.int64)


def _plain_row(frames: NDArray[Any]) -> Row:
    """Sum, extremes and, of floats, number of finite values: nothing that a picture does not show."""
    from lazystore.overviews.kernels import add_plain

    kind = frames.dtype
    if kind.kind == "f" or len(frames) > MAX_FRAMES_A_CALL:
        return row_of_frames(frames)
    flat = np.ascontiguousarray(frames).reshape(len(frames), -1)
    flat = flat.view(np.uint8) if kind.kind == "b" else flat
    total = np.zeros(flat.shape[1], np.int32 if kind.itemsize <= 2 else np.int64)
    low, high = flat[0].copy(), flat[0].copy()
    add_plain(flat, total, low, high)
    return {name: v.reshape(frames.shape[1:]) for name, v in (("sum", total), ("min", low), ("max", high))}


def _shrink(
    total: NDArray[Any], low: NDArray[Any], high: NDArray[Any], factor: int, *small: NDArray[Any]
) -> None:
    from lazystore.overviews.kernels import shrink

    channels = 1 if total.ndim == 2 else total.shape[2]
    large = (_lines(values) for values in (total, low, high))
    shrink(*large, channels, factor, *map(_lines, small))  # type: ignore[call-arg,arg-type]  # three and three


def _lines(values: NDArray[Any]) -> NDArray[Any]:
    """Pixels and channels of a line side by side."""
    return values.reshape(len(values), -1)


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
