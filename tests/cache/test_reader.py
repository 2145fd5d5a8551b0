"""CachedReader: one load a chunk, one budget, read-only chunks, errors that are never kept."""

from __future__ import annotations

import gc
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lazystore.array import LazyArray
from lazystore.cache import CachedReader, ChunkPool, cached, set_cache_bytes, shared_pool
from lazystore.chunks import ChunkIndex
from lazystore.errors import DamagedStoreError, UsageError
from lazystore.schema import ArraySpec
from lazystore.testing import (
    ArrayChunkReader,
    CountingReader,
    FailingReader,
    GatedReader,
    check_chunk_reader,
)
from tests.cache.conftest import CHUNK_BYTES, Workbench
from tests.scoreboard import record, scaled

Eventually = Callable[[Callable[[], bool]], None]


@pytest.mark.parametrize("limit", [0, 100, 10_000])
@pytest.mark.parametrize("shape", [(9, 4), (7, 5, 3), (3,), (0, 4)])
@pytest.mark.parametrize("prefetch", [True, False])
def test_it_keeps_every_promise_of_a_chunk_reader(
    bench: Workbench, limit: int, shape: tuple[int, ...], prefetch: bool
) -> None:
    """With no room, with too little and with plenty."""
    bench.pool.set_limit(limit)
    values = np.random.default_rng(0).normal(size=shape)
    chunks = tuple(2 for _ in shape)
    check_chunk_reader(lambda: bench.cached(ArrayChunkReader(values, chunks), prefetch=prefetch), values)


def test_an_array_without_axes_has_one_chunk(bench: Workbench) -> None:
    """Its index is empty."""
    reader = bench.cached(ArrayChunkReader(np.array(3.0), ()), prefetch=True)
    assert [
        float(chunk) for chunk in (reader.read_chunk(()), reader.read_chunk(()), *reader.read_chunks([()]))
    ]
    assert reader.cache_info().hits == 2


def test_a_chunk_is_read_once_and_then_comes_from_memory(bench: Workbench) -> None:
    """The second demand does not reach the reader below, alone or with others."""
    below = CountingReader(bench.movie())
    reader = bench.cached(below)
    first = reader.read_chunk((3, 0))
    assert reader.read_chunk((3, 0)) is first
    reader.read_chunks([(2, 0), (3, 0), (4, 0), (2, 0)])
    assert below.chunks == {(2, 0): 1, (3, 0): 1, (4, 0): 1}
    assert below.calls == 2
    info = reader.cache_info()
    assert (info.hits, info.misses, info.chunks, info.bytes) == (2, 3, 3, 3 * CHUNK_BYTES)
    assert info.hit_rate == 0.4
    assert (info.total_bytes, info.in_flight_bytes, info.waits) == (info.bytes, 0, 0)


def test_chunks_are_read_only_for_good(bench: Workbench) -> None:
    """A caller who insists cannot make a shared chunk writable."""

    class Fresh(ArrayChunkReader):
        def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
            return super().read_chunk(chunk_index).copy()

    reader = bench.cached(Fresh(np.arange(12.0).reshape(6, 2), (1, 2)))
    for chunk in (reader.read_chunk((1, 0)), *reader.read_through([(1, 0), (5, 0)])):
        with pytest.raises(ValueError, match="read-only"):
            chunk[0] = 7
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            chunk.flags.writeable = True


def test_a_view_of_a_large_read_does_not_keep_all_of_it_in_memory(bench: Workbench) -> None:
    """What counts against the budget is what is held; a small part of a large buffer is copied."""

    class Coalescing(ArrayChunkReader):
        def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
            together = np.concatenate([self.read_chunk(index) for index in chunk_indices])
            return [together[i : i + 1] for i in range(len(chunk_indices))]

    reader = bench.cached(Coalescing(np.zeros((6, 8)), (1, 8)))
    reader.read_chunks([(i, 0) for i in range(6)])
    assert reader.cache_info().bytes == 6 * 64
    assert all(chunk.base.nbytes == 64 for chunk in reader.read_chunks([(0, 0), (5, 0)]))


def test_a_hundred_simultaneous_misses_of_one_chunk_are_one_load(
    bench: Workbench, eventually: Eventually
) -> None:
    """All get the same chunk; the other ninety-nine are counted as waiting."""
    gate = GatedReader(bench.movie())
    below = CountingReader(gate)
    reader = bench.cached(below)
    with ThreadPoolExecutor(100, "lazystore-test") as threads:
        results = [threads.submit(reader.read_chunk, (7, 0)) for _ in range(100)]
        eventually(lambda: reader.cache_info().waits == 99)
        gate.open_gate()
        chunks = [result.result() for result in results]
    assert below.chunks == {(7, 0): 1}
    assert all(chunk is chunks[0] or np.shares_memory(chunk, chunks[0]) for chunk in chunks)
    info = reader.cache_info()
    assert (info.misses, info.waits, info.hits) == (100, 99, 0)
    assert info.wait_s > 0


def test_an_error_reaches_everyone_who_waits_and_is_not_kept(
    bench: Workbench, eventually: Eventually
) -> None:
    """The next demand reads again."""
    broken = True
    gate = GatedReader(bench.movie())
    below = CountingReader(
        FailingReader(gate, lambda _: DamagedStoreError("bad") if broken and gate_is_open() else None)
    )

    def gate_is_open() -> bool:
        gate.read_chunk((0, 0))
        return True

    reader = bench.cached(below)
    with ThreadPoolExecutor(8, "lazystore-test") as threads:
        results = [threads.submit(reader.read_chunk, (7, 0)) for _ in range(8)]
        eventually(lambda: reader.cache_info().waits == 7)
        gate.open_gate()
        for result in results:
            with pytest.raises(DamagedStoreError, match="bad"):
                result.result()
    assert reader.cache_info().in_flight_bytes == 0
    assert reader.cache_info().chunks == 0
    broken = False
    np.testing.assert_array_equal(reader.read_chunk((7, 0))[0], 7)
    assert below.chunks[7, 0] == 2


def test_a_reader_that_is_interrupted_does_not_fail_those_who_wait(
    bench: Workbench, eventually: Eventually
) -> None:
    """Ctrl-C in the thread that reads is its own business: another one reads the chunk."""
    gate = GatedReader(bench.movie())
    interrupts = iter([KeyboardInterrupt()])

    def choose(_: ChunkIndex) -> BaseException | None:
        gate.read_chunk((0, 0))
        return next(interrupts, None)

    reader = bench.cached(FailingReader(bench.movie(), choose))
    with ThreadPoolExecutor(2, "lazystore-test") as threads:
        first = threads.submit(reader.read_chunk, (7, 0))
        gate.wait_until_arrived(1)
        second = threads.submit(reader.read_chunk, (7, 0))
        eventually(lambda: reader.cache_info().waits == 1)
        gate.open_gate()
        with pytest.raises(KeyboardInterrupt):
            first.result()
        np.testing.assert_array_equal(second.result()[0], 7)


def test_a_failed_batch_does_not_fail_those_who_wait_for_its_good_chunks(
    bench: Workbench, eventually: Eventually
) -> None:
    """Which chunk of a batch was damaged nobody knows, so each waiter reads its own."""
    gate = GatedReader(bench.movie())

    def choose(chunk_index: ChunkIndex) -> BaseException | None:
        gate.read_chunk((0, 0))
        return DamagedStoreError("chunk 3 is bad") if chunk_index == (3, 0) else None

    reader = bench.cached(FailingReader(bench.movie(), choose))
    with ThreadPoolExecutor(2, "lazystore-test") as threads:
        batch = threads.submit(reader.read_chunks, [(2, 0), (3, 0), (4, 0)])
        gate.wait_until_arrived(1)
        single = threads.submit(reader.read_chunk, (4, 0))
        eventually(lambda: reader.cache_info().waits == 1)
        gate.open_gate()
        with pytest.raises(DamagedStoreError, match="chunk 3"):
            batch.result()
        np.testing.assert_array_equal(single.result()[0], 4)


def test_a_chunk_larger_than_the_budget_is_served_and_not_kept(bench: Workbench) -> None:
    """A budget too small, or of nothing, costs speed and no error."""
    below = CountingReader(bench.movie())
    reader = bench.cached(below, chunks=0.5)
    for _ in range(2):
        np.testing.assert_array_equal(reader.read_chunk((7, 0))[0], 7)
    assert below.chunks == {(7, 0): 2}
    assert reader.cache_info().uncached == 2
    assert reader.cache_info().chunks == 0


def test_room_is_reserved_before_a_read_and_a_demand_waits_for_it(
    bench: Workbench, eventually: Eventually
) -> None:
    """Chunks on their way count: with room for two, a third demand waits until one has arrived."""
    gate = GatedReader(bench.movie())
    reader = bench.cached(gate, chunks=2)
    with ThreadPoolExecutor(3, "lazystore-test") as threads:
        results = [threads.submit(reader.read_chunk, (i, 0)) for i in range(3)]
        gate.wait_until_arrived(2)
        eventually(lambda: bench.pool._demands_waiting == 1)
        assert reader.cache_info().in_flight_bytes == 2 * CHUNK_BYTES
        assert len(gate.arrived) == 2
        gate.open_gate()
        assert [int(result.result()[0, 0]) for result in results] == [0, 1, 2]
    info = reader.cache_info()
    assert info.total_bytes == info.bytes == 2 * CHUNK_BYTES
    assert info.evictions == 1


def test_a_large_batch_is_read_in_parts_that_fit(bench: Workbench) -> None:
    """A batch larger than the budget neither deadlocks nor exceeds it."""
    most = 0

    class Watching(ArrayChunkReader):
        def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
            nonlocal most
            most = max(most, bench.pool.resident_bytes + bench.pool.reserved_bytes)
            return super().read_chunks(chunk_indices)

    values = np.repeat(np.arange(500)[:, None], 8, axis=1)
    reader = bench.cached(Watching(values, (1, 8)), chunks=80)
    chunks = reader.read_chunks([(i, 0) for i in range(500)])
    assert [int(chunk[0, 0]) for chunk in chunks] == list(range(500))
    assert 0 < most <= 80 * CHUNK_BYTES


def test_all_arrays_share_one_budget(bench: Workbench) -> None:
    """A new array's chunks take the place of those that nobody has used for longest."""
    first, second = bench.cached(chunks=10), bench.cached()
    for i in (0, 9, 1, 8, 2, 7, 3, 6, 4, 5):
        first.read_chunk((i, 0))
    for i in (3, 49, 4, 40):
        second.read_chunk((i, 0))
    assert first.cache_info().chunks == 6
    assert second.cache_info().chunks == 4
    assert first.cache_info().evictions == 4
    bench.pool.set_limit(3 * CHUNK_BYTES)
    assert first.cache_info().total_bytes == 3 * CHUNK_BYTES
    assert first.cache_info().limit_bytes == 3 * CHUNK_BYTES


def test_readers_of_one_generation_share_chunks_and_others_do_not(bench: Workbench) -> None:
    """The key says what a chunk is; closing one reader leaves the other's chunks alone."""
    below = CountingReader(bench.movie())
    one, two = (bench.cached(below, key=("store", "cam/data", "g1")) for _ in range(2))
    other = bench.cached(below, key=("store", "cam/data", "g2"))
    for reader in (one, two, other):
        reader.read_chunk((5, 0))
    assert below.chunks == {(5, 0): 2}
    one.close()
    two.read_chunk((5, 0))
    assert below.chunks == {(5, 0): 2}
    two.close()
    assert bench.pool.resident_bytes == CHUNK_BYTES


def test_cached_takes_the_key_from_the_reader() -> None:
    """A store's reader knows its place, array and generation; without a generation nothing is shared."""

    class Located(ArrayChunkReader):
        generation = "g1"
        prefix = "cam/data"

        class location:  # stands for an instance
            url = "memory://somewhere"

    readers = [cached(Located(np.zeros((3, 2)), (1, 2))) for _ in range(2)]
    plain = [cached(ArrayChunkReader(np.zeros((3, 2)), (1, 2)), prefetch=False) for _ in range(2)]
    try:
        assert readers[0].key == readers[1].key == ("memory://somewhere", "cam/data", "g1")
        assert plain[0].key != plain[1].key
        assert readers[0]._pool is shared_pool
        assert repr(plain[0]).startswith("CachedReader(<lazystore.testing")
    finally:
        for reader in (*readers, *plain):
            reader.close()


def test_closing_frees_the_chunks_closes_below_and_the_next_read_reopens(bench: Workbench) -> None:
    """And may be done twice."""
    below = CountingReader(bench.movie())
    reader = bench.cached(below)
    reader.read_chunk((1, 0))
    for _ in range(2):
        reader.close()
    assert below.closes == 2
    assert bench.pool.resident_bytes == 0
    assert reader.cache_info().misses == 1
    reader.read_chunk((1, 0))
    reader.read_chunk((1, 0))
    assert below.chunks == {(1, 0): 2}
    assert reader.cache_info().hits == 1


def test_a_reader_that_was_forgotten_gives_its_room_back(bench: Workbench) -> None:
    """Without close(), at the next load of anyone."""
    reader = CachedReader(bench.movie(), pool=bench.pool, prefetch=False)
    reader.read_chunk((1, 0))
    assert bench.pool.resident_bytes == CHUNK_BYTES
    del reader
    gc.collect()
    bench.cached().read_chunk((2, 0))
    assert bench.pool.resident_bytes == CHUNK_BYTES
    assert len(bench.pool.shelves) == 1


def test_a_scan_is_served_from_memory_and_keeps_nothing(bench: Workbench) -> None:
    """Neither chunks nor the order of eviction nor the playhead hear of it."""
    below = CountingReader(bench.movie())
    reader = bench.cached(below, chunks=4)
    for i in (1, 20, 5):
        reader.read_chunk((i, 0))
    chunks = reader.read_through([(i, 0) for i in range(30)])
    assert [int(chunk[0, 0]) for chunk in chunks] == list(range(30))
    assert below.chunks[1, 0] == 1
    assert below.calls == 4
    assert reader.cache_info().chunks == 3
    assert reader.cache_info().uncached == 27
    assert [number for _, number in reader._playhead.history()] == [1, 20, 5]
    assert reader.read_through([]) == []


def test_it_pickles_without_its_chunks(bench: Workbench) -> None:
    """A worker gets the reader below, the key and the settings."""
    reader = bench.cached(key=("a", "b", "c"))
    reader.read_chunk((4, 0))
    assert len(pickle.dumps(reader)) < 5000
    twin = pickle.loads(pickle.dumps(reader))
    try:
        assert twin.key == reader.key
        assert twin.cache_info().chunks == 0
        np.testing.assert_array_equal(twin.read_chunk((4, 0)), reader.read_chunk((4, 0)))
    finally:
        twin.close()
    unshared = bench.cached()
    twin = pickle.loads(pickle.dumps(unshared))
    twin.close()
    assert twin.key != unshared.key


def test_a_lazy_array_over_it_tells_what_the_cache_did(bench: Workbench) -> None:
    """a.cache_info(), and a.close()."""
    array = LazyArray(bench.cached())
    array[3]
    array[3]
    assert array.cache_info().hits == 1
    array[:].sum()
    assert array.cache_info().chunks == 1
    array.close()
    assert array.cache_info().chunks == 0


def test_the_budget_comes_from_the_environment_or_from_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read at the first use; a mistake is told, at once and in one line."""
    monkeypatch.setenv("LAZYSTORE_CACHE_BYTES", "3kB")
    assert ChunkPool().limit_bytes == 3000
    monkeypatch.setenv("LAZYSTORE_CACHE_BYTES", "lots")
    reader = CachedReader(ArrayChunkReader(np.zeros((3, 2)), (1, 2)), pool=ChunkPool(), prefetch=False)
    with pytest.raises(UsageError, match="LAZYSTORE_CACHE_BYTES='lots' is no size; expected bytes such as"):
        reader.read_chunk((0, 0))
    monkeypatch.delenv("LAZYSTORE_CACHE_BYTES")
    assert ChunkPool().limit_bytes > 1_000_000
    reader.read_chunk((0, 0))
    reader.close()


def test_set_cache_bytes_sets_the_process_budget() -> None:
    """In bytes or as text."""
    before = shared_pool.limit_bytes
    try:
        set_cache_bytes("64MB")
        assert shared_pool.limit_bytes == 64_000_000
        with pytest.raises(UsageError, match="cache_bytes='-1' is no size"):
            set_cache_bytes("-1")
    finally:
        set_cache_bytes(before)


def test_a_long_playback_keeps_its_bookkeeping_small(bench: Workbench) -> None:
    """What is remembered of chunks that were let go does not grow with the movie."""
    reader = bench.cached(bench.movie(3000), chunks=10)
    for i in range(3000):
        reader.read_chunk((i, 0))
    shelf = reader._shelf
    assert len(shelf.entries) == len(shelf._sorted) == 10
    assert len(shelf._oldest) < 200
    assert not shelf.loads


def test_a_chunk_that_is_larger_than_declared_does_not_break_the_budget(bench: Workbench) -> None:
    """A reader below that lies about its sizes costs room, not the bound."""

    class Lying(ArrayChunkReader):
        @property
        def spec(self) -> ArraySpec:
            real = super().spec
            return ArraySpec(real.path, real.dims, real.shape, np.dtype("u1"), real.chunks)

    reader = bench.cached(Lying(np.zeros((40, 8)), (1, 8)), chunks=5)
    for i in range(40):
        reader.read_chunk((i, 0))
    assert bench.pool.resident_bytes <= 5 * CHUNK_BYTES


def test_many_threads_stay_within_the_budget_and_get_the_right_chunks(bench: Workbench) -> None:
    """Eight threads, random and sequential, with prefetch: resident plus reserved never exceed the budget."""
    bench.pool.set_limit(20 * CHUNK_BYTES)
    readers = [bench.cached(bench.movie(200), prefetch=True) for _ in range(3)]
    stop_at = time.monotonic() + scaled(5, 60)
    wrong: list[Any] = []
    most = 0

    def play(seed: int) -> None:
        nonlocal most
        choice = np.random.default_rng(seed)
        place = 0
        while time.monotonic() < stop_at and not wrong:
            reader = readers[choice.integers(3)]
            place = (place + 1) % 200 if choice.random() < 0.9 else int(choice.integers(200))
            if choice.random() < 0.1:
                wanted = [(int(i), 0) for i in choice.integers(0, 200, 4)]
                chunks = reader.read_chunks(wanted)
            else:
                wanted, chunks = [(place, 0)], [reader.read_chunk((place, 0))]
            if [int(chunk[0, 0]) for chunk in chunks] != [number for number, _ in wanted]:
                wrong.append(wanted)
            with bench.pool.lock:
                most = max(most, bench.pool.resident_bytes + bench.pool.reserved_bytes)

    threads = [threading.Thread(target=play, args=(i,), name=f"lazystore-test-{i}") for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 0 < most <= 20 * CHUNK_BYTES
    assert sum(reader.cache_info().evictions for reader in readers) > 100
    record(10, threads=8, seconds=scaled(5, 60), most_chunks=most // CHUNK_BYTES, budget_chunks=20, wrong=0)
