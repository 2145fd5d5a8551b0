"""Metavision HDF5: `/CD/events`, rows of x, y, p, t in chunks compressed with ECF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.sources.events.blocks import MAX_TRIGGERS
from lazystore.sources.events.columns import EventColumns, Triggers
from lazystore.sources.events.hdf5_column import DAMAGE, DatasetColumn, side_by_side
from lazystore.sources.events.hdf5_file import EventDatasets, Hdf5EventFormat, open_dataset, open_hdf5
from lazystore.sources.events.hdf5_heap import has_endless_heap
from lazystore.sources.events.header import parse_header
from lazystore.sources.events.info import RecordingFacts
from lazystore.sources.events.values import ValueConverter

ECF_FILTER = 0x8ECF
EVENTS = "CD/events"
TRIGGERS = "EXT_TRIGGER/events"

_FAULTS = {-1: "the chunk is cut off", -2: "a run goes past the chunk's end", -3: "a time step is too large"}


class MetavisionTable:
    """An `EventTable` over `/CD/events`; chunks are decoded here, side by side."""

    def __init__(self, path: Path, where: EventDatasets) -> None:
        self._path = path
        self._where = where
        self._converter = ValueConverter(path.name, "us")
        self._file: Any = None
        self._rows: DatasetColumn | None = None
        self._kept: tuple[int, EventColumns] | None = None
        self._trigger_problems: tuple[str, ...] = ()
        try:
            self.length = self._opened().length
        except BaseException:
            self.close()
            raise

    @property
    def sensor(self) -> tuple[int, int] | None:
        return self._where.sensor

    def read_into(self, start: int, out: EventColumns) -> None:
        rows = self._opened()
        if not rows.has_only(ECF_FILTER):
            for first, last in rows.pieces(start, start + len(out)):
                self._convert(rows.read(first, last), out.part(first - start, last - start), first)
            return

        def decode(piece: tuple[int, int]) -> None:
            first, last = piece
            number = first // rows.chunk
            kept = self._kept
            if kept is None or kept[0] != number:
                kept = (number, self._read_chunk(rows, number))
                if last < (number + 1) * rows.chunk:
                    self._kept = kept
            offset = number * rows.chunk
            out.copy_from(kept[1].part(first - offset, last - offset), first - start)

        side_by_side(decode, rows.pieces(start, start + len(out)), rows.chunk_bytes)

    def triggers(self) -> Triggers:
        self._opened()
        try:
            if TRIGGERS not in self._file:
                return Triggers.empty()
            rows = open_dataset(self._file, TRIGGERS, self._path.name)
            if rows.length == 0:
                return Triggers.empty()
            values = rows.read_slowly(0, min(rows.length, MAX_TRIGGERS))
            return Triggers(
                values["t"].astype(np.int64),
                values["id"].astype(np.uint16),
                (values["p"] > 0).astype(np.uint8),
            )
        except (SourceError, *DAMAGE) as error:
            # Damaged or unfamiliar triggers must not cost the events.
            self._trigger_problems = (f"triggers cannot be read: {' '.join(str(error).split())[:300]}",)
            return Triggers.empty()

    def facts(self) -> RecordingFacts:
        facts = self._where.facts(self._converter)
        return replace(facts, problems=facts.problems + self._trigger_problems)

    def close(self) -> None:
        self._rows = self._kept = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_rows": None, "_kept": None}

    def _opened(self) -> DatasetColumn:
        if self._rows is None:
            self._file = open_hdf5(self._path)
            self._rows = open_dataset(self._file, EVENTS, self._path.name, (ECF_FILTER,))
        return self._rows

    def _read_chunk(self, rows: DatasetColumn, number: int) -> EventColumns:
        from lazystore.sources.events.kernels import ecf

        start = number * rows.chunk
        wanted = min(rows.chunk, rows.length - start)
        skipped, stored = rows.read_stored(number)
        if skipped:
            columns = EventColumns.empty(wanted)
            whole = stored[: wanted * rows.dtype.itemsize]
            if len(whole) < wanted * rows.dtype.itemsize:
                raise self._damage(start, "the chunk is cut off")
            self._convert(np.frombuffer(whole, rows.dtype), columns, start)
            return columns
        data = np.frombuffer(stored, np.uint8)
        count = ecf.count_ecf(data)
        if not wanted <= count <= ecf.MAX_EVENTS:
            raise self._damage(start, f"the chunk declares {count} events instead of {wanted}")
        columns = EventColumns.empty(int(count))
        read = ecf.decode_ecf(data, columns.t, columns.x, columns.y, columns.p)
        if read < 0:
            raise self._damage(start, _FAULTS[int(read)])
        return columns.part(0, wanted)

    def _convert(self, rows: NDArray[Any], out: EventColumns, start: int) -> None:
        self._converter.times(rows["t"], out.t, start)
        self._converter.pixels(rows["x"], out.x, start, "x")
        self._converter.pixels(rows["y"], out.y, start, "y")
        self._converter.polarities(rows["p"], out.p, start)

    def _damage(self, start: int, why: str) -> SourceError:
        return SourceError(
            f"{self._path.name!r}: the ECF chunk from event {start} on does not decode ({why}); "
            "the file is damaged there"
        )


def _text_attributes(file: Any) -> dict[str, str]:
    found = {}
    for key, value in file.attrs.items():
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, (str, int, float, np.number)):
            found[str(key)] = " ".join(str(value).split())
    return found


def _find_metavision(file: Any, options: Mapping[str, Any]) -> Sequence[EventDatasets]:
    """`/CD/events` with fields x, y, p, t; the camera's header as attributes of the file."""
    if EVENTS not in file:
        return ()
    dataset = file[EVENTS]
    if getattr(dataset, "ndim", 0) != 1 or not {"x", "y", "p", "t"} <= set(dataset.dtype.names or ()):
        return ()
    if has_endless_heap(Path(file.filename)):
        raise SourceError(
            f"{Path(file.filename).name!r}: the heap of its text attributes is damaged; rewrite the file "
            "with h5repack, or export it again"
        )
    attributes = _text_attributes(file)
    lines = tuple(f"{key} {value}" for key, value in sorted(attributes.items()))
    header = parse_header("".join(f"% {line}\n" for line in lines).encode("ascii", "replace"))
    return (
        EventDatasets(
            "metavision",
            "lazystore.metavision-ecf/1",
            {"t": EVENTS},
            sensor=header.sensor,
            header=lines,
            extra={"recorded": attributes.get("date"), "time_shift_us": attributes.get("time_shift")},
        ),
    )


METAVISION = Hdf5EventFormat(
    "metavision", "Metavision HDF5", "a dataset CD/events with fields x, y, p, t",
    _find_metavision, MetavisionTable,
)  # fmt: skip
