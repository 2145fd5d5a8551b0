"""Small pictures of large arrays."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.reading import read_selection
from lazystore.array.view import View
from lazystore.chunks import ceil_div
from lazystore.errors import UsageError


def stretched(values: NDArray[Any], percentile: tuple[float, float] = (2, 98)) -> NDArray[np.uint8]:
    """Grey values whose two percentiles are 0 and 255; what is not finite is 0.

    Parameters
    ----------
    values
        Any shape, real.

    >>> stretched(np.array([0.0, 1.0, np.nan, 2.0]), (0, 100)).tolist()
    [0, 128, 0, 255]
    """
    numbers = np.asarray(values, np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        return np.zeros(numbers.shape, np.uint8)
    low, high = np.percentile(numbers[finite], percentile)
    scale = 255 / (high - low) if high > low else 0.0
    grey = np.clip((np.where(finite, numbers, low) - low) * scale, 0, 255)
    return np.asarray(np.where(finite, np.rint(grey), 0), np.uint8)


def thumbnail_from_frames(view: View, n_frames: int, max_side: int) -> NDArray[np.uint8]:
    """Evenly spread frames, subsampled, their largest value, stretched to 0-255.

    Raises
    ------
    UsageError
        For no frames, no pixels, or values that are not real numbers.
    """
    if n_frames < 1 or max_side < 1:
        raise UsageError(
            f"thumbnail of {n_frames!r} frames with sides of {max_side!r} values; both must be at least 1"
        )
    if view.reader.spec.dtype.kind not in "biuf" or not view.shape:
        raise UsageError(
            f"{view.name!r} holds {view.reader.spec.dtype} of shape {view.shape}: no picture of it"
        )
    kept = view.without_missing()
    n_kept = kept.shape[0]
    if not n_kept:
        raise UsageError(f"{view.name!r} has no frame to show; all {view.shape[0]} are missing")
    places = np.unique(np.rint(np.linspace(0, n_kept - 1, min(n_frames, n_kept))).astype(np.intp))
    step = max(1, ceil_div(max(view.shape[1:], default=1), max_side))
    # Colours are not subsampled.
    steps = [1 if size <= 4 else step for size in view.shape[1:]]
    brightest: NDArray[Any] | None = None
    for place in places:
        one = kept.pick([int(place), *(slice(None, None, every) for every in steps)])
        frame = read_selection(one.reader, one.selection)
        # fmax: a NaN hides no value.
        brightest = frame if brightest is None else np.fmax(brightest, frame)
    assert brightest is not None
    return stretched(brightest)


def png(image: NDArray[np.uint8]) -> bytes:
    """A PNG file of a grey (y, x) or colour (y, x, 3 or 4) image, without a library for it."""
    height, width = image.shape[:2]
    color_type = {2: 0, 3: {3: 2, 4: 6}.get(image.shape[-1], 0)}[image.ndim]
    # Every line begins with its filter; 0 is none.
    lines = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
