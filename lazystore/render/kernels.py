"""The painting loops, compiled by numba in the background.

Compiling takes 0.2 to 0.5 s (loading from numba's disk cache 0.05 s, importing numba up to 1.4 s on a
cold machine). The first frames must not wait for that: until a loop is ready, `compiled` answers None
and the caller paints with numpy, 5 to 8 times slower and bit for bit the same. At 60 frames a second the
slowest frame of 17,161 bins then took 6 to 10 ms, 23 ms where nothing was in numba's disk cache yet.
The very first frame is painted before any of that begins: the importing thread takes turns with the
painting one, which made 0.06 ms of a small frame 1 to 2 ms.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

type Kind = Literal["f4", "f8", "u1", "u2"]
type Kernel = Callable[..., None]

KINDS: tuple[Kind, ...] = ("f4", "f8", "u1", "u2")

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_ready: dict[str, Kernel] = {}
_compiling: dict[str, threading.Thread] = {}
# Asked for once.
_asked: set[str] = set()


def paint_values(
    values: NDArray[Any],
    n_values: int,
    lowest: Any,
    span: Any,
    zero: Any,
    one: Any,
    top: Any,
    colors: NDArray[np.uint32],
    bin_of_pixel: NDArray[np.uint32],
    out: NDArray[np.uint8],
) -> None:
    """Paint frames of float values; all arithmetic in the values' own precision.

    Parameters
    ----------
    values
        Shape (frame * bin,), float32 or float64.
    n_values
        Bins in one frame.
    lowest, span, zero, one, top
        vmin, vmax - vmin (> 0, finite), 0, 1 and 255, all as the dtype of `values`: a float64 constant
        would raise the precision and change indices.
    colors
        Shape (257,), 0xBBGGRR, the last one for pixels without a bin.
    bin_of_pixel
        Shape (pixel,), in [0, n_values]. Unsigned: a signed index may be negative, and checking for that
        doubles the time of the loop.
    out
        Shape (frame * pixel * 3,), written.
    """
    n_pixels = bin_of_pixel.size
    index = np.empty(n_values, np.uint8)
    for frame in range(values.size // n_values):
        first_value = frame * n_values
        for b in range(n_values):
            level = (values[first_value + b] - lowest) / span
            # NaN is not > 0, so this also gives it the lowest colour.
            level = level if level > zero else zero
            level = level if level < one else one
            index[b] = np.uint8(np.int32(level * top))
        image = out[frame * n_pixels * 3 : (frame + 1) * n_pixels * 3]
        for pixel in range(n_pixels):
            b = bin_of_pixel[pixel]
            color = colors[index[b]] if b < n_values else colors[256]
            image[3 * pixel] = color & 255
            image[3 * pixel + 1] = (color >> 8) & 255
            image[3 * pixel + 2] = (color >> 16) & 255


def paint_levels(
    values: NDArray[Any],
    n_values: int,
    index_of_level: NDArray[np.uint8],
    colors: NDArray[np.uint32],
    bin_of_pixel: NDArray[np.uint32],
    out: NDArray[np.uint8],
) -> None:
    """Paint frames of 1- or 2-byte values, whose colour index is looked up by their bits.

    Parameters
    ----------
    values
        Shape (frame * bin,), uint8 or uint16: the bits of any 1- or 2-byte dtype.
    index_of_level
        Shape (256,) or (65536,), the colour index of each bit pattern.
    n_values, colors, bin_of_pixel, out
        As in `paint_values`.
    """
    n_pixels = bin_of_pixel.size
    for frame in range(values.size // n_values):
        first_value = frame * n_values
        image = out[frame * n_pixels * 3 : (frame + 1) * n_pixels * 3]
        for pixel in range(n_pixels):
            b = bin_of_pixel[pixel]
            color = colors[index_of_level[values[first_value + b]]] if b < n_values else colors[256]
            image[3 * pixel] = color & 255
            image[3 * pixel + 1] = (color >> 8) & 255
            image[3 * pixel + 2] = (color >> 16) & 255


def compiled(kind: Kind) -> Kernel | None:
    """The compiled loop for values of this kind, or None while it is being made.

    Asking for the second time starts the making. Never blocks.
    """
    kernel = _ready.get(kind)
    if kernel is None and kind not in _compiling:
        if kind in _asked:
            _start(kind)
        _asked.add(kind)
    return kernel


def warm(*kinds: Kind) -> None:
    """Block until these loops (all, if none is named) are compiled, or known not to be."""
    for kind in kinds or KINDS:
        if kind not in _ready:
            _start(kind)
    for thread in list(_compiling.values()):
        if thread is not threading.current_thread():
            thread.join()


def _start(kind: Kind) -> None:
    with _lock:
        if kind in _compiling:
            return
        # "shared": belongs to the process, not to the renderer that happened to ask first.
        thread = threading.Thread(
            target=_compile, args=(kind,), name=f"lazystore-shared-compile-{kind}", daemon=True
        )
        _compiling[kind] = thread
        thread.start()


def _compile(kind: Kind) -> None:
    try:
        kernel = _build(kind)
    except Exception as error:  # a viewer goes on with numpy, whatever breaks in a compiler
        _log.warning("painting loop %s was not compiled, frames are painted with numpy: %s", kind, error)
        return
    if kernel is not None:
        _ready[kind] = kernel


def _build(kind: Kind) -> Kernel | None:
    import numba

    if getattr(numba.config, "DISABLE_JIT", False):
        return None  # the loops run as plain Python would be slower than numpy by a factor of 1000

    # Read-only inputs: a store's chunks are; numba passes writable arrays to such a signature as well,
    # but would compile a second time, at the wrong moment, if it were left to guess.
    def shared(scalar: Any) -> Any:
        return numba.types.Array(scalar, 1, "C", readonly=True)

    out = numba.types.Array(numba.types.uint8, 1, "C")
    colors_and_pixels = (shared(numba.types.uint32), shared(numba.types.uint32), out)
    body: Callable[..., None]
    inputs: tuple[Any, ...]
    if kind in ("f4", "f8"):
        body, scalar = paint_values, numba.types.float32 if kind == "f4" else numba.types.float64
        inputs = (shared(scalar), numba.types.intp, *[scalar] * 5)
    else:
        body, level = paint_levels, numba.types.uint8 if kind == "u1" else numba.types.uint16
        inputs = (shared(level), numba.types.intp, shared(numba.types.uint8))
    signature = numba.types.void(*inputs, *colors_and_pixels)
    try:
        kernel: Kernel = numba.njit(signature, nogil=True, cache=True, error_model="numpy")(body)
    except RuntimeError:  # nowhere to keep the compiled code: a read-only installation
        kernel = numba.njit(signature, nogil=True, error_model="numpy")(body)
    return kernel


def _finish_compiling() -> None:
    """Before a fork: a child born in the middle of an import could never import numba itself."""
    for thread in list(_compiling.values()):
        if thread is not threading.current_thread() and thread.is_alive():
            thread.join()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_finish_compiling)
