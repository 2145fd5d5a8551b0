"""The demands of one array, kept short: what the policy looks at."""

from __future__ import annotations

from collections import deque
from itertools import takewhile

from lazystore.cache.policy import Motion, motion_of

RECENT_DEMANDS = 32
# Where playback turned: enough to see that it comes back to the same place.
TURNING_POINTS = 16


class Playhead:
    """Recent changes of chunk and, from before these, the turning points.

    `observe` is called by the thread that demands, at every change of chunk, so it only appends.
    Everything else works on a copy, in any thread; a demand that slips between is seen next time.
    """

    __slots__ = ("_rises", "_turns", "last", "last_s", "recent", "tails", "tails_before")

    def __init__(self) -> None:
        self.recent: deque[tuple[float, int]] = deque(maxlen=RECENT_DEMANDS)
        self.last = -1
        self.last_s = 0.0
        # Which of several chunks side by side are looked at, by their index without axis 0: at the
        # present place, and at the one before, where all have been asked for.
        self.tails: dict[tuple[int, ...], None] = {}
        self.tails_before: dict[tuple[int, ...], None] = {}
        self._turns: deque[tuple[float, int]] = deque(maxlen=TURNING_POINTS)
        self._rises = True

    def observe(self, seconds: float, number: int) -> None:
        """A demand for another chunk than the last one."""
        rises = number > self.last
        if rises is not self._rises:
            self._turns.append((self.last_s, self.last))
            self._rises = rises
        self.last = number
        self.last_s = seconds
        self.recent.append((seconds, number))

    def history(self) -> list[tuple[float, int]]:
        """Demands, oldest first: turning points, then the recent ones."""
        recent = list(self.recent)
        if not recent:
            return []
        return [*takewhile(lambda turn: turn[0] < recent[0][0], list(self._turns)), *recent]

    def motion(self, n_chunks: int) -> Motion | None:
        """How it moves; see `motion_of`."""
        return motion_of(self.history(), n_chunks)
