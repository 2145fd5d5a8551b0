"""Which column of a table is t, x, y or p: by its name, else by what its values can be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.sources.options import Option

COLUMNS_OPTION = Option("columns", "text", "order of the columns, such as t,x,y,p; others as a dash")

_SYNONYMS = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs", "x_coord", "x_coords", "x_addr"),
    "y": ("y", "ys", "y_coord", "y_coords", "y_addr"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
# Orders that are met in the wild, the commonest first.
_ORDERS = (("t", "x", "y", "p"), ("x", "y", "t", "p"), ("x", "y", "p", "t"))
# Real recordings have some disorder; x and y go back about half of the time.
_MAX_BACKWARD_SHARE = 0.05


def columns_by_name(names: Sequence[str]) -> tuple[dict[str, str], str | None] | None:
    """Name in the file of each of t, x, y, p, and the unit in the name of t; None if one is missing.

    >>> columns_by_name(["x", "y", "polarity", "timestamp_ns"])
    ({'t': 'timestamp_ns', 'x': 'x', 'y': 'y', 'p': 'polarity'}, 'ns')
    """
    found: dict[str, str] = {}
    unit = None
    for name in names:
        plain = name.strip().strip("#").strip().lower()
        match = re.fullmatch(r"(.*?)[\s_]*[\[(_\s](us|µs|ns|ms|s|sec)[\])]?", plain)
        stem = match[1] if match else plain
        for column, synonyms in _SYNONYMS.items():
            if column not in found and plain in synonyms:
                found[column] = name
            elif column == "t" and column not in found and match and stem in synonyms:
                found[column] = name
                unit = {"µs": "us", "sec": "s"}.get(match[2], match[2])
    return ({column: found[column] for column in "txyp"}, unit) if len(found) == 4 else None


def columns_by_option(text: str) -> dict[str, int]:
    """Position of each of t, x, y, p in an order given by the caller.

    Raises
    ------
    UsageError
        If one of the four is missing or given twice.

    >>> columns_by_option("x, y, -, p, t")
    {'t': 4, 'x': 0, 'y': 1, 'p': 3}
    """
    order = [part.lower() for part in re.split(r"[\s,]+", text.strip())]
    if sorted(name for name in order if name != "-") != ["p", "t", "x", "y"]:
        raise UsageError(
            f"option columns={text!r} does not name each of t, x, y, p once; say for example columns=t,x,y,p "
            "with a dash for any other column"
        )
    return {column: order.index(column) for column in "txyp"}


def columns_by_values(rows: NDArray[np.float64]) -> dict[str, int] | None:
    """Position of each of t, x, y, p in rows without names, shape (event, column).

    None if no common order fits: p one of -1, 0, 1; x and y whole pixel numbers; t hardly ever
    going back.

    >>> columns_by_values(np.array([[5.0, 7.0, 0.25, 1.0], [4.0, 9.0, 0.5, -1.0]]))
    {'t': 2, 'x': 0, 'y': 1, 'p': 3}
    """
    if len(rows) == 0 or rows.shape[1] < 4:
        return None
    for order in _ORDERS:
        at = {column: order.index(column) for column in "txyp"}
        if _fits(*(rows[:, at[column]] for column in "txyp")):
            return at
    return None


def _fits(
    t: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], p: NDArray[np.float64]
) -> bool:
    pixels = np.concatenate([x, y])
    return bool(
        np.all(np.isin(p, (-1, 0, 1)))
        and np.all((pixels >= 0) & (pixels <= 0xFFFF) & (pixels == np.rint(pixels)))
        and np.all(np.isfinite(t) & (t >= 0))
        and np.count_nonzero(np.diff(t) < 0) <= _MAX_BACKWARD_SHARE * len(t)
    )


def unit_of_values(values: NDArray[np.floating] | NDArray[np.integer]) -> str:
    """Unit of times that no name tells: fractions are seconds, whole numbers are µs.

    >>> unit_of_values(np.array([0.0, 0.25])), unit_of_values(np.array([0.0, 250000.0]))
    ('s', 'us')
    """
    is_fraction = values.dtype.kind == "f" and bool(np.any(values != np.rint(values)))
    return "s" if is_fraction else "us"


def describe_choice(columns: Mapping[str, object]) -> str:
    """The chosen columns in a few words, for the record."""
    return ", ".join(f"{column}={where}" for column, where in columns.items())
