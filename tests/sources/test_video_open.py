"""Which files are videos, and what is said of those that are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("av", reason="the extra lazystore[video] is not installed")

from lazystore.errors import SourceError
from lazystore.sources.registry import open_path, recognise
from lazystore.sources.video.container import EXTENSIONS, container_of
from lazystore.sources.video.recording import VIDEO
from tests.sources.video_files import X264_NO_B, write_video


@pytest.mark.parametrize(
    ("file_name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.webm", "libvpx", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.mpg", "mpeg2video", "yuv420p"),
        ("a.flv", "libx264", "yuv420p"),
        ("a.wmv", "wmv2", "yuv420p"),
        ("a.nut", "ffv1", "yuv420p"),
        ("a.y4m", "rawvideo", "yuv420p"),
        ("a.ivf", "libvpx", "yuv420p"),
        ("a.mxf", "mpeg2video", "yuv420p"),
        ("a.m2ts", "libx264", "yuv420p"),
    ],
)
def test_containers_are_known_by_content(file_name: str, codec: str, pix_fmt: str, tmp_path: Path) -> None:
    """A video is recognised and opened whatever its name, which no extension is needed for."""
    options = X264_NO_B if codec == "libx264" else {"deadline": "realtime"} if codec == "libvpx" else {}
    size = (96, 160) if codec == "mpeg2video" else (48, 64)
    path = write_video(tmp_path / file_name, codec, pix_fmt=pix_fmt, options=options, count=8, size=size)
    renamed = path.rename(tmp_path / "recording.dat")
    claim = VIDEO.recognise(renamed, renamed.read_bytes()[:4096])
    assert claim is not None
    assert claim.certain
    assert recognise(renamed) == ("video", "video")
    assert VIDEO.open(renamed, {})[0].info.length == 8


@pytest.mark.parametrize("ending", [".mjpeg", ".mjpg"])
def test_pictures_one_after_the_other_are_a_video(ending: str, tmp_path: Path) -> None:
    """A raw MJPEG stream begins as the image does that its first picture is."""
    path = write_video(
        tmp_path / "a.mjpeg", "mjpeg", pix_fmt="yuvj420p", options={}, count=6, container="mjpeg"
    ).rename(tmp_path / f"b{ending}")
    assert recognise(path) == ("video", "video")
    (source,) = open_path(path)
    assert source.info.length == 6
    source.close()
    assert recognise(path.rename(tmp_path / "b.jpg")) == ("images", "stack")


@pytest.mark.parametrize("name", ["a.mkv", "a.nut", "a.mp4", "a.flv"])
def test_a_late_start_is_no_loss(name: str, tmp_path: Path) -> None:
    """Some headers say when a recording ends, others how long it is."""
    late = write_video(tmp_path / name, options=X264_NO_B, count=50, pts=range(200, 250))
    (source,) = VIDEO.open(late, {})
    assert source.info.problems == ()
    source.close()


def test_names_alone_are_a_weak_claim(tmp_path: Path) -> None:
    """A raw stream has no magic: its ending claims it, without certainty, and GIF too."""
    path = write_video(tmp_path / "a.h264", count=5)
    claim = VIDEO.recognise(path, path.read_bytes()[:4096])
    assert claim is not None
    assert not claim.certain
    assert open_path(path)[0].info.length == 5
    gif = write_video(tmp_path / "a.gif", "gif", pix_fmt="rgb8", options={}, count=5)
    assert open_path(gif)[0].info.format == "gif/gif"


@pytest.mark.parametrize(
    "head",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        b"GIF89a" + bytes(40),
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\0\0\0\x1cftypheic" + bytes(40),
        b"\x93NUMPY\x01\0" + bytes(40),
        b"\x89HDF\r\n\x1a\n" + bytes(40),
        b"% evt 2.0\n" + bytes(900),
        b"t,x,y\n1,2,3\n" * 100,
        bytes(1000),
        b"",
    ],
)
def test_other_content_is_not_claimed_for_certain(head: bytes) -> None:
    """Images, sounds, arrays, events and text are no containers of video."""
    assert container_of(head) is None
    assert VIDEO.recognise(Path("x.png"), head) is None


def test_registry_knows_every_ending() -> None:
    """The table that is read before PyAV is imported lists the same endings as the format."""
    from lazystore.sources.registry import find_format

    assert find_format("video").extensions == EXTENSIONS == VIDEO.extensions


def test_recognising_needs_no_pyav() -> None:
    """Looking at a file does not import PyAV."""
    code = (
        "import sys; from pathlib import Path; from lazystore.sources.video.recording import VIDEO;"
        "assert VIDEO.recognise(Path('a.mp4'), b'\\0\\0\\0\\x20ftypisom').certain;"
        "assert 'av' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mp4", b"hello, this is text\n" * 50, "'a.mp4' is not a video: it is text that begins 'hello"),
        ("a.m3u8.mp4", b"#EXTM3U\n#EXTINF:1,\nother.ts\n", "is not a video: it is text"),
        ("a.avi", b"\x89PNG\r\n\x1a\n" + bytes(2000), "cannot be opened as a video: .* it is a PNG image"),
        ("a.mkv", bytes(5000), "cannot be opened as a video"),
        ("a.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(500), r"its index \(moov\) is missing"),
        ("a.mp4", b"", "cannot be opened as a video"),
    ],
)
def test_what_is_no_video(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """Text, images and rubbish under a video's name get one line that says what they are."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        VIDEO.open(path, {})
    assert "\n" not in str(caught.value)


def test_playlists_cannot_reach_other_files(tmp_path: Path) -> None:
    """A concat script or playlist that is not quite text is refused by its format, not followed."""
    write_video(tmp_path / "secret.mp4", count=3)
    path = tmp_path / "list.mp4"
    path.write_bytes(b"ffconcat version 1.0\n# \xff\xfe\nfile secret.mp4\n")
    with pytest.raises(SourceError, match="cannot be opened as a video"):
        VIDEO.open(path, {})


@pytest.mark.parametrize("name", ["shot_%03d.mp4", "a:b.mp4", "concat.mp4", "ünïcode 名.mp4"])
def test_names_are_taken_literally(name: str, tmp_path: Path) -> None:
    """Patterns and protocol-like prefixes in a file's name mean nothing."""
    path = write_video(tmp_path / "a.mp4", count=3).rename(tmp_path / name)
    assert VIDEO.open(path, {})[0].info.length == 3


def test_sound_without_pictures(tmp_path: Path) -> None:
    """A container without a video stream says what it holds instead."""
    import av
    import numpy as np

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        out = file.add_stream("aac", rate=44100)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        samples.rate = 44100
        file.mux(out.encode(samples))
        file.mux(out.encode(None))
    with pytest.raises(SourceError, match="holds no video, only: audio"):
        VIDEO.open(path, {})


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    """A path to nothing is a source error with the reason."""
    with pytest.raises(SourceError, match="cannot read .*No such file"):
        VIDEO.open(tmp_path / "gone.mp4", {})


def test_an_mp4_cut_anywhere_before_its_index_names_the_index(tmp_path: Path) -> None:
    """Wherever the copy ended: inside the pictures, at a border of boxes, inside the index itself."""
    whole = write_video(tmp_path / "whole.mp4", "libx264", options=X264_NO_B, count=8).read_bytes()
    index = whole.rfind(b"moov") - 4
    assert index > len(whole) // 3
    for length in (40, index // 2, index - 1, index, index + 4, index + 8, index + (len(whole) - index) // 2):
        path = tmp_path / f"cut{length}.mp4"
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=r"its index \(moov\) is missing or cut off.*copy it again"):
            VIDEO.open(path, {})
