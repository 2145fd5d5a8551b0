"""Smaller values on request: another dtype, fewer mantissa bits; nothing ever wraps around."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Block, Column, Source, SourceInfo
from lazystore.schema import JSON, is_plain_dtype
from lazystore.sources.selection import with_selection

# Whole numbers in place of fractions are a fair trade where this many are left between the smallest and
# the largest value: then rounding moves a value by at most 0.8 % of that. Rates of 0 to 1 would keep two.
FEWEST_LEVELS = 64
# Records, spread over the recording, that are looked at for it.
SAMPLED_RECORDS = 16
# Columns that hold what was measured; times, labels and rows of events keep their dtype.
_VALUE_COLUMNS = ("data", "position", "confidence")


def round_mantissa(values: NDArray[Any], keep_bits: int) -> NDArray[Any]:
    """Floats rounded to `keep_bits` bits of mantissa, half to even, so that they compress better.

    Parameters
    ----------
    values
        Any shape, float16, float32 or float64, native; not changed.
    keep_bits
        1 to the dtype's mantissa (10, 23, 52), which changes nothing. The relative error is at
        most 2 ** -(keep_bits + 1).

    Returns
    -------
    np.ndarray
        Same shape and dtype. NaN and infinities keep their bits; a value whose rounding would
        leave the range is cut off instead, so that finite values stay finite.

    >>> round_mantissa(np.array([1.3, -2.7]), 2)
    array([ 1.25, -2.5 ])
    """
    mantissa = np.finfo(values.dtype).nmant
    drop = mantissa - keep_bits
    if drop <= 0:
        return values.copy()
    word = np.dtype(f"u{values.dtype.itemsize}")
    bits: NDArray[Any] = np.ascontiguousarray(values).view(word)
    one = word.type(1)
    mask = ~word.type((1 << drop) - 1)
    # Half minus one, plus the lowest kept bit: a tie goes to the even neighbour.
    rounded = bits + (((bits >> word.type(drop)) & one) + word.type((1 << (drop - 1)) - 1))
    rounded &= mask
    result: NDArray[Any] = rounded.view(values.dtype)
    was_finite = np.isfinite(values)
    if not was_finite.all():
        result[~was_finite] = values[~was_finite]
    overflown = was_finite & ~np.isfinite(result)
    if overflown.any():
        result[overflown] = (bits[overflown] & mask).view(values.dtype)
    return result


def cast_values(values: NDArray[Any], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    """The values in another dtype, or an error where they do not fit.

    Parameters
    ----------
    values
        Any shape, bool, integer or float.
    dtype
        Bool, integer or float. Floats become integers by rounding half to even; a float dtype
        rounds to nearest.
    where
        What the values are, for the message.

    Raises
    ------
    SourceError
        If a finite value lies outside the dtype's range, or an integer dtype meets NaN or infinity.

    >>> cast_values(np.array([0.4, 254.6]), np.dtype("u1"), "a")
    array([  0, 255], dtype=uint8)
    """
    if np.can_cast(values.dtype, dtype, "safe"):
        return values.astype(dtype)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            cast = values.astype(dtype)
        if values.dtype.kind == "f":
            lost = np.isfinite(values) & ~np.isfinite(cast)
            if lost.any():
                raise _does_not_fit(values[lost][0], dtype, where)
        return cast
    rounded = np.rint(values) if values.dtype.kind == "f" else values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise _does_not_fit(values[~np.isfinite(values)][0], dtype, where)
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if rounded.size:
        # As Python integers: a comparison in either dtype could itself wrap or round.
        for extreme in (rounded.min(), rounded.max()):
            if not low <= int(extreme) <= high:
                raise _does_not_fit(extreme, dtype, where)
    return rounded.astype(dtype)


def _does_not_fit(value: Any, dtype: np.dtype[Any], where: str) -> SourceError:
    return SourceError(
        f"{where}: value {value.item()!r} does not fit in {dtype.name}; choose a wider dtype, or leave it out"
    )


class CastSource:
    """A recording whose measured values are stored in another dtype, or with fewer mantissa bits.

    Parameters
    ----------
    source
        A recording of kind field, video, stack, tracks or series.
    dtype
        Of `data` (or `position` and `confidence`) in the store; None keeps the source's.
    keep_bits
        Mantissa bits that floats keep, 1 to 10, 23 or 52; None keeps all.

    Raises
    ------
    UsageError
        If the kind holds no such values, the dtype or the number of bits makes no sense, or an integer
        dtype would leave next to nothing of values that have fractions.
    """

    def __init__(
        self, source: Source, *, dtype: DTypeLike | None = None, keep_bits: int | None = None
    ) -> None:
        info = source.info
        name = info.identity[0].name
        target = None if dtype is None else _checked_dtype(dtype)
        chosen = {column.name for column in info.columns if column.name in _VALUE_COLUMNS}
        if not chosen:
            raise UsageError(
                f"{name!r} is of kind {info.kind!r}, whose columns keep their dtypes; "
                "leave dtype and keep_bits out"
            )
        columns = {c.name: self._target(c, target, keep_bits) for c in info.columns if c.name in chosen}
        for column in info.columns:
            if (
                column.name in chosen
                and column.dtype.kind == "f"
                and columns[column.name].dtype.kind in "iub"
            ):
                _check_levels(source, column, columns[column.name].dtype)
        selection: dict[str, JSON] = {
            "dtype": None if target is None else target.name,
            "source_dtype": None if target is None else info.columns[0].dtype.name,
            "keep_bits": keep_bits,
        }
        self._source = source
        self._name = name
        self._dtypes = {column_name: column.dtype for column_name, column in columns.items()}
        self._keep_bits = keep_bits
        self._info = replace(
            info,
            columns=tuple(columns.get(column.name, column) for column in info.columns),
            attributes=with_selection(info.attributes, selection),
        )

    @property
    def info(self) -> SourceInfo:
        """What the recording is, with its new dtypes."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Records [start, stop); SourceError if a value of them does not fit."""
        block = self._source.read(start, stop)
        columns = dict(block.columns)
        for name, dtype in self._dtypes.items():
            values = columns[name]
            if values.dtype != dtype:
                values = cast_values(values, dtype, f"{self._name!r}, records {start} to {stop}")
            if self._keep_bits is not None and dtype.kind == "f":
                values = round_mantissa(values, self._keep_bits)
            columns[name] = values
        return replace(block, columns=columns)

    def close(self) -> None:
        """Release the recording's files."""
        self._source.close()

    def _target(self, column: Column, target: np.dtype[Any] | None, keep_bits: int | None) -> Column:
        dtype = column.dtype if target is None else target
        if column.dtype.kind == "c":
            raise UsageError(
                f"column {column.name!r} is complex and keeps its dtype; leave dtype and keep_bits out"
            )
        if keep_bits is not None:
            if dtype.kind != "f":
                raise UsageError(
                    f"keep_bits={keep_bits!r} rounds floats, but {column.name!r} is {dtype.name}"
                )
            mantissa = np.finfo(dtype).nmant
            if not 1 <= keep_bits <= mantissa:
                raise UsageError(
                    f"keep_bits={keep_bits!r} is not from 1 to {mantissa}, the mantissa of {dtype.name}"
                )
        return replace(column, dtype=dtype)


def _check_levels(source: Source, column: Column, dtype: np.dtype[Any]) -> None:
    """Refuse to round fractions away where they are what was measured; reads a few records."""
    places = sorted({round(place) for place in np.linspace(0, source.info.length - 1, SAMPLED_RECORDS)})
    low, high, has_fractions = np.inf, -np.inf, False
    for place in places:
        block = source.read(place, place + 1)
        if block.missing:
            continue
        values = block.columns[column.name]
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            has_fractions = has_fractions or bool((values != np.rint(values)).any())
    if has_fractions and high - low < FEWEST_LEVELS:
        left = int(np.rint(high) - np.rint(low)) + 1
        raise UsageError(
            f"dtype={dtype.name!r} keeps whole numbers, but {column.name!r} of "
            f"{source.info.identity[0].name!r} has fractions and lies between {low:.6g} and {high:.6g}: "
            f"{left} different values would be left; take 'float16' or keep_bits, or scale the values before"
        )


def _checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        target = np.dtype(dtype).newbyteorder("=")
    except TypeError as error:
        raise UsageError(f"dtype={dtype!r} is no dtype; expected for example uint8 or float32") from error
    if not is_plain_dtype(target) or target.kind == "c" or (target.kind == "f" and target.itemsize > 8):
        raise UsageError(f"dtype={dtype!r} cannot be stored; expected bool, an integer or a float dtype")
    return target
