"""How much memory this process may use, and what sizes in bytes users may write."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lazystore.errors import UsageError

# What is assumed where the system does not tell.
FALLBACK_FREE_BYTES = 4 * 1024**3
SHARE_OF_FREE = 4
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def parse_bytes(text: str | int, where: str) -> int:
    """A size in bytes from ``4000000``, ``"64MB"``, ``"1.5 GiB"``.

    Raises
    ------
    UsageError
        If it is no size, or negative; the message names `where` it was given.

    >>> parse_bytes("64MB", "cache_bytes"), parse_bytes("1.5 GiB", "cache_bytes"), parse_bytes(0, "n")
    (64000000, 1610612736, 0)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?\s*", str(text), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{where}={text!r} is no size; expected bytes such as 64000000, 64MB or 1.5GiB")
    units = _BINARY_UNITS if match[3] else _UNITS
    return int(float(match[1]) * units[(match[2] or "").lower()])


def free_memory_bytes() -> int:
    """Bytes that this process could still allocate without swapping, container limits included."""
    candidates = [_system_free_bytes(), *_container_free_bytes()]
    known = [candidate for candidate in candidates if candidate is not None]
    return max(0, min(known)) if known else FALLBACK_FREE_BYTES


def budget_from_environment(variable: str) -> int:
    """A budget in bytes: the environment variable, else a quarter of the memory that is free now.

    Raises
    ------
    UsageError
        If the variable is set to something that is no size.
    """
    given = os.environ.get(variable)
    return parse_bytes(given, variable) if given else free_memory_bytes() // SHARE_OF_FREE


def _system_free_bytes() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    if os.name == "nt":
        return _windows_free_bytes()
    try:
        # macOS tells the total only; half of it is a cautious guess of what is free.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _windows_free_bytes() -> int | None:
    import ctypes

    class MemoryStatus(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load_percent", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "page_total", "page_free")),
            *((name, ctypes.c_ulonglong) for name in ("virtual_total", "virtual_free", "extended_free")),
        )

    status = MemoryStatus()
    status.length = ctypes.sizeof(status)
    kernel = getattr(ctypes, "windll", None)
    if kernel is None or not kernel.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.free)


def _container_free_bytes() -> list[int | None]:
    """What the limits of a Linux container leave, cgroup v2 and v1; reclaimable page cache counts as free."""
    free: list[int | None] = []
    for limit_file, usage_file, stat_file, cache_name in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        root = Path("/sys/fs/cgroup")
        try:
            limit = (root / limit_file).read_text().strip()
            if limit == "max":
                continue
            used = int((root / usage_file).read_text())
            statistics = dict(line.split() for line in (root / stat_file).read_text().splitlines())
            free.append(int(limit) - used + int(statistics.get(cache_name, 0)))
        except (OSError, ValueError):
            continue
    return free
