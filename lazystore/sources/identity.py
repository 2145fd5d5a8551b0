"""What tells that a source is still the one it was: size, mtime and a sampled hash.

A sample is enough to notice an edit, an append, a replacement; hashing a whole recording would
cost as much as converting it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lazystore.errors import SourceChangedError, SourceError
from lazystore.protocols import SourceIdentity

SAMPLE_BYTES = 64 * 1024
# Beyond this many files of a folder only size, mtime and name go into the hash: reading the head
# of 20,000 images costs a second, of a million on a NAS minutes.
MAX_SAMPLED_FILES = 64


def identify_file(path: str | os.PathLike[str], *, sample_bytes: int = SAMPLE_BYTES) -> SourceIdentity:
    """Identity of one file: its size, mtime, and the sha256 over its size, head and tail.

    Raises
    ------
    SourceError
        If the file cannot be read.
    """
    file_path = Path(path)
    try:
        with file_path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.sha256(str(status.st_size).encode())
            digest.update(file.read(sample_bytes))
            if status.st_size > sample_bytes:
                file.seek(max(sample_bytes, status.st_size - sample_bytes))
                digest.update(file.read(sample_bytes))
    except OSError as error:
        raise SourceError(f"cannot read {str(file_path)!r}: {error.strerror}") from error
    return SourceIdentity(file_path.name, status.st_size, status.st_mtime_ns, digest.hexdigest())


def identify_files(name: str, paths: Sequence[Path]) -> SourceIdentity:
    """Identity of many files that make one recording, in the order given.

    The size is their sum, the mtime the newest one, the hash covers every name, size and mtime,
    and the head of at most 64 files spread over the list.

    Raises
    ------
    SourceError
        If a file cannot be looked at.
    """
    digest = hashlib.sha256()
    size_bytes, mtime_ns = 0, 0
    stride = max(1, -(-len(paths) // MAX_SAMPLED_FILES))
    for number, path in enumerate(paths):
        try:
            status = path.stat()
        except OSError as error:
            raise SourceError(f"cannot look at {str(path)!r}: {error.strerror}") from error
        size_bytes += status.st_size
        mtime_ns = max(mtime_ns, status.st_mtime_ns)
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        if number % stride == 0:
            digest.update(identify_file(path, sample_bytes=4096).sha256_sampled.encode())
    return SourceIdentity(name, size_bytes, mtime_ns, digest.hexdigest())


def identify_folder(folder: Path, *, max_files: int = 20_000) -> SourceIdentity:
    """Identity of a folder as a whole: the files below it, in a fixed order.

    A chunked store may hold millions of files, so at most `max_files` are looked at.

    Raises
    ------
    SourceError
        If a file cannot be looked at.
    """
    return identify_files(folder.name, list(itertools.islice(_files_below(folder), max_files)))


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            yield Path(parent, name)


def identify_array(array: Any, name: str = "array") -> SourceIdentity:
    """Identity of something array-like in memory: shape, dtype, and its first and last records.

    `array` needs `shape`, `dtype` and slices along axis 0; only the samples are read.
    """
    shape = tuple(int(size) for size in array.shape)
    dtype = np.dtype(array.dtype)
    digest = hashlib.sha256(f"{shape} {dtype.str}".encode())
    record_bytes = max(1, dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64)))
    count = max(1, SAMPLE_BYTES // record_bytes)
    if shape and shape[0]:
        for part in (array[:count], array[max(0, shape[0] - count) :]):
            digest.update(np.ascontiguousarray(part).tobytes())
    return SourceIdentity(name, dtype.itemsize * int(np.prod(shape, dtype=np.int64)), 0, digest.hexdigest())


def check_unchanged(identity: SourceIdentity, path: str | os.PathLike[str]) -> None:
    """Refuse a file that is no longer the one that `identity` was taken from.

    Only a file whose size or mtime differs is sampled again: a copy with the same bytes passes.

    Raises
    ------
    SourceChangedError
        If its size or content differs, or it is gone.
    """
    file_path = Path(path)
    try:
        status = file_path.stat()
    except OSError as error:
        raise SourceChangedError(
            f"{identity.name!r} can no longer be read ({error.strerror}); bring it back, "
            "or convert again with --overwrite"
        ) from error
    if file_path.is_dir():
        now = identify_folder(file_path)
    elif (status.st_size, status.st_mtime_ns) == (identity.size_bytes, identity.mtime_ns):
        return
    else:
        now = identify_file(file_path)
    _check_same(identity, now)


def check_files_unchanged(identity: SourceIdentity, paths: Sequence[Path]) -> None:
    """The same for what `identify_files` was given: these files and this order, not all of a folder.

    Raises
    ------
    SourceChangedError
        If one was changed, or is gone.
    """
    try:
        now = identify_files(identity.name, paths)
    except SourceError as error:
        raise SourceChangedError(
            f"{identity.name!r} changed ({error}); bring it back, or convert again with --overwrite"
        ) from error
    _check_same(identity, now)


def _check_same(identity: SourceIdentity, now: SourceIdentity) -> None:
    if now.sha256_sampled != identity.sha256_sampled:
        raise SourceChangedError(
            f"{identity.name!r} changed: it had {identity.size_bytes} bytes and now has "
            f"{now.size_bytes}, or other content; convert it again with --overwrite"
        )
