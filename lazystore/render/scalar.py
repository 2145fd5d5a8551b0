"""Fields as a movie of plain values: the graphics card colours it, and changing contrast costs nothing."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lazystore.errors import UsageError
from lazystore.render.fields import frames_of
from lazystore.render.flight import SingleFlight
from lazystore.render.layout import frame_layout, wrong_size
from lazystore.render.ranges import range_for_display
from lazystore.render.views import ViewedFrames

DEFAULT_CACHE_BYTES = 128 * 2**20
# What napari hands to the graphics card as it is; anything else it would convert at every step.
UPLOADED_AS_IS = frozenset({"u1", "i1", "u2", "i2", "f4"})


def scalar_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype in which values of `dtype` go to the graphics card.

    Examples
    --------
    >>> [str(scalar_dtype(name)) for name in ("bool", "u2", "f8", "i8")]
    ['uint8', 'uint16', 'float32', 'float32']
    """
    given = np.dtype(dtype)
    if given.kind == "b":
        return np.dtype(np.uint8)
    return given.newbyteorder("=") if given.str[1:] in UPLOADED_AS_IS else np.dtype(np.float32)


class ScalarFieldImages(ViewedFrames):
    """A movie (time, y, x) of fields' values, for napari's `add_image(..., contrast_limits=...)`.

    Parameters
    ----------
    env, fields
        As for `LazyFieldRenderer`.
    contrast_limits
        (vmin, vmax) in the fields' unit; None: the fields' own range, found when first asked for.
    dtype
        uint8, int8, uint16, int16 or float32; None: the one nearest to the fields' own.
    cache_bytes
        Bytes of frames to keep.

    Raises
    ------
    UsageError
        If fields and environment do not fit each other, or `dtype` is none of the five.

    Notes
    -----
    Pixels without a bin are NaN, or 0 in an integer movie. Without a 2-D grid a frame is one row,
    shape (time, 1, bin). Indices are numpy's. An int or a slice of length 1 along time gives values,
    read-only; a longer slice gives a lazy view, so that ``movie[:, 10:20]`` reads nothing.
    """

    def __init__(
        self,
        env: Any,
        fields: Any,
        contrast_limits: tuple[float, float] | None = None,
        dtype: DTypeLike | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.env = env
        self.fields = fields
        self._given = (contrast_limits, dtype, cache_bytes)
        self._frames = frames_of(fields)
        self._layout = frame_layout(env, self._frames.value_shape)
        self._n_frames = self._frames.n_frames
        shape = self._layout.frame_shape
        self._frame_shape = shape if len(shape) == 2 else (1, *shape)
        self._dtype = self._chosen_dtype(dtype)
        self._cache_size = max(1, cache_bytes // max(1, self._layout.n_pixels * self._dtype.itemsize))
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._flights: SingleFlight[int, NDArray[Any]] = SingleFlight()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.env, self.fields, *self._given)

    def _chosen_dtype(self, dtype: DTypeLike | None) -> np.dtype[Any]:
        if dtype is None:
            own = getattr(self.fields, "dtype", None)
            if own is None:  # a list: its first frame tells
                own = self._frames.frame(0).dtype if self._n_frames else np.dtype(np.float32)
            return scalar_dtype(own)
        chosen = np.dtype(dtype)
        if chosen.str[1:] not in UPLOADED_AS_IS:
            raise UsageError(f"dtype is {chosen.name!r}: expected one of {sorted(UPLOADED_AS_IS)}")
        return chosen

    @cached_property
    def contrast_limits(self) -> tuple[float, float]:
        """(vmin, vmax): what was given, else the fields' range, from statistics where there are any."""
        given = self._given[0]
        return given if given is not None else range_for_display([self.fields], None, None)

    @cached_property
    def _bin_of_pixel(self) -> NDArray[np.intp]:
        return self._layout.bin_of_pixel().astype(np.intp)

    def _get_frame(self, idx: int) -> NDArray[Any]:
        return self._flights.get(self._frame_number(idx), self._find, self._make, self._keep)

    def _find(self, frame_number: int) -> NDArray[Any] | None:
        frame = self._cache.get(frame_number)
        if frame is not None:
            self._cache.move_to_end(frame_number)
        return frame

    def _keep(self, frame_number: int, frame: NDArray[Any]) -> None:
        self._cache[frame_number] = frame
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    def _make(self, frame_number: int) -> NDArray[Any]:
        values = self._frames.frame(frame_number)
        layout = self._layout
        if values.shape != layout.value_shape:
            raise UsageError(wrong_size(values.shape, layout.n_values))
        if layout.grid_shape is None:
            frame = values.astype(self._dtype).reshape(self._frame_shape)
        else:
            padded = np.empty(layout.n_values + 1, self._dtype)
            padded[:-1] = values
            padded[-1] = np.nan if self._dtype.kind == "f" else 0
            # "clip" only spares numpy the check: all indices are in range.
            frame = padded.take(self._bin_of_pixel, mode="clip").reshape(self._frame_shape)
        frame.setflags(write=False)
        return frame
