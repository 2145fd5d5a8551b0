"""The package rosbags, kept from inflating a chunk or a message of a bag without limit.

It decompresses whatever a bag holds in one piece, and compares the size with the declared one
afterwards: 100 kB of a hostile bag fill the memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from lazystore.sources.inflating import unbz2, unlz4, unzstd

# Recorders close a chunk at 0.8 to 4 MB.
MAX_CHUNK_BYTES = 256 << 20
# A bag that is compressed as a whole goes to a temporary file first. Bags of events shrink to a third, of
# still pictures to a hundredth; a bomb to a ten-thousandth.
MAX_RATIO = 1000
SMALL_FILE_BYTES = 64 << 20
# Marks a bag whose messages are compressed one by one, which `inflate_message` undoes.
_MARK = "lazystore_inflates_messages"


def _bounded(inflate: Callable[[bytes, int], bytes], stored: bytes, declared: int | None = None) -> bytes:
    if declared is not None and declared > MAX_CHUNK_BYTES:
        raise ValueError(f"a chunk that declares {declared} bytes; at most {MAX_CHUNK_BYTES} are read")
    return inflate(stored, MAX_CHUNK_BYTES if declared is None else declared)


def bound_mcap() -> None:
    """Give the reader of MCAP files decompressors that stop at the size a chunk declares.

    They stand in a table of its module, for the whole process: a chunk that is refused now was refused
    before, after it had been inflated, but for those beyond `MAX_CHUNK_BYTES`.
    """
    from rosbags.rosbag2 import storage_mcap

    storage_mcap.DECOMPRESSORS.update(lz4=partial(_bounded, unlz4), zstd=partial(_bounded, unzstd))


class _BoundedFile:
    """A zstd file being read, up to what its size and the free space for temporary files allow."""

    def __init__(self, file: Any, n_bytes: int) -> None:
        self._file = file
        self._stored_bytes = n_bytes
        self._left = min(
            SMALL_FILE_BYTES + MAX_RATIO * n_bytes, shutil.disk_usage(tempfile.gettempdir()).free
        )

    def __enter__(self) -> _BoundedFile:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)

    def read(self, n_bytes: int) -> bytes:
        data: bytes = self._file.read(n_bytes)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(
                f"a file of {self._stored_bytes} bytes that inflates beyond {MAX_RATIO} times its size, or "
                f"beyond the free space of {tempfile.gettempdir()!r}; inflate it yourself with 'zstd -d'"
            )
        return data


class _BoundedZstd:
    """The module zstd, but for files that are opened."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def open(self, file: Any, mode: str) -> _BoundedFile:
        return _BoundedFile(self._module.open(file, mode), os.fstat(file.fileno()).st_size)


def bound_files() -> None:
    """Give the reader of ROS 2 bags a decompressor of whole files that stops; for the whole process."""
    from rosbags.rosbag2 import reader

    module: Any = reader
    if not isinstance(module.zstd, _BoundedZstd):
        module.zstd = _BoundedZstd(module.zstd)


def bound_chunks(bag: Any) -> None:
    """The same for an open bag: chunks of ROS 1, and messages of ROS 2 compressed one by one."""
    if hasattr(bag, "chunks"):
        from rosbags.rosbag1 import reader

        ours = {
            reader.decompressors["bz2"]: partial(_bounded, unbz2),
            reader.decompressors["lz4"]: partial(_bounded, unlz4),
        }
        for place, chunk in bag.chunks.items():
            bag.chunks[place] = chunk._replace(decompressor=ours.get(chunk.decompressor, chunk.decompressor))
        return
    storage = bag.storage
    if storage.metadata.compression_mode == "message":
        # Then it hands the messages out as they are stored.
        storage.metadata = storage.metadata._replace(compression_mode=None)
        setattr(bag, _MARK, True)


def inflate_message(bag: Any, data: bytes) -> bytes:
    """A message as it was recorded.

    Raises
    ------
    ValueError
        If it is compressed, and damaged or larger than `MAX_CHUNK_BYTES`.
    """
    return _bounded(unzstd, data) if getattr(bag, _MARK, False) else data
