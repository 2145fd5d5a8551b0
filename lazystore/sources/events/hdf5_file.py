"""HDF5 files that hold events: opening them, and event tables over their datasets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lazystore.errors import LazystoreError, SourceError
from lazystore.protocols import Recognition, Source
from lazystore.schema import JSON
from lazystore.sources.events.columns import EventColumns, Triggers
from lazystore.sources.events.hdf5_column import DAMAGE, DatasetColumn, side_by_side
from lazystore.sources.events.info import SENSOR_OPTION, RecordingFacts
from lazystore.sources.events.table import EventTable, TableEvents
from lazystore.sources.events.values import ValueConverter
from lazystore.sources.options import Option

SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class EventDatasets:
    """Where an HDF5 file has one recording.

    Attributes
    ----------
    format, decoder
        As in `RecordingFacts`.
    columns
        Path of the dataset of each of t, x, y, p.
    time_unit
        Unit of t in the file.
    sensor, t_offset_us, unix_epoch, header, extra, problems, suffix
        As in `RecordingFacts`.
    """

    format: str
    decoder: str
    columns: Mapping[str, str]
    time_unit: str = "us"
    sensor: tuple[int, int] | None = None
    t_offset_us: int = 0
    unix_epoch: bool = False
    header: tuple[str, ...] = ()
    extra: Mapping[str, JSON] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    suffix: str = ""

    def facts(self, converter: ValueConverter) -> RecordingFacts:
        """The facts once everything has been converted."""
        return RecordingFacts(
            format=self.format,
            decoder=self.decoder,
            sensor=self.sensor,
            file_time_unit=self.time_unit,
            t_offset_us=self.t_offset_us,
            unix_epoch=self.unix_epoch,
            polarity=converter.polarity,
            header=self.header,
            problems=self.problems + converter.problems,
            extra=self.extra,
            suffix=self.suffix,
        )


def open_hdf5(path: Path) -> Any:
    """An open h5py file.

    Raises
    ------
    SourceError
        If it cannot be opened as HDF5.
    """
    import h5py

    try:
        # Locks fail on many network file systems, and reading needs none.
        return h5py.File(path, "r", locking="best-effort")
    except DAMAGE as error:
        raise SourceError(
            f"{path.name!r} cannot be opened as HDF5 ({' '.join(str(error).split())[:200]}); "
            "the recording was cut off or the file is damaged"
        ) from error


class Hdf5Columns:
    """An `EventTable` over four datasets of one value an event.

    Raises
    ------
    SourceError
        If the datasets differ in length, or do not hold numbers.
    """

    def __init__(self, path: Path, where: EventDatasets) -> None:
        self._path = path
        self._where = where
        self._converter = ValueConverter(path.name, where.time_unit, where.t_offset_us)
        self._file: Any = None
        self._columns: dict[str, DatasetColumn] = {}
        try:
            lengths = {name: column.length for name, column in self._opened().items()}
        except BaseException:
            self.close()
            raise
        if len(set(lengths.values())) != 1:
            self.close()
            raise SourceError(
                f"{path.name!r}: t, x, y and p differ in length ({lengths}); the recording was cut off"
            )
        self.length = lengths["t"]

    @property
    def sensor(self) -> tuple[int, int] | None:
        return self._where.sensor

    def read_into(self, start: int, out: EventColumns) -> None:
        columns = self._opened()
        stop = start + len(out)
        pieces = [(name, *piece) for name, column in columns.items() for piece in column.pieces(start, stop)]

        def convert(piece: tuple[str, int, int]) -> None:
            name, first, last = piece
            values = columns[name].read(first, last)
            target = out.part(first - start, last - start)
            if name == "t":
                self._converter.times(values, target.t, first)
            elif name == "p":
                self._converter.polarities(values, target.p, first)
            else:
                self._converter.pixels(values, getattr(target, name), first, name)

        side_by_side(convert, pieces, max(column.chunk_bytes for column in columns.values()))

    def triggers(self) -> Triggers:
        return Triggers.empty()

    def facts(self) -> RecordingFacts:
        return self._where.facts(self._converter)

    def close(self) -> None:
        self._columns = {}
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_columns": {}}

    def _opened(self) -> dict[str, DatasetColumn]:
        if self._file is None:
            self._file = open_hdf5(self._path)
            for name, dataset_path in self._where.columns.items():
                self._columns[name] = _numeric_column(self._file, dataset_path, self._path.name)
        return self._columns


class Hdf5Matrix:
    """An `EventTable` over one dataset of shape (event, 4) that holds x, y, t, p side by side."""

    ORDER = ("x", "y", "t", "p")

    def __init__(self, path: Path, where: EventDatasets) -> None:
        self._path = path
        self._where = where
        self._converter = ValueConverter(path.name, where.time_unit, where.t_offset_us)
        self._file: Any = None
        self._rows: DatasetColumn | None = None
        try:
            self.length = self._opened().length
        except BaseException:
            self.close()
            raise

    @property
    def sensor(self) -> tuple[int, int] | None:
        return self._where.sensor

    def read_into(self, start: int, out: EventColumns) -> None:
        rows = self._opened().read(start, start + len(out))
        by_name = {name: rows[:, number] for number, name in enumerate(self.ORDER)}
        self._converter.times(by_name["t"], out.t, start)
        self._converter.pixels(by_name["x"], out.x, start, "x")
        self._converter.pixels(by_name["y"], out.y, start, "y")
        self._converter.polarities(by_name["p"], out.p, start)

    def triggers(self) -> Triggers:
        return Triggers.empty()

    def facts(self) -> RecordingFacts:
        return self._where.facts(self._converter)

    def close(self) -> None:
        self._rows = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_rows": None}

    def _opened(self) -> DatasetColumn:
        if self._rows is None:
            self._file = open_hdf5(self._path)
            self._rows = _numeric_column(self._file, self._where.columns["t"], self._path.name, 2)
        return self._rows


@dataclass(frozen=True, slots=True)
class Hdf5EventFormat:
    """A layout of events in HDF5 as a `SourceFormat`.

    Attributes
    ----------
    name, title
        As in ``--format``, and as people call it.
    expected
        What a file of this layout holds, for messages.
    find
        Every recording in an open file, or none if it has another layout.
    make_table
        The table over one of them.
    """

    name: str
    title: str
    expected: str
    find: Callable[[Any, Mapping[str, Any]], Sequence[EventDatasets]]
    make_table: Callable[[Path, EventDatasets], EventTable]
    options: tuple[Option, ...] = (SENSOR_OPTION,)

    kinds = ("events",)
    extensions = (".h5", ".hdf5")

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        if not head.startswith(SIGNATURE):
            return None
        try:
            found = self._found(path, {})
        except SourceError:
            return None
        return Recognition(True, self.title) if found else None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        found = self._found(path, options)
        if not found:
            raise SourceError(
                f"{path.name!r} is not in the {self.title} layout; expected {self.expected}; "
                "let lazystore recognise it (no --format)"
            )
        return [TableEvents(path, self.make_table(path, where), options) for where in found]

    def _found(self, path: Path, options: Mapping[str, Any]) -> Sequence[EventDatasets]:
        with open_hdf5(path) as file:
            try:
                return self.find(file, options)
            except LazystoreError:
                raise
            except DAMAGE as error:
                raise SourceError(
                    f"{path.name!r}: the file's structure cannot be read "
                    f"({' '.join(str(error).split())[:200]}); it is damaged"
                ) from error


def attribute_size(node: Any) -> tuple[int, int] | None:
    """(width, height) from the attributes ``width`` and ``height`` of a file or group, if sane."""
    try:
        width, height = int(node.attrs["width"]), int(node.attrs["height"])
    except DAMAGE:
        return None
    return (width, height) if width > 0 and height > 0 else None


def open_dataset(file: Any, dataset_path: str, name: str, own_filters: tuple[int, ...] = ()) -> DatasetColumn:
    """A dataset of an open file, ready to be read.

    Raises
    ------
    SourceError
        If the file is damaged there, or the dataset cannot be (see `DatasetColumn`).
    """
    try:
        return DatasetColumn(file[dataset_path], name, own_filters)
    except LazystoreError:
        raise
    except DAMAGE as error:
        raise SourceError(
            f"{name!r}: dataset {dataset_path!r} cannot be opened "
            f"({' '.join(str(error).split())[:200]}); the file is damaged"
        ) from error


def _numeric_column(file: Any, dataset_path: str, name: str, dimensions: int = 1) -> DatasetColumn:
    column = open_dataset(file, dataset_path, name)
    if len(column.shape) != dimensions or column.dtype.kind not in "biuf":
        raise SourceError(
            f"{name!r}: dataset {dataset_path!r} holds {column.dtype} of shape {column.shape}; "
            f"expected numbers of {dimensions} dimension(s)"
        )
    return column
