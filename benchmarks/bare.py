"""The least that a reduction of stored frames can cost: pread, crc32c, decode, and the loop that adds.

Nothing else is left: files are open, offsets known, memory used again, one thread a core.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

from lazystore.array import pixel_kernels as kernels
from lazystore.schema import ArraySpec
from lazystore.store.payloads import CRC32C_RESIDUE
from lazystore.store.shard_index import ENTRY_BYTES, parse_index

CORES = os.cpu_count() or 1


class BareChunks:
    """Some chunks of an array whose chunks hold whole frames.

    Parameters
    ----------
    store
        The folder of the store, `spec` being an array of the item `name` in it.
    frames
        Half-open ranges; every chunk that holds one of their frames is read.
    """

    def __init__(self, store: Path, name: str, spec: ArraySpec, frames: Iterable[tuple[int, int]]) -> None:
        numcodecs.blosc.use_threads = False
        self.is_plain = spec.codec.cname == "none"
        self.chunk_nbytes = spec.chunk_nbytes
        rows, per_file = spec.chunks[0], spec.write_shape[0] // spec.chunks[0]
        numbers = sorted({n for low, high in frames for n in range(low // rows, -(-high // rows))})
        self.handles: dict[int, int] = {}
        self.where: list[tuple[int, int, int]] = []
        indexes = {}
        for number in numbers:
            file_number, inner = divmod(number, per_file)
            if file_number not in indexes:
                path = store / name / "data" / spec.key((file_number, *(0 for _ in spec.shape[1:])))
                tail = path.read_bytes()[-(per_file * ENTRY_BYTES + 4) :]
                indexes[file_number] = parse_index(tail, None, 2**40, None)
                self.handles[file_number] = os.open(path, os.O_RDONLY)
            index = indexes[file_number]
            assert not isinstance(index, str)
            extent = index.extent(inner)
            assert extent is not None
            self.where.append((self.handles[file_number], *extent))

    def _decode(self, wanted: Sequence[tuple[int, int, int]]) -> None:
        buffer = np.empty(self.chunk_nbytes + 64, np.uint8)
        chunk = np.empty(self.chunk_nbytes, np.uint8)
        for handle, offset, length in wanted:
            data = buffer[:length]
            os.preadv(handle, [data], offset)
            if google_crc32c.value(data) != CRC32C_RESIDUE:
                raise ValueError("checksum")
            if not self.is_plain:
                numcodecs.blosc.decompress(data, chunk)

    def decode(self) -> None:
        """All of them, on every core."""
        parts = np.array_split(np.arange(len(self.where)), min(len(self.where), 8 * CORES))
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(lambda part: self._decode([self.where[place] for place in part]), parts))

    def close(self) -> None:
        for handle in self.handles.values():
            os.close(handle)


def add(frames: NDArray[Any], operation: str) -> None:
    """The loop alone, over frames in RAM: a part of them a core, each into sums of its own."""

    def one(part: NDArray[Any]) -> None:
        flat = np.ascontiguousarray(part).reshape(len(part), -1)
        size, starts = flat.shape[1], np.zeros(1, np.int64)
        is_float, width = flat.dtype.kind == "f", flat.dtype.itemsize
        sums = np.zeros(size, "f8" if is_float else "u4")
        if operation in ("min", "max"):
            kernel = kernels.lower if operation == "min" else kernels.heighten
            kernel(flat, starts, size, False, flat[0].copy())
        elif operation != "std":
            kernels.add_sum(flat, starts, size, sums)
        elif is_float:
            kernels.add_spread(flat, starts, size, False, sums, np.zeros(size), np.zeros(size))
        else:
            kernels.add_squares(flat, starts, size, sums, np.zeros(size, "u4" if width == 1 else "u8"))

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(one, [part for part in np.array_split(frames, CORES) if len(part)]))
