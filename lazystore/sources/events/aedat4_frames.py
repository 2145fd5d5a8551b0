"""What else an AEDAT4 recording holds: frames of the camera, and samples of its IMU."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceChangedError, SourceError
from lazystore.protocols import Block, Column, SideArray, SourceInfo, Ticks
from lazystore.schema import JSON
from lazystore.sources.events.aedat4_file import Aedat4File, PacketReader, Stream
from lazystore.sources.events.flatbuffers import FlatTable
from lazystore.sources.identity import identify_file

MICROSECOND = Fraction(1, 1_000_000)
# Fields of a frame, in the order of its schema.
_TIMES = (0, 3, 4)  # middle, start and stop of the exposure
_FORMAT, _WIDTH, _HEIGHT, _PIXELS = 5, 6, 7, 10
# OpenCV's codes of 8-bit pixels.
_CHANNELS = {0: 1, 16: 3, 24: 4}

_IMU_CHANNELS = (
    "temperature",
    "acceleration_x", "acceleration_y", "acceleration_z",
    "rotation_x", "rotation_y", "rotation_z",
    "magnetic_field_x", "magnetic_field_y", "magnetic_field_z",
)  # fmt: skip
_IMU_UNITS = ("degC", *("g",) * 3, *("deg/s",) * 3, *("uT",) * 3)


class FrameSource:
    """Frames of one stream as a stack, timed by the middle of their exposure.

    Raises
    ------
    SourceError
        If no frame decodes, or frames differ in size or pixel format.
    """

    def __init__(self, file: Aedat4File, stream: Stream, suffix: str) -> None:
        self._reader = PacketReader(file)
        self._name = file.path.name
        kept: list[int] = []
        times: list[list[int]] = []
        shapes: set[tuple[int, ...]] = set()
        packets = file.packets_of(stream)
        try:
            for packet in packets:
                try:
                    table = FlatTable.root(self._reader.read(int(packet)), 4)
                    shapes.add(_pixels(table).shape)
                    times.append([table.number(field, "<q") for field in _TIMES])
                    kept.append(int(packet))
                except ValueError:
                    continue
        finally:
            self._reader.close()
        if len(shapes) != 1:
            raise SourceError(
                f"{self._name!r}: stream {stream.number} has frames of the shapes {sorted(shapes)}; "
                "expected one shape"
            )
        self._packets = kept
        self._shape = shapes.pop()
        ticks = np.array(times, np.int64)
        dims = ("time", "y", "x", "channel")[: 1 + len(self._shape)]
        problems = list(file.problems())
        if len(kept) < len(packets):
            problems.append(f"{len(packets) - len(kept)} of {len(packets)} frames do not decode; left out")
        colour: dict[str, JSON] = {"file_channel_order": "BGR"} if len(self._shape) == 3 else {}
        self._info = SourceInfo(
            kind="stack",
            format="aedat4/frames",
            columns=(Column("data", dims, (len(kept), *self._shape), np.dtype(np.uint8)),),
            identity=(identify_file(file.path),),
            ticks=Ticks(MICROSECOND, ticks[:, 0].copy()),
            side=tuple(
                SideArray(f"exposure_{name}", ("time",), ticks[:, at].copy(), {"units": "us"})
                for at, name in ((1, "start"), (2, "stop"))
            ),
            attributes={"decoder": "lazystore.aedat4/1", "camera": stream.source, **colour},
            problems=tuple(problems),
            suffix=suffix,
        )

    @property
    def info(self) -> SourceInfo:
        return self._info

    def read(self, start: int, stop: int) -> Block:
        out = np.empty((stop - start, *self._shape), np.uint8)
        for index in range(start, stop):
            try:
                pixels = _pixels(FlatTable.root(self._reader.read(self._packets[index]), 4))
            except ValueError as error:
                raise _changed(self._name, "frame", index) from error
            if pixels.shape != self._shape:
                raise _changed(self._name, "frame", index)
            # OpenCV stores colours the other way round than everybody who reads the result.
            if pixels.ndim == 3:
                pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[-1])]]
            out[index - start] = pixels
        return Block(start, {"data": out})

    def close(self) -> None:
        self._reader.close()


class ImuSource:
    """IMU samples of one stream as a series; held whole, 40 bytes a sample.

    Raises
    ------
    SourceError
        If no sample decodes.
    """

    def __init__(self, file: Aedat4File, stream: Stream, suffix: str) -> None:
        reader = PacketReader(file)
        packets = file.packets_of(stream)
        parts: list[list[NDArray[Any]]] = []
        try:
            for packet in packets:
                try:
                    table = FlatTable.root(reader.read(int(packet)), 4)
                    columns = {0: "<i8"} | dict.fromkeys(range(1, 1 + len(_IMU_CHANNELS)), "<f4")
                    parts.append(table.tables(0, columns))
                except ValueError:
                    continue
        finally:
            reader.close()
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        if not joined or len(joined[0]) == 0:
            raise SourceError(f"{file.path.name!r}: stream {stream.number} holds no IMU samples that decode")
        self._values = np.stack(joined[1:], axis=1).astype(np.float32)
        problems = list(file.problems())
        if len(parts) < len(packets):
            problems.append(
                f"{len(packets) - len(parts)} of {len(packets)} packets of IMU samples do not decode; "
                "left out"
            )
        self._info = SourceInfo(
            kind="series",
            format="aedat4/imu",
            columns=(Column("data", ("time", "channel"), self._values.shape, np.dtype(np.float32)),),
            identity=(identify_file(file.path),),
            ticks=Ticks(MICROSECOND, joined[0].astype(np.int64)),
            side=(
                SideArray("channel", ("channel",), np.array(_IMU_CHANNELS)),
                SideArray("channel_units", ("channel",), np.array(_IMU_UNITS)),
            ),
            attributes={"decoder": "lazystore.aedat4/1", "camera": stream.source},
            problems=tuple(problems),
            suffix=suffix,
        )

    @property
    def info(self) -> SourceInfo:
        return self._info

    def read(self, start: int, stop: int) -> Block:
        return Block(start, {"data": self._values[start:stop].copy()})

    def close(self) -> None:
        """Nothing is held open."""


def _pixels(table: FlatTable) -> NDArray[np.uint8]:
    """Pixels of a frame, shape (y, x) or (y, x, channel); ValueError if they do not fit its size."""
    width, height = table.number(_WIDTH, "<h"), table.number(_HEIGHT, "<h")
    channels = _CHANNELS.get(table.number(_FORMAT, "<b"), 0)
    values: NDArray[np.uint8] = table.array(_PIXELS, "u1")
    if not channels or width <= 0 or height <= 0 or len(values) != width * height * channels:
        raise ValueError(f"{len(values)} bytes for {width}x{height} pixels of {channels} channels")
    return values.reshape((height, width) if channels == 1 else (height, width, channels))


def _changed(name: str, what: str, index: int) -> SourceChangedError:
    return SourceChangedError(
        f"{name!r}: {what} {index} is not what it was when the file was opened; it changed meanwhile, "
        "convert again"
    )
