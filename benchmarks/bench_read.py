"""Reading frames from a local store, per codec: ours, the bare codec, zarr-python, tensorstore, memmap.

    python -m benchmarks.bench_read [--json FILE] [--tiny]

Random: every frame once, in random order, no frame kept; the page cache is warm, and all readers take
turns in every round. `bare` is a pread at a known offset of an open file, a crc32c and the codec's
decode: what no reader can beat. `beyond decode` is a reader's time less the codec's own decode of bytes
that lie in memory. Sequential: all frames once, on two threads, as megabytes of frames a second; `codec`
decodes bytes that lie in memory. Real camera frames where LAZYSTORE_CORPUS names a folder that has them,
else made ones.
"""

from __future__ import annotations

import gc
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

from benchmarks.program import command_line, keep
from lazystore.schema import CODEC_PRESETS, ArraySpec
from lazystore.store.direct import DirectChunkReader
from lazystore.store.location import LocalLocation
from lazystore.store.payloads import CRC32C_RESIDUE
from lazystore.store.shard import encode_file
from lazystore.store.shard_index import parse_index

SEED = 5
FRAMES_A_SHARD = 64
THREADS = 2
BATCH = 8
VIDEOS = ("bulk-water.mov", "bikes.mp4")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    n_frames: int
    n_rounds: int


FULL = Effort(250, 9)
TINY = Effort(6, 1)

type Row = dict[str, Any]


def made_frames(n_frames: int) -> NDArray[np.uint8]:
    """Shape (frame, y, x): a drifting pattern under the noise of a camera."""
    rng = np.random.default_rng(SEED)
    y, x = np.ogrid[0:480, 0:640]
    scene = 110 + 60 * np.sin(x / 37) * np.cos(y / 23)
    return np.stack(
        [
            np.clip(np.roll(scene, 2 * i, 1) + rng.normal(0, 2, scene.shape), 0, 255).astype("u1")
            for i in range(n_frames)
        ]
    )


def movies(effort: Effort) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and frames, shape (frame, y, x)."""
    folder = Path(os.environ.get("LAZYSTORE_CORPUS", "")) / "video"
    found = [
        folder / name for name in VIDEOS if os.environ.get("LAZYSTORE_CORPUS") and (folder / name).is_file()
    ]
    for path in found:
        import av

        frames = []
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format="gray"))
                if len(frames) == effort.n_frames:
                    break
        yield path.name, np.stack(frames)
    if not found:
        yield "made", made_frames(effort.n_frames)


def write_store(folder: Path, codec_name: str, frames: NDArray[np.uint8]) -> ArraySpec:
    """One array, one frame a chunk, written as a conversion writes it."""
    _, height, width = frames.shape
    spec = ArraySpec(
        "data", ("time", "y", "x"), frames.shape, frames.dtype,
        (1, height, width), (FRAMES_A_SHARD, height, width), CODEC_PRESETS[codec_name],
    )  # fmt: skip
    location = LocalLocation(folder)
    for start in range(0, len(frames), FRAMES_A_SHARD):
        index = (start // FRAMES_A_SHARD, 0, 0)
        location.write(
            spec.key(index), encode_file(spec, index, frames[start : start + FRAMES_A_SHARD]).parts
        )
    location.write("zarr.json", [json.dumps(spec.to_metadata()).encode()])
    return spec


class BareCodec:
    """Open files and known offsets: nothing but the pread, the checksum and the decode is left."""

    def __init__(self, folder: Path, spec: ArraySpec) -> None:
        numcodecs.blosc.use_threads = False
        self.is_plain = spec.codec.cname == "none"
        self.shape = spec.chunks[1:]
        self.where = []
        self.handles = []
        for shard in range(-(-spec.shape[0] // FRAMES_A_SHARD)):
            path = folder / spec.key((shard, 0, 0))
            content = path.read_bytes()
            index = parse_index(content[-(FRAMES_A_SHARD * 16 + 4) :], None, 2**40, None)
            assert not isinstance(index, str)
            self.handles.append(os.open(path, os.O_RDONLY))
            for frame in range(min(FRAMES_A_SHARD, spec.shape[0] - shard * FRAMES_A_SHARD)):
                extent = index.extent(frame)
                assert extent is not None
                self.where.append((self.handles[-1], *extent))
        self.stored = [os.pread(handle, length, offset) for handle, offset, length in self.where]

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        body = data[:-4] if self.is_plain else numcodecs.blosc.decompress(data)
        return np.frombuffer(body, np.uint8).reshape(self.shape)

    def read(self, frame: int) -> NDArray[np.uint8]:
        handle, offset, length = self.where[frame]
        data = os.pread(handle, length, offset)
        if google_crc32c.value(data) != CRC32C_RESIDUE:
            raise ValueError("checksum")
        if self.is_plain:
            return np.frombuffer(data, np.uint8, count=length - 4).reshape(self.shape)
        return self.decode(data)

    def close(self) -> None:
        for handle in self.handles:
            os.close(handle)


def peers(folder: Path) -> dict[str, Callable[[int], Any]]:
    """Other readers of the same store; those that are not installed are left out."""
    import zarr

    array = zarr.open_array(folder, mode="r")
    readers: dict[str, Callable[[int], Any]] = {"zarr-python": lambda frame: array[frame]}
    try:
        import tensorstore
    except ImportError:
        return readers
    store = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/"}}, open=True, read=True
    ).result()
    readers["tensorstore"] = lambda frame: store[frame].read().result()
    return readers


def times_us(readers: dict[str, Callable[[int], Any]], n_frames: int, n_rounds: int) -> dict[str, float]:
    """Mean over the frames of each frame's best round, in microseconds; the readers take turns.

    Other programs on the machine disturb some frames in every round, but hardly one in all rounds.
    """
    order = list(range(n_frames))
    random.Random(SEED).shuffle(order)
    best = {name: np.full(n_frames, np.inf) for name in readers}
    for _ in range(n_rounds):
        for name, read in readers.items():
            gc.collect()
            for frame in order:
                start = time.perf_counter()
                read(frame)
                best[name][frame] = min(best[name][frame], time.perf_counter() - start)
    return {name: float(seconds.mean() * 1e6) for name, seconds in best.items()}


def sequential(
    works: dict[str, Callable[[range], Any]], frames: NDArray[np.uint8], n_rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Megabytes of frames a second on two threads, and CPU microseconds a frame; best rounds.

    CPU time counts where other programs take a core away for part of a round.
    """
    batches = [range(start, min(start + BATCH, len(frames))) for start in range(0, len(frames), BATCH)]
    speed = dict.fromkeys(works, 0.0)
    cpu_us = dict.fromkeys(works, float("inf"))
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(2 * n_rounds):
            for name, work in works.items():
                start, start_cpu = time.perf_counter(), time.process_time()
                list(pool.map(work, batches))
                seconds, seconds_cpu = time.perf_counter() - start, time.process_time() - start_cpu
                speed[name] = max(speed[name], frames.nbytes / 1e6 / seconds)
                cpu_us[name] = min(cpu_us[name], seconds_cpu / len(frames) * 1e6)
    return speed, cpu_us


def measure(movie: str, frames: NDArray[np.uint8], codec: str, effort: Effort, folder: Path) -> Iterator[Row]:
    spec = write_store(folder, codec, frames)
    location = LocalLocation(folder)
    reader = DirectChunkReader(location, "", spec)
    bare = BareCodec(folder, spec)
    np.save(folder / "frames.npy", frames)
    mapped = np.load(folder / "frames.npy", mmap_mode="r")
    try:
        stored = bare.stored
        readers: dict[str, Callable[[int], Any]] = {
            "ours": lambda frame: reader.read_chunk((frame, 0, 0))[0],
            "bare": bare.read,
            "decode": lambda frame: bare.decode(stored[frame]),
            "memmap": lambda frame: np.array(mapped[frame]),
            **peers(folder),
        }
        for name, read in readers.items():  # right before fast; and all caches warm
            for frame in range(len(frames)):
                if not np.array_equal(read(frame), frames[frame]):
                    raise AssertionError(f"{name} reads frame {frame} wrong")
        before = reader.counters
        found = times_us(readers, len(frames), effort.n_rounds)
        after = reader.counters
        yield {
            "case": "random",
            "movie": movie,
            "codec": codec,
            "frame_bytes": frames[0].nbytes,
            "stored_bytes": round(sum(map(len, stored)) / len(stored)),
            "us": {name: round(us, 2) for name, us in found.items()},
            "over_bare": round(found["ours"] / found["bare"], 3),
            "beyond_decode_us": round(found["ours"] - found["decode"], 2),
            "beyond_decode_of_zarr": round(
                (found["ours"] - found["decode"]) / max(1e-9, found["zarr-python"] - found["decode"]), 3
            ),
            "over_memmap": round(found["ours"] / found["memmap"], 2),
            "requests_a_frame": (after.requests - before.requests) / (after.chunks - before.chunks),
        }
        works: dict[str, Callable[[range], Any]] = {
            "ours": lambda batch: reader.read_chunks([(frame, 0, 0) for frame in batch]),
            "codec": lambda batch: [bare.decode(stored[frame]) for frame in batch],
            "bare": lambda batch: [bare.read(frame) for frame in batch],
            "memmap": lambda batch: np.array(mapped[batch.start : batch.stop]),
        }
        speeds, cpu_us = sequential(works, frames, effort.n_rounds)
        yield {
            "case": "sequential",
            "movie": movie,
            "codec": codec,
            "mb_s": {name: round(speed, 1) for name, speed in speeds.items()},
            "cpu_us_a_frame": {name: round(us, 1) for name, us in cpu_us.items()},
            "of_codec": round(speeds["ours"] / speeds["codec"], 3),
            "of_bare": round(speeds["ours"] / speeds["bare"], 3),
            "of_codec_by_cpu": round(cpu_us["codec"] / max(1e-9, cpu_us["ours"]), 3),
            "of_bare_by_cpu": round(cpu_us["bare"] / max(1e-9, cpu_us["ours"]), 3),
        }
    finally:
        reader.close()
        bare.close()


def report(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        head = f"{row['case']:<11}{row['movie']:<16}{row['codec']:<9}"
        if row["case"] == "random":
            values = "  ".join(f"{name} {us:7.1f}" for name, us in row["us"].items())
            lines.append(
                f"{head}µs a frame: {values}  | over bare {row['over_bare']:.3f}, beyond decode "
                f"{row['beyond_decode_us']:.1f} µs = {row['beyond_decode_of_zarr']:.3f} of zarr-python's, "
                f"over memmap {row['over_memmap']:.1f}"
            )
        else:
            values = "  ".join(f"{name} {speed:7.0f}" for name, speed in row["mb_s"].items())
            lines.append(
                f"{head}MB/s: {values}  | of the codec {row['of_codec']:.3f} (by CPU time "
                f"{row['of_codec_by_cpu']:.3f}), of bare {row['of_bare']:.3f} ({row['of_bare_by_cpu']:.3f})"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = command_line(__doc__)
    options = parser.parse_args(arguments)
    effort = TINY if options.tiny else FULL
    rows: list[Row] = []
    for movie, frames in movies(effort):
        for codec in CODEC_PRESETS:
            with tempfile.TemporaryDirectory() as folder:
                rows += measure(movie, frames, codec, effort, Path(folder))
    print(report(rows))
    keep(
        options.json,
        "read",
        rows,
        packages=("numpy", "numcodecs", "google-crc32c", "zarr"),
        seed=SEED,
        effort=asdict(effort),
    )
    return rows


if __name__ == "__main__":
    main()
