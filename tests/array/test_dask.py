"""dask arrays over lazy arrays: shard-sized blocks, exact, picklable."""

from __future__ import annotations

import pickle
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.highlevelgraph import HighLevelGraph

from lazystore.array import LazyArray, dask_adapter
from tests.array.fakes import MemoryReader, SealedReader


@pytest.fixture(autouse=True)
def on_this_thread() -> Any:
    """dask's own pool would outlive the test."""
    with dask.config.set(scheduler="synchronous"):
        yield


def test_blocks_are_shards_and_their_number_is_that_of_the_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that begins inside a shard gets a short first block; making it reads nothing."""
    monkeypatch.setattr(dask_adapter, "BLOCK_BYTES", 0)
    lazy = LazyArray(SealedReader(np.zeros((100, 6, 5), "u1"), (1, 6, 5), shards=(16, 6, 5)))
    assert lazy.to_dask().chunks == ((16,) * 6 + (4,), (6,), (5,))
    assert lazy[10:40].to_dask().chunks[0] == (6, 16, 8)
    assert lazy[::-1].to_dask().chunks[0] == (4,) + (16,) * 6
    assert isinstance(lazy.to_dask().dask, HighLevelGraph)
    assert lazy[:0].to_dask().shape == (0, 6, 5)


def test_small_shards_and_strides_never_make_a_task_a_frame() -> None:
    """Blocks are joined up to 32 MB, also where every k-th frame is taken or nothing is sharded."""
    lazy = LazyArray(SealedReader(np.broadcast_to(np.uint8(0), (100_000, 10, 10)), (1, 10, 10)))
    assert lazy.to_dask().npartitions <= 2
    assert lazy[::16].to_dask().npartitions <= 2
    tall = LazyArray(
        SealedReader(np.broadcast_to(np.uint8(0), (640, 1000, 1000)), (1, 500, 500), shards=(8, 1000, 1000))
    )
    assert tall.to_dask().chunks == ((32,) * 20, (1000,), (1000,))


def test_values_are_exact_and_blocks_ones_own() -> None:
    """Any view computes to numpy's values, and writing to a block harms nobody."""
    values = np.random.default_rng(0).integers(0, 255, (50, 6, 5)).astype("u2")
    lazy = LazyArray(MemoryReader(values, (4, 6, 5), shards=(8, 6, 5)))
    for key in (slice(None), slice(3, 41, 2), slice(None, None, -1), (slice(None), slice(1, 3), 2)):
        array = lazy[key].to_dask()
        assert isinstance(array, da.Array)
        assert array.dtype == values.dtype
        np.testing.assert_array_equal(array.compute(), values[key])
    np.testing.assert_allclose(lazy.to_dask().mean(axis=0).compute(), values.mean(axis=0))

    def spoil(block: Any) -> Any:
        block[:] = 0
        return block

    lazy.to_dask().map_blocks(spoil).compute()
    np.testing.assert_array_equal(lazy, values)


def test_it_pickles_and_is_named_by_what_it_holds() -> None:
    """Workers get the reader; equal parts of a known array share a name, others do not."""
    values = np.arange(60.0).reshape(20, 3)
    reader = MemoryReader(values, (4, 3))
    lazy = LazyArray(reader, name="day2/cam")
    twin = pickle.loads(pickle.dumps(lazy.to_dask()))
    np.testing.assert_array_equal(twin.compute(), values)
    assert lazy.to_dask().name != lazy.to_dask().name
    reader.key = ("store", "day2/cam", "generation")
    assert lazy.to_dask().name == lazy.to_dask().name
    assert lazy[1:].to_dask().name != lazy.to_dask().name
    assert "/" not in lazy.to_dask().name
