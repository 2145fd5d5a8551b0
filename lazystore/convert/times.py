"""Times that a person gives in a file: one number of seconds a record, or a pulse a line.

Text (comma, semicolon, tab or blanks, with or without a heading line) and ``.npy``.
"""

from __future__ import annotations

import csv
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.clock import MatchedTimes, match_times
from lazystore.convert.timing import NoRecordsError, place_in_recording
from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Source

# Text is decoded a line at a time; a line longer than this is no table of times.
MAX_LINE_CHARACTERS = 1_000_000


def split_times_argument(text: str) -> tuple[Path, str | None]:
    """File and column of ``FILE[:COLUMN]``.

    The colon of a Windows drive is not a separator, and a file whose own name holds a colon is
    found where it exists.

    >>> split_times_argument("pulses.csv:camera")[1]
    'camera'
    >>> split_times_argument("C:/data/pulses.csv")[1] is None
    True
    """
    head, colon, column = text.rpartition(":")
    is_drive = re.fullmatch("[A-Za-z]", head) is not None and column[:1] in ("/", "\\")
    if not colon or not head or not column or is_drive or Path(text).is_file():
        return Path(text), None
    return Path(head), column


def given_times(times: Any, stream: Source, mismatch: str | None) -> MatchedTimes:
    """Times that somebody gives for a stream's records: an array, or a file with an optional ``:COLUMN``.

    They are those of a whole recording: a part of it takes its share.

    Raises
    ------
    UsageError
        If its records are not at one time each, in order.
    NoRecordsError
        If none of the times is a record's.
    SourceError, ClockError
        If the file, or the times, will not do.
    """
    first_record, info = place_in_recording(stream, stream.info)
    if info.kind in ("events", "spikes", "intervals"):
        raise UsageError(f"times mean nothing for {info.kind}: every record has its own time")
    if isinstance(times, str | os.PathLike):
        times = read_times(*split_times_argument(os.fspath(times)))
    matched = match_times(times, info.length, mismatch)  # type: ignore[arg-type]  # checked there
    skipped = first_record - matched.first_record
    share = matched.times_s[max(0, skipped) : max(0, skipped + stream.info.length)]
    if not len(share):
        raise NoRecordsError(f"the times given are not those of its {stream.info.length} records")
    return MatchedTimes(share, max(0, -skipped))


def read_times(path: str | Path, column: str | int | None = None) -> NDArray[np.float64]:
    """Times from a file.

    Parameters
    ----------
    path
        ``.npy`` (one or two dimensions, or structured), otherwise text.
    column
        A heading or field name, or a number counted from 0. May be left out where there is only
        one column.

    Returns
    -------
    np.ndarray
        Shape (time,), float64, in seconds, in the order of the file.

    Raises
    ------
    SourceError
        If the file is missing, empty, or holds something else than numbers.
    UsageError
        If the column is needed and not given, or does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceError(f"times file {str(path)!r} does not exist; expected a .csv, .txt or .npy file")
    times = _read_npy(path, column) if path.suffix.lower() == ".npy" else _read_text(path, column)
    if not times.size:
        raise SourceError(f"times file {str(path)!r} holds no times; expected one number of seconds a line")
    return times


def _read_npy(path: Path, column: str | int | None) -> NDArray[np.float64]:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SourceError(f"times file {str(path)!r} is no .npy array: {error}") from error
    if values.dtype.names:
        names = list(values.dtype.names)
        values = values[names[_column_index(names, len(names), column, path)]]
    elif values.ndim == 2:
        values = values[:, _column_index(None, values.shape[1], column, path)]
    elif values.ndim == 1:
        _column_index(None, 1, column, path)
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise SourceError(
            f"times file {str(path)!r} holds {values.dtype} of shape {values.shape}; "
            "expected numbers of seconds in one or two dimensions"
        )
    return np.asarray(values, dtype=np.float64)


def _read_text(path: Path, column: str | int | None) -> NDArray[np.float64]:
    times = array("d")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _rows(_lines(file, path))
            first = next(rows, None)
            if first is None:
                return np.empty(0)
            number, cells = first
            heading = None if any(_is_number(cell) for cell in cells) else cells
            index = _column_index(heading, len(cells), column, path)
            if heading is None:
                times.append(_number(cells, index, number, path))
            for number, cells in rows:
                times.append(_number(cells, index, number, path))
    except UnicodeDecodeError as error:
        raise SourceError(
            f"times file {str(path)!r} is not text: {error}; expected .csv, .txt or .npy"
        ) from error
    return np.frombuffer(times, dtype=np.float64) if times else np.empty(0)


def _lines(file: Iterable[str], path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that hold something; lines that start with # are remarks."""
    for number, line in enumerate(file, start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise SourceError(
                f"times file {str(path)!r} has {len(line)} characters in line {number}; "
                "expected one number of seconds a line"
            )
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _rows(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Numbered cells of each line; the first line decides what separates them."""
    separator: str | None = None
    for position, (number, line) in enumerate(lines):
        if position == 0:
            separator = next((mark for mark in ("\t", ";", ",") if mark in line), None)
        cells = line.split() if separator is None else next(csv.reader([line], delimiter=separator))
        yield number, [cell.strip() for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cells: Sequence[str], index: int, line: int, path: Path) -> float:
    try:
        return float(cells[index])
    except IndexError:
        raise SourceError(
            f"times file {str(path)!r} has {len(cells)} columns in line {line}; column {index} was expected"
        ) from None
    except ValueError:
        raise SourceError(
            f"times file {str(path)!r} has {cells[index]!r} in line {line}; expected seconds as a number"
        ) from None


def _column_index(names: Sequence[str] | None, n_columns: int, column: str | int | None, path: Path) -> int:
    if column is None:
        if n_columns == 1:
            return 0
        raise UsageError(
            f"times file {str(path)!r} has {n_columns} columns ({_choices(names, n_columns)}); "
            "say which one, as FILE:COLUMN"
        )
    if names is not None and column in names:
        return names.index(str(column))
    if str(column).isdecimal() and int(column) < n_columns:
        return int(column)
    raise UsageError(
        f"times file {str(path)!r} has no column {column!r}; it has {_choices(names, n_columns)}"
    )


def _choices(names: Sequence[str] | None, n_columns: int) -> str:
    return ", ".join(map(repr, names)) if names is not None else f"columns 0 to {n_columns - 1}"
