"""Reprs, thumbnails and previews: honest, small, and never an error of their own."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from lazystore.array import Coordinate, LazyArray
from lazystore.array.display import SPAN_LABELS
from lazystore.array.preview import png, stretched
from lazystore.errors import UsageError
from tests.array.fakes import MemoryReader, SealedReader


def movie(
    shape: tuple[int, ...], chunks: tuple[int, ...], reader: Any = MemoryReader, **options: Any
) -> LazyArray:
    values = (np.arange(np.prod(shape)) % 256).reshape(shape).astype("u1")
    time = Coordinate(("time",), np.arange(shape[0]) / 10, {"units": "s"})
    return LazyArray(reader(values, chunks), name="cam", coords={"time": time}, **options)


def image_in(html: str) -> Any:
    found = re.search(r"base64,([^']+)'", html)
    return None if found is None else iio.imread(BytesIO(base64.b64decode(found[1])))


def test_the_repr_tells_sizes_span_units_and_what_is_missing() -> None:
    """And reads no data."""
    lazy = movie((20, 6, 5), (1, 6, 5), SealedReader, attrs={"units": "counts"}, missing=[(3, 5)])
    assert repr(lazy).splitlines() == [
        "<LazyArray 'cam' (time: 20, y: 6, x: 5) uint8, 600 B>",
        "  time     0 … 1.9 s",
        "  units    counts",
        "  chunks   (1, 6, 5)",
        "  missing  2 of 20 frames",
    ]


def test_the_html_repr_shows_the_middle_frame_from_one_chunk() -> None:
    """The thumbnail is the middle frame, at a size for reading, stretched."""
    lazy = movie((9, 400, 300), (1, 400, 300))
    html = lazy._repr_html_()
    assert lazy.reader.read == [(4, 0, 0)]
    np.testing.assert_array_equal(image_in(html), stretched(lazy[4][::3, ::3]))
    assert "0 … 0.8 s" in html
    assert "<b>cam</b>" in html


def test_colour_frames_keep_their_colours() -> None:
    """uint8 colour is shown as it is."""
    lazy = movie((3, 8, 6, 3), (1, 8, 6, 3))
    np.testing.assert_array_equal(image_in(lazy._repr_html_()), lazy[1])


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [((9, 40), (1, 40)), ((9, 6, 5), (1, 3, 5)), ((0, 6, 5), (1, 6, 5)), ((2, 6000, 3000), (1, 6000, 3000))],
    ids=["no image", "frame in two chunks", "no frame", "large chunk"],
)
def test_without_a_cheap_image_the_html_repr_has_none(
    shape: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    """No chunk is read then."""
    lazy = LazyArray(SealedReader(np.zeros(shape, "u1"), chunks))
    assert image_in(lazy._repr_html_()) is None


def test_a_missing_middle_frame_is_stepped_over() -> None:
    """Filler is not shown; where all is lost, nothing is."""
    lazy = movie((9, 8, 6), (1, 8, 6), missing=[(4, 5)])
    assert image_in(lazy._repr_html_()) is not None
    assert (4, 0, 0) not in lazy.reader.read
    assert image_in(movie((2, 8, 6), (1, 8, 6), SealedReader, missing=[(0, 2)])._repr_html_()) is None


def test_names_and_labels_cannot_inject_html() -> None:
    """What a file is called is text."""
    lazy = LazyArray(MemoryReader(np.zeros((2, 3)), (1, 3)), name="<script>", attrs={"units": "<b>"})
    assert "<script>" not in lazy._repr_html_()
    assert "&lt;script&gt;" in lazy._repr_html_()


def test_labels_that_cannot_be_read_or_are_too_many_do_not_break_the_repr() -> None:
    """A repr is read when something is wrong."""

    def broken() -> Any:
        raise OSError("gone")

    reader = SealedReader(np.broadcast_to(np.zeros(1, "u1"), (SPAN_LABELS + 1, 1)), (1, 1))
    lazy = LazyArray(reader, coords={"time": broken})
    assert "time    (time)" in repr(lazy)
    assert "unreadable: OSError" in repr(lazy[:10])
    assert "y" in repr(LazyArray(SealedReader(np.zeros((2, 3)), (1, 3)), coords={"y": np.arange(3)})[:, 1])


def test_a_thumbnail_is_the_brightest_of_evenly_spread_frames() -> None:
    """Ten frames are read, not the movie; sides are subsampled, colours are not."""
    lazy = movie((101, 40, 30), (1, 40, 30))
    picture = lazy.thumbnail(max_side=20)
    assert [index[0] for index in lazy.reader.read] == [0, 11, 22, 33, 44, 56, 67, 78, 89, 100]
    frames = lazy[sorted({index[0] for index in lazy.reader.read})]
    np.testing.assert_array_equal(picture, stretched(frames.max(axis=0)[::2, ::2]))
    assert movie((3, 400, 6, 3), (1, 400, 6, 3)).thumbnail(2).shape == (134, 2, 3)
    assert movie((3, 8, 6), (1, 8, 6), missing=[(0, 1)]).thumbnail().shape == (8, 6)
    assert movie((5, 70), (5, 70)).thumbnail().shape == (70,)
    with pytest.raises(UsageError, match="thumbnail of 0 frames"):
        lazy.thumbnail(0)
    with pytest.raises(UsageError, match="'cam' has no frame to show; all 2 are missing"):
        movie((2, 8, 6), (1, 8, 6), missing=[(0, 2)]).thumbnail()


def test_stretching_ignores_what_is_not_finite() -> None:
    """NaN is black and does not decide the range; a constant is black."""
    assert stretched(np.array([np.nan, np.inf])).tolist() == [0, 0]
    assert stretched(np.array([5, 5])).tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_our_png_is_what_other_programs_read(shape: tuple[int, ...]) -> None:
    """Grey, colour and colour with opacity."""
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(iio.imread(BytesIO(png(image))), image)
