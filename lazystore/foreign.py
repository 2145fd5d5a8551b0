"""Zarr stores that lazystore did not write: their arrays, lazily and through the cache."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from lazystore.array.labels import Coordinate
from lazystore.array.lazy_array import LazyArray
from lazystore.cache import CachedReader
from lazystore.errors import StoreError, unknown_item
from lazystore.protocols import ChunkReader
from lazystore.store.direct import read_array
from lazystore.store.foreign import ForeignTree, open_foreign
from lazystore.store.location import Location

if TYPE_CHECKING:
    import xarray

# What an array that is itself the root of its store goes by.
ROOT_NAME = "data"
_openings = itertools.count()


class ForeignStore(Mapping[str, Any]):
    """The arrays of a Zarr v2 or v3 store by path; a context manager.

    Labels (arrays named like their only axis) are coordinates of their neighbours and not listed,
    but found by name. There are no statistics, no manifest, and no promise that every chunk was
    stored: an absent one holds the fill value.

    Notes
    -----
    Thread-safe; pickles by location. Arrays are read-only, and changes that another program makes
    to the store while it is open may or may not be seen.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._tree: ForeignTree = open_foreign(location)
        # Each opening sees the store anew: nobody tells when a foreign store has changed.
        self._opening = (os.getpid(), next(_openings))
        self._opened: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return ForeignStore, (self.location,)

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each array that is not read, and why."""
        return self._tree.problems

    def __iter__(self) -> Iterator[str]:
        return (
            path or ROOT_NAME for path, reader in self._tree.arrays.items() if not _is_label(path, reader)
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Any:
        path = "" if name == ROOT_NAME and "" in self._tree.arrays else name
        if path not in self._tree.arrays:
            raise unknown_item(name, self.location.url, self, "arrays")
        if path not in self._opened:
            self._opened[path] = self._array(path)
        return self._opened[path]

    def _array(self, path: str) -> LazyArray | NDArray[np.str_]:
        reader = self._tree.arrays[path]
        if reader.spec.is_text:
            return read_array(reader)
        return LazyArray(
            CachedReader(reader, key=(self.location.url, path, self._opening)),
            name=path or ROOT_NAME,
            coords=self._coordinates(path, reader),
            attrs=dict(reader.spec.attributes),
        )

    def _coordinates(self, path: str, of: ChunkReader) -> dict[str, Coordinate]:
        folder = path.rpartition("/")[0]
        found = {}
        for dim, size in zip(of.spec.dims, of.spec.shape, strict=True):
            label_path = f"{folder}/{dim}" if folder else dim
            label = self._tree.arrays.get(label_path)
            if label is not None and label_path != path and label.spec.shape == (size,):
                found[dim] = Coordinate((dim,), partial(read_array, label), label.spec.attributes)
        return found

    def info(self, item: str | None = None) -> dict[str, Any]:
        """What the store holds, or one array of it, from its metadata alone, as plain values for JSON."""
        if item is not None and item not in self:
            raise unknown_item(item, self.location.url, self, "arrays")
        return {
            "store": self.location.url,
            "items": {
                name: {
                    "kind": "array",
                    "dims": list(spec.dims),
                    "shape": list(spec.shape),
                    "dtype": "text" if spec.is_text else spec.dtype.name,
                    "chunks": list(spec.chunks),
                }
                for name in (self if item is None else (item,))
                for spec in (self._tree.arrays["" if name == ROOT_NAME else name].spec,)
            },
            "problems": list(self.problems),
        }

    def verify(self, level: str = "full", **options: Any) -> Any:
        """Raise StoreError: without a manifest there is nothing to check against."""
        raise StoreError(
            f"{self.location.url} was not written by lazystore and has no manifest to verify against; "
            "convert it with convert-to-zarr to get one"
        )

    def to_xarray(self) -> xarray.DataTree:
        """Raise StoreError, naming xarray's own engine, which knows such stores best."""
        raise StoreError(
            f"{self.location.url} was not written by lazystore; open it with "
            "xarray.open_datatree(store, engine='zarr')"
        )

    def close(self) -> None:
        """Release cached chunks of this store. Idempotent."""
        opened, self._opened = self._opened, {}
        for item in opened.values():
            if isinstance(item, LazyArray):
                item.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        lines = [f"<lazystore.ForeignStore {self.location.url}>"]
        for name in self:
            spec = self._tree.arrays["" if name == ROOT_NAME else name].spec
            axes = ", ".join(f"{dim}: {size:,}" for dim, size in zip(spec.dims, spec.shape, strict=True))
            lines.append(f"  {name:<16} {'text' if spec.is_text else spec.dtype.name:<9} ({axes})")
        return "\n".join([*lines, *(f"  not read: {problem}" for problem in self.problems)])


def _is_label(path: str, reader: ChunkReader) -> bool:
    return reader.spec.dims == (path.rpartition("/")[2],)


def open_foreign_store(location: Location) -> ForeignStore:
    """A store of somebody else; reads its metadata only.

    Raises
    ------
    StoreError, HostileStoreError, DamagedStoreError
        As `open_foreign`.
    """
    return ForeignStore(location)
