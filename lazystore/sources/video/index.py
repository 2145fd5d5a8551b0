"""The table of a video's packets from one pass over its container, without decoding."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lazystore.sources.video.container import read_packets
from lazystore.video.tables import CORRUPT, DISCARD, KEY, NO_TIME, PacketTable

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import PktSideDataT
    from av.video.stream import VideoStream

    from lazystore.sources.video.container import VideoPacket

# A keyframe's head tells it from the others; hashing all of it would double the pass over files
# in which every packet is a keyframe.
_HASHED_BYTES = 4096
# An MPEG-4 picture costs at least a bit a macroblock, one that only says "as before" fits in this.
_SMALLEST_MPEG4_PICTURE = 64
_MPEG4_PICTURE = b"\0\0\1\xb6"
# What a container may hand a decoder in the middle of a stream: new parameter sets, a palette.
_SIDE_DATA: tuple[PktSideDataT, ...] = ("new_extradata", "palette", "param_change")


@dataclass(frozen=True, slots=True, eq=False)
class KeyMarks:
    """What a keyframe packet is recognised by after a seek, since positions and times may differ.

    Attributes
    ----------
    code
        Shape (keyframe,), uint64, sorted: size and checksum of the payload's head.
    packet
        Shape (keyframe,), int64: the packets' numbers, in the order of `code`.
    """

    code: NDArray[np.uint64]
    packet: NDArray[np.int64]

    def find(self, packet: VideoPacket, table: PacketTable) -> int | None:
        """Number of a keyframe packet; None if it is unknown or looks like another one."""
        code = np.uint64(_code_of(packet))
        low, high = np.searchsorted(self.code, [code, code + np.uint64(1)])
        candidates = self.packet[low:high].tolist()
        if len(candidates) > 1 and packet.pos is not None:
            candidates = [number for number in candidates if table.offset[number] == packet.pos]
        if len(candidates) > 1:
            candidates = [number for number in candidates if table.pts[number] == _time(packet.pts)]
        return candidates[0] if len(candidates) == 1 else None


@dataclass(frozen=True, slots=True, eq=False)
class ScannedStream:
    """What one pass over the container tells of a stream.

    Attributes
    ----------
    packets, marks
        Its packets, and how to recognise the keyframes among them.
    irregular
        Whether some packets may hold no picture, or two.
    side_data
        By packet, what it carries besides its payload that changes how it decodes: type and bytes.
    errors
        What the demuxer complained of, for all streams together.
    """

    packets: PacketTable
    marks: KeyMarks
    irregular: bool = False
    side_data: Mapping[int, tuple[tuple[str, bytes], ...]] = field(default_factory=dict)
    errors: tuple[str, ...] = ()

    @property
    def is_damaged(self) -> bool:
        """Whether the container is broken elsewhere than at its end."""
        return bool(self.errors) or bool(self.packets.has(CORRUPT)[:-1].any())


def scan_streams(container: InputContainer, streams: tuple[VideoStream, ...]) -> dict[int, ScannedStream]:
    """Tables of the given streams, by stream index; reads the file once from where it stands.

    Memory grows by 50 bytes a packet.
    """
    builders = {stream.index: _Builder(stream.codec_context.codec.canonical_name) for stream in streams}
    errors: list[str] = []
    for packet in read_packets(container, streams, errors):
        builders[packet.stream_index].add(packet)
    return {index: builder.finish(tuple(errors)) for index, builder in builders.items()}


class _Builder:
    def __init__(self, codec: str) -> None:
        self._codec = codec
        # pts, dts, offset, size, duration; machine integers, because lists of int cost 5x more
        self._columns = tuple(array("q") for _ in range(5))
        self._flags = array("B")
        self._codes = array("Q")
        self._keys = array("q")
        self._irregular = False
        self._side_data: dict[int, tuple[tuple[str, bytes], ...]] = {}

    def add(self, packet: VideoPacket) -> None:
        pts, dts, offset, size, duration = self._columns
        flags = KEY * packet.is_keyframe | CORRUPT * packet.is_corrupt | DISCARD * packet.is_discard
        carried = tuple((name, _side_bytes(packet, name)) for name in _SIDE_DATA if packet.has_sidedata(name))
        if carried:
            self._side_data[len(size)] = carried
        if packet.is_keyframe:
            self._keys.append(len(size))
            self._codes.append(_code_of(packet))
        if self._codec == "vp8" and not memoryview(packet)[0] & 0x10:
            flags |= DISCARD  # a reference picture that is coded but never shown
        elif self._codec == "mpeg4" and not self._irregular:
            self._irregular = (
                packet.size < _SMALLEST_MPEG4_PICTURE or bytes(packet).count(_MPEG4_PICTURE) != 1
            )
        pts.append(_time(packet.pts))
        dts.append(_time(packet.dts))
        offset.append(-1 if packet.pos is None else packet.pos)
        size.append(packet.size)
        duration.append(packet.duration or 0)
        self._flags.append(flags)

    def finish(self, errors: tuple[str, ...]) -> ScannedStream:
        pts, dts, offset, size, duration = (np.array(column, np.int64) for column in self._columns)
        codes = np.array(self._codes, np.uint64)
        order = np.argsort(codes, kind="stable")
        return ScannedStream(
            PacketTable(pts, dts, offset, size, duration, np.array(self._flags, np.uint8)),
            KeyMarks(codes[order], np.array(self._keys, np.int64)[order]),
            self._irregular,
            self._side_data,
            errors,
        )


def _time(time: int | None) -> int:
    return NO_TIME if time is None else time


def _side_bytes(packet: VideoPacket, name: PktSideDataT) -> bytes:
    return bytes(packet.get_sidedata(name))


def _code_of(packet: VideoPacket) -> int:
    return (packet.size & 0xFFFFFFFF) << 32 | zlib.crc32(memoryview(packet)[:_HASHED_BYTES])
