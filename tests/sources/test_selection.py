"""Time spans, crops and strides as sources around sources."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import SideArray, Source, Ticks
from lazystore.sources.rows import select_source
from lazystore.sources.selection import (
    SelectedSource,
    record_range_of_span,
    slice_ticks,
    with_selection,
)
from tests.sources.fakes import FakeSource, stack
from tests.sources.reading import check_reads

VIDEO = Ticks(Fraction(1, 30), known=True)


def tick_values(ticks: Ticks | None, length: int) -> np.ndarray[Any, Any]:
    assert ticks is not None
    if ticks.values is not None:
        return ticks.values
    return ticks.start + ticks.step * np.arange(length, dtype=np.int64)


@given(data=st.data())
def test_a_selection_is_what_slicing_gives(data: st.DataObject) -> None:
    """Any span, crop and stride reads as numpy slices, with matching ticks and missing records."""
    n_frames = data.draw(st.integers(1, 60))
    start = data.draw(st.integers(0, n_frames - 1))
    stop = data.draw(st.integers(start + 1, n_frames))
    every = data.draw(st.none() | st.integers(1, 20))
    crop = data.draw(st.none() | st.sampled_from([(0, 4, 0, 6), (1, 3, 2, 6), (3, 4, 5, 6)]))
    missing = data.draw(st.lists(st.integers(0, n_frames - 1), max_size=4, unique=True).map(sorted))
    gaps = data.draw(st.none() | st.lists(st.integers(0, 5), min_size=n_frames, max_size=n_frames))
    ticks = VIDEO if gaps is None else Ticks(Fraction(1, 90), np.cumsum(np.array(gaps, np.int64)))
    inner = stack(n_frames, ticks=ticks, missing=missing)
    source = SelectedSource(inner, records=(start, stop), crop=crop, every=every)
    y0, y1, x0, x1 = crop or (0, 4, 0, 6)
    chosen = np.arange(n_frames)[start : stop : every or 1]
    expected = inner.columns["data"][chosen, y0:y1, x0:x1]
    np.testing.assert_array_equal(
        tick_values(source.info.ticks, len(chosen)), tick_values(ticks, n_frames)[chosen]
    )
    block = source.read(0, len(chosen))
    assert block.missing == tuple(i for i, record in enumerate(chosen) if record in missing)
    assert block.reasons == {i: f"lost {chosen[i]}" for i in block.missing if chosen[i] % 2}
    check_reads(source, np.ascontiguousarray(expected), n_reads=6)
    assert inner.is_closed


@given(
    start=st.integers(-50, 50),
    step=st.integers(1, 7),
    rate=st.sampled_from([1, 25, 30, 90000, Fraction(30000, 1001)]),
    low=st.none() | st.floats(-20, 20),
    high=st.none() | st.floats(-20, 20),
    is_explicit=st.booleans(),
)
def test_a_span_is_half_open_and_exact(
    start: int, step: int, rate: Fraction, low: float | None, high: float | None, is_explicit: bool
) -> None:
    """A record is inside if low <= its time < high in exact arithmetic, with regular or explicit ticks."""
    values = start + step * np.arange(40, dtype=np.int64)
    base = 1 / Fraction(rate)
    ticks = Ticks(base, values) if is_explicit else Ticks(base, start=start, step=step)
    if low is not None and high is not None and low >= high:
        with pytest.raises(UsageError, match="is empty; expected start < stop in seconds"):
            record_range_of_span(ticks, 40, (low, high))
        return
    first, last = record_range_of_span(ticks, 40, (low, high))
    inside = [
        index
        for index, tick in enumerate(values.tolist())
        if (low is None or tick * base >= Fraction(repr(low)))
        and (high is None or tick * base < Fraction(repr(high)))
    ]
    assert list(range(first, last)) == inside


def test_a_bound_means_what_is_written() -> None:
    """0.1 s is the frame at one tenth of a second, although the float lies above it."""
    assert record_range_of_span(Ticks(Fraction(1, 10)), 100, (0.1, 0.3)) == (1, 3)
    assert record_range_of_span(Ticks(Fraction(1, 1000), np.arange(0, 500, 100)), 5, (0.1, 0.3)) == (1, 3)


def test_a_span_far_outside_is_empty() -> None:
    """Bounds beyond 64-bit ticks do not wrap around."""
    ticks = Ticks(Fraction(1, 10**9), np.arange(5, dtype=np.int64))
    assert record_range_of_span(ticks, 5, (-1e30, 1e30)) == (0, 5)
    assert record_range_of_span(ticks, 5, (1e30, None)) == (5, 5)


def test_the_choice_is_recorded() -> None:
    """attributes["selection"] says what was done, also for a choice from a choice."""
    once = SelectedSource(stack(ticks=VIDEO), time=(0.2, 0.8), crop=(0, 2, 1, 3))
    assert once.info.attributes["selection"] == {"time": [0.2, 0.8], "records": [6, 24], "crop": [0, 2, 1, 3]}
    twice = SelectedSource(once, every=2)
    assert twice.info.attributes["selection"] == {
        "time": [0.2, 0.8], "records": [6, 24], "crop": [0, 2, 1, 3], "every": 2,
    }  # fmt: skip
    thrice = SelectedSource(twice, every=3)
    assert thrice.info.attributes["selection"] == {"every": 3, "of": twice.info.attributes["selection"]}
    assert with_selection({"a": 1}, {"time": None}) == {"a": 1}


def test_coordinates_are_cut_like_the_frames() -> None:
    """Side arrays along time, y and x follow; others stay."""
    side = (
        SideArray("y", ("y",), np.arange(4.0)),
        SideArray("x", ("x",), np.arange(6.0)),
        SideArray("temperature", ("time",), np.arange(30.0)),
        SideArray("gain", ("channel",), np.arange(2.0)),
    )
    source = SelectedSource(stack(ticks=VIDEO, side=side), records=(10, 20), every=3, crop=(1, 3, 2, 6))
    values = {array.path: array.values.tolist() for array in source.info.side}
    assert values == {"y": [1, 2], "x": [2, 3, 4, 5], "temperature": [10, 13, 16, 19], "gain": [0, 1]}


def test_a_long_stride_reads_single_records() -> None:
    """Above a stride of 8 only what is kept is read; below, pieces no larger than the block."""
    inner = stack(1000, ticks=VIDEO)
    SelectedSource(inner, every=100).read(2, 5)
    assert inner.reads == [(200, 201), (300, 301), (400, 401)]
    inner = stack(1000, ticks=VIDEO)
    SelectedSource(inner, every=4).read(0, 100)
    assert max(stop - start for start, stop in inner.reads) <= 100
    assert len(inner.reads) == 4


@pytest.mark.parametrize(
    ("choice", "match"),
    [
        (
            {"time": (50.0, 60.0)},
            r"time \(50.0, 60.0\) holds none of the 30 records of 'fake': they run from 0 to 0.9",
        ),
        ({"time": (0.0, float("inf"))}, "has a bound that is no finite number of seconds"),
        ({"time": (0.0, 1.0), "records": (0, 2)}, "are both given; pass one of them"),
        ({"records": (5, 5)}, r"records \(5, 5\) do not lie in the 30 records"),
        ({"records": (0, 31)}, r"records \(0, 31\) do not lie in the 30 records"),
        ({"every": 0}, "every=0 is not a positive whole number"),
        (
            {"crop": (0, 5, 0, 6)},
            r"crop=\(0, 5, 0, 6\) does not lie in frames of 4 x 6; expected \(y0, y1, x0, x1\)",
        ),
        ({"crop": (2, 2, 0, 6)}, "does not lie in frames of 4 x 6"),
    ],
)
def test_choices_that_mean_nothing_are_refused(choice: dict[str, Any], match: str) -> None:
    """An empty or impossible selection is a usage error with the value."""
    with pytest.raises(UsageError, match=match):
        SelectedSource(stack(ticks=VIDEO), **choice)


def test_explicit_times_are_named_too() -> None:
    """The message about an empty span tells the range also where ticks are values."""
    ticks = Ticks(Fraction(1, 1000), np.arange(30, dtype=np.int64) * 100 + 5000)
    with pytest.raises(UsageError, match="they run from 5 to 7.9 s of its own clock"):
        SelectedSource(stack(ticks=ticks), time=(100, None))


def test_a_crop_needs_pixels() -> None:
    """Fields over bins have no y and x."""
    field = FakeSource("field", {"data": np.zeros((5, 3))}, ticks=VIDEO)
    with pytest.raises(UsageError, match=r"crop=\(0, 1, 0, 1\) needs frames with y and x, but 'fake' is"):
        SelectedSource(field, crop=(0, 1, 0, 1))


def test_a_crop_does_not_fit_an_environment() -> None:
    """A field that knows its bins is not cut, because the bins would no longer be its own."""
    field = stack(ticks=VIDEO, item_attributes={"geometry": {}})
    with pytest.raises(
        UsageError, match="would leave part of the environment of 'fake'; leave crop or env out"
    ):
        SelectedSource(field, crop=(0, 1, 0, 1))


def test_times_that_go_back_are_no_span() -> None:
    """A span of disordered frames would not be a range, so it is refused; records still work."""
    ticks = Ticks(Fraction(1), np.array([0, 2, 1, 3]))
    with pytest.raises(
        SourceError, match="times go back, so a time span is no range; choose records instead"
    ):
        SelectedSource(stack(4, ticks=ticks), time=(0, 2))
    assert SelectedSource(stack(4, ticks=ticks), records=(1, 3)).info.length == 2


def test_rows_have_no_records() -> None:
    """Events are chosen by time, so a record selection of them is refused."""
    events = FakeSource("events", {"t": np.arange(5)})
    with pytest.raises(UsageError, match="its rows are chosen by time, not by record"):
        SelectedSource(events, records=(0, 2))


def test_select_source_leaves_what_is_not_chosen() -> None:
    """No choice gives the source itself; frames and rows go their own ways."""
    source: Source = stack(ticks=VIDEO)
    assert select_source(source) is source
    assert select_source(source, every=2).info.length == 15
    events = FakeSource("events", {"t": np.arange(5)})
    assert select_source(events, time=(0, 2e-6)).info.length == 2
    with pytest.raises(UsageError, match="every=2 would drop rows of kind 'events' without a meaning"):
        select_source(events, every=2)


def test_ticks_of_a_stride() -> None:
    """Regular ticks stay regular, values are thinned."""
    assert slice_ticks(Ticks(Fraction(1, 4), np.arange(9)), 1, 8, 3).values is not None
    assert tick_values(slice_ticks(Ticks(Fraction(1, 4), np.arange(9)), 1, 8, 3), 3).tolist() == [1, 4, 7]
