"""What a text file of events looks like: where its rows begin, which column is which, in what unit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazystore.errors import SourceError
from lazystore.sources.events.names import (
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
    sample = _take_sample(head, size)
    told = bool(options.get("columns"))
    if not sample.rows or len(sample.rows[0]) < 4:
        return None
    if not told and sample.has_names and sample.names is None:
        return None  # Columns with other names are something else, whatever their values.
    if not told and sample.has_other_lines and len(sample.rows) < CERTAIN_ROWS:
        return None
    chosen = _choose_columns(np.array(sample.rows), sample.names, name, options)
    if chosen is None:
        return None
    columns, columns_from, unit_in_name = chosen
    unit, unit_from = "us", "assumed"
    if any(set(fields[columns["t"]].lower()) & {".", "e"} for fields in sample.texts):
        unit = "s"
    if unit_in_name:
        unit, unit_from = unit_in_name, "name"
    if options.get("time_unit"):
        unit, unit_from = options["time_unit"], "option"
    return TextLayout(
        sample.data_offset, columns, unit, unit_from, columns_from, tuple(sample.header), sample.sensor,
        len(sample.rows),
    )  # fmt: skip


@dataclass(slots=True)
class _Sample:
    """The first lines of a file: what comes before the rows, and rows of one width."""

    header: list[str] = field(default_factory=list)
    names: Sequence[str] | None = None
    has_names: bool = False
    sensor: tuple[int, int] | None = None
    data_offset: int = 0
    rows: list[list[float]] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)
    has_other_lines: bool = False


def _take_sample(head: bytes, size: int) -> _Sample:
    sample = _Sample()
    offset = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    while offset < len(head) and len(sample.rows) < SAMPLE_ROWS:
        end = head.find(b"\n", offset)
        is_open = end < 0
        if is_open and len(head) < size:
            break  # A line that the head cuts off.
        end = len(head) if is_open else end
        line = head[offset:end].decode("utf-8", "replace")
        begin, offset = offset, end + 1
        fields = split_fields(line)
        numbers = [value for value in map(_number, fields) if value is not None]
        if not fields or (sample.rows and _is_comment(line)):
            continue
        if sample.rows:
            if len(numbers) != len(fields) or len(fields) != len(sample.rows[0]):
                # The last line of a recording that was stopped may be anything.
                sample.has_other_lines = not is_open
                break
        elif _is_comment(line) or len(numbers) != len(fields):
            sample.header.append(line.strip())
            sample.names = _names_of(line) or sample.names
            sample.has_names = sample.has_names or not _is_comment(line)
            continue
        elif sample.sensor is None and _is_size(numbers):
            sample.sensor = (int(numbers[0]), int(numbers[1]))
            sample.header.append(line.strip())
            continue
        else:
            sample.data_offset = begin
        sample.rows.append(numbers)
        sample.texts.append(fields)
    return sample


def _is_size(numbers: Sequence[float]) -> bool:
    return len(numbers) == 2 and all(number in range(1, 65537) for number in numbers)


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
