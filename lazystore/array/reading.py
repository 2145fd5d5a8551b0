"""Values of a selection: the chunks it touches, read in bounded batches into one result."""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lazystore.array.indexing import Entry, Positions, Selection, selection_shape
from lazystore.cache.loading import ReadInto, copied_into
from lazystore.chunks import ChunkIndex, pieces_of_range
from lazystore.protocols import ChunkReader

# A read below this is over before a pool of threads has started (about 0.1 ms a thread).
PARALLEL_FROM_BYTES = 4 * 1024 * 1024
# One batch: large enough for neighbours to share one ranged read, small enough that all threads
# together hold little beside the result.
BATCH_BYTES = 8 * 1024 * 1024
BATCH_CHUNKS = 64
# Above this a read is a scan: it looks into the cache, but does not push the movie being watched out.
SCAN_FROM_BYTES = 32 * 1024 * 1024
MAX_READ_THREADS = 8

type Where = tuple[slice | Positions, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk's share of a selection; index arrays are ready for ``np.ix_``-style use."""

    chunk_index: ChunkIndex
    source: Where
    target: Where


def read_threads() -> int:
    """Threads for one large read: as many as decode at once, at most 8."""
    return max(1, min(MAX_READ_THREADS, os.cpu_count() or 1))


def axis_pieces(
    entry: range | Positions, chunk: int
) -> list[tuple[int, slice | Positions, slice | Positions]]:
    """Split one axis: (chunk number, positions in the chunk, positions in the result).

    >>> axis_pieces(range(2, 5), 3)
    [(0, slice(2, 3, 1), slice(0, 1, None)), (1, slice(0, 2, 1), slice(1, 3, None))]
    """
    if isinstance(entry, range):
        return [*pieces_of_range(entry, chunk)]
    if not entry.size:
        return []
    numbers = entry // chunk
    order = np.argsort(numbers, kind="stable")
    borders = np.flatnonzero(np.diff(numbers[order])) + 1
    return [
        (int(numbers[places[0]]), entry[places] - int(numbers[places[0]]) * chunk, places)
        for places in np.split(order, borders)
    ]


def pieces(selection: Sequence[range | Positions], chunks: Sequence[int]) -> Iterator[Piece]:
    """Every chunk that a selection touches, each once, in C order of the chunk grid's runs."""
    axes = [axis_pieces(entry, chunk) for entry, chunk in zip(selection, chunks, strict=True)]
    for combination in itertools.product(*axes):
        yield Piece(
            tuple(part[0] for part in combination),
            _broadcast(tuple(part[1] for part in combination)),
            _broadcast(tuple(part[2] for part in combination)),
        )


def _broadcast(where: Where) -> Where:
    """Make several index arrays select a box, as slices do, instead of being paired."""
    arrays = [part for part in where if isinstance(part, np.ndarray)]
    if len(arrays) < 2:
        return where
    # A slice cannot stand between arrays that broadcast: all of them become arrays.
    return np.ix_(*(part if isinstance(part, np.ndarray) else _arange(part) for part in where))


def _arange(part: slice) -> Positions:
    step = part.step or 1
    stop = part.stop if part.stop is not None else -1
    return np.arange(part.start, stop, step, dtype=np.intp)


def read_selection(reader: ChunkReader, selection: Selection) -> NDArray[Any]:
    """Values of a selection, in its order.

    Parameters
    ----------
    reader
        Gives the decoded chunks. Called from several threads for large selections.
    selection
        One entry for each axis of the reader's array, inside its shape.

    Returns
    -------
    np.ndarray
        `selection_shape(selection)`, the array's dtype. May share memory with a chunk of the
        reader, and may be read-only; the caller who hands it out sets that flag.

    Raises
    ------
    DamagedStoreError
        From the reader.
    """
    spec = reader.spec
    shape = selection_shape(selection)
    ranges = [range(entry, entry + 1) if isinstance(entry, int) else entry for entry in selection]
    if not math.prod(shape):
        return np.empty(shape, dtype=spec.dtype)
    only = _only_chunk(ranges, spec.chunks)
    if only is not None:
        chunk = reader.read_chunk(tuple(number for number, _ in only))
        return own_if_small(chunk[_broadcast(tuple(where for _, where in only))], chunk).reshape(shape)
    # Text has no fixed item size before it is read.
    boxed = tuple(len(entry) for entry in ranges)
    result = np.empty(boxed, dtype=object if spec.is_text else spec.dtype)

    def fill(batch: Sequence[Piece]) -> None:
        for piece, chunk in zip(batch, read(tuple(p.chunk_index for p in batch)), strict=True):
            result[piece.target] = chunk[piece.source]

    total = math.prod(boxed) * spec.dtype.itemsize
    read = bulk_read(reader) if total > SCAN_FROM_BYTES else reader.read_chunks
    in_parallel(fill, batches(pieces(ranges, spec.chunks), spec.chunk_nbytes), total)
    values: NDArray[Any] = result.astype(spec.dtype) if spec.is_text else result
    return values.reshape(shape)


def _only_chunk(
    ranges: Sequence[range | Positions], chunks: Sequence[int]
) -> list[tuple[int, slice | Positions]] | None:
    """For each axis the chunk's number and the positions in it, where one chunk holds it all.

    Index arrays keep their order here, so the chunk's part needs no second placing.
    """
    found: list[tuple[int, slice | Positions]] = []
    for entry, length in zip(ranges, chunks, strict=True):
        number = int(entry[0]) // length
        low = number * length
        if isinstance(entry, range):
            last = entry[-1]
            if last // length != number:
                return None
            stop: int | None = last - low + (1 if entry.step > 0 else -1)
            # A slice that runs down to the first position has no number to stop at.
            found.append((number, slice(entry.start - low, None if stop == -1 else stop, entry.step)))
        else:
            if (entry // length != number).any():
                return None
            found.append((number, entry - low))
    return found


def own_if_small(part: NDArray[Any], chunk: NDArray[Any]) -> NDArray[Any]:
    """A copy where a view would keep a much larger chunk in memory, or is not contiguous."""
    if part.nbytes * 2 <= chunk.nbytes or not part.flags.c_contiguous:
        return part.copy()
    return part


def bulk_read(reader: ChunkReader) -> Callable[[Sequence[ChunkIndex]], list[NDArray[Any]]]:
    """How to read for a scan: past the cache's admission where the reader has such a way.

    A cached reader offers `read_through`, which answers from the cache and keeps nothing new, so
    that computing a mean over the whole movie does not evict the part that is being watched.
    """
    read: Callable[[Sequence[ChunkIndex]], list[NDArray[Any]]] = getattr(
        reader, "read_through", reader.read_chunks
    )
    return read


def bulk_read_into(reader: ChunkReader) -> ReadInto:
    """As `bulk_read`, each chunk into memory of the caller's, which then begins with it.

    A chunk that is cut at the array's end lies where it would lie in a whole one.
    """
    for name in ("read_through_into", "read_chunks_into"):
        if (in_place := getattr(reader, name, None)) is not None:
            return cast("ReadInto", in_place)
    read = bulk_read(reader)
    return lambda indices, memories: copied_into(reader.spec, read(indices), memories)


def batches(items: Iterable[Piece], chunk_nbytes: int) -> Iterator[tuple[Piece, ...]]:
    """Runs of consecutive pieces, each of a bounded number of decoded bytes."""
    count = max(1, min(BATCH_CHUNKS, BATCH_BYTES // max(1, chunk_nbytes)))
    return itertools.batched(items, count)  # the last batch may be short


def in_parallel(
    work: Callable[[Sequence[Piece]], None], batched: Iterator[tuple[Piece, ...]], nbytes: int
) -> None:
    """Do every batch; on threads when it pays. The first error ends it, and is raised."""
    if nbytes < PARALLEL_FROM_BYTES or read_threads() == 1:
        for batch in batched:
            work(batch)
        return
    for _ in ordered_map(work, batched):
        pass


def ordered_map[Item, Result](
    work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Results in the order of the items, computed on threads, a bounded number ahead.

    A pool a call: it costs 0.1 ms, and leaves no thread behind and nothing to lose in a fork.
    """
    count = threads or read_threads()
    if count == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(count, thread_name_prefix="lazystore-read") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def positions_of(entry: Entry) -> range | Positions:
    """Axis positions of an entry, an int as a range of one.

    >>> positions_of(3)
    range(3, 4)
    """
    return range(entry, entry + 1) if isinstance(entry, int) else entry
