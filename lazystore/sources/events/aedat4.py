"""AEDAT4 recordings of iniVation cameras: events with triggers, frames and IMU samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.events.aedat4_file import MAGIC, Aedat4File, PacketReader, Stream, open_aedat4
from lazystore.sources.events.aedat4_frames import FrameSource, ImuSource
from lazystore.sources.events.blocks import CheckpointedEvents, DecodedBlock
from lazystore.sources.events.columns import EventColumns, Triggers
from lazystore.sources.events.flatbuffers import FlatTable
from lazystore.sources.events.info import SENSOR_OPTION, RecordingFacts
from lazystore.sources.events.values import ValueConverter

EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("padding", "u1", 3)])
# Edges that fall; every other kind is a rising edge, a pulse, or a moment of a frame.
FALLING = (2, 5)
TRIGGER_KINDS = (
    "0 timestamp reset, 1 external rising, 2 external falling, 3 external pulse, 4 generated rising, "
    "5 generated falling, 6 frame start, 7 exposure start, 8 exposure end, 9 frame end"
)


class Aedat4Decoder:
    """A `BlockDecoder` of one stream of events; its checkpoints are numbers of packets."""

    def __init__(self, file: Aedat4File, stream: Stream, trigger_stream: Stream | None) -> None:
        self._file = file
        self._stream = stream
        self._packets = file.packets_of(stream)
        self._trigger_packets = file.packets_of(trigger_stream) if trigger_stream else np.empty(0, np.int64)
        self._reader = PacketReader(file)
        self._converter = ValueConverter(file.path.name, "us")
        self.suffix = ""
        self.side_problems: list[str] = []
        self.restore(None)

    @property
    def sensor(self) -> tuple[int, int] | None:
        return self._stream.size

    def restore(self, checkpoint: Any) -> None:
        self._next = 0 if checkpoint is None else int(checkpoint)
        self._events = 0
        self._damaged: list[int] = []
        self._wants_triggers = checkpoint is None

    def checkpoint(self) -> int:
        return self._next

    def next_block(self) -> DecodedBlock | None:
        if self._next >= len(self._packets):
            return None
        packet = int(self._packets[self._next])
        self._next += 1
        try:
            rows = FlatTable.root(self._reader.read(packet), 4).array(0, EVENT)
        except ValueError:
            self._damaged.append(packet)
            rows = np.empty(0, EVENT)
        columns = EventColumns.empty(len(rows))
        self._converter.times(rows["t"], columns.t, self._events)
        self._converter.pixels(rows["x"], columns.x, self._events, "x")
        self._converter.pixels(rows["y"], columns.y, self._events, "y")
        np.not_equal(rows["on"], 0, out=columns.p.view(np.bool_))
        self._events += len(rows)
        triggers = self._triggers() if self._wants_triggers else None
        self._wants_triggers = False
        return DecodedBlock(columns, triggers)

    def facts(self) -> RecordingFacts:
        problems = [*self._file.problems(), *self.side_problems]
        if self._damaged:
            problems.append(
                f"{len(self._damaged)} of {len(self._packets) + len(self._trigger_packets)} packets of "
                "events and triggers do not decode; what was in them is lost"
            )
        others = len(self._file.packet_streams) - len(self._packets) - len(self._trigger_packets)
        return RecordingFacts(
            format="aedat4",
            decoder="lazystore.aedat4/1",
            sensor=self._stream.size,
            unix_epoch=True,
            polarity="false/true",
            header=(
                f"stream {self._stream.number} {self._stream.name!r} of {self._stream.source!r}",
                f"compression {self._file.compression}",
            ),
            counts={
                "packets": len(self._packets),
                "other_packets": others,
                "decode_errors": len(self._damaged),
                "truncated_bytes": self._file.lost_bytes,
            },
            problems=tuple(problems),
            extra={"trigger_ids": TRIGGER_KINDS} if len(self._trigger_packets) else {},
            suffix=self.suffix,
        )

    def close(self) -> None:
        self._reader.close()

    def _triggers(self) -> Triggers | None:
        times: list[NDArray[Any]] = []
        kinds: list[NDArray[Any]] = []
        for packet in self._trigger_packets:
            try:
                table = FlatTable.root(self._reader.read(int(packet)), 4)
                found_times, found_kinds = table.tables(0, {0: "<i8", 1: "i1"})
            except ValueError:
                self._damaged.append(int(packet))
                continue
            times.append(found_times)
            kinds.append(found_kinds)
        if not times:
            return None
        kind = np.concatenate(kinds)
        return Triggers(
            np.concatenate(times).astype(np.int64),
            kind.astype(np.uint8).astype(np.uint16),
            (~np.isin(kind, FALLING)).astype(np.uint8),
        )


class Aedat4Format:
    """AEDAT4 as a `SourceFormat`."""

    name = "aedat4"
    kinds = ("events",)
    extensions = (".aedat4",)
    options = (SENSOR_OPTION,)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        return Recognition(True, "AEDAT 4.0") if head.startswith(MAGIC) else None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        file = open_aedat4(path)
        by_kind: dict[str, list[Stream]] = {}
        for number in sorted(file.streams):
            stream = file.streams[number]
            if len(file.packets_of(stream)):
                by_kind.setdefault(stream.identifier, []).append(stream)
        # A damaged side stream must not cost the events.
        sides, lost = _open_sides(file, by_kind)
        opened: list[Source] = []
        for stream in by_kind.get("EVTS", []):
            triggers = by_kind.get("TRIG") if not opened else None
            decoder = Aedat4Decoder(file, stream, triggers[0] if triggers else None)
            decoder.suffix = f"events-{stream.number}" if opened else ""
            decoder.side_problems = [str(error) for error in lost] if not opened else []
            opened.append(CheckpointedEvents(path, decoder, options))
        if not opened and not sides:
            if lost:
                raise lost[0]
            listed = ", ".join(stream.identifier for stream in file.streams.values()) or "none"
            raise SourceError(
                f"{path.name!r} holds no events, frames or IMU samples (streams: {listed}); "
                f"{'; '.join(file.problems()) or 'nothing to read'}"
            )
        return [*opened, *sides]


def _open_sides(
    file: Aedat4File, by_kind: Mapping[str, list[Stream]]
) -> tuple[list[Source], list[SourceError]]:
    """Frames, then IMU samples, and why a stream of them cannot be read."""
    sides: list[Source] = []
    lost: list[SourceError] = []
    for kind, make, name in (("FRME", FrameSource, "frames"), ("IMUS", ImuSource, "imu")):
        for place, stream in enumerate(by_kind.get(kind, [])):
            try:
                sides.append(make(file, stream, name if place == 0 else f"{name}-{stream.number}"))
            except SourceError as error:
                lost.append(error)
    return sides, lost


AEDAT4 = Aedat4Format()
