from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazystore.convert import event_merge, event_summary
from lazystore.convert.event_rows import index_rows, rate_bins
from lazystore.convert.event_summary import EventSummary, MergedEvents
from lazystore.errors import SourceError, UsageError

CHUNK = 8
SENSOR = (20, 12)


def make_events(n, seed=0, *, ordered=True, span=5000, sensor=SENSOR):
    rng = np.random.default_rng(seed)
    t = rng.integers(-span // 4, span, n)
    return {
        "t": np.sort(t) if ordered else t,
        "x": rng.integers(0, sensor[0], n).astype(np.uint16),
        "y": rng.integers(0, sensor[1], n).astype(np.uint16),
        "p": rng.integers(0, 2, n).astype(np.uint8),
    }


def shares_of(summary, events, shard):
    n = events["t"].size
    return [
        summary.share(start, {name: column[start : start + shard] for name, column in events.items()})
        for start in range(0, n, shard)
    ]


def arrays_of(merged: MergedEvents):
    return {side.path: side.values for side in merged.side}


@given(
    n=st.integers(1, 70),
    seed=st.integers(0, 99),
    ordered=st.booleans(),
    shard=st.sampled_from([CHUNK, 2 * CHUNK, 5 * CHUNK]),
)
@settings(max_examples=60, deadline=None)
def test_shares_add_up_to_the_whole_recording(n, seed, ordered, shard):
    """However a recording is cut into shards, index, rate, pixel counts and preview are the same."""
    events = make_events(n, seed, ordered=ordered)
    summary = EventSummary(SENSOR, CHUNK)
    merged = summary.merge(shares_of(summary, events, shard))
    arrays = arrays_of(merged)
    t, x, y, p = (events[name] for name in "txyp")

    rows = index_rows(t, x, y, p, CHUNK)
    for name in ("t_min", "t_max", "sorted", "on_count", "x_min", "x_max", "y_min", "y_max"):
        np.testing.assert_array_equal(arrays[f"index/{name}"], rows[name])
        assert arrays[f"index/{name}"].dtype == rows[name].dtype

    count = np.zeros(SENSOR[::-1], int)
    np.add.at(count, (y, x), 1)
    np.testing.assert_array_equal(arrays["summary/pixel_count"], count)
    np.testing.assert_array_equal(arrays["summary/preview"].sum(axis=0), count)

    edges = arrays["rate/t"]
    assert edges[0] == t.min() // 1000 * 1000
    for start, on, off in zip(edges, arrays["rate/on"], arrays["rate/off"], strict=True):
        inside = (t >= start) & (t < start + 1000)
        assert (on, off) == (np.sum(p[inside] == 1), np.sum(p[inside] == 0))

    assert merged.attributes == {
        "count": n,
        "on": int(p.sum()),
        "off": int(n - p.sum()),
        "t_min_us": int(t.min()),
        "t_max_us": int(t.max()),
        "sorted": bool((np.diff(t) >= 0).all()),
        "disorder": int((np.diff(t) < 0).sum()),
    }


@pytest.mark.parametrize("ordered", [True, False])
def test_index_rows_describe_each_chunk(ordered):
    """Each row holds the bounds, order and ON count of exactly its chunk, the short last one too."""
    events = make_events(3 * CHUNK + 3, 4, ordered=ordered)
    rows = index_rows(*(events[name] for name in "txyp"), CHUNK)
    assert rows["t_min"].size == 4
    for chunk in range(4):
        part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        t = events["t"][part]
        assert (rows["t_min"][chunk], rows["t_max"][chunk]) == (t.min(), t.max())
        assert (rows["t_first"][chunk], rows["t_last"][chunk]) == (t[0], t[-1])
        assert rows["sorted"][chunk] == (np.sort(t) == t).all()
        assert rows["disorder"][chunk] == (np.diff(t) < 0).sum()
        assert rows["on_count"][chunk] == events["p"][part].sum()
        for axis in "xy":
            values = events[axis][part]
            assert rows[f"{axis}_min"][chunk] == values.min()
            assert rows[f"{axis}_max"][chunk] == values.max()


def test_no_events_give_empty_arrays():
    """A recording without events has empty side arrays, not an error."""
    merged = EventSummary(SENSOR, CHUNK).merge([])
    arrays = arrays_of(merged)
    assert arrays["index/t_min"].shape == (0,)
    assert arrays["rate/t"].shape == (0,)
    assert arrays["summary/preview"].shape[0] == 0
    assert arrays["summary/pixel_count"].sum() == 0
    assert merged.attributes["count"] == 0
    assert merged.attributes["sorted"] is True
    assert rate_bins(np.empty(0, np.int64), np.empty(0, np.uint8), 10)[0].size == 0


def test_hot_pixels_beyond_a_byte_are_counted_exactly():
    """A pixel that fires thousands of times in one shard keeps its exact count."""
    n = 70_000
    zeros = np.zeros(n, np.uint16)
    events = {"t": np.arange(n), "x": zeros + 3, "y": zeros, "p": zeros.astype(np.uint8)}
    summary = EventSummary(SENSOR, 1 << 16)
    share = summary.share(0, events)
    assert share["pixel_low"].nbytes == SENSOR[0] * SENSOR[1]
    merged = summary.merge([share])
    assert arrays_of(merged)["summary/pixel_count"][0, 3] == n


def test_rate_bins_widen_with_the_span(monkeypatch):
    """A long recording gets wider bins, still exact, instead of more of them."""
    monkeypatch.setattr(event_merge, "MAX_RATE_BINS", 16)
    events = make_events(400, 7, ordered=False, span=300_000)
    summary = EventSummary(SENSOR, CHUNK)
    arrays = arrays_of(summary.merge(shares_of(summary, events, 10 * CHUNK)))
    step = int(arrays["rate/t"][1] - arrays["rate/t"][0])
    assert arrays["rate/t"].size <= 16
    assert step in (32_000, 64_000)
    bins = events["t"] // step
    for start, on, off in zip(arrays["rate/t"], arrays["rate/on"], arrays["rate/off"], strict=True):
        assert on + off == np.sum(bins == start // step)


def test_rate_bins_of_a_share_widen_when_many_hold_events(monkeypatch):
    """A sparse recording, an event or so a bin, cannot make a share as large as its events."""
    monkeypatch.setattr(event_summary, "MAX_RATE_BINS_PER_SHARE", 10)
    events = make_events(CHUNK * 10, 8, span=10_000_000)
    summary = EventSummary(SENSOR, CHUNK)
    first, rest = shares_of(summary, events, CHUNK * 5)
    assert first["rate_bin"].size <= 10
    assert first["rate_step_us"][0] > 1000
    arrays = arrays_of(summary.merge([first, rest]))
    assert arrays["rate/on"].sum() + arrays["rate/off"].sum() == CHUNK * 10
    step = int(arrays["rate/t"][1] - arrays["rate/t"][0])
    np.testing.assert_array_equal(
        arrays["rate/t"][np.flatnonzero(arrays["rate/on"] + arrays["rate/off"])],
        np.unique(events["t"] // step) * step,
    )


def test_preview_joins_pictures_in_pairs(monkeypatch):
    """More chunks than pictures: each picture holds 2^k chunks, its time bounds cover them."""
    monkeypatch.setattr(event_merge, "MAX_PREVIEW_PICTURES", 4)
    events = make_events(CHUNK * 21, 9)
    summary = EventSummary(SENSOR, CHUNK)
    merged = summary.merge(shares_of(summary, events, 2 * CHUNK))
    arrays = arrays_of(merged)
    facts = next(side.attributes for side in merged.side if side.path == "summary/preview")
    group = facts["events_per_picture"]
    assert group == 8 * CHUNK
    assert arrays["summary/preview"].shape[0] == 3
    for number in range(3):
        part = slice(number * group, (number + 1) * group)
        count = np.zeros(SENSOR[::-1], int)
        np.add.at(count, (events["y"][part], events["x"][part]), 1)
        np.testing.assert_array_equal(arrays["summary/preview"][number], count)
        assert arrays["summary/preview_t_start"][number] == events["t"][part].min()
        assert arrays["summary/preview_t_stop"][number] == events["t"][part].max() + 1


@pytest.mark.parametrize(
    ("sensor", "shift", "shape"),
    [
        ((20, 12), 0, (12, 20)),
        ((80, 81), 1, (41, 40)),
        ((346, 260), 3, (33, 44)),
        ((640, 480), 3, (60, 80)),
        ((1280, 720), 4, (45, 80)),
    ],
)
def test_preview_cells_fit_the_longer_side(sensor, shift, shape):
    """Cells are the smallest power of two that keeps a picture within 80 cells a side."""
    summary = EventSummary(sensor, CHUNK)
    assert (summary.preview_shift, summary.preview_shape) == (shift, shape)


def test_share_refuses_a_start_inside_a_chunk():
    """Shares cover whole chunks, else the index would not fit the columns."""
    with pytest.raises(UsageError, match="from event 3 does not begin at a multiple of 8"):
        EventSummary(SENSOR, CHUNK).share(3, make_events(4))


def test_merge_refuses_a_gap():
    """A missing share is noticed, not skipped."""
    summary = EventSummary(SENSOR, CHUNK)
    shares = shares_of(summary, make_events(CHUNK * 3), CHUNK)
    with pytest.raises(UsageError, match="begins at event 16, expected 8"):
        summary.merge([shares[0], shares[2]])


@pytest.mark.parametrize(("axis", "value"), [("x", 20), ("y", 12)])
def test_events_outside_the_sensor_are_named(axis, value):
    """An impossible coordinate stops with the event's number and what to do."""
    events = make_events(CHUNK)
    events[axis][5] = value
    with pytest.raises(SourceError, match=rf"event 21 lies at .*{axis}={value}.* 20 x 12 pixels"):
        EventSummary(SENSOR, CHUNK).share(16, events)


def test_polarity_must_be_zero_or_one():
    """A polarity convention that slipped through a decoder is not counted as ON."""
    events = make_events(CHUNK)
    events["p"][2] = 255
    with pytest.raises(SourceError, match="event 2 has polarity 255; expected 0"):
        EventSummary(SENSOR, CHUNK).share(0, events)
