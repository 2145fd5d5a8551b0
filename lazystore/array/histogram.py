"""Order-preserving levels of numbers: exact percentiles in bounded memory.

Every real number type maps to unsigned keys that sort as the numbers do. The top 16 bits of a key
are its level: for one- and two-byte integers a level is a value, for wider types a narrow interval
(0.8% wide for float32). Counting the levels, then the next 16 bits inside one level, and so on,
finds any rank of any amount of data exactly in a few passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGIT_BITS = 16


def n_levels(dtype: np.dtype[Any]) -> int:
    """Number of levels of a real dtype.

    >>> n_levels(np.dtype("u1")), n_levels(np.dtype("f4"))
    (256, 65536)
    """
    return 256 if dtype.itemsize == 1 else 1 << DIGIT_BITS


def is_exact(dtype: np.dtype[Any]) -> bool:
    """Whether one level is one value.

    >>> is_exact(np.dtype("i2")), is_exact(np.dtype("f4"))
    (True, False)
    """
    return dtype.itemsize <= 2


def keys_of(values: NDArray[Any]) -> NDArray[Any]:
    """Unsigned integers of the same width that order as the values do.

    Parameters
    ----------
    values
        Any shape; bool, integer or float, native byte order, no NaN.

    >>> keys_of(np.array([-1, 0, 1], "i1")).tolist()
    [127, 128, 129]
    >>> k = keys_of(np.array([-1.5, -0.25, 0.25, 1.5], "f4")); bool((np.diff(k.astype("i8")) > 0).all())
    True
    """
    bits = values.view(f"u{values.dtype.itemsize}")
    sign = bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
    if values.dtype.kind == "f":
        return np.where(bits & sign, ~bits, bits | sign)
    return bits ^ sign if values.dtype.kind == "i" else bits


def value_of(key: int, dtype: np.dtype[Any]) -> int | float:
    """The number whose key this is.

    >>> value_of(127, np.dtype("i1"))
    -1
    """
    unsigned = np.dtype(f"u{dtype.itemsize}")
    bits = 8 * dtype.itemsize
    sign = 1 << (bits - 1)
    if dtype.kind == "f":
        key = key ^ sign if key & sign else ~key & ((1 << bits) - 1)
    elif dtype.kind == "i":
        key ^= sign
    value = np.array([key], unsigned).view(dtype)[0]
    return float(value) if dtype.kind == "f" else int(value)


def finite_values(values: NDArray[Any]) -> NDArray[Any]:
    """The finite values, flat; bool as uint8."""
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype.kind == "b":
        return flat.view(np.uint8)
    if flat.dtype.kind == "f":
        finite = np.isfinite(flat)
        return flat if finite.all() else flat[finite]
    return flat


@dataclass(frozen=True, slots=True)
class Digit:
    """Which 16 (or 8) bits of a key are counted, of the keys that begin with `prefix`."""

    prefix: int
    prefix_bits: int
    bits: int

    def count(self, values: NDArray[Any], key_bits: int) -> NDArray[np.uint64]:
        """Counts of this digit over finite values."""
        keys = keys_of(values)
        rest = key_bits - self.prefix_bits
        if self.prefix_bits:
            keys = keys[keys >> keys.dtype.type(rest) == keys.dtype.type(self.prefix)]
        digits = keys >> keys.dtype.type(rest - self.bits)
        if self.prefix_bits:
            digits = digits & keys.dtype.type((1 << self.bits) - 1)
        counts = np.bincount(digits.astype(np.int64, copy=False), minlength=1 << self.bits)
        return counts.astype(np.uint64)

    def below(self, level: int, key_bits: int) -> Digit:
        """The digit after this one, inside one of its levels."""
        prefix_bits = self.prefix_bits + self.bits
        return Digit(self.prefix << self.bits | level, prefix_bits, min(DIGIT_BITS, key_bits - prefix_bits))

    def bounds(self, level: int, dtype: np.dtype[Any]) -> tuple[int | float, int | float]:
        """Smallest and largest finite number of a level."""
        rest = 8 * dtype.itemsize - self.prefix_bits - self.bits
        low = (self.prefix << self.bits | level) << rest
        # A level never mixes finite numbers with infinities or NaN: those begin at other 16 bits.
        return value_of(low, dtype), value_of(low + (1 << rest) - 1, dtype)


def first_digit(dtype: np.dtype[Any]) -> Digit:
    """The levels: the top 16 bits of a key, or all 8."""
    return Digit(0, 0, min(DIGIT_BITS, 8 * dtype.itemsize))


def level_at(counts: NDArray[np.uint64], rank: int) -> tuple[int, int]:
    """The level that holds the value of a rank, and the rank within that level.

    >>> level_at(np.array([2, 0, 3], np.uint64), 2)
    (2, 0)
    """
    cumulative = np.cumsum(counts)
    level = int(np.searchsorted(cumulative, rank, side="right"))
    before = int(cumulative[level - 1]) if level else 0
    return level, rank - before


def ranks_of_percentile(percentile: float, n_values: int) -> tuple[int, int, float]:
    """Lower rank, upper rank and weight of numpy's linear definition.

    >>> ranks_of_percentile(50, 4)
    (1, 2, 0.5)
    """
    place = (n_values - 1) * (percentile / 100)
    low = math.floor(place)
    return low, min(low + 1, n_values - 1), place - low


def interpolated(low: float, high: float, weight: float) -> float:
    """Between two values as numpy does it, so that results are bit-identical.

    >>> interpolated(1, 2, 0.25)
    1.25
    """
    step = high - low
    return float(high - step * (1 - weight) if weight >= 0.5 else low + step * weight)
