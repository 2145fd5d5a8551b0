"""A lazy array as a dask array of shard-sized blocks. Imported when first asked for."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from numpy.typing import NDArray

from lazystore.array.tiles import axis_boxes

if TYPE_CHECKING:
    from lazystore.array.lazy_array import LazyArray

# A task costs dask 0.2-1 ms, so that blocks below this are joined, however small the shards.
BLOCK_BYTES = 32 * 1024 * 1024


class BlockSource:
    """What dask slices: one block, read in the task, writable and its own."""

    def __init__(self, array: LazyArray) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.ndim = array.ndim

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        return self._array.outer(key)


def block_lengths(array: LazyArray) -> tuple[tuple[int, ...], ...]:
    """Lengths of the blocks along each axis: whole shards, joined up to `BLOCK_BYTES`."""
    view = array.view
    spec = view.reader.spec
    max_values = max(BLOCK_BYTES, int(np.prod(spec.write_shape)) * spec.dtype.itemsize) // max(
        1, spec.dtype.itemsize
    )
    boxes = axis_boxes(view.selection, spec.write_shape, max_values, by_result=True)
    return tuple(tuple(part.stop - part.start for part in parts) or (0,) for parts in boxes)


def to_dask(array: LazyArray) -> da.Array:
    """The dask array; its name is the same for the same part of the same generation of an item."""
    # Without a key nothing tells two readers apart: then two graphs share nothing.
    identity = getattr(array.reader, "key", None) or uuid.uuid4().hex
    token = tokenize(identity, array.name, [_plain(entry) for entry in array.view.selection])
    return da.from_array(  # type: ignore[no-untyped-call,no-any-return]  # dask ships few types
        BlockSource(array),
        chunks=block_lengths(array),
        name=f"lazystore-{array.name.replace('/', '-')}-{token}",
        asarray=True,
        fancy=False,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )


def _plain(entry: Any) -> Any:
    return (entry.start, entry.stop, entry.step) if isinstance(entry, range) else entry
