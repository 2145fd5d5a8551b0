"""The demands of one array, kept short: what the policy looks at."""

from __future__ import annotations

from collections import deque

from lazystore.cache.policy import Motion, motion_of

RECENT_DEMANDS = 32
# Changes of direction: enough to see that playback comes back to the same place.
TURNS = 12


class Playhead:
    """Recent changes of chunk and, from before these, the changes of direction.

    `observe` is called by the thread that demands, at every change of chunk, so it only appends.
    Everything else works on a copy, in any thread; a demand that slips between is seen next time.
    """

    __slots__ = ("_before", "_turns", "last", "last_s", "recent", "rises", "tails", "tails_before")

    def __init__(self) -> None:
        self.recent: deque[tuple[float, int]] = deque(maxlen=RECENT_DEMANDS)
        self.last = -1
        self.last_s = 0.0
        # Which of several chunks side by side are looked at, by their index without axis 0: at the
        # present place, and at the one before, where all have been asked for.
        self.tails: dict[tuple[int, ...], None] = {}
        self.tails_before: dict[tuple[int, ...], None] = {}
        # Three demands a turn: before it, at it, after it; together they tell a turn from a jump.
        self._turns: deque[tuple[float, int]] = deque(maxlen=3 * TURNS)
        self._before = (0.0, -1)
        # Whether the last step went forwards.
        self.rises = True

    def observe(self, seconds: float, number: int) -> None:
        """A demand for another chunk than the last one."""
        here = (seconds, number)
        rises = number > self.last
        if rises is not self.rises:
            self._turns.extend((self._before, (self.last_s, self.last), here))
            self.rises = rises
        self._before = (self.last_s, self.last)
        self.last = number
        self.last_s = seconds
        self.recent.append(here)

    def history(self) -> list[tuple[float, int]]:
        """Demands, oldest first: those at turns, then the recent ones."""
        recent = list(self.recent)
        older: list[tuple[float, int]] = []
        for demand in list(self._turns):
            # Turns that follow each other share demands.
            if demand[1] >= 0 and demand[0] < recent[0][0] and (not older or demand[0] > older[-1][0]):
                older.append(demand)
        return older + recent

    def motion(self, n_chunks: int) -> Motion | None:
        """How it moves; see `motion_of`."""
        return motion_of(self.history(), n_chunks)
