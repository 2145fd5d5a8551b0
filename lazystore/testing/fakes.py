"""Sources and readers over arrays in memory, and wrappers that count, delay, fail or wait."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazystore.chunks import ChunkIndex, chunk_region, grid_shape, normalize_index
from lazystore.protocols import Block, ChunkReader, Column, SideArray, SourceIdentity, SourceInfo, Ticks
from lazystore.schema import ArraySpec, sha256_of_json


class ColumnsSource:
    """A source over arrays: for formats with several columns, side arrays and lost records.

    Parameters
    ----------
    columns
        Arrays of shape (record, ...), by name; all with the same number of records.
    dims
        Dimension names of each column; made from the column's name where left out, with `time`
        (or `event`) first.
    kind, ticks, side, item_attributes, suffix
        As in `SourceInfo`.
    missing
        Records that count as lost; their values are zeros.
    name
        What the identity calls the recording.

    Attributes
    ----------
    reads
        Every (start, stop) that was asked for, in order.
    is_closed
        Whether `close` was called.
    """

    def __init__(
        self,
        columns: Mapping[str, ArrayLike],
        *,
        kind: str = "stack",
        dims: Mapping[str, Sequence[str]] | None = None,
        ticks: Ticks | None = None,
        side: Sequence[SideArray] = (),
        item_attributes: Mapping[str, Any] | None = None,
        missing: Sequence[int] = (),
        name: str = "fake",
        suffix: str = "",
    ) -> None:
        self._columns = {path: np.array(values) for path, values in columns.items()}
        self._missing = tuple(sorted(missing))
        for values in self._columns.values():
            values[list(self._missing)] = np.zeros((), values.dtype)
        record_dim = "event" if kind == "events" else "time"
        described = []
        for path, values in self._columns.items():
            names = (dims or {}).get(path) or [
                record_dim,
                *(f"{path}_{axis}" for axis in range(1, values.ndim)),
            ]
            described.append(Column(path, tuple(names), values.shape, values.dtype))
        content = {path: [values.shape, values.dtype.str, values.tobytes().hex()] for path, values in
                   self._columns.items() if values.dtype != object}  # fmt: skip
        size = sum(values.nbytes for values in self._columns.values())
        self._info = SourceInfo(
            kind=kind,
            format="fake",
            columns=tuple(described),
            identity=(SourceIdentity(name, size, 0, sha256_of_json(content)),),
            ticks=ticks,
            side=tuple(side),
            item_attributes=dict(item_attributes or {}),
            suffix=suffix,
        )
        self.reads: list[tuple[int, int]] = []
        self.is_closed = False

    @property
    def info(self) -> SourceInfo:
        """What the arrays are."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Copies of the records [start, stop)."""
        self.reads.append((start, stop))
        missing = tuple(record for record in self._missing if start <= record < stop)
        return Block(
            start, {path: values[start:stop].copy() for path, values in self._columns.items()}, missing
        )

    def close(self) -> None:
        """Noted in `is_closed`."""
        self.is_closed = True


class ArrayChunkReader:
    """A chunk reader over an array in memory.

    Parameters
    ----------
    array
        Any shape; copied.
    chunks
        Chunk length per axis.
    dims
        Dimension names, ``dim_0`` and so on where left out.
    """

    def __init__(self, array: ArrayLike, chunks: Sequence[int], dims: Sequence[str] | None = None) -> None:
        self._array: NDArray[Any] = np.array(array)
        self._array.flags.writeable = False
        names = dims if dims is not None else [f"dim_{axis}" for axis in range(self._array.ndim)]
        self._spec = ArraySpec("data", tuple(names), self._array.shape, self._array.dtype, tuple(chunks))
        self._grid = grid_shape(self._spec.shape, self._spec.chunks)

    @property
    def spec(self) -> ArraySpec:
        """Shape, dtype and chunks of the array."""
        return self._spec

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        """A read-only view; IndexError outside the grid."""
        for number, count, dim in zip(chunk_index, self._grid, self._spec.dims, strict=True):
            if number != normalize_index(number, count, dim):
                raise IndexError(f"chunk {chunk_index} lies outside the grid {self._grid}")
        return self._array[chunk_region(chunk_index, self._spec.chunks, self._spec.shape)]

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """Views, in the order asked for."""
        return [self.read_chunk(chunk_index) for chunk_index in chunk_indices]

    def close(self) -> None:
        """Nothing to release."""


class _Wrapper:
    """A reader around a reader; `_before` sees every chunk that is asked for, alone or with others."""

    def __init__(self, reader: ChunkReader) -> None:
        self._reader = reader

    @property
    def spec(self) -> ArraySpec:
        """The wrapped reader's."""
        return self._reader.spec

    def _before(self, chunk_indices: Sequence[ChunkIndex]) -> None:
        raise NotImplementedError

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        """The wrapped reader's chunk."""
        self._before([chunk_index])
        return self._reader.read_chunk(chunk_index)

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """The wrapped reader's chunks."""
        self._before(chunk_indices)
        return self._reader.read_chunks(chunk_indices)

    def close(self) -> None:
        """Close the wrapped reader."""
        self._reader.close()


class CountingReader(_Wrapper):
    """Notes every read; thread-safe.

    Attributes
    ----------
    chunks
        How often each chunk was asked for.
    calls
        How many calls there were, however many chunks each asked for.
    closes
        How often `close` was called.
    """

    def __init__(self, reader: ChunkReader) -> None:
        super().__init__(reader)
        self.chunks: Counter[ChunkIndex] = Counter()
        self.calls = 0
        self.closes = 0
        self._lock = threading.Lock()

    def _before(self, chunk_indices: Sequence[ChunkIndex]) -> None:
        with self._lock:
            self.calls += 1
            self.chunks.update(chunk_indices)

    def close(self) -> None:
        """Count, and close the wrapped reader."""
        with self._lock:
            self.closes += 1
        super().close()


class SlowReader(_Wrapper):
    """Takes `delay_s` seconds longer for each call, like a store that far away."""

    def __init__(self, reader: ChunkReader, delay_s: float) -> None:
        super().__init__(reader)
        self.delay_s = delay_s

    def _before(self, chunk_indices: Sequence[ChunkIndex]) -> None:
        time.sleep(self.delay_s)


class FailingReader(_Wrapper):
    """Raises what `choose` returns for a chunk; None lets the read pass.

    `choose` is called in the reading thread, once for each chunk asked for.
    """

    def __init__(self, reader: ChunkReader, choose: Callable[[ChunkIndex], BaseException | None]) -> None:
        super().__init__(reader)
        self._choose = choose

    def _before(self, chunk_indices: Sequence[ChunkIndex]) -> None:
        for chunk_index in chunk_indices:
            error = self._choose(chunk_index)
            if error is not None:
                raise error


class GatedReader(_Wrapper):
    """Holds every read back until `open_gate`, so that a test decides what happens meanwhile.

    Parameters
    ----------
    reader
        The reader behind the gate.
    give_up_s
        A read that waits longer raises TimeoutError: a broken test fails instead of hanging.

    Attributes
    ----------
    arrived
        Chunks of the reads that came so far, in the order of their coming.
    """

    def __init__(self, reader: ChunkReader, give_up_s: float = 30.0) -> None:
        super().__init__(reader)
        self.give_up_s = give_up_s
        self.arrived: list[ChunkIndex] = []
        self._changed = threading.Condition()
        self._is_open = False

    def _before(self, chunk_indices: Sequence[ChunkIndex]) -> None:
        with self._changed:
            self.arrived.extend(chunk_indices)
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._is_open, self.give_up_s):
                raise TimeoutError(
                    f"the gate stayed shut for {self.give_up_s} s before {list(chunk_indices)}"
                )

    def wait_until_arrived(self, count: int) -> None:
        """Block until `count` chunks have been asked for.

        Raises
        ------
        TimeoutError
            If they are not within `give_up_s`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.arrived) >= count, self.give_up_s):
                raise TimeoutError(f"{len(self.arrived)} of {count} chunks arrived in {self.give_up_s} s")

    def open_gate(self) -> None:
        """Let all reads pass, those that wait and those to come."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def shut_gate(self) -> None:
        """Hold the reads to come back again."""
        with self._changed:
            self._is_open = False
