"""Scrubbing fields: numpy, neurospatial's renderers, dask, zarr-python and ours, on the same data.

    python -m benchmarks.bench_playback [--json FILE] [--tiny]

Each way of reading runs in a process of its own, on each size; it reads one small movie first, so that
imports, compiling and thread pools are never timed. "values" gives the numbers of one frame, "RGB" paints
them; both are checked against numpy and neurospatial before anything is timed. The page cache is warm.
zarr-python and dask read the store that ours reads, dask as napari slices it, with napari's own settings.
Renderers start empty for random frames and again for those in order. Ours and dask's cache may hold 64 MB,
a tenth of the longest movie; np.load and neurospatial in RAM hold all of it. Slow ways do fewer
repetitions; how many is in the JSON. RSS is the process's largest, and beyond what it held once imports
and compiling were done and nothing was open; a memmap's pages count in both, as the system counts them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_cache import MEGABYTE, PeakMemory, paths, play, rss_bytes, waits_row
from benchmarks.bench_renderer import round_environment
from benchmarks.program import command_line, keep

SEED = 1
LIMITS = (-30.0, 30.0)
# Frames that both renderers keep: neurospatial's default is the same for ours.
KEPT_FRAMES = 1000
# What the tables show, and under which heading; the JSON has everything.
COLUMNS = {
    "create_ms": "create", "first_frame_ms": "1st frame", "random_p50_ms": "random", "random_p95_ms": "p95",
    "random_p99_ms": "p99", "sequential_p50_ms": "in order", "sequential_p99_ms": "p99",
    "sequential_frames_per_s": "frames/s", "p50_ms": "p50", "p95_ms": "p95", "p99_ms": "p99",
    "max_ms": "longest", "stalls": "stalls", "frames_per_s": "frames/s", "laps": "laps",
    "read_calls_per_frame": "reads", "read_bytes_per_frame": "bytes", "random_hit_rate": "hit rate",
    "chunks_read": "chunks", "hit_rate": "hit rate", "evictions": "evicted", "rss_mb": "RSS MB",
    "rss_over_start_mb": "growth MB",
}  # fmt: skip

type Row = dict[str, Any]
type Read = Callable[[int], Any]
# What a way gives: a function of a frame's number, one that closes, and our cached reader if there is one.
type Opened = tuple[Read, Callable[[], object], Any]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured; `sizes` are (frames, bins, side of the square around them)."""

    sizes: Sequence[tuple[int, int, int]]
    budget_bytes: int
    n_openings: int
    n_random: int
    n_sequential: int
    limit_s: float
    play_s: float
    loop_s: float


FULL = Effort(
    ((1_000, 1_681, 41), (1_000, 8_682, 110), (1_000, 17_103, 150),
     (10_000, 1_681, 41), (10_000, 8_682, 110), (100_000, 1_681, 41)),
    64 * MEGABYTE, 7, 500, 3_000, 0.8, 3.0, 3.0,
)  # fmt: skip
TINY = Effort(((200, 30, 7),), 100_000, 2, 10, 20, 0.1, 0.05, 0.02)


# --- the ways -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Movie:
    """One movie in its two forms, and what it is painted with."""

    source: Path
    store: Path
    env: Any
    lookup: Any
    budget_bytes: int


def zarr_array(movie: Movie) -> Any:
    import zarr

    return zarr.open_group(movie.store, mode="r")["fields"]["data"]


def painted(movie: Movie, read: Read) -> Read:
    """As a user paints one frame who has no renderer."""
    from neurospatial.animation.rendering import field_to_rgb_for_napari

    return lambda i: field_to_rgb_for_napari(movie.env, read(i), movie.lookup, *LIMITS)


def nothing() -> None:
    """For what needs no closing."""


def numpy_load(movie: Movie) -> Opened:
    values = np.load(movie.source)
    return lambda i: np.array(values[i]), nothing, None


def numpy_memmap(movie: Movie) -> Opened:
    values = np.load(movie.source, mmap_mode="r")
    return lambda i: np.array(values[i]), nothing, None


def zarr_values(movie: Movie) -> Opened:
    return zarr_array(movie).__getitem__, nothing, None


def our_values(movie: Movie) -> Opened:
    import lazystore

    session = lazystore.open(movie.store, cache_bytes=movie.budget_bytes)
    array = session["fields"]
    return array.__getitem__, session.close, array.reader


def theirs_over(mmap_mode: Any, *, chunked: bool = False) -> Callable[[Movie], Opened]:
    """neurospatial's renderers with their defaults; it takes the chunked one above 10,000 frames."""

    def open_renderer(movie: Movie) -> Opened:
        from neurospatial.animation.backends import napari_backend

        values = np.load(movie.source, mmap_mode=mmap_mode)
        kind = napari_backend.ChunkedLazyFieldRenderer if chunked else napari_backend.LazyFieldRenderer
        renderer = kind(movie.env, values, movie.lookup, *LIMITS)
        return renderer.__getitem__, nothing, None

    return open_renderer


def zarr_painted(movie: Movie) -> Opened:
    return painted(movie, zarr_array(movie).__getitem__), nothing, None


def dask_painted(movie: Movie) -> Opened:
    import dask.array as da
    from napari.utils._dask_utils import configure_dask, resize_dask_cache

    resize_dask_cache(movie.budget_bytes)
    stored = zarr_array(movie)
    lazy = da.from_array(stored, chunks=stored.chunks)
    slicing = configure_dask(lazy)

    def read(i: int) -> Any:
        with slicing():
            return np.asarray(lazy[i])

    return painted(movie, read), nothing, None


def our_renderer(movie: Movie) -> Opened:
    import lazystore
    from lazystore.geometry import ACTIVE_MASK_PATH, BIN_CENTERS_PATH, Geometry

    session: Any = lazystore.open(movie.store, cache_bytes=movie.budget_bytes)
    array = session["fields"]
    arrays = {path: session.array_values("fields", path) for path in (ACTIVE_MASK_PATH, BIN_CENTERS_PATH)}
    geometry = Geometry.from_item(session.records["fields"].attributes["geometry"], arrays)
    renderer = lazystore.LazyFieldRenderer(geometry, array, movie.lookup, *LIMITS, cache_size=KEPT_FRAMES)
    return renderer.__getitem__, session.close, array.reader


WAYS: dict[str, Callable[[Movie], Opened]] = {
    "values: np.load": numpy_load,
    "values: np.memmap": numpy_memmap,
    "values: zarr-python": zarr_values,
    "values: lazystore": our_values,
    "RGB: neurospatial, in RAM": theirs_over(None),
    "RGB: neurospatial, memmap": theirs_over("r"),
    "RGB: neurospatial chunked, RAM": theirs_over(None, chunked=True),
    "RGB: zarr-python": zarr_painted,
    "RGB: dask over zarr": dask_painted,
    "RGB: lazystore": our_renderer,
}
# Played by the clock: every way that paints, and our values without painting.
PLAYED = [name for name in WAYS if name.startswith("RGB")] + ["values: lazystore"]


# --- measuring, in a process of its own -----------------------------------------------------------


def io_counts() -> tuple[int, int]:
    """Reading calls and bytes read by this process; what a memmap touches is not in them."""
    try:
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    except OSError:
        return 0, 0
    return int(fields["syscr"]), int(fields["rchar"])


def percentiles(seconds: Sequence[float], prefix: str) -> Row:
    p50, p95, p99 = np.percentile(np.array(seconds) * 1e3, (50, 95, 99))
    return {f"{prefix}_p50_ms": float(p50), f"{prefix}_p95_ms": float(p95), f"{prefix}_p99_ms": float(p99)}


def single_times(read: Read, order: Sequence[int], limit_s: float) -> list[float]:
    """Seconds of each read, until all are done or the limit is over."""
    times: list[float] = []
    end = time.perf_counter() + limit_s
    for i in order:
        start = time.perf_counter()
        read(i)
        times.append(time.perf_counter() - start)
        if start > end:
            break
    return times


def check(way: str, movie: Movie, n_frames: int) -> None:
    """Stop where a way gives something else: a fast wrong frame is no result. Compiles what will be."""
    from lazystore.render import kernels

    values = np.load(movie.source, mmap_mode="r")
    plain: Read = values.__getitem__
    expected = painted(movie, plain) if way.startswith("RGB") else plain
    read, close, _ = WAYS[way](movie)
    for i in (0, n_frames // 2, n_frames - 1):
        if not np.array_equal(read(i), expected(i)):
            raise AssertionError(f"{way}: frame {i} differs")
    if way == "RGB: lazystore":
        kernels.warm("f4")
        if not np.array_equal(read(1), expected(1)):
            raise AssertionError(f"{way}: frame 1 differs once it is painted by a compiled loop")
    close()


def measure(way: str, small: Movie, movie: Movie, n_frames: int, effort: Effort) -> Iterator[Row]:
    """One way on one movie. Each part opens it anew, and lets go of it: no movie is in memory twice."""
    check(way, small, len(np.load(small.source, mmap_mode="r")))
    held = rss_bytes()
    facts = {"n_frames": n_frames, "n_bins": int(np.load(movie.source, mmap_mode="r").shape[1])}
    with PeakMemory() as memory:
        openings = first_frames(way, movie, n_frames, effort)
    # Not while memory is watched, which reads files of its own.
    at_random, calls, n_bytes, random_counts = random_frames(way, movie, n_frames, effort)
    with PeakMemory() as later:
        in_order, in_order_counts = frames_in_order(way, movie, n_frames, effort)
    creations, firsts = np.median(openings, axis=0) * 1e3
    yield {
        "group": f"{n_frames:,} frames x {facts['n_bins']:,} bins",
        "case": way,
        **facts,
        "create_ms": float(creations),
        "first_frame_ms": float(firsts),
        "open_and_first_ms": float(np.median(np.sum(openings, axis=1))) * 1e3,
        **percentiles(at_random, "random"),
        "sequential_frames_per_s": len(in_order) / sum(in_order),
        **percentiles(in_order, "sequential"),
        "read_calls_per_frame": calls / len(at_random),
        "read_bytes_per_frame": n_bytes / len(at_random),
        **rss_row(max(memory.peak, later.peak), held),
        "n_openings": len(openings),
        "n_random": len(at_random),
        "n_sequential": len(in_order),
        **{f"random_{name}": count for name, count in random_counts.items()},
        **{f"sequential_{name}": count for name, count in in_order_counts.items()},
    }
    if way in PLAYED and n_frames == max(size[0] for size in effort.sizes):
        for trace, (path, fps) in traces(n_frames, effort.play_s).items():
            yield {
                "group": f"scrubbing: {trace}",
                "case": way,
                **facts,
                **played(way, movie, path, fps, held),
            }
        yield {"group": "scrubbing: loop, no clock", "case": way, **facts, **looped(way, movie, held, effort)}


def first_frames(way: str, movie: Movie, n_frames: int, effort: Effort) -> list[tuple[float, float]]:
    """Seconds to open and to read a frame then, of several openings."""
    openings: list[tuple[float, float]] = []
    while len(openings) < effort.n_openings and np.sum(openings) < 2 * effort.limit_s:
        openings.append(one_opening(way, movie, len(openings) * (n_frames // effort.n_openings)))
    return openings


def one_opening(way: str, movie: Movie, frame_index: int) -> tuple[float, float]:
    start = time.perf_counter()
    read, close, _ = WAYS[way](movie)
    created = time.perf_counter()
    read(frame_index)
    shown = time.perf_counter()
    close()
    return created - start, shown - created


def random_frames(way: str, movie: Movie, n_frames: int, effort: Effort) -> tuple[list[float], int, int, Row]:
    """Seconds of each frame, reading calls and bytes, and our cache's numbers."""
    read, close, reader = WAYS[way](movie)
    order = np.random.default_rng(SEED).permutation(n_frames)[: effort.n_random].tolist()
    before = io_counts()
    times = single_times(read, order, effort.limit_s)
    calls, n_bytes = np.subtract(io_counts(), before).tolist()
    counts = counts_of(reader)
    close()
    return times, calls, n_bytes, counts


def frames_in_order(way: str, movie: Movie, n_frames: int, effort: Effort) -> tuple[list[float], Row]:
    """Seconds of each frame from the first on, and our cache's numbers."""
    read, close, reader = WAYS[way](movie)
    times = single_times(read, range(min(n_frames, effort.n_sequential)), effort.limit_s)
    counts = counts_of(reader)
    close()
    return times, counts


def rss_row(peak: int, held: int) -> Row:
    """Resident memory at its largest, and beyond what an idle process held."""
    return {"rss_mb": peak / MEGABYTE, "rss_over_start_mb": (peak - held) / MEGABYTE}


def traces(n_frames: int, play_s: float) -> Mapping[str, tuple[Sequence[int], float]]:
    """Recorded playheads: frame numbers, and frames a second."""
    by_clock = paths(n_frames, int(play_s * 60))
    half_speed = [i % n_frames for i in range(n_frames // 4, n_frames // 4 + int(play_s * 30))]
    chosen = ("forward, 60 fps", "backward, 60 fps", "a jump each second, 60 fps")
    return {"forward, 30 fps": (half_speed, 30.0), **{trace: by_clock[trace] for trace in chosen}}


def played(way: str, movie: Movie, path: Sequence[int], fps: float, held: int) -> Row:
    """A recorded playhead, by the clock."""
    read, close, reader = WAYS[way](movie)
    waits = play(read, path, fps)
    row = {
        **waits_row(waits, fps), "rss_over_start_mb": (rss_bytes() - held) / MEGABYTE, **counts_of(reader),
    }  # fmt: skip
    close()
    return row


def looped(way: str, movie: Movie, held: int, effort: Effort) -> Row:
    """Round and round, as fast as it goes."""
    read, close, reader = WAYS[way](movie)
    n_frames = len(np.load(movie.source, mmap_mode="r"))
    done, start = 0, time.perf_counter()
    with PeakMemory() as memory:
        while (passed := time.perf_counter() - start) < effort.loop_s:
            for _ in range(8):
                read(done % n_frames)
                done += 1
    row = {
        "frames_per_s": done / passed, "laps": done / n_frames,
        **rss_row(memory.peak, held), **counts_of(reader),
    }  # fmt: skip
    close()
    return row


def counts_of(reader: Any) -> Row:
    """Our cache's own numbers; nothing for the others."""
    if reader is None:
        return {}
    info = reader.cache_info()
    return {
        "chunks_read": info.misses + info.prefetched,
        "hit_rate": info.hit_rate,
        "prefetched": info.prefetched,
        "prefetch_used": info.prefetch_used,
        "evictions": info.evictions,
    }


# --- the program --------------------------------------------------------------------------------


def make_movie(folder: Path, n_frames: int, n_bins: int, side: int) -> None:
    """Fields that walk at random, in both forms."""
    import lazystore

    folder.mkdir()
    values = np.lib.format.open_memmap(folder / "fields.npy", "w+", np.float32, (n_frames, n_bins))
    choice = np.random.default_rng(SEED)
    for start in range(0, n_frames, 1000):
        part = values[start : start + 1000]
        part[:] = np.cumsum(choice.standard_normal(part.shape, np.float32), axis=0)
    values.flush()
    del values
    env = round_environment(n_bins, side)
    lazystore.convert(folder / "fields.npy", folder / "session.zarr", name="fields", env=env)


def movie_in(folder: Path, effort: Effort) -> Movie:
    from lazystore.render import colormap_lookup

    n_bins = int(np.load(folder / "fields.npy", mmap_mode="r").shape[1])
    sides = {size[1]: size[2] for size in effort.sizes}
    env = round_environment(n_bins, sides[n_bins])
    lookup = colormap_lookup("viridis")
    return Movie(folder / "fields.npy", folder / "session.zarr", env, lookup, effort.budget_bytes)


def run_all(effort: Effort) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        for n_frames, n_bins, side in effort.sizes:
            small, large = Path(temporary) / f"small-{n_bins}", Path(temporary) / f"{n_frames}-{n_bins}"
            if not small.exists():
                make_movie(small, 24, n_bins, side)
            make_movie(large, n_frames, n_bins, side)
            for way in WAYS:
                if effort is TINY and way != "RGB: lazystore":
                    yield from measure_in(way, small, large, effort)  # one process shows that it works
                    continue
                command = [sys.executable, "-m", "benchmarks.bench_playback", "--way", way]
                command += [str(small), str(large), *(["--tiny"] if effort is TINY else [])]
                yield from json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def measure_in(way: str, small: Path, large: Path, effort: Effort) -> list[Row]:
    movie = movie_in(large, effort)
    n_frames = len(np.load(movie.source, mmap_mode="r"))
    return list(measure(way, movie_in(small, effort), movie, n_frames, effort))


def report(rows: Sequence[Row]) -> str:
    """The tables, one a group; times in ms."""
    lines = []
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        names = [name for name in COLUMNS if any(name in row for row in members)]
        lines.append(f"\n{group + ' (ms)':<33}" + "".join(f"{COLUMNS[name]:>10}" for name in names))
        for row in members:
            cells = [f"{row[name]:.4g}" if name in row else "" for name in names]
            lines.append(f"  {row['case']:<31}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = command_line(__doc__)
    parser.add_argument("--way", nargs=3, metavar=("WAY", "SMALL", "LARGE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    effort = TINY if options.tiny else FULL
    if options.way:
        way, small, large = options.way
        rows = measure_in(way, Path(small), Path(large), effort)
        print(json.dumps(rows))
        return rows
    rows = list(run_all(effort))
    print(report(rows))
    keep(
        options.json,
        "playback",
        rows,
        packages=("numpy", "numba", "zarr", "dask", "napari", "neurospatial"),
        seed=SEED,
        effort=asdict(effort),
    )
    return rows


if __name__ == "__main__":
    main()
