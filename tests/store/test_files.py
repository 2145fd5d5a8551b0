"""Open files of a local store: bounded, guarded, safe under threads and fork."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lazystore.errors import DamagedStoreError, HostileStoreError, StoreError
from lazystore.store.files import FileCache, LocalFiles, default_max_open
from lazystore.store.location import LocalLocation


def content(number: int) -> bytes:
    return number.to_bytes(2, "little") * 100


def make_files(folder: Path, count: int) -> LocalLocation:
    for number in range(count):
        (folder / f"f{number}").write_bytes(content(number))
    return LocalLocation(folder)


def read(files: LocalFiles, key: str, offset: int = 0, length: int = 1000) -> bytes:
    file = files.acquire(key)
    try:
        return file.read_range(offset, length)
    finally:
        files.release(file)


def test_ranges_and_tails(tmp_path: Path) -> None:
    """Short answers only where the file ends; size and identity come with the file."""
    files = LocalFiles(make_files(tmp_path, 2))
    assert read(files, "f1", 3, 4) == content(1)[3:7]
    assert read(files, "f1", 190, 50) == content(1)[190:]
    assert read(files, "f1", 500, 50) == b""
    file = files.acquire("f0")
    other = files.acquire("f1")
    assert file.size == 200
    assert file.identity != other.identity
    assert file.read_tail(7) == content(0)[-7:]
    assert file.read_tail(700) == content(0)
    files.release(file)
    files.release(other)
    files.close()


@pytest.mark.parametrize("has_preadv", [True, False])
def test_a_buffer_is_filled_as_far_as_the_file_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_preadv: bool
) -> None:
    """Also where the system answers in small parts, and where it cannot read into memory at all."""
    real = getattr(os, "preadv", None)
    if not has_preadv:
        monkeypatch.delattr(os, "preadv", raising=False)
    elif real is None:
        pytest.skip("no preadv on this system")
    else:
        monkeypatch.setattr(os, "preadv", lambda handle, parts, at: real(handle, [parts[0][:7]], at))
    files = LocalFiles(make_files(tmp_path, 2))
    file = files.acquire("f1")
    buffer = np.full(50, 255, np.uint8)
    assert file.read_into(3, buffer[:20]) == 20
    assert bytes(buffer) == content(1)[3:23] + b"\xff" * 30
    assert file.read_into(190, buffer) == 10
    assert bytes(buffer[:10]) == content(1)[190:]
    assert file.read_into(500, buffer) == 0
    # Several, one after the other, as far as the file goes.
    first, second = np.full(9, 255, np.uint8), np.full(4, 255, np.uint8)
    assert file.read_into(100, first, second) == 13
    assert bytes(first) + bytes(second) == content(1)[100:113]
    assert file.read_into(190, first, second) == 10
    assert bytes(first) + bytes(second[:1]) == content(1)[190:]
    assert bytes(second[1:]) == content(1)[110:113]
    assert file.read_into(195, first, second) == 5
    files.release(file)
    files.close()


def test_no_more_files_stay_open_than_allowed(tmp_path: Path) -> None:
    """The least recently used go; what is in use stays usable until it is released."""
    cache = FileCache(3)
    files = LocalFiles(make_files(tmp_path, 10), cache)
    held = files.acquire("f0")
    for number in range(1, 10):
        assert read(files, f"f{number}") == content(number)
        assert len(cache) <= 3
    assert held.retired
    assert held.read_range(0, 200) == content(0)
    files.release(held)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held.handle)
    files.close()
    assert len(cache) == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace an open file")
def test_readers_do_not_share_files_nor_close_each_others(tmp_path: Path) -> None:
    """A reader made after an overwrite must not meet the old file that another still holds."""
    cache = FileCache(8)
    location = make_files(tmp_path, 2)
    old, new = LocalFiles(location, cache), LocalFiles(location, cache)
    assert read(old, "f0") == content(0)
    (tmp_path / "fresh").write_bytes(content(9))
    os.rename(tmp_path / "fresh", tmp_path / "f0")
    assert read(old, "f0") == content(0)
    assert read(new, "f0") == content(9)
    new.close()
    assert len(cache) == 1
    old.forget("f1")
    old.forget("f0")
    assert read(old, "f0") == content(9)
    old.close()


def test_threads_under_eviction_always_read_the_right_file(tmp_path: Path) -> None:
    """A descriptor number that is closed and used again never answers for another file."""
    cache = FileCache(2)
    files = LocalFiles(make_files(tmp_path, 12), cache)

    def work(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(300):
            number = order.randrange(12)
            assert read(files, f"f{number}") == content(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(cache) <= 2
    files.close()


def test_without_pread_readers_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no pread (Windows), threads on one file still read what they asked for."""
    monkeypatch.delattr(os, "pread", raising=False)
    (tmp_path / "f").write_bytes(bytes(range(256)) * 400)
    files = LocalFiles(LocalLocation(tmp_path))

    def work(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(300):
            offset = order.randrange(100_000)
            assert read(files, "f", offset, 100) == bytes((offset + i) % 256 for i in range(100))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(read(files, "f", 102_390, 100)) == 10
    files.close()


def test_a_read_that_comes_back_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal or a share may cut a read before the file's end; the rest is asked for."""
    if not hasattr(os, "pread"):
        pytest.skip("this system has no pread")
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda handle, size, at: pread(handle, min(size, 7), at))
    files = LocalFiles(make_files(tmp_path, 1))
    assert read(files, "f0", 1, 150) == content(0)[1:151]
    assert read(files, "f0", 100, 150) == content(0)[100:]
    files.close()


class Opener:
    """A location whose opening fails as told."""

    def __init__(self, folder: Path, failures: list[OSError]) -> None:
        self.location, self.failures = LocalLocation(folder), failures

    def open_guarded(self, key: str) -> int:
        if self.failures:
            raise self.failures.pop()
        return self.location.open_guarded(key)


def test_running_out_of_descriptors_gives_back_our_own(tmp_path: Path) -> None:
    """When the process has no descriptor left, idle files are closed and the open is tried again."""
    make_files(tmp_path, 3)
    cache = FileCache(8)
    opener = Opener(tmp_path, [])
    files = LocalFiles(opener, cache)
    read(files, "f0")
    read(files, "f1")
    opener.failures = [OSError(errno.EMFILE, "Too many open files")]
    assert read(files, "f2") == content(2)
    assert len(cache) == 1
    opener.failures = [OSError(errno.EMFILE, "Too many open files")] * 2
    with pytest.raises(StoreError, match="cannot read 'f1': Too many open files; check"):
        read(files, "f1")
    opener.failures = [FileNotFoundError("f1"), OSError(errno.EMFILE, "Too many open files")]
    with pytest.raises(FileNotFoundError):
        read(files, "f1")
    files.close()


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """No permission is a plain error, not damage; an absent key stays FileNotFoundError."""
    files = LocalFiles(Opener(tmp_path, [PermissionError(errno.EACCES, "Permission denied")]))
    with pytest.raises(StoreError, match="cannot read 'f0': Permission denied; check its perm") as caught:
        read(files, "f0")
    assert not isinstance(caught.value, DamagedStoreError)
    with pytest.raises(FileNotFoundError):
        read(files, "f0")


def test_a_forgotten_reader_closes_its_files(tmp_path: Path) -> None:
    """Files do not outlive the reader that nobody closed."""
    cache = FileCache(8)
    files = LocalFiles(make_files(tmp_path, 2), cache)
    read(files, "f0")
    assert len(cache) == 1
    del files
    assert len(cache) == 0


def test_the_bound_leaves_room_for_others() -> None:
    """A quarter of what the process may open at most, and never more than 512."""
    assert 32 <= default_max_open() <= 512


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_empty(tmp_path: Path) -> None:
    """The child neither hangs on the parent's lock nor shares a file position with it."""
    cache = FileCache(8)
    files = LocalFiles(make_files(tmp_path, 2), cache)
    read(files, "f0")
    release = threading.Event()

    def hold() -> None:
        with cache._lock:
            held.set()
            release.wait(30)

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        try:
            empty = len(cache) == 0
            os._exit(0 if empty and read(files, "f1") == content(1) else 3)
        except BaseException:
            os._exit(4)
    release.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert read(files, "f0") == content(0)
    files.close()


def link(target: Path | str, path: Path) -> None:
    try:
        os.symlink(target, path)
    except OSError:  # Windows without the privilege
        pytest.skip("this user may not make links")


@pytest.mark.parametrize("hostile", ["pipe", "file link", "folder link", "device link", "folder", "dangling"])
def test_only_plain_files_below_the_root_are_read(tmp_path: Path, hostile: str) -> None:
    """Pipes, links and devices are refused at once and nothing outside is read."""
    outside = tmp_path / "outside"
    (outside / "c").mkdir(parents=True)
    (outside / "c" / "0").write_bytes(b"secret")
    root = tmp_path / "store"
    (root / "c").mkdir(parents=True)
    key = "c/0"
    if hostile == "pipe":
        # By the command: `os.mkfifo` is gone where the suite runs without POSIX names.
        if shutil.which("mkfifo") is None:
            pytest.skip("this system has no pipes in folders")
        subprocess.run(["mkfifo", str(root / "c" / "0")], check=True)
    elif hostile == "file link":
        link(outside / "c" / "0", root / "c" / "0")
    elif hostile == "device link":
        link(os.devnull if os.name == "nt" else "/dev/zero", root / "c" / "0")
    elif hostile == "dangling":
        link(outside / "nothing", root / "c" / "0")
    elif hostile == "folder":
        (root / "c" / "0").mkdir()
    else:
        link(outside / "c", root / "d")
        key = "d/0"
    files = LocalFiles(LocalLocation(root))
    start = time.monotonic()
    with pytest.raises(HostileStoreError, match="only (regular files|plain folders) are read"):
        read(files, key)
    assert time.monotonic() - start < 10
    files.close()


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "./f", "", "/etc/passwd", "a//b"])
def test_keys_cannot_leave_the_root(tmp_path: Path, key: str) -> None:
    """Keys come from metadata: their parts are names, nothing else."""
    (tmp_path / "outside").write_bytes(b"secret")
    (tmp_path / "store" / "a").mkdir(parents=True)
    with pytest.raises(HostileStoreError, match="is no key of a store"):
        read(LocalFiles(LocalLocation(tmp_path / "store")), key)


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    """Whoever opens a store by a link chose it; only what lies inside is not trusted."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_bytes(b"data")
    link(tmp_path / "real", tmp_path / "name")
    files = LocalFiles(LocalLocation(tmp_path / "name"))
    assert read(files, "f") == b"data"
    files.close()
