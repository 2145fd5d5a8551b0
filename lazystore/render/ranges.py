"""Which values the first and the last colour stand for.

The functions have neurospatial's names, parameters and results. Fields that know their own range (a
LazyArray of a store with statistics) are asked for it: exact, at once, and for a time range as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.render.fields import Frames, frames_of

# Values of one pass through the fields that are held at a time.
BLOCK_BYTES = 32 * 2**20
# Above this, a range that must be read from all frames is taken from some of them, as neurospatial does.
MAX_FRAMES_EXACT = 200_000
NOTHING_FINITE = (np.inf, -np.inf)


def compute_global_colormap_range(
    fields: Any,
    vmin: float | None = None,
    vmax: float | None = None,
    max_frames_for_exact: int = 50_000,
    sample_stride: int | None = None,
) -> tuple[float, float]:
    """Smallest and largest finite value of all frames.

    Parameters
    ----------
    fields
        Shape (time, bin), of any kind that `LazyFieldRenderer` takes. Read in blocks of bounded size.
    vmin, vmax
        Given: taken as they are.
    max_frames_for_exact
        Accepted for neurospatial's sake. The result is exact for any number of frames.
    sample_stride
        Look at every n-th frame only, >= 1. Ignored for lists, and where the fields know their range.

    Returns
    -------
    tuple of float
        (vmin, vmax). (0, 1) without frames or without a finite value; half a unit to either side of a
        constant.

    Examples
    --------
    >>> compute_global_colormap_range(np.array([[1.0, np.nan], [4.0, np.inf]]))
    (1.0, 4.0)
    >>> compute_global_colormap_range(np.full((3, 2), 7.0))
    (6.5, 7.5)
    """
    del max_frames_for_exact
    if vmin is None or vmax is None:
        if len(fields) == 0:
            return 0.0, 1.0
        lowest, highest = _own_range(fields, sample_stride)
        vmin = lowest if vmin is None else vmin
        vmax = highest if vmax is None else vmax
    return _usable(vmin, vmax)


def estimate_colormap_range_from_subset(
    fields: Any,
    n_samples: int = 10_000,
    percentile: tuple[float, float] = (1.0, 99.0),
    seed: int | None = None,
) -> tuple[float, float]:
    """Two percentiles of the finite values of randomly chosen frames.

    Parameters
    ----------
    fields
        Shape (time, bin), of any kind that `LazyFieldRenderer` takes.
    n_samples
        Frames to look at, at most. All of them where there are no more.
    percentile
        Lower and upper, in [0, 100].
    seed
        For the choice of frames; the same frames as neurospatial chooses.

    Returns
    -------
    tuple of float
        (vmin, vmax); (0, 1) without a finite value.

    Notes
    -----
    Fields that know their percentiles are asked for them: all frames count and nothing is chosen by
    chance. Exact for 8- and 16-bit values; for floats the outer bounds of the statistics' brackets.
    """
    if _knows_range(fields):
        low, high = (float(number) for number in fields.range(percentile=percentile))
        return (low, high) if np.isfinite(low) and np.isfinite(high) else (0.0, 1.0)
    frames = frames_of(fields)
    if frames.n_frames <= n_samples:
        wanted = np.arange(frames.n_frames)
    else:
        wanted = np.random.default_rng(seed).choice(frames.n_frames, size=n_samples, replace=False)
        wanted.sort()  # neighbours share a block of a chunked array, and a percentile asks no order
    sampled = [frames.frame(int(index)) for index in wanted]
    values = np.concatenate([frame.ravel() for frame in sampled]) if sampled else np.empty(0)
    del sampled
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    if values.dtype == bool:
        values = values.view(np.uint8)  # numpy has no percentile of truth values
    # One by one: numpy computes in the values' precision for a single number, in float64 for several.
    low, high = (float(np.percentile(values, one, overwrite_input=True)) for one in percentile)
    return low, high


def large_session_napari_config(n_frames: int, sample_rate_hz: int | None = None) -> dict[str, Any]:
    """Chunk size and number of chunks that suit a recording of this length.

    Parameters
    ----------
    n_frames
        Frames in the recording.
    sample_rate_hz
        Accepted for neurospatial's sake; the speed of playback comes from the frame times.

    Examples
    --------
    >>> large_session_napari_config(300_000)
    {'chunk_size': 1000, 'max_chunks': 50}
    """
    del sample_rate_hz
    sizes = ((50_000, 100, 10), (200_000, 500, 20), (1_000_000, 1000, 50))
    for below, chunk_size, max_chunks in sizes:
        if n_frames < below:
            return {"chunk_size": chunk_size, "max_chunks": max_chunks}
    return {"chunk_size": 1000, "max_chunks": 100}


def range_for_display(movies: Sequence[Any], vmin: float | None, vmax: float | None) -> tuple[float, float]:
    """The one range to show these fields with, as neurospatial chooses it where none is given.

    Exact, except for fields that do not know their range and have more than 200,000 frames: of those
    every n-th frame is looked at, about 50,000 in all, with a warning.
    """
    if vmin is None or vmax is None:
        ranges = [_own_range(fields, _stride_for_display(fields)) for fields in movies if len(fields)]
        lowest = min((low for low, _ in ranges), default=0.0)
        highest = max((high for _, high in ranges), default=1.0)
        vmin = lowest if vmin is None else vmin
        vmax = highest if vmax is None else vmax
    return _usable(vmin, vmax)


def _stride_for_display(fields: Any) -> int | None:
    n_frames = len(fields)
    if n_frames <= MAX_FRAMES_EXACT or _knows_range(fields):
        return None
    stride = n_frames // 50_000
    warnings.warn(
        f"colour range taken from every {stride}th of {n_frames:,} frames: pass vmin and vmax, or convert "
        "the fields to a store, which knows its range",
        UserWarning,
        stacklevel=4,
    )
    return stride


def _knows_range(fields: Any) -> bool:
    return callable(getattr(fields, "range", None))


def _own_range(fields: Any, sample_stride: int | None) -> tuple[float, float]:
    """Smallest and largest finite value; the first above the second where there is none."""
    if not _knows_range(fields):
        return _smallest_and_largest(fields, sample_stride)
    low, high = (float(number) for number in fields.range())
    return (low, high) if np.isfinite(low) and np.isfinite(high) else NOTHING_FINITE


def _usable(vmin: float, vmax: float) -> tuple[float, float]:
    """The same range, or one that colours can be spread over."""
    if not np.isfinite(vmin) or not np.isfinite(vmax):
        return 0.0, 1.0
    if vmin == vmax:
        return float(vmin) - 0.5, float(vmax) + 0.5
    return float(vmin), float(vmax)


def _smallest_and_largest(fields: Any, sample_stride: int | None) -> tuple[float, float]:
    frames = frames_of(fields)
    lowest, highest = NOTHING_FINITE
    if _is_ragged(fields):
        extremes = (_extremes_of_finite_frame(frame) for frame in map(np.asarray, fields))
    else:
        strided = sample_stride if hasattr(fields, "shape") else None
        extremes = (_finite_extremes(block) for block in _blocks(frames, strided or 1))
    for low, high in extremes:
        lowest, highest = min(lowest, low), max(highest, high)
    return lowest, highest


def _blocks(frames: Frames, stride: int) -> Iterator[NDArray[Any]]:
    """All frames, or every n-th, in arrays of bounded size."""
    if stride > 1:
        yield from (frames.frame(index) for index in range(0, frames.n_frames, stride))
        return
    step = max(1, BLOCK_BYTES // max(1, frames.frame(0).nbytes))
    for start in range(0, frames.n_frames, step):
        block = frames.block(start, min(start + step, frames.n_frames))
        yield from [block] if isinstance(block, np.ndarray) else block


def _finite_extremes(values: NDArray[Any]) -> tuple[float, float]:
    if not values.size:
        return NOTHING_FINITE
    # Mostly everything is finite, and then two plain passes do: four times faster than masking first.
    low, high = float(values.min()), float(values.max())
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    finite = np.isfinite(values)
    low, high = (
        float(x)
        for x in (values.min(initial=np.inf, where=finite), values.max(initial=-np.inf, where=finite))
    )
    return low, high


def _is_ragged(fields: Any) -> bool:
    """Whether a list holds frames of different lengths: then neurospatial judges frame by frame."""
    return isinstance(fields, list) and len({np.shape(frame) for frame in fields}) > 1


def _extremes_of_finite_frame(frame: NDArray[Any]) -> tuple[float, float]:
    """Smallest and largest but NaN; an infinite one does not count, nor does it reveal the next."""
    values = frame[~np.isnan(frame)]
    low, high = (float(values.min()), float(values.max())) if values.size else (np.nan, np.nan)
    return (low if np.isfinite(low) else np.inf), (high if np.isfinite(high) else -np.inf)
