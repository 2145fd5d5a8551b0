"""The direct path: one ranged read and one decode a chunk, without zarr-python.

It reads what `ArraySpec` can say: regular grids, sharded or not, Blosc or plain bytes under a
crc32c. For every other layout there is `fallback`.
"""

from __future__ import annotations

import itertools
import math
import struct
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ChunkIndex, chunk_region, grid_shape
from lazystore.errors import DamagedStoreError, HostileStoreError, UsageError
from lazystore.schema import CRC32C_BYTES, ArraySpec
from lazystore.store.location import Location
from lazystore.store.payloads import DEFAULT_INDEX_BYTES, ChunkPayloads, ReadCounters
from lazystore.store.read_buffers import shared_buffers
from lazystore.store.shard_files import Payload

MAX_COORDINATE_BYTES = 256 * 1024 * 1024
# Chunks that no codec packed are read one by one to where they shall be; below this size copies out of one
# read cost less.
LEAST_PLAIN_BYTES = 32 * 1024
# version, inner version, flags, type size, decoded bytes, block bytes, encoded bytes
_BLOSC_HEADER = struct.Struct("<BBBBIII")


@cache
def _blosc() -> Any:
    import numcodecs.blosc

    # Blosc's own threads gain nothing beside several readers, and do not survive a fork.
    numcodecs.blosc.use_threads = False
    return numcodecs.blosc


class DirectChunkReader:
    """Decoded chunks of one array of a store that lazystore wrote.

    Parameters
    ----------
    location
        Where the store lies.
    prefix
        The array's key in it: ``"mouse/data"``; ``""`` where the store is the array.
    spec
        The array; numbers only (`read_text` reads text).
    generation
        Of the item; every shard must carry its mark. ``""`` for arrays of others, which have none.
    checksums
        The crc32c of every chunk in C order, for arrays without shards; None where not known.
    max_index_bytes
        Memory for shard indexes.

    Raises
    ------
    UsageError
        If the array holds text.
    HostileStoreError
        If it declares more chunks in a shard than any index is allowed to list.

    Notes
    -----
    Thread-safe; every read blocks. Decoding runs outside the interpreter lock. Chunks are
    read-only. A chunk or shard that is absent is an error, never fill values: lazystore stores
    every chunk that meets the array's shape, also those of zeros. Pickles without its open files,
    and survives a fork.
    """

    def __init__(
        self,
        location: Location,
        prefix: str,
        spec: ArraySpec,
        *,
        generation: str = "",
        checksums: Sequence[int] | None = None,
        max_index_bytes: int = DEFAULT_INDEX_BYTES,
    ) -> None:
        if spec.is_text:
            raise UsageError(f"array {prefix!r} holds text; read it with read_text")
        self.location = location
        self.prefix = prefix
        self.generation = generation
        self._checksums = checksums
        self._spec = spec
        self._max_index_bytes = max_index_bytes
        # What every read needs, worked out once.
        self._chunk_nbytes = spec.chunk_nbytes
        self._is_plain = spec.codec.cname == "none"
        self._must_swap = sys.byteorder == "big" and spec.dtype.itemsize > 1
        self._cut_axes = tuple(
            (axis, size // length)
            for axis, (size, length) in enumerate(zip(spec.shape, spec.chunks, strict=True))
            if size % length
        )
        self._payloads = ChunkPayloads(
            location,
            prefix,
            spec,
            generation=generation,
            checksums=checksums,
            max_index_bytes=max_index_bytes,
        )

    @property
    def spec(self) -> ArraySpec:
        return self._spec

    @property
    def counters(self) -> ReadCounters:
        """What was read so far, for telemetry and tests."""
        return self._payloads.counters

    def __repr__(self) -> str:
        return f"DirectChunkReader({self.location!r}, {self.prefix!r}, shape={self._spec.shape})"

    def __reduce__(self) -> tuple[Any, ...]:
        keywords = {
            "generation": self.generation,
            "checksums": self._checksums,
            "max_index_bytes": self._max_index_bytes,
        }
        return _rebuild, (self.location, self.prefix, self._spec, keywords)

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        """One chunk, cut at the array's end, read-only.

        Raises
        ------
        DamagedStoreError
            If it is absent, cut short, altered, or does not decode to the declared size.
        HostileStoreError
            If its file is a link or no regular file.
        IndexError
            If there is no such chunk.
        """
        return self._decode(chunk_index, self._payloads.get(chunk_index), shares_buffer=False)

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """Several chunks in the order asked for; neighbours in a shard share one ranged read."""
        found: dict[int, NDArray[Any]] = {}
        for place, payload in self._payloads.iter_many(chunk_indices):
            # A view would keep the whole read alive for as long as one of its chunks is cached.
            shares = not isinstance(payload, bytes)
            found[place] = self._decode(chunk_indices[place], payload, shares_buffer=shares)
        return [found[place] for place in range(len(chunk_indices))]

    def read_chunks_into(
        self, chunk_indices: Sequence[ChunkIndex], memories: Sequence[memoryview]
    ) -> list[NDArray[Any]]:
        """As `read_chunks`, into memory of the caller's: see `lazystore.protocols.InPlaceReader`."""
        n_bytes = self._payloads.buffer_bytes
        if self._is_plain and n_bytes and (len(memories) == 1 or self._chunk_nbytes >= LEAST_PLAIN_BYTES):
            return [self._read_plain(*one) for one in zip(chunk_indices, memories, strict=True)]
        buffer = shared_buffers.take(n_bytes) if n_bytes else None
        try:
            if len(chunk_indices) == 1:
                payload = self._payloads.get(chunk_indices[0], buffer)
                return [self._decode_into(chunk_indices[0], payload, memories[0])]
            found: dict[int, NDArray[Any]] = {}
            for place, piece in self._payloads.iter_many(chunk_indices, buffer):
                found[place] = self._decode_into(chunk_indices[place], piece, memories[place])
            return [found[place] for place in range(len(chunk_indices))]
        finally:
            if buffer is not None:
                shared_buffers.give_back(buffer)

    def close(self) -> None:
        self._payloads.close()

    def _read_plain(self, chunk_index: ChunkIndex, memory: memoryview) -> NDArray[Any]:
        """A chunk that no codec packed, read to where it shall be."""
        chunk: NDArray[Any] = np.ndarray(self._spec.chunks, self._spec.dtype, memory)
        flat = np.ndarray((self._chunk_nbytes,), np.uint8, memory)
        if (n_bytes := self._payloads.read_plain(chunk_index, flat)) != self._chunk_nbytes:
            raise self._wrong_size(chunk_index, n_bytes)
        if self._must_swap:
            chunk.byteswap(inplace=True)
        return self._cut(chunk_index, chunk)

    def _decode(self, chunk_index: ChunkIndex, payload: Payload, *, shares_buffer: bool) -> NDArray[Any]:
        if self._is_plain:
            self._check_plain(chunk_index, payload)
            data = bytes(payload) if shares_buffer else payload
        else:
            data = self._decompress(chunk_index, payload)
        # Over `bytes`, which nobody can write to; 1.5 µs cheaper than to decode into an array.
        chunk = np.ndarray(self._spec.chunks, self._spec.dtype, data)
        if self._must_swap:
            chunk = chunk.byteswap()
            chunk.flags.writeable = False
        return self._cut(chunk_index, chunk)

    def _decode_into(self, chunk_index: ChunkIndex, payload: Payload, memory: memoryview) -> NDArray[Any]:
        spec = self._spec
        chunk: NDArray[Any] = np.ndarray(spec.chunks, spec.dtype, memory)
        if self._is_plain:
            self._check_plain(chunk_index, payload)
            # A slice of `payload` would be a second copy.
            np.copyto(chunk, np.ndarray(spec.chunks, spec.dtype, payload))
        else:
            self._decompress(chunk_index, payload, memory)
        if self._must_swap:
            chunk.byteswap(inplace=True)
        return self._cut(chunk_index, chunk)

    def _cut(self, chunk_index: ChunkIndex, chunk: NDArray[Any]) -> NDArray[Any]:
        """Without what lies beyond the array's end."""
        for axis, last in self._cut_axes:
            if chunk_index[axis] == last:
                return chunk[self._inside(chunk_index)]
        return chunk

    def _inside(self, chunk_index: ChunkIndex) -> tuple[slice, ...]:
        region = chunk_region(chunk_index, self._spec.chunks, self._spec.shape)
        return tuple(slice(0, part.stop - part.start) for part in region)

    def _check_plain(self, chunk_index: ChunkIndex, payload: Payload) -> None:
        n_bytes = len(payload) - CRC32C_BYTES
        if n_bytes != self._chunk_nbytes:
            raise self._wrong_size(chunk_index, n_bytes)

    def _decompress(self, chunk_index: ChunkIndex, payload: Payload, memory: memoryview | None = None) -> Any:
        """The decoded bytes, in `memory` where it is given."""
        encoded_bytes = len(payload) - CRC32C_BYTES
        if encoded_bytes < _BLOSC_HEADER.size:
            raise self._wrong_size(chunk_index, encoded_bytes)
        _, _, _, _, n_bytes, block_bytes, n_encoded = _BLOSC_HEADER.unpack_from(payload)
        # The declared sizes are checked before anything is decoded: 45 kB can claim gigabytes.
        if n_bytes != self._chunk_nbytes:
            raise self._wrong_size(chunk_index, n_bytes)
        if n_encoded != encoded_bytes or block_bytes > max(n_bytes, 1):
            raise DamagedStoreError(
                f"{self._payloads.describe(chunk_index)}: its Blosc header declares {n_encoded} bytes in "
                f"blocks of {block_bytes}, where {encoded_bytes} are stored; run `lazystore verify`"
            )
        try:
            return _blosc().decompress(payload, memory)
        except (RuntimeError, ValueError) as error:
            raise DamagedStoreError(
                f"{self._payloads.describe(chunk_index)}: Blosc cannot decode it ({error}); "
                "run `lazystore verify`"
            ) from error

    def _wrong_size(self, chunk_index: ChunkIndex, n_bytes: int) -> DamagedStoreError:
        return DamagedStoreError(
            f"{self._payloads.describe(chunk_index)}: {n_bytes} bytes decoded where the array declares "
            f"{self._chunk_nbytes}; run `lazystore verify`"
        )


def _rebuild(location: Location, prefix: str, spec: ArraySpec, keywords: dict[str, Any]) -> DirectChunkReader:
    return DirectChunkReader(location, prefix, spec, **keywords)


def read_array(reader: Any, max_bytes: int = MAX_COORDINATE_BYTES) -> NDArray[Any]:
    """A whole small array: a coordinate, a statistic.

    Parameters
    ----------
    reader
        Any `ChunkReader`.
    max_bytes
        Refused above this decoded size, before anything is allocated.

    Returns
    -------
    np.ndarray
        Shape and dtype of `reader.spec`; read-only where it is one chunk.

    Raises
    ------
    HostileStoreError
        If the array is larger than `max_bytes`.
    DamagedStoreError
        As `read_chunk`.
    """
    spec: ArraySpec = reader.spec
    n_bytes = math.prod(spec.shape) * 4 if spec.is_text else spec.nbytes
    if n_bytes > max_bytes:
        raise HostileStoreError(
            f"array {spec.path!r} declares {n_bytes} bytes where at most {max_bytes} are read whole; "
            "read parts of it instead"
        )
    grid = grid_shape(spec.shape, spec.chunks)
    if math.prod(grid) == 1:
        chunk: NDArray[Any] = reader.read_chunk((0,) * len(grid))
        return chunk
    # Text has no width before it is read.
    values = np.empty(spec.shape, object if spec.is_text else spec.dtype)
    # In batches, so that neighbours share reads without all payloads being held at once.
    for batch in itertools.batched(itertools.product(*map(range, grid)), 64):
        for chunk_index, chunk in zip(batch, reader.read_chunks(batch), strict=True):
            values[chunk_region(chunk_index, spec.chunks, spec.shape)] = chunk
    return _as_text(values, spec.path) if spec.is_text else values


def read_text(
    location: Location, prefix: str, spec: ArraySpec, *, checksums: Sequence[int] | None = None
) -> NDArray[np.str_]:
    """A whole text array.

    Parameters
    ----------
    location, prefix, spec, checksums
        As for `DirectChunkReader`; `spec.is_text` holds.

    Returns
    -------
    np.ndarray
        Shape `spec.shape`, dtype ``U`` as wide as the longest text.

    Raises
    ------
    DamagedStoreError
        If a chunk is absent, altered, or no list of texts of the declared length.
    HostileStoreError
        If the array would take more than 256 MiB.
    """
    n_texts = math.prod(spec.shape)
    if n_texts * 4 > MAX_COORDINATE_BYTES:
        raise HostileStoreError(f"text array {prefix!r} declares {n_texts} texts; at most 2**26 are read")
    payloads = ChunkPayloads(location, prefix, spec, checksums=checksums)
    try:
        texts = np.empty(spec.shape, object)
        for chunk_index in itertools.product(*map(range, grid_shape(spec.shape, spec.chunks))):
            region = chunk_region(chunk_index, spec.chunks, spec.shape)
            try:
                chunk = decode_texts(bytes(payloads.get(chunk_index))[:-CRC32C_BYTES], math.prod(spec.chunks))
            except ValueError as error:
                raise DamagedStoreError(
                    f"{payloads.describe(chunk_index)}: {error}; run `lazystore verify`"
                ) from error
            inside = tuple(slice(0, part.stop - part.start) for part in region)
            texts[region] = np.array(chunk, object).reshape(spec.chunks)[inside]
    finally:
        payloads.close()
    return _as_text(texts, prefix)


def _as_text(texts: NDArray[Any], name: str) -> NDArray[np.str_]:
    longest = max(map(len, texts.ravel()), default=0)
    if texts.size * longest * 4 > MAX_COORDINATE_BYTES:
        raise HostileStoreError(
            f"text array {name!r} holds {texts.size} texts of up to {longest} characters; together they "
            f"would take more than {MAX_COORDINATE_BYTES} bytes"
        )
    return texts.astype(f"U{max(1, longest)}")


def decode_texts(data: bytes, expected: int) -> list[str]:
    r"""Zarr's vlen-utf8: a count, then each text as its length and its UTF-8 bytes.

    Raises
    ------
    ValueError
        If the bytes are no such list, or not of `expected` texts.

    >>> decode_texts(b"\x02\x00\x00\x00\x01\x00\x00\x00a\x00\x00\x00\x00", 2)
    ['a', '']
    """
    if len(data) < 4 or struct.unpack_from("<I", data)[0] != expected:
        raise ValueError(f"not a list of {expected} texts")
    texts, position = [], 4
    for _ in range(expected):
        length = struct.unpack_from("<I", data, position)[0] if position + 4 <= len(data) else len(data)
        position += 4
        if position + length > len(data):
            raise ValueError("a text that ends beyond its chunk")
        texts.append(data[position : position + length].decode("utf-8"))
        position += length
    return texts
