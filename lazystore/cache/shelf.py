"""The chunks of one array that are in memory, and those on their way."""

from __future__ import annotations

import heapq
import threading
from bisect import bisect_left, insort
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.cache.eviction import last_needed, seconds_until_use
from lazystore.cache.playhead import Playhead
from lazystore.cache.policy import Motion
from lazystore.cache.slots import ChunkMemory, Slot
from lazystore.chunks import ChunkIndex


class Entry:
    """A chunk in memory; `used` is when it was demanded last, in monotonic seconds."""

    __slots__ = ("array", "is_unused", "is_watched", "nbytes", "used")

    def __init__(
        self, array: NDArray[Any], nbytes: int, used: float, *, is_unused: bool, is_watched: bool
    ) -> None:
        self.array = array
        self.nbytes = nbytes
        self.used = used
        # Prefetched, and not demanded yet.
        self.is_unused = is_unused
        # Its next hit tells something: all other hits look at this one flag and go on.
        self.is_watched = is_watched


class Load:
    """A chunk on its way. Exactly one thread reads it; others wait for `done`.

    After `done`: `array`, or `error`, or neither where the reading thread was interrupted; then
    whoever waits has to read it itself.
    """

    __slots__ = ("array", "done", "error")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.array: NDArray[Any] | None = None
        self.error: Exception | None = None


class Shelf:
    """One array's part of the pool. Every method is called with the pool's lock held.

    `entries` may be read without the lock: a reader of the dictionary sees a chunk or does not.
    """

    __slots__ = (
        "_motion",
        "_motion_at",
        "_oldest",
        "_reading_ahead",
        "_sorted",
        "entries",
        "evictions",
        "in_flight_bytes",
        "loads",
        "memory",
        "n_chunks",
        "nbytes",
        "playhead",
        "users",
    )

    def __init__(self, n_chunks: int, memory: ChunkMemory) -> None:
        self.n_chunks = max(1, n_chunks)
        self.memory = memory
        self.users = 0
        self.entries: dict[ChunkIndex, Entry] = {}
        self.loads: dict[ChunkIndex, Load] = {}
        self.playhead = Playhead()
        self.nbytes = 0
        self.in_flight_bytes = 0
        self.evictions = 0
        # By place along the axis, for a known playhead; by time of use, for an unknown one. The heap's
        # times are lower bounds: a hit, which takes no lock, moves only the entry's own.
        self._sorted: list[ChunkIndex] = []
        self._oldest: list[tuple[float, ChunkIndex]] = []
        # Prefetches under way, by the id of the reader that began them.
        self._reading_ahead: dict[int, int] = {}
        self._motion: Motion | None = None
        self._motion_at = -1.0

    def put(self, index: ChunkIndex, entry: Entry) -> None:
        """Keep a chunk that is not on the shelf yet."""
        self.entries[index] = entry
        self.nbytes += entry.nbytes
        insort(self._sorted, index)
        heapq.heappush(self._oldest, (entry.used, index))
        if len(self._oldest) > 2 * len(self.entries) + 64:
            # While the playhead is known nobody takes from the heap, so it would grow for ever.
            self._oldest = [(entry.used, index) for index, entry in self.entries.items()]
            heapq.heapify(self._oldest)

    def drop(self, index: ChunkIndex) -> Entry:
        """Take a chunk from the shelf."""
        entry = self.entries.pop(index)
        self.nbytes -= entry.nbytes
        del self._sorted[bisect_left(self._sorted, index)]
        return entry

    def clear(self) -> int:
        """Let go of everything; the bytes that this frees."""
        freed = self.nbytes
        self.entries.clear()
        self._sorted.clear()
        self._oldest.clear()
        self.nbytes = 0
        return freed

    def begin_reading_ahead(self, reader_id: int) -> None:
        """A prefetch of a reader has begun."""
        self._reading_ahead[reader_id] = self._reading_ahead.get(reader_id, 0) + 1

    def end_reading_ahead(self, reader_id: int) -> None:
        """A prefetch of a reader has ended."""
        left = self._reading_ahead.get(reader_id, 0) - 1
        if left > 0:
            self._reading_ahead[reader_id] = left
        else:
            self._reading_ahead.pop(reader_id, None)

    def is_reading_ahead(self, reader_id: int) -> bool:
        """Whether a prefetch of a reader is under way."""
        return reader_id in self._reading_ahead

    @property
    def reads_ahead(self) -> int:
        """Prefetches under way, of all readers; a look without the lock is near enough."""
        return sum(list(self._reading_ahead.values()))

    def forget_loads(self) -> None:
        """Nothing is on its way: in a child of fork the threads that read do not exist."""
        self.loads.clear()
        self._reading_ahead.clear()
        self.in_flight_bytes = 0

    def motion(self) -> Motion | None:
        """The playhead's motion, worked out once for each of its moves."""
        if self._motion_at != self.playhead.last_s:
            self._motion_at = self.playhead.last_s
            self._motion = self.playhead.motion(self.n_chunks)
        return self._motion

    def worst(self, now: float) -> tuple[float, ChunkIndex] | None:
        """The chunk that will be used last, and in how many seconds; None where there is none."""
        if not self.entries:
            return None
        motion = self.motion()
        if motion is not None and motion.is_steady:
            index = last_needed(self._sorted, motion)
            return seconds_until_use(index[0], motion, now - self.playhead.last_s), index
        while True:
            used, index = self._oldest[0]
            entry = self.entries.get(index)
            if entry is None:
                heapq.heappop(self._oldest)
            elif entry.used > used:
                heapq.heapreplace(self._oldest, (entry.used, index))
            else:
                return now - used, index


def held_bytes(array: NDArray[Any]) -> int:
    """Bytes of memory that an array keeps alive: its own, or those of the array it is a view of."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    slot = root.base
    return max(array.nbytes, root.nbytes, slot.memory.nbytes if isinstance(slot, Slot) else 0)


def sealed(array: NDArray[Any]) -> NDArray[Any]:
    """The chunk as it is handed out: read-only for good, keeping nothing else in memory.

    A read-only view over a read-only array cannot be made writable again by whoever gets it.
    """
    if held_bytes(array) > 2 * array.nbytes:
        array = array.copy()
    if array.flags.writeable:
        array.flags.writeable = False
    return array.view()
