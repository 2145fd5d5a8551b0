"""Stores that lazystore did not write open like any other, without statistics."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import lazystore as ls
from lazystore.errors import StoreError


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """What plain xarray writes: a movie with labels, text, and a second group."""
    path = tmp_path / "foreign.zarr"
    movie = xr.DataArray(
        np.arange(120, dtype="i4").reshape(10, 4, 3), dims=("time", "y", "x"),
        coords={"time": ("time", np.arange(10) / 4, {"units": "s"})}, attrs={"long_name": "counts"},
    )  # fmt: skip
    names = xr.DataArray(["a", "bc"], dims="cell")
    xr.Dataset({"movie": movie, "names": names}).to_zarr(path, consolidated=False)
    xr.Dataset({"trace": ("t", np.arange(7.0))}).to_zarr(path, group="more/deep", consolidated=False)
    return path


def test_arrays_labels_and_text(foreign: Path) -> None:
    """Indexing, selection by label and attributes work; labels are not listed as items."""
    with ls.open(foreign) as store:
        assert set(store) == {"movie", "names", "more/deep/trace"}
        assert len(store) == 3
        movie = store["movie"]
        assert store["movie"] is movie
        assert movie.dims == ("time", "y", "x")
        np.testing.assert_array_equal(movie[3], np.arange(36, 48).reshape(4, 3))
        np.testing.assert_array_equal(movie.sel(time=1.3, method="nearest"), movie[5])
        assert movie.attrs["long_name"] == "counts"
        assert movie.coords["time"][2] == 0.5
        np.testing.assert_array_equal(store["time"][:4].load(), np.arange(4) / 4)
        assert store["names"].tolist() == ["a", "bc"]
        np.testing.assert_array_equal(np.asarray(store["more/deep/trace"]), np.arange(7.0))
        assert store.info()["items"]["movie"]["shape"] == [10, 4, 3]
        assert "movie" in repr(store)
        assert "(time: 10, y: 4, x: 3)" in repr(store)
        copy = pickle.loads(pickle.dumps(store))
        np.testing.assert_array_equal(copy["movie"][3], movie[3])
        with pytest.raises(KeyError, match="'film' is not in .*; its arrays are: "):
            store["film"]


def test_a_reopened_store_is_seen_anew(foreign: Path) -> None:
    """Nobody tells when a foreign store changes, so the cache does not outlive an opening."""
    with ls.open(foreign) as store:
        assert store["movie"][0].max() == 11
    zarr.open_array(foreign, path="movie")[0] = 99
    with ls.open(foreign) as store:
        assert store["movie"][0].max() == 99


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_that_is_one_array(tmp_path: Path, zarr_format: int) -> None:
    """The array at the root goes by the name data."""
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=(5, 2), chunks=(2, 2), dtype="u1", zarr_format=zarr_format
    )
    array[:3] = 1
    with ls.open(tmp_path / "a.zarr") as store:
        assert list(store) == ["data"]
        assert np.asarray(store["data"]).sum() == 6


def test_an_open_zarr_store_object() -> None:
    """Whatever zarr holds, in memory too."""
    memory = zarr.storage.MemoryStore()
    zarr.create_array(memory, shape=(5,), chunks=(2,), dtype="f4")[...] = 2
    with ls.open(memory) as store:
        assert np.asarray(store["data"]).tolist() == [2] * 5


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_what_is_missing_there_is_said(foreign: Path, tmp_path: Path) -> None:
    """No manifest, no tree of ours, arrays that are not read: each named."""
    zarr.open_group(foreign, mode="a").create_array("odd", shape=(2,), dtype=np.dtype([("f", "<i4")]))
    with ls.open(foreign) as store:
        with pytest.raises(StoreError, match="no manifest to verify against"):
            store.verify()
        with pytest.raises(StoreError, match="engine='zarr'"):
            store.to_xarray()
        assert len(store.problems) == 1
        assert "not read: array 'odd'" in repr(store)
    with pytest.raises(StoreError, match="there is no store .*nothing.zarr: no such folder"):
        ls.open(tmp_path / "nothing.zarr")
    (tmp_path / "mouse.mp4").write_bytes(b"")
    with pytest.raises(StoreError, match="is a file, not a store; lazystore.convert makes a store of it"):
        ls.open(tmp_path / "mouse.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds no Zarr array or group"):
        ls.open(tmp_path / "empty")
