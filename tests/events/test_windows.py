from __future__ import annotations

import itertools
import math
import pickle
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazystore.clock import Clock
from lazystore.errors import DamagedStoreError, MemoryBudgetError, StoreError, UsageError
from lazystore.events.index import EventIndex, index_of_readers, index_of_times
from lazystore.events.stream import EventStream
from lazystore.events.window import OutsideRecordingWarning
from lazystore.testing.fakes import ArrayChunkReader
from tests.events.recordings import SENSOR, assert_same, make_columns, make_stream, masked

times = st.integers(-300, 2300)
regions = st.none() | st.tuples(
    st.integers(-2, 20), st.integers(-2, 15), st.integers(1, 12), st.integers(1, 9)
).map(lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3]))


def window_of(stream, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideRecordingWarning)
        return stream.window(*args, **options)


@given(
    n=st.integers(1, 400),
    seed=st.integers(0, 50),
    ordered=st.booleans(),
    chunk=st.sampled_from([1, 7, 64, 500]),
    bounds=st.tuples(times, times),
    roi=regions,
    polarity=st.sampled_from([None, "on", "off"]),
)
@settings(max_examples=300)
def test_windows_are_what_a_mask_gives(n, seed, ordered, chunk, bounds, roi, polarity):
    """Every window equals a mask over the whole recording, in file order, sorted or not."""
    columns = make_columns(n, seed, ordered=ordered)
    t0, t1 = sorted(bounds)
    window = window_of(make_stream(columns, chunk), t0, t1, roi=roi, polarity=polarity)
    t, x, y, p = columns.values()
    keep = (t >= t0) & (t < t1)
    if roi is not None:
        keep &= (x >= roi[0]) & (x < roi[2]) & (y >= roi[1]) & (y < roi[3])
    if polarity is not None:
        keep &= p == (polarity == "on")
    assert_same(window, masked(columns, keep))
    assert (window.t_start, window.t_stop) == (t0, t1)


@given(
    chunks=st.lists(st.lists(st.integers(0, 30), min_size=4, max_size=4), min_size=1, max_size=6),
    bounds=st.tuples(st.integers(-1, 32), st.integers(-1, 32)),
)
def test_nearly_sorted_recordings(chunks, bounds):
    """Chunks that are sorted inside but overlap each other still give exact windows."""
    t = np.array([time for chunk in chunks for time in sorted(chunk)])
    columns = make_columns(len(t)) | {"t": t}
    t0, t1 = sorted(bounds)
    assert_same(window_of(make_stream(columns, 4), t0, t1), masked(columns, (t >= t0) & (t < t1)))


@given(
    n=st.integers(1, 200), seed=st.integers(0, 20), cuts=st.lists(times, max_size=6), ordered=st.booleans()
)
def test_adjoining_windows_hold_each_event_once(n, seed, cuts, ordered):
    """Half-open windows tile the recording; its last event is in [.., t_stop)."""
    columns = make_columns(n, seed, ordered=ordered)
    stream = make_stream(columns, 16)
    edges = sorted([stream.t_start, *(c for c in cuts if stream.t_start < c < stream.t_stop), stream.t_stop])
    found = [window_of(stream, a, b) for a, b in itertools.pairwise(edges)]
    assert sum(map(len, found)) == n
    if ordered:
        np.testing.assert_array_equal(np.concatenate([w.x for w in found]), columns["x"])


def test_ties_stay_in_file_order_and_together():
    """Events of one microsecond are never split, and keep the file's order."""
    columns = make_columns(200)
    columns["t"] = np.repeat([5, 6, 6, 9], 50)
    stream = make_stream(columns, 16)
    assert_same(stream.window(6, 7), masked(columns, slice(50, 150)))
    assert len(stream.window(7, 9)) == 0


@pytest.mark.parametrize(
    ("t0", "t1", "unit", "first", "last"),
    [
        (100, 200, "us", 100, 200),
        (99.5, 200.0, "us", 100, 200),
        (0.1, 0.2, "ms", 101, 201),  # the floats 0.1 and 0.2 lie just above their decimals
        (Fraction(1, 10), Fraction(1, 5), "ms", 101, 201),
        (1, 2, "ms", 1000, 2000),
        (np.int64(1), np.float64(1.5), "ms", 1000, 1500),
        (5.0001, 5.0002, "s", 100, 200),
        (-math.inf, 200, "us", 0, 200),
        (100, math.inf, "us", 100, 2000),
    ],
)
def test_units_of_time(t0, t1, unit, first, last):
    """µs and ms are the recording's own time, s is session seconds; bounds are exact."""
    columns = make_columns(500)
    columns["t"][[0, -1]] = 0, 1999
    window = make_stream(columns, clock=Clock(offset_s=5.0)).window(t0, t1, unit=unit)
    assert (window.t_start, window.t_stop) == (first, last)
    assert_same(window, masked(columns, (columns["t"] >= first) & (columns["t"] < last)))


def test_session_seconds_agree_with_the_clock():
    """A window in seconds holds exactly the events whose session second lies in it, drift included."""
    columns = make_columns(500)
    clock = Clock(offset_s=0.123456789, rate=1.00003, known="synchronised")
    stream = make_stream(columns, clock=clock)
    seconds = clock.ticks_to_session(columns["t"], Fraction(1, 10**6))
    t0, t1 = float(seconds[100]), float(seconds[300])
    window = stream.window(t0, t1, unit="s")
    assert_same(window, masked(columns, (seconds >= t0) & (seconds < t1)))
    np.testing.assert_array_equal(window.seconds(), seconds[(seconds >= t0) & (seconds < t1)])


def test_windows_outside_warn_with_both_ranges():
    """A window that cannot hold an event says where the recording is; an empty one inside does not."""
    columns = make_columns(100, start=1000)
    stream = make_stream(columns)
    for t0, t1 in ((0, stream.t_start), (stream.t_stop, stream.t_stop + 10)):
        match = rf"\[{t0}, {t1}\) us lies outside .* events in \[{stream.t_start}, {stream.t_stop}\)"
        with pytest.warns(OutsideRecordingWarning, match=match):
            assert len(stream.window(t0, t1)) == 0
    gap = int(columns["t"][50]) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.window(gap, gap)


@pytest.mark.parametrize(
    ("args", "options", "match"),
    [
        ((5, 4), {}, r"window \[5, 4\) us ends before it begins"),
        ((0, 1), {"unit": "min"}, "unit='min' is not one of us, ms, s"),
        (("a", 1), {}, "t0='a' is no number; expected a time in us"),
        ((0, math.nan), {}, "t1=nan is no time"),
        ((0, 1), {"roi": (0, 0, 5)}, r"roi=\(0, 0, 5\) is not \(x0, y0, x1, y1\)"),
        ((0, 1), {"roi": (0, 0, 0, 5)}, "with x0 < x1 and y0 < y1"),
        ((0, 1), {"roi": (0, 0.5, 5, 5)}, "in whole pixels"),
        ((0, 1), {"polarity": "up"}, "polarity='up' is not one of 'on', 'off'"),
        ((0, 1), {"polarity": 2}, "polarity=2 is not one of"),
    ],
)
def test_windows_that_mean_nothing(args, options, match):
    """A bad argument is refused by name."""
    with pytest.raises(UsageError, match=match):
        make_stream(make_columns(10)).window(*args, **options)


@pytest.mark.parametrize("polarity", [True, 1, "ON", "on"])
def test_spellings_of_on(polarity):
    """Every usual spelling of a polarity works; -1, 0 and False are OFF."""
    columns = make_columns(50)
    stream = make_stream(columns)
    assert_same(stream.window(0, 9999, polarity=polarity), masked(columns, columns["p"] == 1))
    for off in (False, 0, -1, "off"):
        assert_same(stream.window(0, 9999, polarity=off), masked(columns, columns["p"] == 0))


def reads(counting):
    return sum(counting.chunks.values())


# --- by number ----------------------------------------------------------------------------------


@given(n=st.integers(1, 100), bounds=st.tuples(st.integers(-100, 100), st.integers(-100, 100)))
def test_windows_by_number(n, bounds):
    """e[a:b] cuts like numpy; window_by_index takes ranges inside the recording only."""
    columns = make_columns(n)
    stream = make_stream(columns, 16)
    start, stop = bounds
    assert_same(stream[start:stop], masked(columns, slice(start, stop)))
    first, last = (number + n if number < 0 else number for number in bounds)
    if 0 <= first <= last <= n:
        window = stream.window_by_index(start, stop)
        assert_same(window, masked(columns, slice(first, last)))
        if len(window):
            assert (window.t_start, window.t_stop) == (window.t.min(), window.t.max() + 1)
    else:
        with pytest.raises(UsageError, match=r"are not inside 'events'"):
            stream.window_by_index(start, stop)


@given(
    n=st.integers(1, 100),
    seed=st.integers(0, 20),
    t0=times,
    count=st.integers(-50, 50),
    ordered=st.booleans(),
)
def test_windows_by_count(n, seed, t0, count, ordered):
    """`count` events from the first one at or after t0, in file order; before it if negative."""
    columns = make_columns(n, seed, ordered=ordered)
    stream = make_stream(columns, 16)
    later = np.flatnonzero(columns["t"] >= t0)
    place = int(later[0]) if later.size else n
    assert stream.place_of(t0) == place
    window = stream.window_by_count(t0, count)
    expected = slice(place, place + count) if count >= 0 else slice(max(0, place + count), place)
    assert_same(window, masked(columns, expected))


def test_only_slices_without_a_step():
    """One event alone, or every other one, is not a window."""
    stream = make_stream(make_columns(10))
    for key in (3, slice(0, 9, 2)):
        with pytest.raises(TypeError, match="slice without a step"):
            stream[key]


def test_blocks_go_through_everything_once():
    """All events in file order, in whole chunks, at most as many as asked for."""
    columns = make_columns(1000)
    blocks = list(make_stream(columns, 64).blocks(200))
    assert [len(block) for block in blocks] == [192] * 5 + [40]
    for name, values in columns.items():
        np.testing.assert_array_equal(np.concatenate([getattr(b, name) for b in blocks]), values)


# --- what a window costs ------------------------------------------------------------------------


def test_a_window_reads_only_the_chunks_that_it_touches():
    """Also in a long recording, a window costs its own chunks: one or two, each column once."""
    columns = make_columns(64 * 100, span=64_000)
    stream = make_stream(columns, 64, counting=True)
    window = stream.window(30_000, 30_500)
    assert 0 < len(window) < 128
    assert all(reads(reader) <= 3 for reader in stream.columns.values())


def test_a_window_inside_one_chunk_copies_nothing():
    """Its columns are views of the chunk, and cannot be written."""
    columns = make_columns(1000)
    stream = make_stream(columns, 1000)
    window = stream.window(100, 900)
    chunk = stream.columns["x"].read_chunk((0,))
    assert np.shares_memory(window.x, chunk)
    with pytest.raises(ValueError, match="read-only"):
        window.t[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        make_stream(columns, 10).window(100, 900).x[0] = 0


def test_region_and_polarity_skip_chunks():
    """Chunks whose bounds exclude a region or polarity are not read at all."""
    columns = make_columns(400)
    columns["x"] = np.repeat(np.array([2, 20], np.uint16), 200)
    columns["p"] = np.repeat(np.array([1, 0], np.uint8), 200)
    for options in ({"roi": (0, 0, 10, 18)}, {"polarity": "on"}):
        stream = make_stream(columns, 100, counting=True)
        assert len(stream.window(0, 9999, **options)) == 200
        assert reads(stream.columns["t"]) == 2
    off = make_stream(columns, 100, counting=True)
    assert len(off.window(0, 9999, polarity="off")) == 200
    assert reads(off.columns["t"]) == 2


def test_long_windows_do_not_go_through_the_cache():
    """A window of many chunks is read past the cache's admission, if the reader has such a way."""
    columns = make_columns(64 * 50)
    stream = make_stream(columns, 64)
    seen = []

    class Scanned(ArrayChunkReader):
        def read_through(self, chunk_indices):
            seen.append(len(chunk_indices))
            return self.read_chunks(chunk_indices)

    stream.columns = {n: Scanned(values, (64,), ("event",)) for n, values in columns.items()}
    assert_same(stream.window(0, 9999), columns)
    assert seen == [50] * 4
    stream.window(0, 9999, polarity=1)
    assert seen[4:] == [1] * 200
    seen.clear()
    stream.window(0, 100)
    assert not seen


def test_windows_beyond_memory_are_refused(monkeypatch):
    """The whole of a long recording says what it would take, before it takes it."""
    monkeypatch.setattr("lazystore.cache.guard.ALWAYS_FITS_BYTES", 100)
    monkeypatch.setenv("LAZYSTORE_MEMORY_BYTES", "5000")
    stream = make_stream(make_columns(1000))
    with pytest.raises(
        MemoryBudgetError, match="would load 1000 events, 13000 bytes; the memory budget is 5000"
    ):
        stream.window(0, 9999)
    with pytest.raises(MemoryBudgetError, match="go through blocks"):
        stream.window(0, 9999, polarity=1)
    assert len(stream.window(0, 10)) < 100
    assert sum(map(len, stream.blocks(64))) == 1000


# --- the recording ------------------------------------------------------------------------------


def test_what_a_recording_says_of_itself():
    """Length, bounds, order and polarity come from the index; nothing is read."""
    columns = make_columns(300, start=50)
    stream = make_stream(columns, counting=True)
    assert len(stream) == 300
    assert (stream.t_start, stream.t_stop) == (columns["t"].min(), columns["t"].max() + 1)
    assert stream.duration_us == stream.t_stop - stream.t_start
    assert stream.is_sorted
    assert stream.n_on == columns["p"].sum()
    assert stream.sensor == SENSOR
    text = repr(stream)
    assert "300 events, sensor 24 x 18" in text
    assert "% ON" in text
    assert all(reads(reader) == 0 for reader in stream.columns.values())
    jumbled = make_stream(make_columns(300, ordered=False))
    assert not jumbled.is_sorted
    assert "times go back" in repr(jumbled)


def test_html_shows_where_events_are():
    """A notebook gets the facts and a small picture, from the stored counts; without them only facts."""
    stream = make_stream(make_columns(300), counting=True)
    assert "data:image/png;base64" in stream._repr_html_()
    assert all(reads(reader) == 0 for reader in stream.columns.values())
    stream.side.clear()
    assert "<img" not in stream._repr_html_()
    assert "300 events" in stream._repr_html_()


def test_an_empty_recording():
    """No events: no time, no windows, no errors."""
    stream = make_stream(make_columns(0))
    assert (len(stream), stream.t_start, stream.t_stop) == (0, 0, 0)
    with pytest.warns(OutsideRecordingWarning, match="lies outside"):
        assert len(stream.window(0, 10)) == 0
    assert list(stream.blocks()) == []
    assert "0 events" in repr(stream)
    assert stream.place_of(5) == 0


def test_streams_pickle():
    """A pickled stream gives the same windows."""
    columns = make_columns(300)
    again = pickle.loads(pickle.dumps(make_stream(columns, clock=Clock(offset_s=1.5))))
    assert_same(again.window(100, 900), masked(columns, (columns["t"] >= 100) & (columns["t"] < 900)))
    assert again.clock.offset_s == 1.5
    np.testing.assert_array_equal(again.pixel_count().sum(), 300)


def test_rate_and_counts():
    """What the conversion pass counted is at hand."""
    columns = make_columns(500, span=10_000)
    stream = make_stream(columns)
    rate = stream.rate()
    assert rate.step_us == 1000
    np.testing.assert_array_equal(rate.on + rate.off, np.bincount(columns["t"] // 1000, minlength=10))
    np.testing.assert_array_equal(rate.per_second, (rate.on + rate.off) * 1000.0)
    assert stream.pixel_count().shape == SENSOR[::-1]
    stream.side.clear()
    with pytest.raises(StoreError, match="has no 'rate/t'; the store is unfinished"):
        stream.rate()


def test_triggers():
    """External triggers are arrays; a recording without them has none."""
    side = {
        "triggers/t": lambda: np.array([5, 9]),
        "triggers/id": lambda: np.array([1, 1]),
        "triggers/p": lambda: np.array([1, 0]),
    }
    found = make_stream(make_columns(10), side=side).triggers
    assert (found.t.tolist(), found.id.tolist(), found.p.tolist(), len(found)) == ([5, 9], [1, 1], [1, 0], 2)
    assert len(make_stream(make_columns(10)).triggers) == 0


def test_columns_must_fit_the_index():
    """Columns that are missing or differ in length or chunks are refused."""
    columns = make_columns(100)
    readers = {n: ArrayChunkReader(v, (10,), ("event",)) for n, v in columns.items()}
    index = index_of_readers(readers)
    with pytest.raises(UsageError, match="column 'p' of 'events' is missing"):
        EventStream({n: readers[n] for n in "txy"}, index, sensor=SENSOR)
    with pytest.raises(UsageError, match=r"column 'x' of 'events' has shape \(100,\), chunks \(20,\)"):
        EventStream(readers | {"x": ArrayChunkReader(columns["x"], (20,))}, index, sensor=SENSOR)


def test_closing_closes_every_reader():
    """Files are released, and reads open them again."""
    stream = make_stream(make_columns(10))
    closed = []

    class Noting(ArrayChunkReader):
        def close(self):
            closed.append(self.spec.dtype.char)

    stream.columns = {n: Noting(v, (64,)) for n, v in make_columns(10).items()}
    stream.close()
    assert len(closed) == 4


# --- the index ----------------------------------------------------------------------------------


def test_indexes_agree_however_they_are_made():
    """An index found by reading equals the one of the conversion pass."""
    for ordered in (True, False):
        stream = make_stream(make_columns(333, ordered=ordered))
        found = index_of_readers(stream.columns)
        for name in ("t_min", "t_max", "sorted", "on_count", "x_min", "x_max", "y_min", "y_max"):
            np.testing.assert_array_equal(getattr(found, name), getattr(stream.index, name))


def test_lost_chunks_are_in_no_window():
    """Events that a conversion has not reached yet are left out; the rest is exact."""
    columns = make_columns(100)
    stream = make_stream(columns, 10)
    index = index_of_readers(stream.columns, missing=[(25, 40)])
    part = EventStream(stream.columns, index, sensor=SENSOR)
    keep = np.ones(100, bool)
    keep[20:40] = False
    assert not index.is_whole
    assert_same(part.window(0, 9999), masked(columns, keep))
    assert "2 of 10 chunks cannot be read" in repr(part)


def test_an_index_of_another_length_is_damage():
    """Rows that do not match the events are refused."""
    index = index_of_times(np.arange(10), 4)
    parts = {name: getattr(index, name) for name in ("t_min", "t_max", "sorted", "on_count")}
    parts |= {f"{a}_{e}": getattr(index, f"{a}_{e}") for a in "xy" for e in ("min", "max")}
    with pytest.raises(
        DamagedStoreError, match=r"index/t_min has shape \(3,\); 10 events in chunks of 5 need"
    ):
        EventIndex(10, 5, **parts)


# --- a window -----------------------------------------------------------------------------------


def test_structured_array_as_tonic_takes_it():
    """One structured array with fields x, y, t, p."""
    columns = make_columns(50)
    events = make_stream(columns).window(0, 9999).to_numpy()
    assert events.dtype.names == ("x", "y", "t", "p")
    assert events.dtype["p"] == np.bool_
    for name, values in columns.items():
        np.testing.assert_array_equal(events[name], values)
    np.testing.assert_array_equal(make_stream(columns).to_numpy(), events)


def test_windows_in_xarray():
    """A Dataset over `event` with units and session seconds."""
    columns = make_columns(50)
    window = make_stream(columns, clock=Clock(offset_s=2.0)).window(100, 900, polarity="on", roi=(0, 0, 9, 9))
    dataset = window.to_xarray()
    assert set(dataset.data_vars) == {"t", "x", "y", "p"}
    assert dataset["t"].attrs["units"] == "us"
    np.testing.assert_array_equal(dataset["time"], window.t / 1e6 + 2.0)
    assert dataset.attrs["roi"] == [0, 0, 9, 9]
    assert dataset.attrs["polarity"] == 1
    assert "events in [100, 900) us" in repr(window)


def test_recordings_in_xarray_are_lazy():
    """The whole recording as a Dataset reads nothing until it is looked at."""
    columns = make_columns(500)
    stream = make_stream(columns, counting=True)
    dataset = stream.to_xarray()
    assert all(reads(reader) == 0 for reader in stream.columns.values())
    np.testing.assert_array_equal(dataset["x"][100:120].values, columns["x"][100:120])
    np.testing.assert_array_equal(stream.column("t")[5:9], columns["t"][5:9])
    assert reads(stream.columns["p"]) == 0
