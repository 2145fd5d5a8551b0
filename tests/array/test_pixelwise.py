"""Reductions by compiled loops equal numpy's: any chunks, crops, strides, NaN, and in any number of runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lazystore.array import LazyArray, frame_runs, pixelwise
from lazystore.array import reduce as reduce_module
from lazystore.cache.reader import CachedReader
from tests.array.fakes import MemoryReader, ScanReader
from tests.array.test_reduce import random_values, wide

# One of each way to add up; every further type is compiled in seconds.
DTYPES = ("u1", "i2", "?", "i4", "u8", "f2", "f4", "f8")


@pytest.fixture(autouse=True)
def always_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a few values, in runs of a few frames and batches of a few chunks."""
    monkeypatch.setattr(reduce_module, "MIN_COMPILED_BYTES", dict.fromkeys(reduce_module.OPERATIONS, 0))
    monkeypatch.setattr(reduce_module, "MIN_PIXELS", 1)
    monkeypatch.setattr(frame_runs, "BATCH_BYTES", 100)
    monkeypatch.setattr(frame_runs, "MIN_RUN_BYTES", 1)
    monkeypatch.setattr(frame_runs, "MIN_RUN_FRAMES", 4)


@st.composite
def movies(draw: Any, dtypes: tuple[str, ...], special: float = 0.0) -> tuple[NDArray[Any], LazyArray]:
    """Frames of one to three axes, any chunks, and a part of them: crops, strides, single lines."""
    shape = (draw(st.integers(1, 40)), *draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    chunks = tuple(draw(st.integers(1, size + 1)) for size in shape)
    values = random_values(shape, draw(st.sampled_from(dtypes)), draw(st.integers(0, 99)), special)
    lazy = LazyArray(draw(st.sampled_from([MemoryReader, ScanReader]))(values, chunks))
    starts = [draw(st.integers(0, size - 1)) for size in shape]
    parts: list[Any] = [
        slice(start, draw(st.integers(start + 1, size)), draw(st.sampled_from([1, 1, 2])))
        for start, size in zip(starts, shape, strict=True)
    ]
    if draw(st.booleans()):
        parts[0] = slice(None, None, draw(st.sampled_from([-1, 3])))
    if draw(st.booleans()):
        parts[-1] = starts[-1]
    return values[tuple(parts)], lazy[tuple(parts)]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_compiled_reductions_equal_numpy(data: st.DataObject) -> None:
    """Sums and extremes of integers to the bit, the rest within 1e-12 of float64, over time and more."""
    values, lazy = data.draw(movies(DTYPES))
    more = data.draw(st.lists(st.sampled_from(range(1, values.ndim)), unique=True)) if values.ndim > 1 else []
    axes = (0, *more)
    exact = values.dtype.kind in "iub"
    scale = float(np.abs(wide(values)).max()) or 1.0
    for operation in ("min", "max", "sum", "mean", "std", "var"):
        is_exact = operation in ("min", "max") or (exact and operation == "sum")
        actual = getattr(lazy, operation)(axis=axes)
        expected = getattr(values if is_exact else wide(values), operation)(axis=axes)
        if is_exact:
            np.testing.assert_array_equal(actual, expected)
            assert np.asarray(actual).dtype == np.asarray(expected).dtype
        else:
            power = 2 if operation == "var" else 1
            n = len(values) if operation == "sum" else 1
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13 * n * scale**power)


@settings(deadline=None, max_examples=100)
@given(st.data())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_compiled_reductions_treat_nan_as_numpy(data: st.DataObject) -> None:
    """NaN stays, or is left out on request; infinities do what they do in numpy."""
    values, lazy = data.draw(movies(("f2", "f4", "f8"), special=0.3))
    axes = data.draw(st.sampled_from([0, tuple(range(values.ndim))]))
    for operation in ("min", "max", "sum", "mean", "std"):
        for skipna in (False, True):
            if operation == "std":
                values = np.where(np.isinf(values), values.dtype.type(1), values)
                lazy = LazyArray(MemoryReader(values, (3, *values.shape[1:])))
            expected = getattr(np, f"nan{operation}" if skipna else operation)(wide(values), axis=axes)
            actual = getattr(lazy, operation)(axis=axes, skipna=skipna)
            np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-11)


def test_a_spread_far_from_the_first_value_does_not_cancel() -> None:
    """A dark first frame before bright ones of little contrast: 1e-12 all the same."""
    values = (1e3 + np.random.default_rng(0).normal(size=(300, 4, 5))).astype("f8")
    values[0] = 0
    lazy = LazyArray(MemoryReader(values, (1, 4, 5)))
    np.testing.assert_allclose(lazy[1:].std("time"), values[1:].std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(lazy.std("time"), values.std(axis=0), rtol=1e-12)


def test_the_number_of_threads_does_not_change_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs begin at the same frames and are joined in the same order."""
    values = random_values((60, 5, 6), "f4", 3)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(pixelwise, "read_threads", lambda threads=threads: threads)
        lazy = LazyArray(MemoryReader(values, (2, 5, 6)))
        found.append([lazy.mean("time").tobytes(), lazy.var("time").tobytes()])
    assert found[0] == found[1]


@pytest.mark.parametrize(("dtype", "top"), [("u1", 255), ("i1", -128), ("u2", 65535), ("i2", -32768)])
def test_the_largest_sums_fit(dtype: str, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing overflows in the narrow sums of a run, at the most frames that one may have."""
    monkeypatch.setattr(frame_runs, "MIN_RUNS", 1)
    monkeypatch.setattr(frame_runs, "MIN_RUN_FRAMES", frame_runs.MAX_RUN_FRAMES)
    monkeypatch.setattr(frame_runs, "BATCH_BYTES", 2**20)
    n = frame_runs.MAX_RUN_FRAMES
    for length, chunk in ((n, n // 4), (2 * n + 2, 2 * n + 2)):
        lazy = LazyArray(MemoryReader(np.full((length, 2), top, dtype), (chunk, 2)))
        assert lazy.sum("time").tolist() == [length * top] * 2
        assert lazy.std("time").tolist() == [0, 0]


def test_chunks_that_are_cached_are_not_read_again() -> None:
    """A scan takes from memory what is there, and leaves nothing new in it."""
    values = random_values((12, 3, 4), "u1", 5)
    with_cache = CachedReader(ScanReader(values, (2, 3, 4)), prefetch=False)
    lazy = LazyArray(with_cache)
    lazy[4].sum()
    before = with_cache.cache_info()
    np.testing.assert_array_equal(lazy.sum("time"), values.sum(axis=0))
    after = with_cache.cache_info()
    assert after.uncached - before.uncached == 5
    assert (after.misses, after.bytes) == (before.misses, before.bytes)
    lazy.close()
