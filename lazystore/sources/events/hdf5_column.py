"""One dataset of an HDF5 file, its chunks decoded outside HDF5's lock.

HDF5 decodes one chunk at a time under a lock of its own, and copies it once more. Reading the
stored bytes and decoding them here doubles the speed on two cores. Filters that are not known here
are left to HDF5.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import MissingExtraError, SourceError
from lazystore.schema import MAX_CHUNK_BYTES

FILTER_DEFLATE = 1
FILTER_SHUFFLE = 2
FILTER_BLOSC = 32001
# What h5py raises for damaged files, besides OSError; KeyError and TypeError for odd objects.
DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError)

# Chunks are decoded outside the GIL. More threads than this wait for HDF5's lock.
MAX_THREADS = 4
# Decoded chunks that are held at once; one alone may be larger.
MAX_PIECES_BYTES = 64 << 20
# More than one, so that a thread that gets the easy chunks does not end up idle.
GROUPS_PER_THREAD = 4
# Filters that HDF5 brings itself; others come with hdf5plugin.
_BUILT_IN_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})


class DatasetColumn:
    """The records of a dataset along its first axis.

    Parameters
    ----------
    dataset
        An h5py dataset, one-dimensional unless its filters are left to HDF5.
    name
        The file's name, for messages.
    own_filters
        Filters that the caller decodes itself, through `read_stored`.

    Raises
    ------
    SourceError
        If a chunk is absurdly large, or the dataset declares more than the file holds.
    MissingExtraError
        If it needs a filter that is not installed.
    """

    def __init__(self, dataset: Any, name: str, own_filters: tuple[int, ...] = ()) -> None:
        self._dataset = dataset
        self._where = f"{name!r}, dataset {dataset.name!r}"
        self.shape: tuple[int, ...] = dataset.shape
        if not self.shape:
            raise SourceError(f"{self._where} holds one value; expected one for each event")
        self.length = int(self.shape[0])
        self.dtype: np.dtype[Any] = dataset.dtype
        row_items = int(np.prod(dataset.shape[1:], dtype=np.int64))
        self._row_bytes = row_items * self.dtype.itemsize
        self._filters = _filters(dataset)
        _require_filters([number for number, _ in self._filters if number not in own_filters], self._where)
        self.chunk = int(dataset.chunks[0]) if dataset.chunks else 0
        self.chunk_bytes = self.chunk * self._row_bytes
        if (
            dataset.chunks
            and int(np.prod(dataset.chunks, dtype=np.float64)) * self.dtype.itemsize > MAX_CHUNK_BYTES
        ):
            raise SourceError(
                f"{self._where}: a chunk of {dataset.chunks!r} is over {MAX_CHUNK_BYTES} bytes; "
                "repack the file (h5repack -l CHUNK=65536)"
            )
        self._refuse_missing_data()
        numbers = tuple(number for number, _ in self._filters)
        known = all(number in _DECODERS for number in numbers) or numbers == own_filters
        self._direct = bool(self.chunk and dataset.ndim == 1 and known)
        # The chunk that the last read ended in; the next one begins there.
        self._kept: tuple[int, NDArray[Any]] | None = None

    def pieces(self, start: int, stop: int) -> list[tuple[int, int]]:
        """[start, stop) split at chunk borders where pieces can be read side by side."""
        if not self._direct:
            return [(start, stop)]
        borders = [start, *range((start // self.chunk + 1) * self.chunk, stop, self.chunk), stop]
        return list(itertools.pairwise(borders))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Records [start, stop) in the dataset's own dtype; at most one chunk where pieces matter.

        Safe to call from several threads.

        Raises
        ------
        SourceError
            If the records cannot be decoded.
        """
        if self._direct:
            number = start // self.chunk
            kept = self._kept
            if kept is None or kept[0] != number:
                kept = (number, self._read_chunk(number))
                if stop < (number + 1) * self.chunk:
                    self._kept = kept
            offset = number * self.chunk
            return kept[1][start - offset : stop - offset]
        return self.read_slowly(start, stop)

    def read_slowly(self, start: int, stop: int) -> NDArray[Any]:
        """Records [start, stop) as HDF5 itself reads them; for small datasets of any layout."""
        out = np.empty((stop - start, *self._dataset.shape[1:]), self.dtype)
        try:
            self._dataset.read_direct(out, np.s_[start:stop])
        except DAMAGE as error:
            raise SourceError(
                f"{self._where}: records {start} to {stop} cannot be read ({_one_line(error)}); "
                "the file is damaged there"
            ) from error
        return out

    def _read_chunk(self, number: int) -> NDArray[Any]:
        start = number * self.chunk
        try:
            skipped, stored = self._stored_chunk(start)
        except DAMAGE:
            # Never written, or not to be found: HDF5 knows which, and fills in or complains.
            return self.read_slowly(start, min(self.length, start + self.chunk))
        expected = self.chunk * self.dtype.itemsize
        try:
            data = self._decode(stored, skipped, expected)
        except (RuntimeError, ValueError) as error:
            raise SourceError(
                f"{self._where}: the chunk of records {start} to {start + self.chunk} does not decode "
                f"({_one_line(error)}); the file is damaged there"
            ) from error
        return np.frombuffer(data, self.dtype)

    def _decode(self, stored: bytes, skipped: int, expected: int) -> Any:
        """Undo the filters, last one first; `skipped` has a bit for each one that was not applied."""
        data: Any = stored
        for position in reversed(range(len(self._filters))):
            number, settings = self._filters[position]
            if not skipped >> position & 1:
                data = _DECODERS[number](data, settings, expected)
        if len(data) != expected:
            raise ValueError(f"{len(data)} bytes instead of {expected}")
        return data

    def has_only(self, filter_number: int) -> bool:
        """Whether this is the one filter of the dataset, and its chunks can be read as stored."""
        return self._direct and [number for number, _ in self._filters] == [filter_number]

    def read_stored(self, number: int) -> tuple[int, bytes]:
        """The stored bytes of a chunk, and a bit for each filter that was not applied to it.

        Raises
        ------
        SourceError
            If there is no such chunk.
        """
        start = number * self.chunk
        try:
            skipped, stored = self._stored_chunk(start)
        except DAMAGE as error:
            raise SourceError(
                f"{self._where}: the chunk of records {start} to {start + self.chunk} cannot be read "
                f"({_one_line(error)}); the recording was cut off or the file is damaged"
            ) from error
        return skipped, stored

    def _stored_chunk(self, start: int) -> tuple[int, bytes]:
        try:
            found: tuple[int, bytes] = self._dataset.id.read_direct_chunk((start,))
        except MemoryError:
            # A damaged index of chunks may declare up to 4 GiB for one.
            declared = self._dataset.id.get_chunk_info_by_coord((start,)).size
            held = self._dataset.file.id.get_filesize()
            if declared <= held:
                raise
            raise OSError(f"a chunk of {declared} bytes in a file of {held}") from None
        return found

    def _refuse_missing_data(self) -> None:
        """Refuse a length without data: it would be filled in, for years if it is large enough."""
        if self.chunk and self._dataset.ndim == 1:
            held = self._dataset.id.get_num_chunks() * self.chunk
        elif self.chunk:
            held = self.length if self._dataset.id.get_num_chunks() else 0
        else:
            held = self._dataset.id.get_storage_size() // max(1, self._row_bytes)
        if held < self.length:
            raise SourceError(
                f"{self._where}: declares {self.length} records but holds {held}; "
                "the recording was cut off or the file is damaged"
            )


def _filters(dataset: Any) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Number and settings of each filter, in the order in which they were applied."""
    plist = dataset.id.get_create_plist()
    rows = (plist.get_filter(position) for position in range(plist.get_nfilters()))
    return tuple((int(row[0]), tuple(int(value) for value in row[2])) for row in rows)


def _require_filters(numbers: Sequence[int], where: str) -> None:
    from h5py import h5z

    for number in numbers:
        if number in _BUILT_IN_FILTERS or number in _DECODERS:
            continue
        # Asked for first: a filter found through HDF5_PLUGIN_PATH does not work until it is imported.
        try:
            importlib.import_module("hdf5plugin")
            missing = None
        except ModuleNotFoundError as error:
            missing = error
        if h5z.filter_avail(number):
            continue
        if missing:
            raise MissingExtraError(
                f"{where} is compressed with HDF5 filter {number}, which needs 'hdf5plugin'; "
                'pip install "lazystore[events]"'
            ) from missing
        raise SourceError(
            f"{where} is compressed with HDF5 filter {number}, which neither HDF5 nor hdf5plugin has; "
            "rewrite it with gzip (h5repack -f GZIP=1)"
        )


def side_by_side(work: Callable[[Any], None], pieces: Sequence[Any], piece_bytes: int) -> None:
    """Do `work` for every piece, on several threads where there are several pieces and cores.

    `piece_bytes` is what one piece takes in memory; few large pieces are done one after the other.
    """
    affordable = max(1, MAX_PIECES_BYTES // max(1, piece_bytes))
    threads = min(MAX_THREADS, os.cpu_count() or 1, len(pieces), affordable)
    if threads < 2:
        for piece in pieces:
            work(piece)
        return
    # A few neighbours at a time: handing over each piece alone costs more than decoding it once other
    # work keeps the cores busy (5 instead of 60 million events a second, measured).
    size = -(-len(pieces) // (threads * GROUPS_PER_THREAD))

    def work_on(start: int) -> None:
        for piece in pieces[start : start + size]:
            work(piece)

    with ThreadPoolExecutor(threads, thread_name_prefix="lazystore-hdf5") as pool:
        # The result is taken so that the first error in the order of the pieces is raised.
        list(pool.map(work_on, range(0, len(pieces), size)))


def _inflate(data: bytes, settings: tuple[int, ...], expected: int) -> bytes:
    module = _inflater()
    # Bounded: a few stored bytes can declare gigabytes.
    stream = module.decompressobj()
    try:
        inflated: bytes = stream.decompress(data, expected)
        beyond = b"" if stream.eof else stream.decompress(stream.unconsumed_tail, 1)
    except module.error as error:
        raise ValueError(_one_line(error)) from error
    if beyond:
        raise ValueError(f"more than {expected} bytes")
    return inflated


@functools.cache
def _inflater() -> Any:
    """`zlib`, or what does the same in half the time: 16 instead of 29 ns for the columns of an event."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib


def _unshuffle(data: bytes, settings: tuple[int, ...], expected: int) -> bytes:
    width = settings[0] if settings else 1
    if width < 1 or len(data) % width:
        raise ValueError(f"{len(data)} bytes shuffled by {width}")
    return np.frombuffer(data, np.uint8).reshape(width, -1).T.tobytes()


def _unblosc(data: bytes, settings: tuple[int, ...], expected: int) -> Any:
    from numcodecs import blosc

    # The header says how large the result is; a larger one than the chunk is damage or malice.
    if len(data) < 16 or int.from_bytes(data[4:8], "little") != expected:
        raise ValueError("a Blosc header of another size")
    if int.from_bytes(data[12:16], "little") != len(data):
        raise ValueError("a Blosc buffer that is cut off")
    return blosc.decompress(data)


_DECODERS = {FILTER_DEFLATE: _inflate, FILTER_SHUFFLE: _unshuffle, FILTER_BLOSC: _unblosc}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
