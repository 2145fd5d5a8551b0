"""A video's packets as they are, for stores that keep them instead of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import LazystoreError, SourceError, UsageError
from lazystore.protocols import Block, Column, Source, SourceInfo
from lazystore.sources.video.container import open_container
from lazystore.sources.video.feed import ContainerFeed
from lazystore.sources.video.recording import VideoSource
from lazystore.video.decoder import FrameDecoder
from lazystore.video.parameters import DecoderParameters
from lazystore.video.pixels import Pixels
from lazystore.video.record import PAYLOAD, EncodedVideo, table_arrays
from lazystore.video.stored_feed import StoredFeed
from lazystore.video.tables import CORRUPT, DISCARD, FrameTable, PacketTable, frame_table

if TYPE_CHECKING:
    from av import VideoFrame

# Side data goes into the item's metadata, which readers load whole.
MAX_SIDE_BYTES = 256 * 1024
# Frames compared at either end before packets are trusted to decode without their container.
COMPARED_FRAMES = 12


class PacketSource:
    """The packets of a video stream as one column of bytes, with all that decodes them again.

    A `Source` whose records are bytes: column `packets` has shape (byte,), uint8. The packet table
    and the packet of each frame are side arrays, ``item_attributes["encoded"]`` says how to decode.
    Bytes have no times; those of the frames are ``video.info.ticks``.

    Parameters
    ----------
    video
        The stream; stays the caller's to close.
    shown
        What of it is kept, decoded: the stream itself, or a selection of it at other times.
    frames
        Numbers of the frames that `shown` keeps; None for all. Packets that none of them needs are
        left out.
    crop
        (y0, y1, x0, x1) that `shown` keeps of each frame; None for all.
    """

    def __init__(
        self,
        video: VideoSource,
        *,
        shown: Source | None = None,
        frames: range | None = None,
        crop: tuple[int, int, int, int] | None = None,
    ) -> None:
        self.video = video
        self.shown = video if shown is None else shown
        scan = video.scan
        self._first_packet, self._packets, self.frames = _part_of(
            scan.packets, video.frames, frames, is_part=video.is_part
        )
        with open_container(video.path) as container:
            stream = next(s for s in container.streams.video if s.index == video.stream_index)
            parameters = DecoderParameters.of_stream(stream)
        if video.first_record:
            parameters = replace(parameters, width=video.pixels.width, height=video.pixels.height)
        pixels = video.pixels if crop is None else replace(video.pixels, crop=crop)
        side_data = {
            number - self._first_packet: carried
            for number, carried in scan.side_data.items()
            if 0 <= number - self._first_packet < len(self._packets)
        }
        self.record = EncodedVideo(parameters, pixels, side_data)
        self._feed = ContainerFeed(video.path, video.stream_index, scan, decodes=False)
        self._next_packet = 0
        self._rest = b""  # of the packet before `_next_packet`
        info = self.shown.info
        size = self._packets.size
        self._info = replace(
            info,
            ticks=None,
            columns=(Column(PAYLOAD, ("byte",), (int(size.sum()),), np.dtype(np.uint8), _MEANING),),
            side=(*info.side, *table_arrays(self._packets, self.frames)),
            item_attributes={**info.item_attributes, "encoded": self.record.to_json()},
        )

    @property
    def info(self) -> SourceInfo:
        return self._info

    @property
    def packets(self) -> PacketTable:
        """The packet table with offsets in the payload."""
        return self._packets

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged, as far as is known before all frames are decoded."""
        return not self.video.scan.errors and not self._packets.has(CORRUPT).any()

    def read(self, start: int, stop: int) -> Block:
        length = self._info.length
        if not 0 <= start < stop <= length:
            raise UsageError(f"bytes [{start}, {stop}) are not inside the {length} of the packets")
        data = np.empty(stop - start, np.uint8)
        filled = 0
        for part in self._payload_from(start):
            part = part[: len(data) - filled]
            data[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
            filled += len(part)
            if filled == len(data):
                break
        return Block(start, {PAYLOAD: data})

    def close(self) -> None:
        self._feed.close()
        self._next_packet, self._rest = 0, b""

    def _payload_from(self, start: int) -> Iterator[bytes]:
        """Payload from a byte on, packet by packet."""
        first = int(np.searchsorted(self._packets.offset, start, side="right")) - 1
        skipped = start - int(self._packets.offset[first])
        # A block mostly ends inside a packet; the next one goes on in it.
        is_inside_last = first == self._next_packet - 1 and self._rest
        if not is_inside_last and (first != self._next_packet or first == 0):
            self._feed.rewind(self._first_packet + first)
            self._next_packet = first
        if is_inside_last:
            yield self._rest[skipped:]
        while (given := self._feed.next_packet()) is not None:
            number = given[0] - self._first_packet
            self._next_packet = number + 1
            self._rest = bytes(given[1])
            yield self._rest[skipped if number == first else 0 :]
        raise SourceError(f"{self.video.path.name!r} ends before its last packet; open it again")


def _part_of(
    packets: PacketTable, table: FrameTable, frames: range | None, *, is_part: bool
) -> tuple[int, PacketTable, FrameTable]:
    """First packet, packets and frames of a part: from the seek point before it to its last packet.

    `is_part` says that the table is one itself.
    """
    if frames is None or not table.identified:
        frames = range(len(table))
    kept = table.packet[frames.start : frames.stop : frames.step]
    first, stop = 0, len(packets)
    is_part = is_part or len(kept) < len(table)
    if is_part:
        # What a decoder makes up for a damaged packet depends on the group before.
        back = 1 if packets.has(CORRUPT).any() else 0
        first = int(table.seek_packet[max(0, table.seek_index(frames.start) - back)])
        stop = int(kept.max()) + 1
    size, flags = packets.size[first:stop], packets.flags[first:stop].copy()
    if is_part:
        is_kept = np.zeros(stop - first, np.bool_)
        is_kept[kept - first] = True
        flags[~is_kept] |= DISCARD
    part = PacketTable(
        packets.pts[first:stop],
        packets.dts[first:stop],
        np.cumsum(size) - size,
        size,
        packets.duration[first:stop],
        flags,
    )
    packet = kept - first if table.identified else kept
    return first, part, frame_table(part, packet, part.pts[packet])


_MEANING = {"long_name": "compressed packets, one after the other; see the arrays of 'packet'"}


def why_not_encoded(source: PacketSource) -> str | None:
    """Why a video must be kept as pixels; None where its packets decode alike without the container.

    Decodes a few frames both ways and compares every value.
    """
    shown, record, frames = source.shown, source.record, source.frames
    if not frames.identified:
        return "its frames cannot be told apart by their packets"
    side_bytes = sum(len(content) for carried in record.side_data.values() for _, content in carried)
    if side_bytes > MAX_SIDE_BYTES:
        return f"its packets carry {side_bytes} bytes of side data, more than {MAX_SIDE_BYTES}"
    feed = StoredFeed(
        lambda offset, size: source.read(offset, offset + size).columns[PAYLOAD].tobytes(),
        source.packets,
        record.parameters,
        side_data=record.side_data,
    )
    decoder = FrameDecoder(feed, frames, error=SourceError, remedy="keep it as pixels")
    try:
        for frame_index in _compared(source):
            # One at a time: a frame that is read alone is not copied. Where that fails, pixels would, too.
            expected = shown.read(frame_index, frame_index + 1)
            try:
                image = _decoded(decoder, record.pixels, frame_index)
            except LazystoreError as error:
                return str(error)
            wanted = None if expected.missing else expected.columns["data"][0]
            if image is None or wanted is None:
                is_alike = image is wanted
            else:
                is_alike = np.array_equal(image, wanted)
            if not is_alike:
                return f"frame {frame_index} decodes differently without the container"
    finally:
        decoder.close()
        source.close()
    return None


def _compared(source: PacketSource) -> list[int]:
    """The frames that are compared: the recording's first ones, and the first ones of its last group.

    A sound group that decodes alike at its beginning does so to its end, which may be minutes away. In
    a recording that is damaged anywhere it is the very last frames, and all that leads to them.
    """
    frames = source.frames
    last = int(frames.seek_frame[-1]) if source.is_sound else max(0, len(frames) - COMPARED_FRAMES)
    starts = np.array([[0], [last]])
    chosen = np.unique(starts + np.arange(COMPARED_FRAMES))
    return [int(frame_index) for frame_index in chosen[chosen < len(frames)]]


def _decoded(decoder: FrameDecoder, pixels: Pixels, frame_index: int) -> NDArray[Any] | None:
    """One frame; None where the packets do not give it."""
    found: list[NDArray[Any]] = []

    def keep(_: int, frame: VideoFrame) -> None:
        if pixels.fits(frame):
            found.append(pixels.image(frame))

    decoder.read(frame_index, frame_index + 1, keep)
    return found[0] if found else None
