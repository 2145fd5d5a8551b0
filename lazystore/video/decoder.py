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
from lazystore.video.parameters import DecoderParameters
from lazystore.video.strict import decode_apart, has_checksums, is_whole
from lazystore.video.tables import FrameTable

if TYPE_CHECKING:
    from av import Packet, VideoCodecContext, VideoFrame
    from av.video.stream import VideoStream

    type AnyPacket = Packet[VideoStream]

# No codec reorders more; FFmpeg's H.264 decoder ends the process if told to hold back more.
MAX_REORDER_DEPTH = 16
# A seek throws away what the decoder and its threads hold, about this many packets' work.
SEEK_COST_PACKETS = 4


class PacketFeed(Protocol):
    """Packets of one stream in coded order, from any seek point, and the decoder they go to."""

    @property
    def parameters(self) -> DecoderParameters:
        """What another decoder of the same packets has to be told."""

    @property
    def context(self) -> VideoCodecContext:
        """The decoder; `rewind` may replace it."""

    def rewind(self, packet_index: int, *, one_thread: bool = False) -> None:
        """Be ready to give that packet next, with a decoder that remembers nothing."""

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
    skips
        Whether pictures that no other refers to may be left out on the way to a frame: a third of the
        work with B-frames. Only for streams that are known to be sound, since a picture that damage has
        cost is then not told from one that was left out.
    checks
        Whether to compare packets' checksums where the codec has some that its decoder passes over.
    damaged
        Frames that reading all of the stream in order found missing or doubtful, where that is known: what
        is made up for them then does not depend on where a read begins.
    error, remedy
        Raised where the stream does not fit `frames`; its one line ends with what to do then.

    Notes
    -----
    Not safe to call from two threads at a time. Holds a few frames: as many as are reordered, and
    one or two a decoding thread.

    A run begins at a seek point, with threads. Anything odd (an error, a frame that is missing or
    marked corrupt) means a damaged packet, or a keyframe that does not stand alone. Either way the
    group is decoded again with one thread from a sound group before it, now and at every later
    visit: with threads FFmpeg loses more of a damaged group, and not always the same, and the
    result would depend on where a read began. What that run shows is believed.
    """

    def __init__(
        self,
        feed: PacketFeed,
        frames: FrameTable,
        *,
        error: type[LazystoreError],
        remedy: str,
        skips: bool = False,
        checks: bool = True,
        damaged: Iterable[int] = (),
    ) -> None:
        self._feed = feed
        self._frames = frames
        self._error = error
        self._remedy = remedy
        self._skips = skips
        self._checks: bool | None = None if checks else False  # None: ask the feed when it is open
        self._reorder_depth = min(frames.reorder_depth(), MAX_REORDER_DEPTH)
        self._behind = frames.frames_behind()
        # What follows may be the rest of a recording, of another size.
        self._last_packet = int(frames.packet.max(initial=-1)) if frames.identified else None
        # Groups, by their seek point: odd in a run with threads, which only suggests where; and
        # found damaged by a run with one thread, which tells where runs may not begin.
        self._cut = frozenset(frames.cut_frames())
        self._suspect = {frames.seek_index(frame) for frame in self._cut}
        # A picture that stands alone needs none before it, however many of them are damaged.
        self._damaged = frames.shared_groups(damaged)
        self.broken_packets: set[int] = set()
        """Packets that the decoder refused, or whose checksums do not fit."""
        self.decoded_frames = 0
        """Frames that came out so far, wanted or not."""
        self._first_odd_packet: dict[int, int] = {}  # by the group in which it is coded
        self._doubtful: set[int] = set()
        self._seen = self._late = 0  # frames, in runs with one thread
        self._group = (0, 0, 0)  # number, first frame and end of the group looked at last
        self._forget()

    def doubtful_frames(self) -> list[int]:
        """Frames, of what was read so far, that may hold parts which the decoder made up.

        Their packet is broken, or coded after a broken one in its group, so that they may be
        predicted from it.
        """
        return sorted(self._doubtful)

    def read(self, start: int, stop: int, emit: Callable[[int, VideoFrame], None]) -> list[int]:
        """Give every frame of [start, stop) to `emit`, in order.

        Returns
        -------
        list of int
            Frames that the stream has lost; they are not emitted.
        """
        missing = []
        for frame_index in range(start, stop):
            self._make_ready(frame_index)
            frame = self._take(frame_index)
            if frame is None:
                missing.append(frame_index)
            else:
                emit(frame_index, frame)
        return missing

    @property
    def position(self) -> int:
        """The frame that comes next without a seek."""
        return self._next

    def first_on_the_way(self, frame_index: int) -> int:
        """The first frame that reading a frame decodes besides it: those in between cost nothing."""
        begin, _ = self._way_to(frame_index)
        return self._next if begin is None else int(self._frames.seek_frame[begin])

    def packets_to(self, frame_index: int) -> int:
        """About how many packets have to be decoded before a frame comes out."""
        packet = int(self._frames.packet[frame_index])
        begin, _ = self._way_to(frame_index)
        start = self._fed if begin is None else int(self._frames.seek_packet[begin]) - 1
        return max(0, packet - start)

    def close(self) -> None:
        """Release the feed; the next read starts afresh."""
        self._forget()
        self._feed.close()

    def _forget(self) -> None:
        self._decoded: deque[tuple[int, VideoFrame]] = deque()
        self._run = -1  # seek point where this run began; -1 before the first
        self._alone = False  # whether this run has one thread, and is believed
        self._first = 0  # first frame that this run may give
        self._next = 0  # first frame that it can still give
        self._last = -1  # last frame that came out
        self._fed = -1  # last packet that went in
        self._drained = False
        self._in_doubt = False
        self._skipping = False
        self._skipped_below = 0  # frames below may have been left out

    def _begin(self, seek_index: int, *, alone: bool = False) -> None:
        self._forget()
        packet_index = int(self._frames.seek_packet[seek_index])
        self._feed.rewind(packet_index, one_thread=alone)
        context = self._feed.context
        # A flush forgets how many frames to hold back, and the first ones would be dropped.
        context.reorder_depth = max(context.reorder_depth, self._reorder_depth)
        if self._skips:
            context.skip_frame = "DEFAULT"
        self._run, self._alone = seek_index, alone
        self._fed = packet_index - 1
        self._first = int(self._frames.seek_frame[seek_index])
        self._next = self._first
        self._last = self._first - 1

    def _make_ready(self, frame_index: int) -> None:
        """Begin another run if this one cannot give the frame, or not soon, or not as it should."""
        begin, alone = self._way_to(frame_index)
        if begin is not None:
            self._begin(begin, alone=alone)

    def _way_to(self, frame_index: int) -> tuple[int | None, bool]:
        """The seek point to begin at, None to go on from here; and whether with one thread."""
        group = self._group_of(frame_index)
        if group in self._suspect or group in self._damaged:
            begin = self._sound_group_before(group)
            # What a decoder makes up for a damaged packet depends on all it has seen before.
            goes_on = self._alone and self._run == begin and self._is_near(frame_index, begin)
            return None if goes_on else begin, True
        if self._alone and frame_index == self._frames.seek_frame[group]:
            return group, False  # past the damage: with threads again
        return None if self._is_near(frame_index, group) else group, False

    def _group_of(self, frame_index: int) -> int:
        """Number of a frame's group; in most calls the same one as before."""
        group, start, stop = self._group
        if not start <= frame_index < stop:
            group = self._frames.seek_index(frame_index)
            members = self._frames.group_of(frame_index)
            self._group = group, members.start, members.stop
        return group

    def _sound_group_before(self, group: int) -> int:
        group -= 1
        while group > 0 and group in self._damaged:
            group -= 1
        return max(group, 0)

    def _believes(self, group: int) -> bool:
        """Whether this run began early enough to tell damage in a group from a bad start."""
        return self._run < group or self._run == 0

    def _is_near(self, frame_index: int, seek_index: int) -> bool:
        """Whether going on from here is no dearer than a seek."""
        if self._run < 0 or self._next > frame_index:
            return False
        return (
            self._last >= frame_index
            or int(self._frames.seek_packet[seek_index]) <= self._fed + SEEK_COST_PACKETS
        )

    def _take(self, frame_index: int) -> VideoFrame | None:
        """The frame, once all that it may be predicted from is known to be whole."""
        self._drop_before(frame_index)
        while self._last < self._behind[frame_index] and not self._drained:
            self._pull()
            if self._in_doubt:
                self._suspect.add(self._frames.seek_index(frame_index))
                self._make_ready(frame_index)
                self._drop_before(frame_index)
        self._next = frame_index + 1
        if self._decoded and self._decoded[0][0] == frame_index:
            return self._decoded.popleft()[1]
        return None

    def _drop_before(self, frame_index: int) -> None:
        self._next = frame_index
        while self._decoded and self._decoded[0][0] < frame_index:
            self._decoded.popleft()

    def _pull(self) -> None:
        """Feed one packet, or the end; whatever comes out joins `_decoded`."""
        fed = None if self._fed == self._last_packet else self._feed.next_packet()
        if fed is None:
            self._accept(self._decode(None))
            self._drained = True
            if self._last + 1 < len(self._frames):
                self._doubt(self._last + 1)
            return
        self._fed, packet = fed
        packet.pts = packet.dts = self._fed
        if self._skips:
            self._skip_or_not()
        if self._checks is None:
            self._checks = has_checksums(self._feed.parameters)
        if self._checks and not is_whole(packet):
            self._doubt_packet()
        self._accept(self._decode(packet))

    def _skip_or_not(self) -> None:
        """Have the packet left out if its frame is passed anyway and no other refers to it."""
        frame_index = int(self._frames.frame_of_packet[self._fed])
        is_passed = not self._alone and 0 <= frame_index < self._next
        if is_passed is not self._skipping:
            self._feed.context.skip_frame = "NONREF" if is_passed else "DEFAULT"
            self._skipping = is_passed
        if is_passed:
            self._skipped_below = max(self._skipped_below, frame_index + 1)

    def _decode(self, packet: AnyPacket | None) -> Iterable[VideoFrame]:
        from av import FFmpegError

        try:
            return self._feed.context.decode(packet)
        except FFmpegError:
            if packet is None:
                self._doubt(self._last + 1)
                return ()
            return self._decode_refused(packet)

    def _decode_refused(self, packet: AnyPacket) -> Iterable[VideoFrame]:
        from av.codec.context import ThreadType

        # Threads that work on a frame each report late; which packet it was is not known then.
        if self._alone or ThreadType.FRAME not in self._feed.context.active_thread_type:
            frames = decode_apart(self._feed.parameters, packet)
            if frames is not None:
                frame_index = int(self._frames.frame_of_packet[self._fed])
                self._doubtful.add(frame_index if frame_index >= 0 else self._last + 1)
                self.broken_packets.add(self._fed)
                return frames
        self._doubt_packet()
        return ()

    def _doubt_packet(self) -> None:
        """The packet that went in last is broken, or one that went in shortly before."""
        frame_index = int(self._frames.frame_of_packet[self._fed])
        self._doubt(frame_index if frame_index >= 0 else self._last + 1)
        if self._alone:
            self.broken_packets.add(self._fed)

    def _accept(self, decoded: Iterable[VideoFrame]) -> None:
        for frame in decoded:
            self.decoded_frames += 1
            frame_index = self._identify(frame)
            if frame_index < self._first:
                continue  # never shown, or before what this run may give
            if frame_index <= self._last:
                self._accept_late(frame_index)
                continue
            expected = max(self._last + 1, self._skipped_below)
            if frame_index > expected:
                self._doubt(expected)
            if frame.is_corrupt or frame_index in self._cut:
                self._doubt(frame_index)
            self._last = frame_index
            self._seen += self._alone
            if self._alone:
                # Else what the decoder's memory holds next depended on how long somebody keeps this frame.
                frame.make_writable()
            if frame_index >= self._next:  # a long way to the frame wanted must not fill the memory
                self._decoded.append((frame_index, frame))

    def _accept_late(self, frame_index: int) -> None:
        """A frame that comes after a later one: damage does that to a few, and they stay missing."""
        self._doubt(frame_index)
        self._late += self._alone
        if self._late > 4 and 4 * self._late > self._seen:
            raise self._error(
                f"frame {frame_index} is decoded after frame {self._last}, against its time stamp; "
                f"{self._remedy}"
            )

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

    def _doubt(self, frame_index: int) -> None:
        """Something is odd about a frame; this run is given up unless it may be believed there."""
        frame_index = min(frame_index, len(self._frames) - 1)
        packet = int(self._frames.packet[frame_index])
        group = self._frames.coded_group(packet)
        if self._alone and packet >= self._first_odd_packet.get(group, packet + 1):
            return  # all that follows from it is known
        after = self._frames.coded_after(packet)
        # Two, where frames are shown before the keyframe that they are coded after.
        groups = {self._frames.seek_index(int(frame)) for frame in after[[0, -1]]}
        is_believed = self._alone and self._believes(min(groups))
        self._in_doubt = self._in_doubt or not is_believed
        (self._damaged if self._alone else self._suspect).update(groups)
        if is_believed:
            self._first_odd_packet[group] = packet
            self._doubtful.update(after.tolist())
