"""AEDAT4: events, triggers, frames and IMU samples against the package aedat, whole and damaged."""

from __future__ import annotations

import pickle
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import aedat
import numpy as np
import pytest

from lazystore.errors import MissingExtraError, SourceChangedError, SourceError
from lazystore.protocols import Source
from lazystore.sources import inflating
from lazystore.sources.events import aedat4_file as events_aedat4_file
from lazystore.sources.events.aedat4 import AEDAT4
from lazystore.testing import check_source
from tests.sources.event_containers import (
    aedat4_header,
    event_packet,
    flat_buffer,
    flat_vector,
    frame_packet,
    frames,
    imu_packet,
    packet,
    write_aedat4,
)
from tests.sources.event_files import HEIGHT, WIDTH, some_events

EVENTS = some_events(700)


def streams(path: Path) -> dict[str, Source]:
    return {source.info.suffix: source for source in AEDAT4.open(path, {})}


def close_all(sources: dict[str, Source]) -> None:
    for source in sources.values():
        source.close()


def side_of(source: Source) -> dict[str, np.ndarray[Any, Any]]:
    return {array.path: array.values for array in source.info.side}


@pytest.mark.parametrize("compression", [0, 1, 3], ids=["none", "lz4", "zstd"])
def test_every_stream_keeps_the_contract(tmp_path: Path, compression: int) -> None:
    """Each compression gives the events, frames and samples that were written."""
    path = tmp_path / "a.aedat4"
    write_aedat4(path, EVENTS, compression)
    check_source(lambda: streams(path)[""], EVENTS.columns, max_records=300)
    check_source(lambda: streams(path)["frames"], {"data": frames()})
    check_source(lambda: streams(path)["imu"])
    opened = streams(path)
    events, camera, imu = opened[""], opened["frames"], opened["imu"]
    side = side_of(events)
    assert side["triggers/t"].tolist() == [t for t, _, _ in EVENTS.triggers]
    assert side["triggers/p"].tolist() == [p for _, _, p in EVENTS.triggers]
    assert side["triggers/id"].tolist() == [1 if p else 2 for _, _, p in EVENTS.triggers]
    assert events.info.item_attributes["sensor"] == [WIDTH, HEIGHT]
    assert events.info.attributes["epoch_utc"] == "1970-01-01T00:00:00Z"
    assert camera.info.kind == "stack"
    assert camera.info.ticks is not None
    assert camera.info.ticks.values is not None
    assert (camera.info.ticks.values - EVENTS.t[0]).tolist() == [0, 1000, 2000]
    assert (side_of(camera)["exposure_stop"] - EVENTS.t[0]).tolist() == [4, 1004, 2004]
    assert imu.info.kind == "series"
    assert imu.read(1, 2).columns["data"].tolist() == [[number + 0.5 for number in range(1, 11)]]
    assert side_of(imu)["channel"].tolist()[:2] == ["temperature", "acceleration_x"]
    again = pickle.loads(pickle.dumps(events))
    np.testing.assert_array_equal(again.read(120, 600).columns["x"], EVENTS.x[120:600])
    again.close()
    close_all(opened)


def test_our_recordings_are_what_aedat_reads(tmp_path: Path) -> None:
    """The test's own writer is right: the package aedat reads the same."""
    path = tmp_path / "a.aedat4"
    write_aedat4(path, EVENTS)
    found: dict[str, list[Any]] = {}
    for entry in aedat.Decoder(str(path)):
        kind = next(name for name in entry if name != "stream_id")
        found.setdefault(kind, []).append(entry[kind])
    joined = np.concatenate(found["events"])
    for name, field in zip("txyp", ("t", "x", "y", "on"), strict=True):
        np.testing.assert_array_equal(joined[field].astype("i8"), EVENTS.columns[name])
    np.testing.assert_array_equal([frame["pixels"] for frame in found["frame"]], frames())
    assert np.concatenate(found["triggers"])["t"].tolist() == [t for t, _, _ in EVENTS.triggers]
    assert len(np.concatenate(found["imus"])) == 12


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_frames_become_rgb(tmp_path: Path, channels: int) -> None:
    """OpenCV's order of colours is turned round; transparency stays last."""
    path = tmp_path / "a.aedat4"
    pixels = frames(2, (4, 6, channels))
    body = b"".join(packet(1, frame_packet(1000 * n, pixels[n]), 0) for n in range(2))
    path.write_bytes(aedat4_header(0) + body)
    opened = streams(path)
    values = opened["frames"].read(0, 2).columns["data"]
    np.testing.assert_array_equal(values[..., :3], pixels[..., 2::-1])
    np.testing.assert_array_equal(values[..., 3:], pixels[..., 3:])
    assert opened["frames"].info.attributes["file_channel_order"] == "BGR"
    close_all(opened)


def test_a_recording_that_was_cut_off(tmp_path: Path) -> None:
    """Whole packets are kept; the rest is counted."""
    path = tmp_path / "a.aedat4"
    body = [packet(0, event_packet(EVENTS, at, at + 100), 1) for at in range(0, 700, 100)]
    path.write_bytes(aedat4_header(1) + b"".join(body)[:-30])
    opened = streams(path)
    events = opened[""]
    assert events.info.length == 600
    lost = len(body[-1]) - 30
    assert events.info.problems == (f"the last {lost} bytes are no whole packet; the recording was cut off",)
    close_all(opened)
    header = aedat4_header(1, table_position=1 << 20)
    path.write_bytes(header + body[0])
    opened = streams(path)
    assert opened[""].info.problems == ("the file ends before its table of packets; it was cut off",)
    close_all(opened)
    closed = aedat4_header(1, table_position=len(header) + len(body[0]))
    path.write_bytes(closed + body[0] + b"a table that is none of ours")
    opened = streams(path)
    assert opened[""].info.length == 100
    assert opened[""].info.problems == ()
    close_all(opened)


def test_damaged_packets_cost_only_themselves(tmp_path: Path) -> None:
    """A packet that does not decompress, or whose offsets point nowhere, is counted and left out."""
    path = tmp_path / "a.aedat4"
    body = [packet(0, event_packet(EVENTS, at, at + 100), 1) for at in range(0, 700, 100)]
    body[2] = struct.pack("<ii", 0, 40) + b"\xff" * 40
    body[4] = packet(0, flat_buffer(b"EVTS", {0: struct.pack("<I", 1 << 30)}), 1)
    body += [packet(1, frame_packet(5, frames()[0]), 1), packet(1, b"\x80\0\0\0FRME", 1)]
    body += [packet(2, imu_packet([1, 2]), 1), packet(2, b"\x80\0\0\0IMUS", 1)]
    path.write_bytes(aedat4_header(1) + b"".join(body))
    opened = streams(path)
    kept = np.r_[0:200, 300:400, 500:700]
    np.testing.assert_array_equal(opened[""].read(0, 500).columns["t"], EVENTS.t[kept])
    assert opened[""].info.problems == (
        "2 of 7 packets of events and triggers do not decode; what was in them is lost",
    )
    assert opened["frames"].info.problems == ("1 of 2 frames do not decode; left out",)
    assert opened["imu"].info.problems == ("1 of 2 packets of IMU samples do not decode; left out",)
    close_all(opened)


def test_a_damaged_side_stream_does_not_cost_the_events(tmp_path: Path) -> None:
    """Frames of different sizes cannot be one item; the events say why there is none."""
    path = tmp_path / "a.aedat4"
    body = [packet(0, event_packet(EVENTS, 0, 100), 0)]
    body += [packet(1, frame_packet(n, frames(1, (4 + n, 6))[0]), 0) for n in range(2)]
    body += [packet(2, b"\x80\0\0\0IMUS", 0)]
    path.write_bytes(aedat4_header(0) + b"".join(body))
    opened = streams(path)
    assert list(opened) == [""]
    sizes, samples = opened[""].info.problems
    assert "stream 1 has frames of the shapes [(4, 6), (5, 6)]; expected one shape" in sizes
    assert "stream 2 holds no IMU samples that decode" in samples
    close_all(opened)
    path.write_bytes(aedat4_header(0) + b"".join(body[1:]))
    with pytest.raises(SourceError, match=r"frames of the shapes"):
        AEDAT4.open(path, {})


def test_two_cameras_give_two_items(tmp_path: Path) -> None:
    """A second stream of events has a suffix of its own."""
    path = tmp_path / "a.aedat4"
    body = [packet(number, event_packet(EVENTS, 0, 100 + number), 0) for number in (0, 5)]
    path.write_bytes(aedat4_header(0, {0: "EVTS", 5: "EVTS"}) + b"".join(body))
    opened = streams(path)
    assert {suffix: source.info.length for suffix, source in opened.items()} == {"": 100, "events-5": 105}
    close_all(opened)


def test_headers_that_cannot_be(tmp_path: Path) -> None:
    """Another format, a header cut off, an unknown compression, broken XML: refused with the reason."""
    path = tmp_path / "a.aedat4"
    good = aedat4_header(0)
    cases = {
        b"#!AER-DAT3.1\r\n" + bytes(100): r"does not begin with .*; it is no AEDAT4 recording",
        good[:100]: r"the AEDAT4 header cannot be read \(no IOHE table\); the file is damaged",
        good[:14] + b"\xff\xff\xff\xff" + good[18:]: r"a header of 4294967295 bytes",
        aedat4_header(9): r"cannot be read \(compression 9\)",
        good.replace(b"<dv", b"<<<"): r"the AEDAT4 header cannot be read",
        good: r"holds no events, frames or IMU samples \(streams: EVTS, FRME, IMUS, TRIG\); nothing to read",
    }
    for data, message in cases.items():
        path.write_bytes(data)
        with pytest.raises(SourceError, match=message):
            AEDAT4.open(path, {})


def test_bombs_are_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small packet that stands for a large one is refused at the limit."""
    monkeypatch.setattr(events_aedat4_file, "MAX_PACKET_BYTES", 1 << 16)
    big = flat_buffer(b"EVTS", {0: flat_vector("u1", np.zeros(1 << 20))})
    for compression in (1, 3):
        path = tmp_path / f"{compression}.aedat4"
        body = packet(0, event_packet(EVENTS, 0, 100), compression) + packet(0, big, compression)
        path.write_bytes(aedat4_header(compression) + body)
        opened = streams(path)
        assert opened[""].info.length == 100
        assert opened[""].info.attributes["counts"]["decode_errors"] == 1  # type: ignore[index, call-overload]
        close_all(opened)


def test_absurd_packets_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet that is larger than any camera's is counted as damaged, not read."""
    path = tmp_path / "a.aedat4"
    monkeypatch.setattr(events_aedat4_file, "MAX_PACKET_BYTES", 2000)
    body = packet(0, event_packet(EVENTS, 0, 100), 0) + packet(0, event_packet(EVENTS, 100, 700), 0)
    path.write_bytes(aedat4_header(0) + body)
    opened = streams(path)
    assert opened[""].info.length == 100
    assert "1 of 2 packets of events and triggers do not decode" in opened[""].info.problems[0]
    close_all(opened)


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    """Bytes that are gone, or another frame in place of the first, are errors."""
    path = tmp_path / "a.aedat4"
    write_aedat4(path, EVENTS, 0)
    opened = streams(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(SourceError, match=r"is shorter than when it was opened; it changed meanwhile"):
        opened[""].read(600, 700)
    path.write_bytes(data[:600] + bytes(len(data) - 600))
    with pytest.raises(SourceChangedError, match=r"frame 2 is not what it was when the file was opened"):
        opened["frames"].read(2, 3)
    close_all(opened)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package that decompresses, the extra that brings it is named."""
    path = tmp_path / "a.aedat4"
    write_aedat4(path, EVENTS, 1)

    def nothing(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(inflating.importlib, "import_module", nothing)
    with pytest.raises(MissingExtraError, match=r"needs 'lz4'; pip install \"lazystore\[events\]\""):
        AEDAT4.open(path, {})


def test_real_recording(corpus: Path) -> None:
    """Every stream of a DAVIS recording equals what the package aedat reads."""
    path = corpus / "events" / "evl_sample.aedat4"
    opened = streams(path)
    found: dict[str, list[Any]] = {}
    for entry in aedat.Decoder(str(path)):
        kind = next(name for name in entry if name != "stream_id")
        found.setdefault(kind, []).append(entry[kind])
    with closing(opened[""]) as events:
        expected = np.concatenate(found["events"])
        columns = events.read(0, events.info.length).columns
        for name, field in zip("txyp", ("t", "x", "y", "on"), strict=True):
            np.testing.assert_array_equal(columns[name].astype("i8"), expected[field].astype("i8"))
        triggers = np.concatenate(found["triggers"])
        np.testing.assert_array_equal(side_of(events)["triggers/t"], triggers["t"])
        np.testing.assert_array_equal(side_of(events)["triggers/id"], triggers["source"])
    with closing(opened["frames"]) as camera:
        data = camera.read(0, camera.info.length).columns["data"]
        np.testing.assert_array_equal(data, [frame["pixels"] for frame in found["frame"]])
        assert camera.info.ticks is not None
        np.testing.assert_array_equal(camera.info.ticks.values, [frame["t"] for frame in found["frame"]])
    with closing(opened["imu"]) as imu:
        samples = np.concatenate(found["imus"])
        names = samples.dtype.names or ()
        expected = np.stack([samples[name] for name in names[1:]], axis=1)
        np.testing.assert_array_equal(imu.read(0, imu.info.length).columns["data"], expected)
        assert imu.info.ticks is not None
        np.testing.assert_array_equal(imu.info.ticks.values, samples["t"].astype("i8"))
