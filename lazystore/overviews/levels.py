"""Which overviews a movie gets: how many frames a bin, how small a picture, within what it may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazystore.chunks import ceil_div
from lazystore.errors import UsageError
from lazystore.schema import JSON

GROUP = "overview"
MODES = ("none", "preview", "exact")
# Of the bytes that the movie takes: together well below 15 %, since what overviews compress to is
# only known afterwards.
EXACT_SHARE, PREVIEW_SHARE = 0.09, 0.04
# A video's packets are small already: pictures of it may take this share, or these bytes at least.
ENCODED_SHARE, ENCODED_LEAST_BYTES = 0.1, 64 * 1024
# Measured on camera frames and place fields: stored bytes a decoded byte of sums, of small pictures.
EXACT_RATIO, PREVIEW_RATIO = 0.7, 0.6
# On six videos small pictures took 0.58 to 1.0 of their bytes. What is stored follows the number above.
EXPECTED_PREVIEW_RATIO = 0.85
# From one exact level to the next: few bins cover any range, and all levels take 4/3 of the first.
STEP = 4
# A task keeps its part of every sum: of 32 frames a quarter of what they take, a tenth of a conversion.
MIN_TASK_FRAMES = 64
# Half a second of a usual camera; a preview of every fourth frame would cost three times the time.
MIN_BIN, MAX_BIN = 16, 65_536
# Pixels along the longer side of a small picture; fewer, but not below the second, where there would
# otherwise be too few pictures to see a recording's course.
PREVIEW_SIDE, LEAST_PREVIEW_SIDE = 96, 24
ENOUGH_PICTURES = 16


@dataclass(frozen=True, slots=True)
class Preview:
    """Small pictures: the mean, smallest and largest value of `n` frames and `factor` squared pixels."""

    n: int
    factor: int


@dataclass(frozen=True, slots=True)
class Levels:
    """The overviews of a movie.

    Attributes
    ----------
    exact
        Frames a bin of the levels that keep every pixel, ascending, each `STEP` times the one before.
    preview
        The small pictures, or None.
    """

    exact: tuple[int, ...] = ()
    preview: Preview | None = None

    def __bool__(self) -> bool:
        return bool(self.exact) or self.preview is not None

    @property
    def bins(self) -> tuple[int, ...]:
        """Frames a bin of every level."""
        return self.exact if self.preview is None else (*self.exact, self.preview.n)

    def to_json(self) -> dict[str, JSON]:
        """What ``attrs.lazystore.overview`` says."""
        preview = self.preview
        return {
            "exact": list(self.exact),
            "preview": None if preview is None else {"n": preview.n, "factor": preview.factor},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any] | None) -> Levels:
        """The levels of an item; none for one that says nothing of them."""
        if not record:
            return cls()
        preview = record.get("preview")
        return cls(
            tuple(int(n) for n in record.get("exact", ())),
            None if preview is None else Preview(int(preview["n"]), int(preview["factor"])),
        )


def has_overviews(dtype: np.dtype[Any]) -> bool:
    """Whether values of a type can be summed exactly: not eight-byte integers, not complex ones.

    >>> has_overviews(np.dtype("u1")), has_overviews(np.dtype("i8")), has_overviews(np.dtype("c8"))
    (True, False, False)
    """
    return dtype.kind == "f" or (dtype.kind in "biu" and dtype.itemsize <= 4)


def is_image(dims: Sequence[str]) -> bool:
    """Whether frames are pictures, which can be made smaller.

    >>> is_image(("time", "y", "x")), is_image(("time", "bin"))
    (True, False)
    """
    return tuple(dims[1:3]) == ("y", "x") and len(dims) <= 4


def exact_dtypes(dtype: np.dtype[Any], n_frames: int) -> dict[str, np.dtype[Any]]:
    """What an exact level keeps of a bin of `n_frames`, and how: no sum can overflow.

    >>> {name: dtype.name for name, dtype in exact_dtypes(np.dtype("u1"), 256).items()}
    {'sum': 'uint16', 'sum_squares': 'uint32', 'min': 'uint8', 'max': 'uint8'}
    """
    if dtype.kind == "f":
        wide = np.dtype(np.float64)
        return {
            "sum": wide, "squared_deviations": wide, "min": dtype, "max": dtype,
            "valid_count": np.min_scalar_type(n_frames),
        }  # fmt: skip
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    total = np.min_scalar_type(high * n_frames)
    if low < 0:
        total = np.min_scalar_type(low * n_frames)
    kept = {"sum": total}
    if dtype.itemsize <= 2:
        kept["sum_squares"] = np.min_scalar_type(max(high, -low) ** 2 * n_frames)
    return {**kept, "min": dtype, "max": dtype}


def exact_bytes(shape: Sequence[int], dtype: np.dtype[Any], n: int) -> int:
    """Decoded bytes of all exact levels that begin with bins of `n` frames."""
    n_values = math.prod(shape[1:])
    return sum(
        ceil_div(shape[0], bin_frames) * n_values * sum(d.itemsize for d in exact_dtypes(dtype, n).values())
        for bin_frames in exact_levels(shape[0], n)
    )


def exact_levels(n_frames: int, first: int) -> tuple[int, ...]:
    """Bins of `first` frames, and coarser ones as long as there are several of them.

    >>> exact_levels(5000, 256), exact_levels(100, 256)
    ((256, 1024, 4096), (256,))
    """
    levels = [first]
    while levels[-1] * STEP < n_frames:
        levels.append(levels[-1] * STEP)
    return tuple(levels)


def preview_shape(shape: Sequence[int], preview: Preview) -> tuple[int, ...]:
    """Shape of the small pictures: (time, y, x[, channel]).

    >>> preview_shape((1000, 480, 640), Preview(8, 8))
    (125, 60, 80)
    """
    frames, height, width, *channels = shape
    small = (ceil_div(size, preview.factor) for size in (height, width))
    return (ceil_div(frames, preview.n), *small, *channels)


def choose_levels(
    shape: Sequence[int],
    dims: Sequence[str],
    dtype: np.dtype[Any],
    stored_bytes: int,
    mode: str | None = None,
    *,
    task_frames: int = MAX_BIN,
    is_encoded: bool = False,
) -> Levels:
    """The overviews of a movie, as fine as what they may cost allows.

    Parameters
    ----------
    shape, dims, dtype
        Of the frames.
    stored_bytes
        What the movie takes on disk, or is expected to.
    mode
        ``"none"``; ``"preview"``: small pictures only; ``"exact"``: also sums and extremes of every
        pixel, whatever they cost; None for both where they cost little: less than a seventh of the
        movie on disk, and frames so small that a task has 64 of them.
    task_frames
        Frames that are converted at once.
    is_encoded
        The movie is a video's packets, beside which every sum would be large: None means preview.

    Raises
    ------
    UsageError
        For another mode.

    >>> choose_levels((20_000, 480, 640), ("time", "y", "x"), np.dtype("u1"), 2_000_000_000)
    Levels(exact=(512, 2048, 8192), preview=Preview(n=16, factor=8))
    """
    if mode is not None and mode not in MODES:
        raise UsageError(f"overview {mode!r} is unknown; expected {', '.join(MODES)}")
    if mode == "none" or not has_overviews(dtype) or math.prod(shape) == 0 or len(shape) < 2:
        return Levels()
    exact: tuple[int, ...] = ()
    if mode == "exact" or (mode is None and not is_encoded and task_frames >= MIN_TASK_FRAMES):
        exact = _choose_exact(shape, dtype, EXACT_SHARE * stored_bytes, must=mode == "exact")
    preview = None
    if is_image(dims):
        least = ENCODED_LEAST_BYTES if is_encoded else 0
        share = (ENCODED_SHARE if is_encoded else PREVIEW_SHARE) * stored_bytes
        preview = _choose_preview(shape, dtype, max(least, share), exact)
    return Levels(exact, preview)


def estimated_bytes(levels: Levels, shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """What the overviews of a movie are expected to take on disk."""
    total = 0.0
    if levels.exact:
        total += EXACT_RATIO * exact_bytes(shape, dtype, levels.exact[0])
    if levels.preview is not None:
        total += EXPECTED_PREVIEW_RATIO * _preview_bytes(shape, dtype, levels.preview)
    return int(total)


def memory_bytes(levels: Levels, shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """What a task holds beside its frames while it adds them up: sums of one bin, and of its share."""
    n_values = math.prod(shape[1:])
    per_value = 5 * 8 if dtype.kind == "f" else 2 * 8 + 2 * dtype.itemsize
    return 2 * n_values * per_value if levels else 0


def _preview_bytes(shape: Sequence[int], dtype: np.dtype[Any], preview: Preview) -> int:
    """Decoded bytes of mean, smallest and largest values."""
    return 3 * dtype.itemsize * math.prod(preview_shape(shape, preview))


def _choose_exact(
    shape: Sequence[int], dtype: np.dtype[Any], max_bytes: float, *, must: bool
) -> tuple[int, ...]:
    n = MIN_BIN
    while True:
        if exact_bytes(shape, dtype, n) * EXACT_RATIO <= max_bytes:
            return exact_levels(shape[0], n)
        if n >= min(shape[0], MAX_BIN):
            # One bin for all of it is the least that there is.
            return exact_levels(shape[0], n) if must else ()
        n *= 2


def _choose_preview(
    shape: Sequence[int], dtype: np.dtype[Any], max_bytes: float, exact: tuple[int, ...]
) -> Preview | None:
    """The largest pictures of which there are enough to tell the recording's course."""
    factor = 1
    while max(shape[1:3]) > PREVIEW_SIDE * factor:
        factor *= 2
    enough = min(ENOUGH_PICTURES, ceil_div(shape[0], 2 * MIN_BIN))
    largest: Preview | None = None
    while max(shape[1:3]) >= LEAST_PREVIEW_SIDE * factor or largest is None:
        preview = _finest(shape, dtype, max_bytes, exact, factor)
        largest = largest or preview
        if preview is not None and ceil_div(shape[0], preview.n) >= enough:
            return preview
        if max(shape[1:3]) <= factor:
            break
        factor *= 2
    return largest


def _finest(
    shape: Sequence[int], dtype: np.dtype[Any], max_bytes: float, exact: tuple[int, ...], factor: int
) -> Preview | None:
    """Pictures of one size, as many as may be."""
    preview = Preview(MIN_BIN, factor)
    while preview.n in exact or PREVIEW_RATIO * _preview_bytes(shape, dtype, preview) > max_bytes:
        if preview.n >= min(shape[0], MAX_BIN):
            return None
        preview = Preview(preview.n * 2, factor)
    return preview
