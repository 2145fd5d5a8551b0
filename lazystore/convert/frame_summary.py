"""What a movie's single pass computes: per-frame statistics and histograms.

Each task gives its share; shares are laid end to end in task order. Integer sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.schema import JSON, ArraySpec, Codec

type Shares = Callable[[], Iterator[Mapping[str, NDArray[Any]]]]
type SidePieces = Callable[[], Iterable[NDArray[Any]]]

BYTE_LEVELS = 256
SHORT_LEVELS = 65_536
# Statistics are read whole and often, and are small: speed before size.
STATISTICS_CODEC = Codec("zstd", 3, "shuffle")
ROWS_A_CHUNK = 65_536

_DESCRIPTIONS = {
    "min": "smallest finite value of the frame",
    "max": "largest finite value of the frame",
    "sum": "sum over the frame's finite values",
    "sum_squares": "sum of squares over the frame's finite values",
    "valid_count": "finite values in the frame",
    "histogram": "number of values at each level",
    "nonfinite_count": "number of NaN, -inf and +inf",
}


def has_statistics(dtype: np.dtype[Any]) -> bool:
    """Whether statistics are kept for a movie of this dtype: every real number type.

    >>> has_statistics(np.dtype("u1")), has_statistics(np.dtype("c8"))
    (True, False)
    """
    return dtype.kind in "biuf"


def statistics_of_frames(frames: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """One task's share.

    Parameters
    ----------
    frames
        Shape (time, ...), any real dtype.

    Returns
    -------
    dict
        By path ``"stats/…"``: min, max (the frames' dtype), sum, sum_squares, valid_count, each
        (time,); histogram (time, 256) for one-byte values; (1, 65536) over the block for two-byte
        values and floats, whose bins are the top 16 bits of their order-preserving form; with
        floats nonfinite_count (1, 3). Wider integers have no histogram.
    """
    flat = np.ascontiguousarray(frames).reshape(len(frames), -1)
    if flat.dtype.kind == "b":
        flat = flat.view(np.uint8)
    if flat.dtype.kind == "f":
        return _of_floats(flat)
    share = _of_bytes(flat) if flat.dtype.itemsize == 1 else _of_integers(flat)
    share["stats/valid_count"] = np.full(len(flat), flat.shape[1], np.int64)
    return {path: share[path] for path in sorted(share)}


def _of_bytes(flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
    from lazystore.convert.frame_kernels import count_bytes

    n = len(flat)
    counts = np.empty((n, BYTE_LEVELS), np.uint32)
    low, high = np.empty(n, flat.dtype), np.empty(n, flat.dtype)
    totals, squares = np.empty(n, np.int64), np.empty(n, np.uint64)
    count_bytes(flat.view(np.uint8), np.iinfo(flat.dtype).min, counts, low, high, totals, squares)
    return {
        "stats/min": low,
        "stats/max": high,
        "stats/sum": totals,
        "stats/sum_squares": squares,
        "stats/histogram": counts,
    }


def _of_integers(flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
    share: dict[str, NDArray[Any]] = {"stats/min": flat.min(axis=1), "stats/max": flat.max(axis=1)}
    if flat.dtype.itemsize > 2:
        # Squares of wide integers leave 64 bits; the sum itself stays exact up to 2^31 values.
        exact = flat.dtype.itemsize == 4
        share["stats/sum"] = flat.sum(axis=1, dtype=np.int64 if exact else np.float64)
        share["stats/sum_squares"] = np.array([np.square(row, dtype=np.float64).sum() for row in flat])
        return share
    from lazystore.convert.frame_kernels import count_shorts

    totals = np.empty(len(flat), np.int64)
    squares = np.empty(len(flat), np.uint64)
    counts = np.zeros(SHORT_LEVELS, np.uint64)
    count_shorts(flat, 32_768 if flat.dtype.kind == "i" else 0, totals, squares, counts)
    return share | {
        "stats/sum": totals,
        "stats/sum_squares": squares,
        "stats/histogram": counts[None],
    }


def _of_floats(flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
    from lazystore.convert.frame_kernels import sum_floats

    n, bits = len(flat), flat.dtype.itemsize * 8
    keys = flat.view(f"u{flat.dtype.itemsize}")
    if flat.dtype.itemsize == 2:
        # Compiled loops have no half precision; widening is exact.
        values: NDArray[Any] = flat.astype(np.float32)
    else:
        values = flat
    minimum, maximum, totals, squares = (np.empty(n) for _ in range(4))
    valid = np.empty(n, np.int64)
    counts = np.zeros(SHORT_LEVELS, np.uint64)
    others = np.zeros(3, np.int64)
    sum_floats(
        values, keys, bits - 16, 1 << (bits - 1), (1 << bits) - 1,
        minimum, maximum, totals, squares, valid, counts, others,
    )  # fmt: skip
    return {
        "stats/min": minimum.astype(flat.dtype),
        "stats/max": maximum.astype(flat.dtype),
        "stats/sum": totals,
        "stats/sum_squares": squares,
        "stats/valid_count": valid,
        "stats/histogram": counts[None],
        "stats/nonfinite_count": others[None],
    }


def _side_spec(path: str, sample: NDArray[Any], n_rows: int, per_frame: bool) -> ArraySpec:
    name = path.rpartition("/")[2]
    rows = max(1, min(n_rows, ROWS_A_CHUNK // max(1, sample[0].size) or 1))
    tail = {"histogram": ("level",), "nonfinite_count": ("nonfinite",)}.get(name, ())
    attributes: dict[str, JSON] = {"long_name": _DESCRIPTIONS[name]}
    return ArraySpec(
        path,
        ("time" if per_frame else "block", *tail),
        (n_rows, *sample.shape[1:]),
        sample.dtype,
        (rows, *sample.shape[1:]),
        codec=STATISTICS_CODEC,
        attributes=attributes,
    )


class FrameSummary:
    """Statistics of the movie `data` of an item; a `Summary` for the converter."""

    def __init__(self, data: ArraySpec, n_tasks: int, *, by_block: frozenset[str] = frozenset()) -> None:
        self._data = data
        self._n_tasks = n_tasks
        # Paths whose rows somebody adds up over a task before they get here.
        self._by_block = by_block

    def share(
        self, start: int, columns: Mapping[str, NDArray[Any]], missing: Sequence[int] = ()
    ) -> dict[str, NDArray[Any]]:
        """One task's share; `missing` frames count for nothing."""
        frames = columns[self._data.path]
        if not missing:
            return statistics_of_frames(frames)
        valid = np.ones(len(frames), np.bool_)
        valid[np.asarray(missing) - start] = False
        # One frame at least, so that every array has its shape; it is blanked again below.
        some = frames[valid] if valid.any() else frames[:1]
        share = statistics_of_frames(some)
        for path, values in share.items():
            if self.is_per_frame(path, values):
                whole = np.full((len(frames), *values.shape[1:]), _neutral(path, values.dtype), values.dtype)
                whole[valid] = values[: valid.sum()]
                share[path] = whole
            elif not valid.any():
                share[path] = np.zeros_like(values)
        return share

    @staticmethod
    def is_per_frame(path: str, sample: NDArray[Any]) -> bool:
        """Whether an array has a row a frame; histograms of wide values have one a task."""
        return not (path.endswith("nonfinite_count") or sample.shape == (1, SHORT_LEVELS))

    def side(self, shares: Shares) -> list[tuple[ArraySpec, SidePieces]]:
        """The item's statistics arrays, read from the shares piece by piece."""
        first = next(iter(shares()))
        arrays: list[tuple[ArraySpec, SidePieces]] = []
        for path, sample in first.items():
            if not path.startswith("stats/"):
                continue
            per_frame = self.is_per_frame(path, sample) and path not in self._by_block
            n_rows = self._data.shape[0] if per_frame else self._n_tasks
            spec = _side_spec(path, sample, n_rows, per_frame)
            arrays.append((spec, _pieces(shares, path)))
        return arrays


def _neutral(path: str, dtype: np.dtype[Any]) -> Any:
    """What a frame that is not there adds: nothing to a sum, no bound to a range."""
    if not path.endswith(("/min", "/max")):
        return 0
    if dtype.kind == "f":
        return np.nan
    if dtype.kind == "b":
        return path.endswith("/min")
    limits = np.iinfo(dtype)
    return limits.max if path.endswith("/min") else limits.min


def _pieces(shares: Shares, path: str) -> SidePieces:
    return lambda: (share[path] for share in shares())
