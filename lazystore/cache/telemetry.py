"""What the cache did, as one record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What the cache did for one array since it was opened.

    Attributes
    ----------
    hits, misses
        Demands that were answered from memory, and that were not. Under several threads a hit
        may go uncounted; nothing else may.
    waits, wait_s
        Demands that joined a load that was under way, and the seconds that all demands that were
        no hits waited.
    evictions
        Chunks of this array that made room.
    prefetched, prefetch_used, prefetch_cancelled, prefetch_errors
        Chunks loaded ahead of demand; of those, how many a demand then found; planned loads that
        a jump made useless before they began; loads that failed (the error comes at demand).
    uncached
        Chunks served without being kept: larger than the budget, or read by a scan.
    chunks, bytes
        Chunks of this array in memory now, and their bytes.
    in_flight_bytes
        Reserved for loads of this array that are under way.
    total_bytes, limit_bytes
        Bytes that all arrays of the process hold or have reserved, and the budget.
    """

    hits: int = 0
    misses: int = 0
    waits: int = 0
    wait_s: float = 0.0
    evictions: int = 0
    prefetched: int = 0
    prefetch_used: int = 0
    prefetch_cancelled: int = 0
    prefetch_errors: int = 0
    uncached: int = 0
    chunks: int = 0
    bytes: int = 0
    in_flight_bytes: int = 0
    total_bytes: int = 0
    limit_bytes: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of demands answered from memory, 0 to 1; 1 before the first demand."""
        demands = self.hits + self.misses
        return self.hits / demands if demands else 1.0


@dataclass(slots=True)
class Counts:
    """Sums of one reader; plain attributes, because a hit must not take a lock."""

    hits: int = 0
    misses: int = 0
    waits: int = 0
    wait_s: float = 0.0
    prefetched: int = 0
    prefetch_used: int = 0
    prefetch_cancelled: int = 0
    prefetch_errors: int = 0
    uncached: int = 0
