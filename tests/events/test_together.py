"""Recordings far away: the columns of a window are read at the same time, and hold the same events."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazystore.cache import CachedReader, ChunkPool
from lazystore.events.together import fetch_together
from lazystore.testing import ArrayChunkReader, FailingReader
from tests.events.recordings import SENSOR, make_columns, make_stream
from tests.events.test_windows import window_of


def test_columns_are_read_at_the_same_time():
    """Every column's thread waits until all four are there: one by one they would wait for ever."""
    together = threading.Barrier(4)
    pool = ChunkPool(1 << 20)

    def wait(chunk_index):
        together.wait(30)

    columns = {
        name: CachedReader(
            FailingReader(ArrayChunkReader(np.arange(40), (10,), ("event",)), wait), pool=pool, prefetch=False
        )
        for name in "txyp"
    }
    fetch_together(columns, [1], far=True)
    assert all(reader.absent([(1,), (2,)]) == [(2,)] for reader in columns.values())
    fetch_together(columns, [1], far=True)  # nothing is left to read, so nobody waits
    for reader in columns.values():
        reader.close()


def test_what_the_cache_would_not_hold_is_not_read_twice():
    """A budget smaller than the window: each chunk is read when its turn comes, as without `far`."""
    stream, counted = far_stream(make_columns(400, 3, ordered=True), 40, budget_bytes=40)
    window = stream.window(stream.t_start, stream.t_stop)
    assert len(window) == 400
    assert counted["x"].chunks == {(chunk,): 1 for chunk in range(10)}
    stream.close()


def test_a_near_window_asks_each_column_once():
    """Three chunks of a column are one read, and a second look is none."""
    stream, counted = far_stream(make_columns(400, 3, ordered=True), 40, budget_bytes=1 << 20, far=False)
    asked = dict.fromkeys("txyp", 0)
    for name, reader in counted.items():
        reader.read_chunks = _counting(name, reader.read_chunks, asked)
    t = np.concatenate([counted["t"].read_chunk((chunk,)) for chunk in range(10)])
    for _ in range(2):
        window = stream.window(int(t[50]), int(t[150]))
        np.testing.assert_array_equal(window.t, t[(t >= t[50]) & (t < t[150])])
        assert asked == dict.fromkeys("txyp", 1)
    stream.close()


def _counting(name, read, asked):
    def read_chunks(chunks):
        asked[name] += 1
        return read(chunks)

    return read_chunks


def test_an_error_of_one_column_comes_out():
    """It is the reader's own."""

    def fail(chunk_index):
        return OSError("gone")

    pool = ChunkPool(1 << 20)
    reader = CachedReader(
        FailingReader(ArrayChunkReader(np.arange(9), (3,)), fail), pool=pool, prefetch=False
    )
    with pytest.raises(OSError, match="gone"):
        fetch_together({"t": reader}, [0], far=True)
    reader.close()


@given(
    n=st.integers(1, 300),
    seed=st.integers(0, 20),
    ordered=st.booleans(),
    chunk=st.sampled_from([1, 7, 64]),
    budget=st.sampled_from([0, 200, 1 << 20]),
    bounds=st.tuples(st.integers(-300, 2300), st.integers(-300, 2300)),
)
@settings(max_examples=60, deadline=None)
def test_the_events_are_the_same(n, seed, ordered, chunk, budget, bounds):
    """Whatever the budget keeps, in order or not, with a region or without."""
    columns = make_columns(n, seed, ordered=ordered)
    near = make_stream(columns, chunk)
    far, _ = far_stream(columns, chunk, budget)
    t0, t1 = (min(max(time, near.t_start), near.t_stop) for time in sorted(bounds))
    for roi in (None, (0, 0, 5, 5)):
        ours, theirs = (window_of(stream, t0, t1, roi=roi) for stream in (far, near))
        for name in "txyp":
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    far.close()


def far_stream(columns, chunk_events, budget_bytes, *, far=True):
    """A stream behind a cache of its own, as of a store in a bucket; and the counting readers below it."""
    near = make_stream(columns, chunk_events, counting=True)
    pool = ChunkPool(budget_bytes)
    cached = {name: CachedReader(reader, pool=pool, prefetch=False) for name, reader in near.columns.items()}
    return type(near)(cached, near.index, sensor=SENSOR, far=far), near.columns
