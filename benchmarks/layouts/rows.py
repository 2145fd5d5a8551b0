"""Which rows a table takes, and the columns that many tables have."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.tables import Better, Column, Pivot, Row

type Where = Callable[[Row], bool]


def group_is(name: str) -> Where:
    """Rows of this group."""
    return lambda row: row.get("group") == name


def has(*keys: str) -> Where:
    """Rows that have all these numbers."""
    return lambda row: all(key in row for key in keys)


def case_starts(*starts: str) -> Where:
    """Rows whose case begins so."""
    return lambda row: str(row.get("case", "")).startswith(starts)


def low(heading: str, value: str) -> Column:
    """A number of which less is better."""
    return Column(heading, value, "low")


def high(heading: str, value: str) -> Column:
    """A number of which more is better."""
    return Column(heading, value, "high")


def ways(title: str, value: str, better: Better, where: Where) -> Pivot:
    """A line a way, a column a movie or a path."""
    return Pivot(title, ("case",), ("group",), Column("", value, better), where)


def by_events(title: str, where: Where) -> Pivot:
    """A line a case, a column a length of recording."""
    return Pivot(title, ("case",), ("events",), Column("", "median_ms"), where, heading="events")
