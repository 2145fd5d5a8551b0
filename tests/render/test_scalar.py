"""Fields as plain values for the graphics card."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.render import ScalarFieldImages
from lazystore.render.views import FramesView

from .conftest import grid_environment

MASK = np.array([[True, False, True], [True, True, False]])
ENV = grid_environment((2, 3), MASK)
VALUES = np.random.default_rng(0).random((10, 4)).astype("f4")
MOVIE = np.full((10, 3, 2), np.nan, "f4")
MOVIE[:, 2, 0], MOVIE[:, 0, 0], MOVIE[:, 2, 1], MOVIE[:, 1, 1] = VALUES.T


class CountingFields:
    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> NDArray[Any]:
        self.reads.append(index)
        return self.values[index]


def test_values_lie_where_their_bins_lie() -> None:
    """A grid on its side and upside down, NaN where it has no bin."""
    images = ScalarFieldImages(ENV, VALUES)
    assert (images.shape, images.dtype, images.ndim, len(images)) == ((10, 3, 2), np.float32, 3, 10)
    np.testing.assert_array_equal(np.asarray(images), MOVIE)
    np.testing.assert_array_equal(images[-1], MOVIE[-1])
    assert (images.size, images.nbytes) == (60, 240)


@pytest.mark.parametrize(
    ("own", "shown"),
    [("f2", "f4"), ("f4", "f4"), ("f8", "f4"), ("bool", "u1"), ("u1", "u1"), ("i1", "i1"), ("u2", "u2"),
     ("i2", "i2"), ("i4", "f4"), ("u8", "f4"), (">u2", "u2"), (">f4", "f4")],
)  # fmt: skip
def test_values_keep_a_dtype_that_is_uploaded_as_it_is(own: str, shown: str) -> None:
    """Anything else becomes float32 once, instead of at every step in the viewer."""
    values = np.array([[0, 1, 1, 0]]).astype(own)
    for fields in (values, list(values)):
        images = ScalarFieldImages(ENV, fields)
        assert images.dtype == np.dtype(shown)
        assert images.dtype.isnative
        empty = images[0][0, 1]
        assert np.isnan(empty) if images.dtype.kind == "f" else empty == 0
        assert images[0][2, 1] == 1


def test_a_dtype_may_be_chosen() -> None:
    assert ScalarFieldImages(ENV, VALUES, dtype="u2")[0].dtype == np.uint16
    with pytest.raises(
        UsageError, match=r"dtype is 'float64': expected one of \['f4', 'i1', 'i2', 'u1', 'u2'\]"
    ):
        ScalarFieldImages(ENV, VALUES, dtype="f8")


def test_bins_without_a_grid_are_one_row() -> None:
    images = ScalarFieldImages(grid_environment((4,), None), VALUES)
    assert images.shape == (10, 1, 4)
    np.testing.assert_array_equal(images[3], VALUES[3:4])
    np.testing.assert_array_equal(ScalarFieldImages(None, MOVIE)[2], MOVIE[2])


def test_contrast_limits_are_given_or_found() -> None:
    """Found when they are first asked for, not when the movie is made."""
    fields = CountingFields(VALUES)
    images = ScalarFieldImages(ENV, fields, contrast_limits=(0.25, 0.5))
    assert images.contrast_limits == (0.25, 0.5)
    assert fields.reads == []
    assert ScalarFieldImages(ENV, VALUES).contrast_limits == (VALUES.min(), VALUES.max())


def test_what_napari_asks_for_reads_that_frame_only() -> None:
    """A slice of length 1 along time gives values; a longer one reads nothing, however it is cut."""
    fields = CountingFields(VALUES)
    images = ScalarFieldImages(ENV, fields)
    step = images[slice(4, 5), slice(None), slice(None)]
    assert isinstance(step, np.ndarray)
    np.testing.assert_array_equal(step, MOVIE[4:5])
    cut = images[:, 0:2, 1:2]
    assert isinstance(cut, FramesView)
    assert (cut.shape, cut.dtype, cut.ndim, len(cut)) == ((10, 2, 1), np.float32, 3, 10)
    assert fields.reads == [4]
    np.testing.assert_array_equal(cut[4:5], MOVIE[4:5, 0:2, 1:2])
    assert fields.reads == [4]
    np.testing.assert_array_equal(cut[[7, 2]], MOVIE[[7, 2], 0:2, 1:2])
    assert fields.reads == [4, 7, 2]


SLICES = st.tuples(st.slices(10), st.slices(3), st.slices(2))
LAST = st.one_of(
    st.slices(10), st.integers(0, 9), st.lists(st.integers(0, 9), max_size=3),
    st.tuples(st.slices(10), st.slices(3)), st.just(...), st.just((..., slice(1))),
    st.just((slice(None), ..., 0)),
)  # fmt: skip


@given(first=SLICES, second=SLICES, last=LAST)
def test_views_of_views_are_numpys(first: Any, second: Any, last: Any) -> None:
    """Slices in any direction, one upon the other, then values."""
    expected, images = MOVIE, ScalarFieldImages(ENV, VALUES)
    got: Any = images
    for index in (first, second, last):
        try:
            expected = expected[index]
        except IndexError:
            with pytest.raises(IndexError):
                got[index]
            return
        got = got[index]
        assert got.shape == expected.shape
        if isinstance(got, np.ndarray):
            break
    np.testing.assert_array_equal(np.asarray(got), expected)


def test_frames_are_read_only_and_kept() -> None:
    fields = CountingFields(VALUES)
    images = ScalarFieldImages(ENV, fields, cache_bytes=2 * 24)
    for index in (0, 1, 0, 2, 0):
        with pytest.raises(ValueError, match="read-only"):
            images[index][...] = 0
    assert fields.reads == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        images[2:6][0][...] = 0


def test_a_frame_that_is_not_there_is_an_index_error() -> None:
    images = ScalarFieldImages(ENV, VALUES)
    with pytest.raises(IndexError, match="Frame index 10 out of range for 10 frames"):
        images[10]
    with pytest.raises(IndexError, match="Frame index -4 out of range for 3 frames"):
        images[2:5][-4]


def test_a_field_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(UsageError, match="Field has 5 values but environment has 4 bins"):
        ScalarFieldImages(ENV, [np.zeros(4), np.zeros(5)])[1]


def test_it_pickles() -> None:
    images = ScalarFieldImages(ENV, VALUES, contrast_limits=(0.0, 2.0), cache_bytes=24)
    copy = pickle.loads(pickle.dumps(images))
    assert copy.contrast_limits == (0.0, 2.0)
    np.testing.assert_array_equal(copy[1:4], images[1:4])
