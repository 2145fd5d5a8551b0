"""Damage inside a picture that FFmpeg shows without a word: marked, and the same at every read."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("av", reason="the extra lazystore[video] is not installed")

import av

import lazystore as ls
from lazystore.errors import LazystoreError
from lazystore.sources.video.recording import VIDEO
from lazystore.video.parameters import DecoderParameters
from lazystore.video.strict import decode_apart, is_whole
from tests.sources.video_files import packets_of, write_video

N_FRAMES = 30
type Frames = list[NDArray[np.uint8] | str]


def damaged(payload: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a range of zeros or noise, or all zeros from somewhere on: as long as before."""
    data, length = bytearray(payload), len(payload)
    at = rng.randrange(length)
    size = min(length - at, rng.randrange(2, max(3, length // 4)))
    way = rng.randrange(4)
    if way == 0:
        for _ in range(rng.choice([1, 3, 10])):
            data[rng.randrange(length)] ^= 1 << rng.randrange(8)
    else:
        data[at:] = [bytes(size), rng.randbytes(size), bytes(length - at)][way - 1] + data[at + size :]
    return bytes(data[:length])


def with_damage(path: Path, numbers: Sequence[int], seed: int) -> Path:
    """The file with damage in those packets."""
    rng = random.Random(seed)
    data = bytearray(path.read_bytes())
    packets = packets_of(path)
    for number in numbers:
        at, size, _ = packets[number]
        data[at : at + size] = damaged(bytes(data[at : at + size]), rng)
    target = path.with_stem("damaged")
    target.write_bytes(bytes(data))
    return target


def frames_in_order(store: Path, order: Sequence[int]) -> Frames:
    """Frames of an item by number, however they are asked for; the error's name where there is none."""
    frames: Frames = ["" for _ in order]
    with ls.open(store) as opened:
        item = opened["v"]
        for index in order:
            try:
                frames[index] = np.array(item[index])
            except LazystoreError as error:
                frames[index] = type(error).__name__
    return frames


def differ(one: NDArray[np.uint8] | str, other: NDArray[np.uint8] | str) -> bool:
    return type(one) is not type(other) or not np.array_equal(one, other)


FFV1_CRC = {"level": "3", "slicecrc": "1", "slices": "4"}


@pytest.mark.parametrize(
    ("file_name", "codec", "pix_fmt", "options", "share_found"),
    [
        ("a.avi", "mjpeg", "yuvj420p", {}, 0.7),
        ("a.mkv", "mjpeg", "yuvj422p", {"huffman": "default"}, 0.7),
        ("a.mov", "png", "gray", {}, 1.0),
        ("a.mkv", "ffv1", "yuv420p", {**FFV1_CRC, "g": "1"}, 1.0),
        ("a.avi", "ffv1", "gray", {**FFV1_CRC, "g": "10"}, 1.0),
    ],
    ids=["mjpeg-avi", "mjpeg-mkv", "png", "ffv1", "ffv1-groups"],
)
def test_marked_and_the_same_at_every_read(
    file_name: str,
    codec: str,
    pix_fmt: str,
    options: Mapping[str, str],
    share_found: float,
    tmp_path: Path,
    store_path: Path,
) -> None:
    """Of the frames that damage has changed most are marked, where there are checksums all; no other is."""
    path = write_video(
        tmp_path / file_name, codec, count=N_FRAMES, pix_fmt=pix_fmt, options=options, size=(96, 128)
    )
    source = VIDEO.open(path, {})[0]
    whole = source.read(0, N_FRAMES)
    assert not source.doubtful_frames
    assert not whole.missing
    source.close()
    hit = list(range(2, N_FRAMES, 3))
    ls.convert(with_damage(path, hit, seed=7), store_path, name="v", codec="encoded")
    with ls.open(store_path) as store:
        item = store["v"]
        missing, doubtful = set(item.missing_frames.tolist()), set(item.doubtful_frames.tolist())
        assert item.attrs["lazystore"]["broken_packets"]
    forwards = frames_in_order(store_path, range(N_FRAMES))
    for order in (range(N_FRAMES)[::-1], random.Random(1).sample(range(N_FRAMES), N_FRAMES)):
        again = frames_in_order(store_path, order)
        assert not [i for i in range(N_FRAMES) if differ(forwards[i], again[i])]
    changed = {i for i in range(N_FRAMES) if differ(forwards[i], whole.columns["data"][i])}
    assert missing == {i for i in range(N_FRAMES) if isinstance(forwards[i], str)}
    assert len(changed & (missing | doubtful)) >= share_found * len(changed) > 0
    if codec != "ffv1" or options["g"] == "1":
        assert missing | doubtful <= set(hit)


def without_tables(jpeg: bytes, code: int) -> bytes:
    """A JPEG without its segments of one kind."""
    out, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        stop = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        out += b"" if jpeg[at + 1] == code else jpeg[at:stop]
        at = stop
    return out + jpeg[at:]


ODDITIES = {
    "no-end": lambda jpeg: jpeg[:-2],
    "zeros-for-end": lambda jpeg: jpeg[:-2] + bytes(37),
    "zeros-behind": lambda jpeg: jpeg + bytes(40),
    "ones-behind": lambda jpeg: jpeg + b"\xff" * 40,
    "noise-behind": lambda jpeg: jpeg + random.Random(1).randbytes(200),
    "picture-behind": lambda jpeg: jpeg + jpeg,
    "noise-before-end": lambda jpeg: jpeg[:-2] + b"\x5a" * 64 + jpeg[-2:],
    "avi1": lambda jpeg: (
        jpeg[:2] + b"\xff\xe0\0\x10AVI1" + bytes(10) + without_tables(without_tables(jpeg, 0xE0), 0xC4)[2:]
    ),
    "no-tables": lambda jpeg: without_tables(jpeg, 0xC4),
    "filled": lambda jpeg: jpeg[:-2] + b"\xff\xff\xff\xd9",
}


@pytest.mark.parametrize("oddity", ODDITIES.values(), ids=list(ODDITIES))
def test_what_cameras_do_is_no_damage(oddity: object, tmp_path: Path) -> None:
    """MJPEG as webcams write it: no end, something behind the end, no Huffman tables."""
    path = write_video(
        tmp_path / "a.avi", "mjpeg", count=6, pix_fmt="yuvj422p", options={"huffman": "default"}
    )
    target = tmp_path / "odd.avi"
    with av.open(str(path)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        out = writing.add_stream_from_template(stream)
        for packet in reading.demux(stream):
            if packet.size:
                odd = av.Packet(oddity(bytes(packet)))
                odd.stream, odd.pts, odd.dts = out, packet.pts, packet.dts
                odd.time_base, odd.is_keyframe = packet.time_base, True
                writing.mux(odd)
    blocks = []
    for name in (path, target):
        source = VIDEO.open(name, {"color": "gray"})[0]
        blocks.append(source.read(0, 6))
        source.close()
    assert (blocks[1].missing, blocks[1].doubtful, blocks[1].broken_packets) == ((), (), ())
    np.testing.assert_array_equal(blocks[1].columns["data"], blocks[0].columns["data"])


@pytest.mark.parametrize("slice_crc", ["0", "1"])
@pytest.mark.parametrize("coder", ["0", "1"], ids=["golomb", "range"])
def test_slices_of_ffv1(slice_crc: str, coder: str, tmp_path: Path) -> None:
    """Sound packets are whole; with checksums no changed byte passes, without them no cut packet."""
    options = {"level": "3", "slices": "4", "slicecrc": slice_crc, "coder": coder}
    path = write_video(tmp_path / "a.mkv", "ffv1", count=6, options=options)
    with av.open(str(path)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    assert len(packets) == 6
    for packet in packets:
        assert is_whole(packet)
        assert not is_whole(packet[:-7])
        for place in range(0, len(packet), 97):
            changed = bytes([*packet[:place], packet[place] ^ 16, *packet[place + 1 :]])
            assert not is_whole(changed) or slice_crc == "0"


def test_other_codecs_are_not_decoded_apart(tmp_path: Path) -> None:
    """A packet of H.264 needs those before it; one of MJPEG gives its picture, a hollow one none."""
    found = {}
    for name, codec, pix_fmt in (("a.mp4", "libx264", "yuv420p"), ("a.avi", "mjpeg", "yuvj420p")):
        path = write_video(tmp_path / name, codec, count=2, pix_fmt=pix_fmt, options={})
        with av.open(str(path)) as file:
            parameters = DecoderParameters.of_stream(file.streams.video[0])
            packet = next(file.demux(video=0))
        found[codec] = decode_apart(parameters, packet)
    assert found["libx264"] is None
    assert len(list(found["mjpeg"])) == 1
    assert decode_apart(parameters, av.Packet(bytes(100))) == []
