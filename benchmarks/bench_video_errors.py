"""Which frame one gets: wrong frames of cv2, decord2 and lazystore, by kind of file and way of reading.

    python -m benchmarks.bench_video_errors [--json FILE] [--tiny]

Every picture carries its number. Frame i is the i-th that FFmpeg shows when the file is decoded from first
to last, with one thread; pictures whose number cannot be read there (parts of a damaged one) are not asked
for. A frame is wrong if it carries another number, refused if the tool raises or gives none. `random` asks
for frames in any order, `reverse` from last to first, `strided` for every 7th. lazystore is asked through a
store of packets and through one of pixels, and its frames are compared bit by bit besides. A frame that it
knows to be lost is refused, and counted as such.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.program import command_line, keep
from benchmarks.video_samples import awkward_files, number_in

type Row = dict[str, Any]
type Ask = Callable[[int], NDArray[Any] | None]

SEED = 2
STRIDE = 7


def in_order(path: Path) -> tuple[list[int | None], list[int | None], list[NDArray[Any]]]:
    """Numbers, times and pictures (as RGB) of all frames that a decode from first to last shows."""
    numbers, times, frames = [], [], []
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in file.demux(stream):
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                continue
            for frame in decoded:
                image = frame.to_ndarray(format="rgb24")
                numbers.append(number_in(image))
                times.append(frame.pts)
                frames.append(image)
    return numbers, times, frames


@contextmanager
def by_cv2(path: Path) -> Iterator[Ask]:
    """`set(CAP_PROP_POS_FRAMES)`, then `read`."""
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)

    def ask(index: int) -> NDArray[Any] | None:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        is_there, image = capture.read()
        return image if is_there else None

    yield ask
    capture.release()


@contextmanager
def by_decord(path: Path) -> Iterator[Ask]:
    """`VideoReader[index]`."""
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    yield lambda index: reader[index].asnumpy()


@contextmanager
def by_lazystore(path: Path, codec: str) -> Iterator[Ask]:
    """A store of packets or of pixels."""
    import lazystore as ls

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "video.zarr"
        options = {"source_options": {"color": "rgb"}}
        ls.convert(path, store, name="video", codec=codec, **options)
        with ls.open(store) as opened:
            item = opened["video"]
            yield lambda index: item[index]


TOOLS: dict[str, Callable[[Path], Any]] = {
    "lazystore, packets": lambda path: by_lazystore(path, "encoded"),
    "lazystore, pixels": lambda path: by_lazystore(path, "fast"),
    "cv2": by_cv2,
    "decord2": by_decord,
}


def orders(count: int) -> dict[str, list[int]]:
    """Which frames are asked for, one after the other."""
    shuffled = np.random.default_rng(SEED).permutation(count).tolist()
    return {
        "random": shuffled,
        "reverse": list(range(count - 1, -1, -1)),
        "strided": [index for start in (0, 3) for index in range(start, count, STRIDE)],
    }


def judge(case: str, path: Path, tool: str) -> Row:
    """Wrong and refused frames of one tool on one file."""
    numbers, times, frames = in_order(path)
    row: Row = {"group": case, "case": tool, "frames": len(numbers)}
    try:
        context = TOOLS[tool](path)
        ask = context.__enter__()
    except Exception as error:
        return {**row, "cannot_open": f"cannot open it ({type(error).__name__})"}
    try:
        place = _place_of_frames(ask, tool, path, times)
        for name, order in orders(len(numbers)).items():
            asked = [index for index in order if numbers[index] is not None]
            wrong = refused = inexact = 0
            for index in asked:
                try:
                    image = ask(place(index))
                except Exception:
                    image = None
                if image is None:
                    refused += 1
                    continue
                wrong += number_in(image) != numbers[index]
                if tool.startswith("lazystore"):
                    inexact += not np.array_equal(image, frames[index])
            row |= {f"{name}_asked": len(asked), f"{name}_wrong": wrong, f"{name}_refused": refused}
            if tool.startswith("lazystore"):
                row[f"{name}_inexact"] = inexact
    finally:
        context.__exit__(None, None, None)
    return row


def _place_of_frames(ask: Ask, tool: str, path: Path, times: list[int | None]) -> Callable[[int], int]:
    """The index to ask for, where a tool keeps the places of lost frames: found by time, not by count."""
    if not tool.startswith("lazystore"):
        return lambda index: index
    from lazystore.sources.video.recording import VIDEO

    (video, *_) = VIDEO.open(path, {})
    ticks = video.info.ticks
    video.close()
    if ticks is None or ticks.values is None or None in times or len(times) == len(ticks.values):
        return lambda index: index
    places = {time: index for index, time in enumerate(ticks.values.tolist())}
    return lambda index: places[times[index]]


def show(rows: list[Row]) -> None:
    ways = ("random", "reverse", "strided")
    print(
        f"{'file':26} {'tool':20} {'frames':>6}  " + "".join(f"{way + ': wrong/refused':>26}" for way in ways)
    )
    for row in rows:
        if "cannot_open" in row:
            print(f"{row['group']:26} {row['case']:20} {row['frames']:6}  {row['cannot_open']}")
            continue
        cells = [f"{row[f'{way}_wrong']}/{row[f'{way}_refused']} of {row[f'{way}_asked']}" for way in ways]
        print(f"{row['group']:26} {row['case']:20} {row['frames']:6}  " + "".join(f"{c:>26}" for c in cells))
    ours = [row for row in rows if row["case"].startswith("lazystore")]
    bad = sum(row.get(f"{way}_{what}", 0) for row in ours for way in ways for what in ("wrong", "inexact"))
    print(f"lazystore: {bad} wrong or inexact frames")


def main() -> None:
    parser = command_line(__doc__)
    options = parser.parse_args()
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    tools = ["lazystore, packets", "lazystore, pixels"]
    for tool, module in (("cv2", "cv2"), ("decord2", "decord")):
        if find_spec(module) is None:
            print(f"{tool} is not installed; its rows are left out")
        else:
            tools.append(tool)
    count, size = (40, (48, 208)) if options.tiny else (300, (240, 320))
    with tempfile.TemporaryDirectory() as folder:
        files = awkward_files(Path(folder), count=count, size=size)
        rows = [judge(case, path, tool) for case, path in files.items() for tool in tools]
    show(rows)
    keep(options.json, "video_errors", rows, packages=("av", "opencv-python-headless", "decord2"), seed=SEED)


if __name__ == "__main__":
    main()
