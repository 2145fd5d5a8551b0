"""A lazy array as an xarray DataArray. Imported when first asked for: xarray costs seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from lazystore.cache.guard import check_budget

if TYPE_CHECKING:
    from lazystore.array.lazy_array import LazyArray


class LazyBackendArray(BackendArray):
    """What xarray indexes: selections compose inside xarray, and are read axis by axis here."""

    __slots__ = ("array", "dtype", "shape")

    def __init__(self, array: LazyArray) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        parts = [_non_negative(part, size) for part, size in zip(key, self.shape, strict=True)]
        nbytes = math.prod(self.array.view.pick(parts).shape) * self.dtype.itemsize
        # xarray loads without being asked, for a mean as for a plot; it does so block by block with dask.
        remedy = "Take a slice, reduce the LazyArray itself, open it with chunks={} for dask"
        check_budget(nbytes, f"{self.array.name!r}: xarray would load", remedy)
        return self.array.outer(parts)


def _non_negative(part: Any, size: int) -> Any:
    if isinstance(part, slice):
        return part
    if isinstance(part, np.ndarray) and part.ndim:
        positions = part.astype(np.intp, copy=False)
        return np.where(positions < 0, positions + size, positions)
    position = int(part)
    return position + size if position < 0 else position


def lazy_variable(array: LazyArray) -> xr.Variable:
    """The array's values and attributes as a Variable that reads where it is looked at."""
    return xr.Variable(array.dims, indexing.LazilyIndexedArray(LazyBackendArray(array)), array.attrs)


def to_xarray(array: LazyArray) -> xr.DataArray:
    """The DataArray: coordinates are read now, because labels make indexes; data is not."""
    coords = array.coords
    variables = {
        name: xr.Variable(coords.dims_of(name), coords[name], coords.attributes_of(name)) for name in coords
    }
    return xr.DataArray(lazy_variable(array), coords=variables, name=array.name)
