"""Tracks from a text table: columns t, x, y, or name_x, name_y, name_likelihood for each keypoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Source, SourceInfo
from lazystore.sources.assembled import AssembledSource
from lazystore.sources.frames import RATE_OPTION
from lazystore.sources.identity import identify_file
from lazystore.sources.options import Option
from lazystore.sources.record_times import (
    RecordTimes,
    times_from_frames,
    times_from_rate,
    times_from_values,
)
from lazystore.sources.tables.formats import COLUMNS_OPTION, TextTableFormat
from lazystore.sources.tables.table_kinds import (
    FRAME_NAMES,
    find_name,
    position_columns,
)
from lazystore.sources.tables.text_table import TextTable
from lazystore.sources.tables.tracks_layout import (
    SKELETON_OPTION,
    UNITS_OPTION,
    parse_skeleton,
    skeleton_attribute,
    table_of_keypoints,
)
from lazystore.sources.ticks import find_time, time_unit

TIME_OPTIONS = (
    Option("time_column", "text", "name of the column of times"),
    Option("time_unit", "text", "unit of the times: s, ms, us, ns, min or h"),
    RATE_OPTION,
)


class TableTime:
    """Where a table's rows have their times: a column of times, of frame numbers, or a rate alone.

    Parameters
    ----------
    names
        The table's columns.
    options
        ``time_column``, ``time_unit``, ``rate_hz``.

    Attributes
    ----------
    column
        Number of the column, None where there is none.
    """

    def __init__(self, names: Sequence[str], options: Mapping[str, Any]) -> None:
        self._rate: Fraction | None = options.get("rate_hz")
        time = find_time(tuple(names), options.get("time_column"))
        frame = find_name(names, FRAME_NAMES)
        self._is_frame = time is None and frame is not None
        self.column = frame if self._is_frame else time
        self._name = "" if self.column is None else names[self.column]
        self._unit = time_unit(self._name, options.get("time_unit"))

    def times(self, values: NDArray[Any], file_name: str) -> RecordTimes:
        """Times of the rows from the values of `column` (not looked at where that is None)."""
        if self.column is None:
            return times_from_rate(self._rate)
        if self._is_frame:
            return times_from_frames(values, self._rate, self._name, file_name)
        return times_from_values(values, self._unit, self._name)


class CsvTracks(TextTableFormat):
    """Tracks of one individual in a table with a row a time."""

    name = "csv-tracks"
    kinds = ("tracks",)
    options = (*TIME_OPTIONS, COLUMNS_OPTION, UNITS_OPTION, SKELETON_OPTION)

    def source(self, table: TextTable, options: Mapping[str, Any]) -> Source:
        """The recording in an open table."""
        if "track" in table.names and find_name(table.names, FRAME_NAMES) is not None:
            raise SourceError(
                f"{table.name} has a row for each track of each frame; export the analysis .h5 instead, "
                "or a row for each frame"
            )
        keypoints = position_columns(table.names)
        if not keypoints:
            raise SourceError(
                f"{table.name} has no columns x and y, nor pairs such as nose_x and nose_y; "
                f"its columns are: {', '.join(table.names)}"
            )
        layout = table_of_keypoints(keypoints)
        time = TableTime(table.names, options)
        times = time.times(table.scan(layout.columns, keep=time.column), table.name)
        used = {*layout.columns, *(() if time.column is None else (time.column,))}
        unused = [name for number, name in enumerate(table.names) if number not in used]
        problems = times.problems
        if unused:
            problems += (
                f"columns that are no positions are left out: {', '.join(unused)}; "
                "convert them with --kind series",
            )
        units = options.get("units")
        names = layout.names
        columns = names.columns(table.n_rows, np.dtype("f8"), layout.confidence is not None, units)
        info = SourceInfo(
            kind="tracks",
            format=self.name,
            columns=columns + times.columns,
            identity=(identify_file(table.path),),
            ticks=times.ticks,
            side=names.side(),
            attributes=times.facts,
            item_attributes=skeleton_attribute(parse_skeleton(options.get("skeleton"), names.keypoints)),
            problems=problems,
        )

        def read(start: int, stop: int) -> dict[str, NDArray[Any]]:
            if not times.columns or time.column is None:
                return layout.take(table.read(start, stop, layout.columns))
            rows = table.read(start, stop, [*layout.columns, time.column])
            return {**layout.take(rows[:, :-1]), "source_time": np.ascontiguousarray(rows[:, -1])}

        return AssembledSource(info, read, table.close)


CSV_TRACKS = CsvTracks()
