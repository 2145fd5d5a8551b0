"""Intervals: start and stop in seconds with a label, from a text table or an .npz archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Column, SideArray, Source, SourceInfo
from lazystore.schema import JSON
from lazystore.sources.arrays.npz_arrays import NpzArrays
from lazystore.sources.assembled import AssembledSource
from lazystore.sources.identity import identify_file
from lazystore.sources.options import Option
from lazystore.sources.tables.formats import COLUMNS_OPTION, NpzFormat, TextTableFormat
from lazystore.sources.tables.spikes import to_seconds
from lazystore.sources.tables.table_kinds import (
    LABEL_NAMES,
    START_NAMES,
    STOP_NAMES,
    find_name,
    need_column,
)
from lazystore.sources.tables.text_table import TextTable
from lazystore.units import parse_unit

OPTIONS = (
    Option("start_column", "text", "name of the starts"),
    Option("stop_column", "text", "name of the stops"),
    Option("label_column", "text", "name of the labels"),
    Option("time_unit", "text", "unit of starts and stops: s, ms, us, ns, min or h"),
)


def intervals_source(
    format_name: str,
    path: Path,
    start: NDArray[Any],
    stop: NDArray[Any],
    labels: Sequence[str] | None,
    unit: str,
    close: Callable[[], None],
) -> Source:
    """The source of intervals that are in memory: even a day of trials is a small table.

    Raises
    ------
    SourceError
        If an interval ends before it starts, or a time is not finite.
    """
    starts, stops = (to_seconds(np.asarray(values), unit) for values in (start, stop))
    broken = np.flatnonzero(~(np.isfinite(starts) & np.isfinite(stops) & (stops >= starts)))
    if broken.size:
        at = int(broken[0])
        raise SourceError(
            f"{path.name}: interval {at} goes from {float(starts[at])!r} s to {float(stops[at])!r} s; "
            "expected finite times and a stop that is not before the start"
        )
    dims, shape = ("interval",), (len(starts),)
    side: tuple[SideArray, ...] = ()
    if labels is not None:
        side = (SideArray("label", dims, np.array(labels, dtype=np.str_)),)
    seconds: dict[str, JSON] = {"units": "s"}
    info = SourceInfo(
        kind="intervals",
        format=format_name,
        columns=tuple(Column(name, dims, shape, np.dtype("f8"), seconds) for name in ("start", "stop")),
        identity=(identify_file(path),),
        side=side,
        attributes={"time": {"unit": unit}},
    )

    def read(first: int, last: int) -> dict[str, NDArray[Any]]:
        return {"start": starts[first:last].copy(), "stop": stops[first:last].copy()}

    return AssembledSource(info, read, close)


class CsvIntervals(TextTableFormat):
    """A row an interval: ``start``, ``stop`` (or ``end``), and perhaps ``label``."""

    name = "csv-intervals"
    kinds = ("intervals",)
    options = (*OPTIONS, COLUMNS_OPTION)

    def source(self, table: TextTable, options: Mapping[str, Any]) -> Source:
        """The recording in an open table."""
        names = table.names
        start = need_column(
            names, START_NAMES, options.get("start_column"), "start_column", "starts", table.name
        )
        stop = need_column(names, STOP_NAMES, options.get("stop_column"), "stop_column", "stops", table.name)
        chosen = options.get("label_column")
        label = find_name(names, LABEL_NAMES)
        if chosen is not None:
            label = need_column(names, (), chosen, "label_column", "labels", table.name)
        table.scan([start, stop], keep=start)
        rows = table.read(0, table.n_rows, [start, stop])
        unit = parse_unit(options.get("time_unit", "s")).symbol
        labels = None if label is None else table.texts(label)
        return intervals_source(self.name, table.path, rows[:, 0], rows[:, 1], labels, unit, table.close)


class NpzIntervals(NpzFormat):
    """Arrays ``start`` and ``stop`` of one length, and perhaps ``label``."""

    name = "npz-intervals"
    kinds = ("intervals",)
    options = OPTIONS

    def claim(self, arrays: NpzArrays) -> str | None:
        """Arrays of starts and of stops."""
        start, stop = arrays.find(START_NAMES), arrays.find(STOP_NAMES)
        return None if start is None or stop is None else f"{start} and {stop}"

    def source(self, arrays: NpzArrays, options: Mapping[str, Any]) -> Source:
        """The recording in an open archive."""
        start = arrays.need(options.get("start_column"), START_NAMES, "start_column", "starts")
        stop = arrays.need(options.get("stop_column"), STOP_NAMES, "stop_column", "stops")
        chosen = options.get("label_column")
        label = arrays.need(chosen, (), "label_column", "labels") if chosen else arrays.find(LABEL_NAMES)
        headers = [arrays.headers[name] for name in (start, stop, label) if name is not None]
        numeric = all(header.dtype.kind in "iuf" for header in headers[:2])
        shape = headers[0].shape
        if not numeric or len(shape) != 1 or not shape[0] or any(h.shape != shape for h in headers):
            raise SourceError(
                f"{arrays.path.name}: starts, stops and labels do not fit each other: {arrays.describe()}; "
                "expected lists of one length"
            )
        labels = None if label is None else _texts(arrays.whole(label))
        unit = parse_unit(options.get("time_unit", "s")).symbol
        times = arrays.whole(start), arrays.whole(stop)
        return intervals_source(self.name, arrays.path, *times, labels, unit, arrays.close)


def _texts(values: NDArray[Any]) -> list[str]:
    if values.dtype.kind == "S":
        values = np.strings.decode(values, "utf-8")
    return [str(value) for value in values]


CSV_INTERVALS = CsvIntervals()
NPZ_INTERVALS = NpzIntervals()
