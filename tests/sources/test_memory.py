"""Arrays and xarray objects of a running program."""

from __future__ import annotations

import datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lazystore.errors import SourceError, UsageError
from lazystore.sources.arrays.labelled import plain_attributes, times_of_coordinate
from lazystore.sources.registry import open_sources
from tests.sources.reading import check_reads

RNG = np.random.default_rng(5)


def test_an_array_reads_as_it_is() -> None:
    """Values, dtype and kind are the array's; a slice with strides is no trouble."""
    array = RNG.random((40, 12))[::2, ::-1]
    source = open_sources(array)[0]
    assert (source.info.kind, source.info.format) == ("field", "array")
    check_reads(source, np.ascontiguousarray(array))
    pixels = open_sources(RNG.integers(0, 9, (4, 3, 2)).astype(">u2"))[0]
    assert (pixels.info.kind, pixels.info.columns[0].dtype) == ("stack", np.dtype("u2"))


def test_what_was_read_does_not_change_with_the_array() -> None:
    """A block is a copy: the caller may go on working with the array."""
    array = np.zeros((4, 3))
    block = open_sources(array)[0].read(0, 2)
    array[:] = 7
    assert not block.columns["data"].any()


def test_things_that_slice_like_an_array_are_read_in_blocks() -> None:
    """Only the records asked for are taken from a lazy array."""
    asked: list[slice] = []

    class Lazy:
        shape = (1000, 4)
        dtype = np.dtype("f4")

        def __getitem__(self, part: slice) -> Any:
            asked.append(part)
            return np.arange(1000, dtype="f4")[part, np.newaxis].repeat(4, axis=1)

    source = open_sources(Lazy(), options={"rate_hz": 50})[0]
    asked.clear()
    np.testing.assert_array_equal(source.read(10, 12).columns["data"][:, 0], [10, 11])
    assert asked == [slice(10, 12)]
    assert source.info.ticks is not None
    assert source.info.ticks.time_base == Fraction(1, 50)


def test_a_list_of_fields_is_one_movie() -> None:
    """A list of (n_bins,) arrays, as neurospatial takes it, is a field."""
    rows = [RNG.random(6).astype("f4") for _ in range(9)]
    check_reads(open_sources(rows)[0], np.stack(rows))
    with pytest.raises(SourceError, match=r"array 1 of the list has shape \(5,\), the first has \(6,\)"):
        open_sources([np.zeros(6), np.zeros(5)])


def test_what_is_no_array_is_refused() -> None:
    """The error says what would have been one."""
    with pytest.raises(UsageError, match="cannot read a dict; expected a path, a list of paths, an array"):
        open_sources({"a": 1})
    with pytest.raises(UsageError, match="cannot read a list"):
        open_sources([])
    with pytest.raises(
        UsageError, match="an array in memory cannot become kind 'tracks'; it can become field"
    ):
        open_sources(np.zeros((3, 2)), kind="tracks")
    with pytest.raises(UsageError, match="unknown option 'fps' for a source of format 'array'"):
        open_sources(np.zeros((3, 2)), options={"fps": 2})
    with pytest.raises(UsageError, match="option variable='a' is for an xarray Dataset, not ndarray"):
        open_sources(np.zeros((3, 2)), options={"variable": "a"})


class TestXarray:
    """DataArrays and Datasets."""

    xr = pytest.importorskip("xarray")

    def test_time_comes_first_whatever_its_place(self) -> None:
        """An array (x, time) is read along time, with names and coordinates kept."""
        array = self.xr.DataArray(
            RNG.random((3, 8)),
            dims=("cell", "time"),
            coords={"cell": ["a", "b", "c"], "time": np.arange(8) / 4},
            attrs={"units": "Hz"},
            name="rate",
        )
        source = open_sources(array)[0]
        info = source.info
        assert (info.kind, info.format, info.columns[0].dims) == ("field", "xarray", ("time", "bin"))
        assert info.attributes["variable"] == "rate"
        assert info.attributes["dims"] == ["time", "cell"]
        assert (info.side[0].path, list(info.side[0].values)) == ("bin", ["a", "b", "c"])
        assert info.ticks is not None
        assert (info.ticks.step * info.ticks.time_base, info.ticks.known) == (Fraction(1, 4), False)
        check_reads(source, np.ascontiguousarray(array.values.T))

    def test_a_rate_overrides_the_coordinate(self) -> None:
        """What the caller says of time counts."""
        array = self.xr.DataArray(np.zeros((4, 2)), dims=("time", "b"), coords={"time": [0.0, 1.0, 2.0, 9.0]})
        ticks = open_sources(array, options={"rate_hz": 10})[0].info.ticks
        assert ticks is not None
        assert (ticks.values, ticks.time_base) == (None, Fraction(1, 10))

    def test_objects_as_labels_become_text(self) -> None:
        """Labels of any type are kept as text; a coordinate too large to be one is left out."""
        array = self.xr.DataArray(
            np.zeros((4, 2)),
            dims=("time", "b"),
            coords={"b": np.array([datetime.date(2026, 1, 2), 7], object)},
        )
        assert list(open_sources(array)[0].info.side[0].values) == ["2026-01-02", "7"]

    def test_a_dataset_needs_a_choice(self) -> None:
        """The only variable is taken; of several one must be named."""
        array = self.xr.DataArray(np.ones((4, 2)), dims=("time", "bin"))
        assert open_sources(self.xr.Dataset({"a": array}))[0].info.attributes["variable"] == "a"
        pair = self.xr.Dataset({"a": array, "b": array * 2})
        with pytest.raises(
            SourceError, match="the Dataset does not say which variable is the recording; it has: a"
        ):
            open_sources(pair)
        chosen = open_sources(pair, options={"variable": "b"})[0]
        assert chosen.read(0, 1).columns["data"][0, 0] == 2

    def test_an_array_without_dimensions_is_refused(self) -> None:
        """A number is no recording."""
        with pytest.raises(SourceError, match="which holds no records"):
            open_sources(self.xr.DataArray(3.0))


@pytest.mark.parametrize(
    ("values", "units", "seconds", "known"),
    [
        (np.array([0, 40, 80]), "ms", [0, 0.04, 0.08], True),
        (np.array([0.5, 0.75, 2.0]), "s", [0.5, 0.75, 2.0], True),
        (np.array([1.0, 2.0]), "min", [60.0, 120.0], True),
        (np.array([1.0, 2.0]), None, [1.0, 2.0], False),
        (np.array([1.0, 2.0]), "furlong", [1.0, 2.0], False),
        (np.array([0, 1500], "m8[ms]"), None, [0.0, 1.5], True),
    ],
    ids=["ms", "s", "min", "none", "no-time", "timedelta"],
)
def test_time_coordinates_become_ticks(values: Any, units: Any, seconds: list[float], known: bool) -> None:
    """Units of time are obeyed; without one seconds are taken, and marked as a guess."""
    ticks = times_of_coordinate(values, units).ticks
    own = (
        ticks.values
        if ticks.values is not None
        else ticks.start + ticks.step * np.arange(len(values), dtype=np.int64)
    )
    np.testing.assert_allclose(own * float(ticks.time_base), seconds, rtol=0, atol=1e-12)
    assert ticks.known is known


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.array(["NaT", "2026-01-01"], "M8[s]"), "holds NaT; every record needs a time"),
        (np.array(["a", "b"]), "has dtype <U1; expected numbers or dates"),
        (np.array([0.0, np.nan]), "time of record 1 is nan"),
    ],
)
def test_times_that_are_none_are_refused(values: Any, match: str) -> None:
    """A record without a time cannot be placed."""
    with pytest.raises(SourceError, match=match):
        times_of_coordinate(values, "s")


def test_times_that_go_back_are_told() -> None:
    """Disorder is a problem line, not a refusal."""
    assert "1 times lie before" in times_of_coordinate(np.array([0.0, 2.0, 1.0]), "s").problems[0]


def test_attributes_that_json_cannot_hold_are_left_out() -> None:
    """NaN, objects and long arrays stay behind; bytes become text."""
    kept = plain_attributes(
        {
            "a": b"x",
            "b": np.float32(0.5),
            "c": [1, "two"],
            "d": np.zeros(1000),
            "e": float("inf"),
            1: True,
            "f": [],
        }
    )
    assert kept == {"a": "x", "b": 0.5, "c": [1, "two"], "1": True}
