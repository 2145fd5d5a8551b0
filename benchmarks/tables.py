"""From rows of measurements to tables in Markdown: which numbers stand beside which, and where we lose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

type Row = dict[str, Any]
type Better = Literal["low", "high", ""]

# Whoever measures twice gets 3 % between the two; what is that near is no loss.
TIE = 1.03
OURS = ("lazystore", "ours")


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a row: its heading, its place in the row (``"us.ours"``), and which way is better.

    `scale` multiplies it before it is printed.
    """

    heading: str
    value: str
    better: Better = ""
    scale: float = 1.0
    digits: int = 3


@dataclass(frozen=True, slots=True)
class Listing:
    """A line a row.

    Attributes
    ----------
    label
        Keys whose values name the line.
    where
        Which rows belong here.
    split
        A key; each of its values has a table of its own, under that value.
    across
        The ways stand beside each other in columns, ours first, and not below each other.
    goal
        (number, bound, which way is better): the number is a loss where it misses its bound, itself a
        key of the row or a number.
    """

    title: str
    label: tuple[str, ...]
    columns: tuple[Column, ...]
    where: Callable[[Row], bool] = bool
    split: str = ""
    across: bool = False
    goal: tuple[str, str | float, Better] | None = None
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Pivot:
    """A line for each value of some keys, a column for each value of others, one number in the cells."""

    title: str
    lines: tuple[str, ...]
    columns: tuple[str, ...]
    cell: Column
    where: Callable[[Row], bool] = bool
    heading: str = ""


type Table = Listing | Pivot


@dataclass(frozen=True, slots=True)
class Layout:
    """What the page says of one benchmark, before its tables."""

    title: str
    about: str
    tables: tuple[Table, ...]


# --- values -------------------------------------------------------------------------------------


def value_of(row: Row, place: str) -> Any:
    """What stands at a place of a row; None where nothing does.

    >>> value_of({"us": {"ours": 3.5}}, "us.ours"), value_of({}, "us.ours")
    (3.5, None)
    """
    found: Any = row
    for key in place.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def text_of(value: Any, digits: int = 3) -> str:
    """A number with three digits that count, as people write it; anything else as it is.

    Counts, which are whole, keep all their digits.

    >>> [text_of(value) for value in (1211551.4, 0.00046123, 12.0, 0.0, 20_001, None, "5 MB/s")]
    ['1,210,000', '0.000461', '12', '0', '20,001', '', '5 MB/s']
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if isinstance(value, int):
        return f"{value:,}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    decimals, rounded = max(0, places), round(value, places)
    text = f"{rounded:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_ours(name: str) -> bool:
    """Whether a way's name is ours: the part behind a colon, up to a comma, counts.

    >>> is_ours("RGB: lazystore"), is_ours("RGB: neurospatial, in RAM"), is_ours("ours")
    (True, False, True)
    """
    return name.split(": ")[-1].split(",")[0] in OURS


def is_loss(ours: Any, others: Iterable[Any], better: Better, tie: float = TIE) -> bool:
    """Whether our number is worse than the best of the others, by more than measuring allows.

    >>> is_loss(5.0, [4.0, 9.0], "low"), is_loss(5.0, [4.95], "low"), is_loss(5.0, [4.0], "high")
    (True, False, False)
    """
    numbers = [other for other in others if isinstance(other, int | float)]
    if not better or not numbers or not isinstance(ours, int | float):
        return False
    return ours > tie * min(numbers) if better == "low" else ours * tie < max(numbers)


# --- tables -------------------------------------------------------------------------------------


def markdown(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table whose numbers stand at the right."""
    parts = [f"| {' | '.join(headings)} |", f"| --- |{' ---: |' * (len(headings) - 1)}"]
    parts += [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join(parts)


def _family(name: str) -> str:
    """Ways are compared that give the same thing: the part of a name before the colon."""
    return name.split(": ")[0] if ": " in name else ""


def _cell(value: Any, column: Column, lost: bool) -> str:
    scaled = value * column.scale if isinstance(value, int | float) and column.scale != 1 else value
    text = text_of(scaled, column.digits)
    return f"**{text}**" if lost and text else text


def _label(row: Row, keys: Sequence[str]) -> str:
    return ", ".join(text_of(value_of(row, key)) for key in keys if value_of(row, key) not in (None, ""))


def render(table: Table, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Title and Markdown of each table that the rows make; none where no row belongs to it."""
    chosen = [row for row in rows if table.where(row)]
    if not chosen:
        return
    if isinstance(table, Pivot):
        yield table.title, _pivot(table, chosen)
    elif not table.split:
        yield table.title, _listing(table, chosen)
    else:
        for part in dict.fromkeys(str(row.get(table.split, "")) for row in chosen):
            members = [row for row in chosen if str(row.get(table.split, "")) == part]
            yield f"{table.title}{part}", _listing(table, members)


def _listing(table: Listing, rows: Sequence[Row]) -> str:
    columns = [
        column for column in table.columns if any(value_of(row, column.value) is not None for row in rows)
    ]
    lines = []
    for row in rows:
        label = _label(row, table.label)
        line = [label]
        for place, column in enumerate(columns):
            value = value_of(row, column.value)
            if table.across:
                others = [value_of(row, other.value) for other in columns[1:] if other.better]
                lost = place == 0 and is_loss(value, others, column.better)
            else:
                rivals = [other for other in rows if _family(_label(other, table.label)) == _family(label)]
                others = [value_of(other, column.value) for other in rivals if other is not row]
                lost = is_ours(label) and is_loss(value, others, column.better)
            if table.goal is not None and column.value == table.goal[0]:
                goal = table.goal[1] if isinstance(table.goal[1], float) else value_of(row, table.goal[1])
                lost = is_loss(value, [goal], table.goal[2], tie=1.0)
            line.append(_cell(value, column, lost))
        lines.append(line)
    return markdown([table.heading, *(column.heading for column in columns)], lines)


def _pivot(table: Pivot, rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(_label(row, table.lines) for row in rows))
    headings = list(dict.fromkeys(_label(row, table.columns) for row in rows))
    cells = {
        (_label(row, table.lines), _label(row, table.columns)): value_of(row, table.cell.value)
        for row in rows
    }
    lines = []
    for name in names:
        line = [name]
        for heading in headings:
            value = cells.get((name, heading))
            others = [
                cells.get((other, heading))
                for other in names
                if other != name and _family(other) == _family(name)
            ]
            lost = is_ours(name) and is_loss(value, others, table.cell.better)
            line.append(_cell(value, table.cell, lost))
        lines.append(line)
    return markdown([table.heading, *(_family_left_out(heading) for heading in headings)], lines)


def _family_left_out(heading: str) -> str:
    return heading.split(": ", 1)[-1]


def tables_of_anything(rows: Sequence[Row]) -> list[Table]:
    """Tables for a benchmark that nobody made a layout for: one a group, every number a column."""
    keys = dict.fromkeys(key for row in rows for key in _flat(row))
    texts = [key for key in keys if any(isinstance(value_of(row, key), str) for row in rows)]
    label = tuple(key for key in texts if key != "group") or tuple(keys)[:1]
    numbers = [key for key in keys if key not in texts and key not in label]
    columns = tuple(Column(key.replace("_", " ").replace(".", " "), key) for key in numbers)
    return [Listing("", label, columns, split="group" if "group" in keys else "")]


def _flat(row: Row) -> Iterator[str]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from (f"{key}.{inner}" for inner in value)
        elif not isinstance(value, list):
            yield key
