"""Colour ranges are neurospatial's, and those of a store come from its statistics."""

from __future__ import annotations

import warnings
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lazystore.render import (
    compute_global_colormap_range,
    estimate_colormap_range_from_subset,
    large_session_napari_config,
    ranges,
)
from lazystore.render.ranges import range_for_display

DTYPES = ("f2", "f4", "f8", "u1", "i2", "i8", "bool")


class Lazy:
    """An array that is no numpy array; counts the frames that are read."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.n_read = 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: Any) -> NDArray[Any]:
        taken = self.values[part]
        self.n_read += len(taken) if isinstance(part, slice) else 1
        return taken


class WithStatistics(Lazy):
    """A LazyArray as far as ranges go: it knows its range and its percentiles."""

    def range(self, percentile: tuple[float, float] | None = None) -> tuple[float, float]:
        finite = self.values[np.isfinite(self.values)]
        if not finite.size:
            return np.nan, np.nan
        if percentile is None:
            return finite.min(), finite.max()
        low, high = np.percentile(finite, percentile)
        return low, high


@st.composite
def movies(draw: st.DrawFn) -> NDArray[Any]:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5)))
    if dtype.kind != "f":
        return draw(hnp.arrays(dtype, shape))
    elements = st.floats(-8, 8, width=16) | st.sampled_from([np.nan, np.inf, -np.inf])
    return draw(hnp.arrays(dtype, shape, elements=elements))


def theirs(function: str, *arguments: Any, **options: Any) -> Any:
    from neurospatial.animation import core, rendering

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (getattr(rendering, function, None) or getattr(core, function))(*arguments, **options)


@given(values=movies(), vmin=st.none() | st.floats(-9, 9), vmax=st.none() | st.floats(-9, 9))
def test_ranges_of_random_fields_are_neurospatials(
    values: NDArray[Any], vmin: float | None, vmax: float | None
) -> None:
    """As an array, as a list, lazily, and with statistics."""
    expected = theirs("compute_global_colormap_range", values, vmin, vmax)
    for fields in (values, list(values), Lazy(values), WithStatistics(values)):
        assert compute_global_colormap_range(fields, vmin, vmax) == expected
    assert theirs("compute_global_colormap_range", list(values), vmin, vmax) == expected


@given(values=movies(), stride=st.integers(1, 4))
def test_strided_ranges_are_neurospatials(values: NDArray[Any], stride: int) -> None:
    """Every n-th frame of an array; all frames of a list."""
    expected = theirs("compute_global_colormap_range", values, sample_stride=stride)
    assert compute_global_colormap_range(values, sample_stride=stride) == expected
    assert compute_global_colormap_range(Lazy(values), sample_stride=stride) == expected
    of_all = theirs("compute_global_colormap_range", list(values), sample_stride=stride)
    assert compute_global_colormap_range(list(values), sample_stride=stride) == of_all


@given(frames=st.lists(movies().map(np.ravel), min_size=1, max_size=4))
def test_frames_of_different_lengths_are_judged_as_neurospatial_does(frames: list[NDArray[Any]]) -> None:
    """One by one, an infinite one hiding the rest of its frame."""
    expected = theirs("compute_global_colormap_range", frames)
    assert compute_global_colormap_range(frames) == expected


@pytest.mark.parametrize("empty", [[], np.empty((0, 4)), Lazy(np.empty((0, 4)))])
def test_without_frames_the_range_is_zero_to_one(empty: Any) -> None:
    assert compute_global_colormap_range(empty) == (0.0, 1.0)
    assert compute_global_colormap_range(empty, vmin=5.0) == (0.0, 1.0)
    assert estimate_colormap_range_from_subset(empty) == (0.0, 1.0)


def test_a_long_recording_is_read_in_bounded_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame once, a few at a time, whatever `max_frames_for_exact` says."""
    values = np.random.default_rng(0).normal(size=(100, 8))
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 8 * 8 * 7)
    largest = []

    class Watched(Lazy):
        def __getitem__(self, part: Any) -> NDArray[Any]:
            taken = super().__getitem__(part)
            largest.append(taken.size)
            return taken

    lazy = Watched(values)
    assert compute_global_colormap_range(lazy, max_frames_for_exact=3) == (values.min(), values.max())
    assert max(largest) == 7 * 8
    assert lazy.n_read == 100 + 1  # the first frame tells how large a block may be


@given(
    values=movies(),
    n_samples=st.integers(1, 8),
    percentile=st.tuples(st.floats(0, 40), st.floats(50, 100)),
    seed=st.integers(0, 9),
)
def test_estimates_are_neurospatials(
    values: NDArray[Any], n_samples: int, percentile: tuple[float, float], seed: int
) -> None:
    """The same frames are chosen and the same numbers come out; bool, which it refuses, counts as uint8."""
    judged = values.view("u1") if values.dtype == bool else values
    # numpy's percentile subtracts integers in their own dtype: -1 and 32767 overflow, in theirs as in ours.
    with np.errstate(over="ignore"):
        expected = theirs("estimate_colormap_range_from_subset", judged, n_samples, percentile, seed)
        for fields in (values, list(values), Lazy(values)):
            assert estimate_colormap_range_from_subset(fields, n_samples, percentile, seed) == expected


def test_statistics_give_ranges_without_a_frame() -> None:
    """Nothing is read, nothing is sampled, nothing is warned of."""
    values = np.random.default_rng(0).integers(0, 200, (30, 5)).astype("u1")
    fields = WithStatistics(values)
    assert compute_global_colormap_range(fields) == (values.min(), values.max())
    expected = tuple(np.percentile(values, (5, 95)))
    assert estimate_colormap_range_from_subset(fields, 3, percentile=(5, 95)) == expected
    fields.shape = (10**6, 5)
    fields.__class__.__len__ = lambda self: 10**6  # type: ignore[method-assign]
    assert range_for_display([fields], None, None) == (values.min(), values.max())
    assert fields.n_read == 0


def test_statistics_of_nothing_finite_give_zero_to_one() -> None:
    fields = WithStatistics(np.full((3, 2), np.nan))
    assert compute_global_colormap_range(fields) == (0.0, 1.0)
    assert estimate_colormap_range_from_subset(fields) == (0.0, 1.0)


def test_a_very_long_recording_without_statistics_is_sampled_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As neurospatial does, above 200,000 frames; limits that are given spare it."""
    monkeypatch.setattr(ranges, "MAX_FRAMES_EXACT", 50_000)
    fields = Lazy(np.arange(100_001.0)[:, np.newaxis])
    with pytest.warns(UserWarning, match="taken from every 2th of 100,001 frames: pass vmin and vmax"):
        assert range_for_display([fields], None, None) == (0.0, 100_000.0)
    assert fields.n_read == 50_001
    assert range_for_display([fields], 1.0, 2.0) == (1.0, 2.0)


def test_several_movies_share_one_range() -> None:
    """A constant one among them does not widen it."""
    movies = [np.zeros((2, 3)), np.full((2, 3), 4.0), np.full((2, 3), np.nan), np.empty((0, 3))]
    assert range_for_display(movies, None, None) == (0.0, 4.0)
    assert range_for_display(movies, -1.0, None) == (-1.0, 4.0)
    assert range_for_display([np.zeros((2, 3))], None, None) == (-0.5, 0.5)
    assert range_for_display([np.empty((0, 3))], None, None) == (0.0, 1.0)


@pytest.mark.parametrize("n_frames", [1, 49_999, 50_000, 199_999, 200_000, 999_999, 1_000_000, 10**7])
def test_recommended_chunks_are_neurospatials(n_frames: int) -> None:
    config = large_session_napari_config(n_frames, sample_rate_hz=250)
    assert config == theirs("large_session_napari_config", n_frames)
