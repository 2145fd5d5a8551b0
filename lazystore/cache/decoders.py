"""Threads that decode chunks, and the memory that each of them keeps for it."""

from __future__ import annotations

import threading

# What a general allocator keeps for a thread once it has decoded: Blosc's blocks and Zstandard's context in
# an arena of the thread's own, with the holes between them (glibc: 0.9 to 1.1 MB for blocks of 128 kB).
ARENA_BYTES = 1024 * 1024
# Eight threads shall not push all chunks out of a small budget.
MOST_OF_BUDGET = 4


class Decoders:
    """How many threads have decoded at the same time, at most; the pool's lock guards it.

    The memory of a thread that ended is used by the next one, and never goes back to the system: so what
    counts is the most that ever lived together.
    """

    def __init__(self) -> None:
        self._living: set[int] = set()
        self._most = 0
        self._largest_chunk = 0

    def note(self, chunk_nbytes: int) -> None:
        """The calling thread is about to decode chunks of a size."""
        self._largest_chunk = max(self._largest_chunk, chunk_nbytes)
        ident = threading.get_ident()
        if ident not in self._living:
            self._living &= {thread.ident for thread in threading.enumerate() if thread.ident is not None}
            self._living.add(ident)
            self._most = max(self._most, len(self._living))

    def bytes_of(self, limit_bytes: int) -> int:
        """What they take of a budget: arenas, and for each thread an encoded chunk that was read."""
        return min(self._most * (ARENA_BYTES + self._largest_chunk), limit_bytes // MOST_OF_BUDGET)
