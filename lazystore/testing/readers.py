"""What every chunk reader promises, as a suite that checks it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazystore.chunks import ChunkIndex, chunk_region, grid_shape
from lazystore.errors import LazystoreError
from lazystore.protocols import ChunkReader, InPlaceReader
from lazystore.schema import ArraySpec
from lazystore.testing.contract import ContractError, require, same_values


def check_chunk_reader(
    make_reader: Callable[[], ChunkReader],
    expected: ArrayLike,
    *,
    max_chunks: int = 200,
    threads: int = 4,
    seed: int = 0,
) -> None:
    """Check every promise of `lazystore.protocols.ChunkReader`.

    Parameters
    ----------
    make_reader
        Opens the same array anew at each call; every reader it gives is closed.
    expected
        The whole array, of any shape.
    max_chunks
        Of arrays with more chunks, so many are read, among them the first and the last.
    threads
        How many read at the same time.
    seed
        Of the choice and the order of the chunks.

    Raises
    ------
    ContractError
        At the first promise that is not kept.
    """
    whole = np.asarray(expected)
    with contextlib.closing(make_reader()) as reader:
        spec = reader.spec
        require(spec.shape == whole.shape, f"spec has shape {spec.shape}, the array {whole.shape}")
        require(spec.dtype == whole.dtype, f"spec has dtype {spec.dtype}, the array {whole.dtype}")
        require(len(spec.chunks) == whole.ndim, f"spec has chunks {spec.chunks} for {whole.ndim} axes")
        chosen = _some_chunks(grid_shape(spec.shape, spec.chunks), max_chunks, random.Random(seed))

        def check(chunk_indices: Sequence[ChunkIndex], values: Iterable[NDArray[Any]], how: str) -> None:
            values = list(values)
            same = len(values) == len(chunk_indices)
            require(same, f"read_chunks gives {len(values)} chunks for {len(chunk_indices)} indexes")
            for chunk_index, chunk in zip(chunk_indices, values, strict=True):
                wanted = whole[chunk_region(chunk_index, spec.chunks, spec.shape)]
                require(
                    same_values(chunk, wanted),
                    f"chunk {chunk_index} read {how} is {chunk.dtype} {chunk.shape} with other values than "
                    f"the array's {wanted.dtype} {wanted.shape}",
                )

        check(chosen, map(reader.read_chunk, chosen), "alone")
        check(chosen, reader.read_chunks(chosen), "with others")
        check(chosen[::-1], reader.read_chunks(chosen[::-1]), "with others, backwards")
        twice = [chunk_index for chunk_index in chosen for _ in range(2)]
        check(twice, reader.read_chunks(twice), "twice in one call")
        require(reader.read_chunks([]) == [], "reading no chunks gives something")
        if isinstance(reader, InPlaceReader):
            check(chosen, reader.read_chunks_into(chosen, _memories(spec, len(chosen))), "in place")
            check(twice, reader.read_chunks_into(twice, _memories(spec, len(twice))), "twice in place")
            _check_in_place(reader, chosen)
        with concurrent.futures.ThreadPoolExecutor(threads, "lazystore-contract") as pool:
            check(twice, pool.map(reader.read_chunk, twice), f"from {threads} threads")
            if isinstance(reader, InPlaceReader):
                placed = pool.map(lambda i: reader.read_chunks_into([i], _memories(spec, 1))[0], twice)
                check(twice, placed, f"in place from {threads} threads")
        if chosen:
            _check_chunks_are_safe(reader, chosen[0])
        _check_outside(reader, grid_shape(spec.shape, spec.chunks))
        reader.close()
        reader.close()  # idempotent
        check(chosen, map(reader.read_chunk, chosen), "after close")


def _memories(spec: ArraySpec, count: int) -> list[memoryview]:
    """Memory for chunks that is full of something else."""
    return [memoryview(bytearray(b"\xa5" * spec.chunk_nbytes)) for _ in range(count)]


def _check_in_place(reader: InPlaceReader, chosen: Sequence[ChunkIndex]) -> None:
    """What is decoded into a caller's memory begins where that does, and lies nowhere else."""
    for chunk_index in chosen[:3]:
        memory = _memories(reader.spec, 1)[0]
        (chunk,) = reader.read_chunks_into([chunk_index], [memory])
        whole = np.frombuffer(memory, np.uint8)
        require(
            chunk.__array_interface__["data"][0] == whole.__array_interface__["data"][0],
            f"chunk {chunk_index} was not decoded into the memory that was given for it",
        )


def _check_chunks_are_safe(reader: ChunkReader, chunk_index: ChunkIndex) -> None:
    """A caller who writes into a chunk spoils it for nobody: it is his own, or it is read-only."""
    chunk = reader.read_chunk(chunk_index)
    before = chunk.copy()
    if chunk.flags.writeable:
        chunk[...] = ~chunk if chunk.dtype.kind in "bui" else chunk + 1
    again = reader.read_chunk(chunk_index)
    require(same_values(again, before), f"writing into chunk {chunk_index} changes it for the next reader")


def _check_outside(reader: ChunkReader, grid: Sequence[int]) -> None:
    """A chunk that no array has is an error, whatever kind; it is never made up."""
    for outside in (tuple(grid), (*([0] * (len(grid) - 1)), -1)):
        try:
            reader.read_chunk(outside)
        except (LookupError, ValueError, LazystoreError):
            continue
        raise ContractError(f"chunk {outside} lies outside the grid {tuple(grid)}, but it was read")


def _some_chunks(grid: Sequence[int], max_chunks: int, choice: random.Random) -> list[ChunkIndex]:
    """Chunk indexes in random order: all of them, or some with the first and the last."""
    count = math.prod(grid)
    if count <= max_chunks:
        chosen = list(itertools.product(*map(range, grid)))
    else:
        numbers = {0, count - 1, *choice.sample(range(count), max(0, max_chunks - 2))}
        chosen = [tuple(map(int, np.unravel_index(number, grid))) for number in numbers]
    choice.shuffle(chosen)
    return chosen
