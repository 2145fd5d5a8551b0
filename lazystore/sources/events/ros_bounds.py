"""The package rosbags, kept from inflating a chunk or a message of a bag without limit.

It decompresses whatever a bag holds in one piece, and compares the size with the declared one
afterwards: 100 kB of a hostile bag fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lazystore.sources.inflating import unbz2, unlz4, unzstd

# Recorders close a chunk at 0.8 to 4 MB.
MAX_CHUNK_BYTES = 256 << 20
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
