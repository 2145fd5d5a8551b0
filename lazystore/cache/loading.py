"""Reading chunks from the reader below to where the cache keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.cache.shelf import sealed
from lazystore.cache.slots import Slot
from lazystore.chunks import ChunkIndex
from lazystore.protocols import ChunkReader
from lazystore.schema import ArraySpec

type ReadInto = Callable[[Sequence[ChunkIndex], Sequence[memoryview]], list[NDArray[Any]]]


def read_chunks(reader: ChunkReader, indices: Sequence[ChunkIndex]) -> dict[ChunkIndex, NDArray[Any]]:
    """Chunks as they are handed out, in memory of their own."""
    return dict(zip(indices, map(sealed, _read(reader, indices)), strict=True))


def read_into_slots(
    reader: ChunkReader, indices: Sequence[ChunkIndex], slots: Sequence[Slot], reads_into: ReadInto | None
) -> dict[ChunkIndex, NDArray[Any]]:
    """Chunks as they are handed out, in slots where they belong into one; `slots` are as many.

    `reads_into` is the reader's own way, where it decodes in place (`lazystore.protocols.InPlaceReader`).
    """
    if reads_into is not None:
        views = reads_into(indices, [slot.memory for slot in slots])
        return {index: slot.sealed(view) for index, slot, view in zip(indices, slots, views, strict=True)}
    read: list[Any] = _read(reader, indices)
    arrays: dict[ChunkIndex, NDArray[Any]] = {}
    for place, (index, slot) in enumerate(zip(indices, slots, strict=True)):
        # Each is let go as soon as it is copied: a batch shall not be in memory twice.
        array, read[place] = read[place], None
        kept = slot.copy_of(array)
        arrays[index] = sealed(array) if kept is None else kept
    return arrays


def copied_into(
    spec: ArraySpec, chunks: Sequence[NDArray[Any]], memories: Sequence[memoryview]
) -> list[NDArray[Any]]:
    """Chunks in memory of the caller's, as a reader that decodes in place would have left them there."""
    found: list[NDArray[Any]] = []
    for chunk, memory in zip(chunks, memories, strict=True):
        whole: NDArray[Any] = np.ndarray(spec.chunks, spec.dtype, memory)
        found.append(whole[tuple(slice(size) for size in chunk.shape)])
        np.copyto(found[-1], chunk)
    return found


def _read(reader: ChunkReader, indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
    return [reader.read_chunk(indices[0])] if len(indices) == 1 else reader.read_chunks(indices)
