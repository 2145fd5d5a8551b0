"""While a jump's frame is on its way: the stored small picture of its time, then the frame itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from time import monotonic
from typing import Any, Literal

from numpy.typing import NDArray

from lazystore.array.lazy_array import LazyArray
from lazystore.array.reading import read_selection
from lazystore.cache.reader import CachedReader
from lazystore.errors import LazystoreError, UsageError
from lazystore.overviews.levels import is_image

type Scrub = Literal["overview", "exact"]

# What a jump may take without anybody seeing it wait: most frames come within it, and none is drawn twice
# (35 instead of 72 ms to the frame of a 640 x 424 video). A drag, jumps that follow on each other this
# soon, has to keep up with the hand: a frame of a screen at 60 Hz.
PATIENCE_S, PATIENCE_OF_DRAGS_S = 0.04, 1 / 60
DRAG_S = 0.2
# A move this short is a step of somebody who looks closely, or playing: waiting for its frame is
# bounded by decoding forwards, and a small picture between two frames would flicker.
MAX_STEP_FRAMES = 4
# All small pictures are read ahead where they take no more than this; else each when it is shown.
READ_AHEAD_BYTES = 16 * 1024 * 1024


def enlarged(picture: NDArray[Any], factor: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """A small picture at a frame's shape: each value repeated over the pixels it is the mean of.

    Parameters
    ----------
    picture
        Shape (y, x[, channel]).
    factor
        Pixels a value along y and x, >= 1.
    shape
        The frame's, (y, x[, channel]).

    >>> import numpy as np
    >>> enlarged(np.array([[1, 2]]), 2, (2, 3)).tolist()
    [[1, 1, 2], [1, 1, 2]]
    """
    large = picture.repeat(factor, axis=0)[: shape[0]].repeat(factor, axis=1)[:, : shape[1]]
    large.flags.writeable = False
    return large


class ScrubbedMovie:
    """A movie whose frames a viewer never waits long for.

    ``movie[i]`` is frame i where it is in memory, a few steps from the last one, or read within
    `PATIENCE_S` (`PATIENCE_OF_DRAGS_S` amid a drag). After a jump whose frame takes longer it is the
    overview's picture of that time, until `has_arrived`: then ``movie[i]`` is the frame, or raises why
    it could not be read.

    Parameters
    ----------
    array
        An item of which `has_pictures` is true.
    executor
        Reads frames on a few threads; its owner shuts it down.
    may_be_rough
        Whether anybody will look at `has_arrived`. If not, frames are exact.
    on_rough
        Called after a picture was shown in a frame's place.

    Notes
    -----
    For one thread at a time, on which both callables are called too; so a viewer needs no signal that
    crosses threads, whose receiver may be gone with its window. No lock is held while reading.
    """

    def __init__(
        self,
        array: LazyArray,
        executor: Executor,
        may_be_rough: Callable[[], bool],
        on_rough: Callable[[], object],
    ) -> None:
        overviews = array.view.overviews
        assert overviews is not None
        assert overviews.levels.preview is not None
        self.shape, self.dtype = array.shape, array.dtype
        self._array, self._executor = array, executor
        self._may_be_rough, self._on_rough = may_be_rough, on_rough
        self._preview = overviews.levels.preview
        self._pictures = overviews.reader(self._preview.n, "mean")
        # The number of what was given last, if it was the frame itself.
        self._exact: int | None = None
        self._has_begun = False
        self._asked_at = -math.inf
        # The jump's frame, while it is read and after: a cache without room would not keep it.
        self._reading: tuple[int, Future[NDArray[Any]]] | None = None
        spec = self._pictures.spec
        if math.prod(spec.shape) * spec.dtype.itemsize <= READ_AHEAD_BYTES:
            # An error is kept in the future that nobody asks: whoever needs a picture meets it again.
            executor.submit(read_selection, self._pictures, tuple(range(size) for size in spec.shape))

    def __getitem__(self, index: int) -> NDArray[Any]:
        reading, may_be_rough = self._reading, self._may_be_rough()
        if reading is not None and reading[0] == index:
            return self._frame_or_picture(index, reading[1], 0.0 if may_be_rough else None)
        before, self._asked_at = self._asked_at, monotonic()
        patience_s = PATIENCE_OF_DRAGS_S if self._asked_at - before < DRAG_S else PATIENCE_S
        if reading is not None and not reading[1].done():
            # Nobody looks at one frame: there is the next before it can be read.
            patience_s = 0.0
        if reading is not None:
            # One that has begun goes on to its end.
            reading[1].cancel()
            self._reading = None
        if self._is_near(index) or not may_be_rough:
            frame: NDArray[Any] = self._array[index]
            self._exact = index
            return frame
        future = self._executor.submit(self._array.__getitem__, index)
        self._reading = index, future
        return self._frame_or_picture(index, future, patience_s)

    @property
    def has_arrived(self) -> bool:
        """Whether the frame that was asked for last is there, or has failed."""
        return self._reading is None or self._reading[1].done()

    def _is_near(self, index: int) -> bool:
        """Whether the frame is in memory, the first to be shown, or a step from one that was."""
        if not self._has_begun:
            self._has_begun = True
            return True
        if self._exact is not None and abs(index - self._exact) <= MAX_STEP_FRAMES:
            return True
        chunk_index = (index // self._array.chunks[0], *(0 for _ in self.shape[1:]))
        reader = self._array.reader
        return isinstance(reader, CachedReader) and not reader.absent([chunk_index])

    def _frame_or_picture(
        self, index: int, future: Future[NDArray[Any]], wait_s: float | None
    ) -> NDArray[Any]:
        self._exact = None
        if not future.done() and not wait([future], wait_s).done:
            try:
                picture = self._picture(index)
            except LazystoreError:
                # Damaged pictures cost time, not the frame.
                pass
            else:
                self._on_rough()
                return picture
        try:
            frame = future.result()
        except Exception:
            # Told once; the next time it is asked for, it is read again.
            self._reading = None
            raise
        self._exact = index
        return frame

    def _picture(self, index: int) -> NDArray[Any]:
        others = (range(size) for size in self._pictures.spec.shape[1:])
        picture = read_selection(self._pictures, (index // self._preview.n, *others))
        return enlarged(picture.astype(self.dtype, copy=False), self._preview.factor, self.shape[1:])


def has_pictures(array: Any) -> bool:
    """Whether an item keeps small pictures of whole frames, to show while one is read."""
    if not isinstance(array, LazyArray) or not is_image(array.dims) or not array.view.holds_whole_frames:
        return False
    overviews, spec = array.view.overviews, array.reader.spec
    has_them = overviews is not None and overviews.levels.preview is not None
    return has_them and spec.chunks[1:] == spec.shape[1:] and array.shape[0] == spec.shape[0]


def checked_scrub(scrub: str) -> Scrub:
    """One of the two words.

    Raises
    ------
    UsageError
        For any other.

    >>> checked_scrub("exact")
    'exact'
    """
    if scrub == "overview":
        return "overview"
    if scrub == "exact":
        return "exact"
    raise UsageError(
        f"scrub={scrub!r}; expected 'overview' (a small picture until a jump's frame is there) or "
        "'exact' (wait for it)"
    )
