"""Files of a local store that are kept open, because opening one costs as much as a small read.

The bound is one for the whole process: a session of many arrays must not run out of descriptors.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import weakref
from collections import OrderedDict
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import StoreError

type Identity = tuple[int, int, int, int]


class GuardedOpener(Protocol):
    """A location whose files can be kept open: `LocalLocation`."""

    def open_guarded(self, key: str) -> int:
        """A read-only descriptor of a regular file below the root."""


def default_max_open() -> int:
    """Files to keep open: a quarter of what the process may open, 32 to 512."""
    try:
        import resource  # POSIX only
    except ImportError:
        return 128
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 512 if soft == resource.RLIM_INFINITY else min(512, max(32, soft // 4))


class OpenFile:
    """One open file.

    Attributes
    ----------
    size
        Bytes when it was opened.
    identity
        Device, inode, size and mtime in ns: another one under the same key is another file.
    """

    __slots__ = ("_lock", "handle", "identity", "key", "n_users", "retired", "size")

    def __init__(self, key: str, handle: int) -> None:
        status = os.fstat(handle)
        self.key = key
        self.handle = handle
        self.size: int | None = status.st_size
        self.identity: Identity | None = (
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns,
        )  # fmt: skip
        self.n_users = 1
        self.retired = False
        self._lock = threading.Lock()

    def read_range(self, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length); fewer where the file ends."""
        pread = getattr(os, "pread", None)
        if pread is None:
            # Windows: the position belongs to the descriptor, so readers take turns.
            with self._lock:
                os.lseek(self.handle, offset, os.SEEK_SET)
                return _joined(lambda size, _: os.read(self.handle, size), offset, length)
        data: bytes = pread(self.handle, length, offset)
        if len(data) == length:
            return data
        # A signal or a network share may cut a read short before the file's end.
        rest = _joined(lambda size, at: pread(self.handle, size, at), offset + len(data), length - len(data))
        return data + rest

    def read_into(self, offset: int, *buffers: NDArray[np.uint8]) -> int:
        """Fill buffers, one after the other, from `offset` on; how many bytes there were before the end."""
        preadv = getattr(os, "preadv", None)
        done = 0 if preadv is None else preadv(self.handle, buffers, offset)
        start = 0
        for buffer in buffers:
            if done < start + buffer.size:
                # Windows, or a read that a signal or a network share cut short.
                data = self.read_range(offset + done, start + buffer.size - done)
                buffer[done - start : done - start + len(data)] = np.frombuffer(data, np.uint8)
                done += len(data)
            start += buffer.size
            if done < start:
                break
        return done

    def read_tail(self, length: int) -> bytes:
        """The last `length` bytes; fewer where the file is shorter."""
        size = self.size or 0
        return self.read_range(max(0, size - length), min(size, length))


class _Read(Protocol):
    def __call__(self, size: int, offset: int, /) -> bytes: ...


def _joined(read: _Read, offset: int, length: int) -> bytes:
    parts = []
    while length > 0:
        part = read(length, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)


class FileCache:
    """Least recently used open files, at most `max_open` besides those in use.

    Notes
    -----
    Thread-safe; no lock is held while a file is opened or read. A file that falls out while a
    thread reads it is closed by that thread: a descriptor number that was closed too early could
    already mean another file. A forked child starts empty.
    """

    def __init__(self, max_open: int) -> None:
        self.max_open = max_open
        self._files: OrderedDict[tuple[int, str], OpenFile] = OrderedDict()
        # Reentrant, because the garbage collector may run a finalizer of ours (`drop`) at any
        # allocation, also while this very thread holds the lock.
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_over_in_child)

    def __len__(self) -> int:
        return len(self._files)

    def _start_over_in_child(self) -> None:
        files, self._files, self._lock = self._files, OrderedDict(), threading.RLock()
        for file in files.values():
            os.close(file.handle)

    def acquire(self, opener: GuardedOpener, owner: int, key: str) -> OpenFile:
        """The open file of a key, which stays open until `release`.

        Raises
        ------
        FileNotFoundError
            If the key is absent.
        StoreError
            If the file cannot be opened; HostileStoreError if it is no regular file.
        """
        name = (owner, key)
        with self._lock:
            file = self._files.get(name)
            if file is not None:
                file.n_users += 1
                self._files.move_to_end(name)
                return file
        fresh = OpenFile(key, self._open(opener, key))
        with self._lock:
            file = self._files.get(name)
            if file is None:
                self._files[name] = fresh
                to_close = self._evict(self.max_open)
                file = fresh
            else:  # another thread was quicker
                file.n_users += 1
                to_close = [fresh]
        _close(to_close)
        return file

    def release(self, file: OpenFile) -> None:
        """End a use that `acquire` began."""
        with self._lock:
            file.n_users -= 1
            close = file.retired and file.n_users == 0
        if close:
            os.close(file.handle)

    def drop(self, owner: int, key: str | None = None) -> None:
        """Close one of an owner's files, or all; those in use when their reader is done."""
        with self._lock:
            names = [name for name in self._files if name[0] == owner and key in (None, name[1])]
            to_close = self._retire(names)
        _close(to_close)

    def _evict(self, keep: int) -> list[OpenFile]:
        return self._retire(list(itertools.islice(self._files, max(0, len(self._files) - keep))))

    def _retire(self, names: list[tuple[int, str]]) -> list[OpenFile]:
        idle = []
        for name in names:
            file = self._files.pop(name)
            file.retired = True
            if file.n_users == 0:
                idle.append(file)
        return idle

    def _open(self, opener: GuardedOpener, key: str) -> int:
        try:
            return opener.open_guarded(key)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise _unreadable(key, error) from error
        # Something else in this process holds the descriptors: give back all of ours.
        with self._lock:
            to_close = self._evict(0)
        _close(to_close)
        try:
            return opener.open_guarded(key)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unreadable(key, error) from error


def _close(files: list[OpenFile]) -> None:
    for file in files:
        os.close(file.handle)


def _unreadable(key: str, error: OSError) -> StoreError:
    return StoreError(
        f"cannot read {key!r}: {error.strerror or error}; check its permissions and that the disk or "
        "share is there"
    )


_SHARED = FileCache(default_max_open())
_OWNERS = itertools.count()


class LocalFiles:
    """One reader's share of the process's open files."""

    def __init__(self, opener: GuardedOpener, cache: FileCache | None = None) -> None:
        self._opener = opener
        self._cache = _SHARED if cache is None else cache
        # A number of its own: a reader of an overwritten store must not meet the old one's files.
        self._owner = next(_OWNERS)
        finalizer = weakref.finalize(self, self._cache.drop, self._owner)
        finalizer.atexit = False

    def acquire(self, key: str) -> OpenFile:
        """The open file of a key; `release` it after the read."""
        return self._cache.acquire(self._opener, self._owner, key)

    def release(self, file: OpenFile) -> None:
        """End a use that `acquire` began."""
        self._cache.release(file)

    def forget(self, key: str) -> None:
        """Close a file that gave an error, so that the next use opens it anew."""
        self._cache.drop(self._owner, key)

    def close(self) -> None:
        """Close every file. Idempotent; the next `acquire` opens again."""
        self._cache.drop(self._owner)
