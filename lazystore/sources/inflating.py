"""Decompression that stops at a size: a few kilobytes of any of these formats can stand for gigabytes."""

from __future__ import annotations

import bz2
import importlib
from typing import Any

from lazystore.errors import MissingExtraError

# What a step may give beyond eight times its input; its whole memory is allocated in advance.
_SMALL = 4096


def unlz4(stored: bytes, max_bytes: int) -> bytes:
    """The content of an LZ4 frame.

    Raises
    ------
    ValueError
        If it is damaged, cut off, or holds more than `max_bytes`.
    MissingExtraError
        If the package lz4 is not installed.
    """
    stream = _first_module("lz4.frame").LZ4FrameDecompressor()
    try:
        # In steps: 256 MB of memory allocated in advance cost more than the decoding. One byte more than
        # is allowed tells a frame that ends there from one that goes on.
        data: bytes = stream.decompress(stored, max_length=min(8 * len(stored) + _SMALL, max_bytes + 1))
        while not stream.eof and not stream.needs_input and len(data) <= max_bytes:
            more = stream.decompress(b"", max_length=max_bytes + 1 - len(data))
            if not more:
                break
            data += more
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    if not stream.eof or len(data) > max_bytes:
        raise ValueError(f"an LZ4 frame that is cut off or over {max_bytes} bytes")
    return data


def unzstd(stored: bytes, max_bytes: int) -> bytes:
    """The content of one or several zstd frames; raises as `unlz4`."""
    # In the standard library from Python 3.14 on; the same module before that comes with rosbags.
    zstd = _first_module("compression.zstd", "backports.zstd")
    data: bytes = b""
    while True:
        stream = zstd.ZstdDecompressor()
        try:
            data += stream.decompress(stored, max_length=max_bytes - len(data) + 1)
        except zstd.ZstdError as error:
            raise ValueError(str(error)) from error
        if not stream.eof or len(data) > max_bytes:
            raise ValueError(f"a zstd frame that is cut off or over {max_bytes} bytes")
        stored = stream.unused_data
        if not stored:
            return data


def unbz2(stored: bytes, max_bytes: int) -> bytes:
    """The content of one or several bzip2 streams; raises as `unlz4`."""
    data = b""
    while True:
        stream = bz2.BZ2Decompressor()
        try:
            data += stream.decompress(stored, max_length=max_bytes - len(data) + 1)
        except OSError as error:
            raise ValueError(str(error)) from error
        if not stream.eof or len(data) > max_bytes:
            raise ValueError(f"a bzip2 stream that is cut off or over {max_bytes} bytes")
        stored = stream.unused_data
        if not stored:
            return data


def _first_module(*names: str) -> Any:
    """The first of some modules that is installed."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise MissingExtraError(
        f"this recording is compressed, which needs {names[-1].removesuffix('.frame')!r}; "
        'pip install "lazystore[events]"'
    )
