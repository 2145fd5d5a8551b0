"""A folder of 20,000 pictures: the first one, their mean, and the memory that takes.

    python -m benchmarks.bench_images [--json FILE] [--tiny]

The plain way reads every picture into one array, as BLITZ does, and computes on that; lazystore converts
the folder once and opens the store. Every line is a process of its own, whose largest resident size is
reported; imports and compiled loops are done before the clock starts. Three of the pictures are damaged:
the plain way leaves zeros in their place, lazystore names them and refuses to average over them unless told
(`skip_missing=True`). The means of both are the same. The page cache is warm.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_convert import max_rss_mb
from benchmarks.program import command_line, keep

SEED = 1

type Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Effort:
    """How many pictures, how large; `dtypes` by name."""

    n_pictures: int
    shape: tuple[int, int]
    dtypes: tuple[str, ...]


FULL = Effort(20_000, (160, 200), ("uint8", "uint16"))
TINY = Effort(30, (12, 16), ("uint8", "uint16"))


def damaged_of(n_pictures: int) -> list[int]:
    """Numbers of the pictures that are damaged."""
    return sorted({n_pictures // 7, n_pictures // 3, n_pictures - 2})


def make_pictures(folder: Path, effort: Effort, dtype: str) -> None:
    """A scene that drifts under noise, one PNG a picture."""
    import imageio.v3 as iio

    folder.mkdir()
    rng = np.random.default_rng(SEED)
    top = np.iinfo(dtype).max
    y, x = np.mgrid[0 : effort.shape[0], 0 : effort.shape[1]]
    noise = rng.integers(0, top // 64, (16, *effort.shape))
    for number in range(effort.n_pictures):
        scene = (np.sin((x + number) / 17) * np.cos(y / 13) + 1.1) * top / 2.4
        iio.imwrite(folder / f"frame_{number}.png", (scene + noise[number % 16]).astype(dtype))
    for number in damaged_of(effort.n_pictures):
        path = folder / f"frame_{number}.png"
        path.write_bytes(path.read_bytes()[:40])


def by_number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def plain(folder: Path, store: Path, checked: Path) -> Row:
    """All pictures into one array, read on every core, then the mean of all."""
    import imageio.v3 as iio

    began = time.perf_counter()
    paths = sorted(folder.glob("*.png"), key=by_number)
    first = iio.imread(paths[0])
    movie = np.zeros((len(paths), *first.shape), first.dtype)
    lost: list[int] = []

    def read(number: int) -> None:
        try:
            movie[number] = iio.imread(paths[number])
        except Exception:  # whatever a reader says of half a file
            lost.append(number)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(read, range(len(paths))))
    first_s = time.perf_counter() - began
    began = time.perf_counter()
    # Sums, so that the lost ones can be left out as lazystore leaves them out.
    mean = movie.sum(axis=0, dtype=np.int64) / (len(paths) - len(lost))
    mean_s = time.perf_counter() - began
    np.save(checked, mean)
    return {"first_s": first_s, "mean_s": mean_s, "max_rss_mb": max_rss_mb(), "lost": len(lost)}


def convert(folder: Path, store: Path, checked: Path) -> Row:
    """The conversion, once."""
    import lazystore as ls

    warm_up(folder, store)
    began = time.perf_counter()
    report = ls.convert(folder, store, name="movie")
    seconds = time.perf_counter() - began
    return {
        "convert_s": seconds,
        "max_rss_mb": max_rss_mb(),
        "lost": report.items[0].missing_records,
        "stored_mb": report.items[0].stored_bytes / 1e6,
        "pictures_a_second": report.items[0].records / seconds,
    }


def warm_up(folder: Path, store: Path) -> None:
    """Compile and import what the first conversion and the first reduction need."""
    import imageio.v3 as iio

    import lazystore as ls

    small = store.with_suffix(".warm")
    few = np.stack([iio.imread(sorted(folder.glob("*.png"), key=by_number)[0])] * 64)
    ls.convert(few, small, name="movie", kind="stack", overview="exact")
    with ls.open(small) as opened:
        opened["movie"].mean("time")


def opened(folder: Path, store: Path, checked: Path) -> Row:
    """The store: its first picture, then the mean of all, damaged ones left out on request."""
    import lazystore as ls

    warm_up(folder, store.with_name("warm"))
    began = time.perf_counter()
    with ls.open(store) as session:
        movie = session["movie"]
        np.asarray(movie[0])
        first_s = time.perf_counter() - began
        try:
            movie.mean("time")
        except ls.errors.MissingFrameError:
            pass
        else:
            raise AssertionError("lost pictures were averaged over without a word")
        began = time.perf_counter()
        mean: NDArray[Any] = movie.mean("time", skip_missing=True)
        mean_s = time.perf_counter() - began
        np.testing.assert_allclose(mean, np.load(checked), rtol=1e-12)
        # Between damaged pictures nothing has to be left out, and whole bins are read as stored.
        sound = movie[: damaged_of(len(movie))[0]]
        began = time.perf_counter()
        sound.mean("time")
        part_s = time.perf_counter() - began
        lost = len(movie.missing_frames)
    return {
        "first_s": first_s,
        "mean_s": mean_s,
        "part_mean_s": part_s,
        "max_rss_mb": max_rss_mb(),
        "lost": lost,
    }


CHILDREN: dict[str, Callable[[Path, Path, Path], Row]] = {"plain": plain, "convert": convert, "open": opened}
LABELS = {
    "plain": "all into one numpy array",
    "convert": "lazystore, converting once",
    "open": "lazystore, the store opened",
}


def in_child(effort: Effort, what: str, *paths: Path) -> Row:
    if effort is TINY and what != "plain":
        return CHILDREN[what](*paths)  # one kind of process shows that they work
    command = [sys.executable, "-m", "benchmarks.bench_images", "--child", what, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise RuntimeError(f"{what} of {paths[0].name}: {done.stderr[-2000:]}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def run_all(effort: Effort) -> list[Row]:
    rows = []
    for dtype in effort.dtypes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            pictures = folder / dtype
            make_pictures(pictures, effort, dtype)
            for what, label in LABELS.items():
                row = in_child(effort, what, pictures, folder / "store.zarr", folder / "mean.npy")
                rows.append({"dtype": dtype, "what": label, **row})
    return rows


def report(rows: Sequence[Row]) -> str:
    heads = ("convert_s", "first_s", "mean_s", "part_mean_s", "max_rss_mb", "lost")
    lines = [f"{'':38}" + "".join(f"{head:>13}" for head in heads)]
    for row in rows:
        values = "".join(f"{row[head]:13.3f}" if head in row else f"{'':13}" for head in heads)
        lines.append(f"{row['dtype']:8}{row['what']:30}{values}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = command_line(__doc__)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        what, *paths = options.child
        row = CHILDREN[what](*map(Path, paths))
        print(json.dumps(row))
        return [row]
    effort = TINY if options.tiny else FULL
    rows = run_all(effort)
    print(report(rows))
    keep(options.json, "images", rows, packages=("numpy", "imageio"), seed=SEED, effort=asdict(effort))
    return rows


if __name__ == "__main__":
    main()
