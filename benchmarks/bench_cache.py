"""The chunk cache: hits, hit rates of loops, and playing a store much larger than the budget.

    python -m benchmarks.bench_cache [--json FILE] [--tiny] [--stress SECONDS]

Waits are the times of single ``a[i]`` calls, in milliseconds. Playback keeps to the clock: frame i is asked
for at i / fps. The first second of each playback is left out of its percentiles, as a viewer's start is.
RSS is of a process of its own that plays the store, beyond what it held after opening it and reading one
frame. Making the data is never timed; the page cache is warm.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.program import command_line, keep
from lazystore.array import LazyArray
from lazystore.cache import CachedReader, ChunkPool, Prefetcher, cached, set_cache_bytes
from lazystore.testing import ArrayChunkReader, CountingReader, SlowReader

SEED = 1
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    n_frames: int
    frame_values: int
    budget_bytes: int
    play_s: float
    n_calls: int
    n_rounds: int
    loop_chunks: int


FULL = Effort(100_000, 2_500, 64 * MEGABYTE, 8.0, 20_000, 7, 500)
TINY = Effort(400, 50, 20_000, 0.3, 50, 2, 50)

type Row = dict[str, Any]


# --- hits ---------------------------------------------------------------------------------------


def best_us(call: Callable[[], Any], effort: Effort) -> float:
    """Best round's mean time of one call, in microseconds."""
    best = float("inf")
    for _ in range(effort.n_rounds):
        start = time.perf_counter()
        for _ in range(effort.n_calls):
            call()
        best = min(best, (time.perf_counter() - start) / effort.n_calls)
    return best * 1e6


def hits(effort: Effort) -> Iterator[Row]:
    """What a chunk in memory costs, against a plain dictionary and an array in memory."""
    values = np.zeros((200, 480, 640), np.uint8)
    with_prefetch = cached(ArrayChunkReader(values, (1, 480, 640)))
    array = LazyArray(with_prefetch)
    chunks = {(i, 0, 0): with_prefetch.read_chunk((i, 0, 0)) for i in range(len(values))}
    frames = itertools.cycle(range(len(values)))
    calls: dict[str, Callable[[], Any]] = {
        "dictionary": lambda: chunks[3, 0, 0],
        "numpy a[i]": lambda: values[next(frames)],
        "read_chunk, the same chunk": lambda: with_prefetch.read_chunk((3, 0, 0)),
        "read_chunk, the next chunk": lambda: with_prefetch.read_chunk((next(frames), 0, 0)),
        "LazyArray a[i], the next chunk": lambda: array[next(frames)],
        "LazyArray asarray(a[i:i+1])": lambda: np.asarray(array[(i := next(frames)) : i + 1]),
    }
    for case, call in calls.items():
        yield {"group": "hit", "case": case, "us": best_us(call, effort)}
    with_prefetch.close()


# --- hit rates ----------------------------------------------------------------------------------


def belady_hits(trace: Sequence[int], capacity: int) -> int:
    """Hits of the best offline policy."""
    next_use, seen = [float("inf")] * len(trace), {}
    for place in reversed(range(len(trace))):
        next_use[place] = seen.get(trace[place], float("inf"))
        seen[trace[place]] = place
    held: dict[int, float] = {}
    n_hits = 0
    for place, number in enumerate(trace):
        n_hits += number in held
        if number not in held and len(held) >= capacity:
            del held[max(held, key=held.__getitem__)]
        held[number] = next_use[place]
    return n_hits


def lru_hits(trace: Sequence[int], capacity: int) -> int:
    """Hits of plain least-recently-used."""
    held: dict[int, None] = {}
    n_hits = 0
    for number in trace:
        n_hits += number in held
        held.pop(number, None)
        held[number] = None
        if len(held) > capacity:
            del held[next(iter(held))]
    return n_hits


def hit_rates(effort: Effort) -> Iterator[Row]:
    """Demands alone, without prefetch, over a movie ten times the budget."""
    n = effort.loop_chunks
    choice = np.random.default_rng(SEED)
    traces = {
        "loop over the movie": [*range(n)] * 8,
        "loop backward": [*range(n)][::-1] * 8,
        "loop over 60% of it": [*range(n // 5), *([*range(n // 5, n * 4 // 5)] * 10)],
        "there and back": [*range(n), *range(n - 1, -1, -1)] * 4,
        "clicks while playing": [
            min(i, n - 1) for start in choice.integers(0, n, 60) for i in range(start, start + n // 12)
        ],
        "favourites": [int(k) * 37 % n for k in np.minimum(choice.zipf(1.3, 4000), n - 1)],
    }
    values = np.zeros((n, 8))
    capacity = n // 10
    for case, trace in traces.items():
        pool = ChunkPool(capacity * 64)
        reader = CachedReader(ArrayChunkReader(values, (1, 8)), pool=pool, prefetch=False)
        for number in trace:
            reader.read_chunk((number, 0))
        yield {
            "group": "hit rate",
            "case": case,
            "ours": reader.cache_info().hit_rate,
            "lru": lru_hits(trace, capacity) / len(trace),
            "best possible": belady_hits(trace, capacity) / len(trace),
        }
        reader.close()


# --- playback -----------------------------------------------------------------------------------


def play(read: Callable[[int], Any], path: Iterable[int], fps: float) -> list[float]:
    """Ask for frames by the clock; the seconds that each call took."""
    waits = []
    start = time.perf_counter()
    for i, frame_index in enumerate(path):
        due = start + i / fps
        if (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        asked = time.perf_counter()
        read(frame_index)
        waits.append(time.perf_counter() - asked)
    return waits


def waits_row(waits: Sequence[float], fps: float) -> Row:
    """Percentiles after the first second, in ms; stalls are waits of more than a frame's time."""
    settled = np.array(waits[min(int(fps), len(waits) // 2) :]) * 1e3
    p50, p95, p99 = np.percentile(settled, (50, 95, 99))
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "max_ms": float(settled.max()),
        "stalls": int((settled > 1e3 / fps).sum()),
    }


def paths(n_frames: int, n_steps: int) -> dict[str, tuple[list[int], float]]:
    """Recorded ways through a movie: frame numbers, and frames a second."""
    choice = np.random.default_rng(SEED)
    starts = choice.integers(0, n_frames, max(1, n_steps // 60 + 1)).tolist()
    jumps = [(start + i) % n_frames for start in starts for i in range(60)]
    middle = n_frames // 2
    return {
        "forward, 60 fps": ([i % n_frames for i in range(middle, middle + n_steps)], 60.0),
        "backward, 60 fps": ([i % n_frames for i in range(middle, middle - n_steps, -1)], 60.0),
        "every 10th, 60 fps": ([i * 10 % n_frames for i in range(n_steps)], 60.0),
        "a jump each second, 60 fps": (jumps[:n_steps], 60.0),
    }


def slow_stores(effort: Effort) -> Iterator[Row]:
    """Playing from a store that is far away, with and without reading ahead."""
    n_steps = int(effort.play_s / 2 * 30)
    values = np.zeros((max(600, n_steps), 100), np.uint8)
    for delay_ms in (1, 10, 50):
        for prefetch in (True, False):
            below = CountingReader(SlowReader(ArrayChunkReader(values, (1, 100)), delay_ms / 1e3))
            prefetcher = Prefetcher()
            reader = CachedReader(
                below, pool=ChunkPool(10 * MEGABYTE), prefetcher=prefetcher, prefetch=prefetch
            )
            waits = play(LazyArray(reader).__getitem__, range(n_steps), 30.0)
            yield {
                "group": "slow store",
                "case": f"{delay_ms} ms away, 30 fps, {'prefetch' if prefetch else 'no prefetch'}",
                **waits_row(waits, 30.0),
                "requests": below.calls,
                **counts_of(reader),
            }
            reader.close()


def counts_of(reader: Any) -> Row:
    """The cache's own numbers."""
    info = reader.cache_info()
    return {
        "hit_rate": info.hit_rate,
        "prefetched": info.prefetched,
        "prefetch_used": info.prefetch_used,
        "prefetch_cancelled": info.prefetch_cancelled,
        "evictions": info.evictions,
    }


def rss_bytes() -> int:
    """Resident memory of this process."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import psutil

        return int(psutil.Process().memory_info().rss)


class PeakMemory:
    """Largest resident memory while it is entered."""

    def __enter__(self) -> PeakMemory:
        self.peak = rss_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, rss_bytes())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def play_store(store: Path, effort: Effort) -> Iterator[Row]:
    """Run in a process of its own: play an item of a store with a budget much smaller than the item."""
    import lazystore

    opened = time.perf_counter()
    session = lazystore.open(store, cache_bytes=effort.budget_bytes)
    array = session["fields"]
    array[0]
    first_frame_ms = (time.perf_counter() - opened) * 1e3
    before = rss_bytes()
    n_steps = int(effort.play_s * 60)
    facts = {
        "first_frame_ms": first_frame_ms,
        "data_bytes": array.nbytes,
        "budget_bytes": effort.budget_bytes,
    }
    for case, (path, fps) in paths(len(array), n_steps).items():
        with PeakMemory() as memory:
            waits = play(array.__getitem__, path, fps)
        yield {
            "group": "store",
            "case": case,
            **waits_row(waits, fps),
            "rss_over_start_bytes": memory.peak - before,
            **facts,
            **counts_of(array.reader),
        }
    array.close()
    with PeakMemory() as memory:
        start = time.perf_counter()
        for _ in range(3):
            for frame_index in range(len(array)):
                array[frame_index]
        seconds = time.perf_counter() - start
    yield {
        "group": "store",
        "case": "three laps, no clock",
        "frames_per_s": 3 * len(array) / seconds,
        "rss_over_start_bytes": memory.peak - before,
        **facts,
        **counts_of(array.reader),
    }
    session.close()


def real_store(effort: Effort) -> Iterator[Row]:
    """A store of smooth fields, converted here, played in another process."""
    with tempfile.TemporaryDirectory() as folder:
        source, store = Path(folder) / "fields.npy", Path(folder) / "session.zarr"
        values = np.lib.format.open_memmap(source, "w+", np.float32, (effort.n_frames, effort.frame_values))
        choice = np.random.default_rng(SEED)
        for start in range(0, effort.n_frames, 1000):
            part = values[start : start + 1000]
            part[:] = np.cumsum(choice.normal(size=part.shape), axis=0).astype(np.float32)
        values.flush()
        del values
        import lazystore

        lazystore.convert(source, store, name="fields")
        command = [sys.executable, "-m", "benchmarks.bench_cache", "--play", str(store)]
        if effort is TINY:
            command.append("--tiny")
        played = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        yield from json.loads(played.stdout)


# --- the bound, under stress --------------------------------------------------------------------


def stress(seconds: float) -> Iterator[Row]:
    """Eight threads for a while: the most that was ever held and reserved, and what the process grew by."""
    budget = 64 * MEGABYTE
    frame = np.random.default_rng(SEED).integers(0, 255, 250_000, np.uint8)

    class Fresh(ArrayChunkReader):
        def read_chunk(self, chunk_index: tuple[int, ...]) -> Any:
            super().read_chunk(chunk_index)
            return frame[None] + np.uint8(chunk_index[0] % 7)

    pool, prefetcher = ChunkPool(budget), Prefetcher()
    shape = np.broadcast_to(np.uint8(0), (2000, 1))
    reader = Fresh(shape, (1, 1))
    reader._spec = type(reader.spec)(
        "data", ("time", "x"), (2000, len(frame)), np.dtype("u1"), (1, len(frame))
    )
    shared = CachedReader(reader, pool=pool, prefetcher=prefetcher)
    stop_at = time.monotonic() + seconds
    before, most, n_reads = rss_bytes(), 0, 0

    def run(seed: int) -> None:
        nonlocal most, n_reads
        choice = np.random.default_rng(seed)
        place = int(choice.integers(2000))
        while time.monotonic() < stop_at:
            place = (place + 1) % 2000 if choice.random() < 0.95 else int(choice.integers(2000))
            shared.read_chunk((place, 0))
            n_reads += 1
            most = max(most, pool.resident_bytes + pool.reserved_bytes)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    with PeakMemory() as memory:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    shared.close()
    yield {
        "group": "stress",
        "case": f"8 threads, {seconds:g} s",
        "reads": n_reads,
        "most_held_over_budget": most / budget,
        "rss_growth_over_budget": (memory.peak - before) / budget,
    }


# --- the program --------------------------------------------------------------------------------


def report(rows: Sequence[Row]) -> str:
    """The tables, one a group."""
    lines = []
    for group, members in itertools.groupby(rows, key=lambda row: row["group"]):
        listed = list(members)
        names = list(dict.fromkeys(name for row in listed for name in row if name not in ("group", "case")))
        lines.append(f"\n{group:<40}" + "".join(f"{name:>20}"[-20:] for name in names))
        for row in listed:
            cells = [row.get(name, "") for name in names]
            texts = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
            lines.append(f"  {row['case']:<38}" + "".join(f"{text:>20}" for text in texts))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = command_line(__doc__)
    parser.add_argument("--stress", type=float, metavar="SECONDS", help="how long eight threads run (5)")
    parser.add_argument("--play", type=Path, metavar="STORE", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    effort = TINY if options.tiny else FULL
    if options.play:
        rows = list(play_store(options.play, effort))
        print(json.dumps(rows))
        return rows
    set_cache_bytes(512 * MEGABYTE)
    rows = [
        *hits(effort),
        *hit_rates(effort),
        *slow_stores(effort),
        *real_store(effort),
        *stress(options.stress or (0.2 if options.tiny else 5.0)),
    ]
    print(report(rows))
    keep(options.json, "cache", rows, packages=("numpy", "numcodecs"), seed=SEED, effort=asdict(effort))
    return rows


if __name__ == "__main__":
    main()
