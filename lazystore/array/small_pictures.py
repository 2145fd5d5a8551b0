"""Small pictures spread over a movie's time: as its overview keeps them, else made from frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.indexing import full_selection
from lazystore.array.labels import Coordinate, Coordinates
from lazystore.array.reading import read_selection
from lazystore.array.view import View
from lazystore.chunks import ceil_div
from lazystore.errors import UsageError
from lazystore.overviews.levels import Preview, is_image, preview_shape
from lazystore.overviews.rows import small_row


@dataclass(frozen=True, slots=True)
class SmallPictures:
    """What a preview shows.

    Attributes
    ----------
    values
        Shape (time, y, x[, channel]), or (time, ...) of frames that are no images.
    coords
        ``time`` and, of images, ``y`` and ``x``; ``first_frame`` and ``last_frame`` of each picture.
    about
        ``from`` (``"overview"`` or ``"frames"``), ``frames_a_picture`` and ``pixels_a_side``: how
        many frames, and how many pixels in a row, one value is the mean of.
    """

    values: NDArray[Any]
    coords: Mapping[str, Coordinate]
    about: Mapping[str, Any]


def small_pictures(
    view: View, coords: Coordinates, n: int, scale: float, *, from_frames: bool
) -> SmallPictures:
    """`n` pictures of a view, evenly spread; arguments as of `LazyArray.preview`.

    Raises
    ------
    UsageError
        For no pictures, a scale outside (0, 1], values that are not real numbers, an array without
        frames, or one whose frames are all missing.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise UsageError(f"preview of n={n!r} pictures; expected an integer of at least 1")
    if not isinstance(scale, int | float | np.number) or not 0 < scale <= 1:
        raise UsageError(f"preview at scale={scale!r}; expected a number above 0, at most 1")
    dims, dtype = view.dims, view.reader.spec.dtype
    if dtype.kind not in "biuf" or isinstance(view.frames, int) or not dims:
        raise UsageError(f"{view.name!r} holds {dtype} of shape {view.shape}: no pictures of it along time")
    kept = view.without_missing()
    if not kept.shape[0]:
        raise UsageError(f"{view.name!r} has no frame to preview; all {view.shape[0]} are missing")
    # One pixel in `block` squared: never more than was asked for.
    block = math.ceil(round(1 / scale, 9)) if is_image(dims) else 1
    found = None if from_frames else _from_overview(view, int(n), block)
    spans, block, values = found or _from_frames(view, kept, int(n), block)
    about = {
        "from": "frames" if found is None else "overview",
        "frames_a_picture": max(stop - start for start, stop in spans),
        "pixels_a_side": block,
    }
    return SmallPictures(values, _labels(view, coords, spans, block), about)


def spread(n_places: int, n: int) -> NDArray[np.intp]:
    """At most `n` of the places, the first and the last with them, evenly.

    >>> spread(9, 3).tolist(), spread(2, 5).tolist(), spread(9, 1).tolist()
    ([0, 4, 8], [0, 1], [4])
    """
    if n == 1:
        return np.array([(n_places - 1) // 2], np.intp)
    return np.unique(np.rint(np.linspace(0, n_places - 1, min(n, n_places))).astype(np.intp))


# Positions in the view of the first frame of each picture and of the one after its last; pixels a
# side; the pictures.
type _Found = tuple[list[tuple[int, int]], int, NDArray[Any]]


def _from_overview(view: View, n: int, block: int) -> _Found | None:
    """From the stored pictures, or None where they are too few, or of more than the view."""
    frames, overviews = view.frames, view.overviews
    preview = None if overviews is None else overviews.levels.preview
    if overviews is None or preview is None or not view.holds_whole_frames:
        return None
    if not isinstance(frames, range) or frames.step != 1:
        return None
    n_stored = view.reader.spec.shape[0]
    # Only bins that hold no frame but the view's; the last of the movie may be a short one.
    first = ceil_div(frames.start, preview.n)
    stop = ceil_div(n_stored, preview.n) if frames.stop == n_stored else frames.stop // preview.n
    bins = np.arange(first, stop)
    starts = bins * preview.n
    stops = np.minimum(starts + preview.n, n_stored)
    # A picture of lost frames alone is none.
    has_frames = [not view.missing.mask(range(a, b)).all() for a, b in zip(starts, stops, strict=True)]
    bins, starts, stops = (values[np.asarray(has_frames, np.bool_)] for values in (bins, starts, stops))
    if len(bins) < min(n, len(frames)):
        return None
    chosen = spread(len(bins), n)
    reader = overviews.reader(preview.n, "mean")
    rest = full_selection(reader.spec.shape[1:])
    values = read_selection(reader, (bins[chosen].astype(np.intp), *rest))
    # Smaller by whole blocks of what is stored, where it is larger than asked for.
    larger = ceil_div(block, preview.factor)
    if larger > 1:
        values = np.stack([_shrunk(picture, larger) for picture in values])
    spans = [(int(starts[i]) - frames.start, int(stops[i]) - frames.start) for i in chosen]
    return spans, larger * preview.factor, values


def _from_frames(view: View, kept: View, n: int, block: int) -> _Found:
    present = np.arange(view.shape[0])
    if view.missing:
        present = present[~view.missing.mask(view.frames)]
    places = present[spread(kept.shape[0], n)]
    pictures = []
    for place in places:
        one = view.pick([int(place), *(slice(None) for _ in view.shape[1:])])
        frame = read_selection(one.reader, one.selection)
        pictures.append(_shrunk(frame, block) if block > 1 else frame)
    return [(int(place), int(place) + 1) for place in places], block, np.stack(pictures)


def _shrunk(picture: NDArray[Any], block: int) -> NDArray[Any]:
    """Means of blocks; integers are rounded to the picture's type, truth values become shares."""
    dtype = picture.dtype
    # Eight bytes do not fit exact sums; a mean of them is as good from float64.
    numbers = picture.astype(np.float64) if dtype.kind in "iu" and dtype.itemsize == 8 else picture
    row = small_row(numbers[None], Preview(1, block))
    count = row["valid_count"]
    mean = np.where(count > 0, row["sum"] / np.maximum(count, 1), np.nan)
    assert mean.shape == preview_shape((1, *picture.shape), Preview(1, block))[1:]
    if dtype.kind in "iu":
        return np.rint(mean).astype(dtype) if dtype.itemsize < 8 else mean
    return mean.astype(np.float32 if dtype.kind == "b" else dtype)


def _labels(
    view: View, coords: Coordinates, spans: Sequence[tuple[int, int]], block: int
) -> dict[str, Coordinate]:
    """Of a picture's time, and of a block, the middle between its first and its last label."""
    axis = view.dims[0]
    firsts = np.array([start for start, _ in spans])
    lasts = np.array([stop - 1 for _, stop in spans])
    labels = {
        "first_frame": Coordinate((axis,), firsts, {"long_name": f"first along {axis} in the picture"}),
        "last_frame": Coordinate((axis,), lasts, {"long_name": f"last along {axis} in the picture"}),
    }
    for name in coords:
        values = coords[name]
        if coords.dims_of(name) == (axis,) and values.dtype.kind in "iuf":
            middles = values[firsts] + (values[lasts] - values[firsts]) / 2
            labels[name] = Coordinate((axis,), middles, coords.attributes_of(name))
    if is_image(view.dims):
        for dim, size in zip(("y", "x"), view.shape[1:3], strict=True):
            starts = np.arange(0, size, block)
            ends = np.minimum(starts + block, size) - 1
            known = dim in coords and coords[dim].shape == (size,) and coords[dim].dtype.kind in "iuf"
            values = coords[dim] if known else np.arange(size)
            attributes = coords.attributes_of(dim) if known else {"units": "pixel"}
            labels[dim] = Coordinate((dim,), (values[starts] + values[ends]) / 2, attributes)
    return labels
