"""Each recording is known by its content, and no decoder takes another one's file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

from lazystore.errors import SourceError, UsageError
from lazystore.sources.events import header as events_header
from lazystore.sources.events.dat import DAT
from lazystore.sources.events.header import parse_header, raw_version, read_header
from lazystore.sources.events.info import bounded_header, choose_sensor
from lazystore.sources.events.nmnist import NMNIST, objection
from lazystore.sources.events.raw import EVT2, EVT3
from lazystore.sources.registry import list_formats, open_sources, recognise
from tests.sources.event_files import (
    Events,
    evt2_words,
    raw_header,
    some_events,
    words_file,
    write_dat,
    write_evio,
    write_nmnist,
)
from tests.sources.event_samples import SAMPLES

EVENT_FORMATS = {row.name: row for row in list_formats() if "events" in row.kinds}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, Events]]]:
    """One file of every format."""
    folder = tmp_path_factory.mktemp("samples")
    files = {}
    for name, sample in SAMPLES.items():
        (folder / name).mkdir()
        files[name] = sample.make(folder / name)
    yield files
    shutil.rmtree(folder)


def test_every_format_has_a_sample() -> None:
    """A format that is added without a sample here is not tested against the others."""
    covered = {sample.source_format.name for sample in SAMPLES.values()}
    assert covered == {name for name in EVENT_FORMATS if EVENT_FORMATS[name].target.startswith("lazystore.")}


@pytest.mark.parametrize("name", SAMPLES)
def test_recognised_by_content(made: dict[str, tuple[Path, Events]], tmp_path: Path, name: str) -> None:
    """The registry finds the right format, also under a name that says nothing."""
    path, events = made[name]
    expected = (SAMPLES[name].source_format.name, "events")
    assert recognise(path) == expected
    source, *others = open_sources(path)
    assert source.info.length == len(events)
    np.testing.assert_array_equal(source.read(0, len(events)).columns["t"], events.t)
    for one in (source, *others):
        one.close()
    if name != "nmnist":
        renamed = tmp_path / f"recording{'.mcap' if name == 'mcap' else ''}"
        shutil.copy(path, renamed)
        assert recognise(renamed) == expected


@pytest.mark.parametrize("name", SAMPLES)
def test_no_other_decoder_takes_the_file(made: dict[str, tuple[Path, Events]], name: str) -> None:
    """Every other format neither claims the file nor opens it when it is told to."""
    path, _ = made[name]
    head = path.read_bytes()[:4096]
    for row in EVENT_FORMATS.values():
        if row.name == SAMPLES[name].source_format.name:
            continue
        other = row.load()
        assert other.recognise(path, head) is None, row.name
        with pytest.raises(SourceError, match=r"^(?!.*\n).{20,}$"):
            other.open(path, {})


def test_headers_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    """A header that names two encodings, one that is not known, or none, is no guess."""
    words = np.array(evt2_words(some_events(20)), "<u4").tobytes()
    cases = {
        b"% evt 2.0\n% format EVT3;height=3;width=4\n% end\n": r"its header says evt '2.0' and format 'EVT3",
        b"% evt 4.0\n% end\n": r"its header says evt '4.0'",
        b"% format HISTO3D;height=3\n% end\n": r"its header says format 'HISTO3D;height=3'",
        b"% date 2024\n% end\n": r"its header says no 'evt' or 'format'",
    }
    path = tmp_path / "a.raw"
    for header, message in cases.items():
        path.write_bytes(header + words)
        for decoder in (EVT2, EVT3):
            assert decoder.recognise(path, path.read_bytes()) is None
            with pytest.raises(SourceError, match=message):
                decoder.open(path, {})


HEADERS = {
    "format, geometry": (b"% format EVT3;height=720;width=1280\n% geometry 9x9\n% end\nxx", (1280, 720), -2),
    "geometry alone": (b"% evt 2.0\n% geometry 640x480\nxx", (640, 480), -2),
    "width and height": (b"% Width 304\n% Height 240\n% Version 2\n", (304, 240), None),
    "no size": (b"% evt 2.0\n% end\n", None, None),
    "sizes of zero": (b"% geometry 0x0\n", None, None),
    "Windows line ends": (b"% evt 2.0\r\n% geometry 64x48\r\n% end\r\n\x01", (64, 48), -1),
    "no end": (b"% evt 2.0\n\x25\x80\x01\x02", None, -4),
    "data that begins like a line": (b"% evt 2.0\n% \x80\x01\n", None, -5),
    "no newline": (b"% evt 2.0", None, -9),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_headers(case: str) -> None:
    """Where the header ends, and which sensor it declares."""
    data, sensor, rest = HEADERS[case]
    header = parse_header(data)
    assert header.sensor == sensor
    assert header.data_offset == (len(data) + rest if rest else len(data))


def test_versions_are_read_from_either_line() -> None:
    """``evt 2.1`` and ``format EVT21`` are one; a disagreement is neither."""
    assert raw_version(parse_header(b"% evt 2.1\n")) == "evt21"
    assert raw_version(parse_header(b"% format EVT21;endianness=legacy\n% evt 2.1\n")) == "evt21"
    assert raw_version(parse_header(b"% evt 3.0\n% format EVT21\n")) is None
    assert raw_version(parse_header(b"% date 1\n")) is None


def test_endless_headers_are_refused(tmp_path: Path) -> None:
    """A file of nothing but header lines is not read whole."""
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 2.0\n" + b"% a b\n" * 40_000)
    with pytest.raises(SourceError, match=r"the text header does not end within 65536 bytes"):
        read_header(path)
    with pytest.raises(SourceError, match=r"cannot read .*missing.raw"):
        read_header(tmp_path / "missing.raw")
    assert events_header.MAX_HEADER_BYTES == 65536


def test_long_headers_are_bounded_in_the_record() -> None:
    """What goes into a store of a header is bounded."""
    kept = bounded_header(tuple("x" * 999 for _ in range(70)))
    assert len(kept) == 65
    assert {len(line) for line in kept[:64]} == {200}
    assert kept[64] == "... and 6 more lines"


def test_dat_of_other_versions_and_types_is_refused(tmp_path: Path) -> None:
    """Version 1, trigger files, other record sizes and RAW headers are not read as CD events."""
    path = tmp_path / "a.dat"
    write_dat(path, some_events(20))
    good = path.read_bytes()
    cases = {
        good.replace(b"Version 2", b"Version 1"): r"its header says version '1'",
        good.replace(b"\x0c\x08", b"\x0e\x08", 1): r"event type and size are 0e 08, expected 00 08 or 0c 08",
        good.replace(b"\x0c\x08", b"\x0c\x10", 1): r"event type and size are 0c 10",
        good[: good.index(b"\x0c\x08")]: r"event type and size are missing",
        good.replace(b"% Version", b"% evt 2.0\n% Version"): r"its header is that of a RAW file",
    }
    for data, message in cases.items():
        path.write_bytes(data)
        with pytest.raises(SourceError, match=message):
            DAT.open(path, {})


def test_bytes_without_a_mark_have_to_run_on_in_time(tmp_path: Path) -> None:
    """The 5-byte format has no mark: bytes are only taken for it if their times are a recording's."""
    path = tmp_path / "a.bin"
    write_nmnist(path, some_events(100, width=200))
    good = path.read_bytes()
    assert objection(good, len(good)) == ""
    cases = {
        good[:33]: r"33 bytes are no whole number",
        good[:30]: r"6 records are too few to tell",
        bytes(500): r"times do not run on",
        bytes(range(255)) * 5: r"times step back|y is up to|times do not run on",
        b"".join(bytes([1, 250, 0, 0, n]) for n in range(99)): r"y is up to 250, the sensor has 240 rows",
    }
    for data, why in cases.items():
        path.write_bytes(data)
        assert NMNIST.recognise(path, data[:4096]) is None
        assert re.search(why, objection(data[:4096], len(data)))
    path.write_bytes(bytes(500))
    with pytest.raises(SourceError, match=r"is not in the 5-byte format of N-MNIST: times do not run on"):
        NMNIST.open(path, {})
    other = tmp_path / "a.dat"
    other.write_bytes(good)
    assert NMNIST.recognise(other, good[:4096]) is None


def test_sensor_option_is_checked() -> None:
    """A size that means nothing is a mistake of the caller."""
    assert choose_sensor(None, {"sensor": "346x260"}).size == (346, 260)
    assert choose_sensor((1, 1), {"sensor": "extent"}).size is None
    assert choose_sensor((3, 4), {}).source == "file"
    for wrong in ("640", "0x480", "640x99999", "big", "-1x3"):
        with pytest.raises(UsageError, match=r"is not WIDTHxHEIGHT with sides of 1 to 65536 pixels"):
            choose_sensor(None, {"sensor": wrong})


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    """An option that a format does not have is named with those that it has."""
    path = words_file(tmp_path / "a.raw", "evt2", evt2_words(some_events(20)))
    with pytest.raises(UsageError, match=r"unknown option 'senor' for a source of format 'evt2'; .*sensor"):
        open_sources(path, options={"senor": "1x1"})


def test_header_without_events_is_refused(tmp_path: Path) -> None:
    """A recording that was stopped before its first event is an error with the reason."""
    path = tmp_path / "a.raw"
    path.write_bytes(raw_header("evt2"))
    with pytest.raises(SourceError, match=r"\(evt2\) holds no events; nothing to read"):
        EVT2.open(path, {})
    path.write_bytes(raw_header("evt2") + b"\1\2\3")
    with pytest.raises(SourceError, match=r"holds no events \(the file ends within a record: 3 of 4 bytes"):
        EVT2.open(path, {})


def test_missing_files_are_named(tmp_path: Path) -> None:
    """A file that is not there is one line, from every format."""
    for row in EVENT_FORMATS.values():
        with pytest.raises(SourceError, match=r"gone"):
            row.load().open(tmp_path / "gone.raw", {})


def test_events_hdf5_wins_over_a_generic_dataset(tmp_path: Path) -> None:
    """An HDF5 file with events is events, whatever else lies in it; one without is none."""
    path = tmp_path / "a.h5"
    write_evio(path, some_events(200))
    with h5py.File(path, "r+") as file:
        file["images"] = np.zeros((4, 5, 6), "u1")
    assert recognise(path) == ("evio", "events")
    with closing(open_sources(path)[0]) as source:
        assert source.info.kind == "events"
    with h5py.File(path, "r+") as file:
        del file["events"]
    assert recognise(path)[0] == "hdf5"
