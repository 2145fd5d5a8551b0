"""Where the picture of a video changes its size: each run of frames of one size is a part of its own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lazystore.video.tables import FrameTable

type Size = tuple[int, int]

# Each costs a few seeks; a video that changes more often is no recording.
MAX_PARTS = 64


def parts_by_looking(table: FrameTable, size_of: Callable[[int], Size | None]) -> list[range]:
    """Frames of each part, found by decoding few frames; all in one where no change is found.

    Looks at the last group of frames first, so that a video of one size costs one seek. What lies
    between two groups of one size is taken to have that size, too.

    Parameters
    ----------
    table
        The frames.
    size_of
        Width and height of a frame; None if it is lost.
    """
    last = len(table.seek_frame) - 1
    starts = [0]
    size = size_of(0)
    while len(starts) < MAX_PARTS and size is not None:
        low, high = table.seek_index(starts[-1]), last
        end = size_of(int(table.seek_frame[high]))
        if end in (size, None) or not _is_lasting(table, high, end, size_of):
            break
        while high - low > 1:
            middle = (low + high) // 2
            if size_of(int(table.seek_frame[middle])) in (size, None):
                low = middle
            else:
                high = middle
        starts.append(int(table.seek_frame[high]))
        size = size_of(starts[-1])
    return _parts(table, starts)


def parts_of_sizes(table: FrameTable, sizes: NDArray[np.int64]) -> list[range]:
    """The same where all frames have been decoded.

    Parameters
    ----------
    sizes
        Shape (time, 2), int64: width and height of each frame.
    """
    changes = (np.flatnonzero((np.diff(sizes, axis=0) != 0).any(axis=1)) + 1).tolist()
    starts = [0]
    for start, stop in pairwise([0, *changes, len(sizes)]):
        # A single picture of another size is a damaged one, and so is what it makes of the run before it.
        is_another = (sizes[start] != sizes[starts[-1]]).any()
        if start and stop - start > 1 and is_another:
            starts.append(start)
    return _parts(table, starts)


def table_of_part(table: FrameTable, part: range) -> FrameTable:
    """The frames of a part, over the same packets."""
    packet = table.packet[part.start : part.stop]
    frame_of_packet = np.full_like(table.frame_of_packet, -1)
    frame_of_packet[packet] = np.arange(len(part))
    inside = (table.seek_frame >= part.start) & (table.seek_frame < part.stop)
    return FrameTable(
        packet,
        table.pts[part.start : part.stop],
        frame_of_packet,
        table.seek_packet[inside],
        table.seek_frame[inside] - part.start,
        table.cut_packet,
    )


def _is_lasting(
    table: FrameTable, group: int, size: Size | None, size_of: Callable[[int], Size | None]
) -> bool:
    """Whether another frame beside a group's first one has its size; a damaged picture may claim any."""
    frame_index = int(table.seek_frame[group])
    beside = frame_index + 1 if frame_index + 1 < len(table) else frame_index - 1
    return size_of(beside) == size


def _parts(table: FrameTable, starts: list[int]) -> list[range]:
    """Ranges between starts; one for all where parts cannot be decoded on their own."""
    whole = [range(len(table))]
    if not table.identified or not set(starts) <= set(table.seek_frame.tolist()):
        return whole
    for start in starts[1:]:
        first_packet = table.seek_packet[table.seek_index(start)]
        if table.packet[:start].max() >= first_packet:
            return whole
    return [range(start, stop) for start, stop in pairwise([*starts, len(table)])]
