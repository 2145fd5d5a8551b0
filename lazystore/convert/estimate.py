"""About how many bytes an item takes besides its records: shard indexes, times, tables, statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div
from lazystore.convert.frame_summary import STATISTICS_CODEC, SidePieces, has_statistics
from lazystore.protocols import Column
from lazystore.schema import CRC32C_BYTES, ArraySpec
from lazystore.store.shard import compressor, encode_chunk
from lazystore.store.shard_index import ENTRY_BYTES

# Histograms of videos whose packets are kept, measured on six: of values of one byte, and of two.
HISTOGRAM_BYTES_A_TASK, WIDE_HISTOGRAM_BYTES_A_TASK = 600, 32_000


def bytes_of_shards(columns: Sequence[ArraySpec]) -> int:
    """What shards take besides values: their indexes, and what fills up a last chunk that nothing packs."""
    total = 0
    for spec in columns:
        if spec.codec.cname == "none":
            padded = (ceil_div(size, part) * part for size, part in zip(spec.shape, spec.chunks, strict=True))
            total += math.prod(padded) * spec.dtype.itemsize - spec.nbytes
        if spec.shards is not None:
            chunks = math.prod(size // part for size, part in zip(spec.shards, spec.chunks, strict=True))
            total += spec.n_files * (ENTRY_BYTES * chunks + CRC32C_BYTES)
    return total


def bytes_of_side(side: Iterable[tuple[ArraySpec, SidePieces]]) -> int:
    """What arrays that are known whole take: the first piece of each is packed, the others are alike."""
    total = 0
    for spec, pieces in side:
        first = next(iter(pieces()), None)
        if first is not None and len(first) and not spec.is_text:
            packed = len(encode_chunk(replace(spec, chunks=first.shape), first))
            total += packed * spec.shape[0] // len(first)
    return total


def bytes_of_statistics(movie: Column, n_tasks: int, samples: Sequence[NDArray[Any]] | None = None) -> int:
    """What the statistics of a movie's frames take.

    Parameters
    ----------
    movie
        The frames.
    n_tasks
        Shards of the item.
    samples
        Some of the frames; None where packets stand for them, whose counts are added up over a task.

    >>> movie = Column("data", ("time", "y", "x"), (1000, 480, 640), np.dtype("u1"))
    >>> bytes_of_statistics(movie, 8)
    14800
    """
    if not has_statistics(movie.dtype):
        return 0
    is_byte = movie.dtype.itemsize == 1
    rows = movie.shape[0] * (2 * movie.dtype.itemsize + 8)
    if movie.dtype.kind != "f" and movie.dtype.itemsize > 2:
        return rows
    if samples is None:
        return rows + n_tasks * (HISTOGRAM_BYTES_A_TASK if is_byte else WIDE_HISTOGRAM_BYTES_A_TASK)
    counts = [_histogram(frame) for sample in samples for frame in sample]
    if is_byte:
        return rows + movie.shape[0] * _packed(np.stack(counts)) // len(counts)
    return rows + n_tasks * _packed(np.sum(counts, axis=0, dtype=np.uint64))


def _histogram(frame: NDArray[Any]) -> NDArray[np.uint32]:
    """Counts as statistics have them, by a value's first two bytes, in whatever order."""
    bits = 8 * frame.dtype.itemsize
    values = np.ascontiguousarray(frame).ravel().view(f"u{frame.dtype.itemsize}")
    return np.bincount(values >> max(0, bits - 16), minlength=1 << min(16, bits)).astype(np.uint32)


def _packed(values: NDArray[Any]) -> int:
    return len(compressor(STATISTICS_CODEC).encode(values))
