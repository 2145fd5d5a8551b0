"""Another dtype and fewer mantissa bits, never wrapped around."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lazystore.errors import SourceError, UsageError
from lazystore.sources.casting import CastSource, cast_values, round_mantissa
from tests.sources.fakes import FakeSource, stack

MANTISSA = {"f2": 10, "f4": 23, "f8": 52}


@given(data=st.data(), name=st.sampled_from(["f2", "f4", "f8"]))
def test_rounding_keeps_its_bound(data: st.DataObject, name: str) -> None:
    """Kept bits only, at most half a unit off, sign and finiteness kept, twice is once."""
    dtype = np.dtype(name)
    keep_bits = data.draw(st.integers(1, MANTISSA[name]))
    values = data.draw(hnp.arrays(dtype, st.integers(0, 30), elements=st.floats(width=dtype.itemsize * 8)))
    rounded = round_mantissa(values, keep_bits)
    assert rounded.dtype == dtype
    np.testing.assert_array_equal(np.isnan(rounded), np.isnan(values))
    np.testing.assert_array_equal(np.isinf(rounded), np.isinf(values))
    np.testing.assert_array_equal(np.signbit(rounded), np.signbit(values))
    finite = np.isfinite(values)
    bits = rounded[finite].view(f"u{dtype.itemsize}")
    assert not (bits & bits.dtype.type((1 << (MANTISSA[name] - keep_bits)) - 1)).any()
    np.testing.assert_array_equal(round_mantissa(rounded, keep_bits)[finite], rounded[finite])
    # The largest values are cut off instead of rounded up to infinity, so their bound is a whole unit.
    info = np.finfo(dtype)
    usual = finite & (np.abs(values) <= info.max / 2) & (np.abs(values) >= info.tiny)
    exact = values[usual].astype(np.longdouble)
    error = np.abs(rounded[usual].astype(np.longdouble) - exact)
    assert (error <= np.abs(exact) * np.longdouble(2.0) ** -(keep_bits + 1)).all()


def test_ties_go_to_the_even_neighbour() -> None:
    """1.25 and 1.75 with one bit lie between two values each; both round to the even one."""
    assert round_mantissa(np.array([1.25, 1.75, 1.26]), 1).tolist() == [1.0, 2.0, 1.5]


def test_the_largest_value_stays_finite() -> None:
    """Rounding up would leave the range, so it is cut off; bits of NaN are untouched."""
    values = np.array([np.finfo("f4").max, np.nan], dtype="f4")
    values.view("u4")[1] = 0x7FFFFFFF
    rounded = round_mantissa(values, 3)
    assert np.isfinite(rounded[0])
    assert rounded.view("u4")[1] == 0x7FFFFFFF
    assert round_mantissa(values, 23) is not values


@given(data=st.data())
def test_a_cast_is_exact_or_an_error(data: st.DataObject) -> None:
    """Integers come out equal, or the first value that does not fit is named; nothing wraps."""
    source = np.dtype(data.draw(st.sampled_from(["u1", "i1", "u2", "i2", "i4", "u4", "i8", "u8", "?"])))
    target = np.dtype(data.draw(st.sampled_from(["u1", "i1", "u2", "i2", "i4", "u4", "i8", "u8", "?"])))
    values = data.draw(hnp.arrays(source, st.integers(0, 8)))
    low, high = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
    if all(low <= int(value) <= high for value in values):
        cast = cast_values(values, target, "a")
        assert cast.dtype == target
        assert [int(value) for value in cast] == [int(value) for value in values]
    else:
        with pytest.raises(
            SourceError, match=rf"a: value .* does not fit in {target.name}; choose a wider dtype"
        ):
            cast_values(values, target, "a")


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0.5, 1.5, 2.4, -0.4], "u1", [0, 2, 2, 0]),
        ([255.4], "u1", [255]),
        ([1e30, np.nan, np.inf], "f4", [np.float32(1e30), np.nan, np.inf]),
        ([70000.0], "f4", [70000.0]),
    ],
)
def test_floats_round_to_nearest(values: list[float], dtype: str, expected: list[float]) -> None:
    """Halves go to even; NaN and infinities pass between floats."""
    cast = cast_values(np.array(values), np.dtype(dtype), "a")
    np.testing.assert_array_equal(cast, np.array(expected, dtype=dtype))


@pytest.mark.parametrize(
    ("values", "dtype", "value"),
    [
        ([1.0, 255.6], "u1", "256.0"),
        ([-0.6], "u1", "-1.0"),
        ([np.nan], "i4", "nan"),
        ([np.inf], "i4", "inf"),
        ([1e39], "f4", r"1e\+39"),
        ([70000.0], "f2", "70000.0"),
        ([1e19], "i8", r"1e\+19"),
    ],
)
def test_floats_that_do_not_fit_are_errors(values: list[float], dtype: str, value: str) -> None:
    """A finite value outside of the range, and NaN for integers, stop the conversion."""
    with pytest.raises(SourceError, match=f"value {value} does not fit in {np.dtype(dtype).name}"):
        cast_values(np.array(values), np.dtype(dtype), "a")


def test_complex_and_integers_to_floats() -> None:
    """An integer becomes the nearest float."""
    assert cast_values(np.array([2**53 + 1]), np.dtype("f8"), "a")[0] == 2.0**53


def test_a_source_is_cast_block_by_block() -> None:
    """dtype and values of `data` change, missing records and the record of the choice stay."""
    inner = stack(10, missing=[3])
    source = CastSource(inner, dtype="float32", keep_bits=7)
    assert source.info.columns[0].dtype == np.dtype("f4")
    assert source.info.attributes["selection"] == {
        "dtype": "float32",
        "source_dtype": "int32",
        "keep_bits": 7,
    }
    block = source.read(2, 5)
    assert (block.missing, block.reasons) == ((3,), {3: "lost 3"})
    expected = round_mantissa(inner.columns["data"][2:5].astype("f4"), 7)
    np.testing.assert_array_equal(block.columns["data"], expected)
    source.close()
    assert inner.is_closed


@pytest.mark.parametrize("dtype", ["int8", "u2", "bool"])
def test_fractions_are_not_rounded_to_next_to_nothing(dtype: str) -> None:
    """Rates of 0 to 1 as integers would all be 0 or 1; the message says what is left and what to do."""
    rates = FakeSource("field", {"data": np.random.default_rng(0).random((50, 7))})
    with pytest.raises(UsageError, match=r"between 0\..* and .*: 2 different values.*'float16' or keep_bits"):
        CastSource(rates, dtype=dtype)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(70.0).reshape(10, 7) % 3,
        np.random.default_rng(0).random((10, 7)) * 200,
        np.full((10, 7), np.nan),
    ],
    ids=["whole numbers", "many levels", "nothing finite"],
)
def test_floats_that_integers_can_hold_are_cast(values: np.ndarray) -> None:
    """Whole numbers lose nothing, and 0 to 200 little; NaN is found where it is read."""
    assert CastSource(FakeSource("field", {"data": values}), dtype="u1").info.columns[0].dtype == np.dtype(
        "u1"
    )


def test_only_a_few_records_are_looked_at_and_lost_ones_not() -> None:
    """The zeros of a record that the source lost say nothing about its values."""
    values = np.linspace(0, 250, 1000)[:, None] + np.zeros(3)
    source = FakeSource("field", {"data": values}, missing=[0, 999])
    CastSource(source, dtype="u1")
    assert len(source.reads) <= 16


def test_a_value_that_does_not_fit_names_its_block() -> None:
    """The message says where in which recording."""
    source = CastSource(stack(30), dtype="u1")
    source.read(0, 10)
    with pytest.raises(SourceError, match="'fake', records 10 to 20: value 479 does not fit in uint8"):
        source.read(10, 20)


def test_tracks_are_cast_too() -> None:
    """Positions and confidences change, other columns do not."""
    inner = FakeSource("tracks", {"position": np.ones((4, 1, 2, 2)), "source_time": np.arange(4.0)})
    source = CastSource(inner, dtype="f4")
    assert [column.dtype.name for column in source.info.columns] == ["float32", "float64"]
    assert source.read(0, 2).columns["source_time"].dtype == np.dtype("f8")


@pytest.mark.parametrize(
    ("source", "how", "match"),
    [
        (
            FakeSource("events", {"t": np.arange(3)}),
            {"dtype": "i4"},
            "kind 'events', whose columns keep their dtypes",
        ),
        (stack(), {"keep_bits": 3}, "keep_bits=3 rounds floats, but 'data' is int32"),
        (
            stack(),
            {"dtype": "f4", "keep_bits": 24},
            "keep_bits=24 is not from 1 to 23, the mantissa of float32",
        ),
        (stack(), {"dtype": "f4", "keep_bits": 0}, "keep_bits=0 is not from 1 to 23"),
        (stack(), {"dtype": "float33"}, "dtype='float33' is no dtype; expected for example uint8"),
        (stack(), {"dtype": "U4"}, "dtype='U4' cannot be stored"),
        (stack(), {"dtype": "c8"}, "dtype='c8' cannot be stored"),
        (
            FakeSource("stack", {"data": np.ones((2, 2, 2), "c8")}),
            {"dtype": "f4"},
            "is complex and keeps its dtype",
        ),
    ],
)
def test_casts_that_mean_nothing_are_refused(source: FakeSource, how: dict[str, Any], match: str) -> None:
    """Before anything is read."""
    with pytest.raises(UsageError, match=match):
        CastSource(source, **how)
