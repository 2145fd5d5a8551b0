"""Reading chunks from the reader below to where the cache keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from lazystore.cache.shelf import sealed
from lazystore.cache.slots import ChunkMemory
from lazystore.chunks import ChunkIndex, chunk_region
from lazystore.protocols import ChunkReader, FillingReader


def read_chunks(reader: ChunkReader, indices: Sequence[ChunkIndex]) -> dict[ChunkIndex, NDArray[Any]]:
    """Chunks as they are handed out, in memory of their own."""
    read = [reader.read_chunk(indices[0])] if len(indices) == 1 else reader.read_chunks(indices)
    return dict(zip(indices, map(sealed, read), strict=True))


def read_into_slots(
    reader: ChunkReader, indices: Sequence[ChunkIndex], memory: ChunkMemory, budget_bytes: int
) -> dict[ChunkIndex, NDArray[Any]]:
    """Chunks as they are handed out, in slots where they belong into one."""
    if isinstance(reader, FillingReader):
        spec, places = reader.spec, []
        for index in indices:
            region = chunk_region(index, spec.chunks, spec.shape)
            shape = tuple(part.stop - part.start for part in region)
            places.append(memory.place(shape, spec.dtype, budget_bytes))
        placed = [place for place in places if place is not None]
        if len(placed) == len(indices):
            reader.fill_chunks(indices, [values for values, _ in placed])
            return {index: stored for index, (_, stored) in zip(indices, placed, strict=True)}
    read = [reader.read_chunk(indices[0])] if len(indices) == 1 else reader.read_chunks(indices)
    stored = [memory.store(array, budget_bytes) for array in read]
    return {
        index: sealed(array) if kept is None else kept
        for index, array, kept in zip(indices, read, stored, strict=True)
    }
