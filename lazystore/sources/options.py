"""What a format can be told: named options with a type, checked before anything is opened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lazystore.errors import UsageError

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a format.

    Attributes
    ----------
    name
        As in ``source_options={name: ...}`` and ``--option name=...``.
    type
        ``"text"``, ``"number"`` (finite float), ``"integer"``, ``"flag"``, ``"rate"`` (a positive
        exact fraction), or ``"any"`` for a value that is passed as it is. Text from a command line
        is converted.
    meaning
        Half a sentence with the unit, shown by ``lazystore info`` and in error messages.
    choices
        The texts allowed; empty allows every text.
    """

    name: str
    type: str
    meaning: str
    choices: tuple[str, ...] = ()


def parse_options(format_name: str, declared: Sequence[Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """The options converted to their types; those that are None are left out.

    Raises
    ------
    UsageError
        If a name is not declared, or a value does not fit its type.

    >>> parse_options("npy", [Option("rate_hz", "number", "frames a second")], {"rate_hz": "50"})
    {'rate_hz': 50.0}
    >>> parse_options("npy", [Option("rate_hz", "rate", "frames a second")], {"rate_hz": 29.97})
    {'rate_hz': Fraction(2997, 100)}
    """
    by_name = {option.name: option for option in declared}
    parsed = {}
    for name, value in values.items():
        if name not in by_name:
            known = ", ".join(f"{o.name} ({o.meaning})" for o in declared) or "none"
            raise UsageError(
                f"unknown option {name!r} for a source of format {format_name!r}; its options are: {known}"
            )
        if value is not None:
            parsed[name] = _convert(format_name, by_name[name], value)
    return parsed


def _convert(format_name: str, option: Option, value: Any) -> Any:
    expected = option.type
    if option.type == "any":
        return value
    if option.type == "text" and isinstance(value, str):
        if not option.choices or value in option.choices:
            return value
        expected = "one of " + ", ".join(option.choices)
    if option.type == "flag":
        if isinstance(value, bool):
            return value
        if str(value).lower() in _TRUE + _FALSE:
            return str(value).lower() in _TRUE
        expected = "true or false"
    if option.type in ("number", "integer") and not isinstance(value, bool):
        try:
            number = float(value)
            if option.type == "number" and math.isfinite(number):
                return number
            if option.type == "integer" and number == int(number):
                return int(value)
        except (TypeError, ValueError, OverflowError):
            pass
        expected = "a finite number" if option.type == "number" else "a whole number"
    if option.type == "rate" and not isinstance(value, bool):
        try:
            # A float is taken as it is written: 29.97 means 2997/100, not its binary neighbour.
            rate = Fraction(str(value))
            if rate > 0:
                return rate
        except (ValueError, ZeroDivisionError):
            pass
        expected = "a positive rate"
    raise UsageError(
        f"option {option.name}={value!r} of format {format_name!r} is not {expected}; "
        f"it means {option.meaning}"
    )
