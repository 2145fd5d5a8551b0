"""Which frames a video shows: from its packets where these can be trusted, else by decoding it.

In well-formed containers every packet is one picture with a time, and sorting them gives what a
decoder shows. Where that may fail (no times, packets that show nothing or two pictures) all of it
is decoded once, with the pixel work switched off as far as the codec allows.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.video.decoder import MAX_REORDER_DEPTH, FrameDecoder, PacketFeed
from lazystore.video.tables import (
    CORRUPT,
    DISCARD,
    KEY,
    NO_TIME,
    FrameTable,
    PacketTable,
    frame_table,
    packets_in_display_order,
)  # fmt: skip

if TYPE_CHECKING:
    from av.video.stream import VideoStream

    from lazystore.sources.video.index import ScannedStream

# One packet, one picture, shown in the order coded.
_ORDERED_CODECS = frozenset({
    "mjpeg", "png", "ffv1", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "prores", "dnxhd", "magicyuv",
    "jpeg2000", "v210", "cfhd", "vp8", "vp9", "av1", "gif",
})  # fmt: skip
# One packet, one picture, in another order, which the times tell.
_REORDERED_CODECS = frozenset({"h264", "hevc", "mpeg4"})
# Containers that hold real presentation times for these; AVI does not.
_TIMED_CONTAINERS = frozenset({"mov", "matroska", "mpegts", "flv", "nut", "asf"})

# Pixels do not matter to the number and order of frames.
FAST_DECODING = {"skip_loop_filter": "all", "skip_idct": "all"}

REMEDY = "open it with the option scan=decode, which numbers frames as the decoder shows them"


@dataclass(frozen=True, slots=True, eq=False)
class ShownFrames:
    """The frames of a stream, their time base, and what had to be done to know them.

    `sizes` are width and height of each frame, shape (time, 2), int64, where all were decoded.
    """

    table: FrameTable
    time_base: Fraction
    times_known: bool
    problems: tuple[str, ...] = ()
    sizes: NDArray[np.int64] | None = None


def why_decode(container: str, codec: str, scan: ScannedStream) -> str | None:
    """Why packets alone do not tell the frames; None if they do."""
    packets = scan.packets
    if codec in _ORDERED_CODECS:
        shown = packets.pts[~packets.has(DISCARD)]
        if (shown != NO_TIME).all() and (np.diff(shown) > 0).all():
            return None
        return "its packets' times do not rise"
    if codec not in _REORDERED_CODECS:
        return f"packets of codec {codec!r} may show no picture"
    if container not in _TIMED_CONTAINERS and not _is_coded_in_order(codec, packets):
        return f"{container!r} holds no presentation times for {codec!r}"
    if scan.irregular:
        return "its packets are not one picture each"
    shown = packets.pts[~packets.has(DISCARD)]
    if (shown == NO_TIME).any():
        return "some packets have no presentation time"
    if len(np.unique(shown)) != len(shown):
        return "some presentation times are the same"
    if not _are_times_sound(packets):
        return "its presentation times do not fit the order in which it is coded"
    return None


def _are_times_sound(packets: PacketTable) -> bool:
    """Whether nothing is shown before it is decoded, and no more is reordered than codecs can."""
    known = packets.dts != NO_TIME
    dts = packets.dts[known]
    if (np.diff(dts) <= 0).any() or (packets.pts[known] < dts).any():
        return False
    order = packets_in_display_order(packets)
    return frame_table(packets, order, packets.pts[order]).reorder_depth() <= MAX_REORDER_DEPTH


def _is_coded_in_order(codec: str, packets: PacketTable) -> bool:
    """MPEG-4 without B-frames: its times come from a parser that knows the picture types."""
    return codec == "mpeg4" and bool((packets.pts == packets.dts).all() and (np.diff(packets.pts) > 0).all())


def frames_from_packets(packets: PacketTable, time_base: Fraction) -> ShownFrames:
    """The frames that the packets promise."""
    order = packets_in_display_order(packets)
    return ShownFrames(frame_table(packets, order, packets.pts[order]), time_base, True)


def frames_by_decoding(feed: PacketFeed, packets: PacketTable, stream: VideoStream) -> ShownFrames:
    """The frames that decoding shows, in that order. Decodes the whole stream; holds one frame."""
    packet, sizes, broken, is_sound = _decode_all(feed, one_thread=False)
    if not is_sound:
        # The decoder that reads damaged groups later has one thread too.
        packet, sizes, broken, _ = _decode_all(feed, one_thread=True)
    pts, time_base, known, problems = _times_of(packet, packets, stream)
    if broken:
        problems.append(f"{broken} of {len(packets)} packets are broken and show no frame")
    return ShownFrames(frame_table(packets, packet, pts), time_base, known, tuple(problems), sizes)


def _decode_all(
    feed: PacketFeed, *, one_thread: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, bool]:
    """Packet (-1 unknown) and size of each frame, number of broken packets, whether all was sound."""
    from av import FFmpegError

    order, sizes = array("q"), array("q")
    broken, is_sound = 0, True
    feed.rewind(0, one_thread=one_thread)
    while True:
        fed = feed.next_packet()
        if fed is not None:
            fed[1].pts = fed[1].dts = fed[0]
        try:
            decoded = feed.context.decode(fed[1] if fed else None)
        except FFmpegError:
            broken += 1
            decoded = []
        for frame in decoded:
            order.append(-1 if frame.pts is None else frame.pts)
            sizes.extend((frame.width, frame.height))
            is_sound = is_sound and not frame.is_corrupt
        if fed is None:
            size_of_frame = np.array(sizes, np.int64).reshape(-1, 2)
            return np.array(order, np.int64), size_of_frame, broken, is_sound and not broken


def _times_of(
    packet: NDArray[np.int64], packets: PacketTable, stream: VideoStream
) -> tuple[NDArray[np.int64], Fraction, bool, list[str]]:
    """Times of frames shown in a given order: their own, or those of the coded order, or counted."""
    time_base = Fraction(stream.time_base.num, stream.time_base.den)
    if len(packet) and packet.min() >= 0:
        pts = packets.pts[packet]
        if (pts != NO_TIME).all():
            if (np.diff(pts) >= 0).all():
                return pts, time_base, True, []
            rising, note = _rising(pts)
            return rising, time_base, True, [note]
        dts = np.sort(packets.dts[packet])
        if dts[0] != NO_TIME and (np.diff(dts) > 0).all():
            return dts, time_base, True, ["it has no presentation times; decoding times are used"]
        if (filled := _filled(pts)) is not None:
            n_unknown = int((pts == NO_TIME).sum())
            note = (
                f"{n_unknown} of {len(pts)} frames have no time stamp; theirs are worked out from the others'"
            )
            return filled, time_base, True, [note]
    duration = int(np.median(packets.duration))
    if duration < 1:
        rate = stream.average_rate or stream.guessed_rate
        time_base = Fraction(rate.den, rate.num) if rate else Fraction(1, 25)
        duration = 1
    rate_hz = float(1 / (time_base * duration))
    note = f"it has no time stamps; {rate_hz:.6g} frames a second are assumed from its header"
    return np.arange(len(packet), dtype=np.int64) * duration, time_base, False, [note]


def _filled(pts: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Times of frames in the order shown, unknown ones from those known; None where these do not rise.

    In between they are spread evenly, at the ends they go on in the usual step.

    >>> _filled(np.array([NO_TIME, 40, 80, NO_TIME, 160])).tolist()
    [0, 40, 80, 120, 160]
    """
    known = np.flatnonzero(pts != NO_TIME)
    times = pts[known]
    if len(known) < 2 or (np.diff(times) <= 0).any():
        return None
    first, last = int(known[0]), int(known[-1])
    step = max(1, int(np.median(np.diff(times) // np.diff(known))))
    places = np.arange(len(pts))
    # From the first one on: distances are exact in float64 where times may not be.
    between = times[0] + np.rint(np.interp(places, known, times - times[0])).astype(np.int64)
    filled = between - step * np.maximum(first - places, 0) + step * np.maximum(places - last, 0)
    return np.where(pts == NO_TIME, filled, pts)


def _rising(pts: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    """Times that do not fall, of frames in the order shown, and what was done to them.

    Decoding times and the like, off by no more frames than codecs reorder, are sorted. Where times
    begin anew, as in recordings joined end to end, those that follow are moved behind those before.

    >>> _rising(np.array([0, 2, 1, 3]))[0].tolist()
    [0, 1, 2, 3]
    >>> _rising(np.array([*range(500, 540), *range(10)]))[0].tolist() == list(range(500, 550))
    True
    """
    places = np.argsort(pts, kind="stable")
    if np.abs(places - np.arange(len(pts))).max() <= MAX_REORDER_DEPTH:
        return pts[places], "its time stamps are not in the order shown; they are sorted"
    steps = np.diff(pts)
    step = int(np.median(steps[steps > 0])) if (steps > 0).any() else 1
    anew = np.flatnonzero(steps < -MAX_REORDER_DEPTH * step) + 1
    if not len(anew):
        return pts[places], "its time stamps are not in the order shown; they are sorted"
    moved = pts.copy()
    for start, stop in pairwise([*anew.tolist(), len(pts)]):
        moved[start:stop] += moved[:start].max() + step - moved[start:stop].min()
    where = f"at frame {anew[0]}" if len(anew) == 1 else f"{len(anew)} times, first at frame {anew[0]}"
    return np.sort(moved), (
        f"its time stamps begin anew {where}, as in recordings joined end to end; "
        "what follows is moved behind what was before, so its times are a guess"
    )


def without_lost_ends(frames: ShownFrames, packets: PacketTable, feed: PacketFeed) -> ShownFrames:
    """The same frames without those at either end that no decoder can show.

    A recording cut out of a longer one may begin with frames that refer to what is gone, one that
    was cut off ends with half a packet. Decodes at most the first and the last group, and only
    where there is a sign of such an end.
    """
    table = frames.table
    begins_whole = bool(packets.flags[0] & KEY) and table.packet[0] == 0
    ends_whole = not packets.flags[-1] & CORRUPT
    if begins_whole and ends_whole:
        return frames
    decoder = FrameDecoder(feed, table, error=SourceError, remedy=REMEDY)
    first, stop = 0, len(table)
    problems = list(frames.problems)
    if not begins_whole:
        group = table.group_of(0)
        lost = set(decoder.read(group.start, group.stop, lambda *_: None))
        while first < group.stop and first in lost:
            first += 1
        if first:
            problems.append(f"{first} frames at its start refer to frames that are not there")
    if not ends_whole and first < stop:
        group = table.group_of(stop - 1)
        lost = set(decoder.read(max(first, group.start), stop, lambda *_: None))
        while stop > group.start and stop - 1 in lost:
            stop -= 1
        if stop < len(table):
            problems.append(f"{len(table) - stop} frames at its end are cut off")
    kept = frame_table(packets, table.packet[first:stop], table.pts[first:stop])
    return ShownFrames(kept, frames.time_base, frames.times_known, tuple(problems))
