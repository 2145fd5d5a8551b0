"""Small pictures along time: from the overview without a frame, else from frames; always said which."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lazystore as ls
from lazystore.array import Coordinate, LazyArray
from lazystore.array import small_pictures as module
from lazystore.errors import MemoryBudgetError, UsageError
from lazystore.overviews.levels import Levels
from tests.array.fakes import MemoryReader, SealedReader

RANDOM = np.random.default_rng(3)


def lazy_of(values: NDArray[Any], **options: Any) -> LazyArray:
    time = Coordinate(("time",), 5 + np.arange(len(values)) / 10, {"units": "s"})
    names = ("time", "y", "x", "channel")[: values.ndim]
    chunks = (1, *values.shape[1:])
    return LazyArray(MemoryReader(values, chunks, dims=names), name="cam", coords={"time": time}, **options)


def blocks(frame: NDArray[Any], block: int) -> NDArray[Any]:
    """Means of blocks, by numpy."""
    rows = [
        [
            frame[y : y + block, x : x + block].mean(axis=(0, 1), dtype=float)
            for x in range(0, frame.shape[1], block)
        ]
        for y in range(0, frame.shape[0], block)
    ]
    return np.asarray(rows)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("tail", [(), (3,)], ids=["grey", "colour"])
def test_without_an_overview_frames_are_read_and_shrunk(dtype: str, tail: tuple[int, ...]) -> None:
    """Means of whole blocks of pixels, in the data's dtype, of frames spread from first to last."""
    values = RANDOM.normal(80, 30, (40, 23, 31, *tail)).clip(0, 200).astype(dtype)
    lazy = lazy_of(values)
    found = lazy.preview(n=4, scale=0.2)
    assert found.shape == (4, 5, 7, *tail)
    assert found.dtype == values.dtype
    assert found.attrs["preview"] == {"from": "frames", "frames_a_picture": 1, "pixels_a_side": 5}
    assert found.coords["first_frame"].tolist() == found.coords["last_frame"].tolist() == [0, 13, 26, 39]
    np.testing.assert_allclose(found.coords["time"], [5, 6.3, 7.6, 8.9])
    np.testing.assert_allclose(found.coords["y"], [2, 7, 12, 17, 21])
    for picture, place in zip(found, (0, 13, 26, 39), strict=True):
        expected = blocks(values[place], 5)
        np.testing.assert_allclose(
            picture, np.rint(expected) if values.dtype.kind in "iu" else expected, rtol=1e-6
        )
    assert len(lazy.reader.read) == 4


def stored_movie(path: Path, n_frames: int = 400) -> tuple[LazyArray, NDArray[Any]]:
    values = RANDOM.integers(0, 256, (n_frames, 110, 203), np.uint8)
    ls.convert(values, path, name="cam", kind="stack", overview="preview", codec="none", rate_hz=20)
    lazy: LazyArray = ls.open(path)["cam"]
    return lazy, values


def test_the_overview_gives_them_without_a_frame(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of bins and blocks as they are stored; the movie itself is not touched."""
    lazy, values = stored_movie(store_path)
    preview = Levels.from_json(lazy.attrs["lazystore"]["overview"]).preview
    assert preview is not None
    n, factor = preview.n, preview.factor

    def refuse(*_: Any) -> Any:
        raise AssertionError("a frame was read")

    monkeypatch.setattr(type(lazy.reader), "read_chunk", _except_of(lazy, refuse))
    monkeypatch.setattr(module, "_from_frames", refuse)
    found = lazy.preview(n=5, scale=1)
    assert found.attrs["preview"] == {"from": "overview", "frames_a_picture": n, "pixels_a_side": factor}
    n_bins = -(-400 // n)
    numbers = np.rint(np.linspace(0, n_bins - 1, 5)).astype(int)
    assert found.coords["first_frame"].tolist() == (numbers * n).tolist()
    times = lazy.coords["time"]
    np.testing.assert_allclose(found.coords["time"][0], (times[0] + times[n - 1]) / 2)
    for picture, number in zip(found, numbers, strict=True):
        expected = blocks(values[number * n : (number + 1) * n].mean(axis=0), factor)
        np.testing.assert_array_equal(picture, np.rint(expected))
    # Smaller than what is stored, by whole blocks of it.
    assert lazy.preview(n=2, scale=1 / (2 * factor)).shape == (2, -(-110 // (2 * factor)), 26)


def _except_of(lazy: LazyArray, refuse: Any) -> Any:
    """`read_chunk` that refuses the movie's frames and lets its overview through."""
    original = type(lazy.reader).read_chunk

    def read_chunk(self: Any, chunk_index: Any) -> Any:
        return refuse() if self.spec.path == "data" else original(self, chunk_index)

    return read_chunk


def test_views_show_their_own_frames_only(store_path: Path) -> None:
    """Bins that lie wholly inside; a short, cropped or strided view is read from its frames."""
    lazy, values = stored_movie(store_path)
    preview = Levels.from_json(lazy.attrs["lazystore"]["overview"]).preview
    assert preview is not None
    n = preview.n
    part = lazy[n + 3 : 9 * n]
    found = part.preview(n=3)
    assert found.attrs["preview"]["from"] == "overview"
    firsts = found.coords["first_frame"]
    assert firsts[0] == n - 3  # the bin that holds frames before the view is left out
    assert found.coords["last_frame"][-1] == 8 * n - 4
    np.testing.assert_allclose(
        part.coords["time"][firsts] + (n - 1) / 2 / 20, found.coords["time"], rtol=1e-12
    )
    for view, of in (
        (lazy[3 : n + 5], values[3 : n + 5]),
        (lazy[:, 10:60], values[:, 10:60]),
        (lazy[::-7], values[::-7]),
    ):
        pictures = view.preview(n=3, scale=0.5)
        assert pictures.attrs["preview"] == {"from": "frames", "frames_a_picture": 1, "pixels_a_side": 2}
        np.testing.assert_array_equal(pictures[0], np.rint(blocks(of[0], 2)))
    assert lazy.preview(3, 0.5, from_frames=True).attrs["preview"]["pixels_a_side"] == 2


def test_encoded_video_is_previewed_without_decoding(
    tmp_path: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colour pictures of packets, from the store's own overview."""
    av = pytest.importorskip("av")
    path = tmp_path / "scene.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(300):
            frame = np.full((48, 64), level % 200, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "gray")))
        container.mux(stream.encode())
    ls.convert(path, store_path, name="scene", codec="encoded")
    lazy = ls.open(store_path)["scene"]
    preview = Levels.from_json(lazy.attrs["lazystore"]["overview"]).preview
    assert preview is not None
    monkeypatch.setattr("lazystore.store.encoded.EncodedVideoReader.read_chunks", None)
    monkeypatch.setattr("lazystore.store.encoded.EncodedVideoReader.read_chunk", None)
    found = lazy.preview(n=2)
    side = -(-5 // preview.factor) * preview.factor
    assert found.attrs["preview"] == {
        "from": "overview", "frames_a_picture": preview.n, "pixels_a_side": side,
    }  # fmt: skip
    assert found.shape == (2, -(-48 // side), -(-64 // side), *lazy.shape[3:])
    # Of each grey frame the mean; what is lossy about the codec stays below a grey level or two.
    expected = np.mean([level % 200 for level in range(preview.n)])
    assert np.abs(found[0].astype(float) - expected).max() < 6


def test_missing_frames_are_left_out() -> None:
    """No picture is filler; where there is nothing else, that is said."""
    values = RANDOM.integers(0, 256, (6, 4, 5), np.uint8)
    found = lazy_of(values, missing=[(0, 2), (5, 6)]).preview(n=10, scale=1)
    assert found.coords["first_frame"].tolist() == [2, 3, 4]
    np.testing.assert_array_equal(found, values[2:5])
    with pytest.raises(UsageError, match="'cam' has no frame to preview; all 6 are missing"):
        lazy_of(values, missing=[(0, 6)]).preview()


def test_what_is_no_image_keeps_its_shape() -> None:
    """Rows of place fields, truth values, eight-byte integers, values that are not finite."""
    rows = RANDOM.normal(size=(20, 70))
    names = ("time", "bin")
    found = LazyArray(MemoryReader(rows, (1, 70), dims=names)).preview(n=3)
    np.testing.assert_array_equal(found, rows[[0, 10, 19]])
    truths = RANDOM.random((3, 4, 4)) > 0.5
    np.testing.assert_allclose(lazy_of(truths).preview(scale=0.5)[0], blocks(truths[0], 2))
    large = np.full((2, 4, 4), np.iinfo(np.int64).max)
    np.testing.assert_allclose(np.asarray(lazy_of(large).preview(scale=0.5)), 2.0**63)
    holes = np.full((2, 4, 4), np.nan)
    holes[0, 0, 0], holes[0, 0, 1] = 3, np.inf
    picture = lazy_of(holes).preview(scale=0.5)[0]
    assert picture[0, 0] == 3
    assert np.isnan(picture[1, 1])


def test_a_preview_is_an_array_like_any_other() -> None:
    """It pickles, converts to xarray with its times, and is read-only."""
    values = RANDOM.integers(0, 256, (12, 8, 8), np.uint8)
    found = lazy_of(values, attrs={"units": "counts"}).preview(n=3, scale=0.5)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again, found)
    labelled = found.to_xarray()
    assert labelled.dims == ("time", "y", "x")
    assert labelled.attrs["units"] == "counts"
    np.testing.assert_allclose(labelled.sel(time=6.1, method="nearest"), found[-1])
    with pytest.raises(ValueError, match="read-only"):
        found[0][0, 0] = 1
    assert lazy_of(values).preview(n=1).coords["first_frame"].tolist() == [5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.preview(0), "preview of n=0 pictures; expected an integer of at least 1"),
        (lambda a: a.preview(2.5), "preview of n=2.5 pictures"),
        (lambda a: a.preview(scale=0), "preview at scale=0; expected a number above 0, at most 1"),
        (lambda a: a.preview(scale="a"), "preview at scale=.a.; expected a number above 0, at most 1"),
        (lambda a: a.preview(scale=2), "preview at scale=2"),
    ],
)
def test_bad_requests_are_refused(call: Any, message: str) -> None:
    """Before anything is read."""
    with pytest.raises(UsageError, match=message):
        call(LazyArray(SealedReader(np.zeros((4, 3, 2)), (1, 3, 2))))


def test_complex_values_have_no_picture() -> None:
    """Nor has text."""
    with pytest.raises(UsageError, match="holds complex64 of shape"):
        LazyArray(SealedReader(np.zeros((4, 3, 2), "c8"), (1, 3, 2))).preview()


def test_pictures_beyond_the_memory_budget_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it would need, and reads nothing."""
    monkeypatch.setenv("LAZYSTORE_MEMORY_BYTES", "50MB")
    large = np.broadcast_to(np.zeros(1, "u1"), (100, 4000, 4000))
    lazy = LazyArray(SealedReader(large, (1, 4000, 4000)))
    with pytest.raises(MemoryBudgetError, match="would load 176000000 bytes; the memory budget is 50000000"):
        lazy.preview(n=10, scale=1)
