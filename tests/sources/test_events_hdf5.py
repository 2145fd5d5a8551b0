"""evio, DSEC, MVSEC and Metavision HDF5, in every storage that HDF5 offers, whole and damaged."""

from __future__ import annotations

import pickle
import sys
import zlib
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from lazystore.errors import MissingExtraError, SourceError
from lazystore.protocols import Source
from lazystore.sources.events.hdf5 import DSEC, EVIO, MVSEC
from lazystore.sources.events.hdf5_column import DatasetColumn, _inflater
from lazystore.testing import check_source
from tests.sources.event_files import (
    HEIGHT,
    WIDTH,
    Events,
    some_events,
    write_dsec,
    write_evio,
    write_mvsec,
)

EVENTS = some_events(1000)
WITHOUT_TRIGGERS = Events(EVENTS.t, EVENTS.x, EVENTS.y, EVENTS.p)

STORAGES: dict[str, dict[str, Any]] = {
    "contiguous": {"chunks": None},
    "plain chunks": {"chunks": (64,)},
    "gzip": {"chunks": (99,), "compression": "gzip"},
    "shuffle and gzip": {"chunks": (99,), "compression": "gzip", "shuffle": True},
    "gzip and checksum": {"chunks": (99,), "compression": "gzip", "fletcher32": True},
    "lzf": {"chunks": (99,), "compression": "lzf"},
    "one chunk": {"chunks": (1000,), "compression": "gzip"},
    "chunk larger than the data": {"chunks": (1024,), "compression": "gzip", "maxshape": (None,)},
    "blosc": {"chunks": (128,), **hdf5plugin.Blosc("lz4", 5, 2)},
    "blosc zstd": {"chunks": (128,), **hdf5plugin.Blosc("zstd", 5, 1)},
    "zstd plugin": {"chunks": (128,), **hdf5plugin.Zstd(3)},
    "bitshuffle plugin": {"chunks": (128,), **hdf5plugin.Bitshuffle()},
}


def open_evio(path: Path, **options: Any) -> Source:
    (source,) = EVIO.open(path, options)
    return source


@pytest.fixture(params=["isal", "zlib"])
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Deflated chunks with the fast library, and with Python's own where it is missing."""
    module = pytest.importorskip("isal.isal_zlib") if request.param == "isal" else zlib
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    _inflater.cache_clear()
    yield module
    _inflater.cache_clear()


@pytest.mark.parametrize("storage", ["gzip", "shuffle and gzip", "chunk larger than the data"])
def test_deflated_chunks_with_either_library(tmp_path: Path, storage: str, inflater: Any) -> None:
    """Both inflate to the same events."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS, **STORAGES[storage])
    check_source(lambda: open_evio(path), EVENTS.columns, max_records=300)
    assert _inflater() is inflater


@pytest.mark.parametrize("storage", STORAGES)
def test_evio_in_every_storage(tmp_path: Path, storage: str) -> None:
    """The filters that are undone here, and those left to HDF5, give the same events."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS, **STORAGES[storage])
    check_source(lambda: open_evio(path), EVENTS.columns, max_records=300)
    with closing(open_evio(path)) as source:
        assert source.info.item_attributes["sensor"] == [WIDTH, HEIGHT]
        assert source.info.attributes["sensor_from"] == "file"
        assert source.info.problems == ()


def test_a_filter_that_was_skipped_for_a_chunk(tmp_path: Path) -> None:
    """A chunk that HDF5 stored without the filter is read as it lies."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS, chunks=(100,), compression="gzip", shuffle=True)
    with h5py.File(path, "r+") as file:
        file["events/t"].id.write_direct_chunk((200,), EVENTS.t[200:300].astype("<i8").tobytes(), 0b11)
    with closing(open_evio(path)) as source:
        np.testing.assert_array_equal(source.read(150, 350).columns["t"], EVENTS.t[150:350])


@pytest.mark.parametrize(
    ("p", "spelling"),
    [
        (EVENTS.p.astype(bool), "0/1"),
        (EVENTS.p.astype("i8") * 2 - 1, "-1/+1"),
        (EVENTS.p.astype("f4") * 2 - 1, "-1/+1"),
    ],
    ids=["bool", "signed", "float"],
)
def test_polarities_of_other_spellings(tmp_path: Path, p: np.ndarray[Any, Any], spelling: str) -> None:
    """OFF is 0 and ON is 1, however the file spells them; the spelling is recorded."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS)
    replace(path, "p", p)
    with closing(open_evio(path)) as source:
        np.testing.assert_array_equal(source.read(0, 1000).columns["p"], EVENTS.p)
        assert source.info.attributes["polarity"] == spelling


def replace(path: Path, name: str, values: np.ndarray[Any, Any]) -> None:
    with h5py.File(path, "r+") as file:
        del file[f"events/{name}"]
        file[f"events/{name}"] = values


def test_float_seconds_become_microseconds(tmp_path: Path) -> None:
    """Times in float seconds are rounded to the µs they stand for, and nothing is reported lost."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS)
    replace(path, "t", EVENTS.t / 1e6)
    with closing(open_evio(path)) as source:
        np.testing.assert_array_equal(source.read(0, 1000).columns["t"], EVENTS.t)
        assert source.info.attributes["file_time_unit"] == "s"
        assert source.info.problems == ()
    replace(path, "t", EVENTS.t / 1e6 + 3e-7)
    with closing(open_evio(path)) as source:
        (problem,) = source.info.problems
        assert problem == "times were rounded to whole µs, by up to 0.3 µs"


STEP_BACK = np.where(np.arange(1000) == 7, -5, EVENTS.t)
FAR_RIGHT = np.where(np.arange(1000) >= 990, 400, EVENTS.x).astype("u2")
NO_NUMBER = np.where(np.arange(1000) == 3, np.nan, 1.0)

BAD_VALUES: dict[str, tuple[str, Any, str]] = {
    "negative time": (
        "t",
        STEP_BACK,
        r"1 of 1000 events have negative times, first event 7 at -5 µs; expected times from 0 on",
    ),
    "x beyond the sensor": (
        "x",
        FAR_RIGHT,
        r"10 of 1000 events lie outside the sensor 320x240, first event 990 at x=400, y=\d+; say",
    ),
    "x that is no pixel": ("x", np.full(1000, -1), r"x -1 of event 0 is not a pixel number from 0 to 65535"),
    "y with a fraction": ("y", EVENTS.y + 0.5, r"y \d+\.5 of event 0 is not a pixel number"),
    "polarity of 2": ("p", np.full(1000, 2), r"polarity 2 of event 0 is not one of -1, 0, 1"),
    "polarity of 0.5": ("p", np.full(1000, 0.5), r"polarity 0.5 of event 0 is not one of -1, 0, 1"),
    "time that is not finite": ("t", NO_NUMBER, r"time nan of event 3 is not a finite"),
    "time that overflows": ("t", np.full(1000, 1e308), r"time 1e\+308 of event 0 is not a finite"),
    "time beyond every clock": (
        "t",
        np.full(1000, 2**63, "u8"),
        r"time 9223372036854775808 of event 0",
    ),
    "different lengths": ("x", EVENTS.x[:900], r"t, x, y and p differ in length .*'x': 900.*; the recording"),
    "text for numbers": (
        "x",
        np.full(1000, b"a"),
        r"holds \|S1 of shape \(1000,\); expected numbers",
    ),
    "two dimensions": (
        "x",
        EVENTS.x.reshape(-1, 2),
        r"of shape \(500, 2\); expected numbers of 1",
    ),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_values_that_no_recording_has(tmp_path: Path, case: str) -> None:
    """The first offending event is named before anything is converted."""
    name, values, message = BAD_VALUES[case]
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS)
    replace(path, name, values)
    with pytest.raises(SourceError, match=message):
        open_evio(path)


def test_sensor_options(tmp_path: Path) -> None:
    """A caller who knows the sensor better than the file, or wants what the events span, is heard."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS)
    replace(path, "x", np.where(np.arange(1000) == 5, 500, EVENTS.x).astype("u2"))
    extent = [501, int(EVENTS.y.max()) + 1]
    for wanted, sensor, source_of in (("extent", extent, "extent"), ("640x480", [640, 480], "option")):
        with closing(open_evio(path, sensor=wanted)) as source:
            assert source.info.item_attributes["sensor"] == sensor
            assert source.info.attributes["sensor_from"] == source_of
            assert source.info.attributes["sensor_in_file"] == [WIDTH, HEIGHT]


def test_disorder_is_counted_and_kept(tmp_path: Path) -> None:
    """Events that step back stay where they are; their number and the largest step are told."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS)
    t = EVENTS.t.copy()
    t[100:110] -= 50
    replace(path, "t", t)
    backward = np.diff(t) < 0
    with closing(open_evio(path)) as source:
        np.testing.assert_array_equal(source.read(0, 1000).columns["t"], t)
        assert source.info.attributes["disorder"] == {
            "sorted": False,
            "backward_steps": int(backward.sum()),
            "largest_step_us": int(-np.diff(t).min()),
        }
        assert f"{backward.sum()} events are earlier than the event before them" in source.info.problems[0]


def test_dsec_offset_is_applied(tmp_path: Path) -> None:
    """DSEC's times are those of the sensor's clock: the file's times plus its offset."""
    path = tmp_path / "a.h5"
    write_dsec(path, EVENTS)
    check_source(lambda: DSEC.open(path, {})[0], EVENTS.columns, max_records=300)
    with closing(DSEC.open(path, {})[0]) as source:
        assert source.info.attributes["t_offset_us"] == int(EVENTS.t[0])
        assert source.info.attributes["sensor_from"] == "extent"
    with h5py.File(path, "r+") as file:
        del file["t_offset"]
    with closing(DSEC.open(path, {})[0]) as source:
        assert source.info.problems == (
            "the file has no t_offset; times count from the recording's own start",
        )
        np.testing.assert_array_equal(source.read(0, 9).columns["t"], EVENTS.t[:9] - EVENTS.t[0])
    with h5py.File(path, "r+") as file:
        file["t_offset"] = np.array([1.5, 2.5])
    with pytest.raises(
        SourceError, match=r"'t_offset' holds float64 of shape \(2,\); expected one whole number"
    ):
        DSEC.open(path, {})


def test_mvsec_has_a_stream_for_each_camera(tmp_path: Path) -> None:
    """Rows of x, y, seconds and -1/+1 become columns; the second camera is an item of its own."""
    path = tmp_path / "a.hdf5"
    write_mvsec(path, EVENTS)
    with h5py.File(path, "r+") as file:
        file["davis/right/events"] = file["davis/left/events"][:500]
    check_source(lambda: MVSEC.open(path, {})[0], EVENTS.columns, max_records=300)
    left, right = MVSEC.open(path, {})
    assert (left.info.suffix, right.info.suffix) == ("", "right")
    assert (left.info.attributes["camera"], right.info.attributes["camera"]) == ("left", "right")
    assert left.info.attributes["polarity"] == "-1/+1"
    assert left.info.attributes["epoch_utc"] == "1970-01-01T00:00:00Z"
    assert right.info.length == 500
    left.close()
    right.close()


# --- damage ---------------------------------------------------------------------------------------


def test_damaged_deflated_chunks_are_named(tmp_path: Path, inflater: Any) -> None:
    """A chunk that does not inflate, or to another size, names the dataset and its records."""
    path = tmp_path / "a.h5"
    whole = zlib.compress(EVENTS.y[300:400].astype("<u2").tobytes())
    damages = {
        b"nonsense": "does not decode",
        zlib.compress(bytes(1 << 20)): r"does not decode \(more than 200 bytes\)",
        whole[: len(whole) // 2]: r"does not decode \(\d+ bytes instead of 200\)",
        whole[:-1] + bytes([whole[-1] ^ 1]): r"does not decode \(.*check",
    }
    for stored, message in damages.items():
        write_evio(path, WITHOUT_TRIGGERS, chunks=(100,), compression="gzip")
        with h5py.File(path, "r+") as file:
            file["events/y"].id.write_direct_chunk((300,), stored)
        with pytest.raises(
            SourceError, match=rf"dataset '/events/y': the chunk of records 300 to 400 {message}"
        ):
            open_evio(path)


def test_damaged_chunks_are_named(tmp_path: Path) -> None:
    """A chunk that does not decode, or to another size, names the dataset and its records."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS, **STORAGES["blosc"])
    with h5py.File(path, "r+") as file:
        _, stored = file["events/t"].id.read_direct_chunk((128,))
        file["events/t"].id.write_direct_chunk((128,), stored[: len(stored) // 2])
    with pytest.raises(
        SourceError, match=r"records 128 to 256 does not decode \(a Blosc buffer that is cut off\)"
    ):
        open_evio(path)
    with h5py.File(path, "r+") as file:
        file["events/t"].id.write_direct_chunk((128,), stored[:4] + b"\xff\xff\xff\x7f" + stored[8:])
    with pytest.raises(SourceError, match=r"does not decode \(a Blosc header of another size\)"):
        open_evio(path)


def test_declared_but_missing_data_is_refused(tmp_path: Path) -> None:
    """A length of a trillion events without data is an error at once, not a year of zeros."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", (10**12,), "u1", chunks=(1 << 16,), compression="gzip")
    with pytest.raises(
        SourceError, match=r"declares 1000000000000 records but holds 0; the recording was cut off"
    ):
        open_evio(path)


def test_absurd_chunks_are_refused(tmp_path: Path) -> None:
    """A chunk that no honest file has is refused before it is allocated."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", (1 << 30,), "u1", chunks=(1 << 30,), compression="gzip")
    with pytest.raises(SourceError, match=r"a chunk of \(1073741824,\) is over \d+ bytes; repack the file"):
        open_evio(path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    """A file that ends early cannot be opened as HDF5, and the message says so."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"cannot be opened as HDF5 \(.*\); the recording was cut off"):
        open_evio(path)


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    """No events is an error, not an empty item."""
    path = tmp_path / "a.h5"
    write_evio(path, some_events(0), chunks=(100,), maxshape=(None,))
    with pytest.raises(SourceError, match=r"\(evio\) holds no events; nothing to read"):
        open_evio(path)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    """A layout asked for by name has to be there."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS)
    with pytest.raises(SourceError, match=r"is not in the DSEC layout; expected datasets events/t"):
        DSEC.open(path, {})


def test_reads_go_on_after_closing_and_pickling(tmp_path: Path) -> None:
    """A closed or pickled source opens its file again when it is read."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS)
    source = open_evio(path)
    source.close()
    again = pickle.loads(pickle.dumps(source))
    for one in (source, again):
        np.testing.assert_array_equal(one.read(140, 320).columns["t"], EVENTS.t[140:320])
        one.close()


def test_a_chunk_that_hdf5_decodes_and_that_is_damaged(tmp_path: Path) -> None:
    """Damage under a filter that is left to HDF5 is named as well, in columns and in rows of four."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS, chunks=(100,), compression="gzip", fletcher32=True)
    with h5py.File(path, "r+") as file:
        file["events/y"].id.write_direct_chunk((300,), b"nonsense")
    with pytest.raises(SourceError, match=r"dataset '/events/y': records 0 to 1000 cannot be read"):
        open_evio(path)
    write_mvsec(path, EVENTS)
    with h5py.File(path, "r+") as file:
        file["davis/left/events"].id.write_direct_chunk((300, 0), b"nonsense")
    with pytest.raises(SourceError, match=r"'/davis/left/events': records 0 to 1000 cannot be read"):
        MVSEC.open(path, {})


def test_a_chunk_that_was_never_written(tmp_path: Path) -> None:
    """A gap is an error: HDF5 would fill it with events that never were."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS)
    with h5py.File(path, "r+") as file:
        del file["events/x"]
        x = file.create_dataset("events/x", (1000,), "u2", chunks=(100,), compression="gzip")
        x[:500] = EVENTS.x[:500]
        x[600:] = EVENTS.x[600:]
    with pytest.raises(SourceError, match=r"declares 1000 records but holds 900; the recording was cut off"):
        open_evio(path)


def test_filters_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter of hdf5plugin names the extra; one that nobody has says how to get rid of it."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS, **STORAGES["zstd plugin"])
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: False)
    with pytest.raises(SourceError, match=r"compressed with HDF5 filter 32015, which neither"):
        open_evio(path)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(MissingExtraError, match=r"filter 32015, which needs 'hdf5plugin'; pip install"):
        open_evio(path)


def test_odd_datasets_are_refused(tmp_path: Path) -> None:
    """One value instead of one for each event, and chunks of another size than declared."""
    path = tmp_path / "a.h5"
    write_evio(path, WITHOUT_TRIGGERS)
    replace(path, "t", np.array(5))
    with pytest.raises(SourceError, match=r"dataset '/events/t' holds one value; expected"):
        open_evio(path)
    write_evio(path, WITHOUT_TRIGGERS, chunks=(100,), compression="gzip")
    with h5py.File(path, "r+") as file:
        file["events/y"].id.write_direct_chunk((0,), zlib.compress(bytes(50)))
    with pytest.raises(SourceError, match=r"does not decode \(50 bytes instead of 200\)"):
        open_evio(path)
    write_evio(path, WITHOUT_TRIGGERS, chunks=(100,), compression="gzip", shuffle=True)
    with h5py.File(path, "r+") as file:
        file["events/y"].id.write_direct_chunk((0,), zlib.compress(bytes(51)))
    with pytest.raises(SourceError, match=r"does not decode \(51 bytes shuffled by 2\)"):
        open_evio(path)
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = h5py.SoftLink("/nowhere")
    with pytest.raises(SourceError, match=r"the file.s structure cannot be read .*it is damaged"):
        open_evio(path)


class DatasetOfHugeChunks:
    """An h5py dataset whose index of chunks declares 3 GB for one, in a file of 4 kB."""

    class id:  # h5py's name
        @staticmethod
        def read_direct_chunk(_: Any) -> Any:
            raise MemoryError

        @staticmethod
        def get_chunk_info_by_coord(_: Any) -> Any:
            return SimpleNamespace(size=3 << 30)

    file = SimpleNamespace(id=SimpleNamespace(get_filesize=lambda: 4096))


def test_a_chunk_larger_than_its_file_is_damage(tmp_path: Path) -> None:
    """What a damaged index declares is no lack of memory."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("t", data=np.arange(100), chunks=(10,))
        column = DatasetColumn(dataset, "a.h5", ())
        column._dataset = DatasetOfHugeChunks
        with pytest.raises(SourceError, match="a chunk of 3221225472 bytes in a file of 4096"):
            column.read_stored(0)
