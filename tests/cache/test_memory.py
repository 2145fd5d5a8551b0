"""Sizes in bytes, and what is free."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.cache import memory
from lazystore.cache.memory import budget_from_environment, free_memory_bytes, parse_bytes
from lazystore.errors import UsageError


@given(st.integers(0, 2**50))
def test_plain_numbers_are_bytes(size: int) -> None:
    """As int and as text."""
    assert parse_bytes(size, "x") == parse_bytes(str(size), "x") == parse_bytes(f" {size} B ", "x") == size


@pytest.mark.parametrize(
    ("text", "size"), [("2k", 2000), ("2KiB", 2048), ("1.5GB", 1_500_000_000), ("1T", 10**12)]
)
def test_units_are_decimal_unless_they_say_binary(text: str, size: int) -> None:
    """kB is 1000, KiB 1024, in any case."""
    assert parse_bytes(text, "x") == parse_bytes(text.lower(), "x") == size


@pytest.mark.parametrize("text", ["", "MB", "-5", "1e6", "5 parsecs", "1.2.3", "5iB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """The message names where it was given."""
    with pytest.raises(
        UsageError, match="cache_bytes='.*' is no size; expected bytes such as 64000000, 64MB"
    ):
        parse_bytes(text, "cache_bytes")


def test_free_memory_is_known_here() -> None:
    """More than nothing, less than a petabyte."""
    assert 10**6 < free_memory_bytes() < 10**15


def test_the_smallest_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit below the machine's free memory is what is free."""
    monkeypatch.setattr(memory, "_system_free_bytes", lambda: 1000)
    monkeypatch.setattr(memory, "_container_free_bytes", lambda: [None, 400])
    assert free_memory_bytes() == 400
    monkeypatch.setenv("SOME_BYTES", "")
    assert budget_from_environment("SOME_BYTES") == 100
    monkeypatch.setattr(memory, "_container_free_bytes", lambda: [-5])
    assert free_memory_bytes() == 0
    monkeypatch.setattr(memory, "_system_free_bytes", lambda: None)
    monkeypatch.setattr(memory, "_container_free_bytes", list)
    assert free_memory_bytes() == memory.FALLBACK_FREE_BYTES


def test_container_limits_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """cgroup v2 and v1; page cache that can be dropped counts as free, no limit is no limit."""
    files = {
        "/sys/fs/cgroup/memory.max": "1000\n",
        "/sys/fs/cgroup/memory.current": "700\n",
        "/sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 50\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "900",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": "800",
        "/sys/fs/cgroup/memory/memory.stat": "total_inactive_file 25\n",
    }

    def read_text(path: Path, *_: Any, **__: Any) -> str:
        try:
            return files[path.as_posix()]
        except KeyError:
            raise FileNotFoundError(path) from None

    monkeypatch.setattr(Path, "read_text", read_text)
    assert memory._container_free_bytes() == [350, 125]
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    del files["/sys/fs/cgroup/memory/memory.stat"]
    assert memory._container_free_bytes() == []
    if hasattr(os, "sysconf"):
        assert memory._system_free_bytes() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        monkeypatch.delattr(os, "sysconf")
    assert memory._system_free_bytes() is None
