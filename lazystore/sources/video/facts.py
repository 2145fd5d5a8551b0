"""What is known of a video: the facts recorded with it, and how its frames become arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from lazystore.schema import JSON
from lazystore.video.pixels import Orientation, Pixels, has_y_plane, orientation_of, plane_view
from lazystore.video.tables import DISCARD, KEY, PacketTable

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# ITU-T H.273 code points, as FFmpeg numbers them.
_RANGES = {0: "unspecified", 1: "limited", 2: "full"}
_MATRICES = {
    0: "rgb", 1: "bt709", 2: "unspecified", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m",
    8: "ycgco", 9: "bt2020nc", 10: "bt2020c", 14: "ictcp",
}  # fmt: skip
_PRIMARIES = {
    1: "bt709", 2: "unspecified", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film",
    9: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
_TRANSFERS = {
    1: "bt709", 2: "unspecified", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear",
    13: "srgb", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 18: "arib-std-b67",
}  # fmt: skip

_CLOCK_TIME = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


def pixels_for(frame: VideoFrame, options: Mapping[str, Any]) -> tuple[Pixels, list[str]]:
    """How frames like this one become arrays, and what is worth saying about it.

    See `lazystore.sources.video.recording` for the options.
    """
    name = frame.format.name
    problems = []
    # Alpha counts neither as colour nor as depth: it is never kept.
    is_gray = name.startswith(("gray", "ya8", "ya16", "mono"))
    color = options.get("color", "auto")
    if color == "auto":
        color = "gray" if is_gray or "gray" in options else "rgb"
    gray = options.get("gray", "y") if color == "gray" else ""
    if gray in ("y", "expanded") and not has_y_plane(name):
        problems.append(f"pixel format {name!r} has no Y plane; gray is its weighted RGB (luma)")
        gray = "luma"
    orientation = Orientation()
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        turned = orientation_of(bytes(matrix))
        if turned is None:
            problems.append(f"its display matrix turns it by {frame.rotation} degrees; it is left unturned")
        orientation = turned or orientation
    pixels = Pixels(
        color=color,
        gray=gray,
        width=frame.width,
        height=frame.height,
        bits=max(8, *(component.bits for component in frame.format.components)),
        full_range=is_full_range(frame),
        orientation=orientation,
    )
    return pixels, problems


def is_full_range(frame: VideoFrame) -> bool:
    """Whether Y spans all values: said by the file, else by the pixel format's tradition."""
    if frame.color_range in (1, 2):
        return frame.color_range == 2
    return frame.format.name.startswith(("yuvj", "gray", "mono", "ya")) or frame.format.is_rgb


def has_neutral_chroma(frame: VideoFrame) -> bool:
    """Whether a planar YUV picture is gray throughout: a mono camera stored as colour."""
    name, planes = frame.format.name, frame.planes
    if not (name.startswith("yuv") and len(planes) >= 3 and frame.format.components[0].bits == 8):
        return False
    return all(bool((plane_view(frame, index, np.dtype("u1")) == 128).all()) for index in (1, 2))


def facts_of(
    container: InputContainer, stream: VideoStream, frame: VideoFrame, packets: PacketTable, pixels: Pixels
) -> dict[str, JSON]:
    """JSON facts for ``attrs.lazystore.source``; `frame` is the first that decodes."""
    context = stream.codec_context
    rate = stream.average_rate
    aspect = stream.sample_aspect_ratio
    turned = pixels.orientation
    return {
        "container": container.format.name,
        "stream_index": stream.index,
        "codec": context.codec.canonical_name,
        "codec_tag": context.codec_tag.strip("\0"),
        "profile": stream.profile,
        "pix_fmt": frame.format.name,
        "bits": pixels.bits,
        "coded_size": [frame.width, frame.height],
        "sample_aspect_ratio": [aspect.num, aspect.den] if aspect else None,
        "average_rate": [rate.num, rate.den] if rate else None,
        "color_range": _RANGES.get(frame.color_range, str(frame.color_range)),
        "color_matrix": _MATRICES.get(frame.colorspace, str(frame.colorspace)),
        "color_primaries": _PRIMARIES.get(frame.color_primaries, str(frame.color_primaries)),
        "color_transfer": _TRANSFERS.get(frame.color_trc, str(frame.color_trc)),
        "full_range": pixels.full_range,
        "color": pixels.color,
        "gray": pixels.gray or None,
        "is_neutral": has_neutral_chroma(frame),
        "rotation": frame.rotation,
        "orientation": {"transpose": turned.transpose, "flip_y": turned.flip_y, "flip_x": turned.flip_x},
        "header_frame_count": stream.frames or None,
        "packet_count": len(packets),
        "keyframe_count": int(packets.has(KEY).sum()),
        "discarded_packet_count": int(packets.has(DISCARD).sum()),
        "creation_time": container.metadata.get("creation_time"),
    }


def promised_duration_s(container: InputContainer, stream: VideoStream) -> float:
    """How long the stream is by its header, in seconds; 0 where the header does not say."""
    if stream.duration is not None:
        return stream.duration * stream.time_base.num / stream.time_base.den
    parts = _CLOCK_TIME.fullmatch(stream.metadata.get("DURATION", ""))  # Matroska's tag
    if parts is None:
        # A container speaks for all its streams, so only of a single one.
        alone = len(container.streams) == 1 and container.duration is not None
        return (container.duration or 0) / 1e6 if alone else 0.0
    hours, minutes, seconds = map(float, parts.groups())
    return hours * 3600 + minutes * 60 + seconds


def frame_ticks(stream: VideoStream, packets: PacketTable, time_base: Fraction) -> int:
    """How long a frame lasts by its packet, else by the header, in units of `time_base`; at least 1."""
    duration = int(np.median(packets.duration)) * Fraction(stream.time_base.num, stream.time_base.den)
    rate = stream.average_rate or stream.guessed_rate
    if not duration and rate:
        duration = Fraction(rate.den, rate.num)
    return max(1, round(duration / time_base))


def container_name(container: InputContainer, suffix: str) -> str:
    """Short name of a container: the file's ending where FFmpeg agrees, else its first name.

    ``"mov,mp4,m4a"`` with ``".mp4"`` is ``"mp4"``.
    """
    names = container.format.name.split(",")
    ending = suffix.lower().lstrip(".")
    return ending if ending in names else names[0]
