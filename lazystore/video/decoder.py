"""Frames by number out of a packet stream, each one verified to be the frame asked for.

Every packet goes into the decoder with its own number as its time stamp, and the decoder hands
that number back on the frame. So a frame is recognised by what it was decoded from: variable
rates, repeated or absent time stamps and reordering cannot shift it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from lazystore.errors import LazystoreError
from lazystore.video.tables import FrameTable

if TYPE_CHECKING:
    from av import Packet, VideoCodecContext, VideoFrame
    from av.video.stream import VideoStream

    type AnyPacket = Packet[VideoStream]

# A seek throws away what the decoder and its threads hold, about this many packets' work.
SEEK_COST_PACKETS = 4


class PacketFeed(Protocol):
    """Packets of one stream in coded order, from any seek point, and the decoder they go to."""

    @property
    def context(self) -> VideoCodecContext:
        """The decoder; another one after `rewind`."""

    def rewind(self, packet_index: int, *, threads: int | None = None) -> None:
        """Be ready to give that packet next, with a decoder that remembers nothing.

        `threads` replaces the number of decoding threads; a feed may make a new decoder for it.
        """

    def next_packet(self) -> tuple[int, AnyPacket] | None:
        """The next packet and its number; None after the last."""

    def close(self) -> None:
        """Release files and the decoder. Idempotent."""


class FrameDecoder:
    """Decodes frames by their number; ascending order is the fast path, any order is exact.

    Parameters
    ----------
    feed
        Packets and the decoder. Closed by `close`.
    frames
        What the stream shows.
    error, remedy
        Raised where the stream does not fit `frames`; its one line ends with what to do then.

    Notes
    -----
    Not safe to call from two threads at a time. Holds one or two frames a decoding thread.

    A run begins at a seek point. A damaged packet looks the same as a keyframe that does not stand
    alone (missing or broken frames after it), so anything odd in the group where a run began is
    checked by starting one group earlier. What an earlier start confirms is damage.
    """

    def __init__(
        self, feed: PacketFeed, frames: FrameTable, *, error: type[LazystoreError], remedy: str
    ) -> None:
        self._feed = feed
        self._frames = frames
        self._error = error
        self._remedy = remedy
        self._reorder_depth = frames.reorder_depth()
        self._bad_seeks: set[int] = set()
        self._decoded: deque[tuple[int, VideoFrame]] = deque()
        self._run = -1  # seek point where this run began; -1 before the first
        self._last = -1  # last frame that came out, or the one before the run's first
        self._fed = -1  # last packet that went in
        self._floor = 0  # first frame that this run may give
        self._drained = False
        self._odd = False
        self._serial = False  # one thread, after an error while draining
        self.broken_packets: set[int] = set()

    @property
    def position(self) -> int:
        """The frame that would come next without seeking."""
        return self._decoded[0][0] if self._decoded else self._last + 1

    def read(self, start: int, stop: int, emit: Callable[[int, VideoFrame], None]) -> list[int]:
        """Give every frame of [start, stop) to `emit`, in order.

        Returns
        -------
        list of int
            Frames that the stream has lost; they are not emitted.
        """
        missing = []
        if not self._is_near(start):
            self._seek(self._frames.seek_index(start))
        for frame_index in range(start, stop):
            frame = self._take(frame_index)
            if frame is None:
                missing.append(frame_index)
            else:
                emit(frame_index, frame)
        return missing

    def close(self) -> None:
        """Release the feed; the next read starts afresh."""
        self._forget()
        self._feed.close()

    def _forget(self) -> None:
        self._decoded.clear()
        self._run, self._last, self._fed, self._floor = -1, -1, -1, 0
        self._drained = self._odd = self._serial = False

    def _is_near(self, frame_index: int) -> bool:
        """Whether going on from here is no dearer than a seek."""
        if self._run < 0 or self.position > frame_index:
            return False
        if self._decoded and self._decoded[-1][0] >= frame_index:
            return True
        seek = self._frames.seek_index(frame_index)
        return int(self._frames.seek_packet[seek]) <= self._fed + SEEK_COST_PACKETS

    def _take(self, frame_index: int) -> VideoFrame | None:
        while True:
            while self._decoded and self._decoded[0][0] < frame_index:
                self._decoded.popleft()
            if self._odd:
                self._check_from_earlier(frame_index)
                continue
            if self._decoded:
                return self._decoded.popleft()[1] if self._decoded[0][0] == frame_index else None
            if self._drained:
                return None
            self._pull()

    def _seek(self, seek_index: int) -> None:
        """Begin a run at a seek point whose own frame comes out whole, this one or one before."""
        while True:
            while seek_index in self._bad_seeks:
                seek_index -= 1
            self._begin(seek_index)
            if seek_index == 0:
                return
            while not (self._decoded or self._drained or self._odd):
                self._pull()
            if not self._odd and self._decoded:
                return
            self._bad_seeks.add(seek_index)

    def _begin(self, seek_index: int, *, threads: int | None = None) -> None:
        self._forget()
        packet_index = int(self._frames.seek_packet[seek_index])
        self._feed.rewind(packet_index, threads=threads)
        context = self._feed.context
        # A flush forgets how many frames to hold back, and the first ones would be dropped.
        context.reorder_depth = max(context.reorder_depth, self._reorder_depth)
        self._run = seek_index
        self._serial = threads == 1
        self._fed = packet_index - 1
        self._floor = int(self._frames.seek_frame[seek_index])
        self._last = self._floor - 1

    def _pull(self) -> None:
        """Feed one packet; whatever comes out joins `_decoded`."""
        fed = self._feed.next_packet()
        if fed is None:
            self._drain()
            return
        self._fed, packet = fed
        packet.pts = packet.dts = self._fed
        self._accept(self._decode(packet) or ())

    def _drain(self) -> None:
        decoded = self._decode(None)
        if decoded is None and self._last + 1 < len(self._frames) and not self._serial:
            # One thread's error ends the draining, and what the other threads hold is lost. A
            # decoder with one thread holds nothing behind a broken packet.
            self._begin(self._run, threads=1)
            return
        self._drained = True
        self._accept(decoded or ())
        self._note_odd(self._last + 1, ok=self._last + 1 >= len(self._frames))

    def _decode(self, packet: AnyPacket | None) -> list[VideoFrame] | None:
        """Frames that come out when a packet, or the end, goes in; None if it is broken."""
        from av import FFmpegError

        try:
            return self._feed.context.decode(packet)
        except FFmpegError:
            self.broken_packets.add(self._fed)
            if 0 <= self._fed < len(self._frames.frame_of_packet):
                self._note_odd(int(self._frames.frame_of_packet[self._fed]), ok=False)
            return None

    def _accept(self, decoded: Iterable[VideoFrame]) -> None:
        for frame in decoded:
            frame_index = self._identify(frame)
            if frame_index <= self._last:
                self._check_order(frame_index, frame)
                continue  # never shown, or shown before this run's first
            self._note_odd(self._last + 1, ok=frame_index == self._last + 1 and not frame.is_corrupt)
            self._last = frame_index
            self._decoded.append((frame_index, frame))

    def _identify(self, frame: VideoFrame) -> int:
        if not self._frames.identified:
            return self._last + 1
        packet_index = frame.pts
        if packet_index is None or not 0 <= packet_index < len(self._frames.frame_of_packet):
            raise self._error(
                f"a decoded frame carries number {packet_index!r}, which is none of the "
                f"{len(self._frames.frame_of_packet)} packets'; {self._remedy}"
            )
        return int(self._frames.frame_of_packet[packet_index])

    def _check_order(self, frame_index: int, frame: VideoFrame) -> None:
        if frame_index >= self._floor and not (frame.is_corrupt or self.broken_packets):
            raise self._error(
                f"frame {frame_index} is decoded after frame {self._last}, against its time stamp; "
                f"{self._remedy}"
            )

    def _note_odd(self, frame_index: int, *, ok: bool) -> None:
        """Doubt the run if something odd happens in the group where it began."""
        if ok or self._run <= 0 or frame_index < 0:
            return
        frame_index = min(frame_index, len(self._frames) - 1)
        self._odd = self._odd or self._run >= self._frames.seek_index(frame_index)

    def _check_from_earlier(self, frame_index: int) -> None:
        self._bad_seeks.add(self._run)
        self._seek(self._frames.seek_index(frame_index))
