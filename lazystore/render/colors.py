"""From a field's values to colours, bit for bit as neurospatial computes them.

The index into the 256 colours is ``clip((value - vmin) / (vmax - vmin), 0, 1) * 255``, cut off to an
integer and computed in the precision that numpy gives the expression: float32 fields in float32.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lazystore.errors import UsageError
from lazystore.render import kernels
from lazystore.render.layout import FrameLayout, wrong_size

COLORS = 256
NO_BIN = 256  # index of the colour of pixels that show no bin: black


def colormap_lookup(name: str) -> NDArray[np.uint8]:
    """The 256 colours of a matplotlib colour map.

    Parameters
    ----------
    name
        As matplotlib knows it, e.g. ``"viridis"``.

    Returns
    -------
    np.ndarray
        Shape (256, 3), uint8, in [0, 255], cut off (not rounded) as neurospatial does.

    Raises
    ------
    ValueError
        If matplotlib knows no such map.
    """
    import matplotlib

    colors = matplotlib.colormaps.get_cmap(name)
    lookup: NDArray[np.uint8] = (colors(np.linspace(0, 1, COLORS))[:, :3] * 255).astype(np.uint8)
    return lookup


def color_indices(values: NDArray[Any], vmin: float, vmax: float) -> NDArray[np.uint8]:
    """The colour index of each value.

    Parameters
    ----------
    values
        Any shape, any real dtype.
    vmin, vmax
        Value of the first and of the last colour. Their type counts: a Python float takes the values'
        precision, a ``np.float64`` raises float32 values to its own.

    Returns
    -------
    np.ndarray
        Shape of `values`, uint8. 0 for NaN, -inf and below; 255 for +inf and above. Where vmax <= vmin
        or the range is not finite, all 127 (0 for integers, 255 for bool).

    Examples
    --------
    >>> color_indices(np.array([-1.0, 0.0, 0.5, 1.0, np.nan, np.inf]), 0.0, 1.0)
    array([  0,   0, 127, 255,   0, 255], dtype=uint8)
    >>> color_indices(np.array([3, 4]), 4.0, 4.0)
    array([0, 0], dtype=uint8)
    """
    span = vmax - vmin
    # Values far outside the range overflow on their way to the clip, which is where they belong.
    with np.errstate(all="ignore"):
        if not _is_range(span):
            middle = 1 if values.dtype == bool else np.full((), 0.5).astype(values.dtype)
            return np.full(values.shape, np.multiply(middle, 255, dtype=np.float64), np.uint8)
        try:
            level = (values - vmin) / span
        except OverflowError:  # a Python integer that the values' dtype cannot hold, e.g. -1 for uint8
            level = (values - float(vmin)) / float(span)
        level = np.clip(level, 0, 1)
        level[np.isnan(level)] = 0
        return (level * 255).astype(np.uint8)


class _Recipe(NamedTuple):
    """How values of one dtype are painted."""

    work: np.dtype[Any] | None  # what the values are converted to; None: indices by numpy
    bits: np.dtype[Any] | None  # ... and then viewed as, for the lookup by bits
    kind: kernels.Kind
    constants: tuple[Any, ...]  # the kernel's arguments between the number of bins and the colours


class FieldPainter:
    """Paints fields of any dtype into RGB frames; safe to use from several threads at once.

    Parameters
    ----------
    layout
        Where the bins lie.
    cmap_lookup
        Shape (256, 3), uint8.
    vmin, vmax
        Value of the first and of the last colour.

    Raises
    ------
    UsageError
        If `cmap_lookup` is no table of 256 RGB colours.
    """

    def __init__(self, layout: FrameLayout, cmap_lookup: ArrayLike, vmin: float, vmax: float) -> None:
        table = np.asarray(cmap_lookup)
        if table.ndim != 2 or table.shape[0] < COLORS or table.shape[1] != 3 or table.dtype != np.uint8:
            raise UsageError(
                f"cmap_lookup has shape {table.shape!r} and dtype {table.dtype.name!r}: expected (256, 3) "
                "uint8, as from lazystore.render.colormap_lookup('viridis')"
            )
        self.layout = layout
        self.vmin, self.vmax = vmin, vmax
        # The last colour is black, for pixels that show no bin.
        self._rgb = np.vstack([table[:COLORS], np.zeros((1, 3), np.uint8)])
        self._colors = self._rgb.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)
        self._n_values = layout.n_values
        self._value_shape = layout.value_shape
        self._frame_shape = (*layout.frame_shape, 3)
        self._frame_bytes = layout.n_pixels * 3
        self._recipes: dict[np.dtype[Any], _Recipe] = {}

    @cached_property
    def _bin_of_pixel(self) -> NDArray[np.uint32]:
        return self.layout.bin_of_pixel()

    def paint(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """One frame.

        Parameters
        ----------
        values
            Shape (bin,), or (y, x) for fields that are images; any real dtype.

        Returns
        -------
        np.ndarray
            Shape (y, x, 3) for a 2-D grid, else (bin, 3); uint8, read-only, C-contiguous.

        Raises
        ------
        UsageError
            If the number of values does not fit.
        """
        if values.shape != self._value_shape:
            raise UsageError(wrong_size(values.shape, self._n_values))
        return self._paint(values, 1).reshape(self._frame_shape)

    def paint_block(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Several frames at once: shape (time, bin) in, (time, y, x, 3) out, otherwise as `paint`."""
        if values.shape[1:] != self._value_shape:
            raise UsageError(wrong_size(values.shape[1:], self._n_values))
        return self._paint(values, len(values)).reshape(len(values), *self._frame_shape)

    def _paint(self, values: NDArray[Any], n_frames: int) -> NDArray[np.uint8]:
        recipe = self._recipes.get(values.dtype) or self._learn(values.dtype)
        if recipe.work is None:
            flat: NDArray[Any] = color_indices(values, self.vmin, self.vmax).ravel()
        else:
            flat = np.asarray(values, recipe.work, order="C").ravel()
            if not flat.flags.aligned:
                flat = flat.copy()
            if recipe.bits is not None:
                flat = flat.view(recipe.bits)
        kernel = kernels.compiled(recipe.kind)
        if kernel is None:
            frames = self._paint_with_numpy(flat, recipe, n_frames)
        else:
            frames = np.empty(n_frames * self._frame_bytes, np.uint8)
            kernel(flat, self._n_values, *recipe.constants, self._colors, self._bin_of_pixel, frames)
        frames.setflags(write=False)
        return frames

    def _paint_with_numpy(self, flat: NDArray[Any], recipe: _Recipe, n_frames: int) -> NDArray[np.uint8]:
        """The same frames without a compiled loop; flat, like the loop's."""
        index = np.full((n_frames, self._n_values + 1), NO_BIN, np.uint16)
        if recipe.kind in ("u1", "u2"):
            levels = recipe.constants[0].take(flat)
        else:
            levels = color_indices(flat, self.vmin, self.vmax)
        index[:, :-1] = levels.reshape(n_frames, self._n_values)
        return self._rgb.take(index.take(self._bin_of_pixel, axis=1), axis=0).ravel()

    def _learn(self, dtype: np.dtype[Any]) -> _Recipe:
        # Threads that meet a dtype at the same moment make the same recipe twice, which does no harm.
        recipe = self._recipes[dtype] = _recipe(dtype, self.vmin, self.vmax)
        return recipe


def _recipe(dtype: np.dtype[Any], vmin: float, vmax: float) -> _Recipe:
    if dtype.kind in "biuf" and dtype.itemsize <= 2:
        # All values there are, painted once: exact whatever the dtype's own arithmetic (float16, wrapping).
        bits = np.dtype(f"u{dtype.itemsize}")
        native = dtype.newbyteorder("=")
        index_of_level = color_indices(np.arange(256**dtype.itemsize).astype(bits).view(native), vmin, vmax)
        return _Recipe(native, bits, "u1" if bits.itemsize == 1 else "u2", (index_of_level,))
    work = _working_dtype(dtype, vmin, vmax)
    if work is None:
        return _Recipe(None, None, "u1", (np.arange(COLORS, dtype=np.uint8),))
    with np.errstate(over="ignore"):
        constants = tuple(np.array(number).astype(work)[()] for number in (vmin, vmax - vmin, 0, 1, 255))
    return _Recipe(work, None, "f4" if work == np.float32 else "f8", constants)


def _working_dtype(dtype: np.dtype[Any], vmin: float, vmax: float) -> np.dtype[Any] | None:
    """The one float dtype that numpy computes in, or None where a compiled loop would do otherwise."""
    span = vmax - vmin
    if dtype.kind not in "biuf" or not _is_range(span):
        return None
    nothing = np.empty(0, dtype)
    try:
        after_subtraction = (nothing - vmin).dtype
        after_division = ((nothing - vmin) / span).dtype
    except OverflowError:
        return None
    floats: tuple[DTypeLike, ...] = (np.float32, np.float64)
    return after_division if after_subtraction == after_division and after_division in floats else None


def _is_range(span: float) -> bool:
    """Whether colours can be spread over vmax - vmin. False for NaN."""
    return bool(span > 0 and np.isfinite(span))
