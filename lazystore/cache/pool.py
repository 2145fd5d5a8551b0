"""One byte budget for all chunks of the process: those in memory, and those on their way."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Hashable
from time import monotonic
from typing import Any

from numpy.typing import NDArray

from lazystore.cache.decoders import Decoders
from lazystore.cache.memory import budget_from_environment, parse_bytes
from lazystore.cache.shelf import Entry, Shelf, held_bytes
from lazystore.cache.slots import SlotBank
from lazystore.chunks import ChunkIndex

CACHE_VARIABLE = "LAZYSTORE_CACHE_BYTES"


class ChunkPool:
    """Decoded chunks of many arrays under one budget.

    Parameters
    ----------
    limit_bytes
        Budget in bytes; None asks ``LAZYSTORE_CACHE_BYTES``, else takes a quarter of the memory
        that is free at the first use.

    Notes
    -----
    `lock` guards every shelf. It is never held while a chunk is read, decoded or waited for, so it
    is free within microseconds; `room` wakes those that wait for bytes.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit_bytes = limit_bytes
        self.lock = threading.Lock()
        self.room = threading.Condition(self.lock)
        self.shelves: dict[Hashable, Shelf] = {}
        self.resident_bytes = 0
        self.reserved_bytes = 0
        self.decoders = Decoders()
        self._bank = SlotBank(self)
        self._demands_waiting = 0
        # Keys of readers that were forgotten without being closed; a finalizer may run anywhere, even
        # while the lock is held, so it only leaves a note here.
        self._forgotten: deque[Hashable] = deque()
        _pools.add(self)

    # --- the budget -----------------------------------------------------------------------------

    @property
    def limit_bytes(self) -> int:
        """The budget in bytes."""
        if self._limit_bytes is None:
            self._limit_bytes = budget_from_environment(CACHE_VARIABLE)
        return self._limit_bytes

    @property
    def room_bytes(self) -> int:
        """What of the budget is left for chunks beside the memory that decoding them takes."""
        limit = self.limit_bytes
        return limit - self.decoders.bytes_of(limit)

    def set_limit(self, limit_bytes: int) -> None:
        """Change the budget; what no longer fits is let go at once."""
        with self.lock:
            self._limit_bytes = limit_bytes
            self._evict_for(0, None)
            self._bank.trim()
            self.room.notify_all()

    def reserve(self, shelf: Shelf, nbytes: int, *, within_s: float | None = None) -> bool:
        """Make room for chunks that are about to be read; lock held.

        Parameters
        ----------
        nbytes
            Decoded bytes of what will be read.
        within_s
            None for a demand: it takes the place of whatever is needed last, and waits while other
            loads hold all the room. Seconds until it is needed for a prefetch: it takes the place of
            what is needed later than that, and never waits.

        Returns
        -------
        bool
            False where a demand is larger than all the room there is, or a prefetch is not worth its room.
        """
        self._drop_forgotten()
        if within_s is not None and self._demands_waiting:
            return False
        while True:
            if nbytes > self.room_bytes:
                return False
            if self._evict_for(nbytes, within_s):
                self.reserved_bytes += nbytes
                shelf.in_flight_bytes += nbytes
                return True
            if within_s is not None:
                return False
            self._demands_waiting += 1
            try:
                self.room.wait()
            finally:
                self._demands_waiting -= 1

    def release(self, shelf: Shelf, nbytes: int) -> None:
        """Give reserved room back; lock held."""
        self.reserved_bytes -= nbytes
        shelf.in_flight_bytes -= nbytes
        self.room.notify_all()

    def keep(
        self, shelf: Shelf, index: ChunkIndex, array: NDArray[Any], *, is_unused: bool, is_watched: bool
    ) -> None:
        """Put a chunk that was read on its shelf; lock held, its reservation released."""
        if index in shelf.entries or not shelf.users:
            return
        entry = Entry(array, held_bytes(array), monotonic(), is_unused=is_unused, is_watched=is_watched)
        shelf.put(index, entry)
        self.resident_bytes += entry.nbytes
        # Only where a chunk turned out larger than it was declared.
        self._evict_for(0, None)

    def _evict_for(self, nbytes: int, within_s: float | None) -> bool:
        """Let go of chunks until `nbytes` fit; False where they cannot, or it is not worth it."""
        over = self.resident_bytes + self.reserved_bytes + nbytes - self.room_bytes
        if over <= 0:
            return True
        now = monotonic()
        while over > 0:
            worst, owner = None, None
            for shelf in self.shelves.values():
                found = shelf.worst(now)
                if found is not None and (worst is None or found > worst):
                    worst, owner = found, shelf
            if worst is None or owner is None or (within_s is not None and worst[0] <= within_s):
                return False
            entry = owner.drop(worst[1])
            owner.evictions += 1
            self.resident_bytes -= entry.nbytes
            over -= entry.nbytes
            # Only now: its memory comes back, and stays for whoever the room is made for.
            del entry
        return True

    # --- who uses what --------------------------------------------------------------------------

    def attach(self, key: Hashable, n_chunks: int, chunk_nbytes: int) -> Shelf:
        """The shelf of an array, shared by all readers with this key; lock held."""
        self._drop_forgotten()
        shelf = self.shelves.get(key)
        if shelf is None:
            shelf = self.shelves[key] = Shelf(n_chunks, self._bank.open(chunk_nbytes))
        shelf.users += 1
        return shelf

    def detach(self, key: Hashable, shelf: Shelf) -> None:
        """One user less; the last one's chunks are let go; lock held."""
        self._drop_forgotten()
        self._leave(key, shelf)

    def forget_later(self, key: Hashable) -> None:
        """Detach at the next occasion; safe in a finalizer."""
        self._forgotten.append(key)

    def _drop_forgotten(self) -> None:
        while self._forgotten:
            key = self._forgotten.popleft()
            if key in self.shelves:
                self._leave(key, self.shelves[key])

    def _leave(self, key: Hashable, shelf: Shelf) -> None:
        shelf.users -= 1
        if shelf.users <= 0:
            self._bank.close(shelf.memory)
            self.resident_bytes -= shelf.clear()
            if self.shelves.get(key) is shelf:
                del self.shelves[key]
            self.room.notify_all()

    # --- fork -----------------------------------------------------------------------------------

    def renew_after_fork(self) -> None:
        """Make a child's pool whole: the chunks stay, the loads' threads do not exist here."""
        self.lock = threading.Lock()
        self.room = threading.Condition(self.lock)
        self._demands_waiting = 0
        self.reserved_bytes = 0
        self.decoders = Decoders()
        for shelf in self.shelves.values():
            shelf.forget_loads()


_pools: weakref.WeakSet[ChunkPool] = weakref.WeakSet()
_held_for_fork: list[ChunkPool] = []
shared_pool = ChunkPool()
"""The process's pool."""


def set_cache_bytes(cache_bytes: int | str) -> None:
    """Set the process's chunk cache budget, in bytes or as text (``"2GB"``); 0 keeps nothing.

    Raises
    ------
    UsageError
        If it is no size.
    """
    shared_pool.set_limit(parse_bytes(cache_bytes, "cache_bytes"))


def _before_fork() -> None:
    # With the locks taken no other thread is in the middle of a change when memory is copied.
    for pool in list(_pools):
        pool.lock.acquire()
        _held_for_fork.append(pool)


def _after_in_parent() -> None:
    while _held_for_fork:
        _held_for_fork.pop().lock.release()


def _after_in_child() -> None:
    while _held_for_fork:
        _held_for_fork.pop().renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
