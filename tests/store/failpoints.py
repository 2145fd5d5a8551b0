"""Failing at the n-th I/O call below some folders: a kill, a full disk, a broken one.

Only calls that change something on disk are points; a store is never changed in another way.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

ACTIONS = ("kill", "tear", "ENOSPC", "EIO")
PATCHED = ("open", "write", "fsync", "replace", "mkdir", "unlink", "rmdir")


class Failpoints:
    """Counts I/O calls below `roots`, and acts at call number `at` (0: only counts).

    ``kill`` ends the process before the call. ``tear`` does half of a write, then ends it.
    ``ENOSPC`` fails this and every later call that needs space. ``EIO`` fails this call alone.
    """

    def __init__(self, roots: list[str], at: int = 0, action: str = "kill") -> None:
        self.roots = tuple(os.path.realpath(root) for root in roots)
        self.at = at
        self.action = action
        self.calls: list[str] = []
        self._real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in PATCHED}
        self._paths: dict[int, str] = {}

    def install(self) -> None:
        """From now on; for the rest of the process, which is a child of the test's own."""
        for name in PATCHED:
            setattr(os, name, getattr(self, f"_{name}"))

    def _is_watched(self, path: Any, dir_fd: int | None = None) -> bool:
        if isinstance(path, int):
            return False
        text = os.fspath(path)
        if dir_fd is not None:
            text = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), text)
        return os.path.abspath(text).startswith(self.roots)

    def _point(self, call: str, half: Callable[[], Any] | None = None) -> None:
        self.calls.append(call)
        number = len(self.calls)
        if not self.at or number < self.at:
            return
        needs_space = call.split()[0] in ("open", "write", "fsync", "mkdir")
        if self.action == "ENOSPC" and needs_space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if number > self.at:
            return
        if self.action == "EIO":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.action == "tear" and half is not None:
            half()
        if self.action in ("kill", "tear"):
            os.kill(os.getpid(), signal.SIGKILL)

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        watched = self._is_watched(path, dir_fd)
        if writes and watched:
            self._point(f"open {path}")
        handle: int = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        self._paths.pop(handle, None)
        if watched:
            self._paths[handle] = str(path)
        return handle

    def _write(self, handle: int, data: Any) -> int:
        if handle in self._paths:
            view = memoryview(data).cast("B")
            self._point(
                f"write {self._paths[handle]}", lambda: self._real["write"](handle, view[: len(view) // 2])
            )
        count: int = self._real["write"](handle, data)
        return count

    def _fsync(self, handle: int) -> None:
        if handle in self._paths:
            self._point(f"fsync {self._paths[handle]}")
        self._real["fsync"](handle)

    def _replace(self, source: Any, target: Any, **options: Any) -> None:
        if self._is_watched(target):
            self._point(f"replace {target}")
        self._real["replace"](source, target, **options)

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if self._is_watched(path, dir_fd):
            self._point(f"mkdir {path}")
        self._real["mkdir"](path, mode, dir_fd=dir_fd)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        if self._is_watched(path, dir_fd):
            self._point(f"unlink {path}")
        self._real["unlink"](path, dir_fd=dir_fd)

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        if self._is_watched(path, dir_fd):
            self._point(f"rmdir {path}")
        self._real["rmdir"](path, dir_fd=dir_fd)
