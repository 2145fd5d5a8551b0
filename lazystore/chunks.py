"""Pure chunk arithmetic: which chunks a selection touches, and which part of each.

Everything here works on one regular grid and plain integers; nothing reads or writes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lazystore.errors import UsageError

type ChunkIndex = tuple[int, ...]


def ceil_div(numerator: int, denominator: int) -> int:
    """Smallest integer >= numerator / denominator.

    >>> ceil_div(7, 3), ceil_div(6, 3), ceil_div(0, 3)
    (3, 2, 0)
    """
    return -(-numerator // denominator)


def grid_shape(shape: Sequence[int], chunks: Sequence[int]) -> tuple[int, ...]:
    """Number of chunks along each axis.

    >>> grid_shape((10, 4), (3, 4))
    (4, 1)
    """
    return tuple(ceil_div(size, chunk) for size, chunk in zip(shape, chunks, strict=True))


def chunk_region(chunk_index: ChunkIndex, chunks: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """The part of the array that a chunk holds, cut at the array's end.

    >>> chunk_region((3, 0), (3, 4), (10, 4))
    (slice(9, 10, None), slice(0, 4, None))
    """
    return tuple(
        slice(i * chunk, min((i + 1) * chunk, size))
        for i, chunk, size in zip(chunk_index, chunks, shape, strict=True)
    )


def pieces_of_range(selection: range, chunk: int) -> list[tuple[int, slice, slice]]:
    """Every chunk that a selection along one axis touches, each part of it once, in its order.

    Parameters
    ----------
    selection
        Indices inside the axis, any non-zero step.
    chunk
        Length of a chunk.

    Returns
    -------
    list of tuple
        Chunk number, slice within the chunk, slice of the result.

    >>> pieces_of_range(range(2, 5), 3)
    [(0, slice(2, 3, 1), slice(0, 1, None)), (1, slice(0, 2, 1), slice(1, 3, None))]
    """
    pieces = []
    position = 0
    while position < len(selection):
        first = selection[position]
        number = first // chunk
        low, high = number * chunk, (number + 1) * chunk
        # How many steps stay inside this chunk, in either direction.
        if selection.step > 0:
            count = ceil_div(high - first, selection.step)
        else:
            count = (first - low) // -selection.step + 1
        count = min(count, len(selection) - position)
        last = first + (count - 1) * selection.step
        if selection.step > 0:
            source = slice(first - low, last - low + 1, selection.step)
        else:
            stop = last - low - 1
            source = slice(first - low, stop if stop >= 0 else None, selection.step)
        pieces.append((number, source, slice(position, position + count)))
        position += count
    return pieces


def normalize_index(index: int, size: int, name: str) -> int:
    """A non-negative index along an axis.

    Raises
    ------
    IndexError
        If the index lies outside the axis.

    >>> normalize_index(-1, 10, "time")
    9
    """
    position = index + size if index < 0 else index
    if not 0 <= position < size:
        raise IndexError(f"index {index} is out of bounds for axis {name!r} of size {size}")
    return position


def check_shards(shards: Sequence[int], chunks: Sequence[int]) -> None:
    """Refuse shards that are not whole numbers of inner chunks.

    Raises
    ------
    UsageError
        If a shard length is not a positive multiple of the chunk length.
    """
    for axis, (shard, chunk) in enumerate(zip(shards, chunks, strict=True)):
        if chunk < 1 or shard < chunk or shard % chunk:
            raise UsageError(
                f"shard length {shard} along axis {axis} is not a multiple of the chunk length "
                f"{chunk}; pass for example shards of {max(chunk, shard // max(chunk, 1) * chunk)}"
            )


def frames_per_chunk(frame_bytes: int, target_bytes: int = 512 * 1024) -> int:
    """Whole frames an inner chunk holds: 1 above 128 kB, else a power of two up to the target.

    A frame above 128 kB decodes in about the time a read costs, so sharing a chunk only adds
    latency; smaller frames share one so that a read is worth its system calls.

    >>> frames_per_chunk(300_000), frames_per_chunk(25_000), frames_per_chunk(8)
    (1, 16, 65536)
    """
    if frame_bytes > 128 * 1024:
        return 1
    return 1 << int(math.log2(max(1, target_bytes // max(1, frame_bytes))))


def frames_per_shard(frame_bytes: int, chunk_frames: int, target_bytes: int = 32 * 1024 * 1024) -> int:
    """Frames a shard holds: a power-of-two number of inner chunks, at most the target's bytes.

    A power of two makes every overview bin of 2^k frames up to the shard's length come from one
    shard alone.

    >>> frames_per_shard(300_000, 1), frames_per_shard(25_000, 16)
    (64, 1024)
    """
    chunk_bytes = max(1, frame_bytes * chunk_frames)
    return chunk_frames * (1 << max(0, int(math.log2(max(1, target_bytes // chunk_bytes)))))


def ranges_of(indices: tuple[int, ...]) -> list[tuple[int, int]]:
    """Half-open ranges of ascending indices.

    >>> ranges_of((1, 2, 3, 7))
    [(1, 4), (7, 8)]
    """
    ranges: list[tuple[int, int]] = []
    for index in indices:
        if ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return ranges
