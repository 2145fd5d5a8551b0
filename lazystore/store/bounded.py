"""Decompression that cannot be made to fill the memory.

A chunk of 45 kB can declare, or simply unfold to, gigabytes. Each function here looks at the declared
size before it decodes, or decodes with a bound where the format declares none.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from lazystore.errors import DamagedStoreError, HostileStoreError

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_DICTIONARY_ID_BYTES = (0, 1, 2, 4)


def decompress_bounded(name: str, data: bytes, max_bytes: int, exact_bytes: int | None = None) -> bytes:
    """What compressed bytes stand for, at most `max_bytes` of it.

    Parameters
    ----------
    name
        One of `BOUNDED_CODECS`.
    data
        The compressed bytes.
    max_bytes
        Most bytes to decode, >= 0.
    exact_bytes
        The size that is expected, where it is known; needed for Zstandard streams that do not
        declare theirs.

    Raises
    ------
    HostileStoreError
        If they stand for more than `max_bytes`.
    DamagedStoreError
        If they cannot be decoded.

    >>> decompress_bounded("zlib", zlib.compress(b"abc"), 3)
    b'abc'
    """
    try:
        return _DECODERS[name](data, max_bytes, exact_bytes)
    except (DamagedStoreError, HostileStoreError):
        raise
    except Exception as error:  # each library has errors of its own, down to bare RuntimeError
        raise DamagedStoreError(f"{name} cannot decode {len(data)} bytes ({error})") from error


def _check_declared(name: str, declared: int, max_bytes: int) -> None:
    if declared > max_bytes:
        raise HostileStoreError(
            f"{name} data declares {declared} bytes where at most {max_bytes} fit the array; "
            "it is not decoded"
        )


def _blosc(data: bytes, max_bytes: int, exact_bytes: int | None) -> bytes:
    import numcodecs.blosc

    n_bytes, block_bytes, n_encoded = struct.unpack_from("<III", data, 4)
    _check_declared("blosc", n_bytes, max_bytes)
    if n_encoded > len(data) or block_bytes > max(n_bytes, 1):
        raise DamagedStoreError(f"blosc header declares {n_encoded} bytes where {len(data)} are stored")
    return bytes(numcodecs.blosc.decompress(data))


def zstd_content_size(data: bytes) -> int | None:
    """The size that a Zstandard frame declares; None where it declares none.

    Raises
    ------
    DamagedStoreError
        If the bytes are no Zstandard frame.
    """
    if data[:4] != _ZSTD_MAGIC or len(data) < 6:
        raise DamagedStoreError(f"not a Zstandard frame: it begins with {data[:4].hex()!r}")
    descriptor = data[4]
    single_segment = bool(descriptor & 0x20)
    position = 5 + (not single_segment) + _DICTIONARY_ID_BYTES[descriptor & 3]
    size = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    if size == 0:
        return None
    value = int.from_bytes(data[position : position + size], "little")
    return value + 256 if size == 2 else value


def _zstd(data: bytes, max_bytes: int, exact_bytes: int | None) -> bytes:
    import numcodecs.zstd

    declared = zstd_content_size(data)
    if declared is None:
        if exact_bytes is None:
            raise DamagedStoreError("zstd data declares no size; it is not decoded without one")
        declared = exact_bytes
    _check_declared("zstd", declared, max_bytes)
    # Into a buffer of that size: a frame that unfolds to more stops at its end.
    buffer = np.empty(declared, np.uint8)
    numcodecs.zstd.decompress(data, buffer)
    return buffer.tobytes()


def _lz4(data: bytes, max_bytes: int, exact_bytes: int | None) -> bytes:
    import numcodecs.lz4

    _check_declared("lz4", struct.unpack_from("<I", data)[0], max_bytes)
    return bytes(numcodecs.lz4.decompress(data))


def _stream(name: str, make: Callable[[], Any]) -> Callable[[bytes, int, int | None], bytes]:
    """A decoder of a format that declares no size, member after member until the bound."""

    def decode(data: bytes, max_bytes: int, exact_bytes: int | None) -> bytes:
        parts: list[bytes] = []
        total = 0
        while data:
            stream = make()
            parts.append(stream.decompress(data, max_bytes - total + 1))
            total += len(parts[-1])
            if total > max_bytes:
                raise HostileStoreError(
                    f"{name} data unfolds to more than the {max_bytes} bytes that fit the array; "
                    "the rest is not decoded"
                )
            if not stream.eof:
                raise DamagedStoreError(f"{name} data ends in the middle")
            data = stream.unused_data
        return b"".join(parts)

    return decode


_DECODERS: dict[str, Callable[[bytes, int, int | None], bytes]] = {
    "blosc": _blosc,
    "zstd": _zstd,
    "lz4": _lz4,
    "gzip": _stream("gzip", lambda: zlib.decompressobj(wbits=31)),
    "zlib": _stream("zlib", lambda: zlib.decompressobj(wbits=15)),
    "bz2": _stream("bz2", bz2.BZ2Decompressor),
    # The dictionary of an xz stream alone may ask for 4 GiB.
    "lzma": _stream("lzma", lambda: lzma.LZMADecompressor(memlimit=256 * 1024 * 1024)),
}
BOUNDED_CODECS = frozenset(_DECODERS)
