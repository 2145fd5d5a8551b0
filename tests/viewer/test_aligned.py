"""What napari is handed: lazy along the slider, blank outside the recording."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lazystore.errors import MissingFrameError
from lazystore.viewer.aligned import AlignedMovie
from lazystore.viewer.timeline import RegularSamples, Timeline

FRAMES = np.arange(10 * 4 * 5, dtype=np.uint8).reshape(10, 4, 5)


class CountedMovie:
    """Frames that say which of them were read; one of them was lost."""

    shape, dtype = FRAMES.shape, FRAMES.dtype

    def __init__(self, lost: int | None = None) -> None:
        self.read: list[int] = []
        self.lost = lost

    def __getitem__(self, index: int) -> Any:
        if index == self.lost:
            raise MissingFrameError("lost")
        self.read.append(index)
        return FRAMES[index]


@pytest.fixture
def movie() -> CountedMovie:
    return CountedMovie()


@pytest.fixture
def aligned(movie: CountedMovie) -> AlignedMovie:
    # The slider steps 0.5 s from 0 to 7.5 s; the movie runs from 2 to 6.5 s in steps of 0.5 s.
    return AlignedMovie(movie, RegularSamples(2.0, 0.5, 10), Timeline(0.0, 0.5, 16))


def test_each_step_shows_the_frame_of_its_second(aligned: AlignedMovie) -> None:
    """Step 4 is second 2, which is frame 0; before and after the movie there is nothing."""
    assert aligned.shape == (16, 4, 5)
    np.testing.assert_array_equal(aligned[4], FRAMES[0])
    np.testing.assert_array_equal(aligned[13:14, :, 1:3], FRAMES[9:10, :, 1:3])
    assert not aligned[3].any()
    assert not aligned[15].any()
    np.testing.assert_array_equal(np.asarray(aligned)[4:14], FRAMES)


def test_slices_over_time_read_nothing(aligned: AlignedMovie, movie: CountedMovie) -> None:
    """All of time, cut or not, is a view; a step of the view reads one frame."""
    whole, cut = aligned[:], aligned[:, 1:3, ...]
    assert whole.shape == (16, 4, 5)
    assert cut.shape == (16, 2, 5)
    assert movie.read == []
    np.testing.assert_array_equal(cut[6:7], FRAMES[2:3, 1:3])
    np.testing.assert_array_equal(cut[6], FRAMES[2, 1:3])
    assert movie.read == [2, 2]
    np.testing.assert_array_equal(np.asarray(cut[4:6]), FRAMES[:2, 1:3])


def test_a_lost_frame_is_blank() -> None:
    """A viewer goes on over a frame that the recording lost."""
    aligned = AlignedMovie(CountedMovie(lost=1), RegularSamples(0.0, 1.0, 10), Timeline(0.0, 1.0, 10))
    assert not aligned[1].any()
    assert aligned[2].any()


def test_blank_floats_are_nan() -> None:
    """A scalar movie's blank is no value at all."""
    values = np.ones((2, 3, 3), np.float32)
    aligned = AlignedMovie(values, RegularSamples(5.0, 1.0, 2), Timeline(0.0, 1.0, 8))
    assert np.isnan(aligned[0]).all()
    assert (aligned[5] == 1).all()
