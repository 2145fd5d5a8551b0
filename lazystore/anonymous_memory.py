"""Memory straight from the system: what is let go is gone at once, and fragments nothing."""

from __future__ import annotations

import contextlib
import mmap

# What the processor maps as one page where it may, on x86-64 and most of arm64.
HUGE_PAGE_BYTES = 2 << 20


def anonymous_memory(nbytes: int, *, is_used_whole: bool = False) -> mmap.mmap:
    """Memory of this process's own, zeros.

    Parameters
    ----------
    nbytes
        Size, > 0; whole pages are used up. Pages take no memory before they are written to, except
        where `is_used_whole`: then all are made in one go, where the system can do that. Half a
        megabyte one by one costs 0.30 ms at the first write, together 0.18 ms. Whole huge pages are
        asked for as such, and made at the first write: 0.06 ms for half a megabyte.

    Raises
    ------
    OSError
        If the system has no more memory, or no more mappings.

    >>> len(anonymous_memory(5000))
    5000
    """
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, nbytes)
    # Python's default would be shared with children of fork, who then would write over the parent's.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    if is_used_whole and nbytes % HUGE_PAGE_BYTES == 0 and hasattr(mmap, "MADV_HUGEPAGE"):
        memory = mmap.mmap(-1, nbytes, flags=flags)
        # EINVAL: a kernel without them. Small pages do then, one by one.
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
        return memory
    return mmap.mmap(-1, nbytes, flags=flags | (getattr(mmap, "MAP_POPULATE", 0) if is_used_whole else 0))
