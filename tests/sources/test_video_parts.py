"""Videos whose picture changes size on the way: a part for each size, nothing lost, one clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra lazystore[video] is not installed")

import av

import lazystore as ls
from lazystore.convert.api import Request, prepare
from lazystore.errors import ClockError, SourceError, UsageError
from lazystore.sources.video.parts import parts_by_looking, parts_of_sizes
from lazystore.sources.video.recording import VIDEO, VideoSource
from lazystore.video.tables import KEY, FrameTable, PacketTable, frame_table
from tests.sources.video_files import decode_in_order, write_video

SIZES = ((48, 64), (64, 80), (32, 48))


def joined(folder: Path, name: str, counts: Sequence[int], sizes: Sequence[int]) -> tuple[Path, list[Any]]:
    """Motion JPEG or H.264 pictures of several sizes as one stream at 25 a second; and the pictures, gray."""
    path, is_stream = folder / name, name.endswith(".ts")
    files = []
    for number, (count, size) in enumerate(zip(counts, sizes, strict=True)):
        begin = sum(counts[:number]) if is_stream else 0
        files.append(
            write_video(
                folder / f"{number}.{'ts' if is_stream else 'avi'}", "libx264" if is_stream else "mjpeg",
                count=count, size=SIZES[size], pix_fmt="yuv420p" if is_stream else "yuvj420p",
                options={"g": "5"}, pts=range(begin, begin + count),
            )
        )  # fmt: skip
    frames = [decode_in_order(file)[1] for file in files]
    if is_stream:
        path.write_bytes(b"".join(file.read_bytes() for file in files))
        return path, frames
    with av.open(str(files[0])) as template, av.open(str(path), "w") as writing:
        out = writing.add_stream_from_template(template.streams.video[0])
        number = 0
        for file in files:
            with av.open(str(file)) as reading:
                for packet in reading.demux(video=0):
                    if packet.size:
                        packet.stream, packet.pts, packet.dts = out, number, number
                        writing.mux(packet)
                        number += 1
    return path, frames


def gray(path: Path, **options: Any) -> list[VideoSource]:
    return list(VIDEO.open(path, {"color": "gray", **options}))


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_each_size_is_an_item(name: str, tmp_path: Path, store_path: Path) -> None:
    """All frames are there, under their own times, and the store holds each packet once."""
    counts = (15, 12, 13) if name == "a.mkv" else (27, 13)
    path, frames = joined(tmp_path, name, counts, (0, 1, 2)[: len(counts)])
    report = ls.convert(path, store_path, name="cam", source_options={"color": "gray"}, clock=5.0)
    assert [item.name for item in report.items] == ["cam", "cam_part2", "cam_part3"][: len(counts)]
    told = f"part 2 of {len(counts)}, 80x64, frames {counts[0]} to {counts[0] + counts[1] - 1} of 40"
    assert told in "".join(report.items[1].problems)
    with ls.open(store_path) as store:
        times = [store[item.name].coords["time"] for item in report.items]
        for item, expected in zip(report.items, frames, strict=True):
            assert item.codec == "encoded"
            np.testing.assert_array_equal(np.asarray(store[item.name]), expected)
            np.testing.assert_array_equal(store[item.name][len(expected) // 2], expected[len(expected) // 2])
    assert times[0][0] == 5.0
    assert tuple(map(len, times)) == counts
    assert (np.diff(np.concatenate(times)) >= 0).all()
    if name == "a.mkv":
        assert np.allclose(np.concatenate(times), 5 + np.arange(40) / 25)


def times_of(path: Path, **request: Any) -> dict[str, list[float]]:
    """Session seconds of the items that a conversion would make."""
    times = {}
    for one in prepare(path, Request(**request)):
        times[one.plan.item.name] = one.plan.timing.seconds(0, one.plan.main.shape[0]).tolist()
        one.close()
    return times


def test_time_past_a_change(tmp_path: Path, store_path: Path) -> None:
    """A span of the second part is converted, in its own size; what it leaves out is told."""
    path, frames = joined(tmp_path, "a.mkv", (15, 15), (0, 1))
    report = ls.convert(path, store_path, name="cam", source_options={"color": "gray"}, time=(0.8, None))
    (item,) = report.items
    assert item.name == "cam_part2"
    assert any("'cam' is left out: time from 0.8 s holds no record" in line for line in item.problems)
    with ls.open(store_path) as store:
        np.testing.assert_array_equal(np.asarray(store["cam_part2"]), frames[1][5:])
    assert list(times_of(path, name="both", time=(0.4, 0.8))) == ["both", "both_part2"]
    with pytest.raises(UsageError, match=r"time from 7.0 s holds no record"):
        times_of(path, time=(7.0, None))


def test_rates_and_times_are_the_recordings(tmp_path: Path) -> None:
    """A rate counts on from part to part; each part takes its share of one list of times."""
    path, _ = joined(tmp_path, "a.avi", (10, 10), (0, 1))
    rate = times_of(path, name="v", rate_hz=10.0, clock=2.0)
    assert np.allclose(rate["v"] + rate["v_part2"], 2 + np.arange(20) / 10)
    given = np.cumsum(np.random.default_rng(0).uniform(0.1, 0.3, 20))
    assert times_of(path, name="v", times=given) == {"v": given[:10].tolist(), "v_part2": given[10:].tolist()}
    head = times_of(path, name="v", times=given[:15], times_mismatch="head")
    assert head == {"v": given[:10].tolist(), "v_part2": given[10:15].tolist()}
    tail = times_of(path, name="v", times=given[:15], times_mismatch="tail")
    assert tail == {"v": given[:5].tolist(), "v_part2": given[5:15].tolist()}
    assert list(times_of(path, name="v", times=given[:9], times_mismatch="head")) == ["v"]
    with pytest.raises(ClockError, match="15 times do not match 20 records"):
        times_of(path, times=given[:15])


def test_a_change_that_is_taken_back(tmp_path: Path) -> None:
    """Found when it is met, and then all of it with scan=decode."""
    path, frames = joined(tmp_path, "a.mkv", (8, 6, 8), (0, 1, 0))
    (source,) = gray(path)
    assert source.read(0, 8).missing == ()
    with pytest.raises(SourceError, match=r"from 64x48 to 80x64, by frame 8 \(0.320 s .* scan=decode, which"):
        source.read(0, 22)
    source.close()
    sources = gray(path, scan="decode")
    assert [source.info.suffix for source in sources] == ["", "part2", "part3"]
    for source, expected in zip(sources, frames, strict=True):
        np.testing.assert_array_equal(source.read(0, len(expected)).columns["data"], expected)
        source.close()


def test_one_picture_that_claims_another_size_is_lost(tmp_path: Path, store_path: Path) -> None:
    """A damaged header is no change of size, wherever it is; no other frame is lost over it."""
    path, (frames,) = joined(tmp_path, "a.avi", (12,), (0,))
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xc0"]
    assert len(starts) == 12
    for number in (4, 11):
        data[starts[number] + 8] ^= 32  # of its width
    path.write_bytes(bytes(data))
    ls.convert(path, store_path, name="cam", source_options={"color": "gray"})
    with ls.open(store_path) as store:
        assert list(store.keys()) == ["cam"]
        assert store["cam"].missing_frames.tolist() == [4, 11]
        for index in set(range(12)) - {4, 11}:
            np.testing.assert_array_equal(store["cam"][index], frames[index])


def intra_table(n_frames: int) -> FrameTable:
    numbers, ones = np.arange(n_frames), np.ones(n_frames, np.int64)
    packets = PacketTable(numbers, numbers, -ones, ones, ones, np.full(n_frames, KEY, np.uint8))
    return frame_table(packets, numbers, numbers)


def test_few_frames_are_looked_at() -> None:
    """One where nothing changes, some more for each change; what is lost on the way does no harm."""
    table = intra_table(1000)
    looked: list[int] = []

    def look(sizes: Sequence[tuple[int, int] | None]) -> list[range]:
        looked.clear()

        def size_of(frame_index: int) -> tuple[int, int] | None:
            looked.append(frame_index)
            return sizes[frame_index]

        return parts_by_looking(table, size_of)

    assert look([(4, 3)] * 1000) == [range(1000)]
    assert len(looked) == 2
    assert look([(4, 3)] * 700 + [(8, 6)] * 300) == [range(700), range(700, 1000)]
    assert len(looked) < 20
    assert look([(4, 3)] * 999 + [(8, 6)]) == [range(1000)]
    assert look([(4, 3)] * 700 + [(8, 6)] * 299 + [None]) == [range(1000)]
    thirds = [(4, 3)] * 300 + [(8, 6)] * 300 + [(2, 2)] * 400
    assert look(thirds) == [range(300), range(300, 600), range(600, 1000)]


def test_single_pictures_make_no_part() -> None:
    """A picture of another size between two runs of one size belongs to their part, as one that is lost."""
    table = intra_table(10)
    sizes = np.array([[4, 3]] * 4 + [[9, 9]] + [[4, 3]] * 3 + [[8, 6]] * 2)
    assert parts_of_sizes(table, sizes) == [range(8), range(8, 10)]
    late = np.array([[4, 3]] * 9 + [[8, 6]])
    assert parts_of_sizes(table, late) == [range(10)]


def test_parts_begin_where_decoding_may() -> None:
    """Without a key frame at the change there is no part."""
    numbers, ones = np.arange(6), np.ones(6, np.int64)
    packets = PacketTable(numbers, numbers, -ones, ones, ones, np.array([KEY, 0, 0, KEY, 0, 0], np.uint8))
    table = frame_table(packets, numbers, numbers)
    assert parts_of_sizes(table, np.array([[4, 3]] * 2 + [[8, 6]] * 4)) == [range(6)]
    assert parts_of_sizes(table, np.array([[4, 3]] * 3 + [[8, 6]] * 3)) == [range(3), range(3, 6)]
