"""Memory that decoding takes is part of the cache's budget."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import numpy as np

import lazystore as ls
from lazystore.cache.decoders import ARENA_BYTES, Decoders
from lazystore.cache.pool import ChunkPool
from lazystore.cache.reader import CachedReader

MEGABYTE = 1_000_000


def note_in_threads(decoders: Decoders, n_threads: int, chunk_nbytes: int) -> None:
    """All of them live until the last has told."""
    barrier = threading.Barrier(n_threads)

    def tell() -> None:
        barrier.wait()
        decoders.note(chunk_nbytes)
        barrier.wait()

    threads = [threading.Thread(target=tell) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_that_lived_together_count_and_those_that_came_later_do_not() -> None:
    """A thread that ended leaves its memory to the next one."""
    decoders = Decoders()
    assert decoders.bytes_of(1000 * MEGABYTE) == 0
    note_in_threads(decoders, 3, 100)
    assert decoders.bytes_of(1000 * MEGABYTE) == 3 * (ARENA_BYTES + 100)
    for _ in range(5):
        note_in_threads(decoders, 1, 50)
    assert decoders.bytes_of(1000 * MEGABYTE) == 3 * (ARENA_BYTES + 100)
    note_in_threads(decoders, 4, 2000)
    assert decoders.bytes_of(1000 * MEGABYTE) == 4 * (ARENA_BYTES + 2000)


def test_a_thread_counts_once() -> None:
    """However often it decodes."""
    decoders = Decoders()
    for _ in range(9):
        decoders.note(10)
    assert decoders.bytes_of(1000 * MEGABYTE) == ARENA_BYTES + 10


def test_a_small_budget_keeps_most_of_its_chunks() -> None:
    """A quarter of it goes, not more."""
    decoders = Decoders()
    note_in_threads(decoders, 8, 1000)
    assert decoders.bytes_of(4 * MEGABYTE) == MEGABYTE


def test_chunks_make_room_for_those_who_decode_them(store_path: Path) -> None:
    """What is kept and what decoding takes are together no more than the budget."""
    values = np.random.default_rng(1).integers(0, 255, (400, 100, 100), np.uint8)
    ls.convert(values, store_path, name="movie", kind="stack", chunks=10, codec="fast")
    with ls.open(store_path) as store:
        below = store.reader(store.records["movie"], "data")
        pool = ChunkPool(3 * MEGABYTE)
        with closing(CachedReader(below, pool=pool, prefetch=False)) as reader:
            for number in range(40):
                reader.read_chunk((number, 0, 0))
            decoding = pool.decoders.bytes_of(3 * MEGABYTE)
            assert decoding == 3 * MEGABYTE // 4
            info = reader.cache_info()
    assert 2 * MEGABYTE < info.bytes <= 3 * MEGABYTE - decoding
    assert info.limit_bytes == 3 * MEGABYTE


def test_what_is_stored_as_it_is_takes_nothing(store_path: Path) -> None:
    """There is no codec whose memory could be counted."""
    values = np.zeros((40, 100, 100), np.uint8)
    ls.convert(values, store_path, name="movie", kind="stack", chunks=10, codec="none")
    with ls.open(store_path) as store:
        pool = ChunkPool(3 * MEGABYTE)
        below = store.reader(store.records["movie"], "data")
        with closing(CachedReader(below, pool=pool, prefetch=False)) as reader:
            reader.read_chunk((0, 0, 0))
        assert pool.room_bytes == 3 * MEGABYTE
