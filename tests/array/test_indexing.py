"""Lazy arrays index as numpy does, and read nothing that was not asked for."""

from __future__ import annotations

import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lazystore.array import Coordinate, LazyArray
from lazystore.array.reading import SCAN_FROM_BYTES
from lazystore.errors import DamagedStoreError, MemoryBudgetError, MissingFrameError, UsageError
from tests.array.fakes import DIMS, MemoryReader, ScanReader, SealedReader

DTYPES = ("u1", "i2", "f4", "f8", "c8", "?")


@st.composite
def stored(draw: Any, max_dims: int = 4) -> tuple[NDArray[Any], LazyArray, MemoryReader]:
    """An array of any shape and chunks, once in memory and once lazy."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=max_dims, min_side=0, max_side=9))
    chunks = tuple(draw(st.integers(1, max(1, size + 2))) for size in shape)
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    values = (np.arange(math.prod(shape)) % 251).reshape(shape).astype(dtype)
    reader = MemoryReader(values, chunks)
    return values, LazyArray(reader), reader


def basic_part(size: int) -> st.SearchStrategy[Any]:
    bound = st.none() | st.integers(-size - 3, size + 3)
    step = st.none() | st.integers(-4, 4).filter(bool)
    slices = st.builds(slice, bound, bound, step)
    return slices | st.integers(-size, size - 1) if size else slices


@st.composite
def keys(draw: Any, shape: tuple[int, ...]) -> Any:
    """Any key that numpy takes without None."""
    n_parts = draw(st.integers(0, len(shape)))
    parts: list[Any] = []
    for size in shape[:n_parts]:
        choices = [basic_part(size)]
        if size:
            choices.append(
                hnp.arrays(
                    np.intp, hnp.array_shapes(max_dims=2, max_side=3), elements=st.integers(-size, size - 1)
                )
            )
            choices.append(st.lists(st.integers(-size, size - 1), max_size=4))
        choices.append(hnp.arrays(bool, (size,)))
        parts.append(draw(st.one_of(choices)))
    if draw(st.booleans()):
        parts.insert(len(parts), Ellipsis)
    return tuple(parts) if len(parts) != 1 or draw(st.booleans()) else parts[0]


def same(actual: Any, expected: NDArray[Any]) -> None:
    actual = np.asarray(actual)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


@given(st.data())
def test_any_key_gives_what_numpy_gives(data: st.DataObject) -> None:
    """Ints, slices with any step, lists, index arrays, masks, Ellipsis: values, shapes and errors agree."""
    values, lazy, _ = data.draw(stored())
    key = data.draw(keys(values.shape))
    try:
        expected = values[key]
    except IndexError:
        with pytest.raises(IndexError):
            lazy[key]
        return
    try:
        actual = lazy[key]
    except IndexError as error:
        # The one key that numpy takes and we refuse: pairing index arrays lazily.
        assert "which is not lazy" in str(error)  # noqa: PT017
        first = key[0] if isinstance(key, tuple) and key else key
        assert isinstance(first, slice) or first is Ellipsis or (isinstance(key, tuple) and not key)
        return
    same(actual, np.asarray(expected))


@given(st.data())
def test_views_of_views_are_exact(data: st.DataObject) -> None:
    """However deep slices, steps and reversals are nested, the values are numpy's."""
    values, lazy, _ = data.draw(stored())
    for _ in range(data.draw(st.integers(1, 4))):
        parts = [data.draw(basic_part(size)) for size in values.shape]
        if parts and not isinstance(parts[0], slice):
            parts[0] = slice(None, None, data.draw(st.sampled_from([1, -1, 2])))
        parts = parts[: data.draw(st.integers(1, len(parts)))] if parts else parts
        values, lazy = values[tuple(parts)], lazy[tuple(parts)]
        assert isinstance(lazy, LazyArray)
        assert lazy.shape == values.shape
    same(lazy, values)
    same(lazy.load(), values)


@given(st.data())
def test_a_selection_reads_only_the_chunks_that_it_touches_and_each_once(data: st.DataObject) -> None:
    """The chunks read are those that hold a selected value, no more, none twice."""
    values, lazy, reader = data.draw(stored(3))
    key = tuple(data.draw(basic_part(size)) for size in values.shape)
    np.asarray(lazy[key])
    marks = np.zeros(values.shape, bool)
    marks[key] = True
    expected = {
        tuple(int(i) // c for i, c in zip(position, reader.spec.chunks, strict=True))
        for position in np.argwhere(marks)
    }
    assert sorted(reader.read) == sorted(expected)


def test_slices_are_views_that_read_nothing() -> None:
    """What napari and careless users ask for first touches no chunk."""
    lazy = LazyArray(SealedReader(np.zeros((100, 6, 5), "u1"), (1, 6, 5)))
    view = lazy[:, 1:3, 2:4][10:50:2]
    assert isinstance(view, LazyArray)
    assert view.shape == (20, 2, 2)
    assert (view.ndim, view.size, view.nbytes, len(view), view.itemsize) == (3, 80, 80, 20, 1)
    assert view.dims == ("time", "y", "x")
    assert lazy[:, 2].dims == ("time", "x")
    assert lazy[:, 2].chunks == (1, 5)
    assert np.shape(view) == view.shape
    assert np.ndim(view) == 3
    assert np.size(view) == 80
    assert lazy[...].shape == lazy.shape
    assert lazy[:, [0, 2]].shape == (100, 2, 5)
    assert repr(view).startswith("<LazyArray 'data' (time: 20, y: 2, x: 2) uint8, 80 B>")


@pytest.mark.parametrize(
    "key", [3, -1, np.int64(5), [3, 1], np.array([True] * 3 + [False] * 7), (2, slice(1, 3))]
)
def test_a_position_or_a_list_on_the_first_axis_gives_read_only_values(key: Any) -> None:
    """The result is an ndarray that nobody can write to, so that a cached chunk stays what it is."""
    values = np.arange(10 * 4 * 3, dtype="i2").reshape(10, 4, 3)
    for chunks in ((1, 4, 3), (4, 4, 3), (2, 2, 2)):
        result = LazyArray(MemoryReader(values, chunks))[key]
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, values[key])
        with pytest.raises(ValueError, match="read-only"):
            result[...] = 0


def test_single_values_are_numpy_scalars() -> None:
    """As with an ndarray."""
    values = np.arange(12, dtype="f4").reshape(3, 4)
    lazy = LazyArray(MemoryReader(values, (2, 4)))
    assert type(lazy[1, 2]) is np.float32
    assert lazy[1, 2] == 6
    series = LazyArray(MemoryReader(values.reshape(-1), (5,)))
    assert type(series[7]) is np.float32
    scalar = LazyArray(MemoryReader(np.array(4.0), ()))
    assert scalar.shape == ()
    assert scalar[()] == 4.0


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (10, "index 10 is out of bounds for axis 'time' of size 10"),
        (-11, "index -11 is out of bounds for axis 'time' of size 10"),
        (np.int64(10), "index 10 is out of bounds for axis 'time' of size 10"),
        ([0, 10], "index 10 is out of bounds for axis 'time' of size 10"),
        ([0, -12], "index -12 is out of bounds for axis 'time' of size 10"),
        ((0, 4), "index 4 is out of bounds for axis 'y' of size 4"),
        (None, r"None \(np.newaxis\) is no index of a lazy array; index the values"),
        ((slice(None), None), "None .* is no index of a lazy array"),
        (True, "True is no index along axis 'time'; pass an int, or a mask"),
        (1.5, "1.5 is no index along axis 'time'; expected an int, a slice, a list of ints or a mask .*sel"),
        ("a", "'a' is no index along axis 'time'"),
        ([1.5], "index array along axis 'time' has dtype float64; expected integers or booleans"),
        ((0, 0, 0, 0), "has 4 indices; the array has 3 axes"),
        ((Ellipsis, Ellipsis), "has 2 Ellipses"),
        (np.zeros(3, bool), r"mask of shape \(3,\) does not fit axes \('time',\) of shape \(10,\)"),
        (
            (slice(None), [0, 1], [0, 1]),
            "pairs index arrays beside a slice of axis 'time', which is not lazy",
        ),
    ],
)
def test_a_wrong_key_says_what_is_wrong(key: Any, message: str) -> None:
    """The message names the axis and its size; the whole-frame fast path agrees with the general way."""
    for chunks in ((1, 4, 3), (5, 2, 3)):
        lazy = LazyArray(SealedReader(np.zeros((10, 4, 3), "u1"), chunks))
        with pytest.raises(IndexError, match=message):
            lazy[key]


def test_iteration_gives_frames_and_decodes_each_chunk_once() -> None:
    """A loop over frames costs one read a chunk, also backwards."""
    values = np.arange(10 * 3 * 2).reshape(10, 3, 2)
    reader = MemoryReader(values, (4, 3, 2))
    for lazy, expected in ((LazyArray(reader), values), (LazyArray(reader)[::-1], values[::-1])):
        reader.read.clear()
        frames = list(lazy)
        np.testing.assert_array_equal(np.stack(frames), expected)
        assert len(reader.read) == 3
        assert not frames[0].flags.writeable
    with pytest.raises(TypeError, match="iteration over an array without axes"):
        next(iter(LazyArray(MemoryReader(np.array(1.0), ()))))


def test_missing_frames_raise_and_their_neighbours_do_not() -> None:
    """Filler is never given for a frame that the recording lost, whatever way leads to it."""
    values = np.arange(10 * 2 * 2).reshape(10, 2, 2)
    lazy = LazyArray(MemoryReader(values, (4, 2, 2)), name="cam", missing=[(7, 8), (3, 5)])
    np.testing.assert_array_equal(lazy.missing_frames, [3, 4, 7])
    np.testing.assert_array_equal(lazy[::-2].missing_frames, [1, 3])
    np.testing.assert_array_equal(lazy[5], values[5])
    np.testing.assert_array_equal(lazy[5:7], values[5:7])
    for read in (
        lambda: lazy[3],
        lambda: lazy[-3],
        lambda: lazy[[0, 4]],
        lambda: np.asarray(lazy[2:6]),
        lambda: lazy.load(),
        lambda: lazy.isel(time=7),
        lambda: lazy.mean(),
    ):
        with pytest.raises(MissingFrameError, match="'cam' is missing"):
            read()
    with pytest.raises(MissingFrameError, match=r"frame 3 of 'cam' is missing \(2 of the 4 asked for"):
        np.asarray(lazy[2:6])
    given_frames = []
    with pytest.raises(MissingFrameError, match="frame 3"):
        given_frames.extend(lazy)
    np.testing.assert_array_equal(np.stack(list(itertools.islice(iter(lazy), 3))), values[:3])


@pytest.mark.parametrize("spans", [[(3, 3)], [(-1, 2)], [(2, 5), (4, 6)]])
def test_missing_spans_that_mean_nothing_are_refused(spans: list[tuple[int, int]]) -> None:
    """A damaged record of missing frames is not silently ignored."""
    with pytest.raises(UsageError, match="missing frames .* empty, negative or overlaps"):
        LazyArray(SealedReader(np.zeros((9, 2)), (1, 2)), missing=spans)


def test_loading_by_accident_stops_at_the_memory_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the budget asarray and index lists raise and name load(), which does it anyway."""
    monkeypatch.setattr("lazystore.cache.guard.ALWAYS_FITS_BYTES", 0)
    values = np.zeros((10, 100), "u1")
    lazy = LazyArray(MemoryReader(values, (2, 100)), name="movie")
    monkeypatch.setenv("LAZYSTORE_MEMORY_BYTES", "500")
    for read in (
        lambda: np.asarray(lazy),
        lambda: lazy[list(range(6))],
        lambda: lazy + 1,
        lambda: np.median(lazy),
    ):
        with pytest.raises(
            MemoryBudgetError, match=r"'movie': this would load .* budget is 500 bytes.*load\(\)"
        ):
            read()
    np.testing.assert_array_equal(lazy.load(), values)
    np.testing.assert_array_equal(np.asarray(lazy[:5]), values[:5])
    monkeypatch.setenv("LAZYSTORE_MEMORY_BYTES", "2kB")
    np.testing.assert_array_equal(np.asarray(lazy), values)
    monkeypatch.delenv("LAZYSTORE_MEMORY_BYTES")
    np.testing.assert_array_equal(np.asarray(lazy), values)


def test_what_is_loaded_is_ones_own_and_what_is_viewed_is_not() -> None:
    """load() and np.array give writable copies, np.asarray never does, whatever the chunks are."""
    values = np.arange(8.0).reshape(4, 2)
    for chunks in ((4, 2), (1, 2)):
        lazy = LazyArray(MemoryReader(values, chunks))
        loaded = lazy.load()
        loaded[:] = -1
        np.array(lazy)[:] = -1
        assert not np.asarray(lazy).flags.writeable
        np.testing.assert_array_equal(np.asarray(lazy), values)
        assert np.asarray(lazy, "f4").dtype == np.float32
        with pytest.raises(ValueError, match="always a copy; use np.asarray"):
            np.array(lazy, copy=False)


def test_numpy_functions_and_operators_read_and_compute() -> None:
    """Arithmetic, comparisons and functions that numpy dispatches work as on an ndarray."""
    values = np.arange(24.0).reshape(4, 3, 2)
    lazy = LazyArray(MemoryReader(values, (2, 3, 2)))
    np.testing.assert_array_equal(lazy + 1, values + 1)
    np.testing.assert_array_equal(values - lazy, values - values)
    np.testing.assert_array_equal(lazy == 3, values == 3)
    np.testing.assert_array_equal(np.sqrt(lazy[1:]), np.sqrt(values[1:]))
    np.testing.assert_array_equal(np.concatenate([lazy, lazy]), np.concatenate([values, values]))
    np.testing.assert_array_equal(np.median(lazy, axis=0), np.median(values, axis=0))
    np.testing.assert_array_equal(np.add.reduce(lazy), np.add.reduce(values))
    np.testing.assert_array_equal(np.mean(lazy, axis=0, dtype="f4"), np.mean(values, axis=0, dtype="f4"))
    np.testing.assert_array_equal(np.clip(lazy, 2, 5), np.clip(values, 2, 5))
    target = values.copy()
    with pytest.raises(TypeError, match="add: a lazy array cannot be written to"):
        np.add(target, 1, out=lazy)
    with pytest.raises(ValueError, match="truth of 'data' with 24 values is ambiguous"):
        bool(lazy)
    assert bool(lazy[1:2, 0:1, 0:1])
    assert len({lazy, lazy[1:]}) == 2
    with pytest.raises(TypeError, match="without axes"):
        len(LazyArray(MemoryReader(np.array(1.0), ())))


def test_isel_selects_axis_by_axis() -> None:
    """Names choose axes; lists along two axes are not paired; the first axis decides whether it reads."""
    values = np.arange(60).reshape(5, 4, 3)
    lazy = LazyArray(MemoryReader(values, (2, 2, 2)))
    np.testing.assert_array_equal(lazy.isel(time=3), values[3])
    np.testing.assert_array_equal(lazy.isel({"time": -1}, y=slice(1, 3)), values[-1, 1:3])
    assert isinstance(lazy.isel(y=2), LazyArray)
    np.testing.assert_array_equal(lazy.isel(y=2), values[:, 2])
    np.testing.assert_array_equal(
        lazy.isel(time=[0, 2], y=[1, 0, 3], x=1), values[[0, 2]][:, [1, 0, 3]][..., 1]
    )
    np.testing.assert_array_equal(lazy.isel(y=[3, 0]).isel(y=1, time=slice(1, 3)), values[1:3, 0])
    with pytest.raises(UsageError, match=r"'frame' is no axis of 'data'; its axes are \('time', 'y', 'x'\)"):
        lazy.isel(frame=0)
    with pytest.raises(IndexError, match="index 9 is out of bounds for axis 'y' of size 4"):
        lazy.isel(y=9)


def test_an_error_while_reading_reaches_the_caller() -> None:
    """Damage is raised from every path, the threaded one too, and is never answered with zeros."""

    class Damaged(MemoryReader):
        def read_chunk(self, chunk_index: Any) -> Any:
            if chunk_index[0] == 3:
                raise DamagedStoreError("chunk 3 is damaged")
            return super().read_chunk(chunk_index)

    values = np.zeros((8, 1024, 1024), "u1")
    lazy = LazyArray(Damaged(values, (1, 1024, 1024)))
    for read in (
        lambda: lazy[3],
        lazy.load,
        lambda: lazy.mean("time"),
        lambda: lazy.range(),
        lambda: list(lazy),
    ):
        with pytest.raises(DamagedStoreError, match="chunk 3"):
            read()
    np.testing.assert_array_equal(lazy[4], values[4])


def test_large_reads_run_on_threads_and_past_the_cache() -> None:
    """A scan does not push what is being watched out of the cache; results do not depend on the threads."""
    frame = np.random.default_rng(1).integers(0, 255, (1024, 1024), np.uint8)
    values = np.stack([frame + np.uint8(i) for i in range(SCAN_FROM_BYTES // frame.nbytes + 2)])
    reader = ScanReader(values, (1, 1024, 1024))
    lazy = LazyArray(reader)
    np.testing.assert_array_equal(lazy.load(), values)
    assert len(reader.scanned) == len(values)
    reader.scanned.clear()
    np.testing.assert_array_equal(lazy[:3], values[:3])
    assert not reader.scanned
    lazy[:3].mean("time")
    assert len(reader.scanned) == 3


def test_text_keeps_its_length() -> None:
    """Chunks of text of different lengths meet in one array."""
    values = np.array(["nose", "a", "left ear"], dtype="U8")

    class TextReader(MemoryReader):
        def read_chunk(self, chunk_index: Any) -> Any:
            return super().read_chunk(chunk_index).astype(object)

    reader = TextReader(values, (2,), dims=("keypoint",))
    assert LazyArray(reader).load().tolist() == ["nose", "a", "left ear"]
    assert LazyArray(reader)[2] == "left ear"


def test_an_array_pickles_without_what_it_has_read() -> None:
    """A worker gets the reader, the view and the labels' loader."""
    values = np.arange(40.0).reshape(20, 2)
    lazy = LazyArray(
        MemoryReader(values, (4, 2)),
        name="cam",
        coords={"time": Coordinate(("time",), np.arange(20.0), {"units": "s"})},
        attrs={"a": 1},
        missing=[(19, 20)],
    )[2::3]
    twin = pickle.loads(pickle.dumps(lazy))
    assert (twin.shape, twin.dims, twin.name, twin.attrs) == (lazy.shape, lazy.dims, "cam", {"a": 1})
    np.testing.assert_array_equal(twin, values[2::3])
    np.testing.assert_array_equal(twin.coords["time"], np.arange(20.0)[2::3])
    assert twin.coords.attributes_of("time") == {"units": "s"}
    with pytest.raises(MissingFrameError):
        pickle.loads(pickle.dumps(lazy.__class__(lazy.reader, missing=[(0, 1)])))[0]


def test_closing_an_array_closes_its_reader() -> None:
    """And only passes it on: the reader decides what closing means."""
    reader = MemoryReader(np.zeros((3, 2)), (1, 2))
    lazy = LazyArray(reader)
    lazy[1:].close()
    assert reader.closed == 1
    assert lazy.cache_info().hits == 0
    assert lazy.reader is reader


def test_every_axis_name_is_used() -> None:
    """The test's own names are those that the reader gives."""
    assert LazyArray(SealedReader(np.zeros((1, 1, 1, 1)), (1, 1, 1, 1))).dims == DIMS[:4]


def test_frames_without_values_read_no_chunk() -> None:
    """A frame of shape (0,) is there, and nothing is stored for it."""
    reader = MemoryReader(np.zeros((3, 0)), (1, 1))
    lazy = LazyArray(reader)
    assert lazy[1].shape == (0,)
    assert np.asarray(lazy[1:2]).shape == (1, 0)
    assert reader.read == []
