"""Coordinates are read when first used, and labels mean what they mean in xarray."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from lazystore.array import Coordinate, LazyArray, regular_values, whole_array
from lazystore.array.labels import position_of, positions_between
from lazystore.errors import LabelError, UsageError
from tests.array.fakes import MemoryReader, SealedReader


class CountingLoader:
    """A loader that tells how often it was called."""

    def __init__(self, values: Any) -> None:
        self.values = values
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        return self.values


def movie(time: Any, **coords: Any) -> LazyArray:
    values = np.arange(len(time) * 6).reshape(len(time), 3, 2)
    return LazyArray(MemoryReader(values, (2, 3, 2)), coords={"time": time, **coords})


def test_coordinates_are_read_once_and_only_when_asked_for() -> None:
    """Names, views and pixels do not read labels; views share what was read."""
    loader = CountingLoader(np.arange(8.0))
    values = np.zeros((8, 2))
    lazy = LazyArray(MemoryReader(values, (1, 2)), coords={"time": loader, "y": np.array(["l", "r"])}).isel(
        y=[1, 0]
    )
    lazy[2:4].isel(time=0)
    assert list(lazy.coords) == ["time", "y"]
    assert "time" in lazy.coords
    assert len(lazy.coords) == 2
    assert repr(lazy.coords) == "Coordinates(time, y)"
    assert not lazy.coords.is_loaded("time")
    assert loader.calls == 0
    np.testing.assert_array_equal(lazy[::-2].coords["time"], np.arange(8.0)[::-2])
    np.testing.assert_array_equal(lazy[5:5].coords["time"], [])
    np.testing.assert_array_equal(lazy.coords["y"], ["r", "l"])
    assert lazy.coords["time"].flags.writeable is False
    assert loader.calls == 1
    assert lazy.sel(time=3.0).shape == (2,)
    assert loader.calls == 1
    assert pickle.loads(pickle.dumps(lazy)).coords.is_loaded("time") is False


def test_the_owner_of_given_labels_may_go_on_writing_to_them() -> None:
    """Only our view of them is read-only."""
    time = np.arange(4.0)
    lazy = movie(time)
    time[0] = -1
    with pytest.raises(ValueError, match="read-only"):
        lazy.coords["time"][0] = 5


def test_a_coordinate_of_an_axis_that_is_gone_is_a_single_value() -> None:
    """As in xarray; it keeps its units."""
    lazy = movie(np.arange(4.0), y=Coordinate(("y",), np.array([1.0, 2.0, 3.0]), {"units": "cm"}))
    row = lazy[:, 1]
    assert row.coords["y"] == 2.0
    assert row.coords["y"].shape == ()
    assert row.coords.dims_of("y") == ()
    assert row.coords.dims_of("time") == ("time",)
    assert row.to_xarray().coords["y"].attrs == {"units": "cm"}


def test_coordinates_over_two_axes_follow_both() -> None:
    """A coordinate may label two axes."""
    grid = np.arange(6.0).reshape(3, 2)
    lazy = movie(np.arange(4.0), depth=Coordinate(("y", "x"), grid))
    np.testing.assert_array_equal(lazy[:, ::-1, 1].coords["depth"], grid[::-1, 1])
    with pytest.raises(UsageError, match=r"coordinate 'depth' lies along \('bin',\); the axes of 'data' are"):
        movie(np.arange(4.0), depth=Coordinate(("bin",), grid))


def test_loaders_pickle_and_are_exact() -> None:
    """A stored array and a regular axis both make labels that travel to workers."""
    stored = np.array([0.0, 0.5, 1.25])
    for loader, expected in (
        (partial(whole_array, MemoryReader(stored, (2,), dims=("time",))), stored),
        (partial(regular_values, 1.0, 0.25, 3), [1.0, 1.25, 1.5]),
    ):
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(Coordinate(("time",), loader))).values, expected
        )


LABELS = st.lists(st.integers(-20, 20), min_size=1, max_size=12, unique=True)


@given(
    LABELS,
    st.sampled_from([None, "nearest", "pad", "ffill", "backfill", "bfill"]),
    st.integers(-24, 24),
    st.data(),
)
def test_a_label_means_what_it_means_in_xarray(
    labels: list[int], method: Any, wanted: int, data: st.DataObject
) -> None:
    """Every method, on ascending and descending axes; where xarray finds nothing, we raise."""
    descending = data.draw(st.booleans())
    tolerance = data.draw(st.none() | st.floats(0, 5)) if method else None
    time = np.array(sorted(labels, reverse=descending), float)
    label = wanted + data.draw(st.sampled_from([0.0, 0.5]))
    ours = movie(time)
    theirs = ours.to_xarray()
    options = {"method": method, "tolerance": tolerance} if method else {}
    try:
        expected = theirs.sel(time=label, **options)
    except KeyError:
        with pytest.raises(LabelError):
            ours.sel(time=label, **options)
        return
    np.testing.assert_array_equal(ours.sel(time=label, **options), expected)
    many = ours.sel(time=[label, label], **options)
    np.testing.assert_array_equal(many, theirs.sel(time=[label, label], **options))


@given(LABELS, st.none() | st.integers(-22, 22), st.none() | st.integers(-22, 22), st.booleans())
def test_a_slice_of_labels_includes_both_ends_as_in_xarray(
    labels: list[int], start: int | None, stop: int | None, descending: bool
) -> None:
    """On ascending and descending axes, with open ends, and when it is empty."""
    time = np.array(sorted(labels, reverse=descending), float)
    ours = movie(time)
    expected = ours.to_xarray().sel(time=slice(start, stop))
    actual = ours.sel(time=slice(start, stop))
    assert isinstance(actual, LazyArray)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(actual.coords["time"], expected.time)


def test_labels_may_be_text_and_several_axes_at_once() -> None:
    """An individual by its name; a label on axis 0 reads, on others it does not."""
    lazy = LazyArray(
        MemoryReader(np.arange(12.0).reshape(3, 2, 2), (3, 2, 2), dims=("time", "individual", "space")),
        coords={"time": np.arange(3.0), "individual": np.array(["ann", "bob"])},
    )
    assert isinstance(lazy.sel(individual="bob"), LazyArray)
    np.testing.assert_array_equal(lazy.sel({"individual": "bob"}, time=2.0), [10, 11])
    np.testing.assert_array_equal(lazy.sel(individual=["bob", "ann"])[0], [[2, 3], [0, 1]])
    assert lazy.sel(time=slice(0.5, None), individual="ann").shape == (2, 2)


@pytest.mark.parametrize(
    ("select", "error", "message"),
    [
        (
            {"time": 0.3},
            LabelError,
            r"^no time 0.3; it runs from 0.0 to 1.5; the nearest is 0.5: pass method=",
        ),
        ({"time": 9.0, "method": "bfill"}, LabelError, "no time 9.0 by method 'bfill'"),
        ({"time": 0.3, "method": "nearest", "tolerance": 0.1}, LabelError, "no time within 0.1 of 0.3"),
        ({"time": 0.3, "method": "linear"}, UsageError, "method 'linear' along 'time' is unknown"),
        ({"y": 0.3}, UsageError, r"axis 'y' of 'data' has no labels; select by position, isel\(y=...\)"),
        ({"z": 1}, UsageError, "'z' is no axis of 'data'"),
        ({"x": "up"}, LabelError, "no x 'up'; expected one of 'left', 'right'"),
        ({"x": "left", "method": "nearest"}, UsageError, "method 'nearest' needs numbers along 'x'"),
        ({"time": "noon"}, LabelError, "no time 'noon'"),
    ],
)
def test_a_label_that_is_not_there_says_what_is(
    select: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The message gives the axis' extent or its names, and the way on."""
    with pytest.raises(error, match=message):
        movie(np.array([0.0, 0.5, 1.0, 1.5]), x=np.array(["left", "right"])).sel(**select)


def test_labels_in_no_order_and_labels_that_repeat() -> None:
    """A range of unordered labels, or one label at two places, means nothing; the rest still works."""
    with pytest.raises(UsageError, match="'time' is neither increasing nor decreasing"):
        positions_between(np.array([0.0, 2.0, 1.0]), slice(0, 1), "time")
    with pytest.raises(UsageError, match="'12.5' is no number, as the labels of 'time' are"):
        positions_between(np.array([0.0, 1.0, 2.0]), slice(0, "12.5"), "time")
    with pytest.raises(LabelError, match="no time None; expected one of '0.0', '1.0'"):
        position_of(np.array([0.0, 1.0]), None, "time")
    with pytest.raises(LabelError, match=r"time 1.0 stands at 2 positions, first 1; .* isel\(time=1\)"):
        position_of(np.array([0.0, 1.0, 1.0]), 1.0, "time")
    with pytest.raises(LabelError, match="'time' is empty"):
        position_of(np.array([]), 1.0, "time")
    assert position_of(np.array([5.0, 1.0, 3.0]), 2.9, "time", "nearest") == 2
    assert positions_between(np.array([0.0, 1.0, 1.0, 2.0]), slice(1, 1), "time") == slice(1, 3)


def test_to_xarray_is_lazy_labelled_and_exact() -> None:
    """Selecting and computing through xarray gives numpy's values and reads only what it needs."""
    values = np.random.default_rng(0).normal(size=(12, 4, 3))
    sealed = LazyArray(
        SealedReader(values, (1, 4, 3)),
        name="cam",
        coords={"time": Coordinate(("time",), np.arange(12.0), {"units": "s"})},
        attrs={"units": "mV"},
    )
    array = sealed.to_xarray()
    assert (array.name, array.dims, array.attrs) == ("cam", ("time", "y", "x"), {"units": "mV"})
    assert array.time.attrs == {"units": "s"}
    array.isel(time=slice(3, 5)).sel(time=4.0)
    repr(array)
    reader = MemoryReader(values, (1, 4, 3))
    lazy = LazyArray(reader, coords={"time": np.arange(12.0)})[1::2].to_xarray()
    same = xr.DataArray(values[1::2], dims=("time", "y", "x"), coords={"time": np.arange(12.0)[1::2]})
    part = lazy.isel(time=[3, -1, 0], y=slice(None, None, -1), x=1)
    np.testing.assert_array_equal(part, same.isel(time=[3, -1, 0], y=slice(None, None, -1), x=1))
    assert sorted(reader.read) == [(1, 0, 0), (7, 0, 0), (11, 0, 0)]
    points = xr.DataArray([0, 2], dims="points")
    np.testing.assert_array_equal(lazy.isel(time=points, y=points), same.isel(time=points, y=points))
    np.testing.assert_allclose(lazy.mean("time"), same.mean("time"))
    loaded = lazy.isel(time=0).load()
    loaded.values[:] = 0
    np.testing.assert_array_equal(lazy.isel(time=0), same.isel(time=0))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy)), same)
