"""A movie on the slider's steps: what napari is handed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lazystore.errors import MissingFrameError
from lazystore.viewer.timeline import Samples, Timeline


class AlignedMovie:
    """A movie (step, y, x[, 3]): each step shows the sample nearest to its session second.

    Parameters
    ----------
    movie
        Frames by number: ``movie[i]`` gives one, shape (y, x[, 3]).
    samples
        When they were taken.
    timeline
        The slider.
    steps
        The steps that this view covers.

    Notes
    -----
    An int or a slice of length 1 along the steps reads one frame; a longer slice gives another lazy
    view, because a viewer that slices all of time means no reading (napari#9515). Steps outside the
    recording, and frames that it lost, are blank: NaN for floats, else 0.
    """

    def __init__(self, movie: Any, samples: Samples, timeline: Timeline, steps: range | None = None) -> None:
        self._movie, self._samples, self._timeline = movie, samples, timeline
        self._steps = range(timeline.n_steps) if steps is None else steps
        self._frame_shape = tuple(int(size) for size in movie.shape[1:])
        self.dtype = np.dtype(movie.dtype)
        self.shape: tuple[int, ...] = (len(self._steps), *self._frame_shape)
        self.ndim = len(self.shape)
        blank = np.full(self._frame_shape, np.nan if self.dtype.kind == "f" else 0, self.dtype)
        blank.flags.writeable = False
        self._blank = blank

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Decoded size of all steps in bytes."""
        return self.size * int(self.dtype.itemsize)

    def __len__(self) -> int:
        return len(self._steps)

    def sample_of(self, step: int) -> int | None:
        """The movie's frame that a step of this view shows; None if it is blank."""
        return self._samples.nearest(self._timeline.second(self._steps[step]))

    def frame(self, step: int) -> NDArray[Any]:
        """One step's frame, read-only."""
        index = self.sample_of(step)
        if index is None:
            return self._blank
        try:
            return np.asarray(self._movie[index])
        except MissingFrameError:
            return self._blank

    def __getitem__(self, key: Any) -> Any:
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in [part for part in parts if part is Ellipsis]:
            place = next(i for i, part in enumerate(parts) if part is Ellipsis)
            parts[place : place + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        first, rest = (parts[0], tuple(parts[1:])) if parts else (slice(None), ())
        if isinstance(first, slice):
            steps = self._steps[first]
            if len(steps) == 1:
                return AlignedMovie(self._movie, self._samples, self._timeline, steps).frame(0)[rest][
                    np.newaxis
                ]
            view = AlignedMovie(self._movie, self._samples, self._timeline, steps)
            trivial = all(isinstance(part, slice) and part == slice(None) for part in rest)
            return view if trivial else _Cropped(view, rest)
        return self.frame(int(first))[rest]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        stacked = (
            np.stack([self.frame(step) for step in range(len(self))]) if len(self) else np.empty(self.shape)
        )
        return stacked.astype(self.dtype if dtype is None else dtype, copy=False)


class _Cropped:
    """A part of each frame of a view, still lazy along the steps."""

    def __init__(self, view: AlignedMovie, rest: tuple[Any, ...]) -> None:
        self._view, self._rest = view, rest
        self.dtype = view.dtype
        # What a blank frame becomes says the shape without reading.
        self.shape = (len(view), *np.empty(view.shape[1:], np.bool_)[rest].shape)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self._view)

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if isinstance(parts[0], slice) and len(range(len(self))[parts[0]]) != 1:
            found = _Cropped(self._view[parts[0]], self._rest)
            return found if len(parts) == 1 else np.asarray(found)[(slice(None), *parts[1:])]
        frame = self._view[parts[0]]
        cut = frame[(slice(None), *self._rest)] if isinstance(parts[0], slice) else frame[self._rest]
        return cut[(slice(None), *parts[1:])] if isinstance(parts[0], slice) else cut[parts[1:]]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        frames = [self._view.frame(step)[self._rest] for step in range(len(self))]
        return np.stack(frames).astype(self.dtype if dtype is None else dtype, copy=False)
