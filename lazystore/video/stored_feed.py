"""A packet feed over bytes that lie one after the other: packets without their container."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lazystore.video.parameters import DecoderParameters
from lazystore.video.strict import strict_options
from lazystore.video.tables import CORRUPT, KEY, PacketTable

if TYPE_CHECKING:
    from av import VideoCodecContext

    from lazystore.video.decoder import AnyPacket

# Payload bytes at an offset. Blocks; raises if they are damaged.
type ReadBytes = Callable[[int, int], bytes | memoryview]
# Side data that changes how packets decode, by packet: its type, as FFmpeg names it, and its bytes.
type PacketSideBytes = Mapping[int, tuple[tuple[str, bytes], ...]]

# Read at once: a few packets of ordinary video, so that a remote store is not asked for each.
READ_AHEAD_BYTES = 128 * 1024


class StoredFeed:
    """A `PacketFeed` over a packet table and a function that reads payload bytes.

    Parameters
    ----------
    read_bytes
        Gives `size` bytes of the payload from `offset` on.
    packets
        Their offsets count from the payload's start; packets follow each other without gaps.
    parameters
        Of the decoder.
    side_data
        What a few packets carry besides their payload.
    threads
        Decoding threads; 0 is one a core.
    """

    def __init__(
        self,
        read_bytes: ReadBytes,
        packets: PacketTable,
        parameters: DecoderParameters,
        *,
        side_data: PacketSideBytes | None = None,
        threads: int = 0,
    ) -> None:
        self._read_bytes = read_bytes
        self._packets = packets
        self._parameters = parameters
        self._side_data = side_data or {}
        self._threads = threads
        self._context: VideoCodecContext | None = None
        self._context_threads = threads
        self._is_fresh = False
        self._next = 0
        self._held = memoryview(b"")
        self._held_offset = 0

    @property
    def parameters(self) -> DecoderParameters:
        return self._parameters

    @property
    def context(self) -> VideoCodecContext:
        if self._context is None:
            self._open(self._threads)
            assert self._context is not None
        return self._context

    def rewind(self, packet_index: int, *, one_thread: bool = False) -> None:
        threads = 1 if one_thread else self._threads
        if self._is_fresh and threads == self._context_threads:
            pass
        elif self._context is None or threads != self._context_threads or one_thread:
            # What a decoder makes up for damage may be what is left in its memory.
            self._open(threads)
        else:
            self._context.flush_buffers()
            # A flush forgets it, and the first frames would be dropped.
            self._context.reorder_depth = max(self._context.reorder_depth, self._parameters.reorder_depth)
        self._next = packet_index

    def next_packet(self) -> tuple[int, AnyPacket] | None:
        import av

        number = self._next
        if number >= len(self._packets):
            return None
        payload = self._payload(number)
        # Allocated by FFmpeg, because decoders read a little beyond a packet's end.
        packet: AnyPacket = av.Packet(len(payload))  # type: ignore[assignment]  # of no stream yet
        packet.update(payload)
        packet.is_keyframe = bool(self._packets.flags[number] & KEY)
        packet.is_corrupt = bool(self._packets.flags[number] & CORRUPT)
        for name, content in self._side_data.get(number, ()):
            _attach(packet, name, content)
        self._next += 1
        self._is_fresh = False
        return number, packet

    def close(self) -> None:
        self._context, self._held, self._held_offset = None, memoryview(b""), 0

    def _open(self, threads: int) -> None:
        self._context = self._parameters.open_decoder(threads, strict_options(self._parameters.codec))
        self._context_threads, self._is_fresh = threads, True

    def _payload(self, number: int) -> Any:
        offset, size = int(self._packets.offset[number]), int(self._packets.size[number])
        begin = offset - self._held_offset
        if begin < 0 or begin + size > len(self._held):
            last = max(number, int(np.searchsorted(self._packets.offset, offset + READ_AHEAD_BYTES)) - 1)
            length = int(self._packets.offset[last] + self._packets.size[last]) - offset
            self._held, self._held_offset, begin = memoryview(self._read_bytes(offset, length)), offset, 0
        return self._held[begin : begin + size]


def _attach(packet: AnyPacket, name: str, content: bytes) -> None:
    from av.packet import PacketSideData, packet_sidedata_type_from_literal

    side = PacketSideData(packet_sidedata_type_from_literal(name), len(content))  # type: ignore[arg-type,call-arg]  # undeclared constructor
    side.update(content)
    packet.set_sidedata(side, move=True)
