"""Prefetch, proven with readers that wait at a gate: what is read ahead, in which order, and what is not."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from lazystore.cache import CachedReader
from lazystore.cache import prefetch as prefetch_module
from lazystore.cache import reader as reader_module
from lazystore.chunks import ChunkIndex
from lazystore.errors import DamagedStoreError
from lazystore.testing import ArrayChunkReader, CountingReader, FailingReader, GatedReader, SlowReader
from tests.cache.conftest import CHUNK_BYTES, Workbench

Eventually = Callable[[Callable[[], bool]], None]


def threads_of_prefetch() -> list[str]:
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("lazystore-prefetch"))


def play(reader: CachedReader, numbers: Sequence[int]) -> None:
    for number in numbers:
        np.testing.assert_array_equal(
            reader.read_chunk((number, *(0,) * (reader.spec.shape and 1)))[0], number
        )


def test_what_comes_next_is_there_before_it_is_asked_for(bench: Workbench, eventually: Eventually) -> None:
    """After three frames forward the following ones are read, in their order, without a demand."""
    below = CountingReader(bench.movie())
    reader = bench.cached(below, prefetch=True)
    play(reader, [10, 11, 12])
    eventually(lambda: {(13, 0), (14, 0), (15, 0), (16, 0)} <= set(below.chunks))
    misses = reader.cache_info().misses
    eventually(lambda: reader.cache_info().in_flight_bytes == 0)
    play(reader, [13, 14, 15, 16])
    info = reader.cache_info()
    assert info.misses == misses
    assert info.prefetch_used == 4
    assert info.prefetched >= 4
    assert max(below.chunks.values()) == 1
    assert (9, 0) not in below.chunks


def test_one_demand_reads_nothing_ahead_and_starts_no_reading_thread(bench: Workbench) -> None:
    """Opening a movie to look at one frame costs one frame."""
    below = CountingReader(bench.movie())
    reader = bench.cached(below, prefetch=True)
    reader.read_chunk((10, 0))
    assert len(reader.plan()) == 0
    assert "lazystore-prefetch-0" not in threads_of_prefetch()
    assert below.chunks == {(10, 0): 1}


def test_playing_inside_a_chunk_that_was_slow_to_read_reads_the_next_one(
    bench: Workbench, eventually: Eventually
) -> None:
    """Before the first border: one look reads nothing ahead, the second one chunk, and no more."""
    below = CountingReader(SlowReader(_movie_of_four_a_chunk(), 0.01))
    reader = bench.cached(below, prefetch=True)
    reader.read_chunk((3, 0))
    assert len(reader.plan()) == 0
    for _ in range(3):
        reader.read_chunk((3, 0))
    eventually(lambda: reader.cache_info().prefetched == 1)
    assert [job.chunk_index for job in reader.plan().urgent] == []
    reader.read_chunk((4, 0))
    assert reader.cache_info().misses == 1
    assert set(below.chunks) >= {(3, 0), (4, 0)}


def test_playing_inside_a_chunk_that_was_quick_to_read_reads_nothing_ahead(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A border costs nothing there, and a click on the slider is mostly a click."""
    # A busy machine may take long over anything.
    monkeypatch.setattr(reader_module, "SLOW_READ_S", 60.0)
    reader = bench.cached(CountingReader(_movie_of_four_a_chunk()), prefetch=True)
    for _ in range(4):
        reader.read_chunk((3, 0))
    assert len(reader.plan()) == 0


def test_lingering_in_the_last_chunk_reads_nothing_ahead(bench: Workbench) -> None:
    """There is none behind it."""
    movie = _movie_of_four_a_chunk()
    reader = bench.cached(SlowReader(movie, 0.01), prefetch=True)
    last = movie.spec.shape[0] // 4 - 1
    for _ in range(3):
        reader.read_chunk((last, 0))
    assert len(reader.plan()) == 0


def _movie_of_four_a_chunk() -> ArrayChunkReader:
    return ArrayChunkReader(np.arange(40 * 4, dtype=np.int32).reshape(40, 4), (4, 4))


def test_a_demand_does_not_wait_behind_prefetch(bench: Workbench) -> None:
    """While every reading thread is held up, a demand elsewhere is answered in its own thread."""
    shut = threading.Event()
    ahead: list[ChunkIndex] = []

    def hold_prefetch(chunk_index: ChunkIndex) -> None:
        if threading.current_thread().name.startswith("lazystore-prefetch"):
            ahead.append(chunk_index)
            shut.wait(30)

    reader = bench.cached(FailingReader(bench.movie(), hold_prefetch), prefetch=True)
    try:
        play(reader, [10, 11, 12])
        deadline = time.monotonic() + 20
        while len(ahead) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        play(reader, [40])
        assert len(ahead) == 2
    finally:
        shut.set()


def test_a_demand_joins_the_prefetch_that_is_already_reading_it(
    bench: Workbench, eventually: Eventually
) -> None:
    """One read, counted as a wait."""
    shut = threading.Event()
    ahead: list[ChunkIndex] = []

    def hold_prefetch(chunk_index: ChunkIndex) -> None:
        if threading.current_thread().name.startswith("lazystore-prefetch"):
            ahead.append(chunk_index)
            shut.wait(30)

    below = CountingReader(FailingReader(bench.movie(), hold_prefetch))
    reader = bench.cached(below, prefetch=True)
    play(reader, [10, 11, 12])
    eventually(lambda: bool(ahead))
    number = ahead[0][0]
    demand = threading.Thread(target=play, args=(reader, [number]), name="lazystore-test")
    demand.start()
    eventually(lambda: reader.cache_info().waits == 1)
    shut.set()
    demand.join()
    assert below.chunks[number, 0] == 1


def test_a_jump_cancels_what_has_not_begun(bench: Workbench, eventually: Eventually) -> None:
    """After a jump the new place is read, and what was planned for the old one is not."""
    shut = threading.Event()
    below: list[int] = []

    def hold_prefetch(chunk_index: ChunkIndex) -> None:
        below.append(chunk_index[0])
        if threading.current_thread().name.startswith("lazystore-prefetch"):
            shut.wait(30)

    reader = bench.cached(FailingReader(bench.movie(2000), hold_prefetch), prefetch=True, chunks=2000)
    play(reader, range(10, 18))
    eventually(lambda: len([n for n in below if n > 17]) == 2)
    eventually(lambda: len(bench.prefetcher._plans.get(reader, ())) > 10)
    play(reader, [1000, 1001])
    eventually(
        lambda: any(
            job.chunk_index[0] > 1000 for plan in bench.prefetcher._plans.values() for job in plan.urgent
        )
    )
    shut.set()
    eventually(lambda: {1002, 1003} <= set(below))
    eventually(lambda: reader.cache_info().in_flight_bytes == 0)
    assert reader.cache_info().prefetch_cancelled > 10
    assert len([n for n in below if 20 <= n < 1000]) <= 4


def test_an_error_while_reading_ahead_comes_at_the_demand_and_is_logged_once(
    bench: Workbench, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted, told to nobody before somebody wants the chunk, and gone when the store is whole again."""
    broken = {14, 15, 16}

    def choose(chunk_index: ChunkIndex) -> Exception | None:
        return DamagedStoreError("shard 3 is cut short") if chunk_index[0] in broken else None

    reader = bench.cached(FailingReader(bench.movie(), choose), prefetch=True)
    with caplog.at_level(logging.WARNING, logger="lazystore"):
        play(reader, [10, 11, 12, 13])
        eventually(lambda: reader.cache_info().prefetch_errors >= 3 and "prefetch failed" in caplog.text)
    told = [record.getMessage() for record in caplog.records if "prefetch" in record.getMessage()]
    assert told == [
        "prefetch failed, and will be tried again at demand: DamagedStoreError: shard 3 is cut short"
    ]
    with pytest.raises(DamagedStoreError, match="shard 3"):
        reader.read_chunk((14, 0))
    broken.clear()
    play(reader, [14, 15, 16])


def test_a_policy_that_fails_costs_only_the_prefetch(
    bench: Workbench, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    """Someone's own policy may raise; playback goes on."""

    def broken_policy(history: Any, n_chunks: int, max_chunks: int) -> Sequence[int]:
        raise ZeroDivisionError

    reader = bench.cached(prefetch=True, policy=broken_policy)
    with caplog.at_level(logging.ERROR, logger="lazystore"):
        play(reader, [1, 2, 3])
        eventually(lambda: "planning a prefetch failed" in caplog.text)
    play(reader, [4, 5])


def test_an_own_policy_decides(bench: Workbench, eventually: Eventually) -> None:
    """Any function of the history will do."""
    below = CountingReader(bench.movie())
    reader = bench.cached(below, prefetch=True, policy=lambda history, n_chunks, max_chunks: [40, 41])
    play(reader, [1, 2])
    eventually(lambda: {(40, 0), (41, 0)} <= set(below.chunks))


def test_prefetch_never_takes_the_place_of_what_is_needed_sooner(
    bench: Workbench, eventually: Eventually
) -> None:
    """A budget of a few chunks is not overrun: half of it lies ahead, the present chunk stays."""
    below = CountingReader(bench.movie(500))
    reader = bench.cached(below, prefetch=True, chunks=8)
    for number in range(300):
        play(reader, [number])
        assert reader.cache_info().total_bytes <= 8 * CHUNK_BYTES
    eventually(lambda: reader.cache_info().in_flight_bytes == 0)
    assert (299, 0) in reader._entries
    # Every chunk was read about once: nothing was read ahead only to be thrown away.
    assert sum(below.chunks.values()) <= 320


def test_several_chunks_side_by_side_are_read_ahead_together(
    bench: Workbench, eventually: Eventually
) -> None:
    """Of frames cut into tiles those tiles that are being looked at come next."""
    values = np.repeat(np.arange(40)[:, None, None], 12, axis=1) * np.ones((1, 1, 4), int)
    below = CountingReader(ArrayChunkReader(values, (1, 4, 4)))
    reader = bench.cached(below, prefetch=True)
    for number in (5, 6, 7):
        reader.read_chunk((number, 0, 0))
        reader.read_chunk((number, 2, 0))
    eventually(lambda: {(8, 0, 0), (8, 2, 0), (9, 0, 0), (9, 2, 0)} <= set(below.chunks))
    assert not [index for index in below.chunks if index[1] == 1]


def test_a_slow_store_is_asked_for_neighbours_together(
    bench: Workbench, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a read costs a round trip, prefetch shares it; a quick store is asked for one at a time."""
    monkeypatch.setattr(reader_module, "SLOW_READ_S", 0.0)
    below = CountingReader(bench.movie(400))
    reader = bench.cached(below, prefetch=True, chunks=400)
    play(reader, range(20))
    eventually(lambda: reader.cache_info().in_flight_bytes == 0 and reader.cache_info().prefetched > 20)
    assert below.calls < sum(below.chunks.values()) - 10
    monkeypatch.setattr(reader_module, "SLOW_READ_S", 1000.0)
    assert reader.shared_reads == 1


def test_closing_does_not_wait_for_a_read_that_hangs(bench: Workbench, eventually: Eventually) -> None:
    """Bounded in time; the thread that hangs closes the reader below when it comes back."""
    gate = GatedReader(bench.movie())
    below = CountingReader(gate)
    gate.open_gate()
    reader = bench.cached(below, prefetch=True)
    play(reader, [10, 11])
    gate.shut_gate()
    n_before = len(gate.arrived)
    bench.prefetcher.wake(reader)
    thread = threading.Thread(target=lambda: reader.read_chunk((12, 0)), name="lazystore-test", daemon=True)
    thread.start()
    gate.wait_until_arrived(n_before + 1)
    started = time.monotonic()
    reader.close()
    assert time.monotonic() - started < 5
    gate.open_gate()
    thread.join()
    eventually(lambda: not threads_of_prefetch())
    assert bench.pool.resident_bytes in (0, CHUNK_BYTES)


def test_opening_and_closing_leaves_no_thread_behind(bench: Workbench) -> None:
    """Two hundred times, each with prefetch at work; the last one to close ends the threads."""
    for _ in range(200):
        reader = CachedReader(bench.movie(), pool=bench.pool, prefetcher=bench.prefetcher)
        play(reader, [1, 2, 3])
        reader.close()
        assert len(threads_of_prefetch()) <= 3
    assert threads_of_prefetch() == []
    assert bench.pool.shelves == {}


def test_threads_without_work_end_by_themselves(
    bench: Workbench, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paused viewer keeps none; the next step starts them again."""
    monkeypatch.setattr(prefetch_module, "IDLE_S", 0.02)
    below = CountingReader(bench.movie())
    reader = bench.cached(below, prefetch=True)
    play(reader, [1, 2, 3])
    eventually(lambda: (5, 0) in below.chunks)
    eventually(lambda: not threads_of_prefetch())
    play(reader, [20, 21, 22])
    eventually(lambda: (24, 0) in below.chunks)


def test_an_array_that_was_dropped_is_not_kept_alive_by_the_threads(
    bench: Workbench, eventually: Eventually
) -> None:
    """Prefetch holds an array only while there is something to read for it."""
    reader = CachedReader(bench.movie(), pool=bench.pool, prefetcher=bench.prefetcher)
    play(reader, [1, 2, 3])
    del reader
    eventually(lambda: len(bench.pool._forgotten) == 1)
    other = bench.cached()
    play(other, [1])
    assert list(bench.pool.shelves) == [other.key]


def test_many_arrays_share_the_threads(bench: Workbench, eventually: Eventually) -> None:
    """What is needed soonest of all arrays is read first; nobody is left out."""
    belows = [CountingReader(bench.movie()) for _ in range(5)]
    readers = [bench.cached(below, prefetch=True, chunks=500) for below in belows]
    for number in (1, 2, 3):
        for reader in readers:
            play(reader, [number])
    eventually(lambda: all({(4, 0), (5, 0)} <= set(below.chunks) for below in belows))
    assert len(threads_of_prefetch()) <= 3


def test_a_process_ends_while_a_prefetch_hangs() -> None:
    """Nobody waits for the network at exit."""
    program = """
import sys, threading, time
import numpy as np
from lazystore.cache import CachedReader
from lazystore.testing import ArrayChunkReader, FailingReader
held = threading.Event()
def hold(index):
    if threading.current_thread().name.startswith("lazystore-prefetch"):
        held.set()
        time.sleep(3600)
reader = CachedReader(FailingReader(ArrayChunkReader(np.zeros((50, 8)), (1, 8)), hold))
for i in range(4):
    reader.read_chunk((i, 0))
assert held.wait(20)
print("played")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "played", "")


def test_playing_from_a_slow_store_waits_less_than_without(bench: Workbench) -> None:
    """A loop over frames of a store 5 ms away: most frames are there already."""
    reader = bench.cached(SlowReader(bench.movie(120), 0.005), prefetch=True, chunks=120)
    for number in range(120):
        play(reader, [number])
        time.sleep(0.004)
    assert reader.cache_info().hit_rate > 0.5
