"""Arrays to the bytes of shards and chunks; the same input always gives the same bytes."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import chunk_region, grid_shape
from lazystore.errors import DamagedStoreError
from lazystore.schema import CRC32C_BYTES, SHUFFLES, ArraySpec, Codec, shard_mark

ABSENT = 2**64 - 1


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """The content of one key, in parts that are written one after the other."""

    parts: tuple[bytes, ...]
    size: int
    crc32c: int
    sha256: str

    @property
    def checksum(self) -> int:
        """The crc32c that ends the file: of its one chunk, or of its index."""
        return int.from_bytes(self.parts[-1][-CRC32C_BYTES:], "little")


@lru_cache(maxsize=64)
def compressor(codec: Codec) -> Any:
    """The numcodecs object of a codec; None where bytes are stored as they are."""
    if codec.cname == "none":
        return None
    import numcodecs.blosc

    # Blosc's own threads make its bytes differ from run to run; our parallelism is over shards.
    numcodecs.blosc.use_threads = False
    return numcodecs.blosc.Blosc(
        cname=codec.cname, clevel=codec.level, shuffle=SHUFFLES.index(codec.shuffle), blocksize=0
    )


def crc32c(data: bytes, start: int = 0) -> int:
    """CRC-32C (Castagnoli) of bytes, continued from `start`."""
    import google_crc32c

    value: int = google_crc32c.extend(start, data)
    return value


def with_checksum(data: bytes) -> bytes:
    """Bytes followed by their little-endian crc32c, as Zarr's codec of that name writes them."""
    return data + struct.pack("<I", crc32c(data))


def encode_chunk(spec: ArraySpec, chunk: NDArray[Any]) -> bytes:
    """One inner chunk's bytes.

    Parameters
    ----------
    spec
        The array it belongs to.
    chunk
        Its part inside the array; shorter than `spec.chunks` at the array's end, where the rest
        is filled with zeros.
    """
    if spec.is_text:
        return with_checksum(_encode_text(chunk, spec.chunks))
    if chunk.shape != spec.chunks:
        padded = np.zeros(spec.chunks, spec.dtype)
        padded[tuple(slice(0, size) for size in chunk.shape)] = chunk
        chunk = padded
    chunk = np.ascontiguousarray(chunk, dtype=spec.dtype.newbyteorder("<"))
    blosc = compressor(spec.codec)
    return with_checksum(chunk.tobytes() if blosc is None else bytes(blosc.encode(chunk)))


def _encode_text(chunk: NDArray[Any], chunks: tuple[int, ...]) -> bytes:
    """Zarr's vlen-utf8: a count, then each text as its length and its UTF-8 bytes."""
    if chunk.shape != chunks:
        # Like numbers: each value keeps its place in the whole chunk, whichever axis is cut.
        padded = np.full(chunks, "", object)
        padded[tuple(slice(0, size) for size in chunk.shape)] = chunk
        chunk = padded
    texts = [str(text).encode() for text in chunk.reshape(-1)]
    parts = [struct.pack("<I", len(texts))]
    for text in texts:
        parts += [struct.pack("<I", len(text)), text]
    return b"".join(parts)


def encode_file(
    spec: ArraySpec, file_index: Sequence[int], block: NDArray[Any], *, generation: str = ""
) -> EncodedFile:
    """What the key `spec.key(file_index)` holds.

    Parameters
    ----------
    spec
        The array.
    file_index
        Position of the shard (or unsharded chunk) in the grid of files.
    block
        The array's values there, cut at the array's end.
    generation
        Of the item; a shard then carries its mark before its index.
    """
    expected = tuple(
        part.stop - part.start for part in chunk_region(tuple(file_index), spec.write_shape, spec.shape)
    )
    if block.shape != expected:
        raise ValueError(f"{spec.path}: block of shape {block.shape} for a file of shape {expected}")
    if spec.shards is None:
        return _file([encode_chunk(spec, block)])
    chunks_per_shard = grid_shape(spec.shards, spec.chunks)
    index = np.full((*chunks_per_shard, 2), ABSENT, "<u8")
    parts: list[bytes] = []
    offset = 0
    # A chunk wholly outside the array is never written: its index entry stays absent.
    for position in itertools.product(*map(range, grid_shape(block.shape, spec.chunks))):
        region = chunk_region(position, spec.chunks, block.shape)
        encoded = encode_chunk(spec, block[region])
        index[position] = (offset, len(encoded))
        offset += len(encoded)
        parts.append(encoded)
    if generation:
        parts.append(shard_mark(generation, spec.path, spec.key(file_index)))
    parts.append(with_checksum(index.tobytes()))
    return _file(parts)


def cut_in_files(
    spec: ArraySpec, pieces: Iterable[NDArray[Any]]
) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Position and values of each file of an array, from pieces of any length along axis 0.

    Raises
    ------
    DamagedStoreError
        If the pieces do not have as many rows as the array.
    """
    rows = spec.write_shape[0] if spec.shape else 1
    pending: list[NDArray[Any]] = []
    n_pending, number, n_rows = 0, 0, 0
    for piece in pieces:
        if not len(piece):
            continue
        pending.append(piece)
        n_pending += len(piece)
        n_rows += len(piece)
        while n_pending >= rows:
            joined = np.concatenate(pending) if len(pending) > 1 else pending[0]
            yield spec.file_index(number), joined[:rows]
            number += 1
            pending = [joined[rows:]] if len(joined) > rows else []
            n_pending = len(joined) - rows
    if n_rows != spec.shape[0]:
        raise DamagedStoreError(f"{spec.path}: {n_rows} rows were given for an array of {spec.shape[0]}")
    if n_pending:
        yield spec.file_index(number), np.concatenate(pending) if len(pending) > 1 else pending[0]


def _file(parts: Sequence[bytes]) -> EncodedFile:
    digest, checksum, size = hashlib.sha256(), 0, 0
    for part in parts:
        digest.update(part)
        checksum = crc32c(part, checksum)
        size += len(part)
    return EncodedFile(tuple(parts), size, checksum, digest.hexdigest())
