"""Any kind of fields gives the same frames, and reads no more than it must."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.render import LazyFieldRenderer, fields
from lazystore.render.fields import frames_of

from .conftest import LOOKUP, grid_environment

VALUES = np.random.default_rng(0).random((20, 6)).astype("f4")


def as_memmap(folder: Path) -> Any:
    stored = np.memmap(folder / "fields.dat", np.float32, "w+", shape=VALUES.shape)
    stored[:] = VALUES
    return stored


def as_zarr(folder: Path) -> Any:
    import zarr

    array = zarr.create_array(folder / "a.zarr", shape=VALUES.shape, chunks=(4, 3), shards=(8, 6), dtype="f4")
    array[:] = VALUES
    return array


def as_dask(folder: Path) -> Any:
    import dask.array

    return dask.array.from_array(VALUES, chunks=((3, 7, 10), 6))


def as_h5py(folder: Path) -> Any:
    import h5py

    with h5py.File(folder / "f.h5", "w") as file:
        file.create_dataset("rate", data=VALUES, chunks=(5, 6))
    return h5py.File(folder / "f.h5")["rate"]


def as_data_array(values: Any) -> Any:
    import xarray

    return xarray.DataArray(values, dims=("time", "bin"), coords={"time": np.arange(20.0)})


def as_opened_by_xarray(folder: Path) -> Any:
    import xarray

    as_data_array(VALUES).to_dataset(name="rate").chunk(time=4).to_zarr(
        folder / "x.zarr", zarr_format=3, consolidated=False
    )
    return xarray.open_zarr(folder / "x.zarr", chunks=None, consolidated=False)["rate"]


class OnlyItems:
    """No shape, no dtype: the least that neurospatial takes."""

    def __len__(self) -> int:
        return len(VALUES)

    def __getitem__(self, index: int) -> NDArray[Any]:
        return VALUES[index]


KINDS: dict[str, Callable[[Path], Any]] = {
    "array": lambda _: VALUES,
    "list": lambda _: list(VALUES),
    "tuple": lambda _: tuple(VALUES),
    "array of arrays": lambda _: np.array([*VALUES, None], dtype=object)[:-1],
    "items": lambda _: OnlyItems(),
    "memmap": as_memmap,
    "zarr": as_zarr,
    "dask": as_dask,
    "h5py": as_h5py,
    "xarray": lambda _: as_data_array(VALUES),
    "xarray, bins first": lambda _: as_data_array(VALUES).transpose("bin", "time"),
    "xarray over dask": lambda folder: as_data_array(as_dask(folder)),
    "xarray over a file": as_opened_by_xarray,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fields_gives_the_same_movie(kind: str, tmp_path: Path) -> None:
    """In the fields' own dtype, hence in the same colours."""
    given = KINDS[kind](tmp_path)
    frames = frames_of(given)
    assert frames.n_frames == 20
    for index in (0, 3, 11, 19):
        np.testing.assert_array_equal(frames.frame(index), VALUES[index])
        assert type(frames.frame(index)) is np.ndarray
        assert frames.frame(index).dtype == np.float32
    np.testing.assert_array_equal(frames.block(2, 13), VALUES[2:13])
    env = grid_environment((2, 3), None)
    expected = LazyFieldRenderer(env, VALUES, LOOKUP, 0.1, 0.9)[:]
    np.testing.assert_array_equal(LazyFieldRenderer(env, given, LOOKUP, 0.1, 0.9)[:], expected)
    if kind == "h5py":
        given.file.close()


def test_a_frame_of_a_file_opened_by_xarray_reads_that_frame(tmp_path: Path, monkeypatch: Any) -> None:
    """Not the variable, which xarray would read whole and keep."""
    opened = as_opened_by_xarray(tmp_path)
    frames = frames_of(opened)
    frames.frame(6)
    assert not opened.variable._in_memory
    asked = []
    monkeypatch.setattr(
        frames, "block", lambda start, stop: asked.append((start, stop)) or VALUES[start:stop]
    )
    frames.frame(9), frames.frame(11), frames.frame(7)
    assert asked == [(8, 12)], "blocks are the file's chunks, and are kept"


def test_dask_computes_a_block_once_not_a_graph_a_frame() -> None:
    """Twenty frames in three blocks are three computations."""
    import dask
    import dask.array

    computed = []

    def make(block_info: Any = None) -> NDArray[Any]:
        computed.append(block_info[None]["array-location"][0])
        (start, stop), _ = block_info[None]["array-location"]
        return VALUES[start:stop]

    array = dask.array.map_blocks(make, chunks=((3, 7, 10), (6,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    with dask.config.set(scheduler="synchronous"):
        frames = frames_of(array)
        for index in range(20):
            np.testing.assert_array_equal(frames.frame(index), VALUES[index])
    assert computed == [(0, 3), (3, 10), (10, 20)]


def test_dask_of_unknown_chunks_is_refused() -> None:
    """It does not know its own length."""
    import dask.array

    array = dask.array.from_array(VALUES, chunks=(5, 6))
    unknown = array[array[:, 0] > 0.5]
    with pytest.raises((UsageError, ValueError), match=r"compute_chunk_sizes|NaN"):
        frames_of(unknown)


class Chunked:
    """Pretends to be a zarr array that counts its reads."""

    __module__ = "zarr.fake"
    dtype = np.dtype("f4")

    def __init__(self, values: NDArray[Any], chunks: tuple[int, ...]) -> None:
        self.values, self.chunks, self.shape = values, chunks, values.shape
        self.reads: list[tuple[int, int]] = []

    def __getitem__(self, part: slice) -> NDArray[Any]:
        self.reads.append((part.start, part.stop))
        return self.values[part]


def test_neighbours_share_one_read_of_a_chunk() -> None:
    """Playing through an array of chunks of 4 frames reads each chunk once."""
    array = Chunked(VALUES, (4, 6))
    frames = frames_of(array)
    for index in range(20):
        np.testing.assert_array_equal(frames.frame(index), VALUES[index])
    assert array.reads == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20)]


def test_a_chunk_larger_than_a_block_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One frame never costs a whole recording, even where that is one chunk."""
    monkeypatch.setattr(fields, "MAX_BLOCK_BYTES", 3 * 24)
    for chunks in ((20, 6), ((13, 7), (6,))):
        array = Chunked(VALUES, chunks)
        frames = frames_of(array)
        np.testing.assert_array_equal(frames.frame(14), VALUES[14])
        assert [stop - start for start, stop in array.reads] == [3]


def test_blocks_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used one goes first, and the newest always stays."""
    monkeypatch.setattr(fields, "MAX_KEPT_BYTES", 2 * 4 * 24)
    array = Chunked(VALUES, (4, 6))
    frames = frames_of(array)
    for index in (0, 4, 1, 8, 2, 5):
        frames.frame(index)
    assert array.reads == [(0, 4), (4, 8), (8, 12), (4, 8)]
    monkeypatch.setattr(fields, "MAX_KEPT_BYTES", 1)
    frames.frame(16), frames.frame(17)
    assert array.reads[-1] == (16, 20)
    assert array.reads.count((16, 20)) == 1


def test_a_block_wanted_by_many_is_read_once() -> None:
    """Eight threads that play through the same chunk cause one read."""
    barrier = threading.Barrier(8)
    array = Chunked(VALUES, (20, 6))
    frames = frames_of(array)

    def read(index: int) -> None:
        barrier.wait()
        frames.frame(index)

    threads = [threading.Thread(target=read, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert array.reads == [(0, 20)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "fields is 'int': expected a list"),
        ("rate.npy", "fields is 'str': expected a list"),
        ({"rate": VALUES}, "fields is 'dict': expected a list"),
        (np.zeros(5), r"fields have shape \(5,\): expected \(time, bin\) or \(time, y, x\)"),
        (np.zeros((2, 2, 2, 2)), r"fields have shape \(2, 2, 2, 2\): expected"),
    ],
)
def test_what_are_no_fields_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        frames_of(given)


def test_a_dataset_is_refused_with_the_way_to_its_fields() -> None:
    """Which of its variables is meant, nobody knows."""
    with pytest.raises(UsageError, match=r"fields is an xarray Dataset: expected one DataArray"):
        frames_of(as_data_array(VALUES).to_dataset(name="rate"))


def test_no_frames_are_no_movie_but_no_error() -> None:
    """An empty recording has a length of 0."""
    for empty in ([], np.empty((0, 6)), Chunked(np.empty((0, 6), "f4"), (4, 6))):
        assert frames_of(empty).n_frames == 0
