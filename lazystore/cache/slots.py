"""Memory for chunks that is used again and again, so that a budget in bytes is a bound on RSS.

Chunks come and go by the thousand, allocated in one thread and freed in another. A general allocator
keeps an arena for each thread and cannot give back what lies between chunks that live: with eight
threads the process grew to 2.5 times the budget. Here a chunk is copied (20 µs for 300 kB) into a slot
of anonymous memory, and the slot is used again when the last array over it is gone, no sooner: whoever
still looks at an evicted chunk keeps its values.
"""

from __future__ import annotations

import math
import mmap
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div

# Below a page the allocator's small bins do well.
MIN_SLOT_BYTES = 4096
# A system has a limited number of mappings (65,530 on Linux), made of whole pages: one holds several slots
# where the budget is large or the chunks are small.
MAX_MAPPINGS = 8192
MIN_MAPPING_BYTES = 128 * 1024
# Free slots that are kept for the next chunks, as a part of the budget; the rest goes back to the system.
FREE_SHARE_OF_BUDGET = 64


class Slot:
    """A place for one chunk, on loan. Arrays over it hold it; with the last of them it returns."""

    __slots__ = ("_free", "_most_free", "memory")

    def __init__(self, memory: memoryview, free: deque[memoryview], most_free: int) -> None:
        self.memory = memory
        self._free = free
        self._most_free = most_free

    def __buffer__(self, flags: int) -> memoryview:
        # Read-only for arrays: their owner cannot be talked into making them writable.
        return self.memory.toreadonly()

    def __del__(self) -> None:
        # Runs in whichever thread drops the last array, so it takes no lock: appending is atomic.
        if len(self._free) < self._most_free:
            self._free.append(self.memory)


class ChunkMemory:
    """Slots for the chunks of one array, `chunk_nbytes` each."""

    __slots__ = ("_free", "chunk_nbytes")

    def __init__(self, chunk_nbytes: int) -> None:
        self.chunk_nbytes = chunk_nbytes
        self._free: deque[memoryview] = deque()

    def store(self, chunk: NDArray[Any], budget_bytes: int) -> NDArray[Any] | None:
        """A read-only copy of a chunk in a slot; None where it does not belong into one.

        Small chunks, values that are Python objects, and chunks larger than declared do not. The
        budget decides how many slots share a mapping, and how many free ones are kept.
        """
        placed = self.place(chunk.shape, chunk.dtype, budget_bytes)
        if placed is None:
            return None
        values, stored = placed
        np.copyto(values, chunk)
        return stored

    def place(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], budget_bytes: int
    ) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """A slot twice: to be filled, and read-only as it is handed out once it is; None as in `store`.

        Whoever fills it lets go of the first array then: it does not keep the slot on loan.
        """
        nbytes = dtype.itemsize * math.prod(shape)
        if not MIN_SLOT_BYTES <= nbytes <= self.chunk_nbytes or dtype.hasobject:
            return None
        n_together = ceil_div(max(budget_bytes // MAX_MAPPINGS, MIN_MAPPING_BYTES), self.chunk_nbytes)
        memory = self._take(n_together)
        if memory is None:
            return None
        most_free = max(2 * n_together, budget_bytes // FREE_SHARE_OF_BUDGET // self.chunk_nbytes)
        stored: NDArray[Any] = np.ndarray(shape, dtype, Slot(memory, self._free, most_free))
        return np.ndarray(shape, dtype, memory), stored

    def _take(self, n_together: int) -> memoryview | None:
        try:
            return self._free.pop()
        except IndexError:
            pass
        try:
            whole = memoryview(_anonymous(self.chunk_nbytes * n_together))
        except (OSError, ValueError):  # out of mappings, or of memory: numpy's own allocation tells
            return None
        first, *others = (
            whole[i * self.chunk_nbytes : (i + 1) * self.chunk_nbytes] for i in range(n_together)
        )
        self._free.extend(others)
        return first


def _anonymous(nbytes: int) -> mmap.mmap:
    """Memory of one's own.

    Python's default would be shared with children of fork, who then would write their chunks over
    the parent's.
    """
    if hasattr(mmap, "MAP_PRIVATE"):
        # All pages in one go, where the system can: half a megabyte of them one by one costs 0.30 ms
        # at the first copy, together 0.18 ms.
        populate = getattr(mmap, "MAP_POPULATE", 0)
        return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | populate)
    return mmap.mmap(-1, nbytes)
