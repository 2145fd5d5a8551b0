"""Packets or pixels: what a video is kept as, and that either gives the frames that were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

import lazystore as ls
from lazystore.errors import UsageError
from tests.convert.test_encoded import N_FRAMES, write_video

PARTS: dict[str, tuple[dict[str, Any], Any]] = {
    "crop": ({"crop": (3, 40, 5, 90)}, np.s_[:, 3:40, 5:90]),
    "every": ({"every": 3}, np.s_[::3]),
    "time": ({"time": (1.3, 2.5)}, np.s_[33:63]),  # 25 Hz, groups of 12 frames
    "first frames": ({"time": (None, 0.2)}, np.s_[:5]),
    "last frame": ({"time": (3.56, None)}, np.s_[89:]),
    "all of them": ({"time": (0.5, 3.0), "every": 7, "crop": (0, 8, 0, 8)}, np.s_[13:75:7, :8, :8]),
    "rate": ({"rate_hz": 50.0}, np.s_[:]),
    "times": ({"times": np.arange(N_FRAMES) * 0.1, "time": (1.0, 2.0)}, np.s_[10:20]),
}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.uint8]]:
    path = tmp_path_factory.mktemp("video") / "mouse.mp4"
    return path, write_video(path)


def write_lossless(path: Path, codec: str, *, rough: bool) -> NDArray[np.uint8]:
    """Twelve grey pictures, of a rough surface or of nothing; shape (time, y, x)."""
    steps = np.random.default_rng(5).integers(-2, 3, (12, 48, 64)) * rough
    frames = (128 + steps.cumsum(axis=1).cumsum(axis=2) // 8).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(stream.encode())
    return frames


def test_a_compressed_video_is_kept_encoded(video: Any, store_path: Path) -> None:
    """Without a word the packets are kept: the store has about the size of the file."""
    path, frames = video
    report = ls.convert(path, store_path)
    assert report.items[0].codec == "encoded"
    assert not report.items[0].problems
    with ls.open(store_path) as store:
        assert "data" not in store.records["mouse"].documents
        np.testing.assert_array_equal(store["mouse"].load(), frames)


@pytest.mark.parametrize(("options", "part"), PARTS.values(), ids=list(PARTS))
def test_a_part_of_a_video_is_a_view_of_its_packets(
    video: Any, store_path: Path, options: dict[str, Any], part: Any
) -> None:
    """Crops, spans, strides and other times stay encoded; frames, times and sums are those of pixels."""
    path, frames = video
    ls.convert(path, store_path, name="packets", **options)
    ls.convert(path, store_path, name="pixels", codec="fast", **options)
    with ls.open(store_path) as store:
        packets, pixels = store["packets"], store["pixels"]
        assert packets.attrs["lazystore"]["codec"] == "encoded"
        order = np.random.default_rng(0).permutation(len(packets))
        for index in (*order.tolist(), *reversed(range(len(packets)))):
            np.testing.assert_array_equal(packets[index], frames[part][index])
        np.testing.assert_array_equal(packets.load(), pixels.load())
        np.testing.assert_array_equal(packets.coords["time"], pixels.coords["time"])
        assert set(packets.coords) - {"packet_of_frame"} == set(pixels.coords)
        for name in ("min", "max", "sum", "sum_squares", "valid_count"):
            mine = store.array_values("packets", f"stats/{name}")
            np.testing.assert_array_equal(mine, store.array_values("pixels", f"stats/{name}"))
        assert store.verify().ok


def test_packets_that_no_frame_needs_are_left_out(video: Any, store_path: Path) -> None:
    """A second of a recording takes its groups, not the whole recording."""
    ls.convert(video[0], store_path, name="part", time=(1.3, 2.5))
    ls.convert(video[0], store_path, name="whole")
    with ls.open(store_path) as store:
        part, whole = (store.specs(name)["packet/size"].shape[0] for name in ("part", "whole"))
    assert whole == N_FRAMES
    assert 30 <= part <= 45


@pytest.mark.parametrize("gray", ["y", "expanded", "luma"])
def test_every_gray_is_a_view_of_the_packets(video: Any, store_path: Path, gray: str) -> None:
    """What becomes of a decoded frame is recorded with the packets."""
    options = {"source_options": {"color": "gray", "gray": gray}}
    ls.convert(video[0], store_path, name="packets", **options)
    ls.convert(video[0], store_path, name="pixels", codec="fast", **options)
    with ls.open(store_path) as store:
        assert store["packets"].attrs["lazystore"]["codec"] == "encoded"
        np.testing.assert_array_equal(store["packets"].load(), store["pixels"].load())


@pytest.mark.parametrize(
    ("options", "why"),
    [({"dtype": "uint16"}, "dtype and keep_bits change"), ({"chunks": 4}, "chunks and shards lay out")],
    ids=["dtype", "chunks"],
)
def test_what_changes_values_or_their_layout_needs_pixels(
    video: Any, store_path: Path, options: dict[str, Any], why: str
) -> None:
    """The report says why a video is stored as pixels."""
    report = ls.convert(video[0], store_path, **options)
    assert report.items[0].codec == "balanced"
    assert any(f"kept as pixels (balanced): {why}" in line for line in report.items[0].problems)
    with ls.open(store_path) as store:
        np.testing.assert_array_equal(store["mouse"].load(), video[1])


def test_other_values_are_refused_where_packets_are_asked_for(video: Any, store_path: Path) -> None:
    """Both cannot be had, and nothing is written."""
    with pytest.raises(UsageError, match="cannot be kept encoded: dtype and keep_bits change its values"):
        ls.convert(video[0], store_path, codec="encoded", dtype="uint16")
    assert not store_path.exists()


@pytest.mark.parametrize(
    ("file_name", "codec", "rough", "kept"),
    [
        ("a.avi", "rawvideo", False, "balanced"),
        ("a.mkv", "ffv1", True, "encoded"),
        ("a.mkv", "ffv1", False, "balanced"),
    ],
)
def test_a_codec_without_loss_is_kept_where_it_is_smaller(
    tmp_path: Path, store_path: Path, file_name: str, codec: str, rough: bool, kept: str
) -> None:
    """Raw and lossless video is compared with pixels by size."""
    path = tmp_path / file_name
    frames = write_lossless(path, codec, rough=rough)
    item = ls.convert(path, store_path).items[0]
    assert item.codec == kept
    assert any("packets take" in line for line in item.problems) == (kept == "balanced")
    with ls.open(store_path) as store:
        np.testing.assert_array_equal(store["a"].load(), frames)
        np.testing.assert_array_equal(store["a"][7], frames[7])


def test_files_that_are_joined_become_pixels(video: Any, store_path: Path) -> None:
    """Packets of two files do not decode in a row; the report says so."""
    item = ls.convert([video[0], video[0]], store_path, name="joined").items[0]
    assert item.codec == "balanced"
    assert any("packets of several files" in line for line in item.problems)
    with pytest.raises(UsageError, match="is a recording in several files"):
        ls.convert([video[0], video[0]], store_path, name="again", codec="encoded")
