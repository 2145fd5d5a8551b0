"""Packet and frame tables: display order, seek points that really stand alone, groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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


def packet_table(pts: Any, flags: Any) -> PacketTable:
    count = len(pts)
    ones = np.ones(count, np.int64)
    return PacketTable(
        np.array(pts, np.int64), np.arange(count), ones * -1, ones, ones, np.array(flags, np.uint8)
    )


def table_of(pts: Any, flags: Any) -> FrameTable:
    packets = packet_table(pts, flags)
    order = packets_in_display_order(packets)
    return frame_table(packets, order, packets.pts[order])


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Groups of pictures, some open: frames shown before their keyframe, coded after it."""
    pts: list[int] = []
    flags: list[int] = []
    start = 0
    for _ in range(draw(st.integers(1, 5))):
        leading = draw(st.integers(0, 3)) if start else 0
        length = draw(st.integers(1, 6))
        rest = draw(st.permutations(range(start + leading + 1, start + leading + length)))
        pts += [start + leading, *range(start, start + leading), *rest]
        flags += [KEY] + [0] * (leading + length - 1)
        start += leading + length
    discarded = draw(st.lists(st.integers(0, len(pts) - 1), max_size=3))
    for number in discarded:
        flags[number] |= DISCARD
    return pts, flags


@given(streams())
def test_frames_after_a_seek_point_need_nothing_before_it(stream: tuple[list[int], list[int]]) -> None:
    """From a seek point's frame on, no frame is coded before its packet, and none leads it."""
    pts, flags = stream
    table = table_of(pts, flags)
    assert (table.seek_packet[0], table.seek_frame[0]) == (0, 0)
    assert (np.diff(table.seek_packet) > 0).all()
    assert (np.diff(table.seek_frame) > 0).all()
    for packet, frame in zip(table.seek_packet[1:], table.seek_frame[1:], strict=True):
        assert flags[packet] & KEY
        assert (table.packet[frame:] >= packet).all()
        assert (table.pts[frame:] >= pts[packet]).all()


@given(streams())
def test_groups_tile_the_recording(stream: tuple[list[int], list[int]]) -> None:
    """Every frame lies in one group, and groups follow each other."""
    table = table_of(*stream)
    frame = 0
    while frame < len(table):
        group = table.group_of(frame)
        assert group.start == frame
        assert all(table.group_of(member) == group for member in group)
        frame = group.stop


@given(streams())
def test_packets_and_frames_name_each_other(stream: tuple[list[int], list[int]]) -> None:
    """frame_of_packet inverts packet; discarded packets show nothing; times rise."""
    pts, flags = stream
    table = table_of(pts, flags)
    np.testing.assert_array_equal(table.frame_of_packet[table.packet], np.arange(len(table)))
    for number, flag in enumerate(flags):
        assert (table.frame_of_packet[number] < 0) == bool(flag & DISCARD)
    assert (np.diff(table.pts) > 0).all()


@given(streams())
def test_holding_back_by_the_depth_gives_display_order(stream: tuple[list[int], list[int]]) -> None:
    """A decoder that holds `reorder_depth` frames never shows one too early, and needs them all."""
    table = table_of(*stream)
    depth = table.reorder_depth()
    coded = sorted(range(len(table)), key=lambda frame: table.packet[frame])

    def shown_with(depth: int) -> list[int]:
        held: list[int] = []
        shown = []
        for frame in coded:
            held.append(frame)
            if len(held) > depth:
                shown.append(held.pop(held.index(min(held))))
        return shown + sorted(held)

    assert shown_with(depth) == list(range(len(table)))
    if depth:
        assert shown_with(depth - 1) != list(range(len(table)))


@given(streams())
def test_frames_behind_bound_what_was_coded(stream: tuple[list[int], list[int]]) -> None:
    """All frames coded up to a frame are shown up to its `frames_behind`."""
    table = table_of(*stream)
    behind = table.frames_behind()
    for frame in range(len(table)):
        earlier = np.flatnonzero(table.packet <= table.packet[frame])
        assert behind[frame] == earlier.max()


def test_frames_that_share_a_packet_cannot_be_told_apart() -> None:
    """Two frames of one packet, or one of no known packet: counted, and only from the start."""
    packets = packet_table([0, 1, 2], [KEY, KEY, 0])
    for packet in ([0, 0, 1], [0, -1, 2]):
        table = frame_table(packets, np.array(packet), np.arange(3))
        assert not table.identified
        assert table.seek_packet.tolist() == [0]
        assert table.reorder_depth() == 0
        assert table.frames_behind().tolist() == [0, 1, 2]


def test_cut_packets_name_their_frames() -> None:
    """Packets marked as corrupt are known by the frames they code, hidden ones by none."""
    table = table_of([0, 2, 1, 3], [KEY, CORRUPT, 0, CORRUPT | DISCARD])
    assert table.cut_frames() == [2]


def test_span_of_a_stream() -> None:
    """From the first time to the end of the last packet; 0 where no time is known."""
    assert packet_table([5, 9, 7], [KEY, 0, 0]).span() == 5
    assert packet_table([NO_TIME, NO_TIME], [KEY, 0]).span() == 0
