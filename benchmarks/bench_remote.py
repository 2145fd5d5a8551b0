"""A store 50 ms away: opening, the first frame, playing at 30 fps, a jump; beside zarr-python and dask.

    python -m benchmarks.bench_remote [--json FILE] [--tiny]

The store lies on an S3 server of this machine (moto), behind a proxy that answers each request after
50 ms; both run in a process of their own, and count requests. zarr-python reads the same store through
obstore, the fastest client it has; dask slices it as napari does, with napari's own settings and cache.
Each way first reads another item, so that imports and connections are not timed, and is opened anew
for each round. A stall is a frame that was waited for longer than its 33 ms, after the first second; a
way that falls behind the clock is stopped after one and a half times the time, and its rate told.

Plain zarr-python cannot decode a video that is kept encoded; it finds a window of events in the whole
column of times, and reads the window's part of each column.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_cache import MEGABYTE, play, waits_row
from benchmarks.program import command_line, keep

SEED = 1
DELAY_S = 0.05
FPS = 30.0
BUCKET = "bucket"
ADDRESS = f"s3://{BUCKET}/session.zarr"
# Only this machine's own server ever sees them.
LOCAL_KEYS = {
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
}  # fmt: skip

type Row = dict[str, Any]
type Read = Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured; a movie is (frames, *shape of a frame)."""

    fields: tuple[int, int]
    video: tuple[int, int, int]
    events: int
    play_s: float
    n_rounds: int


FULL = Effort((20_000, 1_681), (600, 240, 320), 4_000_000, 6.0, 3)
TINY = Effort((200, 30), (40, 16, 32), 60_000, 0.3, 1)
WINDOW_EVENTS = 50_000


# --- the server, in a process of its own ----------------------------------------------------------


def serve(orders: Connection, root: Path) -> None:
    """Put the store into a bucket, then answer: the proxy's address, and how many requests there were."""
    import boto3
    from moto.server import ThreadedMotoServer

    from lazystore.store.remote import ObjectLocation
    from tests.store.slow_proxy import HOST, SlowProxy

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    boto3.client("s3", endpoint_url=f"http://{HOST}:{port}").create_bucket(Bucket=BUCKET)
    location = ObjectLocation(ADDRESS, {"endpoint": f"http://{HOST}:{port}"})
    for path in root.rglob("*"):
        if path.is_file():
            location.write(path.relative_to(root).as_posix(), [path.read_bytes()])
    with SlowProxy(port, delay_s=DELAY_S) as proxy:
        orders.send(proxy.url)
        while orders.recv() == "count":
            orders.send(len(proxy.requests))
    server.stop()


class FarStore:
    """The server's process: its address, and its count of requests."""

    def __init__(self, root: Path) -> None:
        self._orders, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve, args=(theirs, root), daemon=True)
        self._process.start()
        self.url: str = self._orders.recv()

    @property
    def n_requests(self) -> int:
        self._orders.send("count")
        return int(self._orders.recv())

    def close(self) -> None:
        self._orders.send("stop")
        self._process.join(20)


# --- the ways -----------------------------------------------------------------------------------


def ours(url: str, name: str) -> tuple[Read, Callable[[], object], Any]:
    import lazystore

    session = lazystore.open(ADDRESS, storage_options={"endpoint": url}, cache_bytes=64 * MEGABYTE)
    array = session[name]
    return array.__getitem__, session.close, array.reader


def zarr_group(url: str) -> Any:
    import zarr
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    bucket = S3Store.from_url(ADDRESS, endpoint=url, client_options={"allow_http": True})
    return zarr.open_group(ObjectStore(bucket, read_only=True), mode="r")


def zarr_python(url: str, name: str) -> tuple[Read, Callable[[], object], Any]:
    return zarr_group(url)[f"{name}/data"].__getitem__, int, None


def dask_over_zarr(url: str, name: str) -> tuple[Read, Callable[[], object], Any]:
    import dask.array as da
    from napari.utils._dask_utils import configure_dask, resize_dask_cache

    # A size of its own each time: what an earlier round kept must not answer this one.
    resize_dask_cache(64 * MEGABYTE).cache.clear()
    stored = zarr_group(url)[f"{name}/data"]
    lazy = da.from_array(stored, chunks=stored.chunks)
    slicing = configure_dask(lazy)

    def read(i: int) -> Any:
        with slicing():
            return np.asarray(lazy[i])

    return read, int, None


WAYS = {"lazystore": ours, "zarr-python": zarr_python, "dask over zarr-python": dask_over_zarr}


# --- measuring ------------------------------------------------------------------------------------


class Marks:
    """Time and requests since the last mark."""

    def __init__(self, far: FarStore) -> None:
        self._far = far
        self._last = (time.perf_counter(), far.n_requests)

    def take(self) -> tuple[float, int]:
        """Milliseconds and requests since then."""
        seconds, (since, before) = time.perf_counter(), self._last
        requests = self._far.n_requests
        self._last = (time.perf_counter(), requests)
        return (seconds - since) * 1e3, requests - before


def measure(
    way: str, far: FarStore, name: str, expected: Callable[[int], Any], n_frames: int, effort: Effort
) -> Row:
    """One way on one movie: everything a viewer does, with the requests it took."""
    other = "video" if name == "fields" else "fields"
    read, close, _ = WAYS[way](far.url, other)
    read(0)
    close()
    n_steps, there = int(effort.play_s * FPS), n_frames - n_frames // 8
    rounds = []
    for _ in range(effort.n_rounds):
        marks = Marks(far)
        read, close, reader = WAYS[way](far.url, name)
        opened = marks.take()
        first = read(0)
        shown = marks.take()
        until = time.perf_counter() + 1.5 * effort.play_s
        path = range(1, min(n_frames // 2, n_steps))
        in_time = itertools.takewhile(lambda _, until=until: time.perf_counter() < until, path)  # type: ignore[misc]
        waits = play(read, in_time, FPS)
        played = marks.take()
        afar = read(there)
        jumped = marks.take()
        if not (np.array_equal(first, expected(0)) and np.array_equal(afar, expected(there))):
            raise AssertionError(f"{way}: a frame differs")
        row = {
            "open_ms": opened[0], "open_requests": opened[1],
            "first_frame_ms": shown[0], "first_frame_requests": shown[1],
            **waits_row(waits, FPS), "frames_settled": len(waits) - min(int(FPS), len(waits) // 2),
            "play_requests": played[1], "played_fps": len(waits) / (played[0] / 1e3),
            "jump_ms": jumped[0], "jump_requests": jumped[1],
        }  # fmt: skip
        if reader is not None:
            info = reader.cache_info()
            row |= {"hit_rate": info.hit_rate, "chunks": info.misses + info.prefetched}
        rounds.append(row)
        close()
    return {
        "group": f"50 ms away: {name}", "case": way, "n_frames": n_frames, "n_rounds": len(rounds),
        **summary_of(rounds),
    }  # fmt: skip


def summary_of(rounds: Sequence[Row]) -> Row:
    """The median of each number; of the stalls, which must not happen at all, the worst round's."""
    medians = {key: float(np.median([row[key] for row in rounds])) for key in rounds[0]}
    if "stalls" in medians:
        worst = max(rounds, key=lambda row: row["stalls"] / row["frames_settled"])
        medians |= {key: worst[key] for key in ("stalls", "frames_settled")}
    return medians


def measure_events(way: str, far: FarStore, times: Any, effort: Effort) -> Row:
    """Opening a recording, a window of 50,000 events, the same again, one far from it."""
    rounds = []
    n_window = min(WINDOW_EVENTS, len(times) // 4)
    # Not at a chunk's border, where one would be spared a chunk.
    places = [len(times) // 3, len(times) * 2 // 3]
    spans = [(int(times[place]), int(times[place + n_window])) for place in places]
    for _ in range(effort.n_rounds):
        marks = Marks(far)
        window, close = EVENT_WAYS[way](far.url)
        opened = marks.take()
        taken = []
        for t0, t1 in (spans[0], spans[0], spans[1]):
            n_found = window(t0, t1)
            taken.append(marks.take())
            if n_found != np.searchsorted(times, t1) - np.searchsorted(times, t0):
                raise AssertionError(f"{way}: {n_found} events")
        close()
        row = {"open_ms": opened[0], "open_requests": opened[1]}
        for step, (ms, requests) in zip(("first_window", "again", "far_window"), taken, strict=True):
            row |= {f"{step}_ms": ms, f"{step}_requests": requests}
        rounds.append(row)
    return {
        "group": "50 ms away: events", "case": way, "n_events": len(times), "window_events": n_window,
        "n_rounds": len(rounds), **summary_of(rounds),
    }  # fmt: skip


def our_events(url: str) -> tuple[Callable[[int, int], int], Callable[[], object]]:
    import lazystore

    session = lazystore.open(ADDRESS, storage_options={"endpoint": url}, cache_bytes=64 * MEGABYTE)
    stream = session["events"]
    return lambda t0, t1: len(stream.window(t0, t1)), session.close


def plain_events(url: str) -> tuple[Callable[[int, int], int], Callable[[], object]]:
    group = zarr_group(url)["events"]
    t = group["t"][:]

    def window(t0: int, t1: int) -> int:
        start, stop = np.searchsorted(t, [t0, t1])
        columns = [group[name][start:stop] for name in "xyp"]
        return len(columns[0])

    return window, int


EVENT_WAYS = {"lazystore": our_events, "zarr-python": plain_events}


# --- what is read ---------------------------------------------------------------------------------


def make_movies(folder: Path, effort: Effort) -> dict[str, Any]:
    """Fields that walk at random, and a picture with noise that drifts."""
    choice = np.random.default_rng(SEED)
    fields = np.cumsum(choice.standard_normal(effort.fields, np.float32), axis=0)
    n_frames, height, width = effort.video
    y, x = np.mgrid[:height, :width]
    picture = 120 + 80 * np.sin(x / 19) * np.cos(y / 23)
    video = np.empty(effort.video, np.uint8)
    for i in range(n_frames):
        video[i] = np.roll(picture, i, axis=1) + choice.normal(0, 3, (height, width))
    movies = {"fields": fields, "video": video}
    for name, values in movies.items():
        np.save(folder / f"{name}.npy", values)
    return movies


def make_camera(path: Path, video: Any) -> None:
    """The same pictures as MPEG-4, a key frame each second."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width = video.shape[1:]
        stream.pix_fmt, stream.gop_size, stream.bit_rate = "yuv420p", 30, 2_000_000
        for image in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "gray")))
        container.mux(stream.encode())


def make_events(path: Path, n_events: int) -> Any:
    """Events at random; their times, in µs."""
    import h5py

    choice = np.random.default_rng(SEED)
    times = np.cumsum(choice.integers(0, 5, n_events))
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        group.attrs["width"], group.attrs["height"] = 640, 480
        group["t"] = times
        group["x"] = choice.integers(0, 640, n_events).astype(np.uint16)
        group["y"] = choice.integers(0, 480, n_events).astype(np.uint16)
        group["p"] = choice.integers(0, 2, n_events).astype(np.int8)
    return times


def run_all(effort: Effort) -> Iterator[Row]:
    import lazystore

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = folder / "session.zarr"
        movies = make_movies(folder, effort)
        for name in movies:
            # A frame of the field is a bin's row, of the stack a picture; every way reads the same shards.
            kind = "field" if name == "fields" else "stack"
            lazystore.convert(folder / f"{name}.npy", store, name=name, kind=kind)
        make_camera(folder / "camera.mp4", movies["video"])
        lazystore.convert(folder / "camera.mp4", store, name="camera")
        times = make_events(folder / "events.h5", effort.events)
        lazystore.convert(folder / "events.h5", store, name="events")
        camera = lazystore.open(store)["camera"]
        n_frames = effort.video[0]
        far = FarStore(store)
        try:
            for name in movies:
                for way in WAYS:
                    yield measure(way, far, name, movies[name].__getitem__, len(movies[name]), effort)
            yield measure("lazystore", far, "camera", camera.__getitem__, n_frames, effort)
            for way in EVENT_WAYS:
                yield measure_events(way, far, times, effort)
        finally:
            far.close()


# --- the program ----------------------------------------------------------------------------------


def report(rows: Sequence[Row]) -> str:
    """A table a group: steps as milliseconds and requests, and how it played."""
    lines = []
    for group, members in itertools.groupby(rows, key=lambda row: row["group"]):
        listed = list(members)
        steps = [name.removesuffix("_requests") for name in listed[0] if f"{name[:-9]}_ms" in listed[0]]
        lines.append(f"\n{group:<32}" + "".join(f"{step:>20}" for step in steps))
        lines[-1] += f"{'stalls':>12}{'p50 / p99 ms':>16}{'fps':>7}" if "stalls" in listed[0] else ""
        for row in listed:
            cells = [f"{row[f'{step}_ms']:.1f} ms, {row[f'{step}_requests']:.0f} req" for step in steps]
            line = f"  {row['case']:<30}" + "".join(f"{cell:>20}" for cell in cells)
            if "stalls" in row:
                line += f"{row['stalls']:>5} of {row['frames_settled']:<4.0f}"
                line += f"{row['p50_ms']:>8.2f} / {row['p99_ms']:<5.1f}{row['played_fps']:>7.1f}"
            lines.append(line)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = command_line(__doc__)
    options = parser.parse_args(arguments)
    effort = TINY if options.tiny else FULL
    os.environ.update(LOCAL_KEYS)
    rows = list(run_all(effort))
    print(report(rows))
    keep(
        options.json,
        "remote",
        rows,
        packages=("numpy", "zarr", "dask", "obstore", "moto", "napari"),
        seed=SEED,
        effort=asdict(effort),
        delay_ms=DELAY_S * 1e3,
    )
    return rows


if __name__ == "__main__":
    main()
