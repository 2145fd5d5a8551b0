"""From what a user names to the location it means."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from lazystore.errors import UsageError
from lazystore.store.location import LocalLocation, Location
from lazystore.store.remote import ObjectLocation

# A scheme has two letters or more: `C:\data` is a drive.
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+(?=:)")


def open_location(store: Any, storage_options: Mapping[str, Any] | None = None) -> Location:
    r"""The location that a path, an address or a store object means; nothing is read.

    Parameters
    ----------
    store
        A path (``C:\data\a.zarr`` and ``\\nas\share\a.zarr`` too), ``file://``, ``s3://``,
        ``gs://`` or ``https://`` address, a zarr-python store, or a location.
    storage_options
        For addresses: see `ObjectLocation`.

    Raises
    ------
    UsageError
        If the address is of another kind (``reference://``, ``zip::…``), or options are given where
        there is nothing to set.

    >>> open_location("s3://bucket/session.zarr")
    ObjectLocation('s3://bucket/session.zarr')
    """
    if isinstance(store, str):
        scheme = _scheme_of(store)
        if scheme not in (None, "file"):
            return ObjectLocation(store, storage_options)
        if storage_options:
            raise UsageError(f"storage_options are for remote stores; {store!r} is on a disk, leave them out")
        return LocalLocation(_path_of_file_url(store) if scheme else store)
    if storage_options:
        raise UsageError(f"storage_options are for addresses, not for {type(store).__name__}; leave them out")
    if isinstance(store, os.PathLike):
        return LocalLocation(store)
    # A zarr store exists only where zarr.abc.store was imported; importing it here costs a second.
    zarr_store = sys.modules.get("zarr.abc.store")
    if zarr_store is not None and isinstance(store, zarr_store.Store):
        if type(store).__name__ == "LocalStore":
            return LocalLocation(store.root)
        from lazystore.store.zarr_store import ZarrStoreLocation

        return ZarrStoreLocation(store)
    if isinstance(store, Location):
        return store
    raise UsageError(
        f"a store is named by a path, an address or a zarr store, not by {type(store).__name__} {store!r:.80}"
    )


def _scheme_of(text: str) -> str | None:
    """The scheme of an address, in lower case; None for a path.

    >>> _scheme_of("C:/data/a.zarr"), _scheme_of("/data/a.zarr"), _scheme_of("S3://bucket/a.zarr")
    (None, None, 's3')
    """
    match = _SCHEME.match(text)
    if match is None:
        return None
    rest = text[match.end() :]
    # "a:b.zarr" is a file on POSIX; "zip::s3://…" and "s3:bucket" are addresses gone wrong.
    if rest.startswith(("://", "::")) or match[0].lower() in ("s3", "gs", "https", "file"):
        return match[0].lower()
    return None


def _path_of_file_url(url: str) -> str:
    """The path that a ``file://`` address names.

    >>> _path_of_file_url("file:///data/a%20b.zarr")
    '/data/a b.zarr'
    >>> _path_of_file_url("file:///C:/data/a.zarr")
    'C:/data/a.zarr'
    """
    parts = urlsplit(url)
    if not url.lower().startswith("file://") or parts.query or parts.fragment:
        raise UsageError(f"address {url!r} is no plain file:// address; pass the path itself")
    path = unquote(parts.path)
    if re.match(r"^/[A-Za-z]:", path):
        return path[1:]
    if parts.netloc in ("", "localhost"):
        return path
    return f"//{parts.netloc}{path}"  # a share: Windows takes //nas/share as \\nas\share
