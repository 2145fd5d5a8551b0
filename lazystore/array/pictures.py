"""The pictures of itself that a lazy array offers as methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.labels import Coordinate, Coordinates
from lazystore.array.preview import thumbnail_from_frames
from lazystore.array.small_pictures import small_pictures
from lazystore.array.view import View
from lazystore.overviews.levels import is_image

if TYPE_CHECKING:
    from lazystore.array.lazy_array import LazyArray


class Pictures:
    """preview and thumbnail."""

    __slots__ = ()

    view: View

    if TYPE_CHECKING:

        @property
        def coords(self) -> Coordinates: ...

        def _check_budget(self, nbytes: int) -> None: ...

        def _in_memory(
            self, values: NDArray[Any], coords: Mapping[str, Coordinate], **attrs: Any
        ) -> LazyArray: ...

    def preview(self, n: int = 10, scale: float = 0.2, *, from_frames: bool = False) -> LazyArray:
        """Small pictures, evenly spread over the time of this view.

        Where the item keeps small pictures along time (its overview) and the view is of whole frames
        without a gap, they are these, and no frame is read: each is then a mean over several frames.
        Else `n` frames are read and made smaller. ``attrs["preview"]`` says which it was, and how many
        frames and pixels a value is the mean of; nothing is stretched, and no value is skipped.

        Parameters
        ----------
        n
            Pictures, ≥ 1; fewer where there are fewer frames. Missing frames are left out.
        scale
            A picture's side over a frame's, above 0, at most 1: the largest that is wanted. Pictures of
            an overview may be smaller. Frames that are no images keep their shape.
        from_frames
            Read frames, at the scale asked for to a whole number of pixels, also where there is an overview.

        Returns
        -------
        LazyArray
            In memory, shape (time, y, x[, channel]) and the data's dtype, integers rounded; float where
            the data are truth values. ``coords`` has the middle of each picture's time, of each value's
            pixels, and the picture's `first_frame` and `last_frame`, as positions in this view.

        Raises
        ------
        UsageError
            For no pictures, another scale, values that are not real, or where every frame is missing.
        MemoryBudgetError
            If the pictures need more than the memory budget.
        """
        shape, dims = self.view.shape, self.view.dims
        if shape and isinstance(n, int | np.integer) and isinstance(scale, int | float | np.number):
            # An upper bound: a frame that is no image keeps its size, and one frame is held meanwhile.
            share = scale**2 if is_image(dims) and 0 < scale <= 1 else 1.0
            frame_bytes = math.prod(shape[1:]) * self.view.reader.spec.dtype.itemsize
            self._check_budget(int(min(n, shape[0]) * frame_bytes * share) + frame_bytes)
        found = small_pictures(self.view, self.coords, n, scale, from_frames=from_frames)
        return self._in_memory(found.values, found.coords, preview=dict(found.about))

    def thumbnail(self, n_frames: int = 10, max_side: int = 160) -> NDArray[np.uint8]:
        """One small picture of the whole: evenly spread frames, subsampled, brightest value, stretched.

        Parameters
        ----------
        n_frames
            Frames that are read, ≥ 1; missing ones are left out.
        max_side
            Longest side in values; every k-th value is taken.

        Returns
        -------
        np.ndarray
            Shape of a subsampled frame, uint8; the 2nd percentile is 0, the 98th 255.
        """
        return thumbnail_from_frames(self.view, n_frames, max_side)
