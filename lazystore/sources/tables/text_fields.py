"""Fields of a line of a text table: how they are split, and which of them are numbers."""

from __future__ import annotations

import csv

TEXT_EXTENSIONS = (".csv", ".tsv", ".txt")
# Fields that stand for a missing value, in any case.
MISSING = frozenset([b"", b"nan", b"-nan", b"na", b"n/a", b"null", b"none"])


def split_line(line: str, delimiter: str) -> list[str]:
    """Fields of one line, unquoted and stripped.

    >>> split_line('t, "x, left" ,y', ",")
    ['t', 'x, left', 'y']
    """
    return [
        field.strip()
        for field in next(csv.reader([line.replace("\r", " ")], delimiter=delimiter, skipinitialspace=True))
    ]


def find_delimiter(line: str) -> str:
    """Comma, tab or semicolon: the one that occurs most in a header line.

    >>> find_delimiter("t;x;y")
    ';'
    """
    return max(",\t;", key=line.count)


def parse_number(field: bytes) -> float | None:
    """The value of a field, NaN if it is missing, None if it is no number."""
    if field.strip().lower() in MISSING:
        return float("nan")
    try:
        return None if b"_" in field else float(field)
    except ValueError:
        return None


def is_number(field: str) -> bool:
    """Whether a field is a number or stands for a missing one.

    >>> is_number("-1e5"), is_number("n/a"), is_number("1_000")
    (True, True, False)
    """
    return parse_number(field.encode()) is not None
