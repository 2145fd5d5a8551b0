"""Event windows and frames: what they cost, and that it does not grow with the recording.

    python benchmarks/bench_events.py [--json FILE] [--tiny] [--skip-stores]

Recordings are made: a rate of 10 million events a second on a 1280 x 720 sensor, so that a window of
50,000 events lasts 5 ms. "memory" reads from arrays in RAM: what is ours to add. "cold" opens a real
store (page cache warm) and decodes chunks that nobody has asked for; "warm" asks again. numpy's mask
over whole columns stands beside them. Setting up is never timed; medians and 95th percentiles of single
calls, in milliseconds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lazystore as ls
from benchmarks.program import command_line, keep
from lazystore.events.compiling import loop_if_ready, loop_when_ready
from lazystore.events.filters import BackgroundActivity, Refractory
from lazystore.events.index import index_of_readers
from lazystore.events.modes import decay_tables
from lazystore.events.stream import EventStream
from lazystore.events.window import read_only
from lazystore.testing.fakes import ArrayChunkReader

SEED = 1
SENSOR = (1280, 720)
EVENTS_A_US = 10
CHUNK_EVENTS = 1 << 16
WINDOW_EVENTS = 50_000
SIZES = (2_000_000, 20_000_000)
TINY_SIZES = (20_000, 40_000)

type Row = dict[str, Any]


def make_columns(n_events: int) -> dict[str, NDArray[Any]]:
    """Events of an edge that wanders over the sensor, with noise: they compress as real ones do, roughly."""
    rng = np.random.default_rng(SEED)
    t = np.arange(n_events, dtype=np.int64) // EVENTS_A_US
    x = ((t // 50 + rng.integers(0, 40, n_events)) % SENSOR[0]).astype(np.uint16)
    y = rng.integers(0, SENSOR[1], n_events).astype(np.uint16)
    return {"t": t, "x": x, "y": y, "p": (rng.random(n_events) < 0.5).astype(np.uint8)}


def stream_in_memory(columns: dict[str, NDArray[Any]], chunk_events: int) -> EventStream:
    readers = {
        name: ArrayChunkReader(values, (chunk_events,), ("event",)) for name, values in columns.items()
    }
    return EventStream(readers, index_of_readers(readers), sensor=SENSOR)


def summary(seconds: list[float]) -> Row:
    ms = np.array(seconds) * 1e3
    return {
        "median_ms": float(np.median(ms)),
        "p95_ms": float(np.percentile(ms, 95)),
        "best_ms": float(ms.min()),
        "calls": len(seconds),
    }


def timed(call: Callable[[], Any], rounds: int) -> Row:
    """Single calls after one that is not counted."""
    call()
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return summary(seconds)


def places(n_events: int, window_events: int, rounds: int) -> list[tuple[int, int]]:
    """Windows of `window_events` events at random places."""
    rng = np.random.default_rng(SEED)
    last = max(1, n_events - window_events)
    starts = rng.integers(0, last, rounds) // EVENTS_A_US
    return [(int(start), int(start) + window_events // EVENTS_A_US) for start in starts]


def bench_windows(n_events: int, window_events: int, chunk_events: int, rounds: int) -> Iterator[Row]:
    columns = make_columns(n_events)
    stream = stream_in_memory(columns, chunk_events)
    windows = places(n_events, window_events, rounds)

    def over(call: Callable[[int, int], Any]) -> Row:
        turn = iter([windows[0], *windows])
        return timed(lambda: call(*next(turn)), rounds)

    def numpy_mask(t0: int, t1: int) -> list[NDArray[Any]]:
        keep = (columns["t"] >= t0) & (columns["t"] < t1)
        return [values[keep] for values in columns.values()]

    roi = (100, 100, 400, 400)
    cases: dict[str, Callable[[int, int], Any]] = {
        "window, memory": stream.window,
        "window in session seconds, memory": lambda t0, t1: stream.window(t0 / 1e6, t1 / 1e6, unit="s"),
        "window of a region, memory": lambda t0, t1: stream.window(t0, t1, roi=roi),
        "1/50 of a window, memory": lambda t0, t1: stream.window(t0, t0 + (t1 - t0) // 50),
        "numpy mask over the columns": numpy_mask,
    }
    for name, call in cases.items():
        yield {"case": name, "events": n_events, **over(call)}


def bench_store(n_events: int, window_events: int, rounds: int, folder: Path) -> Iterator[Row]:
    """A store that `lazystore.convert` makes of an HDF5 file in evio's layout."""
    source, store = folder / f"{n_events}.h5", folder / f"{n_events}.zarr"
    stream_in_memory(make_columns(n_events), CHUNK_EVENTS).export(source)
    begin = time.perf_counter()
    ls.convert(source, store, name="events")
    seconds = time.perf_counter() - begin
    nbytes = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    yield {
        "case": "convert from HDF5", "events": n_events, "median_ms": seconds * 1e3,
        "events_per_s": n_events / seconds, "bytes_per_event": nbytes / n_events, "calls": 1,
    }  # fmt: skip

    def opened() -> Any:
        with ls.open(store) as session:
            return session["events"]

    yield {"case": "open", "events": n_events, **timed(opened, 20)}
    windows = places(n_events, window_events, rounds)
    cold, warm = [], []
    for t0, t1 in windows:
        with ls.open(store) as session:
            events = session["events"]
            events.window(0, 1)  # files and the shard's index are open, as in a viewer that runs
            for seconds_of in (cold, warm, warm):
                begin = time.perf_counter()
                events.window(t0, t1)
                seconds_of.append(time.perf_counter() - begin)
    yield {"case": "cold window, store", "events": n_events, **summary(cold)}
    yield {"case": "warm window, store", "events": n_events, **summary(warm)}
    with ls.open(store) as session:
        turn = iter(range(10**9))
        frames = session["events"].frames(window_events // EVENTS_A_US)
        yield {
            "case": "frame of the next window, store",
            "events": n_events,
            **timed(lambda: frames[next(turn) % len(frames)], min(rounds, len(frames) - 1)),
        }


def bench_kernels(window_events: int, rounds: int) -> Iterator[Row]:
    """The loops alone, into an image that is there already, and whole frames."""
    columns = {name: read_only(values) for name, values in make_columns(4 * window_events).items()}
    stream = stream_in_memory(columns, 4 * window_events)
    duration = window_events // EVENTS_A_US
    t, x, y, p = (read_only(values[:window_events]) for values in columns.values())
    planes = {
        "u2": np.zeros((1, *SENSOR[::-1]), np.uint16),
        "f4": np.zeros((2, *SENSOR[::-1]), np.float32),
        "voxel": np.zeros((5, *SENSOR[::-1]), np.float32),
        "i4": np.zeros((1, *SENSOR[::-1]), np.int32),
        "u1": np.full((1, *SENSOR[::-1]), 127, np.uint8),
    }
    low_high = decay_tables(5 * duration, duration)
    arguments: dict[str, tuple[Any, ...]] = {
        "count_events:u2": (0, 65_535, planes["u2"]),
        "sum_signs": (planes["i4"],),
        "mark_polarity": (planes["u1"],),
        "sum_exponential": (duration, *low_high, 1, planes["f4"]),
        "sum_linear": (duration, float(duration), 1, planes["f4"]),
        "latest_surface": (duration, *low_high, 1, planes["f4"]),
        "fill_voxels": (0, 4 / duration, planes["voxel"]),
    }
    for name, rest in arguments.items():
        # The numpy version is what the first frames of a process are made with.
        for kind, loop in (("numpy", loop_if_ready(name)), ("loop", loop_when_ready(name))):
            calls = timed(lambda f=loop, r=rest: f(t, x, y, p, *r), rounds if kind == "loop" else 5)
            yield {"case": f"{kind}: {name}", "events": window_events, **calls}
    modes: dict[str, dict[str, Any]] = {
        "count": {}, "signed": {}, "polarity": {}, "decay": {"tau": duration // 5},
        "time_surface": {"tau": duration // 5}, "voxel": {},
    }  # fmt: skip
    for mode, options in modes.items():
        reader = stream.frames(duration, mode=mode, **options).reader
        make = reader.reader.read_chunk  # past the cache: each frame is made anew
        last = (1,) + (0,) * (len(reader.spec.shape) - 1)
        yield {
            "case": f"frame: {mode}",
            "events": window_events,
            **timed(lambda m=make, c=last: m(c), rounds),
        }
    for one in (Refractory(1000), BackgroundActivity(1000)):
        view = stream.filtered(one)
        name = str(one.describe()["filter"])
        yield {
            "case": f"filter: {name}",
            "events": window_events,
            **timed(lambda v=view: v.window(2 * duration, 3 * duration), rounds),
        }


def run(tiny: bool, stores: bool) -> list[Row]:
    sizes, window_events, rounds = (TINY_SIZES, 1000, 5) if tiny else (SIZES, WINDOW_EVENTS, 100)
    chunk_events = 4096 if tiny else CHUNK_EVENTS
    rows = list(bench_kernels(window_events, rounds))
    for n_events in sizes:
        rows += bench_windows(n_events, window_events, chunk_events, rounds)
        if stores:
            with tempfile.TemporaryDirectory() as folder:
                rows += bench_store(n_events, window_events, 5 if tiny else 40, Path(folder))
    return rows


def show(rows: list[Row]) -> None:
    print(f"{'case':<36} {'events':>12} {'median ms':>10} {'p95 ms':>10} {'best ms':>10}")
    for row in rows:
        times = "".join(f" {row.get(k, float('nan')):>10.4f}" for k in ("median_ms", "p95_ms", "best_ms"))
        print(f"{row['case']:<36} {row['events']:>12,}{times}")
        if "bytes_per_event" in row:
            print(
                f"{'':<36} {row['events_per_s'] / 1e6:.2f} Mev/s, {row['bytes_per_event']:.3f} bytes an event"
            )


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--skip-stores", action="store_true", help="arrays in memory only")
    options = parser.parse_args()
    rows = run(options.tiny, not options.skip_stores)
    show(rows)
    keep(options.json, "events", rows, packages=("numpy", "numba", "zarr", "numcodecs"), seed=SEED)


if __name__ == "__main__":
    main()
