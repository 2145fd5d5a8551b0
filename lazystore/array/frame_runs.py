"""Frames of a selection in runs of chunks: decoded batch by batch into memory that is used again."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.reading import axis_pieces, bulk_read_into, positions_of
from lazystore.array.view import View
from lazystore.chunks import ChunkIndex, ceil_div

# What is decoded before it is looked at: several chunks share a read, and most of them still lie in the
# processor's caches (1 to 2 MB: 1.18 to 1.15 of the time that decoding a crop takes at least).
BATCH_BYTES = 2 * 1024 * 1024
# A run has results of its own, so it should be many frames; there should be a few for every core.
MIN_RUN_BYTES, MAX_RUN_BYTES, MIN_RUN_FRAMES, MIN_RUNS = 2 * 1024 * 1024, 64 * 1024 * 1024, 16, 16
MAX_RUN_FRAMES = 65_536

type Selected = slice | NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Column:
    """The chunks that hold one part of every frame, and where in them its values lie.

    Attributes
    ----------
    chunk_index
        All numbers of a chunk's index but the first.
    starts, length
        Lines of values in a chunk's row: positions of their first values, int64, and how many each has.
    picked
        Positions of the values where they are no lines, else None; they are copied out first.
    target
        The part of the result.
    shape
        Of that part.
    """

    chunk_index: tuple[int, ...]
    starts: NDArray[np.int64]
    length: int
    picked: NDArray[np.intp] | None
    target: tuple[Selected, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Chunks of a column along time, and which of their frames are wanted."""

    view: View
    column: Column
    pieces: Sequence[tuple[int, Selected]]


def columns_of(view: View) -> Iterator[Column]:
    """The chunks of a view side by side: one column where a chunk holds whole frames."""
    chunks = view.reader.spec.chunks[1:]
    axes = [
        axis_pieces(positions_of(entry), chunk)
        for entry, chunk in zip(view.selection[1:], chunks, strict=True)
    ]
    for pieces in itertools.product(*axes):
        sources, targets = [piece[1] for piece in pieces], [piece[2] for piece in pieces]
        shape = tuple(_size(part) for part in targets)
        starts, length, picked = _lines(sources, chunks)
        yield Column(
            tuple(piece[0] for piece in pieces), starts, length, picked, _broadcast_to_box(targets), shape
        )


def _size(part: Selected) -> int:
    return part.stop - part.start if isinstance(part, slice) else part.size


def _broadcast_to_box(parts: Sequence[Selected]) -> tuple[Selected, ...]:
    """Index arrays that select a box, as slices do, instead of being paired."""
    if all(isinstance(part, slice) for part in parts):
        return tuple(parts)
    return np.ix_(*(np.arange(part.start, part.stop) if isinstance(part, slice) else part for part in parts))


def _lines(
    sources: Sequence[Selected], chunks: Sequence[int]
) -> tuple[NDArray[np.int64], int, NDArray[np.intp] | None]:
    """Where lines of consecutive values begin in a chunk's row and their length, or single positions.

    >>> _lines([slice(1, 3, 1), slice(0, 4, 1)], (5, 4))[:2]
    (array([4]), 8)
    >>> _lines([slice(1, 3, 1), slice(2, 4, 1)], (5, 4))[:2]
    (array([ 6, 10]), 2)
    """
    strides = [math.prod(chunks[axis + 1 :]) for axis in range(len(chunks))]
    positions = [
        np.arange(chunk)[source].astype(np.int64) for source, chunk in zip(sources, chunks, strict=True)
    ]
    if not all(isinstance(source, slice) and source.step in (None, 1) for source in sources):
        # Every position of a picture, eight bytes each, as large as the sums themselves.
        grid = functools.reduce(np.add.outer, [p * s for p, s in zip(positions, strides, strict=True)])
        picked = grid.reshape(-1).astype(np.intp)
        return np.zeros(1, np.int64), picked.size, picked
    length, axis = 1, len(chunks)
    # Whole trailing axes, and a part of the one before them, are one line.
    while axis and (axis == len(chunks) or positions[axis].size == chunks[axis]):
        axis -= 1
        length *= positions[axis].size
    starts = functools.reduce(
        np.add.outer,
        [p * s for p, s in zip(positions[:axis], strides[:axis], strict=True)],
        np.zeros((), np.int64),
    )
    offset = sum(int(p[0]) * s for p, s in zip(positions[axis:], strides[axis:], strict=True))
    return np.asarray(starts).reshape(-1) + offset, length, None


def stretches(views: Sequence[View]) -> Iterator[tuple[View, Sequence[tuple[int, Selected]]]]:
    """Chunk numbers along time, and which of their frames are wanted, cut into runs."""
    spec = views[0].reader.spec
    frame_bytes = max(1, spec.chunk_nbytes // spec.chunks[0])
    n_frames = sum(view.shape[0] for view in views)
    room = min(MAX_RUN_BYTES, max(MIN_RUN_BYTES, n_frames * frame_bytes // MIN_RUNS))
    run_frames = min(MAX_RUN_FRAMES, max(MIN_RUN_FRAMES, room // frame_bytes))
    run_chunks = max(1, run_frames // spec.chunks[0])
    for view in views:
        pieces = [(piece[0], piece[1]) for piece in axis_pieces(_frames(view), spec.chunks[0])]
        for start, stop in _evenly(len(pieces), ceil_div(len(pieces), run_chunks)):
            yield view, pieces[start:stop]


def _frames(view: View) -> range | NDArray[np.intp]:
    frames = view.frames
    assert not isinstance(frames, int)
    # Order does not matter to a sum, and ascending chunks are read together.
    return frames[::-1] if isinstance(frames, range) and frames.step < 0 else frames


def _evenly(count: int, n_parts: int) -> Iterator[tuple[int, int]]:
    """Borders of parts that differ by one at most.

    >>> list(_evenly(7, 3))
    [(0, 2), (2, 4), (4, 7)]
    """
    borders = [part * count // n_parts for part in range(n_parts + 1)]
    return itertools.pairwise(borders)


def decoded(run: Run) -> Iterator[NDArray[Any]]:
    """Wanted frames, a batch of chunks at a time: shape (time, value of a chunk), gone with the next."""
    spec = run.view.reader.spec
    rows, pixels = spec.chunks[0], math.prod(spec.chunks[1:])
    batch_chunks = max(1, min(BATCH_BYTES // max(1, spec.chunk_nbytes), len(run.pieces)))
    buffer = np.empty((batch_chunks * rows, pixels), spec.dtype)
    flat = buffer.reshape(-1).view(np.uint8)
    memories = [
        memoryview(flat[start : start + spec.chunk_nbytes].data)
        for start in range(0, batch_chunks * spec.chunk_nbytes, spec.chunk_nbytes)
    ]
    read = bulk_read_into(run.view.reader)
    for batch in itertools.batched(run.pieces, batch_chunks):
        indices: list[ChunkIndex] = [(number, *run.column.chunk_index) for number, _ in batch]
        read(indices, memories[: len(batch)])
        yield buffer[_wanted_rows([source for _, source in batch], rows)]


def _wanted_rows(sources: Sequence[Selected], rows: int) -> Selected:
    """Rows of several chunks, one after the other, as a slice where they are neighbours."""
    first, last = sources[0], sources[-1]
    is_whole = all(isinstance(source, slice) and source.step in (None, 1) for source in sources)
    if is_whole and isinstance(first, slice) and isinstance(last, slice):
        inner = sum(n_frames_of(source) for source in sources)
        start, stop = first.start, (len(sources) - 1) * rows + last.stop
        if stop - start == inner:
            return slice(start, stop)
    every = np.arange(rows)
    return np.concatenate([every[source] + place * rows for place, source in enumerate(sources)])


def n_frames_of(source: Selected) -> int:
    """How many rows of a chunk a selection names."""
    if isinstance(source, slice):
        # Down to the first row a slice has no number to stop at.
        return len(range(source.start, -1 if source.stop is None else source.stop, source.step or 1))
    return source.size
