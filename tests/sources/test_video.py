"""Every frame of a video, in any order, equals the sequential decode, at its own time."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra lazystore[video] is not installed")

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Source, SourceFormat
from lazystore.sources.registry import open_sources
from lazystore.sources.video.recording import VIDEO, VideoSource
from lazystore.testing import check_source
from tests.sources.video_files import (
    X264,
    X264_NO_B,
    X264_OPEN_GOP,
    X265_OPEN_GOP,
    cut_by_edit_list,
    decode_in_order,
    irregular_times,
    picture,
    remux,
    write_video,
)  # fmt: skip

MILLISECONDS = Fraction(1, 1000)
VFR = irregular_times(40)
GOP = {"g": "10"}
SVT = {"preset": "12"}

# name -> (file name, how to make it); what each one has that breaks a naive reader is its name
MADE: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "b-frames": ("a.mp4", write_video),
    "vfr": ("a.mp4", lambda p: write_video(p, options=X264_NO_B, pts=VFR, time_base=MILLISECONDS)),
    "vfr-b-frames": ("a.mp4", lambda p: write_video(p, pts=VFR, time_base=MILLISECONDS)),
    "vfr-b-frames-mkv": ("a.mkv", lambda p: write_video(p, pts=VFR, time_base=MILLISECONDS)),
    "edit-list": ("a.mp4", lambda p: cut_by_edit_list(write_video(p), 5 * 512)),
    "open-gop": ("a.mp4", lambda p: write_video(p, options=X264_OPEN_GOP)),
    "open-gop-ts": ("a.ts", lambda p: write_video(p, options=X264_OPEN_GOP)),
    "hevc-open-gop": ("a.mkv", lambda p: write_video(p, "libx265", size=(64, 64), options=X265_OPEN_GOP)),
    "starts-inside-open-gop": (
        "b.mkv",
        lambda p: remux(write_video(p.with_name("a.mp4"), options=X264_OPEN_GOP), p, drop=range(9)),
    ),
    "intra-refresh": (
        "a.ts",
        lambda p: write_video(p, options={"x264-params": "intra-refresh=1:keyint=12:bframes=0"}),
    ),
    "flv": ("a.flv", write_video),
    "avi-h264-order": ("a.avi", write_video),
    "avi-mpeg4-b": ("a.avi", lambda p: write_video(p, "mpeg4", options={**GOP, "bf": "2"})),
    "mp4-mpeg4": ("a.mp4", lambda p: write_video(p, "mpeg4", options=GOP, size=(240, 320), count=25)),
    "no-times": ("a.h264", write_video),
    "mpeg2-ps": ("a.mpg", lambda p: write_video(p, "mpeg2video", options={**GOP, "bf": "2"})),
    "vp9": ("a.webm", lambda p: write_video(p, "libvpx-vp9", options={**GOP, "deadline": "realtime"})),
    "vp8": ("a.webm", lambda p: write_video(p, "libvpx", options={**GOP, "deadline": "realtime"})),
    "av1": ("a.mp4", lambda p: write_video(p, "libsvtav1", options=SVT, size=(64, 64), count=20)),
    "mjpeg": ("a.avi", lambda p: write_video(p, "mjpeg", pix_fmt="yuvj420p", options={})),
    "ffv1": ("a.mkv", lambda p: write_video(p, "ffv1", options={})),
    "one-frame": ("a.mp4", lambda p: write_video(p, count=1)),
    "odd-width": ("a.mp4", lambda p: write_video(p, size=(45, 63), pix_fmt="yuv444p")),
    "full-range": ("a.mp4", lambda p: write_video(p, pix_fmt="yuvj420p", full_range=True)),
    "gray": ("a.avi", lambda p: write_video(p, "rawvideo", pix_fmt="gray", options={})),
    "10-bit": ("a.mkv", lambda p: write_video(p, "ffv1", pix_fmt="yuv420p10le", options={})),
    "16-bit": ("a.mkv", lambda p: write_video(p, "ffv1", pix_fmt="gray16le", options={})),
}  # fmt: skip

CORPUS = (
    "bikes.mp4", "bulk-water.mov", "carphone_pristine.mp4", "h264_10bits.mp4", "nasa_13013_rotated.mp4",
    "test_non_zero_start.mp4",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of a made file by its name; each is encoded once."""
    paths: dict[str, Path] = {}

    def path_of(name: str) -> Path:
        if name not in paths:
            file_name, make = MADE[name]
            paths[name] = tmp_path_factory.mktemp(name) / file_name
            make(paths[name])
        return paths[name]

    return path_of


def opened(path: Path, **options: Any) -> VideoSource:
    return VIDEO.open(path, options)[0]


def read_all(source: VideoSource, block: int = 7) -> np.ndarray[Any, Any]:
    length = source.info.length
    blocks = [source.read(start, min(start + block, length)) for start in range(0, length, block)]
    assert not any(part.missing for part in blocks)
    return np.concatenate([part.columns["data"] for part in blocks])


def check_any_order(source: VideoSource, expected: np.ndarray[Any, Any]) -> None:
    """Random, reverse and strided reads, singly and in blocks, equal the sequential decode."""
    length = len(expected)
    rng = random.Random(5)
    singles = [rng.randrange(length) for _ in range(40)]
    singles += [*range(length - 1, max(-1, length - 40), -1), *range(0, length, 7)]
    for index in singles:
        np.testing.assert_array_equal(source.read(index, index + 1).columns["data"][0], expected[index])
    for _ in range(10):
        start = rng.randrange(length)
        stop = min(length, start + rng.randrange(1, 20))
        np.testing.assert_array_equal(source.read(start, stop).columns["data"], expected[start:stop])


@pytest.mark.parametrize("name", MADE)
def test_made_file_equals_sequential_decode(name: str, made: Callable[[str], Path]) -> None:
    """Length, times, and every frame in every order equal a packet-by-packet PyAV decode."""
    times, planes = decode_in_order(made(name))
    source = opened(made(name), color="gray")
    assert source.info.length == len(planes)
    ticks = source.info.ticks
    assert ticks is not None
    assert ticks.values is not None
    if None not in times and times == sorted(times):  # type: ignore[type-var]  # no None left
        assert ticks.values.tolist() == times
    else:
        assert (np.diff(ticks.values) > 0).all()
        assert source.info.problems
    np.testing.assert_array_equal(read_all(source), planes)
    check_any_order(source, planes)
    source.close()


@pytest.mark.parametrize("color", ["gray", "rgb"])
@pytest.mark.parametrize("name", CORPUS)
def test_recording_equals_sequential_decode(name: str, color: str, corpus: Path) -> None:
    """Real recordings: all frames and all pts, as Y and as RGB, in every order."""
    path = corpus / "video" / name
    source = opened(path, color=color)
    wide = source.pixels.bits > 8
    rgb_format = "rgb48le" if wide else "rgb24"
    times, frames = decode_in_order(path, pix_fmt=rgb_format if color == "rgb" else None)
    if source.info.attributes["rotation"] == 90:
        frames = np.rot90(frames, 1, axes=(1, 2))
    ticks = source.info.ticks
    assert ticks is not None
    assert ticks.values is not None
    assert ticks.values.tolist() == times
    assert source.info.columns[0].shape == frames.shape
    assert source.info.columns[0].dtype == frames.dtype
    assert not source.info.problems
    np.testing.assert_array_equal(read_all(source, 64), frames)
    rng = random.Random(1)
    few = [rng.randrange(len(frames)) for _ in range(4)] + [len(frames) - 1 - i for i in range(3)]
    for index in few:
        np.testing.assert_array_equal(source.read(index, index + 1).columns["data"][0], frames[index])
    source.close()


@pytest.mark.parametrize("name", ["b-frames", "vp9", "edit-list", "open-gop"])
def test_counting_by_decoding_agrees_with_packets(name: str, made: Callable[[str], Path]) -> None:
    """Where packets are trusted, decoding everything gives the same table."""
    by_packets, by_decoding = (opened(made(name), scan=scan) for scan in ("packets", "decode"))
    np.testing.assert_array_equal(by_packets.frames.packet, by_decoding.frames.packet)
    np.testing.assert_array_equal(by_packets.frames.pts, by_decoding.frames.pts)
    np.testing.assert_array_equal(by_packets.frames.seek_frame, by_decoding.frames.seek_frame)
    assert by_decoding.info.attributes["scan"] == "decode"


def test_most_files_need_no_decoding(made: Callable[[str], Path]) -> None:
    """Ordinary H.264, HEVC, VP9, AV1 and MJPEG files are counted from their packets."""
    for name in ("b-frames", "vfr-b-frames-mkv", "hevc-open-gop", "vp9", "av1", "mjpeg", "mp4-mpeg4"):
        info = opened(made(name)).info
        assert (info.attributes["scan"], info.attributes["scan_reason"]) == ("packets", None), name


def test_packets_that_show_nothing_are_no_frames(tmp_path: Path) -> None:
    """A VP8 reference picture that is never shown gets no number, and shifts none."""
    path = write_video(tmp_path / "a.webm", "libvpx", options={"g": "99", "deadline": "realtime"}, count=12)
    from tests.sources.video_files import packets_of

    position, _, _ = packets_of(path)[5]
    data = bytearray(path.read_bytes())
    head = data[position : position + 40]
    # The payload follows the block's header; a P frame's first byte has its lowest bit set.
    at = position + next(i for i in range(4, 12) if head[i] & 0x11 == 0x11 and head[i + 1] | head[i + 2])
    data[at] &= ~0x10
    path.write_bytes(data)
    times, planes = decode_in_order(path)
    if len(planes) == 12:
        pytest.fail("the file still shows 12 frames; the hidden packet was not made")
    source = opened(path, color="gray")
    assert source.info.length == 11
    np.testing.assert_array_equal(read_all(source), planes)
    assert source.info.ticks is not None
    assert source.info.ticks.values is not None
    assert source.info.ticks.values.tolist() == times
    source.close()


def test_two_streams_are_two_sources(tmp_path: Path) -> None:
    """A file with two cameras gives two sources, each exact; `stream` picks one."""
    path = write_video(tmp_path / "two.mkv", streams=2, count=15)
    sources = VIDEO.open(path, {"color": "gray"})
    assert [source.info.suffix for source in sources] == ["", "stream1"]
    for number, source in enumerate(sources):
        _, planes = decode_in_order(path, stream=number)
        np.testing.assert_array_equal(read_all(source), planes)
        check_any_order(source, planes)
        source.close()
    (second,) = VIDEO.open(path, {"color": "gray", "stream": 1})
    assert second.stream_index == 1
    assert second.info.suffix == ""


def test_reading_needs_no_whole_group_twice(made: Callable[[str], Path], monkeypatch: Any) -> None:
    """Ascending reads, also with small gaps, begin one run only."""
    from lazystore.video.decoder import FrameDecoder

    begun = []
    begin = FrameDecoder._begin
    monkeypatch.setattr(
        FrameDecoder, "_begin", lambda self, seek, **rest: (begun.append(seek), begin(self, seek, **rest))[1]
    )
    source = opened(made("b-frames"), color="gray")
    begun.clear()
    for start in range(0, 36, 3):
        source.read(start, start + 2)
    assert begun == [0]
    source.close()


def test_info_describes_the_recording(made: Callable[[str], Path]) -> None:
    """Format, ticks, dims, colour facts and counts are those of the file."""
    info = opened(made("b-frames")).info
    assert (info.kind, info.format, info.length) == ("video", "mp4/h264", 40)
    assert info.columns[0].dims == ("time", "y", "x", "channel")
    assert info.side[0].values.tolist() == ["r", "g", "b"]
    assert info.ticks is not None
    assert info.ticks.time_base == Fraction(1, 12800)
    assert (info.ticks.name, info.ticks.known) == ("pts", True)
    facts = info.attributes
    assert facts["header_frame_count"] == facts["packet_count"] == facts["frame_count"] == 40
    assert (facts["pix_fmt"], facts["bits"], facts["color"], facts["gray"]) == ("yuv420p", 8, "rgb", None)
    assert facts["average_rate"] == [25, 1]
    full = opened(made("full-range")).info.attributes
    assert (full["color_range"], full["full_range"], full["is_neutral"]) == ("full", True, False)
    assert opened(made("no-times")).info.ticks.known is False  # type: ignore[union-attr]  # videos have ticks


def test_source_keeps_the_protocol(made: Callable[[str], Path]) -> None:
    """The format and its sources are what the seams ask for; close is idempotent, reading reopens."""
    assert isinstance(VIDEO, SourceFormat)
    source = opened(made("ffv1"), color="gray")
    assert isinstance(source, Source)
    before = source.read(3, 5).columns["data"]
    source.close()
    source.close()
    np.testing.assert_array_equal(source.read(3, 5).columns["data"], before)
    source.close()
    for name in ("b-frames", "edit-list"):
        _, planes = decode_in_order(made(name))
        check_source(functools.partial(opened, made(name), color="gray"), {"data": planes})


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 3), (0, 41)])
def test_reading_outside_is_refused(start: int, stop: int, made: Callable[[str], Path]) -> None:
    """Frames outside the recording are a usage error that names both."""
    with pytest.raises(UsageError, match=rf"frames \[{start}, {stop}\) are not inside the 40"):
        opened(made("b-frames")).read(start, stop)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"color": "rgb", "gray": "y"}, "gray='y' has no meaning with color='rgb'"),
        ({"stream": 7}, "has no video stream 7; its video streams are: 0"),
        ({"decode_threads": -1}, "decode_threads=-1 is negative"),
    ],
)
def test_options_that_mean_nothing(
    options: dict[str, Any], message: str, made: Callable[[str], Path]
) -> None:
    """Contradictory or impossible options are refused by name."""
    with pytest.raises(UsageError, match=message):
        VIDEO.open(made("b-frames"), options)


def test_times_are_needed_to_trust_packets(made: Callable[[str], Path]) -> None:
    """scan='packets' is refused where packets have no times."""
    with pytest.raises(UsageError, match="scan='packets' cannot number the frames"):
        VIDEO.open(made("no-times"), {"scan": "packets"})


def test_wrong_numbering_is_noticed(made: Callable[[str], Path]) -> None:
    """Frames numbered by times that are not the decoder's order end in a clear error, not a shift."""
    source = opened(made("avi-h264-order"), color="gray", scan="packets")
    with pytest.raises(SourceError, match="against its time stamp; open it with the option scan=decode"):
        source.read(0, source.info.length)
    source.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_thread_count_changes_nothing(threads: int, made: Callable[[str], Path]) -> None:
    """Any number of decoding threads gives the same frames."""
    _, planes = decode_in_order(made("b-frames"))
    source = opened(made("b-frames"), color="gray", decode_threads=threads)
    np.testing.assert_array_equal(read_all(source), planes)
    check_any_order(source, planes)
    source.close()


def test_replaced_file_is_noticed(tmp_path: Path) -> None:
    """A file that changes under an open source is an error, never frames of the other file."""
    path = write_video(tmp_path / "a.mp4", count=30)
    source = opened(path, color="gray")
    write_video(path, count=20, options={**X264, "crf": "40"})
    with pytest.raises(SourceError, match="is not as it was when it was opened"):
        source.read(0, 30)
    source.close()


def test_picture_fixture_is_told_apart() -> None:
    """The test pictures differ from frame to frame, so a shifted frame cannot pass."""
    pictures = [picture(index, 48, 64) for index in range(40)]
    assert len({image.tobytes() for image in pictures}) == 40


def test_times_that_begin_anew_are_moved_not_mixed(tmp_path: Path) -> None:
    """Two recordings in one file: frames keep their order, and no frame gets another one's time."""
    part = write_video(tmp_path / "part.ts", count=30)
    late = write_video(tmp_path / "late.ts", count=30, pts=list(range(500, 530)))
    for first in (part, late):
        joined = tmp_path / "joined.ts"
        joined.write_bytes(first.read_bytes() + part.read_bytes())
        own, planes = decode_in_order(joined)
        source = opened(joined, color="gray")
        assert source.info.ticks is not None
        assert source.info.ticks.values is not None
        times = source.info.ticks.values
        step = 90_000 // 25
        assert times[:30].tolist() == own[:30]
        assert times[30:].tolist() == [own[29] + step * (number + 1) for number in range(30)]  # type: ignore[operator]  # TS has times
        assert any("begin anew at frame 30, as in recordings joined" in line for line in source.info.problems)
        np.testing.assert_array_equal(read_all(source), planes)
        source.close()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_videos_of_one_frame_join_at_their_rate(name: str, tmp_path: Path) -> None:
    """A frame that none follows lasts as long as its packet, or the header's rate, says."""
    paths = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths.append(write_video(folder / name, count=1))
    (joined,) = open_sources(paths)
    assert joined.info.ticks is not None
    assert joined.info.ticks.values is not None
    seconds = joined.info.ticks.values * float(joined.info.ticks.time_base)
    np.testing.assert_allclose(np.diff(seconds), 0.04)
    joined.close()


def test_frames_without_a_time_do_not_cost_the_others_theirs(tmp_path: Path) -> None:
    """Matroska whose first times are below 0, which it cannot hold: the rest keep theirs, at any rate."""
    path = tmp_path / "a.mkv"
    pts = [*range(-400, 0, 40), *irregular_times(30)]
    options = {"avoid_negative_ts": "disabled"}
    write_video(path, pts=pts, time_base=Fraction(1, 1000), container_options=options)
    shown = decode_in_order(path)[0]
    source = opened(path, color="gray")
    assert source.info.ticks is not None
    assert source.info.ticks.known
    assert source.info.ticks.values is not None
    times = source.info.ticks.values.tolist()
    assert None in shown
    assert [own for own, time in zip(shown, times, strict=True) if own not in (None, time)] == []
    assert (np.diff(times) > 0).all()
    assert any("of 40 frames have no time stamp; theirs" in line for line in source.info.problems)
    source.close()
