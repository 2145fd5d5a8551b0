"""Where bins lie in a frame."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lazystore.errors import UsageError
from lazystore.render.layout import FrameLayout, frame_layout

from .conftest import grid_environment


def test_a_grid_lies_on_its_side_and_upside_down() -> None:
    """x runs to the right and y up, while an image's rows run down."""
    pixels = frame_layout(grid_environment((2, 3), None)).bin_of_pixel().reshape(3, 2)
    assert pixels.tolist() == [[2, 5], [1, 4], [0, 3]]


def test_pixels_without_a_bin_are_marked() -> None:
    """Inactive bins get the number after the last bin."""
    mask = np.array([[True, False], [False, True]])
    assert frame_layout(grid_environment((2, 2), mask)).bin_of_pixel().reshape(2, 2).tolist() == [
        [2, 1],
        [0, 2],
    ]


@pytest.mark.parametrize("shape", [(7,), (2, 3, 4)])
def test_only_two_dimensional_grids_become_images(shape: tuple[int, ...]) -> None:
    """Everything else stays a row of bins."""
    n_bins = int(np.prod(shape))
    layout = frame_layout(grid_environment(shape, None))
    assert layout.frame_shape == (n_bins,)
    assert layout.bin_of_pixel().tolist() == list(range(n_bins))


def test_an_active_mask_that_does_not_fit_is_refused() -> None:
    """The error has all three numbers."""
    env = grid_environment((2, 2), np.array([[True, False], [False, True]]))
    env.n_bins = 3
    with pytest.raises(UsageError, match=r"grid \(2, 2\) has 2 active of 4 bins, but the environment says 3"):
        frame_layout(env).bin_of_pixel()


def test_what_is_no_environment_is_refused() -> None:
    """The error says what would be one."""
    with pytest.raises(UsageError, match=r"env is 'SimpleNamespace': expected a neurospatial Environment"):
        frame_layout(SimpleNamespace(), (3,))
    with pytest.raises(UsageError, match=r"fields of shape \(time, \*\(3,\)\) need an environment"):
        frame_layout(None, (3,))


def test_fields_of_another_environment_are_refused() -> None:
    """At once, where their shape is known."""
    env = grid_environment((2, 3), None)
    with pytest.raises(UsageError, match=r"Field has 5 values but environment has 6 bins.*\(time, 6\)"):
        frame_layout(env, (5,))
    with pytest.raises(UsageError, match=r"Field has shape \(4, 4\) of values but environment has 6 bins"):
        frame_layout(env, (4, 4))


def test_a_frame_too_large_to_number_its_bins_is_refused() -> None:
    """Bins are numbered with 32 bits."""
    with pytest.raises(UsageError, match="larger than the 4294967294 that can be painted"):
        frame_layout(None, (2**16, 2**16))


def test_layouts_know_their_sizes() -> None:
    """Values and pixels differ where bins are inactive."""
    layout = FrameLayout((3,), (2, 2), (2, 2), np.array([[True, True], [True, False]]))
    assert (layout.n_values, layout.n_pixels) == (3, 4)
