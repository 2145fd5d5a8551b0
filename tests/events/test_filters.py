from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazystore.errors import UsageError
from lazystore.events.filters import (
    BackgroundActivity,
    HotPixels,
    Polarity,
    Refractory,
    Roi,
    find_hot_pixels,
)
from lazystore.events.window import OutsideRecordingWarning
from tests.events.recordings import SENSOR, assert_same, make_columns, make_stream, masked

MASK = np.zeros(SENSOR[::-1], bool)
MASK[3:9, 5:12] = True

# --- the definitions, over a whole recording, one event at a time -------------------------------


def keep_roi(columns, filter):
    return [filter.x0 <= x < filter.x1 and filter.y0 <= y < filter.y1 for _, x, y, _ in columns]


def keep_polarity(columns, filter):
    return [p == (filter.polarity == "on") for *_, p in columns]


def keep_refractory(columns, filter):
    last, keep = {}, []
    for t, x, y, _ in columns:
        keep.append(t - last.get((x, y), -(10**9)) >= filter.period_us)
        last[x, y] = t
    return keep


def keep_background(columns, filter):
    last, keep = {}, []
    for t, x, y, _ in columns:
        around = [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
        keep.append(any(t - last.get(place, -(10**9)) <= filter.duration_us for place in around))
        last[x, y] = t
    return keep


def keep_hot(columns, filter):
    return [not filter.mask[y, x] for _, x, y, _ in columns]


FILTERS = {
    "roi": (Roi(3, 2, 15, 14), keep_roi),
    "polarity": (Polarity("on"), keep_polarity),
    "refractory": (Refractory(120), keep_refractory),
    "background": (BackgroundActivity(40), keep_background),
    "hot": (HotPixels(MASK), keep_hot),
}


def expected_of(columns, names):
    rows = list(zip(*(columns[name].tolist() for name in "txyp"), strict=True))
    place = np.arange(len(rows))
    for name in names:
        filter, definition = FILTERS[name]
        passing = np.array(definition(rows, filter), bool)
        rows = [row for row, passes in zip(rows, passing, strict=True) if passes]
        place = place[passing]
    return place


chains = st.lists(st.sampled_from(sorted(FILTERS)), min_size=1, max_size=3)


@given(
    n=st.integers(1, 600),
    seed=st.integers(0, 20),
    names=chains,
    bounds=st.tuples(*[st.integers(0, 2000)] * 2),
)
@settings(max_examples=120)
def test_a_filtered_window_is_a_part_of_the_filtered_recording(n, seed, names, bounds):
    """A window holds what a pass over the whole recording would keep there, whatever is chained."""
    columns = make_columns(n, seed)
    columns["t"][0], columns["t"][-1] = 0, 2000
    view = make_stream(columns, 32).filtered(*(FILTERS[name][0] for name in names))
    t0, t1 = sorted(bounds)
    place = expected_of(columns, names)
    inside = place[(columns["t"][place] >= t0) & (columns["t"][place] < t1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideRecordingWarning)
        window = view.window(t0, t1)
    assert_same(window, masked(columns, inside))
    assert [facts["filter"] for facts in window.attrs["filters"]] == [
        FILTERS[name][0].describe()["filter"] for name in names
    ]


@given(
    n=st.integers(1, 600),
    seed=st.integers(0, 20),
    names=chains,
    block=st.integers(1, 300),
    ordered=st.booleans(),
)
@settings(max_examples=80)
def test_blocks_are_a_pass_over_the_whole_recording(n, seed, names, block, ordered):
    """Going through a filtered view in blocks gives each event once, as one pass would."""
    columns = make_columns(n, seed, ordered=ordered)
    view = make_stream(columns, 32).filtered(*(FILTERS[name][0] for name in names))
    blocks = list(view.blocks(block))
    found = {name: np.concatenate([getattr(b, name) for b in blocks]) for name in "txyp"}
    if ordered:
        expected = masked(columns, expected_of(columns, names))
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
        assert view.count() == len(expected["t"])
    else:
        assert len(found["t"]) <= n


def test_views_chain_and_are_recorded():
    """A filtered view can be filtered again; its attributes name all filters in order."""
    columns = make_columns(500)
    stream = make_stream(columns, attrs={"subject": "m1"})
    view = stream.filtered(Roi(0, 0, 12, 18)).filtered(Refractory(50), Polarity(-1))
    assert view.attrs == {
        "subject": "m1",
        "filters": [
            {"filter": "roi", "roi": [0, 0, 12, 18]},
            {"filter": "refractory", "period_us": 50},
            {"filter": "polarity", "polarity": 0},
        ],
    }
    assert (view.t_start, view.t_stop, view.sensor) == (stream.t_start, stream.t_stop, stream.sensor)
    assert repr(view) == "<FilteredEvents 'events', filtered by roi, refractory, polarity>"
    assert (view.window(0, 9999).p == 0).all()
    np.testing.assert_array_equal(view.hot_pixels(), stream.hot_pixels())
    assert len(view.to_numpy()) == view.count()


def test_region_and_polarity_of_a_window_come_last():
    """A window's own region does not take a neighbour's support away."""
    columns = make_columns(600)
    view = make_stream(columns).filtered(BackgroundActivity(40))
    whole = view.window(0, 9999)
    part = view.window(0, 9999, roi=(4, 4, 9, 9), polarity="on")
    keep = (whole.x >= 4) & (whole.x < 9) & (whole.y >= 4) & (whole.y < 9) & (whole.p == 1)
    np.testing.assert_array_equal(part.t, whole.t[keep])
    assert (part.attrs["roi"], part.attrs["polarity"]) == ([4, 4, 9, 9], 1)


def test_filters_read_no_more_than_they_look_back():
    """A window of a filtered view costs its own chunks and those of the look-back."""
    columns = make_columns(64 * 100, span=64_000)
    stream = make_stream(columns, 64, counting=True)
    stream.filtered(Refractory(500), BackgroundActivity(500)).window(30_000, 30_100)
    assert sum(stream.columns["t"].chunks.values()) < 8


def test_hot_pixels_by_rate():
    """A rate in events a second is another way to call a pixel hot."""
    counts = np.array([[10, 20], [30, 0]])
    assert find_hot_pixels(counts, 2_000_000, max_rate_hz=9.0).tolist() == [[False, True], [True, False]]
    assert not find_hot_pixels(np.zeros((2, 2)), 1).any()
    columns = make_columns(500)
    stream = make_stream(columns)
    rate = stream.pixel_count() / (stream.duration_us / 1e6)
    np.testing.assert_array_equal(stream.hot_pixels(max_rate_hz=1000.0), rate > 1000)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Roi(0, 0, 0, 5), r"roi=\(0, 0, 0, 5\) is not"),
        (lambda: Polarity(None), "polarity=None keeps every event"),
        (lambda: Polarity("left"), "polarity='left' is not one of"),
        (lambda: Refractory(0), "period_us=0 is not a whole number of us above 0"),
        (lambda: BackgroundActivity(1.5), "duration_us=1.5 is not"),
        (lambda: HotPixels(np.zeros((2, 3))), "is no boolean image"),
    ],
)
def test_filters_that_mean_nothing(make, match):
    """A filter is checked when it is made."""
    with pytest.raises(UsageError, match=match):
        make()


def test_masks_must_fit_the_sensor():
    """A mask of another sensor is refused with both shapes."""
    view = make_stream(make_columns(50)).filtered(HotPixels(np.zeros((2, 3), bool)))
    with pytest.raises(
        UsageError, match=r"mask has shape \(2, 3\); the sensor of 24 x 18 pixels needs \(18, 24\)"
    ):
        view.window(0, 9999)
