"""Videos for the benchmarks: every picture carries its number, so that anybody's frame tells which it is."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

SEED = 1
# The number is drawn as 2 x 12 blocks in the first rows: 12 bits, and below each its opposite.
BITS = 12
BLOCK = 16
DARK, BRIGHT = 32, 224
RATE = 25

type Image = NDArray[np.uint8]


def scene(height: int, width: int) -> Callable[[int], Image]:
    """Grey pictures by number: texture that drifts, a little noise, and the number itself."""
    rng = np.random.default_rng(SEED)
    coarse = rng.integers(60, 190, (height // 8 + 2, width // 8 + 80)).astype(np.uint8)
    texture = np.kron(coarse, np.ones((8, 8), np.uint8))
    noise = rng.integers(0, 4, (16, height, width), dtype=np.uint8)

    def picture(number: int) -> Image:
        shift = number % 600
        image: Image = texture[:height, shift : shift + width] + noise[number % 16]
        bits = number >> np.arange(BITS) & 1
        rows = np.stack([bits, 1 - bits])
        code = np.where(rows, BRIGHT, DARK).astype(np.uint8)
        image[: 2 * BLOCK, : BITS * BLOCK] = np.kron(code, np.ones((BLOCK, BLOCK), np.uint8))
        return image

    return picture


def number_in(image: NDArray[Any]) -> int | None:
    """The number that a picture carries, grey or colour; None where it cannot be read."""
    grey = image if image.ndim == 2 else image[..., 1]
    if grey.shape[0] < 2 * BLOCK or grey.shape[1] < BITS * BLOCK:
        return None
    centre = slice(BLOCK // 4, 3 * BLOCK // 4)
    blocks = grey[: 2 * BLOCK, : BITS * BLOCK].reshape(2, BLOCK, BITS, BLOCK)
    values = blocks[:, centre, :, centre].mean(axis=(1, 3))
    is_bright, is_dark = values > 160, values < 96
    if not (is_bright | is_dark).all() or not (is_bright[0] ^ is_bright[1]).all():
        return None
    return int((is_bright[0] << np.arange(BITS)).sum())


def write(
    path: Path,
    codec: str,
    *,
    count: int,
    size: tuple[int, int],
    options: Mapping[str, str],
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, RATE),
    pix_fmt: str = "yuv420p",
) -> Path:
    """`count` pictures at `pts`, by default 0, 1, 2, ..., in units of `time_base`."""
    height, width = size
    picture = scene(height, width)
    chroma = np.full((height // 2, width), 128, np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=RATE, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = time_base
        for number in range(count):
            planes = np.concatenate([picture(number), chroma])
            frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
            if pix_fmt != "yuv420p":
                frame = frame.reformat(format=pix_fmt)
            frame.pts = number if pts is None else pts[number]
            frame.time_base = time_base
            file.mux(stream.encode(frame))
            usual_scheduling()
        file.mux(stream.encode(None))
    return path


def usual_scheduling() -> None:
    """Undo what SVT-AV1 does as root: the thread that encodes is a real-time one from then on.

    So are the threads that it starts. Two such processes on two cores let nobody else run, and what waits
    for another thread waits for minutes.
    """
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


# --- one file a codec ----------------------------------------------------------------------------------

CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": (".mp4", "libx264", {"preset": "veryfast", "g": "50", "bf": "0"}),
    "h264, B-frames": (".mp4", "libx264", {"preset": "veryfast", "g": "50", "bf": "3"}),
    "h264, long groups": (".mp4", "libx264", {"preset": "veryfast", "g": "250", "bf": "3"}),
    "mpeg4": (".mp4", "mpeg4", {"g": "12", "qscale": "4"}),
    "hevc": (".mp4", "libx265", {"preset": "ultrafast", "g": "50", "x265-params": "log-level=none"}),
    "av1": (".mp4", "libsvtav1", {"preset": "12", "g": "50"}),
    "vp9": (".webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "50", "b": "2M"}),
    "mjpeg": (".avi", "mjpeg", {}),
}


def write_codec(folder: Path, name: str, *, count: int, size: tuple[int, int]) -> Path | None:
    """A file of one codec; None where this PyAV cannot encode it."""
    suffix, codec, options = CODECS[name]
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        return None
    path = folder / f"{name.replace(', ', '-').replace(' ', '-').lower()}{suffix}"
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return write(path, codec, count=count, size=size, options=options, pix_fmt=pix_fmt)


# --- files that players stumble over -------------------------------------------------------------------

PLAIN = {"preset": "veryfast", "g": "12", "bf": "0"}
B_FRAMES = {"preset": "veryfast", "g": "12", "bf": "3"}
OPEN_GOP = {
    "preset": "veryfast",
    "bf": "3",
    "x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:b-adapt=0",
}


def irregular(count: int) -> list[int]:
    """Rising times with steps of 10 to 80 ms, not starting at 0, in milliseconds."""
    return (10 * np.cumsum(np.random.default_rng(3).integers(1, 9, count))).tolist()


def awkward_files(folder: Path, *, count: int, size: tuple[int, int]) -> dict[str, Path]:
    """One file for each thing that shifts frames in players."""

    def video(name: str, options: Mapping[str, str], **more: Any) -> Path:
        return write(
            folder / name, more.pop("codec", "libx264"), count=count, size=size, options=options, **more
        )

    milli = Fraction(1, 1000)
    files = {
        "constant rate": video("constant.mp4", PLAIN),
        "variable rate": video("vfr.mp4", PLAIN, pts=irregular(count), time_base=milli),
        "variable rate, B-frames": video("vfr-b.mp4", B_FRAMES, pts=irregular(count), time_base=milli),
        "edit list": video("edit.mp4", B_FRAMES),
        "open groups": video("open.mp4", OPEN_GOP),
        "transport stream": video("stream.ts", B_FRAMES),
        "truncated": video("truncated.mkv", B_FRAMES),
        "damaged inside": video("damaged.mp4", B_FRAMES),
        "no times": video("no-times.h264", B_FRAMES),
        "AVI, B-frames": video("b.avi", {"g": "12", "bf": "2", "qscale": "4"}, codec="mpeg4"),
    }
    _start_later(files["edit list"], frames=5)
    content = files["truncated"].read_bytes()
    files["truncated"].write_bytes(content[: int(0.7 * len(content))])
    for number in (count // 3, count // 2 + 1):
        _break_packet(files["damaged inside"], number)
    return files


def _start_later(path: Path, *, frames: int) -> None:
    """Let the file's edit list begin some frames later."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        ticks = int(frames / RATE / stream.time_base)
    content = bytearray(path.read_bytes())
    at = content.index(b"elst")
    duration, start = struct.unpack_from(">Ii", content, at + 12)
    struct.pack_into(">Ii", content, at + 12, duration, start + ticks)
    path.write_bytes(content)


def _break_packet(path: Path, number: int) -> None:
    """Zeros over all but the first bytes of a packet."""
    with av.open(str(path)) as file:
        packets = [(p.pos or 0, p.size) for p in file.demux(video=0) if p.size]
    position, size = packets[number]
    keep = min(5, size // 3)
    content = bytearray(path.read_bytes())
    content[position + keep : position + size] = bytes(size - keep)
    path.write_bytes(content)


def repeat(source: Path, target: Path, times: int) -> None:
    """A video so many times over, its packets one after the other."""
    with av.open(str(target), "w") as writing:
        out: Any = None
        offset = 0
        for _ in range(times):
            with av.open(str(source)) as reading:
                stream = reading.streams.video[0]
                out = out or writing.add_stream_from_template(stream, opaque=True)
                end = 0
                for packet in reading.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, out
                    writing.mux(packet)
                offset += end
