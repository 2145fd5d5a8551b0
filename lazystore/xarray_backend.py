"""``engine="lazystore"`` for xarray: a store's groups through lazystore's readers and cache."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint
from xarray.backends.common import AbstractDataStore
from xarray.backends.store import StoreBackendEntrypoint

from lazystore.dataset import Store, open_own
from lazystore.errors import LazystoreError, UsageError
from lazystore.schema import MAX_METADATA_BYTES
from lazystore.store.index import MARKER, METADATA
from lazystore.store.location import LocalLocation
from lazystore.xarray_tree import group_data, group_paths


class LazystoreBackend(BackendEntrypoint):
    """Opens stores that lazystore wrote; the entry point of group ``xarray.backends``."""

    description = "Open stores written by lazystore (.zarr), through its own readers and cache"
    supports_groups = True
    open_dataset_parameters = (
        "filename_or_obj",
        "drop_variables",
        "group",
        "storage_options",
        "allow_incomplete",
        "mask_and_scale",
        "decode_times",
        "concat_characters",
        "decode_coords",
        "use_cftime",
        "decode_timedelta",
    )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether our marker is at a local path; never asks the network, never raises."""
        if not isinstance(filename_or_obj, (str, os.PathLike)) or "://" in str(filename_or_obj):
            return False
        try:
            content = LocalLocation(os.fspath(filename_or_obj)).read(METADATA, MAX_METADATA_BYTES)
            return "items" in json.loads(content)["attributes"][MARKER]
        except (OSError, ValueError, KeyError, TypeError, RecursionError, LazystoreError):
            return False

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        allow_incomplete: bool = False,
        **decoders: Any,
    ) -> xr.Dataset:
        """One group as a dataset; where none is named, the only item.

        Raises
        ------
        UsageError
            If there is no such group, or several items and none is named.
        """
        store = _opened(filename_or_obj, storage_options, allow_incomplete)
        if group is None:
            if len(store) != 1:
                raise UsageError(
                    f"{store.location.url} holds {len(store)} items; pass group= one of "
                    f"{', '.join(map(repr, store)) or 'none'}, or use xarray.open_datatree"
                )
            group = next(iter(store))
        return _dataset(store, group.strip("/"), drop_variables, decoders)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        allow_incomplete: bool = False,
        **decoders: Any,
    ) -> dict[str, xr.Dataset]:
        """Every group by its path; those below `group`, by their paths from there, where it is named."""
        store = _opened(filename_or_obj, storage_options, allow_incomplete)
        top = (group or "").strip("/")
        inside = [path for path in group_paths(store) if not top or path.startswith(f"{top}/")]
        found = {"/": _dataset(store, top, drop_variables, decoders)}
        for path in inside:
            name = path[len(top) :].strip("/")
            found[f"/{name}"] = _dataset(store, path, drop_variables, decoders)
        return found

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> xr.DataTree:
        """The whole store, or the groups below `group`, as a tree."""
        groups = self.open_groups_as_dict(filename_or_obj, **options)
        tree = xr.DataTree.from_dict(groups)
        tree.set_close(groups["/"].close)
        return tree


def _opened(source: Any, storage_options: Mapping[str, Any] | None, allow_incomplete: bool) -> Store:
    if isinstance(source, Store):
        return source
    return open_own(source, storage_options=storage_options, allow_incomplete=allow_incomplete)


def _dataset(
    store: Store, path: str, drop_variables: str | Iterable[str] | None, decoders: Mapping[str, Any]
) -> xr.Dataset:
    try:
        data: AbstractDataStore = group_data(store, path)
    except KeyError:
        known = ", ".join(map(repr, group_paths(store))) or "none"
        raise UsageError(f"{store.location.url} has no group {path!r}; its groups are {known}") from None
    dataset: xr.Dataset = StoreBackendEntrypoint().open_dataset(
        data, drop_variables=drop_variables, **decoders
    )
    return dataset
