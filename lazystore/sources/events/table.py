"""Recordings whose events can be read from anywhere: columns in HDF5, npy and npz files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lazystore.protocols import Block, SourceInfo
from lazystore.sources.events import scan
from lazystore.sources.events.columns import EventColumns, Triggers
from lazystore.sources.events.info import RecordingFacts, build_info, choose_sensor
from lazystore.sources.identity import identify_file

# 13 MB of columns: enough chunks to decode side by side, little enough to stay out of the way.
SCAN_EVENTS = 1 << 20


class EventTable(Protocol):
    """A decoder with random access. The facts are complete only after every event was read once."""

    @property
    def sensor(self) -> tuple[int, int] | None:
        """(width, height) that the file declares."""

    @property
    def length(self) -> int:
        """Number of events."""

    def read_into(self, start: int, out: EventColumns) -> None:
        """Fill `out` with the events from `start` on."""

    def triggers(self) -> Triggers:
        """All triggers of the recording; those that cannot be read become a problem in the facts."""

    def facts(self) -> RecordingFacts:
        """What the file is, and what was met so far."""

    def close(self) -> None:
        """Release the file; the next read opens it again."""


class TableEvents:
    """A `Source` around an `EventTable`.

    Opening it reads every event once, in bounded memory, for ranges, disorder and what cannot be.

    Raises
    ------
    SourceError
        If the file is damaged, or its events cannot be (see `build_info`).
    """

    def __init__(self, path: Path, table: EventTable, options: Mapping[str, Any]) -> None:
        self._table = table
        identity = identify_file(path)
        sensor = choose_sensor(table.sensor, options)
        width, height = sensor.bounds
        totals = scan.initial_totals()
        try:
            scratch = EventColumns.empty(min(SCAN_EVENTS, table.length))
            for start in range(0, table.length, SCAN_EVENTS):
                part = scratch.part(0, min(SCAN_EVENTS, table.length - start))
                table.read_into(start, part)
                scan.add_to_totals(part.t, part.x, part.y, part.p, width, height, totals)
            triggers = table.triggers()
            self._info = build_info(identity, table.facts(), sensor, totals, triggers)
        finally:
            # Whoever only looks at the info holds no file open; the first read opens it again.
            table.close()

    @property
    def info(self) -> SourceInfo:
        return self._info

    def read(self, start: int, stop: int) -> Block:
        out = EventColumns.empty(stop - start)
        self._table.read_into(start, out)
        return Block(start, {"t": out.t, "x": out.x, "y": out.y, "p": out.p})

    def close(self) -> None:
        self._table.close()
