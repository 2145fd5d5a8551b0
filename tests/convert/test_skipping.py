"""On the way to a frame pictures that no other refers to are left out; the frame is the same to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lazystore as ls
from lazystore.store.encoded import EncodedVideoReader
from tests.sources.video_files import X264_OPEN_GOP, break_packet, decode_in_order, write_video

COUNT = 120
X264 = {"preset": "medium", "g": "60"}
FILES: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("a.mp4", "libx264", {**X264, "bf": "3"}),
    "h264, pyramid": ("a.mp4", "libx264", {**X264, "x264-params": "bframes=7:b-pyramid=normal:b-adapt=0"}),
    "h264, direct": ("a.mp4", "libx264", {**X264, "x264-params": "bframes=3:direct=temporal:weightb=1"}),
    "h264, open groups": ("a.mkv", "libx264", dict(X264_OPEN_GOP)),
    "hevc": ("a.mp4", "libx265", {"x265-params": "keyint=60:bframes=4:b-pyramid=1:log-level=none"}),
    "mpeg4": ("a.mkv", "mpeg4", {"g": "60", "bf": "2"}),
}  # fmt: skip


def reader_of(store: Path) -> EncodedVideoReader:
    with ls.open(store) as opened:
        reader = opened.reader(opened.records["video"], "data")
    assert isinstance(reader, EncodedVideoReader)
    return reader


def check(reader: EncodedVideoReader, expected: NDArray[Any], order: list[int]) -> int:
    """Frames in this order are exact; how many came out of the decoder."""
    before = reader.decoded_frames
    for index in order:
        np.testing.assert_array_equal(
            reader.read_chunk((index, 0, 0))[0], expected[index], err_msg=str(index)
        )
    return reader.decoded_frames - before


@pytest.mark.parametrize("name", FILES)
def test_frames_are_exact_and_cost_less(name: str, tmp_path: Path) -> None:
    """Jumps far into a group, short ones, and playing on from where a jump ended."""
    file_name, codec, options = FILES[name]
    path = write_video(tmp_path / file_name, codec, count=COUNT, size=(64, 96), options=options)
    _, expected = decode_in_order(path)
    ls.convert(path, tmp_path / "s.zarr", name="video", source_options={"color": "gray"})
    reader = reader_of(tmp_path / "s.zarr")
    try:
        far = [50, 110, 55, 119, 58, 100, 45, 115]
        decoded = check(reader, expected, far)
        if name != "h264, open groups":  # whose groups are short
            assert decoded < 0.9 * sum(index % 60 + 1 for index in far)
        order = np.random.default_rng(1).permutation(COUNT).tolist()
        check(reader, expected, [at for index in order for at in (index, min(index + 1, COUNT - 1))])
        check(reader, expected, [*range(40, 100), *range(100, 20, -3)])
    finally:
        reader.close()


def test_what_may_be_damaged_is_decoded_whole(tmp_path: Path) -> None:
    """There a picture that is missing tells of damage; none is left out on purpose."""
    path = write_video(tmp_path / "a.mp4", count=COUNT, size=(64, 96), options={**X264, "bf": "3"})
    break_packet(path, 30)
    ls.convert(path, tmp_path / "s.zarr", name="video", source_options={"color": "gray"})
    with ls.open(tmp_path / "s.zarr") as store:
        attributes = store["video"].attrs["lazystore"]
        assert attributes["frames_checked"] is True
        assert attributes["broken_packets"] == [[30, 31]]
    reader = reader_of(tmp_path / "s.zarr")
    assert not reader._sound
    reader.read_chunk((110, 0, 0))
    assert reader.decoded_frames >= 50
    reader.close()
