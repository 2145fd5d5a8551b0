"""mean, sum, min, max, var and std over any axes of a view, out of core and in float64."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.overviews import reduced_along_time
from lazystore.array.pixelwise import added_up, folded, names_for, result_of
from lazystore.array.tiles import Box
from lazystore.array.view import View
from lazystore.cache.guard import check_budget
from lazystore.errors import UsageError

OPERATIONS = ("mean", "sum", "min", "max", "var", "std")
# Bytes of one box: small enough for several at once, large enough that numpy's calls are cheap.
BOX_BYTES = 8 * 1024 * 1024
# From where compiled loops pay. Importing and loading them takes half a second of a processor once a process:
# numpy's way takes as long for the mean of 200 MB, for the std of 60 MB.
MIN_COMPILED_BYTES = dict.fromkeys(OPERATIONS, 128 * 1024 * 1024)
MIN_COMPILED_BYTES |= {"var": 32 * 1024 * 1024, "std": 32 * 1024 * 1024}
# A loop over a few pixels is no loop.
MIN_PIXELS = 64
# A value of a result, and the mean and the count beside it while a variance is added up.
SUMS_BYTES = 3 * 8
# A variance needs a float64 copy of its box.
VARIANCE_BOX_VALUES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be computed: `axes` are positions in the view's shape, ascending."""

    operation: str = "mean"
    axes: tuple[int, ...] = ()
    keepdims: bool = False
    ddof: float = 0
    skipna: bool = False


def axes_of(dims: tuple[str, ...], wanted: Any) -> tuple[int, ...]:
    """Axis numbers for None (all), an axis name, a number, or a sequence of either.

    Raises
    ------
    UsageError
        For an axis that the array does not have, or one named twice.

    >>> axes_of(("time", "y", "x"), "time"), axes_of(("time", "y", "x"), (-1, "y"))
    ((0,), (1, 2))
    """
    if wanted is None:
        return tuple(range(len(dims)))
    listed = wanted if isinstance(wanted, tuple | list) else (wanted,)
    axes = []
    for one in listed:
        if isinstance(one, str):
            if one not in dims:
                raise UsageError(f"dimension {one!r} is not one of {dims}")
            axes.append(dims.index(one))
        else:
            axis = int(one)
            if not -len(dims) <= axis < len(dims):
                raise UsageError(f"axis {axis} is outside the {len(dims)} axes {dims}")
            axes.append(axis % len(dims))
    if len(set(axes)) < len(axes):
        raise UsageError(f"axes {wanted!r} name one axis of {dims} twice")
    return tuple(sorted(axes))


def reduce(view: View, request: Request, *, skip_missing: bool = False) -> Any:
    """The reduction's result: an array over the axes that stay, or a numpy scalar.

    Notes
    -----
    Integer sums, minima and maxima are exact, as numpy's. Means, variances and floating sums are
    float64 (complex128), whatever the data's width. Boxes are combined in a fixed order, so the
    result does not depend on the number of threads.

    Raises
    ------
    MissingFrameError
        If a selected frame is missing, unless `skip_missing` and axis 0 is reduced.
    MemoryBudgetError
        If the result itself is larger than the budget.
    UsageError
        For values that cannot be added, or the minimum of nothing.
    """
    dtype = view.reader.spec.dtype
    if dtype.kind not in "biufc" or (dtype.kind == "c" and request.operation in ("min", "max")):
        raise UsageError(
            f"{request.operation} of {dtype} values is not defined here; call a.load() and use numpy"
        )
    if skip_missing and 0 in request.axes:
        view = view.without_missing()
    elif skip_missing and (lost := view.missing_mask()).any():
        return _with_gaps(reduce(view.without_missing(), request), lost)
    view.check_missing()
    kept = tuple(size for axis, size in enumerate(view.shape) if axis not in request.axes)
    n_reduced = math.prod([size for axis, size in enumerate(view.shape) if axis in request.axes])
    if request.operation in ("min", "max") and not n_reduced and 0 not in kept:
        raise UsageError(f"{request.operation} over no values: shape {view.shape}, axes {request.axes}")
    # Over the colours of a movie that is as long as the movie.
    over = ", ".join(view.dims[axis] for axis in request.axes)
    what = f"{view.name!r}: the {request.operation} over {over} has {math.prod(kept)} values and needs"
    check_budget(math.prod(kept) * SUMS_BYTES, what, "Take a slice, reduce more axes")
    result = _from_statistics(view, request)
    if result is None:
        result = _from_overviews(view, request)
    if result is None:
        result = _pixelwise(view, request)
    if result is None:
        result = _COMPUTE[request.operation](view, request, kept)
    if request.keepdims:
        result = result.reshape([1 if axis in request.axes else size for axis, size in enumerate(view.shape)])
    return result[()] if result.ndim == 0 else result


def _with_gaps(found: NDArray[Any], lost: NDArray[np.bool_]) -> NDArray[Any]:
    """One result a frame, NaN for the lost ones; integers become float64 to hold it."""
    result = np.full((len(lost), *found.shape[1:]), np.nan, np.result_type(found, np.float16))
    result[~lost] = found
    return result


# --- from per-frame statistics ------------------------------------------------------------------


def _from_statistics(view: View, request: Request) -> NDArray[Any] | None:
    """The exact result without reading a frame, or None.

    Only where the statistics are all there is to know: whole frames, every value finite.
    """
    frames = view.frames
    n_axes = len(view.shape)
    if view.statistics is None or not view.holds_whole_frames or isinstance(frames, int) or not len(frames):
        return None
    if not set(range(1, n_axes)) <= set(request.axes) or not view.reader.spec.shape[1:]:
        return None
    start, stop = int(min(frames)), int(max(frames)) + 1
    where = np.asarray(frames) - start
    frame_size = math.prod(view.shape[1:])

    def fact(name: str) -> NDArray[Any] | None:
        assert view.statistics is not None
        values = view.statistics.per_frame(name, start, stop)
        return None if values is None else values[where]

    valid = fact("valid_count")
    if valid is None or not frame_size or (valid != frame_size).any():
        return None
    whole = 0 in request.axes
    if request.operation in ("min", "max"):
        extremes = fact(request.operation)
        if extremes is None:
            return None
        return np.asarray(getattr(extremes, request.operation)() if whole else extremes)
    sums, dtype = fact("sum"), view.reader.spec.dtype
    # Stored floating sums are rounded; only integer ones are the numbers themselves.
    if sums is None or sums.dtype.kind not in "iu" or dtype.kind == "f":
        return None
    count = frame_size * (len(frames) if whole else 1)
    total = sums.sum(dtype=sums.dtype) if whole else sums
    if request.operation == "sum":
        return np.asarray(total, _sum_dtype(dtype))
    if request.operation == "mean":
        return np.asarray(total / count)
    squares = fact("sum_squares")
    if squares is None or squares.dtype.kind not in "iu":
        return None
    return _variance_of_sums(total, squares.sum(dtype=np.uint64) if whole else squares, count, request)


def _from_overviews(view: View, request: Request) -> NDArray[Any] | None:
    """The result with only the frames read that lie in no whole bin, or None."""
    if 0 not in request.axes or not view.selection or isinstance(view.frames, int) or not view.shape[0]:
        return None
    others = tuple(axis - 1 for axis in request.axes[1:])
    operation = request.operation
    if not others:
        return reduced_along_time(view, operation, request.ddof)
    # The spread over pixels and time is not that of each pixel.
    if operation in ("var", "std"):
        return None
    of_pixels = reduced_along_time(view, "sum" if operation == "mean" else operation, 0)
    if of_pixels is None:
        return None
    if operation in ("min", "max"):
        return np.asarray(getattr(of_pixels, operation)(axis=others))
    n_values = math.prod(view.shape[axis] for axis in request.axes)
    total = of_pixels.sum(axis=others, dtype=of_pixels.dtype)
    return np.asarray(total / n_values if operation == "mean" else total)


def _variance_of_sums(total: Any, squares: Any, count: int, request: Request) -> NDArray[Any]:
    """Variance from exact integer sums; n·Σx² - (Σx)² leaves 64 bits, Python's integers do not."""

    def one(total: int, square: int) -> float:
        spread = count * square - total * total
        freedom = count * (count - request.ddof)
        return spread / freedom if freedom > 0 else math.nan

    pairs = zip(np.atleast_1d(total).tolist(), np.atleast_1d(squares).tolist(), strict=True)
    variances = np.array([one(*pair) for pair in pairs]).reshape(np.shape(total))
    return np.sqrt(variances) if request.operation == "std" else variances


def _pixelwise(view: View, request: Request) -> NDArray[Any] | None:
    """The result by compiled loops, every frame read once, or None where these do not pay."""
    dtype = view.reader.spec.dtype
    if not request.axes or request.axes[0] != 0 or isinstance(view.frames, int) or dtype.kind == "c":
        return None
    n_bytes = math.prod(view.shape) * dtype.itemsize
    if math.prod(view.shape[1:]) < MIN_PIXELS or n_bytes < MIN_COMPILED_BYTES[request.operation]:
        return None
    skipna = request.skipna and dtype.kind == "f"
    # Eight-byte integers could overflow their exact sum.
    rounded = request.operation == "mean" and dtype.itemsize == 8
    names = names_for(request.operation, dtype, skipna=skipna)
    row, n = added_up([view], names, skipna=skipna, rounded=rounded), view.shape[0]
    if others := tuple(axis - 1 for axis in request.axes[1:]):
        row, n = folded(row, n, others, skipna=skipna)
    return result_of(row, request.operation, n, request.ddof, dtype)


# --- by reading ---------------------------------------------------------------------------------


def _sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What numpy adds integers in, and float64 or complex128 for the rest."""
    if dtype.kind == "c":
        return np.dtype(np.complex128)
    if dtype.kind == "f":
        return np.dtype(np.float64)
    return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)


def _kept_region(box: Box, axes: tuple[int, ...]) -> Box:
    return tuple(part for axis, part in enumerate(box) if axis not in axes)


def _box_values(view: View) -> int:
    return BOX_BYTES // max(1, view.reader.spec.dtype.itemsize)


def _parts(view: View, work: Callable[[NDArray[Any]], Any], max_values: int) -> Iterator[tuple[Box, Any]]:
    def quietly(values: NDArray[Any]) -> Any:
        # Set where the work runs, on a thread of the pool: NaN is a result here, not a surprise.
        with np.errstate(invalid="ignore", divide="ignore"):
            return work(values)

    return view.map_boxes(quietly, max_values)


def _extreme(view: View, request: Request, kept: tuple[int, ...]) -> NDArray[Any]:
    smallest = request.operation == "min"
    if request.skipna:
        join: np.ufunc = np.fmin if smallest else np.fmax
    else:
        join = np.minimum if smallest else np.maximum
    result = np.empty(kept, view.reader.spec.dtype)
    begun: set[tuple[int, ...]] = set()
    for box, part in _parts(view, functools.partial(join.reduce, axis=request.axes), _box_values(view)):
        region = _kept_region(box, request.axes)
        # Boxes are a product of intervals, so a region is met whole or not at all.
        place = tuple(interval.start for interval in region)
        result[region] = join(result[region], part) if place in begun else part
        begun.add(place)
    return result


def _sum_of(
    values: NDArray[Any], axes: tuple[int, ...], dtype: np.dtype[Any], skipna: bool
) -> tuple[Any, Any]:
    """Sum and number of values; NaN left out on request."""
    if skipna and values.dtype.kind in "fc":
        absent = np.isnan(values)
        values = np.where(absent, values.dtype.type(0), values)
        return np.sum(values, axis=axes, dtype=dtype), np.sum(~absent, axis=axes)
    return np.sum(values, axis=axes, dtype=dtype), math.prod(values.shape[axis] for axis in axes)


def _totals(
    view: View, request: Request, kept: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    total, count = np.zeros(kept, dtype), np.zeros(kept, np.int64)

    def work(values: NDArray[Any]) -> tuple[Any, Any]:
        return _sum_of(values, request.axes, dtype, request.skipna)

    for box, (part, n_values) in _parts(view, work, _box_values(view)):
        region = _kept_region(box, request.axes)
        # As an array also where no axis is left: a wrapping sum wraps silently there, as in numpy.
        everywhere: tuple[Any, ...] = (*region, ...)
        into = total[everywhere]
        into += part
        count[region] += n_values
    return total, count


def _sum(view: View, request: Request, kept: tuple[int, ...]) -> NDArray[Any]:
    return _totals(view, request, kept, _sum_dtype(view.reader.spec.dtype))[0]


def _mean(view: View, request: Request, kept: tuple[int, ...]) -> NDArray[Any]:
    dtype = view.reader.spec.dtype
    # Eight-byte integers could overflow their exact sum.
    exact = dtype.kind in "biu" and dtype.itemsize < 8
    adding = _sum_dtype(dtype) if exact or dtype.kind == "c" else np.dtype(np.float64)
    total, count = _totals(view, request, kept, adding)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / count)


def _variance(view: View, request: Request, kept: tuple[int, ...]) -> NDArray[Any]:
    """Chan's pairwise update: no cancellation, one pass, exact to rounding."""
    wide = np.dtype(np.complex128 if view.reader.spec.dtype.kind == "c" else np.float64)
    mean, spread, count = np.zeros(kept, wide), np.zeros(kept), np.zeros(kept, np.int64)

    def work(values: NDArray[Any]) -> tuple[Any, Any, Any]:
        total, n_values = _sum_of(values, request.axes, wide, request.skipna)
        middle = np.asarray(total / n_values)
        distance = values - np.expand_dims(middle, request.axes)
        squares = (distance * distance.conj()).real if wide.kind == "c" else np.square(distance, out=distance)
        return (np.nansum if request.skipna else np.sum)(squares, axis=request.axes), middle, n_values

    for box, (part, middle, n_values) in _parts(view, work, VARIANCE_BOX_VALUES):
        region = _kept_region(box, request.axes)
        before, joint = count[region], count[region] + n_values
        with np.errstate(invalid="ignore", divide="ignore"):
            step = middle - mean[region]
            # A box without a valid value has no middle, and changes nothing.
            moves = np.asarray(n_values) > 0
            mean[region] = np.where(moves, mean[region] + step * (n_values / joint), mean[region])
            between = np.where(moves, np.abs(step) ** 2 * (before * (n_values / joint)), 0)
        spread[region] = spread[region] + part + between
        count[region] = joint
    freedom = count - request.ddof
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(freedom > 0, spread / freedom, np.nan)
    return np.sqrt(variance) if request.operation == "std" else variance


_COMPUTE = {
    "mean": _mean, "sum": _sum, "min": _extreme, "max": _extreme, "var": _variance, "std": _variance,
}  # fmt: skip
