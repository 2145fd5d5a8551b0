"""Events in NumPy files: structured .npy, .npz with t, x, y, p, and plain (event, 4) arrays."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.arrays.npy import MAGIC, FileBytes, NpyArray, NpyHeader, parse_header
from lazystore.sources.arrays.npz import ZIP_MAGIC, member_bytes, read_member_headers
from lazystore.sources.events.columns import EventColumns, Triggers
from lazystore.sources.events.info import SENSOR_OPTION, RecordingFacts
from lazystore.sources.events.names import (
    COLUMNS_OPTION,
    columns_by_name,
    columns_by_option,
    columns_by_values,
    describe_choice,
    unit_of_values,
)
from lazystore.sources.events.table import TableEvents
from lazystore.sources.events.values import TIME_UNIT_OPTION, ValueConverter
from lazystore.sources.options import Option

# Enough events to tell the columns of an array without names.
SAMPLE_EVENTS = 4096
ARRAY_OPTION = Option("array", "text", "name of the .npz member that holds the events")

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an event's values are.

    Attributes
    ----------
    members
        Header of each array that is read, by its name in the archive; ``""`` for a .npy file.
    columns
        For each of t, x, y, p: the member, and the field's name or the column's number in it, or
        None for all of it.
    length
        Number of events.
    unit
        Unit of t that a name gives, or None.
    """

    members: Mapping[str, NpyHeader]
    columns: Mapping[str, tuple[str, str | int | None]]
    length: int
    unit: str | None = None

    @property
    def is_certain(self) -> bool:
        """Whether names prove that these are events."""
        return not any(isinstance(where, int) for _, where in self.columns.values())


class NumpyTable:
    """An `EventTable` over arrays of a .npy or .npz file."""

    def __init__(self, path: Path, layout: Layout, options: Mapping[str, Any]) -> None:
        self._path = path
        self._layout = layout
        self._arrays: dict[str, NpyArray] = {}
        self.length = layout.length
        unit = options.get("time_unit") or layout.unit
        self._unit_from = "option" if options.get("time_unit") else "name" if layout.unit else "assumed"
        if unit is None:
            try:
                unit = unit_of_values(self._values("t", self._read(0, min(self.length, SAMPLE_EVENTS))))
            except BaseException:
                self.close()
                raise
        self._unit = unit
        self._converter = ValueConverter(path.name, unit)

    @property
    def sensor(self) -> tuple[int, int] | None:
        return None

    def read_into(self, start: int, out: EventColumns) -> None:
        blocks = self._read(start, start + len(out))
        self._converter.times(self._values("t", blocks), out.t, start)
        self._converter.pixels(self._values("x", blocks), out.x, start, "x")
        self._converter.pixels(self._values("y", blocks), out.y, start, "y")
        self._converter.polarities(self._values("p", blocks), out.p, start)

    def triggers(self) -> Triggers:
        return Triggers.empty()

    def facts(self) -> RecordingFacts:
        names = {
            column: ":".join(str(part) for part in where if part not in ("", None))
            for column, where in self._layout.columns.items()
        }
        return RecordingFacts(
            format="numpy-events",
            decoder="lazystore.numpy-events/1",
            file_time_unit=self._unit,
            polarity=self._converter.polarity,
            problems=self._converter.problems,
            extra={"columns": describe_choice(names), "time_unit_from": self._unit_from},
        )

    def close(self) -> None:
        for array in self._arrays.values():
            array.close()
        self._arrays = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": {}}

    def _read(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        blocks = {}
        for name, header in self._layout.members.items():
            try:
                if name not in self._arrays:
                    bytes_of = (
                        member_bytes(self._path, name, header)
                        if name
                        else FileBytes(self._path, header.data_offset)
                    )
                    self._arrays[name] = NpyArray(header, bytes_of)
                blocks[name] = self._arrays[name].read(start, stop)
            except _DAMAGE as error:
                raise SourceError(
                    f"{self._path.name!r}: events {start} to {stop} cannot be read "
                    f"({' '.join(str(error).split())[:200]}); the file is damaged, save it again"
                ) from error
        return blocks

    def _values(self, column: str, blocks: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        member, where = self._layout.columns[column]
        block = blocks[member]
        if where is None:
            return block.reshape(-1)
        values: NDArray[Any] = block[where] if isinstance(where, str) else block[:, where]
        return values


def _headers(path: Path, head: bytes) -> dict[str, NpyHeader]:
    """Header of every array in the file; none if it is no NumPy file."""
    if head.startswith(MAGIC):
        with path.open("rb") as file:
            start = file.read(1 << 16)
        try:
            header = parse_header(io.BytesIO(start), path.name)
        except SourceError:
            raise
        except Exception as error:  # The header is a Python literal: anything can be wrong with it.
            why = " ".join(str(error).split())[:200]
            raise SourceError(f"{path.name!r} has no readable .npy header ({why}); save it again") from error
        if path.stat().st_size < header.data_offset + header.data_bytes:
            raise SourceError(
                f"{path.name!r} is cut off: shape {header.shape} of {header.dtype} needs "
                f"{header.data_offset + header.data_bytes} bytes, the file has {path.stat().st_size}"
            )
        return {"": header}
    if head.startswith(ZIP_MAGIC):
        try:
            return read_member_headers(path)
        except SourceError:
            raise
        except Exception as error:  # As above, and whatever zipfile meets.
            why = " ".join(str(error).split())[:200]
            raise SourceError(f"{path.name!r} is no whole .npz archive ({why}); save it again") from error
    return {}


def find_layout(path: Path, head: bytes, options: Mapping[str, Any]) -> Layout | None:
    """Where a NumPy file has its events, or None if it has none.

    Raises
    ------
    SourceError
        If the file is damaged.
    UsageError
        If the option `columns` is not an order of t, x, y, p.
    """
    headers = {name: header for name, header in _headers(path, head).items() if not header.dtype.hasobject}
    wanted = options.get("array")
    if wanted is not None:
        headers = {name: header for name, header in headers.items() if name == wanted}
    flat = {
        name: header
        for name, header in headers.items()
        if len(header.shape) == 1 and header.dtype.kind in "biuf" and header.shape[0]
    }
    found = columns_by_name(list(flat))
    if found:
        names, unit = found
        lengths = {flat[name].shape[0] for name in names.values()}
        if len(lengths) == 1:
            members = {name: flat[name] for name in names.values()}
            columns = {column: (name, None) for column, name in names.items()}
            return Layout(members, columns, lengths.pop(), unit)
    for name, header in headers.items():
        found = columns_by_name(header.dtype.names or ())
        if found and len(header.shape) == 1 and header.shape[0] and _has_number_fields(header, found[0]):
            fields = {column: (name, field) for column, field in found[0].items()}
            return Layout({name: header}, fields, header.shape[0], found[1])
    for name, header in headers.items():
        layout = _plain_layout(path, name, header, options)
        if layout:
            return layout
    return None


def _has_number_fields(header: NpyHeader, fields: Mapping[str, str]) -> bool:
    types = [header.dtype[field] for field in fields.values()]
    return all(dtype.kind in "biuf" and not dtype.shape for dtype in types)


def _plain_layout(path: Path, name: str, header: NpyHeader, options: Mapping[str, Any]) -> Layout | None:
    if len(header.shape) != 2 or header.shape[0] == 0 or header.dtype.kind not in "iuf":
        return None
    if options.get("columns"):
        at: dict[str, int] | None = columns_by_option(options["columns"])
    elif header.shape[1] == 4:
        at = columns_by_values(_sample(path, name, header))
    else:
        at = None
    if at is None or max(at.values()) >= header.shape[1]:
        return None
    return Layout({name: header}, {column: (name, where) for column, where in at.items()}, header.shape[0])


def _sample(path: Path, name: str, header: NpyHeader) -> NDArray[np.float64]:
    try:
        bytes_of = member_bytes(path, name, header) if name else FileBytes(path, header.data_offset)
        array = NpyArray(header, bytes_of)
        try:
            return array.read(0, min(header.shape[0], SAMPLE_EVENTS)).astype(np.float64)
        finally:
            array.close()
    except _DAMAGE as error:
        raise SourceError(f"{path.name!r} cannot be read ({error}); save it again") from error


class NumpyEventFormat:
    """Events in .npy and .npz files as a `SourceFormat`."""

    name = "numpy-events"
    kinds = ("events",)
    extensions = (".npz", ".npy")
    options = (SENSOR_OPTION, TIME_UNIT_OPTION, COLUMNS_OPTION, ARRAY_OPTION)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        try:
            layout = find_layout(path, head, {})
        except (SourceError, OSError):
            return None
        if layout is None:
            return None
        # Rows of four numbers may be anything; names are proof.
        return Recognition(layout.is_certain, "columns t, x, y, p")

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        try:
            with path.open("rb") as file:
                head = file.read(16)
        except OSError as error:
            raise SourceError(f"cannot read {str(path)!r}: {error.strerror}") from error
        layout = find_layout(path, head, options)
        if layout is None:
            raise SourceError(
                f"{path.name!r} holds no arrays or fields named t, x, y, p of one length, nor an array of "
                "shape (events, 4); say array=NAME, columns=t,x,y,p, or save t, x, y, p with numpy.savez"
            )
        return [TableEvents(path, NumpyTable(path, layout, options), options)]


NUMPY_EVENTS = NumpyEventFormat()
