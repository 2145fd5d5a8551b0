"""Converting: how close to what the decoder and the codec cost by themselves, and in how much memory.

    python -m benchmarks.bench_convert [--json FILE] [--tiny] [--only fields|video|events|memory]

Every conversion runs in a process of its own, whose largest resident size is reported. The bound for
fields is the codec alone, over the very chunks, on as many threads as there are cores; for video it is
cores / (decode + codec CPU seconds a frame). Making the data is never timed; the page cache is warm.
`memory` converts what is larger than it may hold: 4 GB of fields, and 20,000 frames of video.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.program import command_line, keep

SEED = 1
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SAMPLE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is converted."""

    n_fields: int
    n_bins: int
    n_frames: int
    frame_shape: tuple[int, int]
    n_events: int
    repeats: int
    n_long_fields: int
    n_long_frames: int
    long_frame_shape: tuple[int, int]


FULL = Effort(31_000, 8_682, 2_000, (480, 640), 26_000_000, 2, 116_000, 20_000, (240, 320))
TINY = Effort(64, 100, 20, (48, 64), 5_000, 1, 128, 40, (24, 32))
MAX_RSS_MB = 512

type Row = dict[str, Any]


# --- data ----------------------------------------------------------------------------------------------


def make_fields(path: Path, effort: Effort) -> None:
    """Bumps that wander over bins, with noise in every value, float32; written in pieces."""
    rng = np.random.default_rng(SEED)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (effort.n_fields, effort.n_bins))
    bins = np.arange(effort.n_bins, dtype=np.float32)
    for start in range(0, effort.n_fields, 1000):
        frames = np.arange(start, min(start + 1000, effort.n_fields), dtype=np.float32)
        centre = (frames * 7 % effort.n_bins)[:, None]
        bump = np.exp(-(((bins - centre) / 300) ** 2)).astype(np.float32)
        noise = rng.random(bump.shape, dtype=np.float32)
        out[start : start + len(frames)] = np.round(bump * 20 + noise, 3)
    out.flush()
    del out


def make_video(path: Path, effort: Effort) -> None:
    """A textured scene that drifts, with a little noise; MPEG-4."""
    import av

    rng = np.random.default_rng(SEED)
    height, width = effort.frame_shape
    scene = rng.integers(60, 190, (height // 8 + 2, width // 8 + 80)).astype(np.uint8)
    scene = np.kron(scene, np.ones((8, 8), np.uint8))
    noise = rng.integers(0, 6, (16, height, width), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        for index in range(effort.n_frames):
            shift = index % 600
            image = scene[:height, shift : shift + width] + noise[index % 16]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "gray")))
        container.mux(stream.encode())


def make_events(path: Path, effort: Effort) -> None:
    """A 640 x 480 sensor at 3 million events a second, in the evio layout."""
    import h5py

    rng = np.random.default_rng(SEED)
    n = effort.n_events
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        group.attrs["width"], group.attrs["height"] = 640, 480
        group["t"] = np.cumsum(rng.integers(0, 2, n, dtype=np.int64)) * 2 // 3
        group["x"] = (320 + 90 * rng.standard_normal(n)).clip(0, 639).astype(np.uint16)
        group["y"] = (240 + 70 * rng.standard_normal(n)).clip(0, 479).astype(np.uint16)
        group["p"] = rng.integers(0, 2, n).astype(np.int8)


# --- measured in processes of their own ----------------------------------------------------------------


def converted(source: str, store: str, codec: str) -> Row:
    """Seconds of one conversion, imports and compiled loops left out, and the largest resident size."""
    import lazystore as ls

    warm = Path(store).with_suffix(".warm")
    rng = np.random.default_rng(SEED)
    for dtype in ("f4", "u1"):
        ls.convert(rng.random((4, 6)).astype(dtype), warm / f"{dtype}.zarr", name="a")
    began, cpu = time.perf_counter(), time.process_time()
    report = ls.convert(source, store, codec=codec)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "cpu_s": time.process_time() - cpu,
        "max_rss_mb": max_rss_mb(),
        "records": report.items[0].records,
        "decoded_bytes": report.items[0].decoded_bytes,
        "stored_bytes": report.items[0].stored_bytes,
    }


def max_rss_mb() -> float | None:
    """The largest resident size of this process so far; None where the system does not tell."""
    try:
        # Not getrusage: its maximum is handed down from the process that started this one.
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


def encoded_alone(source: str, store: str, _: str) -> Row:
    """Bytes a second of the codec over the movie's own chunks, on every core; nothing else is done."""
    import lazystore as ls
    from lazystore.store.shard import compressor

    opened: Any = ls.open(store)
    with opened:
        (name,) = opened
        spec = opened.specs(name)["data"]
    movie = np.load(source, mmap_mode="r")
    rows = max(spec.chunks[0], min(len(movie), SAMPLE_BYTES // movie[0].nbytes))
    starts = range(0, rows - spec.chunks[0] + 1, spec.chunks[0])
    # From all over the recording, in memory before the clock starts.
    stride = max(1, (len(movie) - spec.chunks[0]) // max(1, len(starts)))
    chunks = [np.array(movie[i * stride : i * stride + spec.chunks[0]]) for i in range(len(starts))]
    encode: Callable[[Any], Any] = compressor(spec.codec).encode
    began, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(CORES) as pool:
        for _encoded in pool.map(encode, chunks):
            pass
    n_bytes = sum(chunk.nbytes for chunk in chunks)
    return {
        "bytes_a_second": n_bytes / (time.perf_counter() - began),
        "bytes_a_cpu_second": n_bytes / (time.process_time() - cpu),
    }


def decoded_alone(source: str, store: str, _: str) -> Row:
    """CPU seconds a frame of a sequential decode to what is stored, and of the codec on those frames."""
    import av

    import lazystore as ls
    from lazystore.store.shard import compressor

    opened: Any = ls.open(store)
    with opened:
        (name,) = opened
        spec = opened.specs(name)["data"]
    encode = compressor(spec.codec).encode
    n_frames, decode_s, codec_s = 0, 0.0, 0.0
    with av.open(source) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        began = time.process_time()
        for frame in container.decode(stream):
            if len(spec.shape) == 4:
                image = frame.to_ndarray(format="rgb24")
            else:
                plane = frame.planes[0]
                pixels = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                image = np.ascontiguousarray(pixels[:, : plane.width])
            decode_s += time.process_time() - began
            began = time.process_time()
            encode(image)
            codec_s += time.process_time() - began
            n_frames += 1
            began = time.process_time()
    return {"decode_s": decode_s / n_frames, "codec_s": codec_s / n_frames}


def loaded_by_evlib(source: str, store: str, _: str) -> Row:
    """Seconds of evlib's load of the same file into memory."""
    import evlib

    began = time.perf_counter()
    events = evlib.load_events(source)
    collected = events.collect() if hasattr(events, "collect") else events
    return {"seconds": time.perf_counter() - began, "max_rss_mb": max_rss_mb(), "records": len(collected)}


CHILDREN: dict[str, Callable[[str, str, str], Row]] = {
    "convert": converted, "codec": encoded_alone, "decode": decoded_alone, "evlib": loaded_by_evlib,
}  # fmt: skip


def in_child(effort: Effort, what: str, source: Path, store: Path, codec: str = "") -> Row:
    if effort is TINY and what != "codec":
        return CHILDREN[what](str(source), str(store), codec)  # one kind of process shows that they work
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench_convert",
        "--child",
        what,
        str(source),
        str(store),
        codec,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise RuntimeError(f"{what} of {source.name}: {done.stderr[-2000:]}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


# --- the three comparisons -----------------------------------------------------------------------------


def best_conversion(source: Path, folder: Path, codec: str, effort: Effort) -> tuple[Row, Path]:
    """The quickest of some; the last store is kept."""
    rows = []
    for number in range(effort.repeats):
        store = folder / f"{source.stem}-{codec}-{number}.zarr"
        rows.append(in_child(effort, "convert", source, store, codec))
    return min(rows, key=lambda row: float(row["seconds"])), store


def bench_fields(folder: Path, effort: Effort) -> list[Row]:
    source = folder / "fields.npy"
    make_fields(source, effort)
    rows = []
    for codec in ("balanced", "fast"):
        row, store = best_conversion(source, folder, codec, effort)
        codecs = [in_child(effort, "codec", source, store) for _ in range(effort.repeats)]
        alone = max(float(found["bytes_a_second"]) for found in codecs)
        alone_cpu = max(float(found["bytes_a_cpu_second"]) for found in codecs)
        rate = row["decoded_bytes"] / row["seconds"]
        rows.append(
            {
                "what": f"fields .npy, {codec}",
                **row,
                "rate": f"{rate / 1e6:.0f} MB/s",
                "bound": f"codec alone {alone / 1e6:.0f} MB/s",
                "ratio": rate / alone,
                # Of CPU seconds: what it would be on an idle machine with a disk that never waits.
                "cpu_ratio": row["decoded_bytes"] / row["cpu_s"] / alone_cpu,
                "goal": 0.8,
            }
        )
    return rows


def bench_video(folder: Path, effort: Effort) -> list[Row]:
    source = folder / "scene.mp4"
    make_video(source, effort)
    row, store = best_conversion(source, folder, "balanced", effort)
    alone = in_child(effort, "decode", source, store)
    bound = CORES / (alone["decode_s"] + alone["codec_s"])
    rate = row["records"] / row["seconds"]
    return [
        {
            "what": "video to pixels",
            **row,
            **alone,
            "rate": f"{rate:.0f} frames/s",
            "bound": f"cores/(decode + codec) {bound:.0f} frames/s",
            "ratio": rate / bound,
            "cpu_ratio": row["records"] / row["cpu_s"] * (alone["decode_s"] + alone["codec_s"]),
            "goal": 0.85,
        }
    ]


def bench_events(folder: Path, effort: Effort) -> list[Row]:
    source = folder / "events.h5"
    make_events(source, effort)
    row, _ = best_conversion(source, folder, "balanced", effort)
    rate = row["records"] / row["seconds"]
    rows = [
        {
            "what": "events from HDF5",
            **row,
            "rate": f"{rate / 1e6:.1f} Mev/s",
            "bound": f"{row['stored_bytes'] / row['records']:.2f} B/event",
            "ratio": rate / 12e6,
            "goal": 1.0,
        }
    ]
    if find_spec("evlib"):
        peer = in_child(effort, "evlib", source, folder)
        rows.append(
            {
                "what": "evlib.load_events",
                **peer,
                "rate": f"{row['records'] / peer['seconds'] / 1e6:.1f} Mev/s",
            }
        )
    return rows


def bench_memory(folder: Path, effort: Effort) -> list[Row]:
    fields, scene = folder / "long.npy", folder / "long.mp4"
    make_fields(fields, replace(effort, n_fields=effort.n_long_fields))
    make_video(scene, replace(effort, n_frames=effort.n_long_frames, frame_shape=effort.long_frame_shape))
    rows = []
    for source in (fields, scene):
        row = in_child(effort, "convert", source, folder / f"{source.name}.zarr", "fast")
        rate = row["decoded_bytes"] / row["seconds"] / 1e6
        bound = f"{row['decoded_bytes'] / 1e9:.1f} GB decoded, RSS at most {MAX_RSS_MB} MB"
        rows.append({"what": f"{row['records']} of {source.name}", **row, "rate": f"{rate:.0f} MB/s"})
        rows[-1]["bound"] = bound
        source.unlink()
    return rows


PARTS = {"fields": bench_fields, "video": bench_video, "events": bench_events, "memory": bench_memory}


def print_table(rows: list[Row]) -> None:
    print(
        f"{'':26} {'seconds':>8} {'rate':>15} {'bound':>38} "
        f"{'ratio':>6} {'of CPU':>6} {'goal':>5} {'RSS MB':>7}"
    )
    for row in rows:
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        cpu_ratio = f"{row['cpu_ratio']:.2f}" if "cpu_ratio" in row else ""
        goal = f"{row['goal']:.2f}" if "goal" in row else ""
        rss = f"{row['max_rss_mb']:.0f}" if row.get("max_rss_mb") else ""
        print(
            f"{row['what']:26} {row['seconds']:8.2f} {row['rate']:>15} {row.get('bound', ''):>38} "
            f"{ratio:>6} {cpu_ratio:>6} {goal:>5} {rss:>7}"
        )


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--only", choices=sorted(PARTS), action="append")
    parser.add_argument(
        "--child", nargs=4, metavar=("WHAT", "SOURCE", "STORE", "CODEC"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.child:
        what, source, store, codec = options.child
        print(json.dumps(CHILDREN[what](source, store, codec)))
        return 0
    effort = TINY if options.tiny else FULL
    rows: list[Row] = []
    for name, part in PARTS.items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows += part(Path(folder), effort)
    print_table(rows)
    keep(options.json, "convert", rows, packages=("numpy", "numcodecs", "numba"), seed=SEED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
