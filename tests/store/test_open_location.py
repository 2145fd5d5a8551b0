"""From what a user names to a location."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from lazystore.errors import DamagedStoreError, StoreError, UsageError
from lazystore.store.direct import read_array
from lazystore.store.foreign import open_foreign
from lazystore.store.location import LocalLocation, Location
from lazystore.store.open_location import open_location
from lazystore.store.remote import ObjectLocation
from lazystore.store.zarr_store import ZarrStoreLocation

PATHS = {
    "session.zarr": "session.zarr",
    "/data/session.zarr": "/data/session.zarr",
    "./a:b.zarr": "./a:b.zarr",
    "a:b.zarr": "a:b.zarr",
    r"C:\data\session.zarr": r"C:\data\session.zarr",
    "C:/data/session.zarr": "C:/data/session.zarr",
    "d:session.zarr": "d:session.zarr",
    r"\\nas\share\session.zarr": r"\\nas\share\session.zarr",
    "//nas/share/session.zarr": "//nas/share/session.zarr",
    "file:///data/a%20b.zarr": "/data/a b.zarr",
    "file://localhost/data/a.zarr": "/data/a.zarr",
    "file:///C:/data/a.zarr": "C:/data/a.zarr",
    "FILE:///data/a.zarr": "/data/a.zarr",
    "file://nas/share/a.zarr": "//nas/share/a.zarr",
}


@pytest.mark.parametrize("text", PATHS)
def test_paths_are_no_addresses(text: str) -> None:
    """Drives, shares and names with a colon are paths; file:// is one, spelt out."""
    location = open_location(text)
    assert isinstance(location, LocalLocation)
    assert str(location.root) == os.path.abspath(PATHS[text])


@pytest.mark.parametrize(
    "url", ["s3://bucket/a.zarr", "gs://bucket/a.zarr", "https://host/a.zarr", "http://127.0.0.1:1/a"]
)
def test_addresses(url: str) -> None:
    """Remote addresses become remote locations, and nothing is read yet."""
    location = open_location(url, storage_options={"region": "eu-west-1"})
    assert isinstance(location, ObjectLocation)
    assert location.url == url


@pytest.mark.parametrize(
    ("store", "options", "message"),
    [
        ("reference://a.json", None, "scheme 'reference'"),
        ("memory://a", None, "scheme 'memory'"),
        ("zip::/data/a.zip", None, "chained address"),
        ("simplecache::s3://bucket/a", None, "chained address"),
        ("s3:bucket/a", None, "names no bucket or host"),
        ("file:/data/a", None, "no plain file:// address"),
        ("file:///data/a?b", None, "no plain file:// address"),
        ("/data/a", {"region": "x"}, "storage_options are for remote stores; '/data/a' is on a disk"),
        (Path("/data/a"), {"region": "x"}, "storage_options are for addresses, not for"),
        (42, None, "not by int 42"),
    ],
)
def test_what_names_no_store(store: Any, options: Any, message: str) -> None:
    """Chains, unknown schemes and options without use are refused by name."""
    with pytest.raises(UsageError, match=message):
        open_location(store, options)


def test_objects_that_are_locations_already(tmp_path: Path) -> None:
    """Paths, locations and zarr's stores are taken as they are; a local zarr store by its folder."""
    assert open_location(tmp_path).url == str(tmp_path)
    location = LocalLocation(tmp_path)
    assert open_location(location) is location
    local = open_location(zarr.storage.LocalStore(tmp_path))
    assert isinstance(local, LocalLocation)
    assert local.root == tmp_path
    assert isinstance(open_location(zarr.storage.MemoryStore()), ZarrStoreLocation)


def test_a_zarr_store_is_a_location() -> None:
    """The same promises as a folder: ranges, tails, absent keys, limits, listing."""
    location = ZarrStoreLocation(zarr.storage.MemoryStore())
    assert isinstance(location, Location)
    assert "memory://" in location.url
    assert "ZarrStoreLocation" in repr(location)
    location.write("a/b", [b"01234", b"56789"])
    location.write("c", [b"x"])
    assert location.read("a/b", 10) == b"0123456789"
    assert location.read_range("a/b", 8, 9) == b"89"
    assert location.read_range("a/b", 10, 5) == b""
    assert location.read_range("a/b", 1, 0) == b""
    assert location.read_tail("a/b", 3) == b"789"
    assert location.read_tail("a/b", 0) == b""
    assert location.size("a/b") == 10
    assert list(location.list()) == ["a/b", "c"]
    assert list(location.list("a/")) == ["a/b"]
    assert "b" in location.folders("a")
    with pytest.raises(DamagedStoreError, match="10 bytes where at most 9"):
        location.read("a/b", 9)
    location.delete("a/b")
    for ask in (location.read, location.size, lambda key: location.read_range(key, 0, 1)):
        with pytest.raises(FileNotFoundError, match="a/b"):
            ask("a/b")


def test_a_read_only_zarr_store_refuses_to_be_written() -> None:
    """Before anything is sent."""
    location = ZarrStoreLocation(zarr.storage.MemoryStore().with_read_only(True))
    with pytest.raises(StoreError, match="reading only; open it in another mode to write 'k'"):
        location.write("k", [b"x"])
    with pytest.raises(StoreError, match="reading only; open it in another mode to delete 'k'"):
        location.delete("k")


def test_a_foreign_group_in_memory() -> None:
    """Whatever zarr can reach is read through the same guards."""
    store = zarr.storage.MemoryStore()
    root = zarr.create_group(store)
    root.create_group("g").create_array("data", shape=(5,), chunks=(2,), dtype="i4")[...] = np.arange(5)
    tree = open_foreign(open_location(store))
    assert list(tree.arrays) == ["g/data"]
    assert read_array(tree.arrays["g/data"]).tolist() == [0, 1, 2, 3, 4]
