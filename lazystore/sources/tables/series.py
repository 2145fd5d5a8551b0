"""Scalar series from a text table: every column of numbers is a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Column, SideArray, Source, SourceInfo
from lazystore.schema import JSON
from lazystore.sources.assembled import AssembledSource
from lazystore.sources.identity import identify_file
from lazystore.sources.options import Option
from lazystore.sources.tables.formats import COLUMNS_OPTION, TextTableFormat
from lazystore.sources.tables.text_fields import is_number
from lazystore.sources.tables.text_table import TextTable
from lazystore.sources.tables.tracks import TIME_OPTIONS, TableTime


class CsvSeries(TextTableFormat):
    """Channels over time in a table with a row a time.

    Columns whose first value is text are left out, which `problems` says; a column of numbers with
    text further down is an error.
    """

    name = "csv-series"
    kinds = ("series",)
    options = (
        *TIME_OPTIONS,
        COLUMNS_OPTION,
        Option("channels", "text", "columns to take, as in speed,heading; all by default"),
        Option("units", "text", "unit of the values"),
    )

    def source(self, table: TextTable, options: Mapping[str, Any]) -> Source:
        """The recording in an open table."""
        time = TableTime(table.names, options)
        channels, left_out = _channels(table, options.get("channels"), time.column)
        times = time.times(table.scan(channels, keep=time.column), table.name)
        problems = times.problems
        if left_out:
            problems += (f"columns that hold text are left out: {', '.join(left_out)}",)
        facts: dict[str, JSON] = {"units": options["units"]} if options.get("units") else {}
        shape = (table.n_rows, len(channels))
        names = np.array([table.names[channel] for channel in channels], dtype=np.str_)
        info = SourceInfo(
            kind="series",
            format=self.name,
            columns=(Column("data", ("time", "channel"), shape, np.dtype("f8"), facts), *times.columns),
            identity=(identify_file(table.path),),
            ticks=times.ticks,
            side=(SideArray("channel", ("channel",), names),),
            attributes=times.facts,
            problems=problems,
        )

        def read(start: int, stop: int) -> dict[str, NDArray[Any]]:
            if not times.columns or time.column is None:
                return {"data": table.read(start, stop, channels)}
            rows = table.read(start, stop, [*channels, time.column])
            return {
                "data": np.ascontiguousarray(rows[:, :-1]),
                "source_time": np.ascontiguousarray(rows[:, -1]),
            }

        return AssembledSource(info, read, table.close)


def _channels(table: TextTable, wanted: str | None, time: int | None) -> tuple[list[int], list[str]]:
    """Numbers of the columns to take, and names of those that hold text."""
    if wanted is not None:
        names = [name.strip() for name in wanted.split(",")]
        unknown = [name for name in names if name not in table.names]
        if unknown:
            raise SourceError(
                f"{table.name} has no column {unknown[0]!r}; its columns are: {', '.join(table.names)}"
            )
        return [table.names.index(name) for name in names], []
    first = table.texts_of_first_row()
    others = [number for number in range(len(table.names)) if number != time]
    channels = [number for number in others if is_number(first[number])]
    if not channels:
        raise SourceError(
            f"{table.name} has no column of numbers beside the times; its columns are: "
            f"{', '.join(table.names)}"
        )
    return channels, [table.names[number] for number in others if number not in channels]


CSV_SERIES = CsvSeries()
