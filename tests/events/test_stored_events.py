"""Event streams of real stores: converted, opened, and compared with the file itself."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest

import lazystore as ls
from tests.events.recordings import assert_same, make_columns, make_stream, masked


@pytest.fixture
def stored(tmp_path):
    """A recording of several chunks, as a store and as columns."""
    columns = make_columns(200_000, span=1_000_000, start=5_000)
    make_stream(columns, 8192).export(tmp_path / "rec.h5")
    ls.convert(tmp_path / "rec.h5", tmp_path / "s.zarr", chunks=16_384)
    with ls.open(tmp_path / "s.zarr") as session:
        yield session["rec"], columns


def test_windows_of_a_store(stored):
    """Windows over chunk borders, by time and by number, equal the file's columns."""
    stream, columns = stored
    t = columns["t"]
    assert len(stream) == 200_000
    assert (stream.t_start, stream.t_stop) == (t[0], t[-1] + 1)
    for t0, t1 in ((5_000, 6_000), (80_000, 400_000), (990_000, 2_000_000)):
        assert_same(stream.window(t0, t1), masked(columns, (t >= t0) & (t < t1)))
    assert_same(stream[16_380:16_390], masked(columns, slice(16_380, 16_390)))
    assert_same(stream.window(100_000, 200_000, roi=(3, 3, 9, 9), polarity="on"), masked(
        columns,
        (t >= 100_000) & (t < 200_000) & (columns["x"] >= 3) & (columns["x"] < 9)
        & (columns["y"] >= 3) & (columns["y"] < 9) & (columns["p"] == 1),
    ))  # fmt: skip


def test_what_the_conversion_pass_left(stored):
    """Rate, counts and frames of a store agree with its events."""
    stream, columns = stored
    assert int(stream.pixel_count().sum()) == 200_000
    rate = stream.rate()
    assert int(rate.on.sum()) == stream.n_on == int(columns["p"].sum())
    frames = stream.frames(100, unit="ms")
    assert int(frames[3].sum()) == np.sum((columns["t"] - stream.t_start) // 100_000 == 3)
    frames.close()


def test_streams_of_a_store_pickle(stored):
    """A worker opens the same store again."""
    stream, columns = stored
    again = pickle.loads(pickle.dumps(stream))
    assert_same(again[100:200], masked(columns, slice(100, 200)))
    again.close()


def test_a_real_recording(corpus, tmp_path):
    """Half a million events of a Prophesee camera: random windows equal the HDF5 file's."""
    source = corpus / "events" / "evio_layout.h5"
    ls.convert(source, tmp_path / "s.zarr", name="real")
    with h5py.File(source) as file:
        columns = {
            name: file["events"][name][()].astype(dtype)
            for name, dtype in {"t": "i8", "x": "u2", "y": "u2", "p": "u1"}.items()
        }
    t = columns["t"]
    rng = np.random.default_rng(0)
    with ls.open(tmp_path / "s.zarr") as session:
        stream = session["real"]
        for _ in range(20):
            t0, t1 = np.sort(rng.integers(t.min(), t.max() + 1, 2))
            assert_same(stream.window(int(t0), int(t1)), masked(columns, (t >= t0) & (t < t1)))
        last = stream.window(int(t.max()), int(t.max()) + 1)
        assert len(last) == np.sum(t == t.max()) > 0
