"""Cut a selection into boxes that follow the chunks, so that large work runs in bounded memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from lazystore.array.indexing import Positions, Selection
from lazystore.chunks import ceil_div

type Box = tuple[slice, ...]
"""Positions in a selection's own axes (those that are left)."""


def runs(entry: range | Positions, chunk: int) -> list[int]:
    """Borders of the runs of consecutive positions that share a chunk, both ends included.

    >>> runs(range(2, 9), 3), runs(range(0, 12, 4), 3), runs(range(0), 3)
    ([0, 1, 4, 7], [0, 1, 2, 3], [0])
    """
    size = len(entry)
    if not size:
        return [0]
    if isinstance(entry, range) and entry.step == 1:
        first = min(size, chunk - entry.start % chunk)
        return [0, *range(first, size, chunk), size] if first < size else [0, size]
    if isinstance(entry, range):
        entry = np.arange(entry.start, entry.stop, entry.step)
    changes = np.flatnonzero(np.diff(entry // chunk)) + 1
    return [0, *changes.tolist(), size]


def merged(borders: Sequence[int], length: int) -> list[slice]:
    """Join consecutive runs while the joint length stays within `length`; a run is never cut.

    >>> merged([0, 1, 4, 7], 4)
    [slice(0, 4, None), slice(4, 7, None)]
    """
    joined: list[slice] = []
    for low, high in itertools.pairwise(borders):
        if joined and high - joined[-1].start <= length:
            joined[-1] = slice(joined[-1].start, high)
        else:
            joined.append(slice(low, high))
    return joined


def axis_boxes(selection: Selection, unit: Sequence[int], max_values: int) -> list[list[slice]]:
    """For each axis that is left, the intervals whose product are the boxes.

    Parameters
    ----------
    selection
        What is read.
    unit
        Length along each stored axis of what should not be cut: the chunk, or the shard.
    max_values
        Values a box holds at most, unless one unit holds more.
    """
    axes = [
        (entry, length) for entry, length in zip(selection, unit, strict=True) if not isinstance(entry, int)
    ]
    borders = [runs(entry, length) for entry, length in axes]
    lengths = [max((high - low for low, high in itertools.pairwise(edges)), default=0) for edges in borders]
    room = max_values // max(1, math.prod(lengths))
    # Whole frames first, then more frames: the last axis grows before the first.
    for axis in reversed(range(len(axes))):
        size = len(axes[axis][0])
        factor = max(1, min(room, ceil_div(size, max(1, lengths[axis]))))
        lengths[axis] *= factor
        room //= factor
    return [merged(edges, length) for edges, length in zip(borders, lengths, strict=True)]


def boxes(selection: Selection, unit: Sequence[int], max_values: int) -> Iterator[Box]:
    """Boxes that tile a selection exactly once, in C order; see `axis_boxes`."""
    return itertools.product(*axis_boxes(selection, unit, max_values))
