"""Memory that is used again: never while somebody still looks at it."""

from __future__ import annotations

import gc
import mmap
import os
import threading
import warnings
from collections import deque
from typing import Any

import numpy as np
import pytest

from lazystore.cache import slots
from lazystore.cache.shelf import held_bytes
from lazystore.cache.slots import MIN_SLOT_BYTES, ChunkMemory
from lazystore.testing import ArrayChunkReader
from tests.cache.conftest import Workbench

KB8 = 8192
BUDGET = 100 * KB8


def frame(value: int, n: int = 1024) -> Any:
    return np.full((1, n), value, np.int64)


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def test_a_slot_is_used_again_only_when_the_last_view_is_gone() -> None:
    """Slices of a chunk, and slices of slices, keep its values."""
    memory = ChunkMemory(KB8)
    chunk = memory.store(frame(1), BUDGET)
    where = address(chunk)
    part = chunk[0, 5:50][::3]
    del chunk
    gc.collect()
    others = [memory.store(frame(i), BUDGET) for i in range(2, 40)]
    assert where not in [address(other) for other in others]
    assert (part == 1).all()
    del part
    gc.collect()
    assert address(memory.store(frame(9), BUDGET)) == where


def test_what_is_stored_is_an_exact_read_only_copy() -> None:
    """Of any dtype and order; nobody can make it writable."""
    memory = ChunkMemory(64 * 1024)
    rng = np.random.default_rng(0)
    for values in (
        rng.normal(size=(40, 50)).astype("f4"),
        rng.integers(0, 255, (100, 80)).astype("u1").T,
        rng.random((90, 90)) < 0.5,
        rng.normal(size=(30, 40)) * 1j,
    ):
        kept = memory.store(values, BUDGET)
        np.testing.assert_array_equal(kept, values)
        assert kept.dtype == values.dtype
        assert held_bytes(kept) == held_bytes(kept[1:]) == 64 * 1024
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            kept.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            kept[0, 0] = 1


def test_what_does_not_belong_into_a_slot_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks, objects, chunks larger than declared, and everything when the system has no more."""
    memory = ChunkMemory(KB8)
    assert memory.store(np.zeros(MIN_SLOT_BYTES - 1, np.uint8), BUDGET) is None
    assert memory.store(np.array([None] * 1024), BUDGET) is None
    assert memory.store(np.zeros(KB8 + 1, np.uint8), BUDGET) is None

    def no_more(*_: Any, **__: Any) -> Any:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", no_more)
    assert memory.store(frame(1), BUDGET) is None


def test_free_memory_goes_back_to_the_system() -> None:
    """After a movie is let go a few slots stay, not all."""
    memory = ChunkMemory(KB8)
    kept = [memory.store(frame(i), BUDGET) for i in range(1000)]
    kept.clear()
    gc.collect()
    assert len(memory._free) <= 2 * slots.MIN_MAPPING_BYTES // KB8


def test_a_large_budget_shares_mappings() -> None:
    """A system has 65,530 of them."""
    made: list[Any] = []
    real = slots._anonymous
    slots_module: Any = slots
    try:
        slots_module._anonymous = lambda nbytes: made.append(nbytes) or real(nbytes)
        memory = ChunkMemory(KB8)
        kept = [memory.store(frame(i), slots.MAX_MAPPINGS * 1_000_000) for i in range(300)]
    finally:
        slots_module._anonymous = real
    assert [int(chunk[0, 0]) for chunk in kept] == list(range(300))
    assert len(made) == 3
    assert min(made) >= 1_000_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_does_not_write_over_its_parents_chunks() -> None:
    """The memory is private: what a child puts into a slot is not seen by the parent."""
    mapping = slots._anonymous(4096)
    mapping[:5] = b"ours!"
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests' threads do not matter here
        child = os.fork()
    if child == 0:
        mapping[:5] = b"child"
        os.write(write_end, b"x")
        os._exit(0)
    os.read(read_end, 1)
    os.waitpid(child, 0)
    os.close(read_end)
    os.close(write_end)
    assert mapping[:5] == b"ours!"


def test_chunks_that_were_evicted_keep_their_values_for_those_who_hold_them(bench: Workbench) -> None:
    """Eight threads hold on to old chunks while a small budget turns over; none of them changes."""
    values = np.repeat(np.arange(300)[:, None], 1024, axis=1)
    reader = bench.cached(ArrayChunkReader(values, (1, 1024)), prefetch=True)
    bench.pool.set_limit(12 * KB8)
    wrong: list[int] = []

    def play(seed: int) -> None:
        choice = np.random.default_rng(seed)
        held: deque[tuple[int, Any]] = deque(maxlen=20)
        place = 0
        for _ in range(1500):
            place = (place + 1) % 300 if choice.random() < 0.9 else int(choice.integers(300))
            held.append((place, reader.read_chunk((place, 0))[0, 3:1000:7]))
            number, part = held[int(choice.integers(len(held)))]
            if not (part == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=play, args=(i,), name=f"lazystore-test-{i}") for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert reader.cache_info().evictions > 500
    assert reader.cache_info().total_bytes <= 12 * KB8
