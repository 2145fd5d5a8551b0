"""The cache against a plain dictionary: any sequence of demands, faults, closings and budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray

from lazystore.cache import CachedReader, ChunkPool, Prefetcher
from lazystore.chunks import ChunkIndex
from lazystore.errors import DamagedStoreError
from lazystore.testing import ArrayChunkReader
from tests.scoreboard import scaled

N_CHUNKS = 30
NUMBERS = st.integers(0, N_CHUNKS - 1)


class FaultyReader(ArrayChunkReader):
    """Frames that differ by generation; chosen chunks are damaged."""

    def __init__(self, generation: int) -> None:
        values = np.arange(N_CHUNKS)[:, None] * 10 + generation + np.zeros((1, 8), int)
        super().__init__(values, (1, 8))
        self.damaged: set[int] = set()
        self.n_reads = 0

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        self.n_reads += 1
        if chunk_index[0] in self.damaged:
            raise DamagedStoreError(f"chunk {chunk_index[0]} is damaged")
        return super().read_chunk(chunk_index)


class CacheMachine(RuleBasedStateMachine):
    """Two arrays in one pool. The model is what each array's store holds now: a dictionary of frames."""

    @initialize(prefetch=st.booleans(), limit=st.integers(0, 20))
    def begin(self, prefetch: bool, limit: int) -> None:
        self.pool = ChunkPool(limit * 64)
        self.prefetcher = Prefetcher(2)
        self.belows = [FaultyReader(0), FaultyReader(1)]
        self.readers = [
            CachedReader(below, pool=self.pool, prefetcher=self.prefetcher, prefetch=prefetch)
            for below in self.belows
        ]

    def expect(self, which: int, numbers: Sequence[int], read: Any) -> None:
        below = self.belows[which]
        possible = [number for number in numbers if number in below.damaged]
        try:
            chunks = read([(number, 0) for number in numbers])
        except DamagedStoreError as error:
            assert any(str(error) == f"chunk {number} is damaged" for number in possible)  # noqa: PT017
            return
        assert [int(chunk[0, 0]) for chunk in chunks] == [number * 10 + which for number in numbers]
        assert not any(chunk.flags.writeable for chunk in chunks)

    @rule(which=st.integers(0, 1), number=NUMBERS)
    def read_one(self, which: int, number: int) -> None:
        self.expect(which, [number], lambda indices: [self.readers[which].read_chunk(indices[0])])

    @rule(which=st.integers(0, 1), start=NUMBERS, length=st.integers(1, 12), step=st.sampled_from([1, -1, 3]))
    def play(self, which: int, start: int, length: int, step: int) -> None:
        for i in range(length):
            self.read_one(which, (start + i * step) % N_CHUNKS)

    @rule(which=st.integers(0, 1), numbers=st.lists(NUMBERS, max_size=8))
    def read_many(self, which: int, numbers: list[int]) -> None:
        self.expect(which, numbers, self.readers[which].read_chunks)

    @rule(which=st.integers(0, 1), numbers=st.lists(NUMBERS, max_size=8))
    def scan(self, which: int, numbers: list[int]) -> None:
        before = self.readers[which].cache_info()
        self.expect(which, numbers, self.readers[which].read_through)
        assert self.readers[which].cache_info().misses == before.misses

    @rule(which=st.integers(0, 1), number=NUMBERS)
    def read_twice(self, which: int, number: int) -> None:
        """What was read with room for it is there the next time, unless it is damaged."""
        below, reader = self.belows[which], self.readers[which]
        if number in below.damaged or self.pool.limit_bytes < 64:
            return
        reader.read_chunk((number, 0))
        misses = reader.cache_info().misses
        reader.read_chunk((number, 0))
        assert reader.cache_info().misses == misses or self.readers[which]._prefetches

    @rule(which=st.integers(0, 1), numbers=st.sets(NUMBERS, max_size=6))
    def damage(self, which: int, numbers: set[int]) -> None:
        self.belows[which].damaged = numbers

    @rule(limit=st.integers(0, 40))
    def change_budget(self, limit: int) -> None:
        self.pool.set_limit(limit * 64)

    @rule(which=st.integers(0, 1))
    def close(self, which: int) -> None:
        self.readers[which].close()
        assert self.readers[which].cache_info().chunks == 0

    @rule(which=st.integers(0, 1))
    def overwrite(self, which: int) -> None:
        """A store that was written anew has another generation, so nothing old is ever answered."""
        old = self.readers[which]
        self.belows[which] = FaultyReader(which)
        self.readers[which] = CachedReader(
            self.belows[which], pool=self.pool, prefetcher=self.prefetcher, prefetch=old._prefetches
        )
        old.close()

    @invariant()
    def stays_within_the_budget(self) -> None:
        if not hasattr(self, "pool"):
            return
        with self.pool.lock:
            assert self.pool.resident_bytes + self.pool.reserved_bytes <= self.pool.limit_bytes
            assert self.pool.resident_bytes == sum(shelf.nbytes for shelf in self.pool.shelves.values())
            for shelf in self.pool.shelves.values():
                assert sorted(shelf.entries) == shelf._sorted
                assert shelf.nbytes == sum(entry.nbytes for entry in shelf.entries.values())

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            for reader in self.readers:
                reader.close()
            assert self.pool.resident_bytes == self.pool.reserved_bytes == 0
            assert not self.pool.shelves


CacheMachine.TestCase.settings = settings(
    max_examples=scaled(60, 2000), stateful_step_count=40, deadline=None
)
TestCache = CacheMachine.TestCase


def test_the_machine_can_fail() -> None:
    """A cache that keeps a wrong chunk is found out: the comparison is not empty."""
    machine = CacheMachine()
    machine.begin(False, 20)
    machine.read_one(0, 3)
    shelf = machine.readers[0]._shelf
    shelf.entries[3, 0].array = np.full((1, 8), 99)
    shelf.entries[3, 0].array.flags.writeable = False
    with pytest.raises(AssertionError):
        machine.read_one(0, 3)
    machine.teardown()
