"""From what a person writes to a location: a path, a ``file://`` address, a bucket, a zarr store."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from lazystore.errors import UsageError
from lazystore.store.location import LocalLocation, Location

REMOTE_SCHEMES = ("s3", "gs", "https")
# Two letters at least before "://": a drive such as C:\ is a path.
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")


def open_location(store: Any, *, storage_options: Mapping[str, Any] | None = None) -> Location:
    r"""The location that `store` names; reads nothing.

    Parameters
    ----------
    store
        A path (``C:\data``, ``\\nas\share`` and ``~`` too), ``file://``, ``s3://``, ``gs://``,
        ``https://``, a `Location`, or a zarr store object.
    storage_options
        For remote stores only.

    Raises
    ------
    UsageError
        If the scheme is none of these, or schemes are chained with ``::``.

    >>> open_location(r"C:\data\session.zarr").url.endswith("session.zarr")
    True
    """
    if isinstance(store, Location):
        return store
    if isinstance(store, os.PathLike):
        return LocalLocation(store)
    if not isinstance(store, str):
        return _zarr_store_location(store)
    if not store:
        raise UsageError("the store's path is empty; pass a folder or an address")
    if "::" in store:
        raise UsageError(f"store {store!r} chains addresses with '::', which is not read; pass a plain one")
    found = _SCHEME.match(store)
    if found is None:
        return LocalLocation(os.path.expanduser(store))
    scheme = found[1].lower()
    if scheme == "file":
        return LocalLocation(url2pathname(unquote(urlsplit(store).path)))
    if scheme not in REMOTE_SCHEMES:
        known = ", ".join(f"{name}://" for name in ("file", *REMOTE_SCHEMES))
        raise UsageError(f"store {store!r} has the scheme {scheme!r}; expected a path or {known}")
    from lazystore.store.remote import ObjectLocation

    return ObjectLocation(store, storage_options=storage_options)


def _zarr_store_location(store: Any) -> Location:
    """The location behind a zarr store object."""
    root = getattr(store, "root", None)
    if isinstance(root, os.PathLike):
        return LocalLocation(root)
    if hasattr(store, "get") and hasattr(store, "list_prefix"):
        from lazystore.store.zarr_location import ZarrStoreLocation

        return ZarrStoreLocation(store)
    raise UsageError(f"store {store!r} is no path, address or zarr store")
