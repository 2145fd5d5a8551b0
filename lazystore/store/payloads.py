"""From a chunk's index to its stored bytes: shard index, ranged reads, checksums.

What leaves this file has a crc32c that fits, so a decoder meets no accident, only what somebody
wrote on purpose.
"""

from __future__ import annotations

import errno
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ChunkIndex, chunk_region, grid_shape
from lazystore.errors import DamagedStoreError, HostileStoreError, StoreError
from lazystore.schema import (
    CRC32C_BYTES,
    MAX_CHUNK_BYTES,
    MAX_METADATA_BYTES,
    SHARD_MARK_BYTES,
    ArraySpec,
    shard_mark,
)
from lazystore.store.files import LocalFiles
from lazystore.store.location import Location
from lazystore.store.shard_files import Payload, RemoteFiles, ShardFile, bytes_of
from lazystore.store.shard_index import ENTRY_BYTES, IndexCache, Run, ShardIndex, Want, parse_index, runs_of

BLOSC_OVERHEAD_BYTES = 16
# A message followed by its own little-endian crc32c always has this crc32c: one pass over the bytes
# as they came, with no copy that leaves the checksum off.
CRC32C_RESIDUE = 0x48674BC7
# Before a remote chunk is asked for again; grows with every attempt.
REREAD_PAUSE_S = 0.02
DEFAULT_INDEX_BYTES = 8 * 1024 * 1024
# Neighbours that share one read. From a local disk a read costs about 1 µs beside its bytes, so
# only small chunks gain; from a bucket it costs a round trip, which is worth 1 MiB of waste.
LOCAL_GAP_BYTES, LOCAL_RUN_BYTES = 4 * 1024, 256 * 1024
REMOTE_GAP_BYTES, REMOTE_RUN_BYTES = 1024 * 1024, 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReadCounters:
    """What a reader asked for since it was made.

    Attributes
    ----------
    chunks, bytes
        Chunks handed out, and the bytes read for them.
    index_reads
        Shard indexes read.
    requests
        Reads of the location, indexes included.
    """

    chunks: int = 0
    bytes: int = 0
    index_reads: int = 0
    requests: int = 0


def max_payload_bytes(spec: ArraySpec) -> int:
    """The most bytes an honest writer stores for one inner chunk, its checksum included."""
    if spec.is_text:
        return MAX_CHUNK_BYTES
    overhead = 0 if spec.codec.cname == "none" else BLOSC_OVERHEAD_BYTES
    return spec.chunk_nbytes + overhead + CRC32C_BYTES


class ChunkPayloads:
    """Stored bytes of inner chunks, checksum verified, from any thread.

    Parameters
    ----------
    location, prefix
        Where the store lies, and the array's key in it.
    spec
        The array.
    generation
        Of the item; every shard must then carry its mark. ``""`` for arrays of others.
    checksums
        The crc32c of every chunk in C order, for arrays without shards; None where not known.
    max_index_bytes
        Memory for shard indexes; the least recently used go first.

    Notes
    -----
    An absent chunk or shard is an error: lazystore writes every chunk that meets the array. A
    location whose `reread_attempts` is above 1 (an object store) is asked again when bytes arrive
    short or altered, or seem not to be there.
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
        import google_crc32c

        self._crc32c = google_crc32c.value
        self._extend_crc32c = google_crc32c.extend
        self._location = location
        self._prefix = prefix
        self._spec = spec
        self._grid = grid_shape(spec.shape, spec.chunks)
        self._per_file = grid_shape(spec.write_shape, spec.chunks)
        # `ArraySpec.key` written out: every read asks for a key. A scalar's key is "c" alone.
        self._separator = spec.separator
        self._key_head = (f"{prefix}/c" if prefix else "c") + (spec.separator if spec.shape else "")
        self._index_bytes = math.prod(self._per_file) * ENTRY_BYTES + CRC32C_BYTES
        if self._index_bytes > MAX_METADATA_BYTES:
            raise HostileStoreError(
                f"array {prefix!r} declares {math.prod(self._per_file)} chunks in a shard; at most "
                f"{MAX_METADATA_BYTES // ENTRY_BYTES} are read"
            )
        self._generation = generation
        self._checksums = checksums
        self._mark_bytes = SHARD_MARK_BYTES if generation else 0
        self._max_payload = max_payload_bytes(spec)
        self._attempts: int = getattr(location, "reread_attempts", 1)
        local = hasattr(location, "open_guarded")
        self._files: Any = LocalFiles(location) if local else RemoteFiles(location)  # type: ignore[arg-type]  # just asked
        self._gap_bytes = LOCAL_GAP_BYTES if local else REMOTE_GAP_BYTES
        self._run_bytes = LOCAL_RUN_BYTES if local else REMOTE_RUN_BYTES
        # What a buffer for `get` and `iter_many` must hold; 0 where they read into none.
        self.buffer_bytes = max(self._max_payload, LOCAL_RUN_BYTES) if local and spec.shards else 0
        self._indexes = IndexCache(max_index_bytes)
        self._counts = [0, 0, 0, 0]
        self._renew_locks()
        _ALL.add(self)

    def _renew_locks(self) -> None:
        self._count_lock = threading.Lock()
        # Threads that miss the same index wait for the first of them instead of reading it too.
        self._load_locks = tuple(threading.Lock() for _ in range(16))

    @property
    def counters(self) -> ReadCounters:
        """What was read so far."""
        return ReadCounters(*self._counts)

    def close(self) -> None:
        """Close files and forget indexes. Idempotent; the next read starts anew."""
        self._indexes.drop()
        self._files.close()

    def describe(self, chunk_index: ChunkIndex) -> str:
        """Name a chunk in an error: its array, its place, its file."""
        region = chunk_region(chunk_index, self._spec.chunks, self._spec.shape)
        labels = ", ".join(
            f"{dim} {part.start}:{part.stop}" for dim, part in zip(self._spec.dims, region, strict=True)
        )
        key = self._key(self._locate(chunk_index)[0])
        return f"array {self._prefix!r}, chunk {tuple(chunk_index)} ({labels}), file {key!r}"

    def _key(self, file_index: ChunkIndex) -> str:
        return self._key_head + self._separator.join(map(str, file_index))

    def _locate(self, chunk_index: ChunkIndex) -> tuple[ChunkIndex, int]:
        """File index, and the chunk's number in that file in C order."""
        if len(chunk_index) != len(self._grid):
            raise IndexError(
                f"chunk {chunk_index!r} of array {self._prefix!r} needs {len(self._grid)} numbers"
            )
        number, file_index = 0, []
        for index, size, count in zip(chunk_index, self._grid, self._per_file, strict=True):
            if not 0 <= index < size:
                raise IndexError(
                    f"chunk {chunk_index!r} lies outside the {self._grid} chunks of array {self._prefix!r}"
                )
            if count == 1:
                file_index.append(index)
            else:
                file_number, inner = divmod(index, count)
                file_index.append(file_number)
                number = number * count + inner
        return tuple(file_index), number

    def get(self, chunk_index: ChunkIndex, buffer: NDArray[np.uint8] | None = None) -> Payload:
        """One chunk's bytes, its verified 4-byte checksum still at the end.

        Parameters
        ----------
        buffer
            Of `buffer_bytes`, where these are not 0: the answer is then a part of it.

        Raises
        ------
        DamagedStoreError
            If the file or the chunk is absent, short, or altered.
        HostileStoreError
            If the file is no regular file below the store.
        IndexError
            If there is no such chunk.
        """
        return self._with_file(*self._locate(chunk_index), chunk_index, self._read_one, buffer)

    def _read_one(
        self,
        file: ShardFile,
        file_index: ChunkIndex,
        number: int,
        chunk_index: ChunkIndex,
        buffer: NDArray[np.uint8] | None,
    ) -> Payload:
        data: Payload
        if self._spec.shards is None:
            data = self._whole(file, chunk_index)
        else:
            offset, length = self._extent(self._index(file, file_index), number, chunk_index)
            data = bytes_of(file, offset, length, buffer)
            if len(data) != length:
                raise self._cut_short(len(data), length, chunk_index)
        if self._crc32c(data) != CRC32C_RESIDUE:
            raise self._altered(chunk_index)
        if self._spec.shards is None and self._checksums is not None:
            self._check_place(data, chunk_index)
        self._count(1, len(data))
        return data

    def read_plain(self, chunk_index: ChunkIndex, memory: NDArray[np.uint8]) -> int:
        """One chunk that no codec packed, straight into memory of its size, its checksum verified.

        Only where `buffer_bytes` is not 0. Raises as `get`.

        Returns
        -------
        int
            The bytes that are stored; nothing was read where they are not as many as `memory` holds.
        """
        return self._with_file(*self._locate(chunk_index), chunk_index, self._read_plain, memory)

    def _read_plain(
        self,
        file: ShardFile,
        file_index: ChunkIndex,
        number: int,
        chunk_index: ChunkIndex,
        memory: NDArray[np.uint8] | None,
    ) -> int:
        assert memory is not None
        offset, length = self._extent(self._index(file, file_index), number, chunk_index)
        if length - CRC32C_BYTES != memory.size:
            return length - CRC32C_BYTES
        checksum = np.empty(CRC32C_BYTES, np.uint8)
        n_read = file.read_into(offset, memory, checksum)
        if n_read != length:
            raise self._cut_short(n_read, length, chunk_index)
        if self._extend_crc32c(self._crc32c(memory), checksum) != CRC32C_RESIDUE:
            raise self._altered(chunk_index)
        self._count(1, length)
        return memory.size

    def _count(self, n_chunks: int, n_bytes: int) -> None:
        """One more read, of so many chunks."""
        with self._count_lock:
            counts = self._counts
            counts[0] += n_chunks
            counts[1] += n_bytes
            counts[3] += 1

    def _check_place(self, data: Payload, chunk_index: ChunkIndex) -> None:
        """Refuse sound bytes that belong to another chunk."""
        number = 0
        for index, size in zip(chunk_index, self._grid, strict=True):
            number = number * size + index
        found = int.from_bytes(bytes(data[-CRC32C_BYTES:]), "little")
        if self._checksums is not None and found != self._checksums[number]:
            raise DamagedStoreError(
                f"{self.describe(chunk_index)}: these are the bytes of another chunk, or of an older one; "
                "run `lazystore verify`"
            )

    def iter_many(
        self, chunk_indices: Sequence[ChunkIndex], buffer: NDArray[np.uint8] | None = None
    ) -> Iterator[tuple[int, Payload]]:
        """Several chunks' bytes, each with its place in the list, as their reads return.

        Neighbours in a shard share a read. One read at a time is held, so that a caller who decodes
        as they come finds the bytes still in the processor's cache; in a `buffer`, as for `get`, they
        last no longer than until the next are asked for.
        """
        by_file: dict[ChunkIndex, list[tuple[int, int]]] = {}
        for place, chunk_index in enumerate(chunk_indices):
            file_index, number = self._locate(chunk_index)
            by_file.setdefault(file_index, []).append((place, number))
        for file_index, members in by_file.items():
            if self._spec.shards is None or len(members) == 1:
                for place, _ in members:
                    yield place, self.get(chunk_indices[place], buffer)
            else:
                yield from self._iter_neighbours(chunk_indices, file_index, members, buffer)

    def _iter_neighbours(
        self,
        chunk_indices: Sequence[ChunkIndex],
        file_index: ChunkIndex,
        members: list[tuple[int, int]],
        buffer: NDArray[np.uint8] | None,
    ) -> Iterator[tuple[int, Payload]]:
        def plan(file: ShardFile, *_: Any) -> list[Run]:
            index = self._index(file, file_index)
            wants = [
                Want(place, *self._extent(index, number, chunk_indices[place])) for place, number in members
            ]
            return list(runs_of(wants, self._gap_bytes, self._run_bytes))

        def read(file: ShardFile, _: ChunkIndex, run_number: int, *__: Any) -> list[tuple[int, Payload]]:
            return self._read_run(file, runs[run_number], chunk_indices, buffer)

        first = chunk_indices[members[0][0]]
        runs = self._with_file(file_index, 0, first, plan)
        for run_number in range(len(runs)):
            yield from self._with_file(file_index, run_number, first, read)

    def _read_run(
        self,
        file: ShardFile,
        run: Run,
        chunk_indices: Sequence[ChunkIndex],
        buffer: NDArray[np.uint8] | None,
    ) -> list[tuple[int, Payload]]:
        data = bytes_of(file, run.offset, run.length, buffer)
        pieces: list[tuple[int, Payload]] = []
        # Views, not copies: each is decoded and let go.
        is_shared = len(run.wants) > 1 and isinstance(data, bytes)
        whole: Payload = np.frombuffer(data, np.uint8) if is_shared else data
        for want in run.wants:
            start = want.offset - run.offset
            piece = whole[start : start + want.length] if len(run.wants) > 1 else data
            if len(piece) != want.length:
                raise self._cut_short(len(piece), want.length, chunk_indices[want.place])
            if self._crc32c(piece) != CRC32C_RESIDUE:
                raise self._altered(chunk_indices[want.place])
            pieces.append((want.place, piece))
        self._count(len(pieces), len(data))
        return pieces

    def _with_file[T](
        self,
        file_index: ChunkIndex,
        number: int,
        chunk_index: ChunkIndex,
        read: Callable[[ShardFile, ChunkIndex, int, ChunkIndex, NDArray[np.uint8] | None], T],
        buffer: NDArray[np.uint8] | None = None,
    ) -> T:
        """What `read` makes of an open file; tried again where the fault may pass."""
        key = self._key(file_index)
        attempt = 1
        while True:
            try:
                file = self._files.acquire(key)
                try:
                    return read(file, file_index, number, chunk_index, buffer)
                finally:
                    self._files.release(file)
            except DamagedStoreError:
                if attempt >= self._attempts:
                    raise
            except FileNotFoundError as error:
                if attempt >= self._attempts:
                    raise DamagedStoreError(
                        f"{self.describe(chunk_index)}: there is no such file in {self._location.url}; "
                        "run `lazystore verify` to see what else is missing"
                    ) from error
            except OSError as error:
                self._files.forget(key)
                # A share that was mounted anew gives ESTALE for the files opened before.
                if error.errno != errno.ESTALE or attempt >= 2:
                    raise StoreError(
                        f"cannot read {key!r} in {self._location.url}: {error.strerror or error}; "
                        "check that the disk or the share is there"
                    ) from error
            time.sleep(REREAD_PAUSE_S * attempt if self._attempts > 1 else 0)
            attempt += 1

    def _index(self, file: ShardFile, file_index: ChunkIndex) -> ShardIndex:
        index = self._indexes.get(file_index)
        if index is None:
            with self._load_locks[hash(file_index) % len(self._load_locks)]:
                index = self._indexes.get(file_index)
                if index is None:
                    index = self._load_index(file, self._key(file_index))
                    self._indexes.put(file_index, index)
        if index.identity != file.identity:
            raise DamagedStoreError(
                f"file {self._key(file_index)!r} was replaced while the store was open; open the store again"
            )
        return index

    def _load_index(self, file: ShardFile, key: str) -> ShardIndex:
        tail = file.read_tail(self._mark_bytes + self._index_bytes)
        with self._count_lock:
            self._counts[2] += 1
            self._counts[3] += 1
        problem = None
        data = tail[self._mark_bytes :]
        if len(data) != self._index_bytes:
            problem = f"{len(tail)} bytes are fewer than its index of {self._index_bytes}"
        elif self._crc32c(data) != CRC32C_RESIDUE:
            problem = "its index does not match the checksum"
        elif self._generation and tail[: self._mark_bytes] != self._mark(key):
            problem = "it is another shard, or one of an older conversion"
        else:
            data_bytes = None if file.size is None else file.size - len(tail)
            index = parse_index(data, data_bytes, self._max_payload, file.identity)
            if isinstance(index, ShardIndex):
                return index
            problem = f"its index names {index}"
        raise DamagedStoreError(
            f"shard {key!r} of array {self._prefix!r}: {problem}; "
            "run `lazystore verify` to see what else is damaged"
        )

    def _mark(self, key: str) -> bytes:
        below = key[len(self._prefix) + 1 :] if self._prefix else key
        return shard_mark(self._generation, self._spec.path, below)

    def _extent(self, index: ShardIndex, number: int, chunk_index: ChunkIndex) -> tuple[int, int]:
        extent = index.extent(number)
        if extent is None:
            raise DamagedStoreError(
                f"{self.describe(chunk_index)}: the chunk is absent from its shard; "
                "run `lazystore verify` to see what else is missing"
            )
        return extent

    def _whole(self, file: ShardFile, chunk_index: ChunkIndex) -> bytes:
        # One byte more than is sensible: an oversized file shows without being read.
        data = file.read_range(0, self._max_payload + 1)
        if not CRC32C_BYTES <= len(data) <= self._max_payload:
            raise DamagedStoreError(
                f"{self.describe(chunk_index)}: {len(data)} bytes or more where {CRC32C_BYTES} to "
                f"{self._max_payload} are sensible; run `lazystore verify`"
            )
        return data

    def _cut_short(self, found: int, expected: int, chunk_index: ChunkIndex) -> DamagedStoreError:
        return DamagedStoreError(
            f"{self.describe(chunk_index)}: {found} bytes where {expected} were expected; "
            "the file is cut short, run `lazystore verify`"
        )

    def _altered(self, chunk_index: ChunkIndex) -> DamagedStoreError:
        return DamagedStoreError(
            f"{self.describe(chunk_index)}: the bytes do not match their checksum; "
            "run `lazystore verify` to see what else is damaged"
        )


_ALL: weakref.WeakSet[ChunkPayloads] = weakref.WeakSet()


def _start_over_in_child() -> None:
    # Another thread of the parent may have held a lock that nobody here will ever release.
    for payloads in list(_ALL):
        payloads._renew_locks()
        payloads._indexes.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over_in_child)
