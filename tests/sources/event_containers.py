"""AEDAT4 recordings and ROS bags, written here: the one by hand, the other by the package rosbags."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.sources.event_files import HEIGHT, WIDTH, Events

# --- AEDAT4 ---------------------------------------------------------------------------------------

type Field = tuple[str, Any] | bytes


def flat_table(fields: Mapping[int, Field]) -> tuple[bytes, int]:
    """A FlatBuffers table with its vtable in front, and where it begins; references point behind it."""
    entries = max(fields, default=-1) + 1
    vtable_bytes = 4 + 2 * entries
    start = (vtable_bytes + 7) // 8 * 8
    offsets = [0] * entries
    at = 8
    for number in fields:
        offsets[number] = at
        at += 8
    body = bytearray(at)
    struct.pack_into("<i", body, 0, vtable_bytes)
    behind = bytearray()
    for number, value in fields.items():
        if isinstance(value, bytes):
            # Vectors begin with their length; what follows it has to lie at a multiple of eight.
            struct.pack_into("<I", body, offsets[number], at - offsets[number] + len(behind) + 4)
            behind += bytes(4) + value + bytes(-(4 + len(value)) % 8)
        else:
            struct.pack_into(value[0], body, offsets[number], value[1])
    vtable = struct.pack(f"<HH{entries}H", vtable_bytes, at, *offsets)
    return bytes(start - vtable_bytes) + vtable + bytes(body) + bytes(behind), start


def flat_buffer(identifier: bytes, fields: Mapping[int, Field], prefix_bytes: int = 4) -> bytes:
    """A buffer with one root table, aligned as it is once `prefix_bytes` stand before it."""
    table, start = flat_table(fields)
    padding = bytes(-(8 + prefix_bytes) % 8)
    return struct.pack("<I", 8 + len(padding) + start) + identifier + padding + table


def flat_vector(dtype: str | np.dtype[Any], values: Any) -> bytes:
    array = np.asarray(values, dtype)
    return struct.pack("<I", len(array)) + array.tobytes()


def table_vector(tables: Sequence[Mapping[int, Field]]) -> bytes:
    gap = bytes(4 * (len(tables) % 2))
    offsets, bodies = [], b""
    for number, fields in enumerate(tables):
        table, start = flat_table(fields)
        offsets.append(4 * (len(tables) - number) + len(gap) + len(bodies) + start)
        bodies += table
    return struct.pack(f"<I{len(offsets)}I", len(offsets), *offsets) + gap + bodies


EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("padding", "u1", 3)])
STREAMS = {0: "EVTS", 1: "FRME", 2: "IMUS", 3: "TRIG"}


def aedat4_header(compression: int, streams: Mapping[int, str] = STREAMS, table_position: int = -1) -> bytes:
    nodes = "".join(
        f'<node name="{number}"><attr key="typeIdentifier">{identifier}</attr>'
        f'<attr key="originalOutputName">{identifier.lower()}</attr><attr key="compression">NONE</attr>'
        f'<node name="info"><attr key="sizeX">{WIDTH}</attr><attr key="sizeY">{HEIGHT}</attr>'
        '<attr key="source">camera</attr></node></node>'
        for number, identifier in streams.items()
    )
    info = f'<dv version="2.0"><node name="outInfo">{nodes}</node></dv>'.encode()
    text = struct.pack("<I", len(info)) + info + b"\0"
    table = flat_buffer(b"IOHE", {0: ("<i", compression), 1: ("<q", table_position), 2: text}, 0)
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(table)) + table


def compress(payload: bytes, compression: int) -> bytes:
    if compression in (1, 2):
        return bytes(importlib.import_module("lz4.frame").compress(payload))
    if compression in (3, 4):
        try:
            return bytes(importlib.import_module("compression.zstd").compress(payload))
        except ModuleNotFoundError:
            return bytes(importlib.import_module("backports.zstd").compress(payload))
    return payload


def packet(stream: int, buffer: bytes, compression: int) -> bytes:
    payload = compress(struct.pack("<I", len(buffer)) + buffer, compression)
    return struct.pack("<ii", stream, len(payload)) + payload


def event_packet(events: Events, start: int, stop: int) -> bytes:
    rows = np.zeros(stop - start, EVENT)
    rows["t"], rows["x"], rows["y"], rows["on"] = (events.columns[name][start:stop] for name in "txyp")
    return flat_buffer(b"EVTS", {0: flat_vector(EVENT, rows)})


def trigger_packet(events: Events) -> bytes:
    """Rising edges as kind 1, falling ones as kind 2."""
    return flat_buffer(
        b"TRIG", {0: table_vector([{0: ("<q", t), 1: ("<b", 1 if p else 2)} for t, _, p in events.triggers])}
    )


def frame_packet(time: int, pixels: np.ndarray[Any, Any]) -> bytes:
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    code = {1: 0, 3: 16, 4: 24}[channels]
    fields: dict[int, Field] = {number: ("<q", time + number) for number in range(5)}
    fields |= {5: ("<b", code), 6: ("<h", pixels.shape[1]), 7: ("<h", pixels.shape[0])}
    return flat_buffer(b"FRME", fields | {10: flat_vector("u1", pixels.reshape(-1))})


def imu_packet(times: Sequence[int]) -> bytes:
    tables: list[Mapping[int, Field]] = [
        {0: ("<q", time)} | {number: ("<f", number + 0.5 * at) for number in range(1, 11)}
        for at, time in enumerate(times)
    ]
    return flat_buffer(b"IMUS", {0: table_vector(tables)})


def frames(count: int = 3, shape: tuple[int, ...] = (5, 7)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(0, 256, (count, *shape), np.uint8)


def write_aedat4(path: Path, events: Events, compression: int = 1) -> None:
    """Events in packets of 100, with frames, IMU samples and triggers in between."""
    parts = [aedat4_header(compression)]
    start = int(events.t[0])
    for number, first in enumerate(range(0, len(events), 100)):
        stop = min(len(events), first + 100)
        parts.append(packet(0, event_packet(events, first, stop), compression))
        if number < 3:
            parts.append(packet(1, frame_packet(start + 1000 * number, frames()[number]), compression))
            times = [start + 1000 * number + 10 * sample for sample in range(4)]
            parts.append(packet(2, imu_packet(times), compression))
    parts.append(packet(3, trigger_packet(events), compression))
    path.write_bytes(b"".join(parts))


# --- ROS ------------------------------------------------------------------------------------------

_EVENT = "uint16 x\nuint16 y\n{time} ts\nbool polarity\n"
_ARRAY = "{header} header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events\n"


def ros_types(version: int) -> Any:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if version == 1 else Stores.ROS2_HUMBLE)
    time = "time" if version == 1 else "builtin_interfaces/Time"
    types = get_types_from_msg(_EVENT.format(time=time), "dvs_msgs/msg/Event")
    types |= get_types_from_msg(_ARRAY.format(header="std_msgs/Header"), "dvs_msgs/msg/EventArray")
    store.register(types)
    return store


def ros_messages(store: Any, version: int, events: Events, size: int = 100) -> list[tuple[int, Any]]:
    """Bag time in ns and message, `size` events in each; the frame's name grows."""
    kinds = store.types
    time_type, header_type = kinds["builtin_interfaces/msg/Time"], kinds["std_msgs/msg/Header"]
    found = []
    for first in range(0, len(events), size):
        rows = [
            kinds["dvs_msgs/msg/Event"](
                x=int(x),
                y=int(y),
                ts=time_type(sec=int(t) // 10**6, nanosec=int(t) % 10**6 * 1000),
                polarity=bool(p),
            )
            for t, x, y, p in zip(
                *(events.columns[name][first : first + size] for name in "txyp"), strict=True
            )
        ]
        stamp = time_type(sec=1, nanosec=2)
        name = "c" * (first // size % 5)
        header = (
            header_type(seq=first, stamp=stamp, frame_id=name)
            if version == 1
            else header_type(stamp=stamp, frame_id=name)
        )
        array = kinds["dvs_msgs/msg/EventArray"](header=header, height=HEIGHT, width=WIDTH, events=rows)
        found.append((int(events.t[first]) * 1000, array))
    return found


def write_ros1(
    path: Path, events: Events, topics: Sequence[str] = ("/dvs/events",), compress: bool = True
) -> None:
    from rosbags.rosbag1 import Writer

    store = ros_types(1)
    writer = Writer(path)
    if compress:
        writer.set_compression(Writer.CompressionFormat.LZ4)
    with writer:
        links = [writer.add_connection(topic, "dvs_msgs/msg/EventArray", typestore=store) for topic in topics]
        for time, message in ros_messages(store, 1, events):
            for link in links:
                writer.write(link, time, store.serialize_ros1(message, "dvs_msgs/msg/EventArray"))


def write_ros2(path: Path, events: Events, storage: str = "MCAP", compression: str = "NONE") -> None:
    """A folder of ROS 2; `compression` is NONE, MESSAGE, FILE or STORAGE."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    store = ros_types(2)
    writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage])
    if compression != "NONE":
        writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
    with writer:
        link = writer.add_connection("/dvs/events", "dvs_msgs/msg/EventArray", typestore=store)
        for time, message in ros_messages(store, 2, events):
            writer.write(link, time, store.serialize_cdr(message, "dvs_msgs/msg/EventArray"))
