"""Overviews of a movie from its single pass: each task's part of every bin, laid together at the end.

A bin may reach over several tasks, so a task keeps sums, not means. Only the finest exact level is
kept a task; coarser ones are joined from it when all tasks are done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div
from lazystore.convert.frame_summary import Shares, SidePieces
from lazystore.overviews.levels import GROUP, Levels, Preview, exact_dtypes, preview_shape
from lazystore.overviews.rows import (
    Row,
    SmallSums,
    empty_row,
    empty_small_row,
    joined,
    needed_for,
    row_of_frames,
    small_row,
)
from lazystore.schema import JSON, ArraySpec, Codec

# Sums hardly compress; lz4 is written and read three times as fast as zstd.
CODEC = Codec("lz4", 5, "shuffle")
CHUNK_BYTES = 512 * 1024
SHARD_BYTES = 16 * 1024 * 1024
# Fewer chunks than this are files of their own.
MAX_FILES = 8

_DESCRIPTIONS = {
    "sum": "sum over the bin's frames",
    "sum_squares": "sum of squares over the bin's frames",
    "squared_deviations": "sum of squared deviations from the bin's mean",
    "valid_count": "finite values in the bin",
    "mean": "mean of the block of pixels over the bin's frames",
    "min": "smallest value in the bin",
    "max": "largest value in the bin",
}


class OverviewShare:
    """One task's part of the overviews; frames are added in order, a few at a time."""

    def __init__(self, levels: Levels, data: ArraySpec, task_frames: int) -> None:
        self._levels = levels
        self._data = data
        self._task_frames = task_frames
        self._rows: dict[int, dict[int, Row]] = {n: {} for n in _kept_bins(levels)}
        # The small picture that is being added to, and its bin.
        self._open: tuple[int, SmallSums] | None = None

    def add(self, start: int, frames: NDArray[Any], missing: Sequence[int] = ()) -> None:
        """Add frames (time, ...) whose first is `start`; `missing` ones count for nothing."""
        valid = np.ones(len(frames), np.bool_)
        valid[np.asarray(missing, np.intp) - start] = False
        for n, rows in self._rows.items():
            is_exact = n in self._levels.exact
            for number in range(start // n, ceil_div(start + len(frames), n)):
                low, high = max(number * n - start, 0), min((number + 1) * n - start, len(frames))
                some = frames[low:high] if valid[low:high].all() else frames[low:high][valid[low:high]]
                if not is_exact and self._data.dtype.kind != "f":
                    self._small_sums(number).add(some)
                    continue
                row = self._exact(some) if is_exact else self._small(some)
                rows[number] = joined(rows[number], row) if number in rows else row

    def _exact(self, frames: NDArray[Any]) -> Row:
        return row_of_frames(frames) if len(frames) else empty_row(self._data.dtype, self._data.shape[1:])

    def _small(self, frames: NDArray[Any]) -> Row:
        assert self._levels.preview is not None
        if len(frames):
            return small_row(frames, self._levels.preview)
        return empty_small_row(preview_shape(self._data.shape, self._levels.preview)[1:])

    def _small_sums(self, number: int) -> SmallSums:
        """Where the frames of a bin are added; the bin before is done."""
        assert self._levels.preview is not None
        if self._open is None or self._open[0] != number:
            self._close()
            self._open = number, SmallSums(self._data.shape[1:], self._data.dtype, self._levels.preview)
        return self._open[1]

    def _close(self) -> None:
        if self._open is not None:
            assert self._levels.preview is not None
            number, sums = self._open
            rows, row = self._rows[self._levels.preview.n], sums.row()
            # Frames of a bin need not come one after the other.
            rows[number] = joined(rows[number], row) if number in rows else row
            self._open = None

    def join(self, other: OverviewShare) -> None:
        """Add what another share saw of the same task; of floats only what comes after."""
        self._close()
        other._close()
        for n, rows in self._rows.items():
            for number, row in other._rows[n].items():
                rows[number] = joined(rows[number], row) if number in rows else row

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The share: by path, one row a bin that the task's frames touch, the first bin first."""
        self._close()
        share: dict[str, NDArray[Any]] = {}
        for n, rows in self._rows.items():
            # As narrow as the frames of one task allow.
            n_added = min(n, self._task_frames)
            dtypes = exact_dtypes(self._data.dtype, n_added) if n in self._levels.exact else {}
            for name in next(iter(rows.values()), {}):
                stacked = np.stack([rows[number][name] for number in sorted(rows)])
                share[f"{GROUP}/{n}/{name}"] = stacked.astype(dtypes.get(name, stacked.dtype))
        return share


def _kept_bins(levels: Levels) -> tuple[int, ...]:
    return (*levels.exact[:1], *(() if levels.preview is None else (levels.preview.n,)))


class OverviewSummary:
    """Lays the tasks' parts of the overviews together.

    Parameters
    ----------
    levels
        Which there are.
    data
        The movie.
    task_frames
        Frames a task, the last one's fewer.
    """

    def __init__(self, levels: Levels, data: ArraySpec, task_frames: int) -> None:
        self.levels = levels
        self._data = data
        self._task_frames = task_frames

    def begin(self) -> OverviewShare:
        """A new task's part."""
        return OverviewShare(self.levels, self._data, self._task_frames)

    def side(self, shares: Shares) -> list[tuple[ArraySpec, SidePieces]]:
        """The arrays of every level, joined from the shares piece by piece."""
        arrays: list[tuple[ArraySpec, SidePieces]] = []
        for n in self.levels.exact:
            for name, dtype in exact_dtypes(self._data.dtype, n).items():
                spec = self._spec(f"{GROUP}/{n}/{name}", n, self._data.shape[1:], self._data.dims[1:], dtype)
                arrays.append((spec, self._exact_pieces(shares, n, name, dtype)))
        if self.levels.preview is not None:
            arrays += self._preview_arrays(shares, self.levels.preview)
        return arrays

    def _preview_arrays(self, shares: Shares, preview: Preview) -> list[tuple[ArraySpec, SidePieces]]:
        n, dims = preview.n, self._data.dims
        shape = preview_shape(self._data.shape, preview)[1:]
        small_dims = (f"{dims[1]}_{n}", f"{dims[2]}_{n}", *dims[3:])
        arrays: list[tuple[ArraySpec, SidePieces]] = []
        for name in ("mean", "min", "max"):
            # Of truth values the mean is a share.
            dtype = np.dtype("f4") if self._data.dtype.kind == "b" and name == "mean" else self._data.dtype
            spec = self._spec(f"{GROUP}/{n}/{name}", n, shape, small_dims, dtype)
            arrays.append((spec, self._preview_pieces(shares, n, name, dtype)))
        for axis in (1, 2):
            arrays.append(self._pixels(axis, n, preview.factor))
        return arrays

    def _pixels(self, axis: int, n: int, factor: int) -> tuple[ArraySpec, SidePieces]:
        size, dim = self._data.shape[axis], f"{self._data.dims[axis]}_{n}"
        starts = np.arange(0, size, factor)
        middles = (starts + np.minimum(starts + factor, size) - 1) / 2
        spec = ArraySpec(
            f"{GROUP}/{n}/{dim}", (dim,), middles.shape, middles.dtype, middles.shape, codec=CODEC,
            attributes={"units": "pixel", "long_name": f"middle of the block of pixels along {dim[0]}"},
        )  # fmt: skip
        return spec, lambda: [middles]

    def _spec(
        self, path: str, n: int, shape: tuple[int, ...], dims: tuple[str, ...], dtype: np.dtype[Any]
    ) -> ArraySpec:
        length = ceil_div(self._data.shape[0], n)
        row_bytes = max(1, dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
        rows = min(length, max(1, CHUNK_BYTES // row_bytes))
        shards: tuple[int, ...] | None = None
        if ceil_div(length, rows) > MAX_FILES:
            per_shard = max(1, SHARD_BYTES // (rows * row_bytes))
            shards = (rows * per_shard, *shape)
        attributes: dict[str, JSON] = {"long_name": _DESCRIPTIONS[path.rpartition("/")[2]]}
        return ArraySpec(
            path, (f"time_{n}", *dims), (length, *shape), dtype, (rows, *shape), shards, CODEC, attributes
        )

    def _exact_pieces(self, shares: Shares, n: int, name: str, dtype: np.dtype[Any]) -> SidePieces:
        def pieces() -> Iterator[NDArray[Any]]:
            for row in self._bins(shares, self.levels.exact[0], n, needed_for(name)):
                values = row[name]
                if dtype.kind == "f" and name in ("min", "max"):
                    values = np.where(np.isinf(values), np.nan, values)
                yield values.astype(dtype)[None]

        return pieces

    def _preview_pieces(self, shares: Shares, n: int, name: str, dtype: np.dtype[Any]) -> SidePieces:
        names = ("sum", "valid_count") if name == "mean" else (name, "valid_count")

        def pieces() -> Iterator[NDArray[Any]]:
            for row in self._bins(shares, n, n, names):
                count = row["valid_count"]
                values = row["sum"] / np.maximum(count, 1) if name == "mean" else row[name]
                values = np.where(count > 0, values, np.nan if dtype.kind == "f" else 0)
                yield (values if dtype.kind == "f" else np.rint(values)).astype(dtype)[None]

        return pieces

    def _bins(self, shares: Shares, kept: int, n: int, names: Sequence[str]) -> Iterator[Row]:
        """Rows of the bins of `n` frames in order, from shares that keep bins of `kept` frames."""
        current, start = 0, 0
        row: Row = {}
        for share in shares():
            parts = {name: share[f"{GROUP}/{kept}/{name}"] for name in names}
            for place in range(len(parts[names[0]])):
                number = (start // kept + place) * kept // n
                part = {name: values[place] for name, values in parts.items()}
                if row and number != current:
                    yield row
                    row = {}
                current, row = number, joined(row, part) if row else part
            start += self._task_frames
        if row:
            yield row
