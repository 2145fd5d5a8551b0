"""A store as xarray datasets: the same groups, variables and attributes as plain Zarr shows.

Values come through the store's own readers and the process's chunk cache. Loaded when first needed:
xarray takes seconds to import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import AbstractDataStore, BackendArray
from xarray.backends.store import StoreBackendEntrypoint
from xarray.core import indexing

from lazystore.array.lazy_array import LazyArray
from lazystore.array.xarray_adapter import LazyBackendArray
from lazystore.errors import HostileStoreError
from lazystore.schema import JSON, ArraySpec, UnfamiliarLayoutError, spec_from_metadata
from lazystore.store.direct import MAX_COORDINATE_BYTES, read_array, read_text
from lazystore.store.encoded_item import documents_with_frames
from lazystore.store.index import METADATA, ItemRecord, read_document
from lazystore.store.location import Location


class ArraysByPath(Protocol):
    """The part of an open store that a tree is made from."""

    location: Location
    records: dict[str, ItemRecord]

    def array(self, record: ItemRecord, path: str) -> LazyArray:
        """One array of an item."""

    def close(self) -> None:
        """Release files."""


class GroupData(AbstractDataStore):
    """One group: its attributes, and a lazy variable for each array in it."""

    def __init__(
        self, attributes: Mapping[str, Any], variables: Mapping[str, xr.Variable], close: Callable[[], None]
    ) -> None:
        self._attributes = dict(attributes)
        self._variables = dict(variables)
        self._close = close

    def get_attrs(self) -> dict[str, Any]:
        return self._attributes

    def get_variables(self) -> dict[str, xr.Variable]:
        return self._variables

    def get_dimensions(self) -> dict[str, int]:
        return {
            str(name): size
            for variable in self._variables.values()
            for name, size in zip(variable.dims, variable.shape, strict=True)
        }

    def get_encoding(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self._close()


def group_paths(store: ArraysByPath) -> Iterator[str]:
    """Every group below the root, parents first: items, their child groups, folders of items."""
    seen: set[str] = set()
    for name, record in store.records.items():
        inside = [path for path, document in record.documents.items() if document["node_type"] == "group"]
        for path in [name, *(f"{name}/{child}" for child in inside)]:
            parts = path.split("/")
            for depth in range(1, len(parts) + 1):
                parent = "/".join(parts[:depth])
                if parent not in seen:
                    seen.add(parent)
                    yield parent


def item_of(store: ArraysByPath, path: str) -> tuple[ItemRecord, str] | None:
    """The item that a group belongs to, and the group's path in it; None above the items."""
    for name, record in store.records.items():
        if path == name or path.startswith(f"{name}/"):
            return record, path[len(name) + 1 :]
    return None


def group_data(store: ArraysByPath, path: str) -> GroupData:
    """One group of a store; ``""`` is the root.

    Raises
    ------
    KeyError
        If there is no such group.
    """
    found = item_of(store, path)
    if found is None:
        if path and path not in group_paths(store):
            raise KeyError(path)
        document = read_document(store.location, f"{path}/{METADATA}" if path else METADATA)
        return GroupData((document or {}).get("attributes") or {}, {}, store.close)
    record, inside = found
    if inside:
        group = record.documents.get(inside)
        if group is None or group["node_type"] != "group":
            raise KeyError(path)
        attributes: Any = group.get("attributes") or {}
    else:
        attributes = record.group_document()["attributes"]
    head = f"{inside}/" if inside else ""
    variables = {
        array_path[len(head) :]: _variable(store, record, array_path, document)
        for array_path, document in documents_with_frames(record).items()
        if document["node_type"] == "array"
        and array_path.startswith(head)
        and "/" not in array_path[len(head) :]
    }
    return GroupData(attributes, variables, store.close)


def _variable(
    store: ArraysByPath, record: ItemRecord, path: str, document: Mapping[str, JSON]
) -> xr.Variable:
    backend: Any  # xarray's base class does not tell that backends have a dtype
    try:
        spec = spec_from_metadata(path, document)
        prefix = f"{record.name}/{path}"
        load = partial(read_text, store.location, prefix, spec, checksums=record.checksums(path))
    except UnfamiliarLayoutError:
        reader = store.array(record, path).reader
        spec, load = reader.spec, partial(read_array, reader)
    if spec.is_text:
        backend = _TextArray(spec.shape, load)
    elif spec.dims == (path.rpartition("/")[2],):
        backend = _LabelArray(store.array(record, path))
    else:
        backend = LazyBackendArray(store.array(record, path))
    return xr.Variable(
        spec.dims,
        indexing.LazilyIndexedArray(backend),
        dict(spec.attributes),
        encoding=_encoding(spec, backend),
    )


def _encoding(spec: ArraySpec, backend: Any) -> dict[str, Any]:
    """What dask needs to cut well: one block a shard, so that no shard is asked for twice."""
    return {
        "chunks": spec.chunks,
        "shards": spec.shards,
        "preferred_chunks": dict(zip(spec.dims, spec.write_shape, strict=True)),
        "dtype": backend.dtype,
    }


class _LabelArray(LazyBackendArray):
    """Labels of an axis, which xarray reads whole for its index: bounded, as nothing else here is."""

    __slots__ = ()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        n_bytes = math.prod(indexing.LazilyIndexedArray(self, key).shape) * self.dtype.itemsize
        if n_bytes > MAX_COORDINATE_BYTES:
            raise HostileStoreError(
                f"labels {self.array.name!r} take {n_bytes} bytes where at most {MAX_COORDINATE_BYTES} are "
                "read at once; pass create_default_indexes=False and select by position"
            )
        return super().__getitem__(key)


class _TextArray(BackendArray):
    """Names and labels: read whole when first looked at, and small."""

    def __init__(self, shape: tuple[int, ...], load: Callable[[], NDArray[Any]]) -> None:
        self._load = load
        self.shape = shape
        # As zarr-python shows text: of any length.
        self.dtype = np.dtypes.StringDType()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        return self._load().astype(self.dtype)[key]


def tree_of_store(store: ArraysByPath) -> xr.DataTree:
    """The whole store as a tree, indexes made; lazy but for the labels of axes."""
    groups = {}
    for path in ("", *group_paths(store)):
        dataset = StoreBackendEntrypoint().open_dataset(group_data(store, path))
        labels = {name: dataset.variables[name] for name in dataset.dims if name in dataset.variables}
        groups[f"/{path}"] = dataset.assign_coords(labels)
    return xr.DataTree.from_dict(groups)
