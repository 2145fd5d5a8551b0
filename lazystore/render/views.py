"""Lazy parts of a movie: a range of frames, a cut of each, and nothing read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lazystore.render.frames import EVERYTHING, LazyFrames


class ViewedFrames(LazyFrames):
    """Frames of which a slice is a lazy view, as viewers with pyramids and crops need them.

    Notes
    -----
    An int or a slice of length 1 along time gives values, read-only; so does anything that is not made
    of slices. A longer slice gives a `FramesView` and reads nothing.
    """

    def __getitem__(self, index: Any) -> Any:
        split = split_view(index, self.shape)
        return self._select(index) if split is None else FramesView(self, *split)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """All values in memory."""
        return np.asarray(self._stacked(list(range(len(self)))), dtype)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all values would take."""
        return self.size * self.dtype.itemsize


class FramesView(ViewedFrames):
    """Some frames of a movie, cut to a rectangle; a frame is made when that frame is asked for.

    Parameters
    ----------
    movie
        Where frames come from.
    frames
        Their numbers in the movie, in any direction and step.
    cut
        Positions along each further axis.
    """

    _movie: LazyFrames
    _numbers: range
    _cut: tuple[range, ...]

    def __init__(self, movie: LazyFrames, frames: range, cut: tuple[range, ...]) -> None:
        if isinstance(movie, FramesView):  # a view of a view looks at the movie itself
            frames = movie._numbers[_as_slice(frames)]
            cut = tuple(own[_as_slice(part)] for own, part in zip(movie._cut, cut, strict=True))
            movie = movie._movie
        self._movie = movie
        self._numbers = frames
        self._cut = cut
        self._window = tuple(_as_slice(part) for part in cut)
        self._n_frames = len(frames)
        self._frame_shape = tuple(len(part) for part in cut)
        self._dtype = movie.dtype

    def _get_frame(self, idx: int) -> NDArray[Any]:
        frame: NDArray[Any] = self._movie._get_frame(self._numbers[self._frame_number(idx)])[self._window]
        return frame


def split_view(index: Any, shape: tuple[int, ...]) -> tuple[range, tuple[range, ...]] | None:
    """What a lazy view of `index` would hold, or None where `index` asks for values.

    Returns
    -------
    tuple or None
        The frames and, for each further axis, the positions. None for anything but slices, and
        for a slice of one frame.

    Examples
    --------
    >>> split_view((slice(2, 8, 2), slice(1, 3)), (10, 4, 5))
    (range(2, 8, 2), (range(1, 3), range(0, 5)))
    >>> split_view((slice(2, 3), slice(None)), (10, 4, 5)) is None
    True
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    ellipses = [position for position, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) == 1:
        at = ellipses[0]
        parts[at : at + 1] = [EVERYTHING] * (len(shape) - len(parts) + 1)
    if len(parts) > len(shape) or not all(isinstance(part, slice) for part in parts):
        return None
    parts += [EVERYTHING] * (len(shape) - len(parts))
    frames, *rest = (range(size)[part] for size, part in zip(shape, parts, strict=True))
    return None if len(frames) == 1 else (frames, tuple(rest))


def _as_slice(part: range) -> slice:
    """The slice that picks exactly these positions, also downwards to the first.

    >>> list(range(5))[_as_slice(range(4, -1, -2))]
    [4, 2, 0]
    """
    if not len(part):
        return slice(0, 0)
    return slice(part.start, part.stop if part.stop >= 0 else None, part.step)
