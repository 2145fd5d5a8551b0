"""Small video files of every awkward kind, made through PyAV when a test needs one."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.video_samples import usual_scheduling

X264: Mapping[str, str] = {"preset": "veryfast", "g": "12", "bf": "3"}
X264_OPEN_GOP: Mapping[str, str] = {
    "preset": "veryfast",
    "bf": "3",
    "x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:b-adapt=0",
}
X264_NO_B: Mapping[str, str] = {"preset": "veryfast", "g": "12", "bf": "0"}
X265_OPEN_GOP: Mapping[str, str] = {
    "x265-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:log-level=none"
}


def picture(index: int, height: int, width: int) -> NDArray[np.uint8]:
    """RGB, moving and different in every frame, smooth enough to be compressed well."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    red = 127 + 90 * np.sin((x + 3 * index) / 7)
    green = 127 + 90 * np.cos((y - 2 * index) / 5)
    blue = 127 + 90 * np.sin((x + y + index) / 11)
    image = np.stack([red, green, blue], axis=-1).astype(np.uint8)
    image[:8, :8] = index * 5 % 256
    return image


def write_video(
    path: Path,
    codec: str = "libx264",
    *,
    count: int = 40,
    size: tuple[int, int] = (48, 64),
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] = X264,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    container: str | None = None,
    container_options: Mapping[str, str] | None = None,
    streams: int = 1,
    rotation: float | None = None,
    full_range: bool | None = None,
) -> Path:
    """A video of `count` pictures at `pts` (by default 0, 1, 2, ...) in units of `time_base`."""
    height, width = size
    with av.open(str(path), "w", format=container, container_options=dict(container_options or {})) as file:
        outs = []
        for _ in range(streams):
            out = file.add_stream(codec, rate=25, options=dict(options))
            out.width, out.height, out.pix_fmt = width, height, pix_fmt
            out.codec_context.time_base = time_base
            if rotation is not None:
                out.set_display_rotation(rotation)
            if full_range is not None:
                out.codec_context.color_range = 2 if full_range else 1
            outs.append(out)
        for index in range(count):
            for number, out in enumerate(outs):
                rgb = np.ascontiguousarray(picture(index + 50 * number, height, width))
                frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
                if full_range:
                    frame = frame.reformat(format=pix_fmt, dst_color_range=2)
                else:
                    frame = frame.reformat(format=pix_fmt)
                frame.pts = index if pts is None else pts[index]
                frame.time_base = time_base
                file.mux(out.encode(frame))
                usual_scheduling()
        for out in outs:
            file.mux(out.encode(None))
    return path


def irregular_times(count: int, seed: int = 3) -> list[int]:
    """Rising times with steps of 10 to 80, not starting at 0."""
    steps = np.random.default_rng(seed).integers(1, 9, count)
    return (10 * np.cumsum(steps)).tolist()


def remux(
    source: Path, target: Path, *, drop: Sequence[int] = (), options: Mapping[str, str] | None = None
) -> Path:
    """The same packets in another container, without those whose numbers are in `drop`."""
    with (
        av.open(str(source)) as reading,
        av.open(str(target), "w", container_options=dict(options or {})) as writing,
    ):
        stream = reading.streams.video[0]
        out = writing.add_stream_from_template(stream)
        packets = (packet for packet in reading.demux(stream) if packet.size)
        for number, packet in enumerate(packets):
            if number not in drop:
                packet.stream = out
                writing.mux(packet)
    return target


def cut_by_edit_list(path: Path, ticks: int) -> Path:
    """Make the file's edit list start `ticks` of the media later than it does."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst")
    assert data[at + 4] == 0, "edit list of version 0 expected"
    duration, start = struct.unpack_from(">Ii", data, at + 12)
    struct.pack_into(">Ii", data, at + 12, duration, start + ticks)
    path.write_bytes(data)
    return path


def packets_of(path: Path) -> list[tuple[int, int, bool]]:
    """Position, size and whether it is a keyframe, of every packet."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return [(p.pos or 0, p.size, p.is_keyframe) for p in file.demux(stream) if p.size]


def break_packet(path: Path, number: int) -> Path:
    """Overwrite a packet's payload with zeros, all but its first bytes."""
    position, size, _ = packets_of(path)[number]
    data = bytearray(path.read_bytes())
    keep = min(5, size // 3)
    data[position + keep : position + size] = bytes(size - keep)
    path.write_bytes(data)
    return path


def truncate(path: Path, fraction: float) -> Path:
    """Keep only the first part of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def decode_in_order(
    path: Path, *, pix_fmt: str | None = None, stream: int = 0, one_thread: bool = False
) -> tuple[list[int | None], NDArray[np.generic]]:
    """The oracle: every frame that a sequential PyAV decode shows, packet by packet, and its pts.

    Without `pix_fmt` the frames are Y planes, else whatever ``to_ndarray`` makes of them.
    """
    times: list[int | None] = []
    frames = []
    with av.open(str(path)) as file:
        video = file.streams.video[stream]
        video.thread_type = "AUTO"
        video.codec_context.thread_count = 1 if one_thread else 0
        for packet in file.demux(video):
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                continue
            for frame in decoded:
                times.append(frame.pts)
                frames.append(frame.to_ndarray(format=pix_fmt) if pix_fmt else luma_plane(frame))
    return times, np.stack(frames)


def luma_plane(frame: av.VideoFrame) -> NDArray[np.generic]:
    """Plane 0 without its padding, copied row by row."""
    plane = frame.planes[0]
    dtype = np.dtype("<u2" if frame.format.components[0].bits > 8 else "u1")
    data = bytes(plane)
    row = plane.width * dtype.itemsize
    rows = [data[i * plane.line_size : i * plane.line_size + row] for i in range(plane.height)]
    return np.frombuffer(b"".join(rows), dtype).reshape(plane.height, plane.width)
