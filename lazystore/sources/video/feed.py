"""Packets of a video file from any seek point, each one checked to be the packet it should be.

FFmpeg's seeks land near the time asked for: before it, after it, or elsewhere, by container. The
first keyframe read after a seek says where it really landed, and packets are counted from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lazystore.errors import SourceChangedError, SourceError
from lazystore.sources.video.container import open_container, read_packets
from lazystore.sources.video.index import ScannedStream
from lazystore.video.parameters import DecoderParameters
from lazystore.video.strict import strict_options
from lazystore.video.tables import KEY, NO_TIME

if TYPE_CHECKING:
    from av import VideoCodecContext
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from lazystore.sources.video.container import VideoPacket

# Keyframes to seek to, counted back from the one wanted, before the file is read from its start.
_STEPS_BACK = (0, 1, 2, 4)
# Keyframes that may go by after a seek without one being recognised.
_MAX_STRANGERS = 3


class ContainerFeed:
    """A `PacketFeed` over a video file.

    Parameters
    ----------
    path
        The file.
    stream_index
        Index of the stream in the container.
    scan
        Its packets, as `scan_streams` found them.
    threads
        Decoding threads; 0 leaves the number to FFmpeg.
    options
        Decoder options, as FFmpeg spells them; by default the decoder is strict, where it can be.
    decodes
        False only to read packets: no decoder is started.
    size
        Width and height that the decoder is told, for parts of another size than the container says:
        Motion JPEG's takes much lower pictures for half ones, of an interlaced recording.
    """

    def __init__(
        self,
        path: Path,
        stream_index: int,
        scan: ScannedStream,
        *,
        threads: int = 0,
        options: dict[str, str] | None = None,
        decodes: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._path = path
        self._stream_index = stream_index
        self._packets = scan.packets
        self._marks = scan.marks
        self._threads = threads
        self._options = options
        self._parameters: DecoderParameters | None = None
        self._decodes = decodes
        self._size = size
        self._container: InputContainer | None = None
        self._stream: VideoStream | None = None
        self._open_threads = threads
        self._reading: Iterator[VideoPacket] = iter(())
        self._held: VideoPacket | None = None
        self._next = 0
        # In a damaged file the demuxer may find other packets after a seek than before.
        self._may_seek = not scan.is_damaged

    @property
    def parameters(self) -> DecoderParameters:
        if self._parameters is None:
            self._open(self._threads)
        assert self._parameters is not None
        return self._parameters

    @property
    def context(self) -> VideoCodecContext:
        if self._stream is None:
            self._open(self._threads)
        assert self._stream is not None
        return self._stream.codec_context

    def rewind(self, packet_index: int, *, one_thread: bool = False) -> None:
        threads = 1 if one_thread else self._threads
        is_new = self._container is not None and self._next == 0 and self._held is None
        # What a decoder makes up for damage may be what is left in its memory.
        if self._container is None or threads != self._open_threads or (one_thread and not is_new):
            self._open(threads)
        if self._next == packet_index == 0 and self._held is None:
            return  # just opened
        if packet_index and self._may_seek:
            for index in self._seek_candidates(packet_index):
                if self._seek(index, packet_index):
                    return
        self._open(threads)
        for _ in range(packet_index):
            self.next_packet()

    def next_packet(self) -> tuple[int, VideoPacket] | None:
        packet, self._held = self._held or next(self._reading, None), None
        number = self._next
        if packet is None or number >= len(self._packets):
            if number < len(self._packets):
                raise self._changed(f"it ends after {number} of {len(self._packets)} packets")
            return None
        if packet.size != self._packets.size[number]:
            raise self._changed(f"packet {number} has {packet.size} bytes, not {self._packets.size[number]}")
        self._next += 1
        return number, packet

    def close(self) -> None:
        self._reading, self._held, self._stream, self._next = iter(()), None, None, 0
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def _open(self, threads: int) -> None:
        from av.stream import Discard

        self.close()
        container = open_container(self._path)
        self._container = container
        stream = next((s for s in container.streams.video if s.index == self._stream_index), None)
        if stream is None:
            raise self._changed(f"video stream {self._stream_index} is gone")
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        if self._decodes:
            if self._size is not None:
                stream.codec_context.width, stream.codec_context.height = self._size
            self._parameters = self._parameters or DecoderParameters.of_stream(stream)
            self._open_decoder(stream.codec_context, threads)
        self._stream, self._open_threads = stream, threads
        self._reading = read_packets(container, (stream,))

    def _open_decoder(self, context: VideoCodecContext, threads: int) -> None:
        import av

        context.thread_count = threads
        context.thread_type = av.codec.context.ThreadType.AUTO
        # Asked for now: after a failure the context has no codec, and PyAV crashes over its name.
        name = context.name
        options = strict_options(context.codec.canonical_name) if self._options is None else self._options
        context.options = dict(options)
        try:
            context.open()
        except av.FFmpegError as error:
            self.close()
            raise SourceError(
                f"{self._path.name!r}: its {name} decoder cannot be opened: {error.strerror}; "
                "the stream's parameters are damaged"
            ) from error

    def _seek_candidates(self, packet_index: int) -> list[int]:
        keys = np.flatnonzero(self._packets.has(KEY)[: packet_index + 1])
        return [int(keys[-1 - step]) for step in _STEPS_BACK if step < len(keys)]

    def _seek(self, key_index: int, packet_index: int) -> bool:
        """Try to stand before `packet_index` by a seek to the keyframe `key_index`."""
        import av

        assert self._container is not None
        assert self._stream is not None
        for time in (self._packets.dts[key_index], self._packets.pts[key_index]):
            if time == NO_TIME:
                continue
            try:
                self._container.seek(int(time), stream=self._stream)
            except av.FFmpegError:
                continue
            self._reading = read_packets(self._container, (self._stream,))
            if self._skip_to(packet_index):
                return True
        return False

    def _skip_to(self, packet_index: int) -> bool:
        """Read up to `packet_index` after a seek; whether the packets passed were the right ones."""
        strangers = 0
        number: int | None = None
        for packet in self._reading:
            if number is not None:
                number += 1
            elif packet.is_keyframe:
                number = self._marks.find(packet, self._packets)
                strangers += number is None
            if number is None:
                if strangers > _MAX_STRANGERS:
                    return False
                continue
            if number > packet_index or packet.size != self._packets.size[number]:
                return False
            if number == packet_index:
                self._held, self._next = packet, packet_index
                return True
        return False

    def _changed(self, how: str) -> SourceError:
        return SourceChangedError(
            f"{self._path.name!r} is not as it was when it was opened: {how}; open it again"
        )
