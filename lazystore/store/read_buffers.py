"""Memory that encoded chunks are read into and decoded from, used again and again.

Encoded chunks differ in size, and each lives as long as a read and a decode. Allocated one by one between
other things they leave holes: each reading thread's part of a general allocator's memory grew to 4 MB for
chunks of 0.3 MB, where the codec alone needs 1.2.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from lazystore.anonymous_memory import anonymous_memory
from lazystore.chunks import ceil_div

# As many as threads decode at once where cores are few; more are made, and not kept.
MAX_FREE = 4
# A chunk larger than this is rare, and not worth memory that lies idle.
MAX_KEPT_BYTES = 4 * 1024 * 1024
UNIT_BYTES = 64 * 1024


class ReadBuffers:
    """Buffers for any thread; no lock, so that a finalizer or a child of fork finds nothing locked."""

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=MAX_FREE)

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """At least so many bytes, of whatever values; nobody else's until they are given back."""
        try:
            buffer = self._free.pop()
            if buffer.size >= nbytes:
                return buffer
        except IndexError:
            pass
        # Pages that nobody writes to take no memory: the size may be the most there could be.
        return np.frombuffer(anonymous_memory(max(1, ceil_div(nbytes, UNIT_BYTES)) * UNIT_BYTES), np.uint8)

    def give_back(self, buffer: NDArray[np.uint8]) -> None:
        """End a use; nothing may look at the bytes any more."""
        if buffer.size <= MAX_KEPT_BYTES:
            self._free.append(buffer)


shared_buffers = ReadBuffers()
"""The process's buffers."""
