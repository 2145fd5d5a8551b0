"""Where each bin of an environment lies in a frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import UsageError

# Bins are numbered with uint32: half the memory traffic of 64 bits in the painting loop.
MAX_BINS = 2**32 - 2


@dataclass(frozen=True, slots=True, eq=False)
class FrameLayout:
    """How the values of one frame become an image.

    Attributes
    ----------
    value_shape
        Shape of one frame's values: (bin,), or (y, x) for fields that are images already.
    frame_shape
        Shape of one image without channels: (y, x), or (bin,) where there is no 2-D grid.
    grid_shape
        (nx, ny) of a 2-D grid, else None.
    active_mask
        Shape (nx, ny), bool, True where the grid has a bin; None when it has one everywhere.
    """

    value_shape: tuple[int, ...]
    frame_shape: tuple[int, ...]
    grid_shape: tuple[int, int] | None = None
    active_mask: NDArray[np.bool_] | None = None

    @property
    def n_values(self) -> int:
        """Values in one frame."""
        return math.prod(self.value_shape)

    @property
    def n_pixels(self) -> int:
        """Pixels in one frame."""
        return math.prod(self.frame_shape)

    def bin_of_pixel(self) -> NDArray[np.uint32]:
        """For each pixel the bin it shows, `n_values` where it shows none.

        A grid's first axis is x and its second is y upward; an image has y first and downward, so
        the grid is transposed and turned upside down.

        Returns
        -------
        np.ndarray
            Shape (n_pixels,), uint32, in [0, n_values].

        Raises
        ------
        UsageError
            If the active mask does not have one bin for each value.

        Examples
        --------
        >>> mask = np.array([[True, True], [False, True]])
        >>> FrameLayout((3,), (2, 2), (2, 2), mask).bin_of_pixel().reshape(2, 2)
        array([[1, 2],
               [0, 3]], dtype=uint32)
        """
        n_values = self.n_values
        if self.grid_shape is None:
            return np.arange(n_values, dtype=np.uint32)
        if self.active_mask is None:
            active = np.ones(math.prod(self.grid_shape), bool)
        else:
            active = np.asarray(self.active_mask, bool).ravel()
        if active.size != math.prod(self.grid_shape) or np.count_nonzero(active) != n_values:
            raise UsageError(
                f"grid {self.grid_shape!r} has {np.count_nonzero(active)} active of {active.size} bins, but "
                f"the environment says {n_values}: expected an active mask with one True for each bin"
            )
        bins = np.full(active.size, n_values, np.uint32)
        bins[active] = np.arange(n_values, dtype=np.uint32)
        return np.ascontiguousarray(bins.reshape(self.grid_shape).T[::-1]).ravel()


def frame_layout(env: Any, value_shape: tuple[int, ...] | None = None) -> FrameLayout:
    """The layout of an environment's frames.

    Parameters
    ----------
    env
        A neurospatial ``Environment``, or anything with `n_bins`, `grid_shape` and `active_mask`
        (the geometry kept in a store); None for fields that are images already.
    value_shape
        Shape of one frame's values, where it is known: (bin,) or (y, x).

    Raises
    ------
    UsageError
        If `env` is no environment, or the fields do not have one value for each of its bins.

    Notes
    -----
    Constant in the number of frames; reads no field. Only a 2-D grid becomes an image (y, x), and fields
    (time, y, x) are images as they are, their first row on top. Everything else (1-D, 3-D, hexagons,
    graphs) stays a row of bins.
    """
    if env is None:
        if value_shape is None or len(value_shape) != 2:
            raise UsageError(
                f"fields of shape (time, *{value_shape!r}) need an environment: expected env=..., "
                "or fields of shape (time, y, x)"
            )
        return _checked(FrameLayout(value_shape, value_shape))
    n_bins = getattr(env, "n_bins", None)
    if n_bins is None:
        raise UsageError(
            f"env is {type(env).__name__!r}: expected a neurospatial Environment or a store's geometry, "
            "with n_bins and, for a grid, grid_shape and active_mask"
        )
    n_bins = int(n_bins)
    grid_shape, active_mask = _grid_of(env)
    if value_shape is not None and value_shape != (n_bins,):
        if len(value_shape) == 2 and grid_shape is not None and sorted(value_shape) == sorted(grid_shape):
            return _checked(FrameLayout(value_shape, value_shape))
        raise UsageError(wrong_size(value_shape, n_bins))
    if grid_shape is None or len(grid_shape) != 2:
        return _checked(FrameLayout((n_bins,), (n_bins,)))
    nx, ny = (int(size) for size in grid_shape)
    return _checked(FrameLayout((n_bins,), (ny, nx), (nx, ny), active_mask))


def wrong_size(value_shape: tuple[int, ...], n_bins: int) -> str:
    """What to tell someone whose field does not fit the environment."""
    values = str(value_shape[0]) if len(value_shape) == 1 else f"shape {value_shape!r} of"
    return (
        f"Field has {values} values but environment has {n_bins} bins: expected fields of shape "
        f"(time, {n_bins}). Pass the environment that the fields were computed on."
    )


def _grid_of(env: Any) -> tuple[tuple[int, ...] | None, NDArray[np.bool_] | None]:
    """Grid shape and active mask of either kind of environment; (None, None) where there is no grid."""
    layout = getattr(env, "layout", None)
    if layout is not None:
        is_grid = bool(getattr(layout, "is_grid_compatible", False))
        holder = layout
    else:
        is_grid = getattr(env, "type", "grid") == "grid"
        holder = env
    grid_shape = getattr(holder, "grid_shape", None)
    if not is_grid or grid_shape is None:
        return None, None
    return tuple(grid_shape), getattr(holder, "active_mask", None)


def _checked(layout: FrameLayout) -> FrameLayout:
    if max(layout.n_values, layout.n_pixels) > MAX_BINS:
        raise UsageError(
            f"a frame of {layout.n_values} values is larger than the {MAX_BINS} that can be painted"
        )
    return layout
