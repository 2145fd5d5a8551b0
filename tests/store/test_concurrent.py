"""Several converters on one store at once."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.convert.correct import correct
from lazystore.errors import StoreError
from lazystore.store import lock
from lazystore.store.location import LocalLocation
from lazystore.store.verify import verify
from tests.scoreboard import record

ADD = """
import sys
import lazystore as ls
source, store, *names = sys.argv[1:]
sys.stdin.readline()
for name in names:
    ls.convert(source, store, name=name, chunks=2, shards=4, workers=1)
"""


# Windows locks through msvcrt; the imitation of it without POSIX names has neither.
needs_locks = pytest.mark.skipif(
    lock.fcntl is None and importlib.util.find_spec("msvcrt") is None,
    reason="this system has no file locks",
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.arange(64, dtype=np.uint8).reshape(16, 4))
    return tmp_path / "a.npy"


def test_items_added_at_once_are_all_there(source: Path, store_path: Path) -> None:
    """Two processes that start together, in one parent group and beside it: no commit is lost."""
    names = [["one", "day/1", "x"], ["two", "day/2", "y"]]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", ADD, str(source), str(store_path), *mine],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for mine in names
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate()[1] == ""
    with ls.open(store_path) as store:
        assert sorted(store) == sorted([*names[0], *names[1]])
        for name in store:
            np.testing.assert_array_equal(store[name].load(), np.load(source))
    assert verify(LocalLocation(store_path)).ok
    assert not Path(f"{store_path}.progress").exists()


@needs_locks
def test_threads_add_items_at_once(source: Path, store_path: Path) -> None:
    """The lock holds between threads of one process as well."""
    failed: list[BaseException] = []

    def add(name: str) -> None:
        try:
            ls.convert(source, store_path, name=name, chunks=2, shards=4, workers=1)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=add, args=(f"day/{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with ls.open(store_path) as store:
        assert len(store) == 6
    assert verify(LocalLocation(store_path)).ok


@needs_locks
def test_two_on_one_item_one_is_refused(source: Path, store_path: Path) -> None:
    """While one writes, another of the same name is refused, and so is a correction."""
    refused: list[str] = []

    def meanwhile(_: Any) -> None:
        if refused:
            return
        for attempt in (
            lambda: ls.convert(source, store_path, name="a", chunks=2, shards=4),
            lambda: correct(LocalLocation(store_path), "a", {"subject": "m7"}),
        ):
            try:
                attempt()
            except StoreError as error:
                refused.append(str(error))

    ls.convert(source, store_path, name="a", chunks=2, shards=4, progress=meanwhile)
    assert "is being converted by another process; wait for it, or choose another name" in refused[0]
    assert "is being written by another process; try again later" in refused[1]
    assert verify(LocalLocation(store_path)).ok


SLOW = """
import sys, time
import lazystore as ls
source, store = sys.argv[1:]
ls.convert(source, store, name="a", chunks=2, shards=4, workers=1, progress=lambda _: time.sleep(0.2))
"""


@needs_locks
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no processes")
def test_a_converter_that_was_stopped_and_revived_is_alone_and_ends_right(
    source: Path, store_path: Path
) -> None:
    """While it stands still a second one is refused; killed instead, the second one takes over."""
    undisturbed = store_path.with_name("undisturbed.zarr")
    ls.convert(source, undisturbed, name="a", chunks=2, shards=4, workers=1)
    refused = 0
    for ends_by in (signal.SIGCONT, signal.SIGKILL):
        command = [sys.executable, "-W", "error", "-c", SLOW, str(source), str(store_path)]
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        records = Path(f"{store_path}.progress/a/records")
        while not (records.is_dir() and any(name.isdigit() for name in os.listdir(records))):
            assert child.poll() is None, child.communicate()[1]
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(StoreError, match="is being converted by another process"):
            ls.convert(source, store_path, name="a", chunks=2, shards=4, workers=1)
        refused += 1
        os.kill(child.pid, ends_by)
        assert child.communicate()[1] == ""
        report = ls.convert(source, store_path, name="a", chunks=2, shards=4, workers=1).items[0]
        assert report.already_there == (ends_by == signal.SIGCONT)
        assert files_of(store_path) == files_of(undisturbed)
        shutil.rmtree(store_path)
    record(8, stopped_and_revived=1, stopped_and_killed=1, refused_meanwhile=refused, wrong=0)


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("later", ["day", "DAY/cam", "day/cam/x"])
def test_names_that_collide_are_refused_while_the_first_is_on_its_way(
    source: Path, store_path: Path, later: str
) -> None:
    """Neither has committed yet, and still they know of each other."""
    refused: list[str] = []

    def meanwhile(_: Any) -> None:
        if not refused:
            with pytest.raises(StoreError, match="choose another") as caught:
                ls.convert(source, store_path, name=later)
            refused.append(str(caught.value))

    ls.convert(source, store_path, name="day/cam", chunks=2, shards=4, progress=meanwhile)
    assert refused
    with ls.open(store_path) as store:
        assert list(store) == ["day/cam"]


def failing_unlink(monkeypatch: pytest.MonkeyPatch, n_failures: int) -> list[str]:
    """Removing fails so many times with an error of the disk; the attempts."""
    real, attempts = os.unlink, []

    def unlink(path: Any, **options: Any) -> None:
        attempts.append(str(path))
        if len(attempts) <= n_failures:
            raise OSError(errno.EIO, "Input/output error", str(path))
        real(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    return attempts


def test_a_fault_at_removing_a_lock_that_passes_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, and the file and its folder are gone."""
    attempts = failing_unlink(monkeypatch, 2)
    with lock.file_lock(tmp_path / "area" / ".root-lock", wait=True, held_message="held"):
        pass
    assert len(attempts) == 3
    assert not (tmp_path / "area").exists()


def test_a_lock_that_cannot_be_removed_is_told_and_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An empty file that stays locks nobody out, and the work it guarded is done."""
    path = tmp_path / "area" / ".root-lock"
    with monkeypatch.context() as broken:
        failing_unlink(broken, 1000)
        with lock.file_lock(path, wait=True, held_message="held"):
            pass
    assert path.exists()
    assert "cannot be removed; the next conversion will" in caplog.text
    with lock.file_lock(path, wait=False, held_message="held"):
        pass
    assert not path.parent.exists()
