"""Locks between processes on files beside a store."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from lazystore.errors import StoreError
from lazystore.store.location import write_error
from lazystore.telemetry import logger

# Between attempts to remove a lock file: an error of the disk or of a file server may pass.
REMOVE_PAUSES_S = (0.01, 0.05)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def _try_lock(handle: int, *, wait: bool) -> bool:
    """Whether the lock was taken; the system frees it when the process ends, however it ends."""
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True
    try:
        import msvcrt
    except ImportError:
        return True
    try:
        # LK_LOCK retries for ten seconds, LK_NBLCK not at all.
        msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False
    return True


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool, held_message: str) -> Iterator[None]:
    """Hold an exclusive lock on a file that exists only while somebody holds it.

    Raises
    ------
    StoreError
        With `held_message`, if another process holds it and `wait` is false; or if the file cannot
        be made (`NoSpaceError` where the disk is full).
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # The holder before us removed the folder just now.
        except OSError as error:
            with contextlib.suppress(OSError):
                path.parent.rmdir()
            raise write_error(error, path.name, str(path.parent)) from error
        if not _try_lock(handle, wait=wait):
            os.close(handle)
            raise StoreError(held_message)
        # The holder before us may have removed the file while we waited: then ours is a lock on a
        # file that nobody else will ever find.
        try:
            same = os.path.samestat(os.fstat(handle), os.stat(path))
        except FileNotFoundError:
            same = False
        if same:
            break
        os.close(handle)
    try:
        yield
    finally:
        # While it is held: afterwards the file may be another process's lock.
        is_gone = _remove(path)
        os.close(handle)
        if not is_gone and fcntl is None:
            # Windows removes no file that is open, by us or by whoever has the lock now.
            is_gone = _remove(path)
        if not is_gone:
            logger.warning("the empty lock file %s cannot be removed; the next conversion will", path)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _remove(path: Path) -> bool:
    """Whether the file is gone; a fault that passes is waited for."""
    for pause_s in (*REMOVE_PAUSES_S, 0.0):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return True
        except OSError:
            time.sleep(pause_s)
        else:
            return True
    return False
