"""Which packet gives which frame, and where decoding may start, as plain integer arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEY = 1
CORRUPT = 2
DISCARD = 4

# Stands for "the container gives no time", as in FFmpeg.
NO_TIME = int(np.iinfo(np.int64).min)

type Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PacketTable:
    """Every packet of one video stream, in the order a decoder takes them.

    Attributes
    ----------
    pts, dts
        Shape (packet,), int64, in units of the stream's time base; `NO_TIME` where unknown.
    offset
        Shape (packet,), int64: where the payload begins, in bytes; -1 where unknown.
    size
        Shape (packet,), int64: length of the payload in bytes, > 0.
    duration
        Shape (packet,), int64, in units of the time base; 0 where unknown.
    flags
        Shape (packet,), uint8: sum of `KEY`, `CORRUPT`, `DISCARD` (needed by others, never shown).
    """

    pts: Int64Array
    dts: Int64Array
    offset: Int64Array
    size: Int64Array
    duration: Int64Array
    flags: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.size)

    def span(self) -> int:
        """From the first time to the end of the last packet, in units of the time base; 0 unknown."""
        times = self.pts[self.pts != NO_TIME]
        return int(times.max() - times.min() + np.median(self.duration)) if len(times) else 0

    def has(self, flag: int) -> NDArray[np.bool_]:
        """Shape (packet,), bool: which packets carry a flag."""
        carries: NDArray[np.bool_] = (self.flags & flag) != 0
        return carries


@dataclass(frozen=True, slots=True, eq=False)
class FrameTable:
    """Frames in the order they are shown, and the points where decoding may start.

    Attributes
    ----------
    packet
        Shape (time,), int64: number of the packet that codes each frame.
    pts
        Shape (time,), int64: when each frame is shown, in units of the time base.
    frame_of_packet
        Shape (packet,), int64: the frame that a packet codes, -1 where it shows none.
    seek_packet, seek_frame
        Shape (seek point,), int64, both strictly increasing, starting with (0, 0): a decoder that
        starts at that packet gives every frame from that one on. Frames before it may come out
        too, but lack their references (open GOPs).
    cut_packet
        Shape (cut packet,), int64: packets that the container marks as corrupt.
    identified
        False where decoded frames cannot be told apart by their packet: they are counted then, and
        (0, 0) is the only seek point.
    """

    packet: Int64Array
    pts: Int64Array
    frame_of_packet: Int64Array
    seek_packet: Int64Array
    seek_frame: Int64Array
    cut_packet: Int64Array
    identified: bool = True

    def __len__(self) -> int:
        return len(self.packet)

    def seek_index(self, frame_index: int) -> int:
        """Number of the last seek point that reaches a frame."""
        return int(np.searchsorted(self.seek_frame, frame_index, side="right")) - 1

    def cut_frames(self) -> list[int]:
        """Frames whose packets are marked as corrupt."""
        frames = self.frame_of_packet[self.cut_packet]
        return sorted(frames[frames >= 0].tolist())

    def group_of(self, frame_index: int) -> range:
        """Frames that decode together with this one: from its seek point to the next."""
        index = self.seek_index(frame_index)
        after = index + 1
        stop = int(self.seek_frame[after]) if after < len(self.seek_frame) else len(self)
        return range(int(self.seek_frame[index]), stop)

    def shared_groups(self, frames: Iterable[int]) -> set[int]:
        """Numbers of the groups of some frames, less those that are a single frame."""
        wanted = np.fromiter(frames, np.int64)
        numbers = np.unique(np.searchsorted(self.seek_frame, wanted, side="right") - 1)
        lengths = np.diff(self.seek_frame, append=len(self))
        return set(numbers[lengths[numbers] > 1].tolist())

    def coded_group(self, packet: int) -> int:
        """Number of the last seek point that a packet does not come before."""
        return int(np.searchsorted(self.seek_packet, packet, side="right")) - 1

    def coded_after(self, packet: int) -> Int64Array:
        """Shape (n,), int64, ascending: frames that may be predicted from a packet, its own among them.

        They are coded no earlier, up to the next seek point; and so are those that are coded after that
        one but shown before its frame (open GOPs), which refer to both groups.
        """
        after = self.coded_group(packet) + 1
        stop = int(self.seek_frame[after]) if after < len(self.seek_frame) else len(self)
        return np.flatnonzero(self.packet[:stop] >= packet)

    def reorder_depth(self) -> int:
        """Frames a decoder must hold back so that it gives none too early.

        >>> table = frame_table(*_example())
        >>> table.packet.tolist(), table.reorder_depth()
        ([0, 2, 1, 3], 1)
        """
        if not self.identified or not len(self):
            return 0
        rank = np.empty(len(self), np.int64)
        rank[np.argsort(self.packet, kind="stable")] = np.arange(len(self))
        return int((np.maximum.accumulate(rank) - np.arange(len(self))).max())

    def frames_behind(self) -> Int64Array:
        """Shape (time,), int64: the last frame shown that was coded no later than each frame.

        What a frame may be predicted from is known to be whole once that one is out.

        >>> frame_table(*_example()).frames_behind().tolist()
        [0, 2, 2, 3]
        """
        if not self.identified:
            return np.arange(len(self), dtype=np.int64)
        coded = np.argsort(self.packet, kind="stable")
        behind = np.empty(len(self), np.int64)
        behind[coded] = np.maximum.accumulate(coded)
        return behind


def frame_table(packets: PacketTable, packet: Int64Array, pts: Int64Array) -> FrameTable:
    """The table for frames shown in a given order.

    Parameters
    ----------
    packets
        The stream's packets.
    packet
        Shape (time,), int64: the packet of each frame, in the order shown.
    pts
        Shape (time,), int64: times of the frames, in the packets' clock where keyframes that are
        not shown are to serve as seek points.
    """
    identified = len(np.unique(packet)) == len(packet) and bool((packet >= 0).all())
    frame_of_packet = np.full(len(packets), -1, np.int64)
    seek_packet = seek_frame = np.zeros(1, np.int64)
    if identified and len(packet):
        frame_of_packet[packet] = np.arange(len(packet))
        seek_packet, seek_frame = _seek_points(packets, packet, pts, frame_of_packet)
    cut = np.flatnonzero(packets.has(CORRUPT))
    return FrameTable(packet, pts, frame_of_packet, seek_packet, seek_frame, cut, identified)


def _seek_points(
    packets: PacketTable, packet: Int64Array, pts: Int64Array, frame_of_packet: Int64Array
) -> tuple[Int64Array, Int64Array]:
    keys = np.flatnonzero(packets.has(KEY))
    frames = frame_of_packet[keys]
    # A keyframe that is itself cut away by an edit list still serves the frames shown after it.
    hidden = (frames < 0) & packets.has(DISCARD)[keys] & (packets.pts[keys] != NO_TIME)
    hidden &= bool((np.diff(pts) >= 0).all())
    frames[hidden] = np.searchsorted(pts, packets.pts[keys][hidden])
    # All frames from the keyframe's own on must be coded at or after it. Those of an open GOP that
    # are shown before it are coded after it as well, but need the group before.
    first_packet_needed = np.append(np.minimum.accumulate(packet[::-1])[::-1], -1)
    usable = (frames > 0) & (first_packet_needed[frames] >= keys)
    keys, frames = keys[usable], frames[usable]
    # Where frames go backwards or repeat, the earlier point already serves them.
    rises = np.diff(np.maximum.accumulate(frames), prepend=0) > 0
    zero = np.zeros(1, np.int64)
    return np.concatenate([zero, keys[rises]]), np.concatenate([zero, frames[rises]])


def packets_in_display_order(packets: PacketTable) -> Int64Array:
    """Shape (time,), int64: the packets that are shown, by their pts, ties in coded order."""
    shown = np.flatnonzero(~packets.has(DISCARD))
    return shown[np.argsort(packets.pts[shown], kind="stable")]


def _example() -> tuple[Any, Any, Any]:
    """Four packets I P B P, coded 0 1 2 3 and shown 0 2 1 3, for doctests."""
    pts = np.array([0, 2, 1, 3])
    dts = np.array([-1, 0, 1, 2])
    ones = np.ones(4, np.int64)
    table = PacketTable(pts, dts, ones * -1, ones, ones, np.array([KEY, 0, 0, 0], np.uint8))
    order = packets_in_display_order(table)
    return table, order, pts[order]
