"""Decoded chunks kept in memory: one byte budget a process, single flight, prefetch by playhead."""

from lazystore.cache.policy import Motion, motion_of, predict
from lazystore.cache.pool import ChunkPool, set_cache_bytes, shared_pool
from lazystore.cache.prefetch import Prefetcher
from lazystore.cache.reader import CachedReader, cached
from lazystore.cache.telemetry import CacheInfo

__all__ = [
    "CacheInfo",
    "CachedReader",
    "ChunkPool",
    "Motion",
    "Prefetcher",
    "cached",
    "motion_of",
    "predict",
    "set_cache_bytes",
    "shared_pool",
]
