"""The columns of a window in one round trip, for recordings that lie far away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lazystore.array.reading import ordered_map
from lazystore.chunks import ChunkIndex
from lazystore.protocols import ChunkReader


def fetch_together(columns: Mapping[str, ChunkReader], chunks: Sequence[int]) -> None:
    """Have chunks of all columns in the cache, each column's missing ones read by a thread of its own.

    Read one after the other, four columns of a window that meets two chunks take twelve round trips;
    so they take two, one for the shards' indexes and one for the chunks. Does nothing for readers
    without a cache, or chunks that the cache would not hold: the window then reads as it always does.

    Parameters
    ----------
    columns
        Readers by name; a cached one tells what is `absent`.
    chunks
        Chunk numbers.
    """
    indices = [(chunk,) for chunk in chunks]
    missing: list[tuple[ChunkReader, list[ChunkIndex]]] = []
    for reader in columns.values():
        absent = getattr(reader, "absent", None)
        if absent is not None and (wanted := absent(indices)):
            missing.append((reader, wanted))
    if missing:
        list(ordered_map(lambda part: part[0].read_chunks(part[1]), missing, len(missing)))
