"""Encoded video: frames out of stored packets equal the sequential decode, in any order."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra lazystore[video] is not installed")

import av

from lazystore.errors import DamagedStoreError, FormatVersionError, StoreError, UsageError
from lazystore.schema import canonical_json
from lazystore.sources.video.packets import PacketSource, why_not_encoded
from lazystore.sources.video.recording import VIDEO, VideoSource
from lazystore.store.column_bytes import ColumnBytes
from lazystore.store.encoded import EncodedVideoReader, encoded_spec
from lazystore.testing import ArrayChunkReader, CountingReader, check_chunk_reader, check_source
from lazystore.video.record import EncodedVideo, tables_of_arrays
from tests.sources.video_files import (
    X264,
    X264_NO_B,
    X264_OPEN_GOP,
    X265_OPEN_GOP,
    break_packet,
    cut_by_edit_list,
    decode_in_order,
    irregular_times,
    remux,
    write_video,
)  # fmt: skip

CORPUS = (
    "bikes.mp4", "bulk-water.mov", "carphone_pristine.mp4", "h264_10bits.mp4", "nasa_13013_rotated.mp4",
    "test_non_zero_start.mp4",
)  # fmt: skip

MADE: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "h264": ("a.mp4", write_video),
    "h264-ts": ("a.ts", write_video),
    "h264-avi": ("a.avi", write_video),
    "h264-no-times": ("a.h264", write_video),
    "vfr-b-frames": ("a.mkv", lambda p: write_video(p, pts=irregular_times(40))),
    "edit-list": ("a.mp4", lambda p: cut_by_edit_list(write_video(p), 5 * 512)),
    "open-gop": ("a.mp4", lambda p: write_video(p, options=X264_OPEN_GOP)),
    "starts-inside-open-gop": (
        "b.mkv",
        lambda p: remux(write_video(p.with_name("a.mp4"), options=X264_OPEN_GOP), p, drop=range(9)),
    ),
    "hevc": ("a.mp4", lambda p: write_video(p, "libx265", size=(64, 64), options=X265_OPEN_GOP)),
    "mpeg4": ("a.avi", lambda p: write_video(p, "mpeg4", options={"g": "10", "bf": "2"})),
    "mpeg2": ("a.mpg", lambda p: write_video(p, "mpeg2video", options={"g": "10", "bf": "2"})),
    "vp9": ("a.webm", lambda p: write_video(p, "libvpx-vp9", options={"g": "10", "deadline": "realtime"})),
    "vp8": ("a.webm", lambda p: write_video(p, "libvpx", options={"g": "10", "deadline": "realtime"})),
    "av1": ("a.mp4", lambda p: write_video(p, "libsvtav1", options={"preset": "12"}, size=(64, 64))),
    "mjpeg": ("a.avi", lambda p: write_video(p, "mjpeg", pix_fmt="yuvj420p", options={})),
    "ffv1-16-bit": ("a.mkv", lambda p: write_video(p, "ffv1", pix_fmt="gray16le", options={})),
    "raw-bgr": ("a.avi", lambda p: write_video(p, "rawvideo", pix_fmt="bgr24", options={})),
    "full-range": ("a.mp4", lambda p: write_video(p, pix_fmt="yuvj420p", full_range=True)),
    "rotated": ("a.mp4", lambda p: write_video(p, rotation=90.0)),
    "one-frame": ("a.mp4", lambda p: write_video(p, count=1)),
}


@dataclasses.dataclass
class Stored:
    """A video as an item of a store would hold it, and the reader over it."""

    video: VideoSource
    source: PacketSource
    payload: np.ndarray[Any, Any]
    arrays: dict[str, np.ndarray[Any, Any]]
    record: EncodedVideo

    def reader(self, chunk_bytes: int = 3000, **options: Any) -> EncodedVideoReader:
        packets, frames = tables_of(self)
        spec = encoded_spec(self.record, len(frames), {})
        if "frames_a_chunk" in options:
            spec = dataclasses.replace(spec, chunks=(options.pop("frames_a_chunk"), *spec.chunks[1:]))
        column = ColumnBytes(ArrayChunkReader(self.payload, (chunk_bytes,)))
        return EncodedVideoReader(column, self.record, packets, frames, spec, **options)


def stored(path: Path, **options: Any) -> Stored:
    video = VIDEO.open(path, options)[0]
    source = PacketSource(video)
    blocks = [
        source.read(at, min(at + 4000, source.info.length)).columns["packets"]
        for at in range(0, source.info.length, 4000)
    ]
    source.close()
    attributes = json.loads(canonical_json(source.info.item_attributes))
    return Stored(
        video,
        source,
        np.concatenate(blocks),
        {side.path: side.values for side in source.info.side},
        EncodedVideo.from_json(attributes["encoded"]),
    )


def decoded(video: VideoSource) -> np.ndarray[Any, Any]:
    frames = video.read(0, video.info.length).columns["data"]
    video.close()
    return frames


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """40 frames of H.264 in four groups with B-frames, as Y."""
    return stored(write_video(tmp_path_factory.mktemp("example") / "a.mp4"), color="gray")


@pytest.mark.parametrize("color", ["gray", "rgb"])
@pytest.mark.parametrize("name", MADE)
def test_made_file_decodes_alike_from_its_packets(name: str, color: str, tmp_path: Path) -> None:
    """Every codec and container: the chunk reader's whole contract against the decoded source."""
    file_name, make = MADE[name]
    make(tmp_path / file_name)
    item = stored(tmp_path / file_name, color=color)
    check_chunk_reader(item.reader, decoded(item.video), threads=3)
    assert why_not_encoded(item.source) is None
    item.video.close()


@pytest.mark.parametrize("name", CORPUS)
def test_recording_decodes_alike_from_its_packets(name: str, corpus: Path) -> None:
    """Real recordings against a sequential PyAV decode: in order, at random, backwards, strided."""
    item = stored(corpus / "video" / name, color="gray")
    _, planes = decode_in_order(corpus / "video" / name)
    if item.video.info.attributes["rotation"] == 90:
        planes = np.rot90(planes, 1, axes=(1, 2))
    reader = item.reader(64 * 1024)
    rng = random.Random(3)
    length = len(planes)
    indices = [*range(length), *(rng.randrange(length) for _ in range(5))]
    indices += [*range(length - 1, max(-1, length - 60), -1), *range(0, length, 9)]
    for index in indices:
        np.testing.assert_array_equal(reader.read_chunk((index, 0, 0))[0], planes[index])
    assert len(item.payload) <= 1.02 * (corpus / "video" / name).stat().st_size
    assert why_not_encoded(item.source) is None
    item.video.close()
    reader.close()


@pytest.mark.parametrize("name", ["vp9", "vp8", "mjpeg"])
def test_packets_decode_alike_in_another_container(name: str, tmp_path: Path) -> None:
    """Packets alone suffice to write a file that other programs play, where codecs need no header.

    PyAV cannot give a stream for muxing the global header that the other codecs need.
    """
    file_name, make = MADE[name]
    make(tmp_path / file_name)
    item = stored(tmp_path / file_name, color="gray")
    parameters = item.record.parameters
    again = tmp_path / "again.mkv"
    with av.open(str(again), "w") as file:
        out = file.add_mux_stream(parameters.codec, width=parameters.width, height=parameters.height)
        table = item.source.packets
        for number in range(len(table)):
            at = int(table.offset[number])
            packet = av.Packet(item.payload[at : at + int(table.size[number])].tobytes())
            packet.stream = out
            packet.time_base = item.video.info.ticks.time_base  # type: ignore[union-attr]  # videos have ticks
            packet.pts, packet.dts = int(table.pts[number]), int(table.dts[number])
            packet.is_keyframe = bool(table.flags[number] & 1)
            file.mux(packet)
    _, planes = decode_in_order(again)
    np.testing.assert_array_equal(planes, decoded(item.video))


def test_packet_source_keeps_the_protocol(tmp_path: Path) -> None:
    """Bytes in any windows equal the payload; the side arrays and the record are whole."""
    path = write_video(tmp_path / "a.mkv")
    payload = stored(path).payload
    with av.open(str(path)) as file:
        expected = b"".join(bytes(packet) for packet in file.demux(file.streams.video[0]))
    assert payload.tobytes() == expected
    check_source(lambda: PacketSource(VIDEO.open(path, {})[0]), {"packets": payload})


def test_reading_bytes_outside_is_refused(example: Stored) -> None:
    """Bytes that the packets do not have are a usage error."""
    with pytest.raises(UsageError, match=r"bytes \[5, 5\) are not inside the"):
        example.source.read(5, 5)


def test_playing_forward_decodes_each_frame_once(example: Stored) -> None:
    """Sequential play keeps the decoder: as many frames decoded as shown, one read of each byte."""
    reader = example.reader()
    counting = CountingReader(ArrayChunkReader(example.payload, (3000,)))
    reader = EncodedVideoReader(
        ColumnBytes(counting), example.record, *tables_of(example), reader.spec
    )  # fmt: skip
    for index in range(40):
        reader.read_chunk((index, 0, 0))
    assert reader.decoded_frames == 40
    assert max(counting.chunks.values()) == 1
    reader.close()
    assert counting.closes == 1


def tables_of(item: Stored) -> Any:
    return tables_of_arrays(item.arrays, len(item.payload))


def test_frames_just_before_a_long_part_are_not_decoded_again(example: Stored) -> None:
    """A thread that reads ahead may get the decoder before the one that wants the frame before its own."""
    expected = decoded(example.video)
    reader = example.reader()
    reader.read_chunks([(index, 0, 0) for index in (0, 1)])
    reader.read_chunks([(index, 0, 0) for index in range(4, 24)])
    before = reader.decoded_frames
    for index in (2, 3):
        np.testing.assert_array_equal(reader.read_chunk((index, 0, 0))[0], expected[index])
    assert reader.decoded_frames == before
    reader.read_chunks([(index, 0, 0) for index in range(24, 40)])
    assert reader.decoded_frames == 40
    reader.close()


def test_playing_backwards_decodes_each_group_once(example: Stored) -> None:
    """Reverse play costs about one decode a frame while the group fits the kept frames."""
    reader = example.reader()
    for index in range(39, -1, -1):
        reader.read_chunk((index, 0, 0))
    # Each group is entered at its last frame; threads and reordering run a few frames beyond it.
    assert reader.decoded_frames <= 40 + 4 * 8
    reader.close()


def test_large_frames_are_not_all_kept(example: Stored) -> None:
    """With no room beyond the least, reverse play still gives every frame."""
    expected = decoded(example.video)
    reader = example.reader(keep_bytes=1)
    for index in range(39, -1, -1):
        np.testing.assert_array_equal(reader.read_chunk((index, 0, 0))[0], expected[index])
    reader.close()


def test_a_group_in_one_call_is_decoded_once(example: Stored) -> None:
    """`group_of` names the chunks that decode together; reading them takes one pass."""
    reader = example.reader()
    groups = {reader.group_of((index, 0, 0)) for index in range(40)}
    assert sorted((group.start, group.stop) for group in groups) == [(0, 12), (12, 24), (24, 36), (36, 40)]
    reader.read_chunks([(index, 0, 0) for index in reversed(range(12, 24))])
    assert reader.decoded_frames <= 12 + 8
    reader.close()


def test_chunks_of_several_frames(example: Stored) -> None:
    """More frames a chunk keep the contract, with a short chunk at the end."""
    expected = decoded(example.video)
    check_chunk_reader(lambda: example.reader(frames_a_chunk=7), expected)
    reader = example.reader(frames_a_chunk=7)
    assert reader.group_of((2, 0, 0)) == range(1, 4)  # frames 12 to 24
    reader.close()


def test_prefetching_threads_do_not_fight(example: Stored) -> None:
    """Many threads that read neighbouring frames share a decoder, instead of seeking against it."""
    expected = decoded(example.video)
    reader = example.reader()
    with concurrent.futures.ThreadPoolExecutor(4, "lazystore-test") as pool:
        chunks = list(pool.map(lambda index: reader.read_chunk((index, 0, 0)), range(40)))
    np.testing.assert_array_equal(np.concatenate(chunks), expected)
    # Who comes first is the scheduler's; a seek for every frame would decode several hundred.
    assert reader.decoded_frames <= 4 * 40
    reader.close()


def test_two_places_keep_a_decoder_each(example: Stored) -> None:
    """Reading at two places in turn costs no seek a frame."""
    reader = example.reader(keep_bytes=1)
    for step in range(16):
        reader.read_chunk((step, 0, 0))
        reader.read_chunk((24 + step, 0, 0))
    assert reader.decoded_frames <= 32 + 16
    one = example.reader(keep_bytes=1, max_decoders=1)
    for step in range(16):
        one.read_chunk((step, 0, 0))
        one.read_chunk((24 + step, 0, 0))
    assert one.decoded_frames > 2 * reader.decoded_frames
    reader.close()
    one.close()


def test_reader_survives_pickling(example: Stored) -> None:
    """A copy sent to another process reads the same frames."""
    reader = example.reader()
    before = reader.read_chunk((30, 0, 0))
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.read_chunk((30, 0, 0)), before)
    reader.close()
    copy.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # the point
def test_reader_survives_a_fork(example: Stored) -> None:
    """A forked child, whose copies of the decoders have no threads, reads on with its own."""
    reader = example.reader()
    expected = [reader.read_chunk((index, 0, 0)).copy() for index in (5, 30)]

    def child() -> None:
        same = all(
            np.array_equal(reader.read_chunk((index, 0, 0)), wanted)
            for index, wanted in zip((5, 30), expected, strict=True)
        )
        os._exit(0 if same else 1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    if process.is_alive():
        process.kill()
    assert process.exitcode == 0
    np.testing.assert_array_equal(reader.read_chunk((5, 0, 0)), expected[0])
    reader.close()


def test_lost_frames_are_zeros_only_where_they_were_lost_before(tmp_path: Path) -> None:
    """A frame missing from the source is zeros if the item says so, else the store is damaged."""
    path = break_packet(write_video(tmp_path / "a.avi", "mjpeg", pix_fmt="yuvj420p", options={}), 7)
    item = stored(path, color="gray")
    reader = item.reader(missing={7})
    assert not reader.read_chunk((7, 0, 0)).any()
    assert reader.read_chunk((8, 0, 0)).any()
    reader.close()
    reader = item.reader()
    with pytest.raises(DamagedStoreError, match="frame 7 no longer comes out of its packets"):
        reader.read_chunk((7, 0, 0))
    assert reader.read_chunk((8, 0, 0)).any()
    reader.close()


def test_damaged_packets_cost_the_same_frames_as_in_the_file(tmp_path: Path) -> None:
    """What the source loses to a broken reference picture, the stored packets lose too, no more."""
    path = break_packet(write_video(tmp_path / "a.mkv"), 16)
    item = stored(path, color="gray")
    block = item.video.read(0, 40)
    assert block.missing
    reader = item.reader(missing=set(block.missing))
    for index in (39, 12, 20, 16, 30, 0):
        np.testing.assert_array_equal(reader.read_chunk((index, 0, 0))[0], block.columns["data"][index])
    reader.close()
    item.video.close()


def test_errors_of_the_bytes_pass_through(example: Stored) -> None:
    """A store that cannot give the packets' bytes raises its own error, and the next read works."""
    fails = [True]

    def read_bytes(offset: int, size: int) -> bytes:
        if fails:
            raise DamagedStoreError("chunk 3 of 'packets' is altered")
        return example.payload[offset : offset + size].tobytes()

    spec = encoded_spec(example.record, 40, {})
    reader = EncodedVideoReader(read_bytes, example.record, *tables_of(example), spec)
    with pytest.raises(DamagedStoreError, match="chunk 3 of 'packets' is altered"):
        reader.read_chunk((20, 0, 0))
    fails.clear()
    np.testing.assert_array_equal(reader.read_chunk((20, 0, 0))[0], decoded(example.video)[20])
    reader.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("packet/size"), "lacks its array 'packet/size'"),
        (lambda arrays: arrays.update({"packet/size": arrays["packet/size"][:-1]}), "has columns of lengths"),
        (lambda arrays: arrays.update({"packet/size": arrays["packet/size"] + 1}), "does not fit its"),
        (lambda arrays: arrays.update({"packet/offset": arrays["packet/offset"] + 8}), "does not fit its"),
        (lambda arrays: arrays.update({"packet_of_frame": arrays["packet_of_frame"] + 9}), "does not fit"),
    ],
)
def test_tables_that_do_not_fit(
    change: Callable[[dict[str, Any]], Any], message: str, example: Stored
) -> None:
    """Damaged or hostile tables are refused before a byte is read by them."""
    arrays = dict(example.arrays)
    change(arrays)
    with pytest.raises(DamagedStoreError, match=message):
        tables_of(dataclasses.replace(example, arrays=arrays))


def test_records_that_do_not_fit(example: Stored) -> None:
    """Another version, a malformed record and another array are told apart."""
    record = example.record.to_json()
    with pytest.raises(FormatVersionError, match="encoded video of version 3 is above 2"):
        EncodedVideo.from_json({**record, "version": 3})
    with pytest.raises(DamagedStoreError, match="the record of an encoded video is malformed"):
        EncodedVideo.from_json({**record, "pixels": {}})
    spec = dataclasses.replace(encoded_spec(example.record, 40, {}), shape=(40, 48, 65))
    with pytest.raises(DamagedStoreError, match="encoded video declares"):
        EncodedVideoReader(lambda *_: b"", example.record, *tables_of(example), spec)
    spec = dataclasses.replace(encoded_spec(example.record, 40, {}), chunks=(1, 8, 64))
    with pytest.raises(UsageError, match="do not hold whole frames"):
        EncodedVideoReader(lambda *_: b"", example.record, *tables_of(example), spec)


def test_decoders_that_are_not_there(example: Stored) -> None:
    """An unknown codec, or parameters that the decoder refuses, say what to do."""
    parameters = dataclasses.replace(example.record.parameters, codec="nosuch", decoder="nosuch")
    with pytest.raises(StoreError, match="has no decoder for 'nosuch'"):
        parameters.open_decoder(1)
    broken = dataclasses.replace(parameters, codec="hevc", decoder="hevc", extradata=b"\1" + b"\xff" * 40)
    with pytest.raises(StoreError, match="the hevc decoder refuses the stored parameters"):
        broken.open_decoder(1)


def test_decoder_by_another_name(example: Stored) -> None:
    """Where the decoder of the storing machine is missing, any other one of the codec serves."""
    parameters = dataclasses.replace(example.record.parameters, decoder="h264_special")
    item = dataclasses.replace(example, record=dataclasses.replace(example.record, parameters=parameters))
    reader = item.reader()
    np.testing.assert_array_equal(reader.read_chunk((3, 0, 0))[0], decoded(example.video)[3])
    reader.close()


def test_columns_of_bytes() -> None:
    """Ranges across chunk borders equal the array's; other arrays are refused."""
    data = np.random.default_rng(1).integers(0, 256, 1000).astype(np.uint8)
    counting = CountingReader(ArrayChunkReader(data, (64,)))
    column = ColumnBytes(counting)
    rng = random.Random(4)
    for _ in range(100):
        offset = rng.randrange(1000)
        size = rng.randrange(1, 1001 - offset)
        assert bytes(column(offset, size)) == data[offset : offset + size].tobytes()
    counting.chunks.clear()
    for offset in range(0, 1000, 10):
        column(offset, 10)
    assert max(counting.chunks.values()) == 1
    column.close()
    with pytest.raises(UsageError, match="packets|bytes are read from one-dimensional uint8"):
        ColumnBytes(ArrayChunkReader(np.zeros((2, 2), np.uint8), (2, 2)))


def test_unsuitable_videos_say_why(example: Stored, monkeypatch: Any) -> None:
    """Frames that cannot be told apart, or too much beside the packets, keep a video as pixels."""
    frames = dataclasses.replace(example.source.frames, identified=False)
    monkeypatch.setattr(example.source, "frames", frames)
    assert "cannot be told apart" in (why_not_encoded(example.source) or "")
    monkeypatch.undo()
    heavy = dataclasses.replace(example.record, side_data={0: (("palette", bytes(300_000)),)})
    monkeypatch.setattr(example.source, "record", heavy)
    assert "300000 bytes of side data" in (why_not_encoded(example.source) or "")
    monkeypatch.undo()
    other = dataclasses.replace(example.record.parameters, codec="hevc", decoder="hevc")
    monkeypatch.setattr(example.source, "record", dataclasses.replace(example.record, parameters=other))
    assert why_not_encoded(example.source) is not None
    example.video.close()


def test_options_are_not_forgotten() -> None:
    """X264 settings of these tests make groups of 12 with and without B-frames."""
    assert (X264["g"], X264["bf"], X264_NO_B["bf"]) == ("12", "3", "0")
