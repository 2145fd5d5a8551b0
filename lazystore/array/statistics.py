"""What a store knows of a movie without reading its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lazystore.array.indexing import full_selection
from lazystore.array.reading import read_selection
from lazystore.chunks import ceil_div
from lazystore.errors import UsageError
from lazystore.protocols import ChunkReader
from lazystore.schema import ArraySpec

PER_FRAME = ("min", "max", "sum", "sum_squares", "valid_count")


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each level occurs in frames [start, stop); levels as in `histogram`.

    Attributes
    ----------
    levels
        Shape (level,), uint64: number of finite values at each level.
    start, stop
        The frames that were counted.
    """

    levels: NDArray[np.uint64]
    start: int
    stop: int


@runtime_checkable
class Statistics(Protocol):
    """Facts about the frames of one movie; reads small arrays, never frames."""

    def per_frame(self, name: str, start: int, stop: int) -> NDArray[Any] | None:
        """One value for each frame of [start, stop), or None where this is not kept.

        Names are ``min``, ``max``, ``sum`` and ``sum_squares``, all over the finite values, and
        ``valid_count``, how many of these there are. A frame without any has NaN, or min above max.
        """

    def histogram(self, start: int, stop: int) -> Counts | None:
        """Counts over the largest part of [start, stop) that needs no frame, or None."""

    def close(self) -> None:
        """Release files. Idempotent; the next call opens them again."""


class StoredStatistics:
    """The arrays of an item's ``stats`` group.

    Parameters
    ----------
    readers
        A reader for each array by its name in the group: ``{"min": ..., "histogram": ...}``.
        Names may be absent; then that fact is computed from frames when it is needed.
    data
        The movie's record.
    block_frames
        Frames that one row of a histogram over blocks covers; those of a shard by default.

    Raises
    ------
    UsageError
        If an array's length fits neither the frames nor the blocks of `data`.
    """

    __slots__ = ("_block_frames", "_n_frames", "_readers")

    def __init__(
        self, readers: Mapping[str, ChunkReader], data: ArraySpec, block_frames: int | None = None
    ) -> None:
        self._readers = dict(readers)
        self._n_frames = data.shape[0]
        self._block_frames = data.write_shape[0] if block_frames is None else block_frames
        for name, reader in self._readers.items():
            rows = reader.spec.shape[0]
            expected = [self._n_frames]
            if name not in PER_FRAME:
                expected.append(ceil_div(self._n_frames, self._block_frames))
            if rows not in expected:
                raise UsageError(
                    f"statistics array {name!r} has {rows} rows; expected {' or '.join(map(str, expected))} "
                    f"for {self._n_frames} frames in blocks of {self._block_frames}; the item's stats group "
                    "belongs to other data"
                )

    def per_frame(self, name: str, start: int, stop: int) -> NDArray[Any] | None:
        reader = self._readers.get(name)
        return None if reader is None else read_selection(reader, (range(start, stop),))

    def histogram(self, start: int, stop: int) -> Counts | None:
        reader = self._readers.get("histogram")
        if reader is None or start >= stop:
            return None
        if reader.spec.dims[0] == "block" or reader.spec.shape[0] != self._n_frames:
            first, last = ceil_div(start, self._block_frames), stop // self._block_frames
            if stop == self._n_frames:
                last = reader.spec.shape[0]
            if first >= last:
                return None
            rows, start, stop = range(first, last), first * self._block_frames, last * self._block_frames
        else:
            rows = range(start, stop)
        total = np.zeros(reader.spec.shape[1], np.uint64)
        # Row by row chunk: a histogram of every frame of a long movie is tens of megabytes.
        step = max(1, reader.spec.chunks[0])
        edge = rows.start
        while edge < rows.stop:
            until = min(rows.stop, (edge // step + 1) * step)
            counts = read_selection(reader, (range(edge, until), *full_selection(reader.spec.shape[1:])))
            total += counts.sum(axis=0, dtype=np.uint64)
            edge = until
        return Counts(total, start, min(stop, self._n_frames))

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
