"""Lazy arrays of a real store, through the front door: cache, statistics and labels meet."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.dataset import Store
from lazystore.errors import StoreError, UsageError

N_FRAMES = 300


@pytest.fixture(scope="module")
def movie() -> Any:
    return np.random.default_rng(0).integers(0, 200, (N_FRAMES, 40, 50)).astype(np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, movie: Any) -> Path:
    path = tmp_path_factory.mktemp("store") / "session.zarr"
    ls.convert(movie, path, name="cam", kind="stack", chunks=4, shards=64)
    return path


@pytest.fixture
def array(store: Path) -> Iterator[Any]:
    with ls.open(store) as session:
        yield session["cam"]


def test_values_are_the_sources(array: Any, movie: Any) -> None:
    """Frames, views and everything at once."""
    assert (array.shape, array.dtype, array.dims[0]) == (movie.shape, movie.dtype, "time")
    np.testing.assert_array_equal(array[17], movie[17])
    np.testing.assert_array_equal(array[200:10:-7, 3:9], movie[200:10:-7, 3:9])
    np.testing.assert_array_equal(array[[5, 3, 290]], movie[[5, 3, 290]])
    np.testing.assert_array_equal(array, movie)


def test_statistics_of_the_conversion_answer_without_reading_a_frame(array: Any, movie: Any) -> None:
    """Range, percentiles and totals, for the whole and for a part that ends inside a shard."""
    for part in (slice(None), slice(70, 201)):
        assert array[part].range() == (movie[part].min(), movie[part].max())
        assert list(array[part].range((1, 99))) == np.percentile(movie[part], (1, 99)).tolist()
        assert array[part].sum() == movie[part].sum()
        assert array[part].std() == pytest.approx(movie[part].std(), rel=1e-12)
    info = array.cache_info()
    assert (info.misses, info.uncached) == (0, 0)
    np.testing.assert_array_equal(array.mean("time"), movie.mean(axis=0))


def test_an_item_is_no_store(store: Path) -> None:
    """Its folder is told from a damaged store; names complete after a bracket and a tab."""
    with pytest.raises(StoreError, match="is an item of a store, not a store; open the folder above"):
        ls.open(store / "cam")
    with ls.open(store) as session:
        assert isinstance(session, Store)
        assert session._ipython_key_completions_() == ["cam"]


@pytest.mark.parametrize("percentile", [99, (1,), (1, 50, 99), "ab"])
def test_percentiles_are_two(array: Any, percentile: Any) -> None:
    with pytest.raises(UsageError, match="expected two numbers, such as"):
        array.range(percentile=percentile)


def test_playing_forward_is_served_from_memory(array: Any, movie: Any) -> None:
    """A chunk of four frames is read once, whoever has opened the store."""
    for frame_index in range(40):
        np.testing.assert_array_equal(array[frame_index], movie[frame_index])
    info = array.cache_info()
    assert info.misses <= 10
    assert info.hits >= 30
    with ls.open(array.reader.reader.location.url) as again:
        np.testing.assert_array_equal(again["cam"][3], movie[3])
        assert again["cam"].cache_info().misses == 0


def test_labels_and_other_libraries(array: Any, movie: Any) -> None:
    """Session seconds select; xarray and dask see the same values."""
    time = array.coords["time"]
    np.testing.assert_array_equal(array.sel(time=time[30]), movie[30])
    np.testing.assert_array_equal(array.sel(time=slice(time[30], time[35])), movie[30:36])
    np.testing.assert_array_equal(array.to_xarray().sel(time=time[7]), movie[7])
    assert array.to_dask().numblocks == (1, 1, 1)
    np.testing.assert_array_equal(array[::5].to_dask().compute(scheduler="synchronous"), movie[::5])


def test_a_fresh_process_reads_what_it_was_sent(array: Any, movie: Any, tmp_path: Path) -> None:
    """A pickled view finds its store again, with its labels and statistics."""
    sent = tmp_path / "array.pickle"
    sent.write_bytes(pickle.dumps(array[50:60]))
    assert sent.stat().st_size < 20_000
    program = (
        "import pickle, sys; a = pickle.load(open(sys.argv[1], 'rb'));"
        "print(int(a[3].sum()), a.range(), float(a.coords['time'][0]), int(a.load().sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(sent)], capture_output=True, text=True, timeout=60, check=False
    )
    part = movie[50:60]
    expected = f"{part[3].sum()} {(int(part.min()), int(part.max()))} {array.coords['time'][50]} {part.sum()}"
    assert done.stdout.strip() == expected, done.stderr
