"""The AEDAT4 container: a header that lists the streams, then compressed packets of any of them."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.sources.events.flatbuffers import FlatTable
from lazystore.sources.inflating import unlz4, unzstd

MAGIC = b"#!AER-DAT4.0\r\n"
MAX_HEADER_BYTES = 4 << 20
# A packet holds 10 ms of events or one frame: some MB at most.
MAX_PACKET_BYTES = 256 << 20

_PACKET_HEADER = struct.Struct("<ii")
COMPRESSIONS = ("none", "lz4", "lz4", "zstd", "zstd")


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a recording.

    Attributes
    ----------
    number
        As in the packets' headers.
    identifier
        ``"EVTS"``, ``"FRME"``, ``"IMUS"``, ``"TRIG"``, or another.
    name
        Name of the camera's output.
    size
        (width, height) in pixels, or None.
    source
        Name of the camera.
    """

    number: int
    identifier: str
    name: str
    size: tuple[int, int] | None
    source: str


@dataclass(frozen=True, slots=True)
class Aedat4File:
    """A recording's streams and where its packets are.

    Attributes
    ----------
    compression
        One of `COMPRESSIONS`.
    streams
        By number.
    packet_streams, packet_offsets, packet_sizes
        Shape (packet,): the stream's number, the first byte of the payload, its size in bytes.
    lost_bytes
        Bytes after the last whole packet that belong to no packet.
    is_cut
        Whether the header speaks of a table of packets behind the end of the file.
    """

    path: Path
    compression: str
    streams: Mapping[int, Stream]
    packet_streams: NDArray[np.int32]
    packet_offsets: NDArray[np.int64]
    packet_sizes: NDArray[np.int64]
    lost_bytes: int
    is_cut: bool

    def packets_of(self, stream: Stream) -> NDArray[np.int64]:
        """Numbers of the packets of one stream, in file order."""
        return np.flatnonzero(self.packet_streams == stream.number)

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the container."""
        if not self.lost_bytes:
            return ("the file ends before its table of packets; it was cut off",) if self.is_cut else ()
        return (f"the last {self.lost_bytes} bytes are no whole packet; the recording was cut off",)


def open_aedat4(path: Path) -> Aedat4File:
    """Read the header and find every packet.

    Raises
    ------
    SourceError
        If it is no AEDAT4 file, or its header is damaged.
    """
    try:
        with path.open("rb", buffering=1 << 20) as file:
            return _index(path, file)
    except OSError as error:
        raise SourceError(f"cannot read {str(path)!r}: {error.strerror}") from error


def _index(path: Path, file: BinaryIO) -> Aedat4File:
    size = path.stat().st_size
    if file.read(len(MAGIC)) != MAGIC:
        raise SourceError(f"{path.name!r} does not begin with {MAGIC!r}; it is no AEDAT4 recording")
    try:
        (header_bytes,) = struct.unpack("<I", file.read(4))
        if header_bytes > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {header_bytes} bytes")
        header = file.read(header_bytes)
        if len(header) < header_bytes or header[4:8] != b"IOHE":
            raise ValueError("no IOHE table")
        table = FlatTable.root(header)
        number = table.number(0, "<i")
        if not 0 <= number < len(COMPRESSIONS):
            raise ValueError(f"compression {number}")
        table_position = int(table.number(1, "<q", -1))
        streams = _streams(table.text(2))
    except (ValueError, struct.error, ElementTree.ParseError) as error:
        raise SourceError(
            f"{path.name!r}: the AEDAT4 header cannot be read ({error}); the file is damaged"
        ) from error
    # The table of packets at the end is only written when a recording is closed; walking the packets
    # costs about 1 µs each and works for every file.
    end = table_position if file.tell() < table_position <= size else size
    # Packed integers: a recording of an hour has over a million packets.
    found = array("q")
    at = file.tell()
    while at + _PACKET_HEADER.size <= end:
        number, payload = _PACKET_HEADER.unpack(file.read(_PACKET_HEADER.size))
        if number not in streams or not 0 < payload <= end - at - _PACKET_HEADER.size:
            break
        found.extend((number, at + _PACKET_HEADER.size, payload))
        at += _PACKET_HEADER.size + payload
        file.seek(payload, 1)
    rows = np.array(found, np.int64).reshape(-1, 3)
    return Aedat4File(
        path, COMPRESSIONS[table.number(0, "<i")], streams,
        rows[:, 0].astype(np.int32), rows[:, 1].copy(), rows[:, 2].copy(), end - at, table_position > size,
    )  # fmt: skip


def _streams(info: str) -> dict[int, Stream]:
    """The streams that the header's XML lists under ``outInfo``."""
    root = ElementTree.fromstring(info)
    streams = {}
    for node in root.findall("./node[@name='outInfo']/node"):
        name = node.get("name", "")
        if not name.isdecimal():
            continue
        details = node.find("./node[@name='info']")
        width = _attribute(details, "sizeX")
        height = _attribute(details, "sizeY")
        sane = width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0
        streams[int(name)] = Stream(
            int(name),
            _attribute(node, "typeIdentifier"),
            _attribute(node, "originalOutputName"),
            (int(width), int(height)) if sane else None,
            _attribute(details, "source"),
        )
    return streams


def _attribute(node: ElementTree.Element | None, key: str) -> str:
    found = node.find(f"./attr[@key='{key}']") if node is not None else None
    return (found.text or "").strip() if found is not None else ""


class PacketReader:
    """Payloads of packets, decompressed; the file is opened when it is first needed."""

    def __init__(self, file: Aedat4File) -> None:
        self._file = file
        self._handle: BinaryIO | None = None
        self._decompress = _decompressor(file.compression)

    def read(self, packet: int) -> bytes:
        """The flatbuffer of a packet.

        Raises
        ------
        ValueError
            If it does not decompress or is absurdly large.
        SourceError
            If the file is shorter than it was.
        """
        if self._handle is None:
            self._handle = self._file.path.open("rb")
        self._handle.seek(int(self._file.packet_offsets[packet]))
        wanted = int(self._file.packet_sizes[packet])
        if wanted > MAX_PACKET_BYTES:
            raise ValueError(f"a packet of {wanted} bytes")
        stored = self._handle.read(wanted)
        if len(stored) < wanted:
            raise SourceError(
                f"{self._file.path.name!r} is shorter than when it was opened; it changed meanwhile, "
                "convert again"
            )
        data: bytes = self._decompress(stored)
        return data

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None, "_decompress": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._decompress = _decompressor(self._file.compression)


def _decompressor(compression: str) -> Any:
    # The limit is looked up at each call.
    return {
        "none": bytes,
        "lz4": lambda stored: unlz4(stored, MAX_PACKET_BYTES),
        "zstd": lambda stored: unzstd(stored, MAX_PACKET_BYTES),
    }[compression]
