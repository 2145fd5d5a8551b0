"""LazyArray: a stored array that looks like numpy and reads only what is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

from lazystore.array import dispatch
from lazystore.array.display import html_of, text_of, thumbnail_of
from lazystore.array.in_memory import ValuesReader
from lazystore.array.indexing import (
    Part,
    box_and_rest,
    full_selection,
    is_lazy,
    is_orthogonal,
    paired_size,
    selection_shape,
    spell_out,
)
from lazystore.array.labels import Coordinate, Coordinates, Method, position_of, positions_between
from lazystore.array.methods import Reductions
from lazystore.array.missing import MissingFrames
from lazystore.array.overviews import StoredOverviews
from lazystore.array.pictures import Pictures
from lazystore.array.reading import read_selection
from lazystore.array.statistics import Statistics
from lazystore.array.tiles import runs
from lazystore.array.view import View
from lazystore.cache.guard import check_budget, check_free
from lazystore.cache.telemetry import CacheInfo
from lazystore.errors import UsageError
from lazystore.protocols import ChunkReader

if TYPE_CHECKING:
    import dask.array
    import xarray


class LazyArray(Reductions, Pictures, NDArrayOperatorsMixin):
    """A stored array, or a part of one.

    An int or a list on axis 0 reads and gives a read-only ndarray; anything with a slice on axis 0
    gives another LazyArray and reads nothing. Arithmetic and numpy functions read, up to the
    memory budget; `mean`, `min`, `max`, `sum`, `var`, `std` and `range` work on any size.

    Parameters
    ----------
    reader
        Decoded chunks of the whole stored array.
    name
        The item's name.
    coords
        Labels by name: a `Coordinate`, or, for the axis of that name, its values or a function
        that reads them.
    attrs
        What the item says of itself.
    statistics
        Facts about the frames, used where they are exact.
    missing
        Half-open [start, stop) pairs of frames that the recording lost; reading one raises.
    doubtful
        The same of frames that were decoded after damage and may be made up in parts; they are read.

    Notes
    -----
    Immutable and free of locks: use it from any thread and in forked or spawned processes. Only
    `shape`, `dtype`, `dims`, `attrs`, `len` and views are sure not to read.

    Raises
    ------
    UsageError
        If a coordinate does not belong to the array's axes.
    """

    __slots__ = (
        "_attrs",
        "_coords",
        "_frame_axis",
        "_frames_a_chunk",
        "_read_chunk",
        "_tail",
        "dims",
        "name",
        "shape",
        "view",
    )

    __array_priority__ = 1000
    __hash__ = object.__hash__

    dims: tuple[str, ...]
    """Names of the axes."""
    name: str
    """The item's name."""
    shape: tuple[int, ...]
    """Sizes of the axes."""
    view: View
    """The reader, the selection and the facts that this array stands on."""

    def __init__(
        self,
        reader: ChunkReader,
        *,
        name: str = "data",
        coords: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
        statistics: Statistics | None = None,
        overviews: StoredOverviews | None = None,
        missing: Iterable[tuple[int, int]] = (),
        doubtful: Iterable[tuple[int, int]] = (),
    ) -> None:
        spec = reader.spec
        known = {}
        for key, given in (coords or {}).items():
            coordinate = given if isinstance(given, Coordinate) else Coordinate((key,), given)
            if not set(coordinate.dims) <= set(spec.dims):
                raise UsageError(
                    f"coordinate {key!r} lies along {coordinate.dims}; the axes of {name!r} are {spec.dims}"
                )
            known[key] = coordinate
        everything = full_selection(spec.shape)
        lost, unsure = MissingFrames(missing), MissingFrames(doubtful)
        view = View(reader, everything, name, statistics, lost, overviews, unsure)
        self._set(view, known, dict(attrs or {}))

    def _set(self, view: View, coords: Mapping[str, Coordinate], attrs: Mapping[str, Any]) -> None:
        self.view = view
        self._coords = coords
        self._attrs = attrs
        self.name = view.name
        self.shape = selection_shape(view.selection)
        self.dims = view.dims
        # What a[i] needs, looked up once: whole frames, each in a chunk of its own or with its
        # neighbours, none missing. Views of parts of frames take the general way, and frames without
        # values, which no chunk holds.
        spec = view.reader.spec
        self._read_chunk = view.reader.read_chunk
        self._frames_a_chunk = 0
        uncut = all(chunk >= size for chunk, size in zip(spec.chunks[1:], spec.shape[1:], strict=True))
        has_values = all(spec.shape[1:])
        if len(spec.shape) > 1 and has_values and uncut and view.holds_whole_frames and not view.missing:
            self._frames_a_chunk = spec.chunks[0]
            self._frame_axis = view.frames
            self._tail = (0,) * (len(spec.shape) - 1)

    @classmethod
    def _of(cls, view: View, coords: Mapping[str, Coordinate], attrs: Mapping[str, Any]) -> LazyArray:
        array = cls.__new__(cls)
        array._set(view, coords, attrs)
        return array

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.view, dict(self._coords), dict(self._attrs))

    # --- what it is, without reading ------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the values, native byte order."""
        return self.view.reader.spec.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one value."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Decoded size in bytes."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a stored chunk along the axes that are left: the unit of decoding."""
        pairs = zip(self.view.selection, self.view.reader.spec.chunks, strict=True)
        return tuple(chunk for entry, chunk in pairs if not isinstance(entry, int))

    @property
    def coords(self) -> Coordinates:
        """Labels by name, cut like this view; each is read when it is first asked for."""
        spec = self.view.reader.spec
        return Coordinates(self._coords, spec.dims, spec.shape, self.view.selection)

    @property
    def attrs(self) -> dict[str, Any]:
        """What the item says of itself; a copy."""
        return dict(self._attrs)

    @property
    def reader(self) -> ChunkReader:
        """The chunks of the whole stored array."""
        return self.view.reader

    @property
    def missing_frames(self) -> NDArray[np.intp]:
        """Shape (n,): positions along axis 0 of frames that the recording lost; reading one raises."""
        if not self.shape:
            return np.empty(0, np.intp)
        return np.flatnonzero(self.view.missing.mask(self.view.frames))

    @property
    def doubtful_frames(self) -> NDArray[np.intp]:
        """Shape (n,): positions along axis 0 of frames after damaged packets, made up in parts perhaps."""
        if not self.shape:
            return np.empty(0, np.intp)
        return np.flatnonzero(self.view.doubtful.mask(self.view.frames))

    def cache_info(self) -> CacheInfo:
        """What the chunk cache did for the whole stored array: hits, misses, waits, bytes."""
        info = getattr(self.view.reader, "cache_info", None)
        return cast(CacheInfo, info()) if info is not None else CacheInfo()

    def close(self) -> None:
        """Release files and cached chunks, for every view of the stored array; the next read opens them."""
        self.view.reader.close()
        for facts in (self.view.statistics, self.view.overviews):
            if facts is not None:
                facts.close()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __bool__(self) -> bool:
        if self.size == 1:
            return bool(self.load())
        raise ValueError(
            f"the truth of {self.name!r} with {self.size} values is ambiguous; use len(a), a.any() of values"
        )

    # --- selecting ------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        if type(key) is int and self._frames_a_chunk:
            try:
                frame_index = self._frame_axis[key]  # type: ignore[index]  # never an int: frames are whole
            except IndexError:
                raise self._outside(key) from None
            if self._frames_a_chunk == 1:
                frame = self._read_chunk((int(frame_index), *self._tail))[0]
            else:
                number, offset = divmod(int(frame_index), self._frames_a_chunk)
                # A copy: a view would keep the neighbours of a small frame in memory.
                frame = self._read_chunk((number, *self._tail))[offset].copy()
            frame.flags.writeable = False
            return frame
        parts = spell_out(key, self.shape, self.dims)
        if is_lazy(parts):
            if not is_orthogonal(parts):
                raise IndexError(
                    f"key {key!r} pairs index arrays beside a slice of axis {self.dims[0]!r}, which is not "
                    "lazy; index one axis after the other, a[:, rows][:, :, columns]"
                )
            return self._of(self.view.pick(parts), self._coords, self._attrs)
        return _read_only(self._read(parts))

    def _outside(self, key: int) -> IndexError:
        return IndexError(f"index {key} is out of bounds for axis {self.dims[0]!r} of size {self.shape[0]}")

    def _read(self, parts: Sequence[Part]) -> NDArray[Any]:
        """Values of a key; pairs several index arrays as numpy does."""
        if is_orthogonal(parts):
            return self._values(self.view.pick(tuple(parts)))
        box, rest = box_and_rest(parts)
        # Positions may be named more than once: the answer can be larger than the box.
        self._check_budget(paired_size(parts, self.shape) * self.itemsize)
        return cast("NDArray[Any]", self._values(self.view.pick(box))[rest])

    def _values(self, view: View) -> NDArray[Any]:
        view.check_missing()
        self._check_budget(math.prod(view.shape) * self.dtype.itemsize)
        return read_selection(view.reader, view.selection)

    def _check_budget(self, nbytes: int) -> None:
        check_budget(nbytes, f"{self.name!r}: this would load", "Take a slice, call .load() if it is meant")

    def outer(self, parts: Sequence[Part]) -> NDArray[Any]:
        """Values selected axis by axis, never pairing index arrays; writable, without a budget.

        Parameters
        ----------
        parts
            One int, slice or one-dimensional integer array (non-negative) for each axis.

        Raises
        ------
        MissingFrameError
            If a frame of it is missing.
        MemoryBudgetError
            If it does not fit the memory that is free.
        """
        view = self.view.pick(tuple(parts))
        view.check_missing()
        nbytes = math.prod(view.shape) * self.dtype.itemsize
        remedy = "Take a slice, reduce it, go through it frame by frame"
        check_free(nbytes, f"{self.name!r}: this would load", remedy)
        return _owned(read_selection(view.reader, view.selection))

    def __iter__(self) -> Iterator[Any]:
        """Frames along axis 0, each chunk decoded once."""
        if not self.shape:
            raise TypeError("iteration over an array without axes")
        frames = self.view.frames
        if isinstance(frames, int) or self._frames_a_chunk == 1:
            yield from (self[index] for index in range(len(self)))
            return
        borders = runs(frames, self.view.reader.spec.chunks[0])
        rest = [slice(None)] * (self.ndim - 1)
        for low, high in pairwise(borders):
            block = self.view.pick([slice(low, high), *rest])
            if self.view.missing and self.view.missing.mask(block.frames).any():
                # One by one, so that frames before the missing one are still given.
                yield from (self[index] for index in range(low, high))
                continue
            yield from _read_only(read_selection(block.reader, block.selection))

    def isel(self, indexers: Mapping[str, Any] | None = None, **by_name: Any) -> Any:
        """Select by position, axis by axis: ``a.isel(time=3)``, ``a.isel(y=slice(0, 50))``.

        Returns
        -------
        LazyArray or np.ndarray
            As with brackets: values where axis 0 is given an int or a list, else a view. Lists
            along several axes are not paired.

        Raises
        ------
        UsageError
            For a name that is no axis.
        IndexError
            For a position outside its axis.
        """
        wanted = {**(indexers or {}), **by_name}
        self._check_dims(wanted)
        parts = [spell_out(wanted.get(dim, slice(None)), (size,), (dim,))[0]
                 for dim, size in zip(self.dims, self.shape, strict=True)]  # fmt: skip
        view = self.view.pick(parts)
        if is_lazy(parts):
            return self._of(view, self._coords, self._attrs)
        return _read_only(self._values(view))

    def sel(
        self,
        indexers: Mapping[str, Any] | None = None,
        *,
        method: Method | None = None,
        tolerance: float | None = None,
        **by_name: Any,
    ) -> Any:
        """Select by label: ``a.sel(time=12.5, method="nearest")``, ``a.sel(time=slice(1.0, 2.0))``.

        A slice of labels includes both ends, as in xarray; half a step of the axis makes it
        half-open. `method` and `tolerance` apply to single labels and lists, not to slices.

        Raises
        ------
        LabelError
            If the axis does not hold a label.
        UsageError
            For a name that is no axis, or an axis without labels.
        """
        wanted = {**(indexers or {}), **by_name}
        self._check_dims(wanted)
        positions: dict[str, Any] = {}
        for dim, label in wanted.items():
            if dim not in self._coords:
                raise UsageError(
                    f"axis {dim!r} of {self.name!r} has no labels; select by position, isel({dim}=...)"
                )
            values = self.coords[dim]
            if isinstance(label, slice):
                positions[dim] = positions_between(values, label, dim)
            elif np.ndim(label):
                positions[dim] = np.array(
                    [position_of(values, one, dim, method, tolerance) for one in np.asarray(label).tolist()],
                    np.intp,
                )
            else:
                positions[dim] = position_of(values, label, dim, method, tolerance)
        return self.isel(positions)

    def _check_dims(self, wanted: Mapping[str, Any]) -> None:
        unknown = [name for name in wanted if name not in self.dims]
        if unknown:
            raise UsageError(f"{unknown[0]!r} is no axis of {self.name!r}; its axes are {self.dims}")

    # --- values ---------------------------------------------------------------------------------

    def load(self) -> NDArray[Any]:
        """Every value, in a writable array of one's own, whatever the budget.

        Raises
        ------
        MissingFrameError
            If a frame of it is missing.
        MemoryBudgetError
            If it does not fit the memory that is free.
        """
        return self.outer([slice(None)] * self.ndim)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError(
                f"{self.name!r} lies in a store, so its values are always a copy; use np.asarray"
            )
        if self._frames_a_chunk and self.shape[0] == 1:
            values: NDArray[Any] = self[0][np.newaxis]  # a viewer's a[i:i+1]: the shortest way to one frame
        else:
            # A copy in another type lies beside the values for a moment.
            wide = 0 if dtype is None or np.dtype(dtype) == self.dtype else np.dtype(dtype).itemsize
            self._check_budget(self.size * (self.itemsize + wide))
            values = self._values(self.view)
        if dtype is not None and values.dtype != np.dtype(dtype):
            return values.astype(dtype)
        # np.asarray(a) must not depend on the layout: always read-only, where np.array(a) is one's own.
        return _owned(values) if copy else cast("NDArray[Any]", _read_only(values))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return dispatch.apply_ufunc(ufunc, method, inputs, kwargs, LazyArray)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return dispatch.apply_function(function, args, kwargs, LazyArray)

    def to_xarray(self) -> xarray.DataArray:
        """A DataArray over this array: labelled, and read only where it is looked at."""
        from lazystore.array.xarray_adapter import to_xarray

        return to_xarray(self)

    def to_dask(self) -> dask.array.Array:
        """A dask array with about one block a shard, never a task a frame; pickles to workers."""
        from lazystore.array.dask_adapter import to_dask

        return to_dask(self)

    # --- looking at it --------------------------------------------------------------------------

    def _in_memory(self, values: NDArray[Any], coords: Mapping[str, Coordinate], **attrs: Any) -> LazyArray:
        """An array of values that are there already, otherwise like this one."""
        reader = ValuesReader(values, self.dims)
        return LazyArray(reader, name=self.name, coords=coords, attrs={**self._attrs, **attrs})

    def __repr__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self, thumbnail_of(self.view))


def _rebuilt(view: View, coords: Mapping[str, Coordinate], attrs: Mapping[str, Any]) -> LazyArray:
    return LazyArray._of(view, coords, attrs)


def _read_only(values: NDArray[Any]) -> Any:
    """The values with their writable flag off; a scalar where there is no axis left."""
    if values.ndim == 0:
        return values[()]
    if values.flags.writeable:
        values.flags.writeable = False
    return values


def _owned(values: NDArray[Any]) -> NDArray[Any]:
    """The values in memory of their own, writable: never a chunk that others see."""
    return values if values.flags.writeable and values.base is None else values.copy()
