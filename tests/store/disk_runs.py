"""Conversions onto disks that are too small; run by `test_disk_full` where it may mount a tmpfs.

Each disk has a share of the room that the conversion needs. When it is full, it is made larger, as if
somebody had deleted something, and the same conversion is run again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import lazystore as ls
from lazystore.errors import NoSpaceError, StoreError
from lazystore.store.location import LocalLocation
from lazystore.store.verify import verify
from tests.store.fault_runs import snapshot

PAGE = 4096
TASKS = 24


def convert(source: Path, disk: Path) -> None:
    ls.convert(source, disk / "s.zarr", name="day/movie", chunks=2, shards=4, workers=2, codec="none")


def used_pages(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_blocks - status.f_bfree


def mount(disk: Path, n_pages: int, *, again: bool = False) -> None:
    options = f"{'remount,' if again else ''}size={n_pages * PAGE},nr_inodes=0"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


def without_warning(path: Any) -> Any:
    """Free space as somebody sees it before another process takes it."""
    return shutil._ntuple_diskusage(1 << 40, 0, 1 << 40)  # type: ignore[attr-defined]  # what disk_usage gives; it has no other name


def main(folder: Path, shares: list[int]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    source, disk = folder / "movie.npy", folder / "disk"
    np.save(source, np.random.default_rng(7).integers(0, 255, (TASKS * 4, 40, 50)).astype(np.uint8))
    disk.mkdir()
    mount(disk, 1 << 16)
    most = 0

    def look(_: Any) -> None:
        nonlocal most
        most = max(most, used_pages(disk))

    ls.convert(
        source, disk / "s.zarr", name="day/movie", chunks=2, shards=4, workers=2, codec="none", progress=look
    )
    needed = max(most, used_pages(disk))
    wanted = snapshot(disk)
    subprocess.run(["umount", str(disk)], check=True)
    real_usage = shutil.disk_usage
    report: dict[str, Any] = {"sizes": 0, "warned": 0, "filled": 0, "fitted": 0, "problems": []}
    for share in shares:
        for is_warned in (True, False):
            shutil.disk_usage = real_usage if is_warned else without_warning
            mount(disk, max(1, needed * share // 100))
            report["sizes"] += 1
            try:
                outcome = run_once(source, disk, needed, wanted, report["problems"], f"{share} %")
                report["warned" if outcome == "filled" and is_warned else outcome] += 1
            except Exception as error:
                report["problems"].append(f"{share} %: {type(error).__name__}: {error}")
            subprocess.run(["umount", str(disk)], check=True)
    return report


def run_once(
    source: Path, disk: Path, needed: int, wanted: dict[str, str], problems: list[str], name: str
) -> str:
    outcome = "fitted"
    try:
        convert(source, disk)
    except NoSpaceError as error:
        outcome = "filled"
        if "\n" in str(error) or "free some" not in str(error):
            problems.append(f"{name}: unclear: {error}")
        try:
            with ls.open(disk / "s.zarr") as store:
                problems.append(f"{name}: opened, and holds {list(store)}")
        except StoreError:
            pass
        mount(disk, needed * 2, again=True)
        convert(source, disk)
    if snapshot(disk) != wanted:
        problems.append(f"{name}: differs from an undisturbed run")
    if not verify(LocalLocation(disk / "s.zarr")).ok:
        problems.append(f"{name}: verify")
    return outcome


if __name__ == "__main__":
    warnings.simplefilter("error")
    json.dump(main(Path(sys.argv[1]), [int(share) for share in sys.argv[2:]]), sys.stdout)
