"""mean, min, max and std of a long video over ranges of time, from overviews and without them.

    python -m benchmarks.bench_reduce [--json FILE] [--tiny]

One grey video, decoded once by PyAV into a plain array, is what every way works on. "numpy" holds it in
RAM, "memmap" on disk with the page cache warm, "xarray, dask" opens the store's pixels. "first" of
lazystore is a store opened anew, "again" the same call a second time. numpy's std makes float64 copies of
all that it is given, so both of its ways go through it a band of lines at a time. "bound" is the least that
frames cost that have to be decoded: pread, crc32c and codec of their chunks, and the loop that adds up
frames in RAM, both on every core and by turns with lazystore (`benchmarks/bare.py`). Sums, min and max
are compared bit by bit, mean and std to a relative 1e-12 of numpy's; "error" is the absolute difference.

The second part reduces whole arrays without overviews, by type and codec.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

import lazystore as ls
from benchmarks.bare import BareChunks, add
from benchmarks.program import command_line, keep
from benchmarks.video_samples import write

SEED = 4
OPERATIONS = ("sum", "mean", "min", "max", "std")
# Lines of a picture whose float64 copies numpy's std may hold at once.
BAND = 16

type Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long the video is, how large its frames (height, width), how often a call is timed.

    `arrays` are the shapes of the second part's, by their type.
    """

    n_frames: int
    size: tuple[int, int]
    repeats: int
    arrays: dict[str, tuple[int, int, int]]


FULL = Effort(
    20_000,
    (240, 320),
    3,
    {"u1": (600, 480, 640), "u2": (300, 480, 640), "f4": (16_000, 50, 50), "f8": (8_000, 50, 50)},
)
TINY = Effort(700, (48, 208), 1, {"u1": (300, 24, 32), "f4": (300, 12, 10)})
CODECS = ("none", "fast", "balanced")


def best_ms(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Shortest of some calls, and what the last one gave."""
    times, result = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        result = call()
        times.append((time.perf_counter() - began) * 1e3)
    return min(times), result


def decode(path: Path, target: Path, effort: Effort) -> None:
    """The luma of every frame, into an ``.npy`` file."""
    shape = (effort.n_frames, *effort.size)
    frames = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
    with av.open(str(path)) as file:
        for i, frame in enumerate(file.decode(video=0)):
            plane = np.asarray(frame.planes[0]).reshape(effort.size[0], -1)
            frames[i] = plane[:, : effort.size[1]]
    frames.flush()


def by_numpy(frames: NDArray[Any], operation: str) -> NDArray[Any]:
    """The plain call; std a band of lines at a time, or it would copy everything to float64."""
    if operation == "std":
        bands = range(0, frames.shape[1], BAND)
        return np.concatenate([frames[:, y : y + BAND].std(axis=0, dtype=np.float64) for y in bands])
    return np.asarray(getattr(frames, operation)(axis=0))


def check(operation: str, ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Largest difference; 0 for what has to be exact.

    Raises
    ------
    AssertionError
        If the results differ by more than is allowed.
    """
    if operation in ("min", "max") or (operation == "sum" and ours.dtype.kind != "f"):
        np.testing.assert_array_equal(ours, theirs)
        return 0.0
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    return float(np.abs(ours - theirs).max())


def finest_bin(item: Any) -> int:
    """Frames a bin of the finest level that keeps every pixel."""
    overviews = item.view.overviews
    assert overviews is not None
    assert overviews.levels.exact, "the store has no exact overviews"
    return int(overviews.levels.exact[0])


def partial_frames(item: Any, start: int, stop: int) -> list[tuple[int, int]]:
    """Ranges of frames that lie in no whole bin."""
    n = finest_bin(item)
    first, last = -(-start // n) * n, stop if stop == len(item) else stop // n * n
    if first >= last:
        return [(start, stop)]
    return [(low, high) for low, high in ((start, first), (last, stop)) if low < high]


def ranges_of(n_frames: int, bin_frames: int) -> dict[str, tuple[int, int]]:
    """Frames from and to, by what they are called."""
    rng = np.random.default_rng(SEED)
    n_bins = n_frames // bin_frames
    first, last = n_bins // 5, max(n_bins // 5 + 1, n_bins * 7 // 10)
    shift_first, shift_last = (int(value) for value in rng.integers(1, bin_frames, 2))
    off_stop = min(last * bin_frames + shift_last, n_frames - 1)
    return {
        "bin borders": (first * bin_frames, min(last * bin_frames, n_frames)),
        "off borders": (min(first * bin_frames + shift_first, off_stop - 1), off_stop),
        "whole": (0, n_frames),
    }


def reduced(store: Path, where: tuple[slice, ...], operation: str) -> NDArray[Any]:
    """Open the store, reduce a part of the video over time."""
    with ls.open(store) as opened:
        return np.asarray(getattr(opened["video"][where], operation)("time"))


def show(row: Row) -> None:
    """On one line."""
    print(
        "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True
    )


def measure(folder: Path, stores: dict[str, Path], effort: Effort) -> list[Row]:
    """Every range, area and operation."""
    import xarray as xr

    mapped = np.load(folder / "frames.npy", mmap_mode="r")
    frames = np.array(mapped)
    height, width = effort.size
    areas = {
        "": (slice(0, height), slice(0, width)),
        ", ROI": (slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4)),
    }
    with ls.open(stores["overviews"]) as store:
        bin_frames = finest_bin(store["video"])
    dask_frames = xr.open_datatree(stores["overviews"], engine="zarr", chunks={})["video"]["data"]
    rows: list[Row] = []
    for name, (start, stop) in ranges_of(effort.n_frames, bin_frames).items():
        for area, box in areas.items():
            for operation in OPERATIONS:
                where = (slice(start, stop), *box)
                row: Row = {"group": f"{name}{area}", "case": operation, "frames": stop - start}
                row["numpy_ms"], truth = best_ms(partial(by_numpy, frames[where], operation), 1)
                row |= with_overviews(stores["overviews"], where, operation, truth, frames, effort)
                if not area:
                    row["memmap_ms"], _ = best_ms(partial(by_numpy, mapped[where], operation), 1)
                    # std of dask would hold all of it as float64.
                    if operation in ("mean", "max"):
                        lazily = getattr(dask_frames[where], operation)("time")
                        row["dask_ms"], _ = best_ms(lazily.compute, 1)
                if name == "whole" and not area:
                    row |= without_overviews(stores, where, operation, truth)
                    row["without_ratio"] = row["without_ms"] / row["numpy_ms"]
                show(row)
                rows.append(row)
    return rows


def with_overviews(
    store: Path,
    where: tuple[slice, ...],
    operation: str,
    truth: NDArray[Any],
    frames: NDArray[Any],
    effort: Effort,
) -> Row:
    """In a store opened anew, the same again, and the least that its partial frames cost."""
    row: Row = {}
    row["first_ms"], result = best_ms(partial(reduced, store, where, operation), effort.repeats)
    row["error"] = check(operation, result, truth)
    with ls.open(store) as opened:
        item = opened["video"]
        call = partial(getattr(item[where], operation), "time")
        call()
        ends = partial_frames(item, where[0].start, where[0].stop)
        row["partial_frames"] = sum(high - low for low, high in ends)
        if not ends:
            row["again_ms"], _ = best_ms(call, effort.repeats)
            return row
        # Not loaded from the store: what the cache holds has not to be decoded.
        partly = np.concatenate([frames[low:high, *where[1:]] for low, high in ends])
        row |= against_bound(call, store, item, ends, partly, operation, 3 * effort.repeats)
        row["again_ms"] = row.pop("ours_ms")
    return row


def against_bound(
    call: Callable[[], Any],
    store: Path,
    item: Any,
    ranges: list[tuple[int, int]],
    frames: NDArray[Any],
    operation: str,
    repeats: int,
) -> Row:
    """A reduction, and by turns the bare decoding and the bare loop of the frames that it has to decode."""
    bare = BareChunks(store, item.name, item.reader.spec, ranges)
    works = {"ours": call, "decode": bare.decode, "loop": partial(add, frames, operation)}
    wall, cpu = ({name: float("inf") for name in works} for _ in range(2))
    try:
        for _ in range(repeats):
            for name, work in works.items():
                began, cpu_began = time.perf_counter(), time.process_time()
                work()
                cpu[name] = min(cpu[name], (time.process_time() - cpu_began) * 1e3)
                wall[name] = min(wall[name], (time.perf_counter() - began) * 1e3)
    finally:
        bare.close()
    row: Row = {f"{name}_ms": found for name, found in wall.items()}
    row["bound_ms"] = wall["decode"] + wall["loop"]
    row["bound_ratio"] = wall["ours"] / row["bound_ms"]
    # Other programs take a core away now and then; processor time does not count them.
    row["cpu_ratio"] = cpu["ours"] / (cpu["decode"] + cpu["loop"])
    return row


def without_overviews(
    stores: dict[str, Path], where: tuple[slice, ...], operation: str, truth: NDArray[Any]
) -> Row:
    """Pixels without overviews, and packets."""
    row: Row = {}
    row["without_ms"], result = best_ms(partial(reduced, stores["none"], where, operation), 1)
    check(operation, result, truth)
    if operation == "mean":
        row["encoded_ms"], result = best_ms(partial(reduced, stores["encoded"], where, operation), 1)
        check(operation, result, truth)
    return row


def made_values(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A pattern that drifts under noise: a camera's values for integers, rates for floats."""
    rng = np.random.default_rng(SEED)
    y, x = np.ogrid[: shape[1], : shape[2]]
    scene = 110 + 60 * np.sin(x / 37) * np.cos(y / 23)
    noise = rng.normal(0, 2, (32, *shape[1:]))
    scale = {"u1": 1.0, "u2": 100.0, "f4": 1 / 7, "f8": 1 / 7}[dtype]
    values = np.empty(shape, dtype)
    for i in range(len(values)):
        values[i] = (np.roll(scene, 2 * i, 1) + noise[i % 32]) * scale
    return values


def measure_without(folder: Path, effort: Effort) -> list[Row]:
    """Whole arrays by type and codec, no overviews; the goal is twice numpy, or the bound and a fifth."""
    rows: list[Row] = []
    for dtype, shape in effort.arrays.items():
        values = made_values(dtype, shape)
        for codec in CODECS:
            store = folder / f"{dtype}-{codec}.zarr"
            ls.convert(values, store, name="a", kind="stack", codec=codec, overview="none")
            with ls.open(store) as opened:
                item = opened["a"]
                for operation in OPERATIONS:
                    row: Row = {"group": "without overviews", "case": f"{dtype} {codec} {operation}"}
                    row |= {"mb": values.nbytes / 1e6, "frame": f"{shape[1]}x{shape[2]}"}
                    row["numpy_ms"], truth = best_ms(partial(by_numpy, values, operation), 2)
                    if dtype[0] == "f" and operation in ("sum", "mean"):
                        # numpy adds 4-byte floats up in 4 bytes: quicker, but nothing to compare with.
                        truth = getattr(values, operation)(axis=0, dtype=np.float64)
                    call = partial(getattr(item, operation), "time")
                    check(operation, call(), truth)
                    row |= against_bound(
                        call, store, item, [(0, len(item))], values, operation, effort.repeats
                    )
                    row["numpy_ratio"] = row["ours_ms"] / row["numpy_ms"]
                    row["of_goal"] = min(row["numpy_ratio"] / 2, row["bound_ratio"] / 1.2)
                    print(
                        "  ".join(
                            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
                        )
                    )
                    rows.append(row)
    return rows


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def convert_ways(source: Path, folder: Path, effort: Effort) -> tuple[dict[str, Path], list[Row]]:
    """The video as pixels with and without overviews, by turns, and as its packets; seconds and bytes."""
    ways = {
        "none": {"codec": "balanced", "overview": "none"},
        # A tiny movie would get small pictures only.
        "overviews": {"codec": "balanced", "overview": "exact" if effort is TINY else None},
        "encoded": {"codec": "encoded"},
    }
    stores = {name: folder / f"{name}.zarr" for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(min(2, effort.repeats)):
        for name, options in ways.items():
            began = time.perf_counter()
            ls.convert(
                source, stores[name], name="video", overwrite=True, source_options={"gray": "y"}, **options
            )
            seconds[name].append(time.perf_counter() - began)
    rows: list[Row] = []
    for name, path in stores.items():
        overview, total = path / "video" / "overview", size_of(path)
        share = size_of(overview) if overview.exists() else 0
        row = {"group": "conversion", "case": name, "seconds": min(seconds[name]), "store_bytes": total}
        row |= {"overview_bytes": share, "overview_share": share / (total - share)}
        if name == "overviews":
            row["seconds_ratio"] = min(seconds[name]) / min(seconds["none"])
        print(row)
        rows.append(row)
    return stores, rows


def main() -> None:
    parser = command_line(__doc__)
    options = parser.parse_args()
    effort = TINY if options.tiny else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"preset": "veryfast", "g": "50", "bf": "0"}
        source = write(
            folder / "video.mp4", "libx264", count=effort.n_frames, size=effort.size, options=settings
        )
        decode(source, folder / "frames.npy", effort)
        stores, rows = convert_ways(source, folder, effort)
        rows = measure(folder, stores, effort) + rows
        rows += measure_without(folder, effort)
    keep(
        options.json,
        "reduce",
        rows,
        packages=("numpy", "numcodecs", "av", "dask"),
        seed=SEED,
        effort=asdict(effort),
    )


if __name__ == "__main__":
    main()
