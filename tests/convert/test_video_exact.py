"""Frame i is the i-th that a decode from first to last shows: in every file, order and way of storing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lazystore as ls
from benchmarks.video_samples import awkward_files, number_in
from lazystore.errors import MissingFrameError
from tests.sources.video_files import decode_in_order

COUNT, SIZE = 60, (48, 208)
AWKWARD = (
    "constant rate", "variable rate", "variable rate, B-frames", "edit list", "open groups",
    "transport stream", "truncated", "damaged inside", "no times", "AVI, B-frames",
)  # fmt: skip
RECORDINGS = ("bikes.mp4", "bulk-water.mov", "carphone_pristine.mp4", "h264_10bits.mp4",
              "nasa_13013_rotated.mp4", "test_non_zero_start.mp4")  # fmt: skip
CODECS = ("encoded", "fast")
# Frames of real recordings that are asked for in random order: each may decode a group of 250.
RANDOM_LOOKS = 25


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    files = awkward_files(tmp_path_factory.mktemp("awkward"), count=COUNT, size=SIZE)
    assert sorted(files) == sorted(AWKWARD)
    return files


def check_every_order(item: Any, expected: dict[int, NDArray[Any]], looks: int) -> None:
    """All frames of `expected`, by their place, each exact; every other place is a frame that is lost."""
    places = sorted(expected)
    shuffled = np.random.default_rng(4).permutation(places)[:looks].tolist()
    orders = {"reverse": places[::-1], "strided": places[::7] + places[3::7], "random": shuffled}
    for name, order in orders.items():
        wrong = [index for index in order if not np.array_equal(item[index], expected[index])]
        assert not wrong, f"{name}: {len(wrong)} of {len(order)} frames are wrong, the first is {wrong[0]}"
    for index in set(range(len(item))) - set(places):
        with pytest.raises(MissingFrameError):
            item[index]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_files(name: str, codec: str, made: dict[str, Path], store_path: Path) -> None:
    """Lost frames keep their place, and the others are those of FFmpeg's own decode with one thread."""
    times, frames = decode_in_order(made[name], one_thread=name == "damaged inside")
    options: dict[str, Any] = {"source_options": {"color": "gray"}}
    ls.convert(made[name], store_path, name="video", codec=codec, **options)
    with ls.open(store_path) as store:
        item = store["video"]
        expected = dict(enumerate(frames))
        if len(item) != len(frames):
            assert name == "damaged inside"
            places = {time: index for index, time in enumerate(item.coords["pts"].tolist())}
            expected = {places[time]: frame for time, frame in zip(times, frames, strict=True)}
            assert len(expected) == len(frames)
        check_every_order(item, expected, COUNT)
        seen = [number_in(item[index]) for index in sorted(expected)]
        known = [number for number in seen if number is not None]
        assert known == sorted(set(known))
        assert len(known) >= 0.6 * COUNT


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", RECORDINGS)
def test_real_recordings(name: str, codec: str, corpus: Path, store_path: Path) -> None:
    """All of them, whatever their codec, depth, rotation and first time."""
    _, frames = decode_in_order(corpus / "video" / name)
    if "rotated" in name:
        frames = np.rot90(frames, 1, axes=(1, 2))
    options: dict[str, Any] = {"source_options": {"color": "gray"}}
    ls.convert(corpus / "video" / name, store_path, name="video", codec=codec, **options)
    with ls.open(store_path) as store:
        assert len(store["video"]) == len(frames)
        check_every_order(store["video"], dict(enumerate(frames)), RANDOM_LOOKS)


def test_no_recording_is_left_out(corpus: Path) -> None:
    """Every video of the corpus is looked at here."""
    assert sorted(path.name for path in (corpus / "video").iterdir()) == sorted(RECORDINGS)
