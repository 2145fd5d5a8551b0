"""Memory that is used again: never while somebody still looks at it."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from lazystore.anonymous_memory import HUGE_PAGE_BYTES, anonymous_memory
from lazystore.cache import slots
from lazystore.cache.shelf import held_bytes
from lazystore.cache.slots import MIN_SLOT_BYTES, ChunkMemory, Slot, SlotBank, filling_huge_pages
from lazystore.testing import ArrayChunkReader
from tests.cache.conftest import Workbench

KB8 = 8192


@dataclass
class Ledger:
    """A budget, and what of it chunks take."""

    room_bytes: int = 100 * KB8
    resident_bytes: int = 0
    reserved_bytes: int = 0


def slots_of(memory: ChunkMemory, count: int) -> list[Slot]:
    """Slots, new ones where there are no free ones."""
    taken = memory.borrow(count)
    assert memory.add(taken, count)
    assert len(taken) == count
    return taken


def kept(memory: ChunkMemory, values: Any) -> Any:
    return slots_of(memory, 1)[0].copy_of(values)


def frame(value: int, n: int = 1024) -> Any:
    return np.full((1, n), value, np.int64)


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def made_by(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the mappings that are made from now on."""
    made: list[int] = []
    real = slots.anonymous_memory
    monkeypatch.setattr(slots, "anonymous_memory", lambda n, **how: made.append(n) or real(n, **how))
    return made


def test_a_slot_is_used_again_only_when_the_last_view_is_gone() -> None:
    """Slices of a chunk, and slices of slices, keep its values."""
    memory = SlotBank(Ledger()).open(KB8)
    chunk = kept(memory, frame(1))
    where = address(chunk)
    part = chunk[0, 5:50][::3]
    del chunk
    gc.collect()
    others = [kept(memory, frame(i)) for i in range(2, 40)]
    assert where not in [address(other) for other in others]
    assert (part == 1).all()
    del part
    gc.collect()
    assert address(kept(memory, frame(9))) == where


def test_what_is_kept_is_an_exact_read_only_copy() -> None:
    """Of any dtype and order; nobody can make it writable."""
    memory = SlotBank(Ledger()).open(64 * 1024)
    rng = np.random.default_rng(0)
    for values in (
        rng.normal(size=(40, 50)).astype("f4"),
        rng.integers(0, 255, (100, 80)).astype("u1").T,
        rng.random((90, 90)) < 0.5,
        rng.normal(size=(30, 40)) * 1j,
    ):
        copy = kept(memory, values)
        np.testing.assert_array_equal(copy, values)
        assert copy.dtype == values.dtype
        assert held_bytes(copy) == held_bytes(copy[1:]) == 64 * 1024
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            copy.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            copy[0, 0] = 1


def test_what_does_not_belong_into_a_slot_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks, objects, chunks larger than declared, and everything when the system has no more."""
    bank = SlotBank(Ledger())
    slot = slots_of(bank.open(KB8), 1)[0]
    assert slot.copy_of(np.zeros(MIN_SLOT_BYTES - 1, np.uint8)) is None
    assert slot.copy_of(np.array([None] * 1024)) is None
    assert slot.copy_of(np.zeros(KB8 + 1, np.uint8)) is None
    assert not bank.open(MIN_SLOT_BYTES - 1).add([], 1)

    def no_more(*_: Any, **__: Any) -> Any:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(slots, "anonymous_memory", no_more)
    assert not bank.open(KB8).add([], 1)


def test_free_memory_goes_back_to_the_system() -> None:
    """After a movie is let go as much stays as the budget has room for, and nothing once it is closed."""
    ledger = Ledger()
    bank = SlotBank(ledger)
    memory = bank.open(KB8)
    for resident_bytes in (0, 60 * KB8, 100 * KB8):
        ledger.resident_bytes = resident_bytes
        held = slots_of(memory, 1000)
        held.clear()
        assert memory.free_bytes <= 100 * KB8 - resident_bytes + 2 * bank.slack_bytes
    last = slots_of(memory, 1)
    bank.close(memory)
    assert memory.free_bytes == 0
    last.clear()
    assert memory.free_bytes == 0


def test_a_budget_that_moves_to_another_array_takes_the_memory_along() -> None:
    """Free slots of one array do not stay beside the chunks of another."""
    ledger = Ledger(1000 * KB8)
    bank = SlotBank(ledger)
    first, second = bank.open(KB8), bank.open(2 * KB8)
    slots_of(first, 900).clear()
    assert first.free_bytes >= 900 * KB8
    ledger.resident_bytes = 1000 * KB8
    chunks = slots_of(second, 500)
    assert first.free_bytes + second.free_bytes <= 2 * bank.slack_bytes
    assert len(chunks) == 500


def test_a_mapping_that_is_used_in_part_stays_whole() -> None:
    """Its free slots are of no use to the system, but to the next chunks."""
    ledger = Ledger(resident_bytes=100 * KB8)
    bank = SlotBank(ledger)
    memory = bank.open(KB8)
    held = slots_of(memory, 640)
    spread = held[::16]
    held.clear()
    n_together = slots.MIN_MAPPING_BYTES // KB8
    assert memory.free_bytes == (n_together - 1) * 40 * KB8
    values = [slot.copy_of(frame(i)) for i, slot in enumerate(spread)]
    others = slots_of(memory, 300)
    copies = [slot.copy_of(frame(-1)) for slot in others]
    assert [int(value[0, 0]) for value in values] == list(range(40))
    assert {int(copy[0, 0]) for copy in copies} == {-1}


def test_a_large_budget_shares_mappings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system has 65,530 of them."""
    made = made_by(monkeypatch)
    memory = SlotBank(Ledger(slots.MAX_MAPPINGS * 1_000_000)).open(KB8 + 8)
    chunks = [kept(memory, frame(i)) for i in range(300)]
    assert [int(chunk[0, 0]) for chunk in chunks] == list(range(300))
    assert len(made) == 2
    assert min(made) >= 1_000_000


@pytest.mark.parametrize(
    ("room_bytes", "chunk_nbytes", "expected"),
    [
        (512 << 20, KB8, HUGE_PAGE_BYTES),
        (500 << 20, KB8, slots.MIN_MAPPING_BYTES),
        (512 << 20, 640 * 480 * 3, 2 * 2 * HUGE_PAGE_BYTES),
        (500 << 20, 640 * 480 * 3, 640 * 480 * 3),
        (512 << 20, 700_000, 700_000),
        (40 << 30, KB8, 3 * HUGE_PAGE_BYTES),
    ],
    ids=["whole", "small budget", "frames", "frames, small budget", "does not fill them", "large budget"],
)
def test_chunks_that_fill_huge_pages_share_them(
    monkeypatch: pytest.MonkeyPatch, room_bytes: int, chunk_nbytes: int, expected: int
) -> None:
    """Only beside a budget where what they keep from the system is little."""
    made = made_by(monkeypatch)
    memory = SlotBank(Ledger(room_bytes)).open(chunk_nbytes)
    chunks = [kept(memory, frame(i)) for i in range(5)]
    assert [int(chunk[0, -1]) for chunk in chunks] == list(range(5))
    n_chunks_each = expected // chunk_nbytes
    assert made == [expected] * -(-5 // n_chunks_each)


@pytest.mark.parametrize("width", [240, 320, 424, 640, 800, 1024, 1280, 1920])
def test_huge_pages_are_full_of_chunks(width: int) -> None:
    """What a mapping has beyond its chunks is little, and so is the mapping beside the budget."""
    chunk_nbytes = width * (width * 3 // 4) * 3
    for nbytes in filling_huge_pages(chunk_nbytes, 1, 16 << 20):
        n_chunks = nbytes // chunk_nbytes
        assert n_chunks >= 1
        assert nbytes % HUGE_PAGE_BYTES == 0
        assert nbytes - n_chunks * chunk_nbytes <= nbytes / 32
    bank = SlotBank(Ledger(512 << 20))
    assert bank.mapping_bytes(chunk_nbytes) <= max(bank.slack_bytes, chunk_nbytes)


def test_a_mapping_with_a_rest_goes_back_when_all_its_chunks_are_free() -> None:
    """Its last bytes belong to no chunk, and keep nothing."""
    ledger = Ledger(512 << 20)
    bank = SlotBank(ledger)
    memory = bank.open(640 * 480 * 3)
    held = slots_of(memory, 36)
    ledger.resident_bytes = 512 << 20
    held.clear()
    assert memory.free_bytes <= 2 * bank.slack_bytes


def test_batches_make_no_new_memory_once_the_budget_is_full(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a batch takes the place of is what it is decoded into; RSS stays where it is."""
    reader = bench.cached(ArrayChunkReader(np.zeros((2000, 1024)), (1, 1024)), prefetch=False)
    bench.pool.set_limit(320 * KB8)
    choice = np.random.default_rng(0)
    made = made_by(monkeypatch)
    for round_ in range(200):
        start = int(choice.integers(0, 1900))
        reader.read_chunks([(start + i, 0) for i in range(80)])
        if round_ == 40:
            assert reader.cache_info().evictions > 500
            made.clear()
    assert not made
    # Without a budget memory goes back, with the reader all of it.
    memory = reader._shelf.memory
    bench.pool.set_limit(0)
    assert memory.free_bytes <= 2 * bench.pool._bank.slack_bytes
    reader.close()
    assert memory.free_bytes == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_does_not_write_over_its_parents_chunks() -> None:
    """The memory is private: what a child puts into a slot is not seen by the parent."""
    mapping = anonymous_memory(4096)
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
