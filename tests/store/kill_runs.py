"""Conversions that are killed at random moments; run as a script by `test_kills`.

One process imports and compiles everything, then forks a child a kill.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import lazystore as ls
from lazystore.errors import DamagedStoreError, StoreError
from lazystore.store.location import LocalLocation
from lazystore.store.verify import verify
from tests.store.fault_runs import snapshot

TASKS, WORKERS = 40, 2
MOVIE = np.random.default_rng(3).integers(0, 9, (TASKS * 4, 24, 24)).astype(np.uint8)


def convert(folder: Path) -> Any:
    return ls.convert(
        folder / "movie.npy", folder / "s.zarr", name="day/movie", chunks=2, shards=4, workers=WORKERS
    ).items[0]


def start_child(folder: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            convert(folder)
        finally:
            os._exit(0)
    return child


def new_folder(folder: Path, source: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy2(source, folder / "movie.npy")


def read(folder: Path) -> str:
    try:
        store: Any = ls.open(folder / "s.zarr")
    except DamagedStoreError:
        raise
    except StoreError:
        return "refused"
    with store:
        if "day/movie" not in store:
            return "refused"
        assert np.array_equal(store.array_values("day/movie", "data"), MOVIE)
        return "whole"


def main(folder: Path, n_kills: int, seed: int) -> dict[str, Any]:
    chance = random.Random(seed)
    source = folder / "source.npy"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(source, MOVIE)
    work = folder / "work"
    new_folder(work, source)
    convert(work)
    wanted = snapshot(work)
    times_s = []
    for _ in range(3):  # the quickest: one that was held up would let most kills come too late
        new_folder(work, source)
        began = time.monotonic()
        os.waitpid(start_child(work), 0)
        times_s.append(time.monotonic() - began)
        assert snapshot(work) == wanted
    whole_s = min(times_s)
    report: dict[str, Any] = {"refused": 0, "whole": 0, "redone": [], "problems": []}
    for number in range(n_kills):
        new_folder(work, source)
        child = start_child(work)
        time.sleep(chance.uniform(0.02, 1.05) * whole_s)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            report[read(work)] += 1
            shards = len([p for p in (work / "s.zarr").glob("day/movie/data/c/*/0/0") if p.name[0] != "."])
            done = convert(work).tasks_done
            report["redone"].append(done - (TASKS - shards))
            if snapshot(work) != wanted:
                report["problems"].append(f"kill {number}: differs from an undisturbed run")
            if not verify(LocalLocation(work / "s.zarr")).ok:
                report["problems"].append(f"kill {number}: verify")
        except Exception as error:
            report["problems"].append(f"kill {number}: {type(error).__name__}: {error}")
    return report


def kill_at(folder: Path, share: float) -> int:
    """Shards that are done again after a kill when this share of the tasks has a record."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "source.npy"
    np.save(source, MOVIE)
    work = folder / "work"
    new_folder(work, source)
    convert(work)
    new_folder(work, source)
    child = start_child(work)
    records = work / "s.zarr.progress" / "day%2Fmovie" / "records"
    while not records.is_dir() or len([n for n in os.listdir(records) if n.isdigit()]) < share * TASKS:
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    shards = len([p for p in (work / "s.zarr").glob("day/movie/data/c/*/0/0") if p.name[0] != "."])
    done: int = convert(work).tasks_done
    return done - (TASKS - shards)


if __name__ == "__main__":
    warnings.simplefilter("error")
    mode, where, *numbers = sys.argv[1:]
    if mode == "random":
        json.dump(main(Path(where), *map(int, numbers)), sys.stdout)
    else:
        json.dump(kill_at(Path(where), float(numbers[0])), sys.stdout)
