"""Video kept as its packets: size, conversion, a frame anywhere, play in order and backwards, by codec.

    python -m benchmarks.bench_video [--json FILE] [--tiny] [--only NAME]

Recordings of the corpus ($LAZYSTORE_CORPUS/video) where there is one, the longest of them ten times over, and
one made file a codec that this PyAV encodes. All give RGB frames. Beside lazystore, in turns, in one process,
page cache warm, medians:

- conversion: a remux by PyAV and one decode to arrays of RGB, as the statistics need one, with as many
  threads for the decoding and for the colours as FFmpeg likes, but no look at a value; and the same with the
  statistics that lazystore stores of each frame, as one takes them with numpy: counts of its values, and from
  these its extremes and sums;
- a frame anywhere: PyAV seeks to the key frame before and decodes up to the frame's time; cv2 sets
  CAP_PROP_POS_FRAMES and reads (which frame that gives is the business of bench_video_errors);
- in order: PyAV decodes from first to last, to arrays, and keeps none of them, or all of them; every way in a
  process of its own that has played once before;
- backwards: PyAV and cv2 as for a frame anywhere, from last to first, over a part of the frames.

lazystore is asked through `ls.open`, with its cache, twice in order: with a budget of 64 MB, as for a movie
that does not fit, and with room for all, beside the decode that keeps all. CPU seconds stand beside, for
machines that have other work.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

import lazystore as ls
from benchmarks.program import command_line, keep
from benchmarks.video_samples import CODECS, repeat, write_codec
from lazystore.cache.memory import parse_bytes
from lazystore.store.manifest import read_root

type Row = dict[str, Any]

SEED = 3
SMALL_BUDGET = "64MB"
LARGE_BUDGET = "4GB"
# Of glibc's allocator, read when a process begins.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
# Of the corpus' longest recording: what a conversion costs once is then little beside its frames.
TIMES_OVER = 10


class Timed:
    """Wall and CPU seconds of a block."""

    def __enter__(self) -> Timed:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = time.process_time() - self._cpu


# --- beside us -----------------------------------------------------------------------------------------


def remux(source: Path, target: Path) -> None:
    """The packets in another container."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        out = writing.add_stream_from_template(stream, opaque=True)
        for packet in reading.demux(stream):
            if packet.dts is not None:
                packet.stream = out
                writing.mux(packet)


def decode_all(path: Path, kept: list[Any] | None = None, look: Callable[[Any], Any] | None = None) -> int:
    """Every frame to an array of RGB, with threads; `kept` keeps them, `look` looks at each; how many."""
    count = 0
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in file.decode(stream):
            array = frame.to_ndarray(format="rgb24")
            if kept is not None:
                kept.append(array)
            if look is not None:
                look(array)
            count += 1
    return count


def statistics(frame: NDArray[np.uint8]) -> tuple[Any, ...]:
    """What is stored of each frame: counts of its values, and what follows from them."""
    counts = np.bincount(frame.reshape(-1), minlength=256)
    levels = np.flatnonzero(counts)
    values = np.arange(256)
    return counts, levels[0], levels[-1], counts @ values, counts @ (values * values)


class PyavSeeker:
    """Frames by number, as one writes it with PyAV: seek, then decode up to the frame's time."""

    def __init__(self, path: Path, times: list[int]) -> None:
        self._file = av.open(str(path))
        self._stream = self._file.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._times = times

    def frame(self, index: int) -> Any:
        wanted = self._times[index]
        self._file.seek(wanted, stream=self._stream, backward=True)
        for frame in self._file.decode(self._stream):
            if frame.pts is not None and frame.pts >= wanted:
                return frame.to_ndarray(format="rgb24")
        raise EOFError(index)

    def close(self) -> None:
        self._file.close()


def cv2_seeker(path: Path) -> Cv2Seeker | None:
    """None where it is not installed, or cannot read this codec: failing is quick."""
    if find_spec("cv2") is None:
        return None
    seeker = Cv2Seeker(path)
    try:
        seeker.frame(0)
    except EOFError:
        seeker.close()
        return None
    return seeker


class Cv2Seeker:
    """Frames by number, as OpenCV has it."""

    def __init__(self, path: Path) -> None:
        import cv2

        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        self._position = cv2.CAP_PROP_POS_FRAMES

    def frame(self, index: int) -> Any:
        self._capture.set(self._position, index)
        is_there, image = self._capture.read()
        if not is_there:
            raise EOFError(index)
        return image

    def close(self) -> None:
        self._capture.release()


# --- one recording -------------------------------------------------------------------------------------


def measure(path: Path, name: str, folder: Path, *, looks: int, rounds: int) -> Row:
    """Everything about one recording."""
    store = folder / f"{path.stem}.zarr"
    row: Row = {"group": "video", "case": name, "source_mb": path.stat().st_size / 1e6}
    row |= measure_conversion(path, store, folder, rounds)
    with ls.open(store) as opened:
        record = opened.records["video"]
        n_frames, height, width = opened["video"].shape[:3]
        packets = opened.specs("video")["packets"].shape[0]
        stored = read_root(opened.location, "video", record.attributes).n_bytes
        times = opened["video"].coords["pts"].tolist()
    row |= {
        "frames": n_frames,
        "size": f"{width}x{height}",
        "packets_of_source": packets / path.stat().st_size,
        "store_of_source": stored / path.stat().st_size,
    }
    row |= measure_jumps(path, store, times, looks)
    row |= measure_play(path, store, n_frames, rounds)
    return row | measure_backwards(path, store, times, looks)


def measure_conversion(path: Path, store: Path, folder: Path, rounds: int) -> Row:
    ours: list[Timed] = []
    beside: dict[str, list[Timed]] = {"convert": [], "convert_look": []}
    for number in range(rounds):
        for name, look in (("convert", None), ("convert_look", statistics)):
            with Timed() as timed:
                remux(path, folder / f"remux{path.suffix}")
                decode_all(path, look=look)
            beside[name].append(timed)
        with Timed() as timed:
            ls.convert(
                path, store if number == rounds - 1 else folder / f"{path.stem}-{number}.zarr", name="video"
            )
        ours.append(timed)
    wall_s, cpu_s = median(t.wall_s for t in ours), median(t.cpu_s for t in ours)
    row: Row = {"convert_s": wall_s}
    for name, found in beside.items():
        row[f"{name}_beside_s"] = median(t.wall_s for t in found)
        row[f"{name}_ratio"] = row[f"{name}_beside_s"] / wall_s
        row[f"{name}_cpu_ratio"] = median(t.cpu_s for t in found) / cpu_s
    return row


def measure_jumps(path: Path, store: Path, times: list[int], looks: int) -> Row:
    """Frames anywhere; everybody is asked for the same ones, in turns."""
    rng = np.random.default_rng(SEED)
    places = rng.permutation(len(times))[:looks].tolist()
    found: dict[str, list[float]] = {"ours": [], "pyav": []}
    with ls.open(store) as opened:
        # Not through the cache, which may have read ahead what is asked for.
        reader = opened.reader(opened.records["video"], "data")
        tail = (0,) * (len(reader.spec.shape) - 1)
        seekers: dict[str, Any] = {"pyav": PyavSeeker(path, times)}
        if (cv2 := cv2_seeker(path)) is not None:
            seekers["cv2"], found["cv2"] = cv2, []
        asks: dict[str, Callable[[int], Any]] = {"ours": lambda index: reader.read_chunk((index, *tail))}
        asks |= {name: seeker.frame for name, seeker in seekers.items()}
        for ask in asks.values():
            ask(0)
        for index in places:
            for name, ask in asks.items():
                with Timed() as timed:
                    ask(index)
                found[name].append(timed.wall_s)
        for seeker in (*seekers.values(), reader):
            seeker.close()
    return {
        f"jump_{name}_p{percent}_ms": float(np.percentile(seconds, percent)) * 1e3
        for name, seconds in found.items()
        for percent in (50, 99)
    }


def play_once(way: str, path: Path, opened: Any) -> tuple[float, float]:
    """One pass from first to last, in one of four ways: seconds by the clock, and of the processor."""
    if way in ("bare", "bare, kept"):
        with Timed() as timed:
            decode_all(path, [] if way == "bare, kept" else None)
        return timed.wall_s, timed.cpu_s
    if opened is not None:
        return play_item(opened["video"])
    with ls.open(path, cache_bytes=way) as fresh:
        fresh["video"][0]
        return play_item(fresh["video"])


def play_item(item: Any) -> tuple[float, float]:
    with Timed() as timed:
        for index in range(len(item)):
            item[index]
    return timed.wall_s, timed.cpu_s


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for processes that begin inside."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def play_when_asked(way: str, path: Path, asked: Connection) -> None:
    """In a process of its own: a pass to warm up, then one whenever something is asked for."""
    with contextlib.ExitStack() as stack:
        opened = None
        if way == SMALL_BUDGET:
            store = stack.enter_context(ls.open(path, cache_bytes=way))
            # What is in the cache already would not be decoded: a short one is opened anew for each pass.
            if store["video"].nbytes > 4 * parse_bytes(way, "way"):
                opened = store
            else:
                store.close()
        play_once(way, path, opened)
        while asked.recv():
            asked.send(play_once(way, path, opened))


def measure_play(path: Path, store: Path, n_frames: int, rounds: int) -> Row:
    """From first to last, by turns; each way in a process of its own.

    Where frames are not kept the allocator is told to keep their memory: else it gives it back after some
    frames and not after others, by what else was ever freed, and a bare decode is twice as slow or not.
    """
    context = get_context("spawn")
    ways = {"bare": path, "bare, kept": path, SMALL_BUDGET: store, LARGE_BUDGET: store}
    pipes: dict[str, Connection] = {}
    processes = []
    for way, place in ways.items():
        pipes[way], theirs = context.Pipe()
        processes.append(context.Process(target=play_when_asked, args=(way, place, theirs), daemon=True))
        with environment(KEEP_MEMORY if way in ("bare", SMALL_BUDGET) else {}):
            processes[-1].start()
        theirs.close()
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, pipe in pipes.items():
            pipe.send(True)
            found[way].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()
    wall_s, cpu_s = ({way: median(pair[i] for pair in found[way]) for way in ways} for i in (0, 1))
    row: Row = {
        "play_bare_hz": n_frames / wall_s["bare"],
        "play_bare_kept_hz": n_frames / wall_s["bare, kept"],
    }
    for budget, beside in ((SMALL_BUDGET, "bare"), (LARGE_BUDGET, "bare, kept")):
        key = f"play_{budget.lower()}"
        row[f"{key}_hz"] = n_frames / wall_s[budget]
        row[f"{key}_ratio"] = wall_s[beside] / wall_s[budget]
        row[f"{key}_cpu_ratio"] = cpu_s[beside] / cpu_s[budget]
    return row


def measure_backwards(path: Path, store: Path, times: list[int], looks: int) -> Row:
    """From last to first; peers over their last frames only, since they decode a group for each."""
    with ls.open(store, cache_bytes=LARGE_BUDGET) as opened:
        item = opened["video"]
        with Timed() as timed:
            for index in range(len(item) - 1, -1, -1):
                item[index]
        row = {"reverse_hz": len(item) / timed.wall_s}
    seekers: dict[str, Any] = {"pyav": PyavSeeker(path, times)}
    if (cv2 := cv2_seeker(path)) is not None:
        seekers["cv2"] = cv2
    part = range(len(times) - 1, max(-1, len(times) - 1 - looks), -1)
    for name, seeker in seekers.items():
        with Timed() as timed:
            for index in part:
                seeker.frame(index)
        row[f"reverse_{name}_hz"] = len(part) / timed.wall_s
        seeker.close()
    return row


# --- all of it -----------------------------------------------------------------------------------------


def recordings(folder: Path, *, tiny: bool, only: str) -> Iterator[tuple[str, Path]]:
    """The corpus' recordings and one file a codec; what cannot be made here is said."""
    corpus = os.environ.get("LAZYSTORE_CORPUS")
    if corpus and not tiny:
        for path in sorted((Path(corpus) / "video").iterdir()):
            if only in path.stem:
                yield path.stem, path
        longest = max((Path(corpus) / "video").iterdir(), key=lambda path: path.stat().st_size)
        if only in (name := f"{longest.stem}, {TIMES_OVER} times"):
            repeat(longest, folder / f"long{longest.suffix}", TIMES_OVER)
            yield name, folder / f"long{longest.suffix}"
    count, size = (30, (48, 208)) if tiny else (600, (480, 640))
    for name in CODECS if not tiny else ("h264, B-frames", "mjpeg"):
        if only not in f"made: {name}":
            continue
        path = write_codec(folder, name, count=count, size=size)
        if path is None:
            print(f"{name}: this PyAV has no encoder for it")
        else:
            yield f"made: {name}", path


COLUMNS: tuple[tuple[str, int, Callable[[Row], str]], ...] = (
    ("recording", 24, lambda row: row["case"]),
    ("frames", 6, lambda row: str(row["frames"])),
    ("size", 9, lambda row: row["size"]),
    ("packets/file", 12, lambda row: f"{row['packets_of_source']:.3f}"),
    ("store/file", 10, lambda row: f"{row['store_of_source']:.3f}"),
    ("convert (cpu)", 13, lambda row: f"{row['convert_ratio']:.2f} ({row['convert_cpu_ratio']:.2f})"),
    (
        "by numpy",
        11,
        lambda row: f"{row['convert_look_ratio']:.2f} ({row['convert_look_cpu_ratio']:.2f})",
    ),
    ("jump p50/p99 ms", 16, lambda row: _jump(row, "ours")),
    ("pyav", 9, lambda row: _jump(row, "pyav")),
    ("cv2", 9, lambda row: _jump(row, "cv2")),
    ("play (cpu)", 12, lambda row: f"{row['play_64mb_ratio']:.2f} ({row['play_64mb_cpu_ratio']:.2f})"),
    ("kept", 5, lambda row: f"{row['play_4gb_ratio']:.2f}"),
    ("of /s", 6, lambda row: f"{row['play_bare_hz']:.0f}"),
    ("reverse /s", 10, lambda row: f"{row['reverse_hz']:.0f}"),
    ("pyav", 6, lambda row: f"{row['reverse_pyav_hz']:.0f}"),
    ("cv2", 6, lambda row: f"{row['reverse_cv2_hz']:.0f}" if "reverse_cv2_hz" in row else "-"),
)


def _jump(row: Row, name: str) -> str:
    if f"jump_{name}_p50_ms" not in row:
        return "-"
    return f"{row[f'jump_{name}_p50_ms']:.1f}/{row[f'jump_{name}_p99_ms']:.0f}"


def show(row: Row | None) -> None:
    """A line of the table; its head for None."""
    cells = ((head if row is None else cell(row)).rjust(width) for head, width, cell in COLUMNS)
    print(" ".join(cells), flush=True)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--only", default="", help="recordings with this in their name")
    options = parser.parse_args()
    os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder tells its settings otherwise
    rows = []
    show(None)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, path in recordings(folder, tiny=options.tiny, only=options.only):
            looks, rounds = (5, 1) if options.tiny else (60, 5)
            rows.append(measure(path, name, folder, looks=looks, rounds=rounds))
            show(rows[-1])
    keep(options.json, "video", rows, packages=("av", "opencv-python-headless"), seed=SEED)


if __name__ == "__main__":
    main()
