"""What a text file of events looks like: where its rows begin, which column is which, in what unit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazystore.errors import SourceError
from lazystore.sources.events_names import (
    columns_by_name,
    columns_by_option,
    columns_by_values,
)
from lazystore.sources.naming import looks_like_text

HEAD_BYTES = 64 * 1024
SAMPLE_ROWS = 256
# So many rows of four fitting columns are no accident.
CERTAIN_ROWS = 16

_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")
_POLARITY_WORDS = {"true": 1.0, "t": 1.0, "false": 0.0, "f": 0.0}


@dataclass(frozen=True, slots=True)
class TextLayout:
    """How the lines of a text file become events.

    Attributes
    ----------
    data_offset
        Byte at which the first row begins.
    columns
        Number of the field of each of t, x, y, p.
    time_unit
        Unit of t.
    time_unit_from
        ``"option"``, ``"name"`` or ``"assumed"``.
    columns_from
        ``"option"``, ``"name"`` or ``"values"``.
    header
        Lines before the first row.
    sensor
        (width, height) from a first line of two numbers.
    rows_seen
        Rows that were tried.
    """

    data_offset: int
    columns: Mapping[str, int]
    time_unit: str
    time_unit_from: str
    columns_from: str
    header: tuple[str, ...]
    sensor: tuple[int, int] | None
    rows_seen: int

    @property
    def is_certain(self) -> bool:
        """Whether names or many fitting rows prove that these are events."""
        return self.columns_from == "name" or self.rows_seen >= CERTAIN_ROWS


def split_fields(line: str) -> list[str]:
    """Fields of one line.

    >>> split_fields("0.5, 3;4  1")
    ['0.5', '3', '4', '1']
    """
    stripped = line.strip()
    return [field.strip("\"'") for field in _SEPARATOR.split(stripped)] if stripped else []


def _number(field: str) -> float | None:
    if "_" in field:
        return None
    try:
        return float(field)
    except ValueError:
        return _POLARITY_WORDS.get(field.lower())


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(("#", "%"))


def find_text_layout(head: bytes, size: int, name: str, options: Mapping[str, Any]) -> TextLayout | None:
    """The layout of a text file of events, or None if its lines are none.

    Parameters
    ----------
    head
        The first bytes of the file, some kB of them.
    size
        Size of the file in bytes.
    name
        The file's name, for messages.
    options
        `columns` and `time_unit`, where the caller knows better.

    Raises
    ------
    SourceError
        If the options name a column that the rows do not have.
    UsageError
        If the option `columns` is not an order of t, x, y, p.
    """
    if not looks_like_text(head):
        return None
    offset = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    header: list[str] = []
    names: Sequence[str] | None = None
    has_names = False
    sensor = None
    rows: list[list[float]] = []
    data_offset = -1
    texts: list[list[str]] = []
    while offset < len(head) and len(rows) < SAMPLE_ROWS:
        end = head.find(b"\n", offset)
        if end < 0 and len(head) < size:
            break  # A line that the head cuts off.
        end = len(head) if end < 0 else end
        line = head[offset:end].decode("utf-8", "replace")
        begin, offset = offset, end + 1
        fields = split_fields(line)
        if not fields:
            continue
        values = [_number(field) for field in fields]
        if _is_comment(line) or None in values:
            if rows and not _is_comment(line):
                return None
            if not rows:
                header.append(line.strip())
                names = _names_of(line) or names
                has_names = has_names or not _is_comment(line)
            continue
        numbers = [value for value in values if value is not None]
        if not rows and sensor is None and len(numbers) == 2 and min(numbers) >= 1:
            sensor = (int(numbers[0]), int(numbers[1]))
            header.append(line.strip())
            continue
        data_offset = begin if data_offset < 0 else data_offset
        rows.append(numbers)
        texts.append(fields)
    if names is None and has_names and not options.get("columns"):
        return None  # Columns with other names are something else, whatever their values.
    width = min((len(row) for row in rows), default=0)
    if width < 4 or any(len(row) != width for row in rows[:-1]):
        return None
    sample = np.array([row[:width] for row in rows])
    chosen = _choose_columns(sample, names, name, options)
    if chosen is None:
        return None
    columns, columns_from, unit_in_name = chosen
    unit, unit_from = "us", "assumed"
    if any(set(fields[columns["t"]].lower()) & {".", "e"} for fields in texts):
        unit = "s"
    if unit_in_name:
        unit, unit_from = unit_in_name, "name"
    if options.get("time_unit"):
        unit, unit_from = options["time_unit"], "option"
    return TextLayout(data_offset, columns, unit, unit_from, columns_from, tuple(header), sensor, len(rows))


def _names_of(line: str) -> list[str] | None:
    """The column names in a header line, if it has names of t, x, y and p."""
    # A unit in brackets may follow a name after a space.
    joined = re.sub(r"\s+([\[(]\w+[\])])", r"\1", line.strip().lstrip("#% "))
    names = split_fields(joined)
    return names if columns_by_name(names) else None


def _choose_columns(
    sample: np.ndarray[Any, np.dtype[np.float64]],
    names: Sequence[str] | None,
    name: str,
    options: Mapping[str, Any],
) -> tuple[dict[str, int], str, str | None] | None:
    if options.get("columns"):
        columns = columns_by_option(options["columns"])
        if max(columns.values()) >= sample.shape[1]:
            raise SourceError(
                f"{name!r} has {sample.shape[1]} columns, columns={options['columns']!r} names more; "
                "name as many as there are"
            )
        return columns, "option", None
    found = columns_by_name(names) if names else None
    if names and found and len(names) <= sample.shape[1]:
        by_name, unit = found
        columns = {column: list(names).index(by_name[column]) for column in "txyp"}
        ordered = sample[:, [columns[column] for column in ("t", "x", "y", "p")]]
        # Names alone do not do: a tracked point has t, x, y and a probability p as well.
        return (columns, "name", unit) if columns_by_values(ordered) else None
    guessed = columns_by_values(sample)
    return (guessed, "values", None) if guessed else None
