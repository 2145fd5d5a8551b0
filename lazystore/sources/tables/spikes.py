"""Spikes: times in seconds and the unit of each, from a text table or an .npz archive.

Units that are numbers stay numbers; units with names become numbers into the side array `unit_name`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Column, SideArray, Source, SourceInfo
from lazystore.schema import JSON
from lazystore.sources.arrays.npz_arrays import TIME_NAMES as NPZ_TIME_NAMES
from lazystore.sources.arrays.npz_arrays import NpzArrays
from lazystore.sources.assembled import AssembledSource
from lazystore.sources.identity import identify_file
from lazystore.sources.options import Option
from lazystore.sources.tables.formats import COLUMNS_OPTION, NpzFormat, TextTableFormat
from lazystore.sources.tables.table_kinds import (
    SPIKE_TIME_NAMES,
    UNIT_NAMES,
    find_name,
    need_column,
)
from lazystore.sources.tables.text_fields import is_number
from lazystore.sources.tables.text_table import TextTable
from lazystore.sources.ticks import TIME_NAMES, time_unit
from lazystore.units import convert

# Where unit k's spikes end in a flat list of times, as NWB has it.
NWB_INDEX_NAMES = ("spike_times_index",)
OPTIONS = (
    Option("time_column", "text", "name of the spike times"),
    Option("time_unit", "text", "unit of the spike times: s, ms, us, ns, min or h"),
    Option("unit_column", "text", "name of the units (neurons)"),
)
_DISORDER_ROWS = 1 << 20


def spikes_info(
    format_name: str, path: Path, count: int, units: SideArray | None, has_units: bool, time: dict[str, JSON]
) -> SourceInfo:
    """What a recording of spikes is."""
    seconds: dict[str, JSON] = {"units": "s", "long_name": "spike time"}
    columns = [Column("spike_time", ("spike",), (count,), np.dtype("f8"), seconds)]
    if has_units:
        number: dict[str, JSON] = {"long_name": "unit that fired"}
        if units is not None:
            number["long_name"] = "unit that fired, as a place in unit_name"
        columns.append(Column("unit", ("spike",), (count,), np.dtype("i8"), number))
    return SourceInfo(
        kind="spikes",
        format=format_name,
        columns=tuple(columns),
        identity=(identify_file(path),),
        side=() if units is None else (units,),
        attributes={"time": time},
    )


def to_seconds(values: NDArray[Any], unit: str) -> NDArray[np.float64]:
    """Times in `unit` as float64 seconds; seconds stay bit for bit."""
    return values.astype("f8", copy=False) if unit == "s" else convert(values, unit, "s")


class CsvSpikes(TextTableFormat):
    """A row a spike: ``spike_time`` (or ``time``) and ``unit``."""

    name = "csv-spikes"
    kinds = ("spikes",)
    options = (*OPTIONS, COLUMNS_OPTION)

    def source(self, table: TextTable, options: Mapping[str, Any]) -> Source:
        """The recording in an open table."""
        wanted = (*SPIKE_TIME_NAMES, *TIME_NAMES)
        time = need_column(
            table.names, wanted, options.get("time_column"), "time_column", "spike times", table.name
        )
        chosen = options.get("unit_column")
        unit = find_name(table.names, UNIT_NAMES)
        if chosen is not None:
            unit = need_column(table.names, (), chosen, "unit_column", "units", table.name)
        symbol = time_unit(table.names[time], options.get("time_unit"))
        named = unit is not None and not is_number(table.texts_of_first_row()[unit])
        numeric = [time] if unit is None or named else [time, unit]
        table.scan(numeric, keep=time)
        side, codes = (None, None) if unit is None or not named else encode_names(table.texts(unit))
        facts: dict[str, JSON] = {"column": table.names[time], "unit": symbol}
        info = spikes_info(self.name, table.path, table.n_rows, side, unit is not None, facts)

        def read(start: int, stop: int) -> dict[str, NDArray[Any]]:
            rows = table.read(start, stop, numeric)
            block: dict[str, NDArray[Any]] = {
                "spike_time": to_seconds(np.ascontiguousarray(rows[:, 0]), symbol)
            }
            if codes is not None:
                block["unit"] = codes[start:stop].copy()
            elif unit is not None:
                block["unit"] = whole_units(rows[:, 1], start, table.name)
            return block

        if codes is None and unit is not None:
            check_units(read, table.n_rows)
        return AssembledSource(info, read, table.close)


def encode_names(names: Sequence[str]) -> tuple[SideArray, NDArray[np.int64]]:
    """The distinct names in order of appearance, and each entry as a place among them.

    >>> side, codes = encode_names(["b", "a", "b"])
    >>> side.values.tolist(), codes.tolist()
    (['b', 'a'], [0, 1, 0])
    """
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    codes = np.fromiter((places[name] for name in names), np.int64, len(names))
    return SideArray("unit_name", ("unit_id",), np.array(list(places), dtype=np.str_)), codes


def whole_units(values: NDArray[Any], start: int, file_name: str) -> NDArray[np.int64]:
    """Unit numbers as int64.

    Raises
    ------
    SourceError
        If one is missing or no whole number.
    """
    broken = np.flatnonzero(~(np.isfinite(values) & (np.rint(values) == values)))
    if broken.size:
        raise SourceError(
            f"{file_name}: the unit of spike {start + int(broken[0])} is {float(values[broken[0]])!r}; "
            "expected a whole number, or names in every row"
        )
    return values.astype(np.int64)


def check_units(read: Callable[[int, int], Mapping[str, NDArray[Any]]], count: int) -> None:
    """Read all once, so that a bad unit is found before anything is written."""
    for start in range(0, count, _DISORDER_ROWS):
        read(start, min(start + _DISORDER_ROWS, count))


class NpzSpikes(NpzFormat):
    """``spike_times`` with ``unit`` of the same length, or with NWB's ``spike_times_index``."""

    name = "npz-spikes"
    kinds = ("spikes",)
    options = OPTIONS

    def claim(self, arrays: NpzArrays) -> str | None:
        """Certain by an array named like spike times, or times beside units."""
        found = arrays.find(SPIKE_TIME_NAMES)
        if found is None and arrays.find(UNIT_NAMES) is not None:
            found = arrays.find(NPZ_TIME_NAMES)
        if found is None or len(arrays.headers[found].shape) != 1:
            return None
        return f"{found} {arrays.headers[found].shape}"

    def source(self, arrays: NpzArrays, options: Mapping[str, Any]) -> Source:
        """The recording in an open archive."""
        wanted = (*SPIKE_TIME_NAMES, *NPZ_TIME_NAMES)
        time = arrays.need(options.get("time_column"), wanted, "time_column", "spike times")
        header = arrays.headers[time]
        if len(header.shape) != 1 or not header.shape[0] or header.dtype.kind not in "iuf":
            raise SourceError(
                f"{arrays.path.name}: spike times {time!r} have shape {header.shape} and dtype "
                f"{header.dtype}; expected a list of numbers"
            )
        count = header.shape[0]
        symbol = time_unit(time, options.get("time_unit"))
        chosen = options.get("unit_column")
        unit = arrays.need(chosen, (), "unit_column", "units") if chosen else arrays.find(UNIT_NAMES)
        side, codes = _units_of_arrays(arrays, unit, count)
        facts: dict[str, JSON] = {"column": time, "unit": symbol}
        info = spikes_info(self.name, arrays.path, count, side, codes is not None, facts)
        _check_finite(arrays, time, count)

        def read(start: int, stop: int) -> dict[str, NDArray[Any]]:
            block: dict[str, NDArray[Any]] = {
                "spike_time": to_seconds(arrays.read(time, start, stop), symbol)
            }
            if codes is not None:
                block["unit"] = codes[start:stop].copy()
            return block

        return AssembledSource(info, read, arrays.close)


def _units_of_arrays(
    arrays: NpzArrays, unit: str | None, count: int
) -> tuple[SideArray | None, NDArray[np.int64] | None]:
    """Names of the units, and the unit of each spike."""
    ends_name = arrays.find(NWB_INDEX_NAMES)
    if ends_name is not None:
        ends = arrays.whole(ends_name).astype(np.int64)
        if ends.ndim != 1 or not ends.size or np.any(np.diff(ends, prepend=0) < 0) or ends[-1] != count:
            raise SourceError(
                f"{arrays.path.name}: {ends_name!r} does not divide {count} spikes; expected ascending ends, "
                f"the last one {count}"
            )
        ids = arrays.whole(unit).astype(np.int64) if unit is not None else np.arange(ends.size)
        if ids.shape != ends.shape:
            raise SourceError(
                f"{arrays.path.name}: {unit!r} has shape {ids.shape}, but {ends_name!r} divides the spikes "
                f"among {ends.size} units"
            )
        return None, np.repeat(ids, np.diff(ends, prepend=0))
    if unit is None:
        return None, None
    values = arrays.whole(unit)
    if values.shape != (count,) or values.dtype.kind not in "iufUS":
        raise SourceError(
            f"{arrays.path.name}: units {unit!r} have shape {values.shape} and dtype {values.dtype} for "
            f"{count} spikes; expected one number or name a spike"
        )
    if values.dtype.kind in "US":
        return encode_names([str(name) for name in values.astype(np.str_)])
    return None, whole_units(values, 0, arrays.path.name)


def _check_finite(arrays: NpzArrays, time: str, count: int) -> None:
    for start in range(0, count, _DISORDER_ROWS):
        broken = np.flatnonzero(~np.isfinite(arrays.read(time, start, min(start + _DISORDER_ROWS, count))))
        if broken.size:
            raise SourceError(
                f"{arrays.path.name}: spike time {start + int(broken[0])} of {time!r} is not finite; "
                "expected a time for every spike"
            )


CSV_SPIKES = CsvSpikes()
NPZ_SPIKES = NpzSpikes()
