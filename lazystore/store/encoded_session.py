"""One decoder of an encoded video, and the frames that it passed lately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lazystore.errors import DamagedStoreError
from lazystore.video.decoder import FrameDecoder
from lazystore.video.record import EncodedVideo
from lazystore.video.stored_feed import ReadBytes, StoredFeed
from lazystore.video.tables import FrameTable, PacketTable

if TYPE_CHECKING:
    from av import VideoFrame

# For threads that ask a little out of order. More would push the decoder's own memory out of the
# processor's caches: always keeping 70 frames of 640x480 cost a quarter of the speed.
FORWARD_KEPT_FRAMES = 8
# In reverse play however large a frame is, so that it does not decode a group for each.
MIN_KEPT_FRAMES = 8
FAR = 1 << 62
# Whose decoders leave out what no other frame refers to, and nothing else; tested bit by bit.
CODECS_TO_SKIP_IN = frozenset({"h264", "hevc", "mpeg4"})


class DecodingSession:
    """Frames by number for one thread at a time.

    Frames are kept as the decoder made them: turning them into pixels costs only where they are
    asked for.

    Parameters
    ----------
    read_bytes, record, packets, frames
        As for `EncodedVideoReader`.
    threads
        Decoding threads, 0 for one a core.
    keep_bytes
        Memory for frames that were passed.
    damaged
        Frames that were missing or doubtful when the video was stored.
    sound
        Whether nothing was damaged when all of it was decoded.
    """

    def __init__(
        self,
        read_bytes: ReadBytes,
        record: EncodedVideo,
        packets: PacketTable,
        frames: FrameTable,
        *,
        threads: int,
        keep_bytes: int,
        damaged: Iterable[int] = (),
        sound: bool = False,
    ) -> None:
        feed = StoredFeed(read_bytes, packets, record.parameters, side_data=record.side_data, threads=threads)
        self._decoder = FrameDecoder(
            feed,
            frames,
            error=DamagedStoreError,
            remedy="the packets do not fit their table; run lazystore verify",
            skips=sound and record.parameters.codec in CODECS_TO_SKIP_IN,
            checks=not sound,
            damaged=damaged,
        )
        self._frames = frames
        self._keep_bytes = keep_bytes
        self._max_kept = 0  # until a frame is there to be measured
        self._kept: OrderedDict[int, VideoFrame | None] = OrderedDict()
        self._heading = -1  # the last frame of the work at hand
        self._asked = -1  # the frame that was decoded for last
        self._spared = range(0)  # frames just before the work at hand; see `begin`

    @property
    def decoded_frames(self) -> int:
        """Frames that came out of the decoder so far."""
        return self._decoder.decoded_frames

    def begin(self, frame_index: int) -> None:
        """Be about to give frames from this one on.

        What is decoded on the way to it stays until the next call. Of two threads that read the playhead's
        next frames the later part may get the decoder first, and whoever wants the frames just before it
        would decode the group up to there again.
        """
        spared = range(0)
        if frame_index not in self._kept:
            spared = range(self._first_to_keep(frame_index, FORWARD_KEPT_FRAMES), frame_index)
        self._spared = spared

    def frames(self, start: int, stop: int) -> Iterator[tuple[int, VideoFrame | None]]:
        """Frames [start, stop) in order; None for those that the packets do not give."""
        self._heading = stop - 1
        for frame_index in range(start, stop):
            if frame_index not in self._kept:
                self._decode_to(frame_index)
            yield frame_index, self._kept[frame_index]

    def cost(self, frame_index: int) -> int:
        """About how many packets a frame takes from here; may be asked from any thread."""
        return 0 if frame_index in self._kept else self._decoder.packets_to(frame_index)

    def comes_next(self, frame_index: int) -> bool:
        """Whether a frame is the next one to come out; from any thread."""
        return self._decoder.position == frame_index

    def cost_after(self, frame_index: int) -> int:
        """The same for when the work at hand is done; from any thread."""
        if frame_index in self._spared:
            return 0
        heading = self._heading
        if heading < 0 or frame_index <= heading - FORWARD_KEPT_FRAMES:
            return FAR
        return max(0, int(self._frames.packet[frame_index] - self._frames.packet[heading]))

    def forget(self) -> None:
        """Begin the next read with a seek."""
        self._kept.clear()
        self._spared = range(0)
        self._decoder.close()

    def close(self) -> None:
        """Release the decoder and its frames."""
        self.forget()

    def _decode_to(self, frame_index: int) -> None:
        # Of the frames that come out on the way the last ones are kept: a few for neighbours, and as
        # many as there is room for where the playhead goes back and will ask for them next.
        goes_back = 0 < self._asked - frame_index <= self._max_kept
        max_kept = self._max_kept if goes_back else FORWARD_KEPT_FRAMES
        self._asked = frame_index
        for passed in range(self._first_to_keep(frame_index, max_kept), frame_index + 1):
            if self._decoder.read(passed, passed + 1, self._keep):
                self._keep(passed, None)
            while len(self._kept) > max_kept + len(self._spared):
                del self._kept[next(index for index in self._kept if index not in self._spared)]

    def _first_to_keep(self, frame_index: int, max_kept: int) -> int:
        """The first frame that is kept on the way to a frame; itself where it is the next one."""
        return max(self._decoder.first_on_the_way(frame_index), frame_index - max_kept + 1)

    def _keep(self, frame_index: int, frame: VideoFrame | None) -> None:
        if frame is not None and not self._max_kept:
            frame_bytes = sum(plane.buffer_size for plane in frame.planes)
            self._max_kept = max(MIN_KEPT_FRAMES, self._keep_bytes // max(1, frame_bytes))
        self._kept[frame_index] = frame
        self._kept.move_to_end(frame_index)
