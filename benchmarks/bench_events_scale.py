"""Event recordings of 2, 20 and 200 million events: conversion, memory, and what reading costs with length.

    python -m benchmarks.bench_events_scale [--json FILE] [--tiny] [--events 2e6,20e6,200e6]
                                            [--formats raw,hdf5] [--peer-events 26e6]

A real RAW EVT2 recording is tiled with time offsets (LAZYSTORE_CORPUS; made words where it is unset), as
RAW and as HDF5 in evio's layout and storage (chunks of 100,000, gzip 1), and converted in a child process,
whose peak memory is its own. The rate includes imports; beside it stand the seconds of the shortest file,
nearly all start-up, and the rate of the events beyond it. Reads are from a store that was just written, so
the page cache is warm. "Cold" means that no chunk of a window is decoded yet, in a stream that is open and
has answered before: files and shard indexes are as after the first look, as in a viewer that runs. A window
of 50,000 events meets two chunks or three.

Beside that, in children of their own: the same HDF5 file loaded by evlib and opened here, with a first and a
tenth window; and six recordings opened one after the other, each to its first picture, with no state kept
between them but what the process's cache holds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import lazystore as ls
from benchmarks.program import command_line, keep
from lazystore.events.compiling import loop_when_ready

WINDOW_EVENTS = 50_000
REPEATS = 25
TIME_HIGH, CD_ON = 0x8, 0x1

PRELUDE = """import json, sys, time

def peak_mb():
    try:  # not ru_maxrss, which starts from the parent's on Linux
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM"))
    except OSError:
        import resource
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
"""

CHILD = """
import lazystore as ls
began = time.perf_counter()
report = ls.convert(sys.argv[1], sys.argv[2], name="events")
seconds = time.perf_counter() - began
item = report.items[0]
print(json.dumps({"seconds": seconds, "events": item.records, "stored": item.stored_bytes, "rss": peak_mb()}))
"""

OURS = """
import lazystore as ls
seconds = {}
for name in ("open_with_imports_ms", "open_ms"):
    began = time.perf_counter()
    store = ls.open(sys.argv[1])
    stream = store["events"]
    seconds[name] = (time.perf_counter() - began) * 1e3
duration = int(sys.argv[2]) * (stream.t_stop - stream.t_start) // len(stream)
for number in range(1, 11):
    t0 = stream.t_start + (stream.t_stop - stream.t_start) * number // 12
    began = time.perf_counter()
    window = stream.window(t0, t0 + duration)
    if number in (1, 10):
        seconds[f"window_{number}_ms"] = (time.perf_counter() - began) * 1e3
seconds["rss_mb"] = peak_mb()
print(json.dumps(seconds))
"""

EVLIB = """
import evlib, polars
began = time.perf_counter()
table = evlib.load_events(sys.argv[1]).collect()
seconds = {"open_ms": (time.perf_counter() - began) * 1e3}
t = table["t"].dt.total_microseconds()
first, last = t[0], t[-1] + 1
duration = int(sys.argv[2]) * (last - first) // len(table)
for number in range(1, 11):
    t0 = first + (last - first) * number // 12
    low, high = (polars.duration(microseconds=edge, time_unit="us") for edge in (t0, t0 + duration))
    began = time.perf_counter()
    window = table.filter((polars.col("t") >= low) & (polars.col("t") < high))
    if number in (1, 10):
        seconds[f"window_{number}_ms"] = (time.perf_counter() - began) * 1e3
seconds["rss_mb"] = peak_mb()
print(json.dumps(seconds))
"""

SWITCH = """
import lazystore as ls
times = []
for path in sys.argv[2:] * 2:
    began = time.perf_counter()
    with ls.open(path) as store:
        stream = store["events"]
        duration = int(sys.argv[1]) * (stream.t_stop - stream.t_start) // len(stream)
        picture = stream.frames(duration, mode="polarity")[0]
    times.append((time.perf_counter() - began) * 1e3)
assert (picture != 127).any()
peak = peak_mb()
print(json.dumps({"very_first_ms": times[0], "slowest_other_ms": max(times[1:]), "rss_mb": peak}))
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


def write_tiled_hdf5(path: Path, n_events: int) -> None:
    """The same events in evio's layout."""
    import h5py

    _, words = template()
    is_high, is_event = words >> 28 == TIME_HIGH, words >> 28 <= CD_ON
    # Number of the last TIME_HIGH before each word; events before the first one have no time.
    latest = np.maximum.accumulate(np.where(is_high, np.arange(len(words)), -1))
    is_event &= latest >= 0
    high = (words[latest[is_event]] & 0x0FFFFFFF).astype(np.int64)
    words = words[is_event]
    t = high << 6 | (words >> 22 & 63)
    columns = {"t": t, "x": words >> 11 & 2047, "y": words & 2047, "p": words >> 28}
    tiles, span = max(1, -(-n_events // len(t))), int(t.max() - t.min()) + 64
    with h5py.File(path, "w") as file:
        file.attrs["width"], file.attrs["height"] = 640, 480
        for (name, values), dtype in zip(columns.items(), ("i8", "u2", "u2", "i1"), strict=True):
            dataset = file.create_dataset(
                f"events/{name}", (tiles * len(t),), dtype, chunks=(100_000,), compression="gzip",
                compression_opts=1,
            )  # fmt: skip
            for tile in range(tiles):
                moved = values + tile * span if name == "t" else values
                dataset[tile * len(t) : (tile + 1) * len(t)] = moved.astype(dtype)


WRITERS = {"raw": (".raw", write_tiled), "hdf5": (".h5", write_tiled_hdf5)}


def in_child(code: str, *arguments: object) -> dict[str, Any]:
    """What a fresh process prints."""
    command = [sys.executable, "-c", PRELUDE + code, *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def against_evlib(n_events: int, folder: Path) -> list[dict[str, Any]]:
    """Opening and windows of one HDF5 file, by evlib and from a store made of it."""
    source, store = folder / "peer.h5", folder / "peer.zarr"
    write_tiled_hdf5(source, n_events)
    converted = in_child(CHILD, source, store)
    ours = in_child(OURS, store, WINDOW_EVENTS)
    shared = {"group": "peer", "events": converted["events"]}
    rows = [{"case": "lazystore", **shared, "convert_s": converted["seconds"], **ours}]
    if find_spec("evlib"):
        rows.append({"case": "evlib", **shared, **in_child(EVLIB, source, WINDOW_EVENTS)})
    source.unlink()
    return rows


def switching(n_events: int, folder: Path) -> list[dict[str, Any]]:
    """Six recordings, one after the other, twice; the second time round some chunks are still decoded."""
    source, stores = folder / "one.raw", [folder / f"six-{number}.zarr" for number in range(6)]
    write_tiled(source, n_events)
    in_child(CHILD, source, stores[0])
    for store in stores[1:]:
        shutil.copytree(stores[0], store)
    source.unlink()
    row = {"case": "six recordings", "group": "six", "events": n_events}
    return [{**row, **in_child(SWITCH, WINDOW_EVENTS, *stores)}]


def further_rate(done: dict[str, Any], shortest: dict[str, Any]) -> dict[str, float]:
    """Million events a second of those that a recording has beyond the shortest one."""
    events, seconds = (done[name] - shortest[name] for name in ("events", "seconds"))
    return {"further_mev_per_s": events / seconds / 1e6} if events > 0 and seconds > 0 else {}


def measure(n_events: int, folder: Path, file_format: str) -> list[dict[str, Any]]:
    """One length: conversion in a child, then open, cold and warm windows, a frame."""
    ending, write = WRITERS[file_format]
    source, store_path = folder / f"events{ending}", folder / f"{n_events}-{file_format}.zarr"
    # The shortest file, 0.5 million events: what a conversion takes before it is about its events.
    write(source, 1)
    shortest = in_child(CHILD, source, store_path)
    source.unlink()
    shutil.rmtree(store_path)
    write(source, n_events)
    done = in_child(CHILD, source, store_path)
    source.unlink()
    for path in store_path.rglob("*"):
        if path.is_file():
            path.read_bytes()  # into the page cache, from which some systems take cold pages within seconds
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
        stream.window(stream.t_start, stream.t_start + 1)
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
        loop_when_ready("count_events:u2")  # the first frames of a process are made by numpy: 1 to 3 ms
        for index in rng.integers(0, max(1, len(movie) - 1), REPEATS):
            stream.window(
                stream.t_start + int(index) * duration, stream.t_start + (int(index) + 1) * duration
            )
            began = time.perf_counter()
            movie[int(index)]
            frames.append(time.perf_counter() - began)
    shutil.rmtree(store_path)
    return [
        {
            "case": file_format,
            "group": "length",
            "events": done["events"],
            "convert_mev_per_s": done["events"] / done["seconds"] / 1e6,
            "shortest_s": shortest["seconds"],
            **further_rate(done, shortest),
            "peak_rss_mb": done["rss"],
            "bytes_per_event": done["stored"] / done["events"],
            "open_ms": median(opens) * 1e3,
            "cold_window_ms": median(cold) * 1e3,
            "cold_window_best_ms": min(cold) * 1e3,
            "warm_window_ms": median(warm) * 1e3,
            "frame_ms": median(frames) * 1e3,
        }
    ]


def shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,.3f}"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--events", default="2e6,20e6,200e6", help="numbers of events")
    parser.add_argument("--formats", default="raw,hdf5", help="what is converted")
    parser.add_argument("--peer-events", default="26e6", help="events for evlib and the six; 0 for neither")
    options = parser.parse_args()
    sizes = [200_000] if options.tiny else [int(float(text)) for text in options.events.split(",") if text]
    peer_events = 200_000 if options.tiny else int(float(options.peer_events))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [partial(measure, size, folder, one) for size in sizes for one in options.formats.split(",")]
        if peer_events:
            jobs += [partial(against_evlib, peer_events, folder), partial(switching, peer_events, folder)]
        for job in jobs:
            for row in job():
                rows.append(row)
                print("  ".join(f"{key} {shown(value)}" for key, value in row.items()), flush=True)
    keep(options.json, "events_scale", rows, packages=("numpy", "numba", "numcodecs", "evlib"))


if __name__ == "__main__":
    main()
