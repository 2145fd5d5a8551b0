"""A budget and threads of the test's own, so that no test sees another's chunks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lazystore.cache import CachedReader, ChunkPool, Prefetcher
from lazystore.protocols import ChunkReader
from lazystore.testing import ArrayChunkReader

CHUNK_BYTES = 64


class Workbench:
    """Makes cached readers over one pool and closes them at the end."""

    def __init__(self) -> None:
        self.pool = ChunkPool(100 * CHUNK_BYTES)
        self.prefetcher = Prefetcher(2)
        self.made: list[CachedReader] = []

    def movie(self, n_chunks: int = 50) -> ArrayChunkReader:
        """Frames of 64 bytes, one a chunk; frame i holds i."""
        values = np.repeat(np.arange(n_chunks, dtype=np.int64)[:, None], CHUNK_BYTES // 8, axis=1)
        return ArrayChunkReader(values, (1, CHUNK_BYTES // 8))

    def cached(
        self, reader: ChunkReader | None = None, *, chunks: float | None = None, **options: Any
    ) -> CachedReader:
        """A cached reader, without prefetch unless asked; `chunks` sets the budget in chunks."""
        if chunks is not None:
            self.pool.set_limit(int(chunks * CHUNK_BYTES))
        options = {"prefetch": False, **options}
        made = CachedReader(reader or self.movie(), pool=self.pool, prefetcher=self.prefetcher, **options)
        self.made.append(made)
        return made


@pytest.fixture
def bench() -> Iterator[Workbench]:
    workbench = Workbench()
    yield workbench
    for reader in workbench.made:
        reader.close()
    assert workbench.pool.resident_bytes == 0
    assert workbench.pool.reserved_bytes == 0
    assert workbench.pool.shelves == {}


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait for something that another thread will do; fails after a time no machine needs."""

    def wait(holds: Callable[[], bool], give_up_s: float = 20.0) -> None:
        give_up_at = time.monotonic() + give_up_s
        while not holds():
            assert time.monotonic() < give_up_at, "it never happened"
            time.sleep(0.001)

    return wait
