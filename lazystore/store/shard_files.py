"""What shards are read through: files that stay open on a disk, keys elsewhere."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lazystore.store.location import Location

type Payload = bytes | NDArray[np.uint8]


class ShardFile(Protocol):
    """One key, ready to be read in parts."""

    @property
    def size(self) -> int | None:
        """Bytes, where that is known without asking."""

    @property
    def identity(self) -> Any:
        """Equal as long as it is the same file; None where that is not known."""

    def read_range(self, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length); fewer where the file ends."""

    def read_into(self, offset: int, *buffers: NDArray[np.uint8]) -> int:
        """Fill buffers, one after the other; how many bytes there were. Files of `LocalFiles` only."""

    def read_tail(self, length: int) -> bytes:
        """The last bytes."""


class RemoteFile:
    """A key of a location that keeps no files open."""

    __slots__ = ("_key", "_location")
    size = None
    identity = None

    def __init__(self, location: Location, key: str) -> None:
        self._location, self._key = location, key

    def read_range(self, offset: int, length: int) -> bytes:
        return self._location.read_range(self._key, offset, length)

    def read_into(self, offset: int, *buffers: NDArray[np.uint8]) -> int:
        raise NotImplementedError("what a location answers with is its own")

    def read_tail(self, length: int) -> bytes:
        return self._location.read_tail(self._key, length)


class RemoteFiles:
    """`LocalFiles` where there is nothing to keep open."""

    def __init__(self, location: Location) -> None:
        self._location = location

    def acquire(self, key: str) -> ShardFile:
        return RemoteFile(self._location, key)

    def release(self, file: Any) -> None:
        pass

    def forget(self, key: str) -> None:
        pass

    def close(self) -> None:
        pass


def bytes_of(file: ShardFile, offset: int, length: int, buffer: NDArray[np.uint8] | None) -> Payload:
    """Bytes [offset, offset + length) of a file, in the buffer if there is one that holds them."""
    if buffer is None or length > buffer.size:
        return file.read_range(offset, length)
    return buffer[: file.read_into(offset, buffer[:length])]
