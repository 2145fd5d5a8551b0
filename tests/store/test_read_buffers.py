"""Encoded chunks are read into memory that is used again, by one reader at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore
from lazystore.errors import DamagedStoreError
from lazystore.store import direct
from lazystore.store.read_buffers import MAX_FREE, MAX_KEPT_BYTES, ReadBuffers


def address(buffer: Any) -> int:
    return int(buffer.__array_interface__["data"][0])


def test_a_buffer_is_used_again_only_when_it_was_given_back() -> None:
    """A larger one does for less; one that is too small does not."""
    buffers = ReadBuffers()
    first, second = buffers.take(1000), buffers.take(1000)
    assert not np.shares_memory(first, second)
    buffers.give_back(first)
    assert address(buffers.take(10)) == address(first)
    buffers.give_back(first)
    larger = buffers.take(first.size + 1)
    assert larger.size > first.size
    assert address(larger) != address(first)


def test_few_buffers_and_no_large_ones_lie_idle() -> None:
    """Whatever number was needed at once."""
    buffers = ReadBuffers()
    for buffer in [buffers.take(1000) for _ in range(10 * MAX_FREE)]:
        buffers.give_back(buffer)
    assert len(buffers._free) == MAX_FREE
    buffers = ReadBuffers()
    buffers.give_back(buffers.take(MAX_KEPT_BYTES + 1))
    assert len(buffers._free) == 0


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Any]:
    values = np.random.default_rng(0).normal(size=(64, 3000)).astype("f4")
    np.save(tmp_path / "fields.npy", values)
    lazystore.convert(tmp_path / "fields.npy", tmp_path / "session.zarr", name="fields", chunks=1, shards=16)
    return tmp_path / "session.zarr", values


def test_chunks_do_not_share_the_buffers_they_came_through(
    stored: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads decode in place, alone and in batches, through few buffers; all values are right."""
    store, values = stored
    buffers = ReadBuffers()
    monkeypatch.setattr(direct, "shared_buffers", buffers)
    with lazystore.open(store) as session:
        reader = session["fields"].reader.reader
        wrong: list[int] = []

        def read(seed: int) -> None:
            choice = np.random.default_rng(seed)
            for _ in range(60):
                numbers = choice.integers(0, 64, int(choice.integers(1, 9))).tolist()
                memories = [memoryview(bytearray(reader.spec.chunk_nbytes)) for _ in numbers]
                chunks = reader.read_chunks_into([(number, 0) for number in numbers], memories)
                for number, chunk in zip(numbers, chunks, strict=True):
                    if not np.array_equal(chunk[0], values[number]):
                        wrong.append(number)

        threads = [threading.Thread(target=read, args=(i,), name=f"lazystore-test-{i}") for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert 1 <= len(buffers._free) <= MAX_FREE


def test_a_damaged_chunk_gives_its_buffer_back(
    stored: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the same as without buffers, and the next read is right."""
    store, values = stored
    shard = next(path for path in sorted((store / "fields" / "data" / "c").rglob("*")) if path.is_file())
    content = bytearray(shard.read_bytes())
    content[20] ^= 1
    shard.write_bytes(content)
    buffers = ReadBuffers()
    monkeypatch.setattr(direct, "shared_buffers", buffers)
    with lazystore.open(store) as session:
        reader = session["fields"].reader.reader
        memory = memoryview(bytearray(reader.spec.chunk_nbytes))
        for _ in range(2 * MAX_FREE):
            with pytest.raises(DamagedStoreError, match="do not match their checksum"):
                reader.read_chunks_into([(0, 0)], [memory])
        assert len(buffers._free) == 1
        (chunk,) = reader.read_chunks_into([(1, 0)], [memory])
        np.testing.assert_array_equal(chunk[0], values[1])
