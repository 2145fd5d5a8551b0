"""Video files: every container that FFmpeg reads, each frame exact, at its own time."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Block, Column, Recognition, SideArray, SourceInfo, Ticks
from lazystore.sources.identity import check_unchanged, identify_file
from lazystore.sources.options import Option
from lazystore.sources.video.container import EXTENSIONS, container_of, open_container
from lazystore.sources.video.facts import (
    container_name,
    facts_of,
    frame_ticks,
    pixels_for,
    promised_duration_s,
)
from lazystore.sources.video.feed import ContainerFeed
from lazystore.sources.video.frames import (
    FAST_DECODING,
    REMEDY,
    ShownFrames,
    frames_by_decoding,
    frames_from_packets,
    why_decode,
    without_lost_ends,
)  # fmt: skip
from lazystore.sources.video.index import ScannedStream, scan_streams
from lazystore.sources.video.parts import Size, parts_by_looking, parts_of_sizes, table_of_part
from lazystore.video.decoder import FrameDecoder
from lazystore.video.pixels import COLORS, GRAYS, Pixels
from lazystore.video.tables import CORRUPT, NO_TIME, FrameTable

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

SCANS = ("auto", "packets", "decode")
# Containers whose headers say when the recording ends, not how long it is.
_COUNT_FROM_0 = ("matroska", "asf", "nut")
_JPEGS = (".mjpeg", ".mjpg")


class VideoFormat:
    """Recognises and opens video files.

    Options
    -------
    color
        ``"auto"`` (default): RGB, or gray where the pixel format has no colour or `gray` is given.
        ``"gray"`` stores a third of the values, and for most cameras loses nothing.
    gray
        ``"y"`` (default): the Y plane exactly as coded, its range and matrix recorded beside it;
        ``"expanded"``: stretched from limited (16 to 235) to full range; ``"luma"``: OpenCV's
        weights 0.299 R + 0.587 G + 0.114 B.
    stream
        Index of the one stream to open; by default every video stream, the main one first.
    scan
        ``"packets"`` numbers frames by the container's times, ``"decode"`` decodes everything once
        and numbers them as shown; ``"auto"`` (default) does the first where it can be trusted.
    decode_threads
        Threads of the decoder; 0 (default) leaves it to FFmpeg: one a core.
    """

    name = "video"
    kinds = ("video",)
    extensions = EXTENSIONS
    options = (
        Option("color", "text", "what frames become: auto, gray or rgb", ("auto", *COLORS)),
        Option("gray", "text", "the gray to take: y, expanded or luma", GRAYS),
        Option("stream", "integer", "index of the stream to open"),
        Option("scan", "text", "how frames are counted: auto, packets or decode", SCANS),
        Option("decode_threads", "integer", "threads that decode, 0 for one a core"),
    )

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        container = container_of(head)
        if container is None and path.suffix.lower() in _JPEGS and head.startswith(b"\xff\xd8\xff"):
            container = "pictures one after the other"  # else it would be the first of them, an image
        if container is not None:
            return Recognition(certain=True, note=container)
        if path.suffix.lower() in EXTENSIONS and path.is_file():
            return Recognition(certain=False, note="by its name")
        return None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[VideoSource]:
        """The file's video streams, the main one first.

        Where the picture of one changes its size, each part of one size is a source of its own.

        Raises
        ------
        SourceError
            If it is no video, or no frame of it can be decoded.
        UsageError
            If there is no stream of that index.
        """
        path = Path(path)
        if options.get("color") == "rgb" and "gray" in options:
            raise UsageError(f"gray={options['gray']!r} has no meaning with color='rgb'; leave one out")
        if options.get("decode_threads", 0) < 0:
            raise UsageError(f"decode_threads={options['decode_threads']!r} is negative; 0 is one a core")
        with open_container(path) as container:
            streams = _chosen_streams(path, container, options.get("stream"))
            scans = scan_streams(container, streams)
            sources: list[VideoSource] = []
            failures: list[SourceError] = []
            for stream in streams:
                suffix = f"stream{stream.index}" if sources else ""
                try:
                    sources += _open_stream(path, container, stream, scans[stream.index], options, suffix)
                except SourceError as error:
                    failures.append(error)
        if not sources:
            raise failures[0]
        sources[0].add_problems([f"a stream is left out: {error}" for error in failures])
        return sources


VIDEO = VideoFormat()


class VideoSource:
    """One video stream, frame by frame; see `VideoFormat` for the options.

    Frame i is the i-th that a sequential decode shows. Frames that damage has cost stay in their
    place: zeros in the block, and listed in its `missing`.
    """

    def __init__(
        self,
        info: SourceInfo,
        path: Path,
        stream_index: int,
        scan: ScannedStream,
        frames: FrameTable,
        pixels: Pixels,
        threads: int,
        *,
        first_frame: int = 0,
        recording_info: SourceInfo | None = None,
    ) -> None:
        self._info = info
        self.path = path
        self.stream_index = stream_index
        self.scan = scan
        self.frames = frames
        self.pixels = pixels
        self.first_record = first_frame
        self.recording_info = recording_info or info
        # The last frame of another size than the others, and that size.
        self._last_unfit: tuple[int, Size] = (-2, (0, 0))
        size = (pixels.width, pixels.height) if first_frame else None
        self._decoder = FrameDecoder(
            ContainerFeed(path, stream_index, scan, threads=threads, size=size), frames,
            error=SourceError, remedy=REMEDY,
        )  # fmt: skip

    @property
    def info(self) -> SourceInfo:
        return self._info

    def twin(self, threads: int) -> VideoSource:
        """The same stream with a decoder of its own, for another thread; the caller closes it."""
        return VideoSource(
            self._info, self.path, self.stream_index, self.scan, self.frames, self.pixels, threads,
            first_frame=self.first_record, recording_info=self.recording_info,
        )  # fmt: skip

    @property
    def is_part(self) -> bool:
        """Whether the stream has frames that are not this source's."""
        return self._info.length < self.recording_info.length

    def add_problems(self, problems: Sequence[str]) -> None:
        """Say more in `info.problems`."""
        self._info = replace(self._info, problems=(*self._info.problems, *problems))

    @property
    def broken_packets(self) -> frozenset[int]:
        """Packets that the decoder has refused so far, by their number."""
        return frozenset(self._decoder.broken_packets)

    @property
    def doubtful_frames(self) -> list[int]:
        """Frames read so far, of a damaged packet or after one in its group: parts may be made up."""
        return self._decoder.doubtful_frames()

    def read(self, start: int, stop: int) -> Block:
        length = len(self.frames)
        if not 0 <= start < stop <= length:
            raise UsageError(f"frames [{start}, {stop}) are not inside the {length} of {self.path.name!r}")
        # One frame alone is handed on as it is: to copy it costs a fifth of its decoding.
        data: NDArray[Any] | None = None
        if stop - start > 1:
            data = np.empty((stop - start, *self.pixels.shape), self.pixels.dtype)
        unfit: list[int] = []

        def write(frame_index: int, frame: VideoFrame) -> None:
            nonlocal data
            if not self._fits(frame_index, frame):
                unfit.append(frame_index)
            elif data is None:
                data = self.pixels.image(frame)[None]
            else:
                self.pixels.write(frame, data[frame_index - start])

        lost = self._decoder.read(start, stop, write)
        reasons = dict.fromkeys(lost, "no frame comes out of its packet")
        reasons |= dict.fromkeys(unfit, "its packet claims a picture of another size")
        if data is None:
            data = np.empty((1, *self.pixels.shape), self.pixels.dtype)
        for frame_index in reasons:
            data[frame_index - start] = 0
        doubtful = (frame for frame in self._decoder.doubtful_frames() if start <= frame < stop)
        broken = self._decoder.broken_packets
        return Block(
            start,
            {"data": data},
            tuple(sorted(reasons)),
            reasons,
            tuple(frame for frame in doubtful if frame not in reasons),
            tuple(sorted(broken.intersection(self._packets_of(start, stop)))) if broken else (),
        )

    def _fits(self, frame_index: int, frame: VideoFrame) -> bool:
        """Whether a frame has the size of the others.

        A damaged packet may claim any size: such a frame is lost, not the recording's end. Two with
        one size in a row are no damage.
        """
        if self.pixels.fits(frame):
            return True
        size = (frame.width, frame.height)
        before, self._last_unfit = self._last_unfit, (frame_index, size)
        if frame.is_corrupt or before != (frame_index - 1, size):
            return False
        assert self._info.ticks is not None
        at_s = float((self.frames.pts[frame_index - 1] - self.frames.pts[0]) * self._info.ticks.time_base)
        remedy = "cut it into a file for each size"
        if self._info.attributes.get("scan") != "decode":
            remedy = "open it with the option scan=decode, which makes an item of each size"
        raise SourceError(
            f"{self.path.name!r}: the picture changes from {self.pixels.width}x{self.pixels.height} to "
            f"{size[0]}x{size[1]}, by frame {frame_index - 1} ({at_s:.3f} s after the first), and the end of "
            f"the recording does not show it; {remedy}"
        )

    def _packets_of(self, start: int, stop: int) -> range:
        """Packets of the groups that frames [start, stop) belong to."""
        seek_packet = self.frames.seek_packet
        after = self.frames.seek_index(stop - 1) + 1
        end = int(seek_packet[after]) if after < len(seek_packet) else len(self.scan.packets)
        return range(int(seek_packet[self.frames.seek_index(start)]), end)

    def close(self) -> None:
        self._decoder.close()


def _chosen_streams(path: Path, container: InputContainer, wanted: int | None) -> tuple[VideoStream, ...]:
    from av.stream import Disposition

    streams = container.streams.video
    # A cover picture is a video stream to FFmpeg, but no recording.
    films = tuple(s for s in streams if not s.disposition & Disposition.attached_pic)
    if wanted is not None:
        films = tuple(stream for stream in streams if stream.index == wanted)
        if not films:
            known = ", ".join(str(stream.index) for stream in streams) or "none"
            raise UsageError(f"{path.name!r} has no video stream {wanted!r}; its video streams are: {known}")
    if not films:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise SourceError(f"{path.name!r} holds no video, only: {kinds}")
    if all(stream.codec_context is None for stream in films):
        raise SourceError(
            f"{path.name!r} is in a codec that this FFmpeg cannot decode; convert it with another tool first"
        )
    films = tuple(stream for stream in films if stream.codec_context is not None)
    best = container.streams.best("video")
    return tuple(sorted(films, key=lambda stream: best is None or stream.index != best.index))


def _open_stream(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    scan: ScannedStream,
    options: Mapping[str, Any],
    suffix: str,
) -> list[VideoSource]:
    """One source; several where the picture changes its size."""
    if not len(scan.packets):
        raise SourceError(f"{path.name!r} holds no packet in video stream {stream.index}; nothing to convert")
    threads = options.get("decode_threads", 0)
    shown, counted_by, why = _shown_frames(path, container, stream, scan, options)
    step = frame_ticks(stream, scan.packets, shown.time_base)
    whole = Ticks(shown.time_base, shown.table.pts, step=step, name="pts", known=shown.times_known)
    identity = identify_file(path)
    problems = [*_count_problems(container, stream, scan, shown.table), *shown.problems]
    sources = []
    parts = _parts(path, stream, scan, shown)
    for number, (frames, first) in enumerate(parts):
        table = shown.table if len(parts) == 1 else table_of_part(shown.table, frames)
        pixels, notes = pixels_for(first, options)
        if len(parts) > 1:
            notes.append(
                f"its picture changes size: this is part {number + 1} of {len(parts)}, "
                f"{first.width}x{first.height}, frames {frames.start} to {frames.stop - 1} "
                f"of {len(shown.table)}"
            )
        facts = facts_of(container, stream, first, scan.packets, pixels)
        facts |= {"frame_count": len(table), "scan": counted_by, "scan_reason": why}
        column = Column(
            "data",
            ("time", "y", "x", "channel")[: 1 + len(pixels.shape)],
            (len(table), *pixels.shape),
            pixels.dtype,
            {"long_name": "pixel value"},
        )
        channel = SideArray("channel", ("channel",), np.array(["r", "g", "b"]), {"long_name": "colour"})
        info = SourceInfo(
            kind="video",
            format=f"{container_name(container, path.suffix)}/{facts['codec']}",
            columns=(column,),
            identity=(identity,),
            ticks=replace(whole, values=table.pts),
            side=(channel,) if pixels.color == "rgb" else (),
            attributes=facts,
            problems=(*problems, *notes),
            suffix="_".join(filter(None, [suffix, f"part{number + 1}" if number else ""])),
        )
        all_frames = replace(column, shape=(len(shown.table), *pixels.shape))
        sources.append(
            VideoSource(
                info, path, stream.index, scan, table, pixels, threads,
                first_frame=frames.start, recording_info=replace(info, columns=(all_frames,), ticks=whole),
            )
        )  # fmt: skip
        problems = []  # of the whole stream, told once
    check_unchanged(identity, path)
    return sources


def _parts(
    path: Path, stream: VideoStream, scan: ScannedStream, shown: ShownFrames
) -> list[tuple[range, VideoFrame]]:
    """Frames of each part of one size, and the first frame of it that decodes."""
    table = shown.table
    undecodable = SourceError(f"no frame of {path.name!r} can be decoded; it is damaged or encrypted")
    if not len(table):
        raise undecodable
    decoder = FrameDecoder(
        ContainerFeed(path, stream.index, scan, threads=1), table, error=SourceError, remedy=REMEDY
    )

    @functools.lru_cache(maxsize=2)  # the first frame settles the size, then the pixel format
    def frame_at(frame_index: int) -> VideoFrame | None:
        found: list[VideoFrame] = []
        decoder.read(frame_index, frame_index + 1, lambda _, frame: found.append(frame))
        return found[0] if found else None

    def size_of(frame_index: int) -> Size | None:
        frame = frame_at(frame_index)
        return None if frame is None else (frame.width, frame.height)

    def first_of(part: range) -> VideoFrame:
        for frame_index in part:
            if (frame := frame_at(frame_index)) is not None:
                return frame
        raise undecodable

    try:
        if shown.sizes is None:
            parts = parts_by_looking(table, size_of)
        else:
            parts = parts_of_sizes(table, shown.sizes)
        return [(part, first_of(part)) for part in parts]
    finally:
        decoder.close()


def _shown_frames(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    scan: ScannedStream,
    options: Mapping[str, Any],
) -> tuple[ShownFrames, str, str | None]:
    """The frames, how they were counted, and why they were not taken from the packets."""
    mode = options.get("scan", "auto")
    family = container.format.name.split(",")[0]
    why = why_decode(family, stream.codec_context.codec.canonical_name, scan)
    if mode == "packets" and (scan.packets.pts == NO_TIME).any():
        raise UsageError(
            f"scan='packets' cannot number the frames of {path.name!r}: some packets have no time; "
            "pass scan='decode'"
        )
    if mode == "decode" or (mode == "auto" and why):
        feed = ContainerFeed(path, stream.index, scan, options=FAST_DECODING)
        try:
            return frames_by_decoding(feed, scan.packets, stream), "decode", why or "asked for"
        finally:
            feed.close()
    time_base = Fraction(stream.time_base.num, stream.time_base.den)
    shown = frames_from_packets(scan.packets, time_base)
    feed = ContainerFeed(path, stream.index, scan)
    try:
        return without_lost_ends(shown, scan.packets, feed), "packets", None
    finally:
        feed.close()


def _count_problems(
    container: InputContainer, stream: VideoStream, scan: ScannedStream, table: FrameTable
) -> list[str]:
    """What does not add up between header, packets and frames."""
    problems = []
    promised_s = promised_duration_s(container, stream)
    there_s = scan.packets.span() * stream.time_base.num / stream.time_base.den
    counts_from_0 = container.format.name.split(",")[0] in _COUNT_FROM_0
    before_s = max(0.0, (stream.start_time or 0) * stream.time_base.num / stream.time_base.den)
    if promised_s - there_s - before_s * counts_from_0 > max(0.5, 0.02 * promised_s):
        problems.append(f"its header promises {promised_s:.3f} s, {there_s:.3f} s are there")
    if scan.errors:
        problems.append(f"its container is damaged in {len(scan.errors)} places: {scan.errors[0]}")
    if stream.frames and stream.frames != len(scan.packets):
        problems.append(
            f"its header counts {stream.frames} frames, {len(scan.packets)} packets are there, "
            f"{len(table)} frames are shown"
        )
    marked = int(scan.packets.has(CORRUPT).sum())
    if marked:
        problems.append(f"{marked} of {len(scan.packets)} packets are marked as cut or corrupt")
    return problems
