"""What an array of frames becomes: its kind, its dimension names, its times."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Column, Ticks
from lazystore.schema import is_plain_dtype
from lazystore.sources.options import Option

ARRAY_KINDS = ("field", "stack", "series")
RATE_OPTION = Option("rate_hz", "rate", "records a second, a number or a fraction such as 30000/1001")


def default_kind(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Kind of an array when nothing else says: pixels are a stack, floats a field.

    >>> default_kind((9, 4, 5), np.dtype("u2")), default_kind((9, 4), np.dtype("f4"))
    ('stack', 'field')
    """
    if len(shape) == 1:
        return "series"
    is_pixel = dtype.kind in "ub" and dtype.itemsize <= 2
    return "stack" if len(shape) >= 3 and is_pixel else "field"


def frame_dims(shape: tuple[int, ...], dtype: np.dtype[Any], kind: str, name: str) -> tuple[str, ...]:
    """Dimension names of an array of `kind`, the record axis first.

    Raises
    ------
    SourceError
        If an array of this many dimensions cannot be of that kind.

    >>> frame_dims((9, 4, 5, 3), np.dtype("u1"), "stack", "a")
    ('time', 'y', 'x', 'channel')
    """
    rank = len(shape)
    if kind == "series" and rank in (1, 2):
        return ("time", "channel")
    if kind == "field" and rank == 2:
        return ("time", "bin")
    if kind in ("field", "stack") and rank == 3:
        return ("time", "y", "x")
    if kind in ("field", "stack") and rank == 4:
        colour = kind == "stack" and shape[-1] in (2, 3, 4) and dtype.kind in "ub"
        return ("time", "y", "x", "channel") if colour else ("time", "z", "y", "x")
    expected = {
        "series": "(time,) or (time, channel)",
        "field": "(time, bin), (time, y, x) or (time, z, y, x)",
        "stack": "(time, y, x), (time, y, x, channel) or (time, z, y, x)",
    }.get(kind, "no array of this format")
    raise SourceError(
        f"{name!r} has shape {shape}, which is no {kind}; expected {expected}, "
        "or say another --kind (field, stack, series)"
    )


def check_storable(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """Refuse arrays that hold no numbers or no records.

    Raises
    ------
    SourceError
        For objects, text, dates, structured and extended-precision dtypes, and for empty arrays.
    """
    if not is_plain_dtype(dtype) or (dtype.kind == "f" and dtype.itemsize > 8) or dtype.itemsize > 16:
        advice = (
            "it may run code when it is loaded, so it is never read; save it as numbers"
            if dtype.hasobject
            else "save it as bool, integers or floats"
        )
        raise SourceError(f"{name!r} has dtype {dtype!s}, which holds no plain numbers; {advice}")
    if not shape or 0 in shape:
        raise SourceError(f"{name!r} has shape {shape}, which holds no records; expected at least one")


def frame_column(shape: tuple[int, ...], dtype: np.dtype[Any], kind: str, name: str) -> Column:
    """The `data` column of an array, checked; a (time,) series gets a channel axis of length 1.

    Raises
    ------
    SourceError
        See `check_storable` and `frame_dims`.
    """
    check_storable(shape, dtype, name)
    dims = frame_dims(shape, dtype, kind, name)
    stored = (*shape, 1) if len(dims) > len(shape) else shape
    return Column("data", dims, stored, dtype.newbyteorder("="))


def even_ticks(rate_hz: Fraction | None, first_s: float = 0.0) -> Ticks:
    """Ticks of evenly spaced records; without a rate one record a second is assumed, and said so.

    Parameters
    ----------
    rate_hz
        Records a second, > 0, or None.
    first_s
        Time of the first record in s, kept to a millionth of a step.

    >>> even_ticks(Fraction(30)).time_base
    Fraction(1, 30)
    """
    step_s = Fraction(1) if rate_hz is None else 1 / rate_hz
    known = rate_hz is not None
    if first_s == 0:
        return Ticks(step_s, known=known)
    parts = 1_000_000
    start = round(Fraction(first_s) / step_s * parts)
    return Ticks(step_s / parts, start=start, step=parts, known=known)


def compact_ticks(
    time_base: Fraction, values: NDArray[np.int64], *, name: str = "tick", known: bool = True
) -> Ticks:
    """Ticks with one value a record, or as a regular axis where they are exactly regular."""
    if len(values) >= 2:
        step = int(values[1] - values[0])
        if step > 0 and np.all(np.diff(values) == step):
            return Ticks(time_base, start=int(values[0]), step=step, name=name, known=known)
    return Ticks(time_base, values=values, name=name, known=known)
