"""Reductions and ranges equal numpy's, in bounded memory, and come from statistics where they can."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lazystore.array import LazyArray, StoredStatistics
from lazystore.array import ranges as ranges_module
from lazystore.array import reduce as reduce_module
from lazystore.convert.frame_summary import FrameSummary
from lazystore.errors import MissingFrameError, UsageError
from lazystore.schema import ArraySpec
from tests.array.fakes import MemoryReader, ScanReader, SealedReader

INTEGERS = ("u1", "i1", "u2", "i2", "i4", "u4", "i8", "?")
FLOATS = ("f2", "f4", "f8")


@pytest.fixture(autouse=True)
def small_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of a few values, so that small arrays need many."""
    monkeypatch.setattr(reduce_module, "BOX_BYTES", 64)
    monkeypatch.setattr(reduce_module, "VARIANCE_BOX_VALUES", 16)
    monkeypatch.setattr(ranges_module, "BOX_VALUES", 16)


def random_values(shape: tuple[int, ...], dtype: str, seed: int, special: float = 0.0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind in "iu":
        info = np.iinfo(kind)
        return rng.integers(info.min // 2, info.max // 2, shape, dtype=kind)
    values = (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3, shape)).astype(kind)
    where = rng.random(shape) < special
    values[where] = rng.choice([np.nan, np.inf, -np.inf], int(where.sum()))
    return values


@st.composite
def arrays(draw: Any, dtypes: tuple[str, ...], special: float = 0.0) -> tuple[NDArray[Any], LazyArray]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=9))
    chunks = tuple(draw(st.integers(1, size + 1)) for size in shape)
    values = random_values(shape, draw(st.sampled_from(dtypes)), draw(st.integers(0, 99)), special)
    return values, LazyArray(MemoryReader(values, chunks))


def wide(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype("c16" if values.dtype.kind == "c" else "f8")


@given(st.data())
def test_reductions_equal_numpy(data: st.DataObject) -> None:
    """Any dtype, axes, view: sums and extremes of integers exactly, the rest as numpy in float64."""
    values, lazy = data.draw(arrays((*INTEGERS, *FLOATS)))
    key = tuple(slice(None, None, data.draw(st.sampled_from([1, -1, 2]))) for _ in values.shape)
    values, lazy = values[key], lazy[key]
    axes = data.draw(
        st.none() | st.lists(st.sampled_from(range(values.ndim)), unique=True, min_size=1).map(tuple)
    )
    keepdims = data.draw(st.booleans())
    options = {"axis": axes, "keepdims": keepdims}
    for operation in ("min", "max", "sum"):
        expected = getattr(values if values.dtype.kind in "iub" else wide(values), operation)(**options)
        actual = getattr(lazy, operation)(**options)
        assert np.shape(actual) == np.shape(expected)
        if values.dtype.kind in "iub":
            np.testing.assert_array_equal(actual, expected)
            assert np.asarray(actual).dtype == np.asarray(expected).dtype
        else:
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
    for operation in ("mean", "std", "var"):
        expected = getattr(wide(values), operation)(**options)
        actual = getattr(lazy, operation)(**options)
        assert np.asarray(actual).dtype == np.float64
        scale = float(np.abs(wide(values)).max()) ** (2 if operation == "var" else 1) or 1.0
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12 * scale)


@given(st.data())
def test_nan_is_kept_or_left_out_as_asked(data: st.DataObject) -> None:
    """NaN and infinities behave as in numpy, and with skipna as in numpy's nan-functions."""
    values, lazy = data.draw(arrays(FLOATS, special=0.3))
    axes = data.draw(st.sampled_from([None, *range(values.ndim)]))
    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            for operation in ("min", "max", "sum", "mean"):
                for skipna in (False, True):
                    function = getattr(np, f"nan{operation}" if skipna else operation)
                    expected = function(wide(values), axis=axes)
                    actual = getattr(lazy, operation)(axis=axes, skipna=skipna)
                    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
                    np.testing.assert_allclose(function(lazy, axis=axes), actual, rtol=1e-12)
            finite = np.where(np.isinf(values), values.dtype.type(1), values)
            lazy = LazyArray(MemoryReader(finite, lazy.chunks))
            for operation in ("std", "var"):
                expected = getattr(np, f"nan{operation}")(wide(finite), axis=axes)
                actual = getattr(lazy, operation)(axis=axes, skipna=True)
                np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


def test_numpy_functions_and_names_lead_to_the_same_reduction() -> None:
    """np.mean(a, axis=0), a.mean("time"), a.mean(axis=0): one result; ddof passes through."""
    values = random_values((7, 4, 3), "i2", 1)
    lazy = LazyArray(MemoryReader(values, (2, 4, 3)))
    for actual in (
        np.mean(lazy, axis=0),
        np.mean(lazy, 0),
        lazy.mean("time"),
        lazy.mean(axis=0),
        lazy.mean(("time",)),
    ):
        np.testing.assert_array_equal(actual, values.mean(axis=0))
    np.testing.assert_array_equal(lazy.max(("y", "x")), values.max(axis=(1, 2)))
    np.testing.assert_allclose(np.std(lazy, axis=0, ddof=1), values.std(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(lazy.var("time", ddof=2), values.var(axis=0, ddof=2), rtol=1e-12)
    assert type(lazy.sum()) is np.int64
    assert np.isnan(lazy.var("time", ddof=7)).all()
    complex_values = values + 1j * values[::-1]
    lazy = LazyArray(MemoryReader(complex_values, (2, 4, 3)))
    np.testing.assert_allclose(lazy.mean(0), complex_values.mean(axis=0))
    np.testing.assert_allclose(lazy.std(0), complex_values.std(axis=0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.mean("z"), r"dimension 'z' is not one of \('time', 'y', 'x'\)"),
        (lambda a: a.mean(axis=3), "axis 3 is outside the 3 axes"),
        (lambda a: a.mean((0, "time")), "name one axis of .* twice"),
        (lambda a: a.mean("time", axis=0), "dim='time' and axis=0 were both given"),
        (lambda a: a[:0].min("time"), "min over no values"),
        (lambda a: a.range((1, 101)), "percentile 101 is outside 0 to 100"),
    ],
)
def test_a_reduction_that_means_nothing_is_refused(call: Any, message: str) -> None:
    """One line says which axis, and which there are."""
    with pytest.raises(UsageError, match=message):
        call(LazyArray(SealedReader(np.zeros((4, 3, 2)), (1, 3, 2))))


def test_values_without_order_have_no_range() -> None:
    """Complex numbers and text are refused by name."""
    lazy = LazyArray(SealedReader(np.zeros((4, 3), "c8"), (1, 3)), name="wave")
    with pytest.raises(UsageError, match="'wave' holds complex64 values, which have no range"):
        lazy.range()
    with pytest.raises(UsageError, match=r"max of complex64 values is not defined here; call a.load\(\)"):
        lazy.max()
    with pytest.raises(UsageError, match="'wave' holds complex64 of shape"):
        lazy.thumbnail()


def test_missing_frames_can_be_left_out_of_a_reduction() -> None:
    """One lost frame does not make the mean of a recording impossible, but it is left out only on request."""
    values = random_values((10, 3, 2), "u1", 2)
    lazy = LazyArray(MemoryReader(values, (4, 3, 2)), missing=[(2, 4), (9, 10)])
    kept = np.delete(values, [2, 3, 9], axis=0)
    with pytest.raises(MissingFrameError, match="skip_missing=True"):
        lazy.mean("time")
    np.testing.assert_array_equal(lazy.mean("time", skip_missing=True), kept.mean(axis=0))
    np.testing.assert_allclose(lazy[::-1].std(skip_missing=True), kept.std())
    np.testing.assert_array_equal(lazy[4:9].mean("time", skip_missing=True), values[4:9].mean(axis=0))
    with pytest.raises(MissingFrameError):
        lazy.mean("y")
    for operation in ("mean", "max", "sum"):
        rows = getattr(values.astype(np.float64), operation)(axis=(1, 2))
        rows[[2, 3, 9]] = np.nan
        found = getattr(lazy, operation)(("y", "x"), skip_missing=True)
        np.testing.assert_array_equal(found, rows)
        kept_axes = getattr(lazy[::-1], operation)(("y", "x"), skip_missing=True, keepdims=True)
        np.testing.assert_array_equal(kept_axes[:, 0, 0], rows[::-1])
    assert lazy[:2].max(("y", "x"), skip_missing=True).dtype == np.uint8
    assert np.isnan(lazy[2:4].mean(("y", "x"), skip_missing=True)).all()
    assert lazy.range() == (kept.min(), kept.max())
    assert LazyArray(SealedReader(values, (4, 3, 2)), missing=[(0, 10)]).range() != (0, 0)


# --- ranges -------------------------------------------------------------------------------------


@given(st.data())
def test_ranges_and_percentiles_equal_numpy_on_finite_values(data: st.DataObject) -> None:
    """Exact for narrow types and on request; else a bracket that encloses numpy's value."""
    values, lazy = data.draw(arrays((*INTEGERS, *FLOATS), special=0.2))
    finite = values[np.isfinite(values)].astype("u1" if values.dtype.kind == "b" else values.dtype)
    percentiles = data.draw(st.tuples(*[st.integers(0, 100) | st.floats(0, 100)] * 2))
    low, high = lazy.range()
    if not finite.size:
        assert math.isnan(low)
        assert math.isnan(lazy.range(percentiles)[1])
        return
    assert (low, high) == (finite.min(), finite.max())
    assert type(low) is (float if values.dtype.kind == "f" else int)
    expected = np.percentile(finite.astype("f8"), percentiles)
    if np.abs(finite.astype("f8")).max() < 2**53:
        exact = lazy.range_bounds(percentiles, exact=True)
        assert [bracket[0] for bracket in exact] == expected.tolist()
        assert [bracket[1] for bracket in exact] == expected.tolist()
    for bracket, value in zip(lazy.range_bounds(percentiles), expected.tolist(), strict=True):
        slack = 1e-9 * (1 + abs(value))
        assert bracket[0] - slack <= value <= bracket[1] + slack
        if values.dtype.itemsize <= 2:
            assert bracket[0] == bracket[1] == value
        elif values.dtype == np.float32 and abs(value) > 1e-30:
            assert bracket[1] - bracket[0] <= 0.02 * max(abs(bracket[0]), abs(bracket[1]))
    assert lazy.range(percentiles) == (
        lazy.range_bounds(percentiles)[0][0],
        lazy.range_bounds(percentiles)[1][1],
    )


# --- statistics ---------------------------------------------------------------------------------


def with_statistics(values: NDArray[Any], shard: int, reader: type[MemoryReader]) -> LazyArray:
    """A movie whose statistics are those that a conversion writes."""
    spec = ArraySpec("data", ("time", "y", "x"), values.shape, values.dtype, (1, *values.shape[1:]),
                     (shard, *values.shape[1:]))  # fmt: skip
    n_tasks = -(-len(values) // shard)
    summary = FrameSummary(spec, n_tasks)
    shares = [summary.share(i * shard, {"data": values[i * shard : (i + 1) * shard]}) for i in range(n_tasks)]
    readers = {}
    for stored, pieces in summary.side(lambda: iter(shares)):
        array = np.concatenate(list(pieces()))
        readers[stored.path.removeprefix("stats/")] = MemoryReader(
            array, (3, *array.shape[1:]), dims=stored.dims
        )
    movie = reader(values, (1, *values.shape[1:]), shards=(shard, *values.shape[1:]))
    return LazyArray(movie, statistics=StoredStatistics(readers, movie.spec))


def test_statistics_answer_without_reading_a_frame() -> None:
    """Ranges, extremes, sums, means, deviations of whole frames, for any time range, and per frame."""
    for dtype in ("u1", "i1", "u2", "i2", "i4"):
        values = random_values((13, 4, 3), dtype, 3)
        lazy = with_statistics(values, 4, SealedReader)
        for part in (slice(None), slice(2, 9), slice(None, None, -3)):
            assert lazy[part].range() == (values[part].min(), values[part].max())
            for operation in ("min", "max", "sum", "mean"):
                result = getattr(lazy[part], operation)()
                expected = getattr(values[part], operation)()
                np.testing.assert_allclose(result, expected, rtol=1e-14)
                if operation != "mean":
                    assert result == expected
                    assert result.dtype == expected.dtype
                np.testing.assert_allclose(
                    getattr(lazy[part], operation)(("y", "x")),
                    getattr(values[part], operation)(axis=(1, 2)),
                    rtol=1e-14,
                )
            if dtype != "i4":
                np.testing.assert_allclose(lazy[part].std(), values[part].std(), rtol=1e-12)
                np.testing.assert_allclose(
                    lazy[part].var(("y", "x"), ddof=1), values[part].var((1, 2), ddof=1), rtol=1e-12
                )


def test_percentiles_of_narrow_types_read_at_most_the_partial_shards() -> None:
    """Whole shards from their counts, the ends from frames: exact for any time range."""
    for dtype in ("u1", "i1", "u2", "i2", "f2"):
        values = random_values((13, 4, 3), dtype, 4)
        lazy = with_statistics(values, 4, MemoryReader)
        for part, n_read in (
            (slice(None), 0),
            (slice(4, 12), 0),
            (slice(3, 13), 1),
            (slice(5, 7), 2),
            (slice(12, 2, -1), 1),
        ):
            lazy.reader.read.clear()
            expected = np.percentile(values[part].astype("f8"), (1, 99)).tolist()
            assert list(lazy[part].range((1, 99))) == expected
            per_frame = values.dtype.itemsize == 1
            assert len(set(lazy.reader.read)) == (0 if per_frame else n_read), (dtype, part)


def test_float_ranges_leave_out_what_is_not_finite() -> None:
    """NaN bins and infinities of a field do not spoil its range, but a mean is not taken from statistics."""
    values = random_values((9, 4, 3), "f4", 5, special=0.3)
    values[4] = np.nan
    lazy = with_statistics(values, 4, SealedReader)
    finite = values[np.isfinite(values)]
    assert lazy.range() == (finite.min(), finite.max())
    low, high = lazy.range_bounds((10, 90))
    expected = np.percentile(finite.astype("f8"), (10, 90))
    assert low[0] <= expected[0] <= low[1]
    assert high[0] <= expected[1] <= high[1]
    assert all(math.isnan(value) for value in lazy[4:5].range())
    readable = with_statistics(values, 4, MemoryReader)
    assert np.isnan(readable.mean())
    assert np.isnan(readable.max())
    clean = with_statistics(np.abs(np.nan_to_num(values, posinf=1, neginf=1)), 4, SealedReader)
    assert clean.max() == clean.range()[1]


def test_statistics_do_not_apply_to_parts_of_frames() -> None:
    """A crop or a row has a range of its own, which is read from its frames."""
    values = random_values((6, 4, 3), "u1", 6)
    lazy = with_statistics(values, 4, MemoryReader)
    assert lazy[:, 1:3].range() == (values[:, 1:3].min(), values[:, 1:3].max())
    assert lazy[:, [0, 2]].max() == values[:, [0, 2]].max()
    assert lazy[:, 1, 2].sum() == values[:, 1, 2].sum()
    np.testing.assert_array_equal(lazy.mean("time"), values.mean(axis=0))


def test_absent_statistics_are_computed_from_frames() -> None:
    """A store that keeps only some facts is still answered, and right."""
    values = random_values((6, 4, 3), "u1", 7)
    reader = MemoryReader(values, (1, 4, 3))
    few = StoredStatistics({"min": MemoryReader(values.min((1, 2)), (6,), dims=("time",))}, reader.spec)
    lazy = LazyArray(reader, statistics=few)
    assert lazy.range() == (values.min(), values.max())
    assert lazy.std() == pytest.approx(values.std(), rel=1e-12)
    assert list(lazy.range((5, 95))) == np.percentile(values, (5, 95)).tolist()


def test_statistics_of_other_data_are_refused() -> None:
    """A stats group whose length does not fit the movie is damage, not a fact."""
    reader = SealedReader(np.zeros((6, 4, 3), "u1"), (1, 4, 3), shards=(3, 4, 3))
    with pytest.raises(
        UsageError, match="statistics array 'min' has 5 rows; expected 6 for 6 frames in blocks of 3"
    ):
        StoredStatistics({"min": MemoryReader(np.zeros(5), (5,))}, reader.spec)
    with pytest.raises(UsageError, match="'histogram' has 5 rows; expected 6 or 2"):
        StoredStatistics({"histogram": MemoryReader(np.zeros((5, 256)), (5, 256))}, reader.spec)


def test_closing_an_array_closes_its_statistics() -> None:
    """Their files are the array's files."""
    lazy = with_statistics(random_values((6, 4, 3), "u1", 8), 4, MemoryReader)
    readers = lazy.view.statistics._readers.values()
    lazy.close()
    assert {reader.closed for reader in readers} == {1}


def test_a_reduction_of_a_crop_reads_a_bounded_number_of_chunks_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a box costs are the chunks that it needs, not the few values that it takes from each."""
    values = random_values((40, 6, 4), "u1", 9)
    reader = ScanReader(values, (2, 6, 4))
    most = 0
    read_through = reader.read_through

    def watch(chunk_indices: Any) -> Any:
        nonlocal most
        most = max(most, len(chunk_indices))
        return read_through(chunk_indices)

    monkeypatch.setattr(reader, "read_through", watch)
    monkeypatch.setattr(reduce_module, "BOX_BYTES", 3 * 48)
    lazy = LazyArray(reader)[:, 2:3, 1]
    np.testing.assert_array_equal(lazy.max("time"), values[:, 2:3, 1].max(axis=0))
    np.testing.assert_array_equal(lazy.sum(), values[:, 2:3, 1].sum())
    assert 1 < most <= 3
