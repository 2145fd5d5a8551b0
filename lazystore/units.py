"""Units of time and length: what they are called, and exact factors between them.

Stores hold the plain symbols (``s``, ``us``, ``cm``); people write ``µs``, ``seconds``, ``microns``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import UnitError


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: its symbol, what it measures, and how many base units it is.

    Attributes
    ----------
    symbol
        The spelling kept in stores.
    quantity
        ``"time"`` (base s), ``"length"`` (base m) or ``"pixel"`` (base px). Pixels become lengths
        through a transform only, so they are a quantity of their own.
    in_base
        Exact size in the quantity's base unit.
    """

    symbol: str
    quantity: str
    in_base: Fraction


def _names(*roots: str) -> tuple[str, ...]:
    """Each root and its plural."""
    return tuple(name for root in roots for name in (root, f"{root}s"))


# Symbol, quantity, size in base units, other spellings (casefolded, micro sign as "u").
_TABLE: tuple[tuple[str, str, Fraction, tuple[str, ...]], ...] = (
    ("s", "time", Fraction(1), _names("sec", "second")),
    ("ms", "time", Fraction(1, 10**3), _names("msec", "millisec", "millisecond")),
    ("us", "time", Fraction(1, 10**6), _names("usec", "microsec", "microsecond")),
    ("ns", "time", Fraction(1, 10**9), _names("nsec", "nanosec", "nanosecond")),
    ("min", "time", Fraction(60), ("mins", *_names("minute"))),
    ("h", "time", Fraction(3600), _names("hr", "hour")),
    ("m", "length", Fraction(1), _names("meter", "metre")),
    ("cm", "length", Fraction(1, 10**2), _names("centimeter", "centimetre")),
    ("mm", "length", Fraction(1, 10**3), _names("millimeter", "millimetre")),
    ("um", "length", Fraction(1, 10**6), _names("micron", "micrometer", "micrometre")),
    ("nm", "length", Fraction(1, 10**9), _names("nanometer", "nanometre")),
    ("in", "length", Fraction(254, 10**4), ("inch", "inches")),
    ("px", "pixel", Fraction(1), ("pix", *_names("pixel"))),
)

UNITS: dict[str, Unit] = {row[0]: Unit(*row[:3]) for row in _TABLE}
_SPELLINGS: dict[str, str] = {name: row[0] for row in _TABLE for name in (row[0], *row[3])}


def parse_unit(text: str) -> Unit:
    """The unit that a spelling means, whatever its case, plural or micro sign.

    Raises
    ------
    UnitError
        If no known unit is spelled so.

    >>> parse_unit("µs").symbol, parse_unit(" Seconds ").symbol, parse_unit("inches").symbol
    ('us', 's', 'in')
    """
    # Both micro signs (U+00B5 and U+03BC) casefold to the second.
    spelling = text.strip().casefold().replace("\N{GREEK SMALL LETTER MU}", "u")
    symbol = _SPELLINGS.get(spelling)
    if symbol is None:
        raise UnitError(f"unit {text!r} is unknown; use one of {', '.join(UNITS)}")
    return UNITS[symbol]


def factor(source: str, target: str) -> Fraction:
    """How many target units one source unit is, exactly.

    Raises
    ------
    UnitError
        If a unit is unknown, or the two measure different things.

    >>> factor("us", "s"), factor("in", "cm")
    (Fraction(1, 1000000), Fraction(127, 50))
    """
    one, other = parse_unit(source), parse_unit(target)
    if one.quantity != other.quantity:
        hint = (
            "; give the item a transform to leave pixels" if "pixel" in (one.quantity, other.quantity) else ""
        )
        alike = [unit.symbol for unit in UNITS.values() if unit.quantity == one.quantity]
        raise UnitError(
            f"{source!r} is a unit of {one.quantity} and cannot become {target!r}, a unit of "
            f"{other.quantity}; expected one of {', '.join(alike)}{hint}"
        )
    return one.in_base / other.in_base


@overload
def convert(value: int | Fraction, source: str, target: str) -> Fraction: ...
@overload
def convert(value: float, source: str, target: str) -> float: ...
@overload
def convert(value: NDArray[Any], source: str, target: str) -> NDArray[np.float64]: ...


def convert(
    value: int | Fraction | float | NDArray[Any], source: str, target: str
) -> Fraction | float | NDArray[np.float64]:
    """The same quantity in another unit.

    Parameters
    ----------
    value
        A number or an array of any shape, in `source` units. NaN and infinities stay as they are.
    source, target
        Spellings that `parse_unit` knows.

    Returns
    -------
    Fraction, float or np.ndarray
        Exact for int and Fraction; correctly rounded for float; float64 within one rounding each of
        a multiplication and a division for arrays.

    Raises
    ------
    UnitError
        If a unit is unknown, or the two measure different things.

    >>> convert(1500, "ms", "s"), convert(0.1, "s", "us")
    (Fraction(3, 2), 100000.0)
    >>> convert(np.array([3, 4]), "us", "s")
    array([3.e-06, 4.e-06])
    """
    ratio = factor(source, target)
    if isinstance(value, np.ndarray):
        # 10**-6 is no float64, 10**6 is: dividing by it rounds once where multiplying rounds twice.
        result: NDArray[np.float64] = (
            np.asarray(value, dtype=np.float64) * ratio.numerator / ratio.denominator
        )
        return result
    if isinstance(value, float):
        return float(Fraction(value) * ratio) if math.isfinite(value) else value
    return value * ratio
