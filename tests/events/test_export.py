from __future__ import annotations

import h5py
import numpy as np
import pytest

from lazystore.errors import StoreError, UsageError
from lazystore.events.filters import Polarity
from lazystore.sources.registry import open_path, recognise
from tests.events.recordings import SENSOR, make_columns, make_stream, masked


@pytest.fixture
def columns():
    return make_columns(3000, span=9_500, start=1_234_567)


def columns_of(path, **options):
    (source,) = open_path(path, options=options)
    try:
        return source.read(0, source.info.length).columns, source.info
    finally:
        source.close()


@pytest.mark.parametrize("layout", ["evio", "dsec"])
def test_hdf5_is_read_back_as_the_same_recording(tmp_path, columns, layout):
    """Both layouts convert again to the same events, in the recording's own time."""
    path = tmp_path / f"{layout}.h5"
    assert make_stream(columns).export(path, layout) == 3000
    assert recognise(path) == (layout, "events")
    options = {"sensor": f"{SENSOR[0]}x{SENSOR[1]}"} if layout == "dsec" else {}
    found, info = columns_of(path, **options)
    for name, values in columns.items():
        np.testing.assert_array_equal(found[name], values)
    assert list(info.item_attributes["sensor"]) == list(SENSOR)


def test_evio_layout(tmp_path, columns):
    """Names, dtypes and attributes are evio's."""
    path = tmp_path / "e.h5"
    make_stream(columns).export(path)
    with h5py.File(path) as file:
        group = file["events"]
        assert {name: group[name].dtype.str for name in group} == {
            "t": "<i8",
            "x": "<u2",
            "y": "<u2",
            "p": "|i1",
        }
        assert (group.attrs["width"], group.attrs["height"]) == SENSOR


def test_dsec_layout(tmp_path, columns):
    """Times are relative, and ms_to_idx gives the first event at or after each millisecond."""
    path = tmp_path / "d.h5"
    stream = make_stream(columns)
    stream.export(path, "dsec")
    with h5py.File(path) as file:
        t, table, offset = file["events/t"][()], file["ms_to_idx"][()], int(file["t_offset"][()])
        assert file["events/t"].dtype == np.uint32
    assert offset == stream.t_start
    assert len(table) == int(t[-1]) // 1000 + 1
    np.testing.assert_array_equal(table, np.searchsorted(t, 1000 * np.arange(len(table))))


def test_dsec_index_over_many_blocks(tmp_path, columns, monkeypatch):
    """The table is the same when the recording passes in small blocks, pauses included."""
    columns["t"][1500:] += 40_000
    stream = make_stream(columns)
    whole = stream.blocks
    monkeypatch.setattr(stream, "blocks", lambda: whole(128))
    path = tmp_path / "d.h5"
    stream.export(path, "dsec")
    with h5py.File(path) as file:
        t, table = file["events/t"][()], file["ms_to_idx"][()]
    np.testing.assert_array_equal(table, np.searchsorted(t, 1000 * np.arange(len(table))))


def test_npz(tmp_path, columns, monkeypatch):
    """Columns and the sensor as plain arrays that numpy loads without pickles."""
    stream = make_stream(columns)
    whole = stream.blocks
    monkeypatch.setattr(stream, "blocks", lambda: whole(128))
    path = tmp_path / "e.npz"
    stream.export(path)
    with np.load(path, allow_pickle=False) as found:
        for name, values in columns.items():
            np.testing.assert_array_equal(found[name], values)
            assert found[name].dtype == values.dtype
        assert (found["width"], found["height"]) == SENSOR
    assert [entry.name for entry in tmp_path.iterdir()] == ["e.npz"]


def test_csv(tmp_path, columns):
    """Lines t,x,y,p; negative and large times keep every digit."""
    columns["t"][:3] = -9_007_199_254_740_993, -1, 0
    path = tmp_path / "e.csv"
    make_stream(columns).export(path)
    lines = path.read_text().splitlines()
    assert lines[:4] == ["t,x,y,p", *(
        f"{columns['t'][k]},{columns['x'][k]},{columns['y'][k]},{columns['p'][k]}" for k in range(3)
    )]  # fmt: skip
    found = np.array([[int(field) for field in line.split(",")] for line in lines[1:]])
    for place, name in enumerate("txyp"):
        np.testing.assert_array_equal(found[:, place], columns[name])


def test_filtered_views_export_what_passes(tmp_path, columns):
    """Only the events that pass are written, and counted."""
    view = make_stream(columns).filtered(Polarity("on"))
    path = tmp_path / "on.npz"
    expected = masked(columns, columns["p"] == 1)
    assert view.export(path) == len(expected["t"])
    with np.load(path) as found:
        np.testing.assert_array_equal(found["x"], expected["x"])
    assert view.export(tmp_path / "on.h5", "dsec") == len(expected["t"])


def test_empty_recordings_export(tmp_path):
    """A file without events is still a whole file."""
    stream = make_stream(make_columns(0))
    for name, layout in [("a.h5", "evio"), ("b.h5", "dsec"), ("c.npz", "npz"), ("d.csv", "csv")]:
        assert stream.export(tmp_path / name, layout) == 0
    assert (tmp_path / "d.csv").read_text() == "t,x,y,p\n"


def test_nothing_is_overwritten_or_left_half(tmp_path, columns):
    """A file that is there stays unless told; a failed export leaves neither file nor remains."""
    stream = make_stream(columns)
    path = tmp_path / "e.csv"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"exists; pass overwrite=True"):
        stream.export(path)
    assert path.read_text() == "mine"
    assert stream.export(path, overwrite=True) == 3000
    jumbled = make_stream(make_columns(100, ordered=False))
    with pytest.raises(UsageError, match="times of 'events' go back; DSEC"):
        jumbled.export(tmp_path / "d.h5", "dsec")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["e.csv"]


@pytest.mark.parametrize(
    ("name", "layout", "error", "match"),
    [
        ("e.mp4", None, UsageError, "layout=None for 'e.mp4' is not one of evio, dsec, npz, csv"),
        ("e.h5", "raw", UsageError, "layout='raw' for 'e.h5' is not one of"),
        ("no/e.csv", None, StoreError, r"cannot write .*No such file"),
    ],
)
def test_exports_that_cannot_be(tmp_path, columns, name, layout, error, match):
    """What cannot be written is refused by name."""
    with pytest.raises(error, match=match):
        make_stream(columns).export(tmp_path / name, layout)


def test_long_recordings_do_not_fit_dsec(tmp_path, columns):
    """32-bit times end after 71 minutes; more is refused instead of wrapped."""
    columns["t"][-1] = columns["t"][0] + 2**32
    with pytest.raises(UsageError, match="32-bit times hold 4294967295 us"):
        make_stream(columns).export(tmp_path / "d.h5", "dsec")
