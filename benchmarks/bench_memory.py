"""Resident memory while a movie larger than its budget is read: what comes on top of the budget.

    python -m benchmarks.bench_memory [--json FILE] [--tiny]

Every line is a process of its own. "start" is its RSS once the store is open and one frame is read; "beyond"
is the largest RSS later, less start, less the budget: program text that is needed now, stacks, free slots,
the 3 MB of a loaded window. Chunks, and what decoding them takes in each thread, are within the budget. The
same reading is done with budgets from small to large, which shows what depends on the budget and what on
the threads. RSS is looked at every 20 ms, nothing is timed, and what callers get they drop at once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_cache import MEGABYTE, PeakMemory, rss_bytes
from benchmarks.program import command_line, keep

SEED = 1

type Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is read: frames of `frame_values` float32, at most `read_s` seconds a process."""

    n_frames: int
    frame_values: int
    budgets: Sequence[int]
    read_s: float


FULL = Effort(100_000, 2_500, (16 * MEGABYTE, 64 * MEGABYTE, 256 * MEGABYTE), 5.0)
TINY = Effort(600, 500, (200_000,), 0.2)


# --- what is read -------------------------------------------------------------------------------


def play_round(array: Any, goes_on: Callable[[], bool], seed: int) -> None:
    """One frame after the other, round and round, as fast as it goes."""
    place = 0
    while goes_on():
        for _ in range(64):
            array[place % len(array)]
            place += 1


def play_with_jumps(array: Any, goes_on: Callable[[], bool], seed: int) -> None:
    """A frame of each chunk in order, and a jump every twenty frames."""
    choice = np.random.default_rng(seed)
    step = array.chunks[0]
    place = int(choice.integers(len(array)))
    while goes_on():
        place = place + step if choice.random() < 0.95 else int(choice.integers(len(array)))
        array[place % len(array)]


def load_windows(array: Any, goes_on: Callable[[], bool], seed: int) -> None:
    """Ten chunks at once, anywhere."""
    choice = np.random.default_rng(seed)
    length = min(len(array), 10 * array.chunks[0])
    while goes_on():
        start = int(choice.integers(len(array) - length + 1))
        array[start : start + length].load()


READINGS: dict[str, tuple[Callable[..., None], int]] = {
    "play in a loop": (play_round, 1),
    "play and jump, 1 thread": (play_with_jumps, 1),
    "play and jump, 8 threads": (play_with_jumps, 8),
    "load windows of 10 chunks": (load_windows, 1),
}


# --- measuring, in a process of its own -----------------------------------------------------------


def measure(store: Path, reading: str, budget_bytes: int, read_s: float) -> Row:
    """Open, read one frame, read on for a while."""
    import lazystore

    np.random.default_rng(SEED)  # what this program imports for itself is not counted
    with lazystore.open(store, cache_bytes=budget_bytes) as session:
        array = session["fields"]
        array[0]
        start = rss_bytes()
        end = time.monotonic() + read_s
        read, n_threads = READINGS[reading]

        def run(seed: int) -> None:
            read(array, lambda: time.monotonic() < end, seed)

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(n_threads)]
        with PeakMemory() as memory:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        info = array.reader.cache_info()
    grown = memory.peak - start
    return {
        "case": reading,
        "budget_mb": budget_bytes / MEGABYTE,
        "start_mb": start / MEGABYTE,
        "peak_mb": memory.peak / MEGABYTE,
        "beyond_mb": (grown - budget_bytes) / MEGABYTE,
        "grown_over_budget": grown / budget_bytes,
        "closed_mb": rss_bytes() / MEGABYTE,
        "chunks_read": info.misses + info.prefetched,
        "hit_rate": info.hit_rate,
        "evictions": info.evictions,
    }


# --- the program --------------------------------------------------------------------------------


def run_all(effort: Effort) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), effort)
        for reading in READINGS:
            for budget_bytes in effort.budgets:
                command = [sys.executable, "-m", "benchmarks.bench_memory", "--measure", str(store), reading]
                command += [str(budget_bytes), str(effort.read_s)]
                yield json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def make_store(folder: Path, effort: Effort) -> Path:
    """Fields that walk at random, in a store."""
    import lazystore

    source, store = folder / "fields.npy", folder / "session.zarr"
    shape = (effort.n_frames, effort.frame_values)
    values = np.lib.format.open_memmap(source, "w+", np.float32, shape)
    choice = np.random.default_rng(SEED)
    for start in range(0, len(values), 1000):
        part = values[start : start + 1000]
        part[:] = np.cumsum(choice.standard_normal(part.shape, np.float32), axis=0)
    values.flush()
    del values
    lazystore.convert(source, store, name="fields", chunks=32)
    return store


def report(rows: Sequence[Row]) -> str:
    """The table."""
    columns = {
        "budget_mb": "budget MB", "start_mb": "start", "peak_mb": "peak", "beyond_mb": "beyond",
        "grown_over_budget": "grown/budget", "closed_mb": "closed", "chunks_read": "chunks",
        "hit_rate": "hit rate",
    }  # fmt: skip
    lines = [f"\n{'resident memory':<28}" + "".join(f"{name:>13}" for name in columns.values())]
    for row in rows:
        cells = [f"{row[name]:.4g}" for name in columns]
        lines.append(f"  {row['case']:<26}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = command_line(__doc__)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        store, reading, budget_bytes, read_s = options.measure
        rows = [measure(Path(store), reading, int(budget_bytes), float(read_s))]
        print(json.dumps(rows[0]))
        return rows
    effort = TINY if options.tiny else FULL
    rows = list(run_all(effort))
    print(report(rows))
    keep(options.json, "memory", rows, packages=("numpy", "numcodecs"), seed=SEED, effort=asdict(effort))
    return rows


if __name__ == "__main__":
    main()
