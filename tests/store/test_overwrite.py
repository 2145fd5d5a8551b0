"""Replacing an item: what goes, what stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.errors import DamagedStoreError
from lazystore.store.location import LocalLocation
from lazystore.store.verify import verify


@pytest.fixture
def tmp_path(disk_path: Path) -> Path:
    """What is made durable lies on a disk."""
    return disk_path


def save(path: Path, value: int, dtype: str = "u1", n: int = 16) -> Path:
    np.save(path, np.full((n, 4), value, dtype))
    return path


def convert(source: Path, store: Path, **options: Any) -> Any:
    return ls.convert(source, store, name="day/a", chunks=2, shards=4, **options).items[0]


def test_only_keys_of_the_item_go(tmp_path: Path, store_path: Path) -> None:
    """A person's own file inside the item survives, and the other item's bytes do not move."""
    convert(save(tmp_path / "a.npy", 1), store_path)
    ls.convert(save(tmp_path / "b.npy", 2), store_path)
    other = {path: path.read_bytes() for path in (store_path / "b").rglob("*") if path.is_file()}
    mine = [store_path / "day/a/notes.txt", store_path / "day/a/data/my.partial", store_path / "day/a/x/y"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    convert(save(tmp_path / "c.npy", 3, "f4", 8), store_path, overwrite=True)
    assert all(path.read_text() == "mine" for path in mine)
    assert {path: path.read_bytes() for path in other} == other
    assert not (store_path / "day/a/data/c/3").exists(), "a shard of the longer, older movie"
    with ls.open(store_path) as store:
        np.testing.assert_array_equal(store["day/a"].load(), np.full((8, 4), 3, "f4"))
    assert {finding.key for finding in verify(LocalLocation(store_path)).findings} == {
        path.relative_to(store_path).as_posix() for path in mine
    }


def test_a_new_item_leaves_files_that_lie_at_its_name(tmp_path: Path, store_path: Path) -> None:
    """They are no leftovers of a conversion, so they are a person's."""
    convert(save(tmp_path / "a.npy", 1), store_path)
    (store_path / "b").mkdir()
    (store_path / "b/notes.txt").write_text("mine")
    ls.convert(save(tmp_path / "b.npy", 2), store_path)
    assert (store_path / "b/notes.txt").read_text() == "mine"


def test_a_reader_of_the_old_item_never_gets_new_values(tmp_path: Path, store_path: Path) -> None:
    """A store that was open all along gives old values or an error."""
    convert(save(tmp_path / "a.npy", 1), store_path)
    with ls.open(store_path) as store:
        reader = store.reader(store.records["day/a"], "data")
        convert(save(tmp_path / "a.npy", 9), store_path, overwrite=True)
        with pytest.raises(DamagedStoreError, match="older conversion|replaced"):
            reader.read_chunk((0, 0))
        reader.close()


@pytest.mark.parametrize("victim", ["data/manifest/root-*.json", "data/manifest/page-*.json", "zarr.json"])
def test_a_damaged_item_can_be_replaced(tmp_path: Path, store_path: Path, victim: str) -> None:
    """Its list of files is gone; what a conversion writes is known by its shape."""
    source = save(tmp_path / "a.npy", 1)
    convert(source, store_path)
    (file,) = (store_path / "day/a").glob(victim)
    file.write_bytes(b"garbage")
    convert(save(tmp_path / "a.npy", 2, n=8), store_path, overwrite=True)
    assert verify(LocalLocation(store_path)).ok
    with ls.open(store_path) as store:
        np.testing.assert_array_equal(store["day/a"].load(), np.full((8, 4), 2, "u1"))
