"""Fields as an RGB movie: one frame painted when it is asked for, the last ones kept."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.render.colors import FieldPainter
from lazystore.render.fields import frames_of
from lazystore.render.flight import SingleFlight
from lazystore.render.frames import LazyFrames
from lazystore.render.layout import frame_layout

DEFAULT_CACHE_SIZE = 1000
# 1000 frames of a small maze are 70 MB, but of a camera-sized map 3 GB: frames are also counted in bytes.
DEFAULT_CACHE_BYTES = 512 * 2**20


class FieldFrames(LazyFrames):
    """What both renderers share: fields, colours and the painting of one frame; subclasses keep frames."""

    _dtype = np.dtype(np.uint8)

    def __init__(self, env: Any, fields: Any, cmap_lookup: Any, vmin: float, vmax: float) -> None:
        self.env = env
        self.fields = fields
        self._fields_is_array = isinstance(fields, np.ndarray)
        self._frames = frames_of(fields)
        self._layout = frame_layout(env, self._frames.value_shape)
        self._n_frames = self._frames.n_frames
        self._frame_shape = (*self._layout.frame_shape, 3)
        self._painter = FieldPainter(self._layout, cmap_lookup, vmin, vmax)
        self._cmap_lookup = cmap_lookup
        self._flights: SingleFlight[int, NDArray[np.uint8]] = SingleFlight()

    @cached_property
    def _frame_bytes(self) -> int:
        return max(1, self._layout.n_pixels * 3)

    @property
    def _lock(self) -> Any:
        """Guards the cache's bookkeeping; never held while a frame is read or painted."""
        return self._flights.lock

    @property
    def cmap_lookup(self) -> Any:
        """The 256 colours, shape (256, 3), uint8. Setting it repaints."""
        return self._cmap_lookup

    @cmap_lookup.setter
    def cmap_lookup(self, cmap_lookup: Any) -> None:
        self._repaint(cmap_lookup, self.vmin, self.vmax)

    @property
    def vmin(self) -> float:
        """Value of the first colour. Setting it repaints."""
        return self._painter.vmin

    @vmin.setter
    def vmin(self, vmin: float) -> None:
        self._repaint(self._cmap_lookup, vmin, self.vmax)

    @property
    def vmax(self) -> float:
        """Value of the last colour. Setting it repaints."""
        return self._painter.vmax

    @vmax.setter
    def vmax(self, vmax: float) -> None:
        self._repaint(self._cmap_lookup, self.vmin, vmax)

    def _repaint(self, cmap_lookup: Any, vmin: float, vmax: float) -> None:
        painter = FieldPainter(self._layout, cmap_lookup, vmin, vmax)
        with self._lock:
            # In this order. A reader takes the cache, then the painter: so a frame in the old colours can
            # only land in the old cache, and no one who asks from now on waits for it.
            self._painter, self._cmap_lookup = painter, cmap_lookup
            self._flights = SingleFlight()
            self._forget()

    @abstractmethod
    def _forget(self) -> None:
        """Start with a new, empty cache; called with the lock held."""

    def _paint_frame(self, frame_number: int) -> NDArray[np.uint8]:
        return self._painter.paint(self._frames.frame(frame_number))


class LazyFieldRenderer(FieldFrames):
    """An RGB movie of fields, painted frame by frame; neurospatial's class of this name, without its limits.

    Parameters
    ----------
    env
        A neurospatial ``Environment``, the geometry kept in a store, or None for fields (time, y, x).
    fields
        A list of (bin,) arrays, or any array (time, bin): numpy, memmap, LazyArray, zarr, dask, xarray.
        Read one frame at a time.
    cmap_lookup
        Shape (256, 3), uint8.
    vmin, vmax
        Value of the first and of the last colour, in the fields' unit.
    cache_size
        Frames to keep, >= 0. The least recently used goes first.
    cache_bytes
        Bytes of frames to keep at most; lowers `cache_size` where frames are large.

    Raises
    ------
    UsageError
        If fields, environment and colours do not fit each other.

    Notes
    -----
    Shape (time, y, x, 3) for a 2-D grid, otherwise (time, bin, 3); uint8; colours bit for bit those of
    ``field_to_rgb_for_napari``. Indexing is numpy's; what it gives is read-only. A kept frame is found
    without a lock, and a frame wanted by several threads is read and painted once, by one of them, while
    the others go on. Pickles without its frames; usable after a fork.

    Examples
    --------
    >>> lookup = np.arange(768, dtype=np.uint16).reshape(256, 3).astype(np.uint8)
    >>> movie = LazyFieldRenderer(None, np.zeros((5, 2, 3), np.float32), lookup, 0.0, 1.0)
    >>> movie.shape, movie[-1].shape, movie[1:3].shape
    ((5, 2, 3, 3), (2, 3, 3), (2, 2, 3, 3))
    """

    def __init__(
        self,
        env: Any,
        fields: Any,
        cmap_lookup: Any,
        vmin: float,
        vmax: float,
        cache_size: int = DEFAULT_CACHE_SIZE,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        super().__init__(env, fields, cmap_lookup, vmin, vmax)
        if cache_size < 0:
            raise UsageError(f"cache_size is {cache_size!r}: expected a number of frames >= 0")
        self._arguments = (cache_size, cache_bytes)
        self._cache_size = min(cache_size, max(1, cache_bytes // self._frame_bytes))
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.env, self.fields, self.cmap_lookup, self.vmin, self.vmax, *self._arguments)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        if type(index) is int:
            cache = self._cache
            frame = cache.get(index)
            if frame is not None:
                # No lock: a dict of ints does this in one step, and losing the race against an
                # eviction only means that there is nothing to move.
                try:  # noqa: SIM105 - contextlib.suppress would triple the time of a hit
                    cache.move_to_end(index)
                except KeyError:
                    pass
                return frame
            return self._get_frame(index)
        return self._select(index)

    def _get_frame(self, idx: int) -> NDArray[np.uint8]:
        number = self._frame_number(idx)
        cache = self._cache
        return self._flights.get(
            number, self._find, self._paint_frame, lambda number, frame: self._keep(cache, number, frame)
        )

    def _find(self, frame_number: int) -> NDArray[np.uint8] | None:
        frame = self._cache.get(frame_number)
        if frame is not None:
            self._cache.move_to_end(frame_number)
        return frame

    def _keep(
        self, cache: OrderedDict[int, NDArray[np.uint8]], frame_number: int, frame: NDArray[np.uint8]
    ) -> None:
        cache[frame_number] = frame
        while len(cache) > self._cache_size:
            cache.popitem(last=False)

    def _forget(self) -> None:
        self._cache = OrderedDict()
