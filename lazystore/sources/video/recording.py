"""Video files: every container that FFmpeg reads, each frame exact, at its own time."""

from __future__ import annotations

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
from lazystore.sources.video.facts import container_name, facts_of, pixels_for, promised_duration_s
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
                    sources.append(
                        _open_stream(path, container, stream, scans[stream.index], options, suffix)
                    )
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
    ) -> None:
        self._info = info
        self.path = path
        self.stream_index = stream_index
        self.scan = scan
        self.frames = frames
        self.pixels = pixels
        self._decoder = FrameDecoder(
            ContainerFeed(path, stream_index, scan, threads=threads), frames,
            error=SourceError, remedy=REMEDY,
        )  # fmt: skip

    @property
    def info(self) -> SourceInfo:
        return self._info

    def twin(self, threads: int) -> VideoSource:
        """The same stream with a decoder of its own, for another thread; the caller closes it."""
        return VideoSource(
            self._info, self.path, self.stream_index, self.scan, self.frames, self.pixels, threads
        )

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
        try:
            return self.pixels.fits(frame)
        except SourceError as error:
            assert self._info.ticks is not None
            at_s = float((self.frames.pts[frame_index] - self.frames.pts[0]) * self._info.ticks.time_base)
            raise SourceError(
                f"{self.path.name!r}: {error}, by frame {frame_index} ({at_s:.3f} s after the first); "
                "convert what is before the change with time=, and cut the rest into a file of its own"
            ) from error

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
) -> VideoSource:
    if not len(scan.packets):
        raise SourceError(f"{path.name!r} holds no packet in video stream {stream.index}; nothing to convert")
    threads = options.get("decode_threads", 0)
    shown, counted_by, why = _shown_frames(path, container, stream, scan, options)
    table = shown.table
    first = _first_frame(path, ContainerFeed(path, stream.index, scan, threads=1), table)
    pixels, notes = pixels_for(first, options)
    problems = [*_count_problems(container, stream, scan, table), *shown.problems, *notes]
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
        identity=(identify_file(path),),
        ticks=Ticks(shown.time_base, table.pts, name="pts", known=shown.times_known),
        side=(channel,) if pixels.color == "rgb" else (),
        attributes=facts,
        problems=tuple(problems),
        suffix=suffix,
    )
    check_unchanged(info.identity[0], path)
    return VideoSource(info, path, stream.index, scan, table, pixels, threads)


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


def _first_frame(path: Path, feed: ContainerFeed, table: FrameTable) -> VideoFrame:
    """The first frame that decodes; it settles size and pixel format."""
    decoder = FrameDecoder(feed, table, error=SourceError, remedy=REMEDY)
    found: list[VideoFrame] = []
    try:
        for frame_index in range(len(table)):
            decoder.read(frame_index, frame_index + 1, lambda _, frame: found.append(frame))
            if found:
                return found[0]
    finally:
        decoder.close()
    raise SourceError(f"no frame of {path.name!r} can be decoded; it is damaged or encrypted")


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
