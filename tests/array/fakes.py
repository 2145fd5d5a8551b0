"""Readers over an array in memory: one that counts, one that must not be read."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ChunkIndex, chunk_region
from lazystore.schema import ArraySpec

DIMS = ("time", "y", "x", "channel", "extra")


class MemoryReader:
    """Chunks of an array in memory, and a list of those that were read."""

    def __init__(
        self,
        values: NDArray[Any],
        chunks: Sequence[int],
        *,
        shards: Sequence[int] | None = None,
        dims: Sequence[str] | None = None,
    ) -> None:
        self.values = values
        self.spec = ArraySpec(
            "data",
            tuple(dims or DIMS[: values.ndim]),
            values.shape,
            values.dtype,
            tuple(chunks),
            None if shards is None else tuple(shards),
        )
        self.read: list[ChunkIndex] = []
        self.closed = 0

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        assert type(chunk_index) is tuple
        assert all(type(part) is int for part in chunk_index), chunk_index
        self.read.append(chunk_index)
        region = chunk_region(chunk_index, self.spec.chunks, self.spec.shape)
        return np.ascontiguousarray(self.values[region]).reshape(self.values[region].shape)

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        return [self.read_chunk(chunk_index) for chunk_index in chunk_indices]

    def close(self) -> None:
        self.closed += 1


class SealedReader(MemoryReader):
    """Raises when a chunk is read: proof that something is lazy."""

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        raise AssertionError(f"chunk {chunk_index} was read")


class ScanReader(MemoryReader):
    """Has the way past the cache that scans take, and tells which threads took it."""

    def __init__(self, values: NDArray[Any], chunks: Sequence[int]) -> None:
        super().__init__(values, chunks)
        self.scanned: list[ChunkIndex] = []
        self.threads: set[str] = set()

    def read_through(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        self.scanned.extend(chunk_indices)
        self.threads.add(threading.current_thread().name)
        return [super(ScanReader, self).read_chunk(chunk_index) for chunk_index in chunk_indices]
