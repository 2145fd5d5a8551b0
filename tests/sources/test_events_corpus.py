"""The real recordings, event by event, against other readers and plain numpy."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from unittest import mock

import h5py
import hdf5plugin  # noqa: F401  # registers the filter that DSEC files use
import numpy as np
import pytest

from lazystore.sources.registry import open_sources
from lazystore.testing import check_source


@pytest.fixture(scope="module")
def expected(corpus: Path) -> dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]]:
    """The recording that four of the files hold, from its evio copy, read by h5py."""
    with h5py.File(corpus / "events" / "evio_layout.h5") as file:
        return {name: file[f"events/{name}"][:] for name in "txyp"}


@pytest.mark.parametrize(
    ("name", "offset", "sensor_from"),
    [
        ("faery_evt2.raw", 913_716_224, "extent"),
        ("dsec_layout.h5", 913_716_224, "extent"),
        ("evio_layout.h5", 0, "file"),
        ("dat_v2_layout.dat", 0, "file"),
    ],
)
def test_one_recording_in_four_formats(
    corpus: Path,
    expected: dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]],
    name: str,
    offset: int,
    sensor_from: str,
) -> None:
    """All 521,252 events agree; the times differ by what each format calls zero."""
    columns = {
        "t": expected["t"] + offset,
        "x": expected["x"],
        "y": expected["y"],
        "p": expected["p"].astype(np.uint8),
    }
    with closing(open_sources(corpus / "events" / name)[0]) as source:
        info = source.info
        assert info.length == 521_252
        assert info.item_attributes["sensor"] == [640, 480]
        assert info.attributes["sensor_from"] == sensor_from
        assert info.attributes["time_range_us"] == [offset, offset + 95_871]
        assert info.attributes["disorder"] == {"sorted": True, "backward_steps": 0, "largest_step_us": 0}
        found = source.read(0, info.length).columns
        for column, values in columns.items():
            np.testing.assert_array_equal(found[column], values, err_msg=column)
    check_source(lambda: open_sources(corpus / "events" / name)[0], columns, max_records=60_000)


def test_evt2_equals_evlib(corpus: Path) -> None:
    """evlib, which knows nothing of us, decodes the same events; it spells OFF as -1."""
    path = corpus / "events" / "faery_evt2.raw"
    # evlib points HDF5_PLUGIN_PATH at hdf5plugin, which breaks its filters for child processes.
    with mock.patch.dict(os.environ):
        evlib = pytest.importorskip("evlib")
        table = evlib.load_events(str(path)).collect()
    with closing(open_sources(path)[0]) as source:
        columns = source.read(0, source.info.length).columns
    np.testing.assert_array_equal(columns["t"], table["t"].dt.total_microseconds().to_numpy())
    np.testing.assert_array_equal(columns["x"], table["x"].to_numpy())
    np.testing.assert_array_equal(columns["y"], table["y"].to_numpy())
    np.testing.assert_array_equal(columns["p"], table["polarity"].to_numpy() > 0)


def test_dat_equals_numpy(corpus: Path) -> None:
    """The DAT file parsed as an array of records."""
    path = corpus / "events" / "dat_v2_layout.dat"
    data = path.read_bytes()
    start = data.index(b"% end\n") + 6 + 2
    records = np.frombuffer(data, [("t", "<u4"), ("packed", "<u4")], offset=start)
    with closing(open_sources(path)[0]) as source:
        columns = source.read(0, source.info.length).columns
    np.testing.assert_array_equal(columns["t"], records["t"])
    np.testing.assert_array_equal(columns["x"], records["packed"] & 0x3FFF)
    np.testing.assert_array_equal(columns["y"], records["packed"] >> 14 & 0x3FFF)
    np.testing.assert_array_equal(columns["p"], records["packed"] >> 28)


def test_ncaltech_equals_numpy(corpus: Path) -> None:
    """The 5-byte file parsed as rows of bytes."""
    path = corpus / "events" / "evl_faces_easy_0001.bin"
    rows = np.fromfile(path, np.uint8).reshape(-1, 5).astype(np.int64)
    times = (rows[:, 2] & 127) << 16 | rows[:, 3] << 8 | rows[:, 4]
    columns = {"t": times, "x": rows[:, 0].astype("u2"), "y": rows[:, 1].astype("u2")}
    columns["p"] = (rows[:, 2] >> 7).astype("u1")
    check_source(lambda: open_sources(path)[0], columns, max_records=20_000)
