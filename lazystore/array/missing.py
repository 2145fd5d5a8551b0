"""Frames that a recording does not hold, because its source lost them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lazystore.array.indexing import Entry
from lazystore.errors import MissingFrameError, UsageError


class MissingFrames:
    """Index ranges along axis 0 that must not be answered with filler.

    Parameters
    ----------
    spans
        Half-open [start, stop) pairs of frame indices, in any order, not overlapping.

    Raises
    ------
    UsageError
        For a pair that is empty or negative, or that overlaps another.
    """

    __slots__ = ("_starts", "_stops")

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        ordered = sorted((int(start), int(stop)) for start, stop in spans)
        previous_stop = 0
        for start, stop in ordered:
            if start < previous_stop or stop <= start:
                raise UsageError(
                    f"missing frames {ordered!r} hold the span {(start, stop)!r}, which is empty, negative "
                    "or overlaps; expected separate half-open [start, stop) pairs"
                )
            previous_stop = stop
        self._starts = [start for start, _ in ordered]
        self._stops = [stop for _, stop in ordered]

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Half-open [start, stop) pairs, ascending."""
        return tuple(zip(self._starts, self._stops, strict=True))

    def __contains__(self, frame_index: int) -> bool:
        place = bisect_right(self._starts, frame_index) - 1
        return place >= 0 and frame_index < self._stops[place]

    def mask(self, entry: Entry) -> NDArray[np.bool_]:
        """Shape (len(entry),): which frames of an axis entry are missing.

        >>> MissingFrames([(2, 4)]).mask(range(0, 5)).tolist()
        [False, False, True, True, False]
        """
        if isinstance(entry, int):
            frames = np.array([entry])
        elif isinstance(entry, range):
            frames = np.arange(entry.start, entry.stop, entry.step)
        else:
            frames = entry
        if not self._starts:
            return np.zeros(frames.shape, bool)
        place = np.searchsorted(np.array(self._starts), frames, side="right") - 1
        return (place >= 0) & (frames < np.array(self._stops)[np.maximum(place, 0)])

    def check(self, entry: Entry, name: str) -> None:
        """Refuse to read frames that are not there.

        Raises
        ------
        MissingFrameError
            Naming the first missing frame and how many there are.
        """
        if not self._starts:
            return
        if isinstance(entry, int):
            if entry in self:
                raise MissingFrameError(
                    f"frame {entry} of {name!r} is missing: its source was damaged there; "
                    "a.missing_frames lists all such frames"
                )
            return
        lost = np.flatnonzero(self.mask(entry))
        if lost.size:
            raise MissingFrameError(
                f"frame {int(entry[int(lost[0])])} of {name!r} is missing ({lost.size} of the {len(entry)} "
                "asked for are): its source was damaged there; leave out a.missing_frames, or pass "
                "skip_missing=True to a reduction"
            )
