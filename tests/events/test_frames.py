from __future__ import annotations

import pickle
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazystore.cache import cached
from lazystore.clock import Clock
from lazystore.errors import UsageError
from lazystore.events import frames as frames_module
from lazystore.events.frames import FrameReader
from lazystore.events.modes import Count
from lazystore.testing.readers import check_chunk_reader
from tests.events.recordings import SENSOR, make_columns, make_stream

W, H = SENSOR


@pytest.fixture(autouse=True)
def no_prefetch(monkeypatch):
    """Threads that read ahead linger for a second after each test; one test below has them."""
    monkeypatch.setattr(frames_module, "cached", partial(cached, prefetch=False))


# --- the definitions, one event at a time -------------------------------------------------------


def in_window(columns, t0, t1):
    rows = zip(*(columns[name].tolist() for name in "txyp"), strict=True)
    return [(t, x, y, p) for t, x, y, p in rows if t0 <= t < t1]


def count(columns, t0, t1, by_polarity=False):
    image = np.zeros((2, H, W), int)
    for _, x, y, p in in_window(columns, t0, t1):
        image[p, y, x] += 1
    return image if by_polarity else image.sum(axis=0)


def signed(columns, t0, t1):
    off, on = count(columns, t0, t1, by_polarity=True)
    return on - off


def polarity(columns, t0, t1):
    off, on = count(columns, t0, t1, by_polarity=True)
    image = np.full((H, W), 127)
    image[on > 0] = 255
    image[off > 0] = 0
    return image


def decay(columns, t0, t1, tau, kind="exponential", by_polarity=False):
    image = np.zeros((2, H, W))
    look_back = 5 * tau if kind == "exponential" else tau
    for t, x, y, p in in_window(columns, t1 - look_back, t1):
        age = t1 - t
        image[p, y, x] += np.exp(-age / tau) if kind == "exponential" else max(0, 1 - age / tau)
    return image if by_polarity else image.sum(axis=0)


def time_surface(columns, t0, t1, tau, by_polarity=True):
    image = np.zeros((2, H, W))
    for t, x, y, p in in_window(columns, t1 - 5 * tau, t1):
        image[p, y, x] = max(image[p, y, x], np.exp(-(t1 - t) / tau))
    return image if by_polarity else image.max(axis=0)


def voxel(columns, t0, t1, bins=5):
    volume = np.zeros((bins, H, W))
    for t, x, y, p in in_window(columns, t0, t1):
        place = (bins - 1) * (t - t0) / (t1 - t0)
        for b in range(bins):
            volume[b, y, x] += (2 * p - 1) * max(0, 1 - abs(b - place))
    return volume


CASES = {
    "count": (count, {}, "u2"),
    "count by polarity": (count, {"by_polarity": True}, "u2"),
    "signed": (signed, {}, "i2"),
    "polarity": (polarity, {}, "u1"),
    "exponential": (decay, {"tau": 60}, "f4"),
    "exponential by polarity": (decay, {"tau": 60, "by_polarity": True}, "f4"),
    "linear": (decay, {"tau": 150, "kind": "linear"}, "f4"),
    "time surface": (time_surface, {"tau": 60}, "f4"),
    "time surface of both": (time_surface, {"tau": 60, "by_polarity": False}, "f4"),
    "voxel": (voxel, {}, "f4"),
    "voxel of 2": (voxel, {"bins": 2}, "f4"),
}


def frames_of(stream, case, period, duration=None, **options):
    definition, given_options, _ = CASES[case]
    asked = dict(given_options)
    if "kind" in asked:
        asked["decay"] = asked.pop("kind")
    return stream.frames(period, duration, mode=definition.__name__, **asked, **options)


@pytest.mark.parametrize("case", CASES)
@given(
    n=st.integers(1, 500),
    seed=st.integers(0, 20),
    ordered=st.booleans(),
    period=st.integers(30, 900),
    duration=st.none() | st.integers(1, 900),
)
@settings(max_examples=12)
def test_frames_are_what_the_definitions_say(case, n, seed, ordered, period, duration):
    """Every frame equals the definition, one event at a time, for overlapping and gapped windows."""
    columns = make_columns(n, seed, ordered=ordered)
    stream = make_stream(columns, 64)
    frames = frames_of(stream, case, period, duration)
    definition, options, dtype = CASES[case]
    start, stop = stream.t_start, stream.t_stop
    assert len(frames) == -(-(stop - start) // period)
    assert frames.dtype == dtype
    for k in {0, len(frames) // 2, len(frames) - 1}:
        t0 = start + k * period
        expected = definition(columns, t0, t0 + (duration or period), **options)
        assert frames[k].shape == expected.shape
        np.testing.assert_allclose(frames[k], expected, rtol=2e-5, atol=2e-5)
        if dtype != "f4":
            np.testing.assert_array_equal(frames[k], expected)


@pytest.mark.parametrize("period", [10, 1000, 1_000_000])
def test_adjoining_frames_count_each_event_once(period):
    """From 10 µs to seconds: no event is lost or counted twice at a border."""
    columns = make_columns(500, span=20_000)
    frames = make_stream(columns).frames(period)
    assert int(frames.sum()) == 500


def test_frames_are_lazy_and_cached():
    """Nothing is read until a frame is looked at, and then once."""
    columns = make_columns(6400, span=64_000)
    stream = make_stream(columns, 64, counting=True)
    frames = stream.frames(500)
    part = frames[40:50]
    assert all(sum(reader.chunks.values()) == 0 for reader in stream.columns.values())
    first = part[3].copy()
    calls = stream.columns["x"].calls
    np.testing.assert_array_equal(frames[43], first)
    assert 0 < calls < 20
    np.testing.assert_array_equal(first, count(columns, stream.t_start + 43 * 500, stream.t_start + 44 * 500))


def test_frames_carry_labels():
    """Time in session seconds of the window's beginning (or its end, for decays), pixels, polarities."""
    columns = make_columns(500)
    stream = make_stream(columns, clock=Clock(offset_s=2.0))
    frames = stream.frames(100, mode="count", by_polarity=True)
    assert frames.dims == ("time", "polarity", "y", "x")
    np.testing.assert_array_equal(
        frames.coords["time"],
        stream.clock.ticks_to_session(stream.t_start + 100 * np.arange(len(frames)), Fraction(1, 10**6)),
    )
    assert frames.coords["polarity"].tolist() == ["off", "on"]
    assert frames.attrs["period_us"] == 100
    assert frames.sel(time=2.0 + (stream.t_start + 310) / 1e6, method="nearest").shape == (2, H, W)
    ends = stream.frames(100, 250, mode="time_surface", tau=50).coords["time"]
    np.testing.assert_allclose(ends, frames.coords["time"] + 250e-6, rtol=1e-12)
    assert stream.frames(100, mode="voxel").dims == ("time", "bin", "y", "x")


def test_frames_of_a_part():
    """t0 and t1 choose where the first frame begins and before where the last one does."""
    columns = make_columns(500)
    stream = make_stream(columns, clock=Clock(offset_s=1.0))
    frames = stream.frames(0.1, unit="ms", t0=0.5, t1=0.95)
    assert len(frames) == 5
    np.testing.assert_array_equal(frames[4], count(columns, 900, 1000))
    seconds = stream.frames(0.0001, unit="s", t0=1.0005, t1=1.00095)
    np.testing.assert_array_equal(seconds[0], count(columns, 500, 600))
    early = stream.frames(100, t0=-200)
    assert early[0].sum() == 0
    np.testing.assert_array_equal(early[4], count(columns, 200, 300))


def test_counts_stay_at_their_largest_value():
    """A pixel that fires too often for its dtype shows the largest value, never a small one."""
    n = 70_000
    columns = {
        "t": np.zeros(n, np.int64), "x": np.full(n, 3, np.uint16), "y": np.full(n, 2, np.uint16),
        "p": np.ones(n, np.uint8),
    }  # fmt: skip
    stream = make_stream(columns, 1 << 17)
    assert stream.frames(10)[0][2, 3] == 65_535
    assert stream.frames(10, dtype="u1")[0][2, 3] == 255
    assert stream.frames(10, dtype="u4")[0][2, 3] == n
    assert stream.frames(10, mode="signed")[0][2, 3] == 32_767
    columns["p"][:] = 0
    assert make_stream(columns, 1 << 17).frames(10, mode="signed")[0][2, 3] == -32_768


def test_hot_pixels_can_be_left_out():
    """With the stored counts or with a mask; the rest of the frame stays as it is."""
    columns = make_columns(3000)
    columns["x"][:1500], columns["y"][:1500] = 5, 7
    stream = make_stream(columns)
    assert np.argwhere(stream.hot_pixels()).tolist() == [[7, 5]]
    plain, clean = (stream.frames(500, drop_hot_pixels=drop) for drop in (False, True))
    expected = plain[0].copy()
    expected[7, 5] = 0
    np.testing.assert_array_equal(clean[0], expected)
    assert clean.attrs["filters"] == [{"filter": "hot_pixels", "pixels": 1}]
    mask = np.zeros((H, W), bool)
    mask[0] = True
    assert stream.frames(500, drop_hot_pixels=mask)[0][0].sum() == 0


def test_frames_of_filtered_events():
    """Filters of a view hold for its frames, and are recorded in them."""
    from lazystore.events.filters import Polarity

    columns = make_columns(500)
    frames = make_stream(columns).filtered(Polarity("on")).frames(100)
    assert frames.attrs["filters"] == [{"filter": "polarity", "polarity": 1}]
    assert int(frames.sum()) == columns["p"].sum()


def test_the_frame_reader_keeps_the_contract():
    """Frames behave as stored chunks do: shapes, errors, threads, pickles."""
    columns = make_columns(500)
    stream = make_stream(columns)
    n = 7
    expected = np.stack([count(columns, k * 300, k * 300 + 300) for k in range(n)])
    expected = expected.astype(np.uint16)
    check_chunk_reader(lambda: FrameReader(stream, 0, 300, 300, n, Count()), expected)


def test_playing_frames_reads_ahead(monkeypatch):
    """Frames go through the process's cache and prefetcher, and stay right."""
    monkeypatch.setattr(frames_module, "cached", cached)
    columns = make_columns(2000, span=20_000)
    stream = make_stream(columns)
    frames = stream.frames(200)
    for k in range(40):
        t0 = stream.t_start + 200 * k
        np.testing.assert_array_equal(frames[k], count(columns, t0, t0 + 200))
    assert frames.cache_info().misses <= 40
    frames.close()


def test_frames_pickle():
    """A pickled array of frames shows the same frames."""
    frames = make_stream(make_columns(500)).frames(100, mode="decay", tau=50)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames))[3], frames[3])


@pytest.mark.parametrize(
    ("args", "options", "match"),
    [
        ((0,), {}, "period=0 us is not a whole number of us above 0"),
        ((0.5,), {}, "period=0.5 us is not a whole number"),
        ((float("inf"),), {}, "period=inf us is not a whole number"),
        ((10, -1), {}, "duration=-1 us is not"),
        ((10,), {"unit": "h"}, "unit='h' is not one of"),
        ((10,), {"mode": "x"}, "mode='x' is not one of count, signed"),
        ((10,), {"mode": "decay"}, "mode 'decay' needs tau"),
        ((10,), {"mode": "time_surface"}, "mode 'time_surface' needs tau"),
        ((10,), {"mode": "decay", "tau": 0}, "tau=0 us is not"),
        ((10,), {"mode": "decay", "tau": 5, "decay": "square"}, "decay='square' is not one of"),
        ((10,), {"tau": 5}, "tau=5 means nothing for mode 'count', which takes by_polarity, dtype"),
        ((10,), {"mode": "signed", "by_polarity": True}, "which takes no options"),
        ((10,), {"mode": "voxel", "bins": 1}, "bins=1 is not a whole number above 1"),
        ((10,), {"dtype": "f4"}, "dtype='f4' cannot count events"),
        ((10,), {"t0": 500, "t1": 500}, "frames from t0=500 to t1=500 us have no length"),
        ((10,), {"t1": float("inf")}, "t1=inf us have no length; expected t0 < t1, both finite"),
        ((10,), {"drop_hot_pixels": np.zeros((2, 2))}, "no boolean image"),
    ],
)
def test_frames_that_mean_nothing(args, options, match):
    """A bad argument is refused by name, before anything is read."""
    with pytest.raises(UsageError, match=match):
        make_stream(make_columns(100)).frames(*args, **options)


def test_frames_outside_the_grid():
    """A frame that is not there is an IndexError, as for stored chunks."""
    reader = FrameReader(make_stream(make_columns(10)), 0, 10, 10, 3, Count())
    for chunk in ((3, 0, 0), (-1, 0, 0), (0, 1, 0)):
        with pytest.raises(IndexError, match="outside 3 frames"):
            reader.read_chunk(chunk)
