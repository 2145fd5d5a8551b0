"""Values in memory as a chunk reader, so that what was computed is a lazy array like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from lazystore.chunks import ChunkIndex
from lazystore.schema import ArraySpec


class ValuesReader:
    """A chunk a frame of an array that is there already.

    Parameters
    ----------
    values
        Any shape of at least one axis; not copied, and read-only from now on.
    dims
        Names of its axes.
    """

    def __init__(self, values: NDArray[Any], dims: Sequence[str]) -> None:
        values.flags.writeable = False
        self._values = values
        chunks = (1, *(max(1, size) for size in values.shape[1:]))
        self._spec = ArraySpec("data", tuple(dims), values.shape, values.dtype, chunks)

    def __reduce__(self) -> tuple[Any, ...]:
        return ValuesReader, (self._values, self._spec.dims)

    @property
    def spec(self) -> ArraySpec:
        """Shape, dtype and chunks."""
        return self._spec

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        """One frame, a read-only view."""
        return self._values[chunk_index[0] : chunk_index[0] + 1]

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """Frames in the order asked for."""
        return [self.read_chunk(chunk_index) for chunk_index in chunk_indices]

    def close(self) -> None:
        """Nothing to release."""
