"""Any fields as frames by number: lists, arrays, stores, and the array types of other libraries.

What a renderer needs is small: how many frames there are, one frame, or a few neighbours. Arrays that
cost much a call (zarr, dask, xarray, HDF5) are read in whole chunks, and the last few are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.render.flight import SingleFlight

# A block larger than this is read in parts, so that one frame never costs a whole recording.
MAX_BLOCK_BYTES = 16 * 2**20
# Enough for the blocks around a playhead and around one jump; the frames made from them are kept apart.
MAX_KEPT_BYTES = 64 * 2**20
# Libraries whose arrays cost 0.2 to 10 ms a call however little is asked for.
CHUNKED_LIBRARIES = frozenset({"zarr", "dask", "h5py"})


class Frames(Protocol):
    """Fields as numpy arrays by frame number. Both reads may block, and may run in several threads."""

    @property
    def n_frames(self) -> int:
        """Number of frames; constant."""

    @property
    def value_shape(self) -> tuple[int, ...] | None:
        """Shape of one frame's values, (bin,) or (y, x); None where only reading one would tell."""

    def frame(self, frame_index: int) -> NDArray[Any]:
        """Values of one frame, 0 <= frame_index < n_frames, in the fields' own dtype."""

    def block(self, start: int, stop: int) -> NDArray[Any] | list[NDArray[Any]]:
        """Frames [start, stop): one array (time, ...), or a list where frames may differ in kind."""


def frames_of(fields: Any) -> Frames:
    """Fields of any kind as frames.

    Parameters
    ----------
    fields
        A list of (bin,) arrays; an array, memmap or LazyArray (time, bin) or (time, y, x); an xarray
        DataArray, a zarr or dask array of these; or anything with `len()` that gives frame i for `[i]`.

    Raises
    ------
    UsageError
        If `fields` is none of these.
    """
    if isinstance(fields, np.ndarray):
        if fields.ndim == 1 and fields.dtype == object:
            return _ListedFrames(fields)
        return _ArrayFrames(_two_or_three(fields))
    libraries = {cls.__module__.partition(".")[0] for cls in type(fields).__mro__}
    if "xarray" in libraries:
        return _frames_of_xarray(fields)
    if hasattr(fields, "shape") and hasattr(fields, "__getitem__"):
        _two_or_three(fields)
        if libraries & CHUNKED_LIBRARIES:
            return _ChunkedFrames(fields, _block_starts(fields))
        return _SlicedFrames(fields)
    if hasattr(fields, "__len__") and hasattr(fields, "__getitem__") and not isinstance(fields, str | dict):
        return _ListedFrames(fields)
    raise UsageError(
        f"fields is {type(fields).__name__!r}: expected a list of (bin,) arrays or an array (time, bin), "
        "for example store['rate']"
    )


class _ArrayFrames:
    """An array in memory, or a memmap."""

    def __init__(self, array: NDArray[Any]) -> None:
        # Rows of a plain view cost a third of rows of a np.memmap, whose every view runs Python.
        self._array = array.view(np.ndarray)
        self.n_frames = len(array)
        self.value_shape = array.shape[1:]

    def frame(self, frame_index: int) -> NDArray[Any]:
        frame: NDArray[Any] = self._array[frame_index]
        return frame

    def block(self, start: int, stop: int) -> NDArray[Any]:
        return self._array[start:stop]


class _ListedFrames:
    """A list of frames, or whatever gives frame i for `[i]`; each may have a dtype of its own."""

    def __init__(self, frames: Sequence[Any] | NDArray[Any]) -> None:
        self._frames = frames
        self.n_frames = len(frames)
        # Only a list is known to hold its frames; anything else might read one to answer.
        first = frames[0] if isinstance(frames, list | tuple) and frames else None
        self.value_shape: tuple[int, ...] | None = getattr(first, "shape", None)

    def frame(self, frame_index: int) -> NDArray[Any]:
        return np.asarray(self._frames[frame_index])

    def block(self, start: int, stop: int) -> list[NDArray[Any]]:
        return [self.frame(index) for index in range(start, stop)]


class _SlicedFrames:
    """An array-like that is quick to ask for a frame, such as a LazyArray, which keeps its own chunks."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.n_frames = int(array.shape[0])
        self.value_shape: tuple[int, ...] | None = tuple(int(size) for size in array.shape[1:])

    def frame(self, frame_index: int) -> NDArray[Any]:
        return np.asarray(self._array[frame_index])

    def block(self, start: int, stop: int) -> NDArray[Any]:
        return np.asarray(self._array[start:stop])


class _ChunkedFrames:
    """An array whose every call is dear: whole blocks are read, by one thread each, and a few are kept."""

    def __init__(self, array: Any, block_starts: NDArray[np.int64]) -> None:
        self._array = array
        self._block_starts = block_starts
        self.n_frames = int(array.shape[0])
        self.value_shape: tuple[int, ...] | None = tuple(int(size) for size in array.shape[1:])
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._kept_bytes = 0
        self._flights: SingleFlight[int, NDArray[Any]] = SingleFlight()

    def frame(self, frame_index: int) -> NDArray[Any]:
        block_index = int(np.searchsorted(self._block_starts, frame_index, side="right")) - 1
        block = self._flights.get(block_index, self._find, self._load, self._keep)
        frame: NDArray[Any] = block[frame_index - int(self._block_starts[block_index])]
        return frame

    def block(self, start: int, stop: int) -> NDArray[Any]:
        # Whoever reads blocks reads through the recording: nothing of it would be asked for again.
        return np.asarray(self._array[start:stop])

    def _find(self, block_index: int) -> NDArray[Any] | None:
        block = self._kept.get(block_index)
        if block is not None:
            self._kept.move_to_end(block_index)
        return block

    def _load(self, block_index: int) -> NDArray[Any]:
        start, stop = (int(edge) for edge in self._block_starts[block_index : block_index + 2])
        return self.block(start, stop)

    def _keep(self, block_index: int, block: NDArray[Any]) -> None:
        self._kept[block_index] = block
        self._kept_bytes += block.nbytes
        while self._kept_bytes > MAX_KEPT_BYTES and len(self._kept) > 1:
            _, evicted = self._kept.popitem(last=False)
            self._kept_bytes -= evicted.nbytes


def _frames_of_xarray(fields: Any) -> Frames:
    """A DataArray by its variable, because a DataArray builds its coordinates anew at every call."""
    if not hasattr(fields, "variable"):
        raise UsageError(
            f"fields is an xarray {type(fields).__name__}: expected one DataArray, e.g. dataset['rate']"
        )
    if "time" in fields.dims and fields.dims[0] != "time":
        fields = fields.transpose("time", ...)
    _two_or_three(fields)
    if fields.chunks is not None:
        return frames_of(fields.data)  # a dask array: its blocks are what is cheap to compute at once
    preferred = fields.encoding.get("preferred_chunks", {}).get(fields.dims[0])
    if preferred is None:
        return _SlicedFrames(_VariableRows(fields.variable))
    return _ChunkedFrames(_VariableRows(fields.variable), _block_starts(fields, (int(preferred),)))


class _VariableRows:
    """Rows of an xarray Variable as numpy arrays; one that is still in a file reads these rows only."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable
        self.shape: tuple[int, ...] = variable.shape

    def __getitem__(self, rows: int | slice) -> NDArray[Any]:
        values: NDArray[Any] = self._variable[rows].to_numpy()
        return values


def _two_or_three[A](fields: A) -> A:
    """The same fields, if their shape is one that fields have."""
    shape = tuple(getattr(fields, "shape", ()))
    if len(shape) not in (2, 3):
        raise UsageError(f"fields have shape {shape!r}: expected (time, bin) or (time, y, x)")
    return fields


def _block_starts(array: Any, chunk_lengths: tuple[int, ...] | None = None) -> NDArray[np.int64]:
    """Edges of the blocks to read, from an array's chunks along time: int64, first 0, last n_frames."""
    n_frames = int(array.shape[0])
    if chunk_lengths is None:
        chunks = getattr(array, "chunks", None)
        along_time = chunks[0] if isinstance(chunks, tuple) and chunks else 1
        chunk_lengths = along_time if isinstance(along_time, tuple) else (along_time,)
    if not all(length == length for length in chunk_lengths):  # dask writes NaN for "not known"
        raise UsageError(
            f"fields are a dask array of unknown chunk sizes {chunk_lengths!r} along time: "
            "call fields.compute_chunk_sizes() first"
        )
    frame_bytes = max(1, int(np.prod(array.shape[1:], dtype=np.int64)) * np.dtype(array.dtype).itemsize)
    longest = max(1, MAX_BLOCK_BYTES // frame_bytes)
    if len(chunk_lengths) == 1 and n_frames:
        step = min(max(1, int(chunk_lengths[0])), longest)
        return np.append(np.arange(0, n_frames, step, dtype=np.int64), n_frames)
    edges = np.cumsum([0, *chunk_lengths], dtype=np.int64)
    parts = [np.arange(start, stop, longest) for start, stop in pairwise(edges)]
    return np.append(np.concatenate([np.empty(0, np.int64), *parts]), n_frames)
