"""NumPy .npy files, read record by record with plain reads: no memory map, bounded memory."""

from __future__ import annotations

import io
import math
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Block, Recognition, Source, SourceIdentity, SourceInfo, Ticks
from lazystore.sources.frames import RATE_OPTION, default_kind, even_ticks, frame_column
from lazystore.sources.identity import identify_file

MAGIC = b"\x93NUMPY"
# Fortran order scatters a record over the whole file. This much is gathered at a time, so that a
# pass over the file costs (file size / this) rounds of strided reads, whatever blocks are asked for.
FORTRAN_WINDOW_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What the header of a .npy file says; `data_offset` is where its values begin, in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    data_offset: int

    @property
    def data_bytes(self) -> int:
        """Size of the values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class ByteRange(Protocol):
    """The values of an array as bytes, wherever they lie."""

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `offset` on; SourceError if there are fewer."""

    def close(self) -> None:
        """Release the file. Idempotent."""


def parse_header(file: IO[bytes], name: str) -> NpyHeader:
    """The header at the start of `file`.

    Raises
    ------
    SourceError
        If it is no .npy header, or the array holds Python objects.
    """
    try:
        version = npy_format.read_magic(file)
        if version == (1, 0):
            shape, is_fortran, dtype = npy_format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, is_fortran, dtype = npy_format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version} is only written for structured arrays")
    except (ValueError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(
            f"{name!r} has no readable .npy header: {reason}; save it with numpy.save"
        ) from error
    return NpyHeader(shape, np.dtype(dtype), bool(is_fortran), file.tell())


class FileBytes:
    """Bytes of a plain file from `base` on."""

    def __init__(self, path: Path, base: int) -> None:
        self._path = path
        self._base = base
        self._lock = threading.Lock()
        # Unbuffered: blocks are large, and a buffer would copy every byte once more.
        self._file: io.FileIO | None = None

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` from `offset` after the base."""
        # Position and read belong together: pages of a TIFF are read from several threads.
        with self._lock:
            if self._file is None:
                self._file = io.FileIO(self._path)
            self._file.seek(self._base + offset)
            done = 0
            # One read call gives at most 2 GiB, and a network file system may give less.
            while done < len(target):
                count = self._file.readinto(target[done:])
                if not count:
                    raise SourceError(
                        f"{self._path.name!r} ends {len(target) - done} bytes early; "
                        "it changed while it was read"
                    )
                done += count

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


class NpyArray:
    """Records of an array in either memory order, in native byte order."""

    def __init__(self, header: NpyHeader, values: ByteRange) -> None:
        self._header = header
        self._values = values
        self._window_start = 0
        self._window: NDArray[Any] | None = None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Records [start, stop), a new array."""
        header = self._header
        if header.is_fortran and len(header.shape) > 1:
            return self._read_fortran(start, stop)
        block = np.empty((stop - start, *header.shape[1:]), header.dtype)
        record_bytes = header.dtype.itemsize * math.prod(header.shape[1:])
        self._values.read_into(start * record_bytes, bytes_of(block))
        return to_native(block)

    def close(self) -> None:
        """Release the file and the window."""
        self._window = None
        self._values.close()

    def _read_fortran(self, start: int, stop: int) -> NDArray[Any]:
        header = self._header
        window = self._window
        if window is None or start < self._window_start or stop > self._window_start + len(window):
            record_bytes = header.dtype.itemsize * math.prod(header.shape[1:])
            ahead = max(stop - start, FORTRAN_WINDOW_BYTES // max(1, record_bytes))
            # Freed before the next one is gathered: two windows at once would double the bound.
            self._window = window = None
            window = self._gather(start, min(header.shape[0], start + ahead))
            self._window, self._window_start = window, start
        first = start - self._window_start
        # A copy even where the window is in order already: the window is read from again.
        return np.array(window[first : first + stop - start], order="C", copy=True)

    def _gather(self, start: int, stop: int) -> NDArray[Any]:
        """Records [start, stop): on disk each position inside a frame is one run along time."""
        header = self._header
        reversed_shape = header.shape[:0:-1]
        runs = np.empty((math.prod(reversed_shape), stop - start), header.dtype)
        flat = bytes_of(runs)
        run_bytes = (stop - start) * header.dtype.itemsize
        stride = header.shape[0] * header.dtype.itemsize
        for run in range(len(runs)):
            target = flat[run * run_bytes : (run + 1) * run_bytes]
            self._values.read_into(run * stride + start * header.dtype.itemsize, target)
        return to_native(runs).reshape(*reversed_shape, stop - start).transpose()


def bytes_of(array: NDArray[Any]) -> memoryview:
    """The memory of a C-contiguous array, to read a file into."""
    # Through uint8: memoryview cannot be cast from dtypes such as float16 or big-endian ones.
    return memoryview(array.reshape(-1).view(np.uint8))


def to_native(array: NDArray[Any]) -> NDArray[Any]:
    """The same values in native byte order, swapped in place."""
    if array.dtype.isnative:
        return array
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


class NpySource:
    """An array of frames (or a series) in the .npy layout.

    Parameters
    ----------
    name
        For messages.
    header, values
        What it is, and where its bytes are.
    identity
        Of the file that holds it.
    format_name
        ``"npy"`` or ``"npz"``.
    kind
        One of field, stack, series; None chooses by shape and dtype.
    ticks
        Times of the records.
    attributes
        More facts for the store.
    """

    def __init__(
        self,
        name: str,
        header: NpyHeader,
        values: ByteRange,
        identity: SourceIdentity,
        format_name: str,
        kind: str | None,
        ticks: Ticks,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        chosen = kind or default_kind(header.shape, header.dtype)
        column = frame_column(header.shape, header.dtype, chosen, name)
        order = "F" if header.is_fortran else "C"
        facts = {"byte_order": _byte_order(header.dtype), "memory_order": order, **(attributes or {})}
        self._info = SourceInfo(
            kind=chosen,
            format=format_name,
            columns=(column,),
            identity=(identity,),
            ticks=ticks,
            attributes=facts,
        )
        self._array = NpyArray(header, values)

    @property
    def info(self) -> SourceInfo:
        """What the array is."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Records [start, stop)."""
        shape = (stop - start, *self._info.columns[0].shape[1:])
        return Block(start, {"data": self._array.read(start, stop).reshape(shape)})

    def close(self) -> None:
        """Release the file."""
        self._array.close()


def _byte_order(dtype: np.dtype[Any]) -> str:
    return {">": "big", "<": "little", "|": "none"}[dtype.str[0]]


class NpyFormat:
    """``.npy``: (time, bin), (time, y, x), (time, y, x, channel), or a series."""

    name = "npy"
    kinds = ("field", "stack", "series")
    extensions = (".npy",)
    options = (RATE_OPTION,)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Certain by its magic bytes."""
        if not head.startswith(MAGIC):
            return None
        try:
            header = parse_header(io.BytesIO(head), path.name)
        except SourceError:
            return Recognition(True)
        if header.dtype.names:
            # Named fields are no frames; formats that know the names are surer.
            return Recognition(False, f"fields {', '.join(header.dtype.names)}")
        return Recognition(True, f"{header.shape} {header.dtype}", default_kind(header.shape, header.dtype))

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The one array of the file."""
        try:
            with path.open("rb") as file:
                header = parse_header(file, path.name)
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise SourceError(f"cannot read {path.name!r}: {error.strerror}") from error
        expected = header.data_offset + header.data_bytes
        if size < expected:
            raise SourceError(
                f"{path.name!r} is cut: shape {header.shape} needs {expected} bytes, the file has {size}; "
                "save it again"
            )
        source = NpySource(
            path.name,
            header,
            FileBytes(path, header.data_offset),
            identify_file(path),
            self.name,
            options.get("kind"),
            even_ticks(options.get("rate_hz")),
        )
        return [source]


NPY = NpyFormat()
