"""Byte ranges of a one-dimensional uint8 array, by its chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ChunkIndex
from lazystore.errors import UsageError
from lazystore.protocols import ChunkReader


class ColumnBytes:
    """Reads a range of bytes from any thread; keeps the last chunk, where the next range begins.

    Parameters
    ----------
    reader
        Of an array of shape (byte,), uint8. Closed by `close`.
    """

    def __init__(self, reader: ChunkReader) -> None:
        spec = reader.spec
        if spec.dtype != np.uint8 or len(spec.shape) != 1:
            raise UsageError(
                f"array {spec.path!r} has shape {spec.shape} and dtype {spec.dtype}; "
                "bytes are read from one-dimensional uint8"
            )
        self._reader = reader
        self._chunk_bytes = spec.chunks[0]
        # One tuple, replaced as a whole, so that threads never see half of it.
        self._last: tuple[int, NDArray[Any]] | None = None

    def __call__(self, offset: int, size: int) -> memoryview:
        """`size` > 0 bytes from `offset` on, inside the array; raises what the reader raises."""
        first, last = offset // self._chunk_bytes, (offset + size - 1) // self._chunk_bytes
        held = self._last
        parts: list[NDArray[Any]] = [held[1]] if held is not None and held[0] == first else []
        wanted: list[ChunkIndex] = [(index,) for index in range(first + len(parts), last + 1)]
        if wanted:
            parts += self._reader.read_chunks(wanted)
        self._last = (last, parts[-1])
        data = parts[0] if len(parts) == 1 else np.concatenate(parts)
        begin = offset - first * self._chunk_bytes
        return memoryview(np.ascontiguousarray(data[begin : begin + size]))

    def close(self) -> None:
        """Close the reader below."""
        self._last = None
        self._reader.close()
