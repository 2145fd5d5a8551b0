"""Decompression gives what was compressed, and stops at its limit."""

from __future__ import annotations

import bz2
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.sources.inflating import unbz2, unlz4, unzstd

lz4_frame = pytest.importorskip("lz4.frame", reason="the extra lazystore[events] is not installed")
zstd: Any = pytest.importorskip("backports.zstd", reason="the extra lazystore[events] is not installed")

WAYS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes, int], bytes]]] = {
    "lz4": (lz4_frame.compress, unlz4),
    "zstd": (zstd.compress, unzstd),
    "bz2": (bz2.compress, unbz2),
}


@pytest.mark.parametrize("way", WAYS)
@given(content=st.binary(max_size=300), repeats=st.integers(1, 400))
def test_content_of_just_the_limit_comes_out_whole(way: str, content: bytes, repeats: int) -> None:
    """And one byte less is too little."""
    deflate, inflate = WAYS[way]
    whole = content * repeats
    stored = deflate(whole)
    assert inflate(stored, len(whole)) == whole
    assert inflate(stored, len(whole) + 5) == whole
    if whole:
        with pytest.raises(ValueError, match=f"cut off or over {len(whole) - 1} bytes"):
            inflate(stored, len(whole) - 1)


@pytest.mark.parametrize("way", ["zstd", "bz2"])
def test_frames_one_after_another_are_one_content(way: str) -> None:
    """As the packages themselves read them; the limit holds for all together."""
    deflate, inflate = WAYS[way]
    stored = deflate(b"a" * 10) + deflate(b"b" * 10)
    assert inflate(stored, 20) == b"a" * 10 + b"b" * 10
    with pytest.raises(ValueError, match="over 19 bytes"):
        inflate(stored, 19)


@pytest.mark.parametrize("way", WAYS)
def test_damage_is_a_value_error(way: str) -> None:
    """Cut off, or no such data at all."""
    deflate, inflate = WAYS[way]
    stored = deflate(bytes(range(256)) * 20)
    for bad in (stored[: len(stored) // 2], b"nonsense" * 9, b""):
        with pytest.raises(ValueError, match=r".+"):
            inflate(bad, 1 << 20)


@pytest.mark.parametrize("way", WAYS)
def test_a_bomb_takes_no_more_memory_than_the_limit(way: str) -> None:
    """64 MB of zeros in some kilobytes, read with a limit of 1 MB."""
    deflate, inflate = WAYS[way]
    stored = deflate(bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(ValueError, match="over 1048576 bytes"):
        inflate(stored, 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
