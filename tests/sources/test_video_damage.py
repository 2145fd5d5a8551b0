"""Damaged videos: what can be had is had, what is lost is named and nothing is shifted."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra lazystore[video] is not installed")

from lazystore.errors import SourceError
from lazystore.sources.video.container import open_container
from lazystore.sources.video.recording import VIDEO, VideoSource
from tests.scoreboard import record, scaled
from tests.sources.video_files import (
    X264,
    X264_OPEN_GOP,
    X265_OPEN_GOP,
    break_packet,
    decode_in_order,
    packets_of,
    picture,
    remux,
    truncate,
    write_video,
)  # fmt: skip

FUZZ = Path(__file__).with_name("video_fuzz.py")


def opened(path: Path, **options: Any) -> VideoSource:
    return VIDEO.open(path, {"color": "gray", **options})[0]


def read_all(source: VideoSource) -> tuple[np.ndarray[Any, Any], tuple[int, ...]]:
    block = source.read(0, source.info.length)
    return block.columns["data"], block.missing


@pytest.mark.parametrize(
    ("file_name", "codec", "options", "broken"),
    [
        ("a.mp4", "libx264", X264, 16),
        ("a.mkv", "libx264", X264, 17),
        ("a.mkv", "libx265", X265_OPEN_GOP, 14),
        ("a.webm", "libvpx-vp9", {"g": "10", "deadline": "realtime"}, 15),
        ("a.avi", "mjpeg", {}, 7),
        ("a.mp4", "libsvtav1", {"preset": "12", "g": "10"}, 14),
    ],
    ids=["h264-mp4", "h264-mkv", "hevc", "vp9", "mjpeg", "av1"],
)
def test_broken_packet_costs_its_frames_only(
    file_name: str, codec: str, options: dict[str, str], broken: int, tmp_path: Path
) -> None:
    """Frames of a broken packet are zeros and listed, the others keep number, time and content."""
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / file_name, codec, options=options, pix_fmt=pix_fmt, size=(64, 64))
    whole_times, whole = decode_in_order(path)
    group_start = max(i for i, packet in enumerate(packets_of(path)[: broken + 1]) if packet[2])
    break_packet(path, broken)
    times, planes = decode_in_order(path, one_thread=True)
    source = opened(path)
    frames, missing = read_all(source)
    assert source.info.ticks is not None
    assert source.info.ticks.values is not None
    assert source.info.ticks.values.tolist() == whole_times
    shown = dict(zip(times, planes, strict=True))
    assert missing
    assert [whole_times[i] for i in missing] == [time for time in whole_times if time not in shown]
    for index, time in enumerate(whole_times):
        expected = shown.get(time, np.zeros_like(planes[0]))
        np.testing.assert_array_equal(frames[index], expected, err_msg=f"frame {index}")
    np.testing.assert_array_equal(frames[: group_start - 3], whole[: group_start - 3])
    source.close()


@pytest.mark.parametrize("broken", [12, 18, 24])
@pytest.mark.parametrize("file_name", ["a.mp4", "a.mkv", "a.ts"])
def test_order_of_reading_does_not_matter_near_damage(file_name: str, broken: int, tmp_path: Path) -> None:
    """Random and reverse reads of a damaged file give the frames and the losses of reading it through.

    A broken keyframe or reference picture makes the decoder invent, from what it has seen before.
    """
    path = write_video(tmp_path / file_name)
    if file_name == "a.ts":
        position = packets_of(path)[broken][0]
        data = bytearray(path.read_bytes())
        data[position + 60 : position + 150] = bytes(90)
        path.write_bytes(data)
    else:
        break_packet(path, broken)
    through = opened(path)
    frames, missing = read_all(through)
    indices = [*range(len(frames) - 1, -1, -1), *random.Random(2).sample(range(len(frames)), len(frames))]
    source = opened(path)
    for index in indices:
        block = source.read(index, index + 1)
        assert block.missing == ((index,) if index in missing else ())
        np.testing.assert_array_equal(block.columns["data"][0], frames[index], err_msg=f"frame {index}")
    assert through.doubtful_frames or file_name == "a.ts"  # zeros in a stream's slices can pass
    assert set(missing) <= set(through.doubtful_frames)
    source.close()
    through.close()


def test_damage_near_the_borders_of_open_groups_is_doubtful_on_both_sides(tmp_path: Path) -> None:
    """What may be made up is listed, and equals reading it through.

    Pictures that are shown before a keyframe but coded after it refer to it, and what follows it to them.
    """
    whole_path = write_video(tmp_path / "whole.mp4", options=X264_OPEN_GOP)
    whole, data = decode_in_order(whole_path)[1], whole_path.read_bytes()
    path, noticed = tmp_path / "a.mp4", 0
    for number in (9, 22, 33):  # keyframes, and a picture shown before one
        position, size, _ = packets_of(whole_path)[number]
        for seed in range(2):
            content = random.Random(seed).randbytes(size // 2)
            path.write_bytes(data[: position + size - len(content)] + content + data[position + size :])
            through, source = opened(path), opened(path)
            frames, missing = read_all(through)
            for index in reversed(range(len(frames))):
                np.testing.assert_array_equal(source.read(index, index + 1).columns["data"][0], frames[index])
            made_up = [index for index in range(len(frames)) if (frames[index] != whole[index]).any()]
            if through.doubtful_frames:  # a decoder that is content says nothing
                noticed += 1
                assert set(made_up) <= {*through.doubtful_frames, *missing}, (number, seed)
            source.close()
            through.close()
    assert noticed >= 4


def test_damage_is_reported_by_packet_and_frame(tmp_path: Path) -> None:
    """After a read the source knows the packets refused."""
    path = break_packet(write_video(tmp_path / "a.avi", "mjpeg", pix_fmt="yuvj420p", options={}), 7)
    source = opened(path)
    assert read_all(source)[1] == (7,)
    assert source.broken_packets == {7}
    assert source.doubtful_frames == [7]
    source.close()


@pytest.mark.parametrize("fraction", [0.5, 0.8])
@pytest.mark.parametrize("file_name", ["a.mkv", "a.ts", "a.flv", "fast.mp4", "a.avi"])
def test_truncated_file_gives_what_is_left(file_name: str, fraction: float, tmp_path: Path) -> None:
    """Frames up to the cut equal those of the whole file, at the same times, and the loss is told."""
    path = tmp_path / file_name
    if file_name == "fast.mp4":
        whole_path = write_video(tmp_path / "whole.mp4", count=60, size=(96, 128))
        remux(whole_path, path, options={"movflags": "faststart"})
    elif file_name == "a.avi":
        write_video(path, "mjpeg", count=60, pix_fmt="yuvj420p", options={})
    else:
        write_video(path, count=60, size=(96, 128))
    whole_times, whole = decode_in_order(path)
    truncate(path, fraction)
    times, _ = decode_in_order(path, one_thread=True)
    source = opened(path)
    frames, missing = read_all(source)
    assert 10 < len(frames) < 60
    assert source.info.ticks is not None
    assert source.info.ticks.values is not None
    ticks = source.info.ticks.values.tolist()
    assert set(times) <= set(ticks)
    assert set(ticks) <= set(whole_times)
    # All but what the cut packet had a part in.
    sound = [index for index in range(len(frames) - 8) if index not in missing]
    assert len(sound) > len(frames) - 12
    for index in sound:
        np.testing.assert_array_equal(frames[index], whole[whole_times.index(ticks[index])])
    if file_name != "a.ts":  # a transport stream promises nothing
        assert any("60 frames" in line or "promises" in line for line in source.info.problems), (
            source.info.problems
        )
    source.close()


def test_half_a_picture_is_doubtful_though_its_decoder_is_content(tmp_path: Path) -> None:
    """MJPEG cut inside its last picture: the rest of that picture is whatever lay in memory."""
    path = write_video(tmp_path / "a.avi", "mjpeg", count=20, pix_fmt="yuvj420p", options={})
    position, size, _ = packets_of(path)[12]
    path.write_bytes(path.read_bytes()[: position + size - 80])  # past its tables
    source = opened(path)
    frames, missing = read_all(source)
    assert (len(frames), missing, source.doubtful_frames) == (13, (), [12])
    source.close()


def test_recording_without_index_is_explained(tmp_path: Path) -> None:
    """An MP4 whose recorder was killed has no moov box; the message says so and what may help."""
    path = truncate(write_video(tmp_path / "a.mp4"), 0.6)
    with pytest.raises(SourceError, match=r"its index \(moov\) is missing or cut off"):
        VIDEO.open(path, {})


def test_nothing_decodes(tmp_path: Path) -> None:
    """A file of which no packet decodes is an error, not an item of zeros."""
    path = write_video(tmp_path / "a.avi", "mjpeg", pix_fmt="yuvj420p", options={}, count=4)
    for number in range(4):
        break_packet(path, number)
    with pytest.raises(SourceError, match=r"no frame of 'a.avi' can be decoded"):
        VIDEO.open(path, {})


def test_file_that_shrinks_while_open(tmp_path: Path) -> None:
    """Packets that are gone since the file was opened are an error."""
    path = write_video(tmp_path / "a.ts", count=60)
    source = opened(path)
    truncate(path, 0.4)
    with pytest.raises(SourceError, match="is not as it was when it was opened: it ends after"):
        source.read(0, 60)
    source.close()


def test_decoder_that_cannot_be_opened(tmp_path: Path) -> None:
    """Parameters that no decoder takes are one line, also where FFmpeg forgets the codec over it."""
    path = write_video(tmp_path / "a.mkv", "libx265", size=(64, 64), options=X265_OPEN_GOP)
    data = bytearray(path.read_bytes())
    with open_container(path) as container:
        parameters = container.streams.video[0].codec_context.extradata
    assert parameters is not None
    at = data.index(parameters)
    data[at + 27] = 255  # a length of a parameter set that the record does not hold
    path.write_bytes(data)
    with pytest.raises(SourceError, match="its hevc decoder cannot be opened: .* parameters are damaged"):
        opened(path)


def test_mutated_files_end_in_frames_or_one_line() -> None:
    """Cut, flipped, stretched and shortened files: frames or a SourceError, no crash and no hang."""
    n_mutations = scaled(20, 1000)
    run = subprocess.run(
        [sys.executable, str(FUZZ), str(n_mutations)],
        capture_output=True,
        text=True,
        timeout=scaled(120, 3600),
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    tried, opened_whole = map(int, run.stdout.split())
    assert tried == 6 * n_mutations
    assert opened_whole > tried // 4
    record(9, video_files=6, mutations_each=n_mutations, opened=opened_whole, crashes=0)


def test_broken_pictures_differ_from_whole_ones() -> None:
    """The zeros of a lost frame cannot be mistaken for a picture of the tests."""
    assert all(picture(index, 64, 64).any() for index in range(40))
