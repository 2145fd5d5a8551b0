"""Where a store lies: keys to bytes, in a folder here, in a bucket in `remote`.

Writes are durable and atomic: a key holds its old bytes, none, or all of the new ones.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from lazystore.errors import DamagedStoreError, HostileStoreError, NoSpaceError, StoreError

PARTIAL_SUFFIX = ".partial"
# A file that is read from end to end is in memory in parts of this size.
PART_BYTES = 8 * 1024 * 1024
_PARTIAL = re.compile(r"\.[^/]+\.\d+-\d+\.partial")
_RENAME_RETRIES_S = (0.001, 0.005, 0.02, 0.05, 0.2, 0.5)
# Windows: access denied and sharing violation, both of which pass when a virus scanner lets go.
_TRANSIENT_WINERRORS = (5, 32)
# Windows: a symbolic link, a junction. Other tags (a file that lies in the cloud) are harmless.
_LINK_TAGS = (0xA000000C, 0xA0000003)


class Writable(Protocol):
    """What takes bytes under keys; when they are durable is its own affair."""

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Put bytes under a key, all or nothing; replaces what was there."""


@runtime_checkable
class Location(Writable, Protocol):
    """Bytes under keys. Keys are POSIX-style relative paths; a missing key is FileNotFoundError."""

    @property
    def url(self) -> str:
        """What to show a person; never holds credentials."""

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """All bytes of a key; DamagedStoreError if there are more than `max_bytes`."""

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length); fewer where the object ends."""

    def read_tail(self, key: str, length: int) -> bytes:
        """The last `length` bytes; fewer where the object is shorter."""

    def size(self, key: str) -> int:
        """Size in bytes."""

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Put bytes under a key, durably, all or nothing; replaces what was there."""

    def delete(self, key: str) -> None:
        """Remove a key; no error where it is absent."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """Every key that begins with `prefix` (a folder's key with its slash, or nothing)."""


def parts_of(location: Location, key: str, size: int) -> Iterator[bytes]:
    """The bytes of a key in order, of which there are `size`, a bounded number at a time."""
    for offset in range(0, size, PART_BYTES):
        yield location.read_range(key, offset, min(PART_BYTES, size - offset))


def is_partial(key: str) -> bool:
    """Whether a key is a file that a killed writer left half-written.

    >>> is_partial("mouse/data/c/0/.0.12-140.partial"), is_partial("mouse/my.partial")
    (True, False)
    """
    return _PARTIAL.fullmatch(key.rpartition("/")[2]) is not None


def _fsync_folder(folder: str) -> None:
    """Make renames and creations in a folder durable; Windows has no such call."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folders(folder: str) -> list[str]:
    """Create a folder and its parents; the folders that got a new one, to be made durable."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        # Another writer may have made it between the check and now.
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
    return [os.path.dirname(path) for path in missing]


def _write_all(handle: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view.nbytes:
        view = view[os.write(handle, view) :]


def write_error(error: OSError, key: str, where: str) -> StoreError | NoSpaceError:
    """What to tell a person about a write that failed."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return NoSpaceError(
            f"no space left for {key!r} under {where}; free some and run the same command "
            "again: it resumes where it stopped"
        )
    return StoreError(f"cannot write {key!r} under {where}: {error.strerror or error}")


def _replace(source: str, target: str) -> None:
    """Rename over the target, waiting out Windows' sharing violations."""
    for delay_s in _RENAME_RETRIES_S:
        try:
            os.replace(source, target)
            return
        except OSError as error:
            if getattr(error, "winerror", None) not in _TRANSIENT_WINERRORS:
                raise
            time.sleep(delay_s)
    os.replace(source, target)


def _check_key_part(part: str, key: str) -> None:
    """Refuse what would leave the root: keys come from metadata that a stranger may have written."""
    if part in ("", ".", "..") or "\0" in part or (os.name == "nt" and any(mark in part for mark in "\\:")):
        raise HostileStoreError(f"{key!r} is no key of a store: {part!r} in it points elsewhere")


class WriteBatch:
    """Files that become durable together: at the end of the block each is, and its place in its folder.

    A folder is flushed once, whatever number of files it got: 74 times for a small item, which were 121.
    """

    def __init__(self, location: LocalLocation) -> None:
        self._location = location
        self._folders: dict[str, str] = {}  # and a key to name in an error

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Put bytes under a key, all or nothing; another one may be durable before it."""
        for folder in self._location.write_file(key, parts):
            self._folders[folder] = key

    def publish(self, staged: str, key: str) -> None:
        """The same of what `LocalLocation.stage` wrote."""
        for folder in self._location.publish_file(staged, key):
            self._folders[folder] = key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        for folder, key in self._folders.items():
            try:
                _fsync_folder(folder)
            except OSError as error:
                raise write_error(error, key, self._location.url) from error


class LocalLocation:
    """A folder on a local disk or a mounted share.

    Reads accept regular files below the resolved root only: a link, a device or a pipe that a
    stranger put in a store could hang the reader or read files from outside.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(os.path.abspath(os.fspath(root)))

    @property
    def url(self) -> str:
        return str(self.root)

    def __repr__(self) -> str:
        return f"LocalLocation({str(self.root)!r})"

    def path(self, key: str) -> str:
        """The file that holds a key."""
        return os.path.join(self.root, *key.split("/"))

    def open_guarded(self, key: str) -> int:
        """A read-only descriptor of a key's file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        HostileStoreError
            If it, or a folder on the way, is a link, or it is no regular file.
        """
        path = self.path_without_links(key)
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
        # Without O_NONBLOCK opening a pipe would wait for a writer for ever.
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            # Windows: asked before, because opening would follow a link, or wait at a pipe.
            if not hasattr(os, "O_NOFOLLOW") and not stat.S_ISREG(os.lstat(path).st_mode):
                raise HostileStoreError(f"{key}: not a regular file; only regular files are read")
            handle = os.open(path, flags)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise HostileStoreError(f"{key}: a link; only regular files are read") from error
            if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
                raise FileNotFoundError(key) from error
            raise
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise HostileStoreError(f"{key}: not a regular file; only regular files are read")
        return handle

    def path_without_links(self, key: str) -> str:
        """The file that holds a key, where no folder below the root is a link.

        The root itself may be one: whoever named it chose it. Asking each folder once costs a
        fifth of two `realpath` calls.
        """
        *folders, name = key.split("/")
        path = str(self.root)
        for folder in folders:
            _check_key_part(folder, key)
            path = os.path.join(path, folder)
            try:
                status = os.lstat(path)
            except NotADirectoryError:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key) from None
            if stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) in _LINK_TAGS:
                raise HostileStoreError(f"{key}: a folder on its way is a link; only plain folders are read")
        _check_key_part(name, key)
        return os.path.join(path, name)

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        handle = self.open_guarded(key)
        with open(handle, "rb", buffering=0) as file:
            size = os.fstat(handle).st_size
            if max_bytes is not None and size > max_bytes:
                raise DamagedStoreError(f"{key}: {size} bytes where at most {max_bytes} are sensible")
            return _read_exactly(file, size)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        handle = self.open_guarded(key)
        with open(handle, "rb", buffering=0) as file:
            file.seek(offset)
            return _read_exactly(file, length)

    def read_tail(self, key: str, length: int) -> bytes:
        handle = self.open_guarded(key)
        with open(handle, "rb", buffering=0) as file:
            size = os.fstat(handle).st_size
            file.seek(max(0, size - length))
            return _read_exactly(file, min(size, length))

    def size(self, key: str) -> int:
        status = os.lstat(self.path(key))
        if not stat.S_ISREG(status.st_mode):
            raise HostileStoreError(f"{key}: not a regular file; only regular files are read")
        return status.st_size

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        with WriteBatch(self) as batch:
            batch.write(key, parts)

    def write_file(self, key: str, parts: Iterable[bytes | memoryview]) -> list[str]:
        """As `write`, but for the folders that have to be made durable, which it returns."""
        folders = self._make_folders_of(key)
        return folders + self.publish_file(self.stage(key, parts), key)

    def make_root(self) -> None:
        """Create the root, durably, where it is not there."""
        try:
            for folder in _make_folders(str(self.root)):
                _fsync_folder(folder)
        except OSError as error:
            raise write_error(error, self.root.name, str(self.root.parent)) from error

    def stage(self, key: str, parts: Iterable[bytes | memoryview]) -> str:
        """Put bytes durably beside a key, under a name that nobody reads; gives that name's key.

        What is staged twice is there twice: the names of two machines never meet.
        """
        self._make_folders_of(key)
        folder, slash, name = key.rpartition("/")
        # Containers on two machines have the same process and thread numbers.
        staged = f"{folder}{slash}.{name}.{os.getpid()}-{secrets.randbits(62)}{PARTIAL_SUFFIX}"
        partial = self.path(staged)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
            handle = os.open(partial, flags, 0o666)
            try:
                for part in parts:
                    _write_all(handle, part)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise write_error(error, key, self.url) from error
        return staged

    def publish_file(self, staged: str, key: str) -> list[str]:
        """Give what was staged its key; the folders that have to be made durable.

        All on the way from the root: a writer that was killed may have made them a moment before.
        """
        partial, target = self.path(staged), self.path(key)
        try:
            _replace(partial, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise write_error(error, key, self.url) from error
        folders = []
        folder = os.path.dirname(target)
        while len(folder) >= len(str(self.root)):
            folders.append(folder)
            folder = os.path.dirname(folder)
        return folders

    def discard(self, staged: Iterable[str]) -> None:
        """Remove what was staged and will not be published; what cannot be removed stays, unread."""
        for name in staged:
            with contextlib.suppress(OSError):
                os.unlink(self.path(name))

    def _make_folders_of(self, key: str) -> list[str]:
        for name in key.split("/"):
            _check_key_part(name, key)
        try:
            return _make_folders(os.path.dirname(self.path(key)))
        except OSError as error:
            raise write_error(error, key, self.url) from error

    def delete(self, key: str) -> None:
        path = self.path(key)
        try:
            os.unlink(path)
            _fsync_folder(os.path.dirname(path))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise write_error(error, key, self.url) from error

    def delete_partials(self, folder: str = "") -> None:
        """Delete what killed writers left half-written right in a folder; the caller holds its lock."""
        path = self.path(folder) if folder else str(self.root)
        for name in os.listdir(path) if os.path.isdir(path) else ():
            if is_partial(name):
                self.delete(f"{folder}/{name}" if folder else name)

    def delete_empty_folders(self, prefix: str = "") -> None:
        """Remove the folders below `prefix`, and itself, that hold nothing any more."""
        top = self.path(prefix) if prefix else str(self.root)
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)

    def list(self, prefix: str = "") -> Iterator[str]:
        root = str(self.root)
        top = os.path.join(root, *prefix.split("/")) if prefix else root
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")


def _read_exactly(file: object, length: int) -> bytes:
    """Up to `length` bytes of a raw file: one read may return fewer than asked for."""
    parts = []
    while length > 0:
        part = file.read(length)  # type: ignore[attr-defined]  # io.FileIO; typing it costs an import
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
