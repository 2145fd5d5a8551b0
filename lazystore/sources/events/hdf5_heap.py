"""Damage to HDF5's text heaps that makes the library loop for ever, found before it is asked.

Texts of variable length lie in collections that begin with ``GCOL``. HDF5 2.0 walks through one by
the sizes of its entries; a free entry of size 0 never lets it go on, and nothing can interrupt it.
"""

from __future__ import annotations

from pathlib import Path

SIGNATURE = b"GCOL"
# Attributes are written when a file is created or closed: at its beginning or its end.
WINDOW_BYTES = 4 << 20

_HEADER_BYTES = 16


def has_endless_heap(path: Path) -> bool:
    """Whether a text heap at the beginning or the end of the file has an endless entry."""
    size = path.stat().st_size
    with path.open("rb") as file:
        window = file.read(2 * WINDOW_BYTES)
        if _is_endless(window):
            return True
        if size <= 2 * WINDOW_BYTES:
            return False
        file.seek(size - WINDOW_BYTES)
        return _is_endless(file.read(WINDOW_BYTES))


def _is_endless(window: bytes) -> bool:
    at = window.find(SIGNATURE)
    while at >= 0:
        # Version 1 and three bytes of 0 tell a collection from data that happens to spell it.
        if window[at + 4 : at + 8] == b"\1\0\0\0" and _collection_is_endless(window, at):
            return True
        at = window.find(SIGNATURE, at + 1)
    return False


def _collection_is_endless(window: bytes, start: int) -> bool:
    end = min(len(window), start + _number(window, start + 8, 8))
    at = start + _HEADER_BYTES
    while at + _HEADER_BYTES <= end:
        index, size = _number(window, at, 2), _number(window, at + 8, 8)
        if index == 0:
            return size == 0
        at += _HEADER_BYTES + (size + 7) // 8 * 8
    return False


def _number(window: bytes, at: int, count: int) -> int:
    return int.from_bytes(window[at : at + count], "little")
