"""Memory for chunks that is used again and again, so that a budget in bytes is a bound on RSS.

Chunks come and go by the thousand, allocated in one thread and freed in another. A general allocator
keeps an arena for each thread and cannot give back what lies between chunks that live: with eight
threads the process grew to 2.5 times the budget. Here a chunk is decoded (or copied, 20 µs for 300 kB)
into a slot of anonymous memory, and the slot is used again when the last array over it is gone, no
sooner: whoever still looks at an evicted chunk keeps its values.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lazystore.anonymous_memory import HUGE_PAGE_BYTES, anonymous_memory
from lazystore.chunks import ceil_div

# Below a page the allocator's small bins do well.
MIN_SLOT_BYTES = 4096
# A system has a limited number of mappings (65,530 on Linux), made of whole pages: one holds several slots
# where the budget is large or the chunks are small.
MAX_MAPPINGS = 8192
MIN_MAPPING_BYTES = 128 * 1024
# Free slots beyond the room that the budget leaves, as a part of the budget; the rest goes back to the
# system. Slots that one thread gave back and another is about to take must not be made anew.
FREE_SHARE_OF_BUDGET = 64


# Huge pages are made in a quarter of the time (playing 640x480 from a cache with room for all takes 0.60
# instead of 0.92 ms of CPU a frame), but several chunks share them, and keep them from going back. Only where
# that is little beside the budget, from 512 MB on, and where chunks fill them.
HUGE_PAGES_IN_SLACK = 4
MAX_HUGE_MAPPING_BYTES = 16 * 1024 * 1024
WASTED_SHARE_OF_MAPPING = 32


class Budget(Protocol):
    """What a pool may hold, and what it holds; read without its lock."""

    resident_bytes: int
    reserved_bytes: int

    @property
    def room_bytes(self) -> int:
        """The bytes of the budget that chunks may take."""


class SlotBank:
    """The slots of all arrays of a pool.

    Notes
    -----
    Slots come back in whichever thread drops the last array over them, also in the middle of anything
    that the garbage collector interrupts. So nothing here takes a lock; what is done by two threads at
    once is done twice, or left for the next time.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        # Replaced and never changed, so that it may be gone through at any time.
        self._memories: tuple[ChunkMemory, ...] = ()

    def open(self, chunk_nbytes: int) -> ChunkMemory:
        """Slots for the chunks of one more array; the pool's lock held."""
        memory = ChunkMemory(chunk_nbytes, self)
        self._memories = (*self._memories, memory)
        return memory

    def close(self, memory: ChunkMemory) -> None:
        """Give an array's free slots back to the system, and later those that are lent; lock held."""
        self._memories = tuple(other for other in self._memories if other is not memory)
        memory.close()

    @property
    def room_bytes(self) -> int:
        """What the pool's chunks may take."""
        return self._budget.room_bytes

    @property
    def slack_bytes(self) -> int:
        """What free slots may take beyond the budget."""
        return max(self._budget.room_bytes // FREE_SHARE_OF_BUDGET, MIN_MAPPING_BYTES)

    def mapping_bytes(self, chunk_nbytes: int) -> int:
        """How much memory to get from the system at once for chunks of a size; little is left over."""
        nbytes = max(self.room_bytes // MAX_MAPPINGS, MIN_MAPPING_BYTES)
        slack = self.slack_bytes
        if slack >= HUGE_PAGES_IN_SLACK * HUGE_PAGE_BYTES:
            most = max(nbytes, min(slack, MAX_HUGE_MAPPING_BYTES))
            huge = next(filling_huge_pages(chunk_nbytes, ceil_div(nbytes, HUGE_PAGE_BYTES), most), 0)
            if huge:
                return huge
        return ceil_div(nbytes, chunk_nbytes) * chunk_nbytes

    @property
    def excess_bytes(self) -> int:
        """What free slots take beyond the room that chunks leave, and beyond the slack."""
        budget = self._budget
        room = max(0, budget.room_bytes - budget.resident_bytes - budget.reserved_bytes)
        return sum(memory.free_bytes for memory in self._memories) - room - self.slack_bytes

    def trim(self) -> None:
        """Give back to the system what is too much, of whichever array."""
        for memory in self._memories:
            if (excess := self.excess_bytes) <= 0:
                return
            memory.trim(excess)


def filling_huge_pages(chunk_nbytes: int, n_pages: int, most_bytes: int) -> Iterator[int]:
    """Sizes in whole huge pages, `n_pages` or more, that chunks fill but for a 32nd; smallest first.

    >>> [nbytes // HUGE_PAGE_BYTES for nbytes in filling_huge_pages(640 * 480 * 3, 1, 16 << 20)]
    [4, 8]
    """
    for nbytes in range(n_pages * HUGE_PAGE_BYTES, most_bytes + 1, HUGE_PAGE_BYTES):
        if nbytes % chunk_nbytes <= nbytes // WASTED_SHARE_OF_MAPPING and nbytes >= chunk_nbytes:
            yield nbytes


class Slot:
    """A place for one chunk, on loan. Arrays over it hold it; with the last of them it returns."""

    __slots__ = ("_home", "memory")

    def __init__(self, memory: memoryview, home: ChunkMemory) -> None:
        self.memory = memory
        self._home = home

    def __buffer__(self, flags: int) -> memoryview:
        # Read-only for arrays: their owner cannot be talked into making them writable.
        return self.memory.toreadonly()

    def __del__(self) -> None:
        self._home.take_back(self.memory)

    def sealed(self, view: NDArray[Any]) -> NDArray[Any]:
        """The read-only array in place of a view that begins where the slot's memory does."""
        return np.ndarray(view.shape, view.dtype, self, strides=view.strides)

    def copy_of(self, chunk: NDArray[Any]) -> NDArray[Any] | None:
        """A read-only copy of a chunk; None where it does not belong into a slot.

        Small chunks, values that are Python objects, and chunks larger than declared do not.
        """
        if not MIN_SLOT_BYTES <= chunk.nbytes <= self.memory.nbytes or chunk.dtype.hasobject:
            return None
        values: NDArray[Any] = np.ndarray(chunk.shape, chunk.dtype, self.memory)
        np.copyto(values, chunk)
        return self.sealed(values)


class ChunkMemory:
    """Slots for the chunks of one array, `chunk_nbytes` each."""

    __slots__ = ("_bank", "_free", "_is_open", "_n_back", "chunk_nbytes")

    def __init__(self, chunk_nbytes: int, bank: SlotBank) -> None:
        self.chunk_nbytes = chunk_nbytes
        self._bank = bank
        self._free: deque[memoryview] = deque()
        self._is_open = True
        # Came back since the last trim. Counted without a lock, it only sets the pace of trimming.
        self._n_back = 0

    @property
    def free_bytes(self) -> int:
        """Bytes of slots that nobody uses."""
        return len(self._free) * self.chunk_nbytes

    def borrow(self, n_slots: int) -> list[Slot]:
        """As many free slots as there are, at most `n_slots`; makes none."""
        found: list[Slot] = []
        while len(found) < n_slots:
            try:
                found.append(Slot(self._free.pop(), self))
            except IndexError:
                break
        return found

    def add(self, slots: list[Slot], n_slots: int) -> bool:
        """Make new slots until there are `n_slots`; blocks for the system, 0.18 ms for half a megabyte.

        Returns
        -------
        bool
            False where chunks of this size are no matter for slots, or the system has no more memory or
            no more mappings: numpy's own allocation then tells.
        """
        if self.chunk_nbytes < MIN_SLOT_BYTES:
            return False
        if len(slots) < n_slots:
            # The budget may have moved here from another array, whose free slots then are too much.
            self._bank.trim()
        mapping_bytes = self._bank.mapping_bytes(self.chunk_nbytes)
        while len(slots) < n_slots:
            try:
                whole = memoryview(anonymous_memory(mapping_bytes, is_used_whole=True))
            except (OSError, ValueError):
                return False
            self._free.extend(
                whole[i * self.chunk_nbytes : (i + 1) * self.chunk_nbytes]
                for i in range(mapping_bytes // self.chunk_nbytes)
            )
            slots += self.borrow(n_slots - len(slots))
        return True

    def take_back(self, memory: memoryview) -> None:
        """A slot's last array is gone."""
        if not self._is_open:
            return
        self._free.append(memory)
        self._n_back += 1
        if self._n_back * self.chunk_nbytes >= self._bank.slack_bytes and self._bank.excess_bytes > 0:
            self.trim(self._bank.excess_bytes)

    def trim(self, nbytes: int) -> None:
        """Give back mappings that nobody uses at all, `nbytes` if there are so many."""
        if not self._n_back:
            return  # it was tried, and since then nothing was let go
        self._n_back = 0
        free: list[memoryview] = []
        while True:
            try:
                free.append(self._free.pop())
            except IndexError:
                break
        n_free = Counter(id(memory.obj) for memory in free)
        kept = []
        for memory in free:
            mapping: Any = memory.obj
            if nbytes > 0 and n_free[id(mapping)] == len(mapping) // self.chunk_nbytes:
                # All slots of a mapping come by here, or none.
                nbytes -= len(mapping)
                n_free[id(mapping)] = -1
            if n_free[id(mapping)] >= 0:
                kept.append(memory)
        # The one that came back last is taken first, while the processor's cache may still know it.
        self._free.extend(reversed(kept))

    def close(self) -> None:
        """Give back every free slot, and from now on each that comes back."""
        self._is_open = False
        self._free.clear()
