"""Event recordings of 2, 20 and 200 million events: conversion, memory, and what reading costs with length.

    python -m benchmarks.bench_events_scale [--json FILE] [--tiny] [--events 2e6,20e6,200e6]

A real RAW EVT2 recording is tiled with time offsets (LAZYSTORE_CORPUS; made words where it is unset),
and converted in a child process, whose peak memory is its own. Reads are from a store that was just
written, so the page cache is warm; "cold" means that nothing of a window is decoded yet.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import lazystore as ls

WINDOW_EVENTS = 50_000
REPEATS = 25
TIME_HIGH, CD_ON = 0x8, 0x1

CHILD = """
import json, resource, sys, time
import lazystore as ls
began = time.perf_counter()
report = ls.convert(sys.argv[1], sys.argv[2], name="events")
seconds = time.perf_counter() - began
item = report.items[0]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds, "events": item.records, "stored": item.stored_bytes, "rss": peak}))
"""


def template() -> tuple[bytes, np.ndarray]:
    """Header and words of one stretch of recording."""
    corpus = os.environ.get("LAZYSTORE_CORPUS")
    if corpus:
        content = (Path(corpus) / "events" / "faery_evt2.raw").read_bytes()
        end = 0
        while content[end : end + 1] == b"%":
            end = content.index(b"\n", end) + 1
        return content[:end], np.frombuffer(content[end:], "<u4")
    rng = np.random.default_rng(0)
    steps = np.arange(500, dtype=np.uint32)[:, None]
    high = (TIME_HIGH << 28) | steps
    low = np.sort(rng.integers(0, 64, (500, 200), dtype=np.uint32), axis=1) << 22
    x, y = rng.integers(0, 640, low.shape, dtype=np.uint32), rng.integers(0, 480, low.shape, dtype=np.uint32)
    events = (rng.integers(0, 2, low.shape, dtype=np.uint32) << 28) | low | (x << 11) | y
    header = b"% evt 2.0\n% format EVT2;height=480;width=640\n% geometry 640x480\n% end\n"
    return header, np.concatenate([high, events], axis=1).ravel()


def write_tiled(path: Path, n_events: int) -> None:
    """The template again and again, each time later; at least `n_events` events."""
    header, words = template()
    kinds = words >> 28
    is_high = kinds == TIME_HIGH
    per_tile = int((kinds <= CD_ON).sum())
    highs = words[is_high] & 0x0FFFFFFF
    span = int(highs.max() - highs.min()) + 2
    with path.open("wb") as file:
        file.write(header)
        for tile in range(max(1, -(-n_events // per_tile))):
            shifted = words.copy()
            shifted[is_high] += np.uint32(tile * span)
            file.write(shifted.tobytes())


def measure(n_events: int, folder: Path) -> dict[str, Any]:
    """One length: conversion in a child, then open, cold and warm windows, a frame."""
    source, store_path = folder / "events.raw", folder / f"{n_events}.zarr"
    write_tiled(source, n_events)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(source), str(store_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    done = json.loads(child.stdout)
    source.unlink()
    opens = []
    for _ in range(5):
        began = time.perf_counter()
        with ls.open(store_path) as store:
            len(store["events"])
            opens.append(time.perf_counter() - began)
    cold, warm, frames = [], [], []
    rng = np.random.default_rng(1)
    with ls.open(store_path) as store:
        stream = store["events"]
        duration = WINDOW_EVENTS * (stream.t_stop - stream.t_start) // len(stream)
        # Far enough apart that no window meets a chunk that another one decoded.
        apart = max(1, (stream.t_stop - stream.t_start) // (5 * duration))
        for place in rng.permutation(int(apart))[:REPEATS]:
            t0 = stream.t_start + int(place) * 5 * duration
            for times in (cold, warm):
                began = time.perf_counter()
                stream.window(t0, t0 + duration)
                times.append(time.perf_counter() - began)
        movie = stream.frames(int(duration), mode="count")
        for index in rng.integers(0, max(1, len(movie) - 1), REPEATS):
            stream.window(
                stream.t_start + int(index) * duration, stream.t_start + (int(index) + 1) * duration
            )
            began = time.perf_counter()
            movie[int(index)]
            frames.append(time.perf_counter() - began)
    return {
        "events": done["events"],
        "convert_mev_per_s": done["events"] / done["seconds"] / 1e6,
        "peak_rss_mb": done["rss"] / 1e6,
        "bytes_per_event": done["stored"] / done["events"],
        "open_ms": median(opens) * 1e3,
        "cold_window_ms": median(cold) * 1e3,
        "cold_window_best_ms": min(cold) * 1e3,
        "warm_window_ms": median(warm) * 1e3,
        "frame_ms": median(frames) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--events", default="2e6,20e6,200e6", help="numbers of events")
    options = parser.parse_args()
    sizes = [200_000] if options.tiny else [int(float(text)) for text in options.events.split(",")]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for size in sizes:
            rows.append(measure(size, Path(name)))
            print("  ".join(f"{key} {value:,.3f}" for key, value in rows[-1].items()), flush=True)
    if options.json:
        machine = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
        }
        options.json.write_text(
            json.dumps({"benchmark": "events_scale", "machine": machine, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
