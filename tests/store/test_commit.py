"""What a writer promises: nothing is seen before the commit, everything after, nothing else touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.core.buffer import cpu
from zarr.core.sync import sync

import lazystore as ls
from lazystore.errors import (
    DamagedStoreError,
    IncompleteStoreError,
    MissingFrameError,
    StoreError,
    UsageError,
)
from lazystore.schema import ArraySpec, Codec
from lazystore.store import manifest
from lazystore.store.index import read_index
from lazystore.store.item_plan import ItemPlan
from lazystore.store.location import LocalLocation
from lazystore.store.staged import stage_task
from lazystore.store.verify import verify
from lazystore.store.writer import ItemWriter

FRAMES = np.arange(20 * 6, dtype=np.uint8).reshape(20, 2, 3)


class StoppedError(Exception):
    """Stands for a Ctrl-C."""


def stop_after(n_tasks: int) -> Callable[[Any], None]:
    calls: list[Any] = []

    def progress(state: Any) -> None:
        calls.append(state)
        if len(calls) == n_tasks:
            raise StoppedError

    return progress


@pytest.fixture
def tmp_path(disk_path: Path) -> Path:
    """What is made durable lies on a disk."""
    return disk_path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "frames.npy", FRAMES)
    return tmp_path / "frames.npy"


def convert(source: Path, store: Path, **options: Any) -> Any:
    return ls.convert(source, store, chunks=2, shards=4, workers=1, **options).items[0]


def unfinished(source: Path, store: Path, n_tasks: int = 2, **options: Any) -> None:
    with pytest.raises(StoppedError):
        convert(source, store, progress=stop_after(n_tasks), **options)


def test_nobody_sees_an_item_before_its_commit(source: Path, store_path: Path) -> None:
    """Plain zarr finds nothing, lazystore says how far it is; then both read everything."""
    unfinished(source, store_path)
    with pytest.raises(FileNotFoundError):
        zarr.open_group(store_path, mode="r")
    with pytest.raises(IncompleteStoreError, match=r"[1-4] of 5 shards are done; run the same command again"):
        ls.open(store_path)
    assert verify(LocalLocation(store_path)).exit_status in (4, 5)
    assert 1 <= convert(source, store_path).tasks_done <= 4
    np.testing.assert_array_equal(zarr.open_group(store_path, mode="r")["frames/data"][...], FRAMES)
    with xr.open_datatree(store_path, engine="zarr") as tree:
        np.testing.assert_array_equal(tree["frames/data"].values, FRAMES)
        np.testing.assert_array_equal(tree["frames/time"].values, np.arange(20))
    with ls.open(store_path) as store:
        np.testing.assert_array_equal(store["frames"].load(), FRAMES)


def test_an_unfinished_store_that_was_copied_alone_is_told_from_none(source: Path, store_path: Path) -> None:
    """Without the progress area beside it, on a disk or in a bucket: chunks and no metadata."""
    unfinished(source, store_path)
    shutil.rmtree(f"{store_path}.progress")
    bucket = zarr.storage.MemoryStore()
    for key in LocalLocation(store_path).list():
        sync(bucket.set(key, cpu.Buffer.from_bytes((store_path / key).read_bytes())))
    for store in (store_path, bucket):
        with pytest.raises(IncompleteStoreError, match="holds chunks and no metadata: its conversion has"):
            ls.open(store)
    with pytest.raises(StoreError, match="holds no Zarr array or group"):
        ls.open(zarr.storage.MemoryStore())


def test_a_second_item_is_invisible_until_its_commit(source: Path, store_path: Path) -> None:
    """The first one reads on meanwhile, through every reader."""
    convert(source, store_path)
    unfinished(source, store_path, name="day2/cam")
    assert sorted(zarr.open_group(store_path, mode="r").group_keys()) == ["frames"]
    with ls.open(store_path) as store:
        assert list(store) == ["frames"]
        with pytest.raises(IncompleteStoreError, match="'day2/cam' has not finished"):
            store["day2/cam"]
    assert verify(LocalLocation(store_path)).exit_status == 4
    convert(source, store_path, name="day2/cam")
    with ls.open(store_path) as store:
        assert sorted(store) == ["day2/cam", "frames"]
    assert verify(LocalLocation(store_path)).ok


def test_what_is_there_of_an_unfinished_item_can_be_watched(source: Path, store_path: Path) -> None:
    """Frames that are done read right, the others are an error, never zeros."""
    unfinished(source, store_path, n_tasks=1)
    with ls.open(store_path, allow_incomplete=True) as store:
        np.testing.assert_array_equal(store["frames"][3], FRAMES[3])
        with pytest.raises(MissingFrameError):
            store["frames"][19]


def test_the_same_conversion_again_does_nothing(source: Path, store_path: Path) -> None:
    """Not a byte is written."""
    convert(source, store_path)
    before = {path: path.stat().st_mtime_ns for path in store_path.rglob("*")}
    report = convert(source, store_path)
    assert (report.already_there, report.tasks_done) == (True, 0)
    assert {path: path.stat().st_mtime_ns for path in store_path.rglob("*")} == before
    assert not Path(f"{store_path}.progress").exists()


def test_other_settings_do_not_go_on(source: Path, store_path: Path) -> None:
    """An unfinished item of other settings is refused, or begun anew on request."""
    unfinished(source, store_path)
    with pytest.raises(StoreError, match="had another source or other settings"):
        convert(source, store_path, codec="fast")
    assert convert(source, store_path, codec="fast", overwrite=True).tasks_done == 5
    assert verify(LocalLocation(store_path)).ok
    with pytest.raises(StoreError, match="is already in .* pass --overwrite to replace it, or --name"):
        convert(source, store_path)


def test_resume_can_be_declined(source: Path, store_path: Path) -> None:
    """`resume=False` begins anew, and never takes away a finished item."""
    unfinished(source, store_path)
    assert convert(source, store_path, resume=False).tasks_done == 5
    with pytest.raises(StoreError, match="is already in"):
        convert(source, store_path, resume=False)
    with ls.open(store_path) as store:
        np.testing.assert_array_equal(store["frames"].load(), FRAMES)


@pytest.mark.parametrize(
    ("there", "new", "message"),
    [
        ("mouse", "Mouse", "equals 'mouse' on some file systems"),
        ("stra\u00dfe", "STRASSE", "on some file systems"),
        ("caf\u00e9", "cafe\u0301", "on some file systems"),
        ("day", "day/cam", "cannot lie inside item 'day'"),
        ("day/cam", "day", "cannot lie inside item 'day/cam', or around it"),
        ("Day", "day/cam", "cannot lie inside item 'Day'"),
    ],
)
@pytest.mark.parametrize("is_finished", [True, False])
def test_names_that_collide_are_refused(
    source: Path, store_path: Path, there: str, new: str, message: str, is_finished: bool
) -> None:
    """Also with an item that is still being converted."""
    if is_finished:
        convert(source, store_path, name=there)
    else:
        unfinished(source, store_path, name=there)
    with pytest.raises(StoreError, match=message):
        convert(source, store_path, name=new)


@pytest.mark.parametrize(
    "name", ["con", "a/NUL.txt", "a:b", "a?", "a.", " a", "", "a//b", "..", "__x", "zarr.json", "x" * 201]
)
def test_names_that_some_disk_cannot_hold_are_refused(source: Path, store_path: Path, name: str) -> None:
    """Before anything is written."""
    if not name:
        return  # means "by the source's name"
    with pytest.raises(UsageError, match=r"item name .* has"):
        convert(source, store_path, name=name)
    assert not store_path.exists()
    assert not Path(f"{store_path}.progress").exists()


def test_an_output_that_is_something_else_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    """A file, a folder with content, somebody else's Zarr: refused, untouched."""
    file = tmp_path / "file"
    file.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    foreign = tmp_path / "foreign.zarr"
    zarr.create_group(foreign).create_array("a", data=np.arange(3))
    for output, message in [
        (file, "is a file; the output must be"),
        (folder, "is a folder with other content"),
        (foreign, "a Zarr store that lazystore did not write"),
    ]:
        with pytest.raises(StoreError, match=message):
            convert(source, output)
        assert not Path(f"{output}.progress").exists()
    assert file.read_text() == "mine"
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert convert(source, empty).tasks_done == 5


def test_a_manifest_of_many_pages(source: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are hashed one by one; one that was altered is noticed and named."""
    monkeypatch.setattr(manifest, "ENTRIES_A_PAGE", 3)
    convert(source, store_path)
    pages = sorted(store_path.glob("frames/data/manifest/page-*.json"))
    assert len(pages) > 3
    assert verify(LocalLocation(store_path)).ok
    pages[1].write_bytes(pages[1].read_bytes().replace(b"c/", b"d/", 1))
    findings = verify(LocalLocation(store_path)).findings
    assert any(pages[1].name in finding.detail for finding in findings)


def test_a_root_that_somebody_rewrote_is_not_trusted(source: Path, store_path: Path) -> None:
    """The items' own records decide, and the next commit repairs the root."""
    convert(source, store_path)
    root = store_path / "zarr.json"
    document = json.loads(root.read_bytes())
    document["consolidated_metadata"]["metadata"]["frames/data"]["shape"] = [999, 2, 3]
    root.write_text(json.dumps(document))
    with ls.open(store_path) as store:
        assert store["frames"].shape == (20, 2, 3)
    assert not verify(LocalLocation(store_path)).ok
    convert(source, store_path, name="other")
    assert verify(LocalLocation(store_path)).ok


def test_a_root_that_lists_an_item_that_is_gone(source: Path, store_path: Path) -> None:
    """Where neither the copy nor the item can be trusted, opening is an error."""
    convert(source, store_path)
    root = store_path / "zarr.json"
    root.write_text(root.read_text().replace('"index_sha256":"', '"index_sha256":"0'))
    (store_path / "frames/zarr.json").unlink()
    with pytest.raises(DamagedStoreError, match="lists item 'frames', which is not there"):
        ls.open(store_path)


def test_attributes_of_the_user_survive(source: Path, store_path: Path) -> None:
    """What plain zarr wrote on the root and on an item outlives commits, and is no damage."""
    convert(source, store_path)
    zarr.open_group(store_path, mode="r+").attrs["lab"] = "B12"
    zarr.open_group(store_path, path="frames", mode="r+").attrs["subject"] = "m7"
    with ls.open(store_path) as store:
        np.testing.assert_array_equal(store["frames"].load(), FRAMES)
    convert(source, store_path, name="other")
    assert zarr.open_group(store_path, mode="r").attrs["lab"] == "B12"
    assert zarr.open_group(store_path, path="frames", mode="r").attrs["subject"] == "m7"
    assert verify(LocalLocation(store_path)).ok, verify(LocalLocation(store_path)).findings


def test_a_commit_without_all_tasks_is_refused(store_path: Path) -> None:
    """Nothing becomes visible by mistake."""
    spec = ArraySpec("data", ("time", "x"), (8, 3), np.dtype("u1"), (2, 3), (4, 3), Codec())
    plan = ItemPlan("a", "g1", (spec,), 4, 8, {"generation": "g1"})
    with ItemWriter(LocalLocation(store_path), plan) as writer:

        def write(task: int, values: np.ndarray) -> None:
            writer.publish(stage_task(writer.location, writer.area, plan, task, {"data": values}, {}))

        write(0, np.zeros((4, 3), np.uint8))
        with pytest.raises(StoreError, match="1 of 2 tasks are not finished"):
            writer.commit([], {"generation": "g1"})
        with pytest.raises(ValueError, match=r"block of shape \(3, 3\) for a file of shape \(4, 3\)"):
            write(1, np.zeros((3, 3), np.uint8))
        write(1, np.zeros((4, 3), np.uint8))
        short = (ArraySpec("time", ("time",), (8,), np.dtype("f8"), (8,)), lambda: [np.zeros(5)])
        with pytest.raises(DamagedStoreError, match="5 rows were given for an array of 8"):
            writer.commit([short], {"generation": "g1"})
    assert read_index(LocalLocation(store_path)) is None
