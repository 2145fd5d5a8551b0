"""Where the inner chunks of a shard lie: its index parsed, checked and kept; reads planned from it."""

from __future__ import annotations

import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ChunkIndex
from lazystore.schema import CRC32C_BYTES

ABSENT = 2**64 - 1
ENTRY_BYTES = 16
# Above it numpy is quicker than a loop.
FEW_NUMBERS = 256


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """One shard's index.

    Attributes
    ----------
    extents
        Offset and length in bytes by turns, one pair a chunk in C order.
    identity
        Of the file it was read from; an index never serves another file of the same name.
    """

    extents: array[int]
    identity: Any

    @property
    def nbytes(self) -> int:
        """Memory it takes, its key in the cache included."""
        return len(self.extents) * 8 + 300

    def extent(self, number: int) -> tuple[int, int] | None:
        """Offset and length of one chunk; None where it is absent."""
        offset = self.extents[2 * number]
        return None if offset == ABSENT else (offset, self.extents[2 * number + 1])


def parse_index(data: bytes, data_bytes: int | None, max_payload: int, identity: Any) -> ShardIndex | str:
    """The index in a shard's last bytes, or what is wrong with it.

    Parameters
    ----------
    data
        Little-endian uint64 pairs and a 4-byte checksum, which the caller has verified.
    data_bytes, max_payload
        As in `index_problem`.
    identity
        Of the file.
    """
    extents = array("Q", data[:-CRC32C_BYTES])
    if sys.byteorder == "big":
        extents.byteswap()
    if len(extents) <= FEW_NUMBERS and _is_one_behind_the_other(extents, data_bytes, max_payload):
        return ShardIndex(extents, identity)
    problem = index_problem(np.array(extents).reshape(-1, 2), data_bytes, max_payload)
    return problem or ShardIndex(extents, identity)


def _is_one_behind_the_other(extents: array[int], data_bytes: int | None, max_payload: int) -> bool:
    """Whether chunks follow one another, none absent: what nearly every shard looks like.

    A tenth of `index_problem`'s time for the shards of a window's columns, which nobody has opened yet.
    """
    end = 0
    for offset, length in zip(extents[::2], extents[1::2], strict=True):
        if offset < end or not CRC32C_BYTES <= length <= max_payload:
            return False
        end = offset + length
    return end <= (2**62 if data_bytes is None else data_bytes)


def index_problem(entries: NDArray[np.uint64], data_bytes: int | None, max_payload: int) -> str | None:
    """What no honest shard index says, or None.

    Parameters
    ----------
    entries
        Shape (chunk, 2), uint64: offset and length in bytes; both 2**64 - 1 for an absent chunk.
    data_bytes
        Bytes of the shard before its index; None where unknown.
    max_payload
        Most bytes that one chunk may take.

    >>> import numpy as np
    >>> index_problem(np.array([[0, 9], [9, 5]], "u8"), 14, 10)
    >>> index_problem(np.array([[0, 9], [9, 5]], "u8"), 13, 10)
    'bytes beyond its end'
    """
    offsets, lengths = entries[:, 0], entries[:, 1]
    absent = offsets == ABSENT
    if not np.array_equal(absent, lengths == ABSENT):
        return "a chunk that is half absent"
    offsets, lengths = offsets[~absent], lengths[~absent]
    if not len(offsets):
        return None
    if lengths.max() > max_payload or lengths.min() < CRC32C_BYTES:
        wrong = lengths[(lengths > max_payload) | (lengths < CRC32C_BYTES)][0]
        return f"a chunk of {wrong} bytes where {CRC32C_BYTES} to {max_payload} are sensible"
    # The offsets first: with a huge one the sum would wrap around.
    end = np.uint64(2**62 if data_bytes is None else max(0, data_bytes))
    if offsets.max() > end or (offsets + lengths).max() > end:
        return "bytes beyond its end"
    order = np.argsort(offsets, kind="stable")
    offsets, lengths = offsets[order], lengths[order]
    same = (offsets[1:] == offsets[:-1]) & (lengths[1:] == lengths[:-1])
    # Two chunks of equal content may share their bytes; a partial overlap is nonsense.
    if ((offsets[1:] < offsets[:-1] + lengths[:-1]) & ~same).any():
        return "chunks that overlap"
    return None


class IndexCache:
    """Least recently used shard indexes of one array, bounded by bytes; thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._indexes: OrderedDict[ChunkIndex, ShardIndex] = OrderedDict()
        self.renew_lock()

    def __len__(self) -> int:
        return len(self._indexes)

    def renew_lock(self) -> None:
        """Forget who holds the lock: for a forked child."""
        self._lock = threading.Lock()

    def get(self, file_index: ChunkIndex) -> ShardIndex | None:
        """The index of a file, if it is kept."""
        with self._lock:
            index = self._indexes.get(file_index)
            if index is not None:
                self._indexes.move_to_end(file_index)
            return index

    def put(self, file_index: ChunkIndex, index: ShardIndex) -> None:
        """Keep an index; the newest stays even where it alone is above the bound."""
        with self._lock:
            old = self._indexes.pop(file_index, None)
            self._bytes += index.nbytes - (old.nbytes if old else 0)
            self._indexes[file_index] = index
            while self._bytes > self._max_bytes and len(self._indexes) > 1:
                self._bytes -= self._indexes.popitem(last=False)[1].nbytes

    def drop(self, file_index: ChunkIndex | None = None) -> None:
        """Forget one index, or all."""
        with self._lock:
            names = list(self._indexes) if file_index is None else [file_index]
            for name in names:
                index = self._indexes.pop(name, None)
                self._bytes -= index.nbytes if index else 0


@dataclass(frozen=True, slots=True)
class Want:
    """One chunk of a batch: `place` in the answer, and where its bytes lie in the shard."""

    place: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Run:
    """Chunks of one shard that one read brings."""

    offset: int
    length: int
    wants: tuple[Want, ...]


def runs_of(wants: Sequence[Want], gap_bytes: int, run_bytes: int) -> Iterator[Run]:
    """Join chunks that lie close together, in the order of their offsets.

    Parameters
    ----------
    wants
        Chunks of one shard, in any order.
    gap_bytes
        Bytes between two chunks that are worth reading for nothing.
    run_bytes
        Length above which a run takes no further chunk.

    >>> [run.length for run in runs_of([Want(0, 20, 5), Want(1, 0, 9), Want(2, 9, 5)], 3, 100)]
    [14, 5]
    """
    members: list[Want] = []
    start = stop = 0
    for want in sorted(wants, key=lambda want: want.offset):
        end = max(stop, want.offset + want.length)
        if members and (want.offset - stop > gap_bytes or end - start > run_bytes):
            yield Run(start, stop - start, tuple(members))
            members = []
        if not members:
            start, end = want.offset, want.offset + want.length
        members.append(want)
        stop = end
    if members:
        yield Run(start, stop - start, tuple(members))
