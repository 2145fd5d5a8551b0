"""Cut a selection into boxes that follow the chunks, so that large work runs in bounded memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from lazystore.array.indexing import Positions, Selection

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


def joined(borders: Sequence[int], n_runs: int) -> list[slice]:
    """Intervals of `n_runs` consecutive runs each; the last may hold fewer.

    >>> joined([0, 1, 4, 7], 2)
    [slice(0, 4, None), slice(4, 7, None)]
    """
    edges = [*borders[:-1:n_runs], borders[-1]]
    return [slice(low, high) for low, high in itertools.pairwise(edges) if low < high]


def axis_boxes(
    selection: Selection, unit: Sequence[int], max_values: int, *, by_result: bool = False
) -> list[list[slice]]:
    """For each axis that is left, the intervals whose product are the boxes.

    Parameters
    ----------
    selection
        What is read.
    unit
        Length along each stored axis of what should not be cut: the chunk, or the shard.
    max_values
        Values a box costs at most, unless one unit costs more.
    by_result
        Count the values that a box holds, not those of all units that have to be read for it.
    """
    left = [axis for axis, entry in enumerate(selection) if not isinstance(entry, int)]
    borders = [runs(entry, unit[axis]) for axis in left if not isinstance(entry := selection[axis], int)]
    if by_result:
        cost = math.prod(
            max((high - low for low, high in itertools.pairwise(edges)), default=1) for edges in borders
        )
    else:
        cost = math.prod(unit)
    room = max_values // max(1, cost)
    boxes_of_axis = []
    # Whole frames first, then more frames: the last axis grows before the first.
    for edges in reversed(borders):
        n_runs = max(1, min(room, len(edges) - 1))
        room //= n_runs
        boxes_of_axis.append(joined(edges, n_runs))
    return boxes_of_axis[::-1]


def boxes(selection: Selection, unit: Sequence[int], max_values: int) -> Iterator[Box]:
    """Boxes that tile a selection exactly once, in C order; each reads a bounded number of values."""
    return itertools.product(*axis_boxes(selection, unit, max_values))
