"""From the numbers that files hold to t in µs, x and y in uint16, p in 0/1, exactly or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.sources.options import Option

# Exact: unit times numerator, divided by denominator, is µs.
TIME_UNITS: dict[str, tuple[int, int]] = {
    "s": (1_000_000, 1),
    "ms": (1_000, 1),
    "us": (1, 1),
    "ns": (1, 1000),
}
TIME_UNIT_OPTION = Option("time_unit", "text", "unit of the file's times", tuple(TIME_UNITS))

# Times beyond this (146,000 years) are no times; sums and differences of smaller ones cannot overflow.
MAX_TIME_US = 1 << 62


class ValueConverter:
    """Turns a file's arrays into event columns and remembers what it had to do.

    Parameters
    ----------
    name
        The file's name, for messages.
    time_unit
        Unit of the file's times, a key of `TIME_UNITS`.
    t_offset_us
        Added to every time, in µs.
    """

    def __init__(self, name: str, time_unit: str, t_offset_us: int = 0) -> None:
        if time_unit not in TIME_UNITS:
            raise UsageError(f"time unit {time_unit!r} is none of {', '.join(TIME_UNITS)}")
        self._name = name
        self._time_unit = time_unit
        self._offset = t_offset_us
        # Grows only; appending is safe from several threads, comparing and setting would not be.
        self._roundings_us = [0.0]
        self._has_minus = False
        self._has_zero = False

    @property
    def polarity(self) -> str:
        """How the file spells OFF and ON, as far as has been read."""
        return "-1/+1" if self._has_minus and not self._has_zero else "0/1"

    @property
    def problems(self) -> tuple[str, ...]:
        """What the conversion could not keep exactly."""
        found = []
        largest = max(self._roundings_us)
        if largest:
            found.append(f"times were rounded to whole µs, by up to {largest:.3g} µs")
        if self._has_minus and self._has_zero:
            found.append("polarities are -1, 0 and perhaps 1; -1 and 0 both became OFF")
        return tuple(found)

    def times(self, values: NDArray[Any], out: NDArray[np.int64], first_event: int) -> None:
        """Times in µs into `out`; `values` are numbers in the file's unit, shape (event,).

        Raises
        ------
        SourceError
            If a time is not finite or too large.
        """
        numerator, denominator = TIME_UNITS[self._time_unit]
        if values.dtype.kind == "f":
            # What overflows is infinite, and refused below.
            with np.errstate(over="ignore"):
                scaled = values.astype(np.float64) * (numerator / denominator)
            limit = float(MAX_TIME_US - abs(self._offset))
            self._refuse(~(np.abs(scaled) < limit), values, first_event, "time", "a finite time")
            whole = np.rint(scaled)
            self._note_rounding(float(np.max(np.abs(scaled - whole), initial=0.0)))
            out[...] = whole.astype(np.int64)
        else:
            limit_int = (MAX_TIME_US - abs(self._offset)) * denominator // numerator
            low, high = _range(values)
            if low < -limit_int or high > limit_int:
                # Compared as Python integers above; here the sides fit the array's own dtype.
                beyond = (values > min(limit_int, np.iinfo(values.dtype).max)) | (
                    values < max(-limit_int, int(np.iinfo(values.dtype).min))
                )
                self._refuse(beyond, values, first_event, "time", "a time below 146,000 years")
            out[...] = values
            if numerator != 1:
                out *= numerator
            if denominator != 1:
                remainder = out % denominator
                self._note_rounding(
                    float(np.max(np.minimum(remainder, denominator - remainder), initial=0)) / denominator
                )
                out[...] = (out + denominator // 2) // denominator
        if self._offset:
            out += self._offset

    def pixels(self, values: NDArray[Any], out: NDArray[np.uint16], first_event: int, axis: str) -> None:
        """Pixel numbers into `out`; `values` are whole numbers of any dtype, shape (event,).

        Raises
        ------
        SourceError
            If one is not a whole number from 0 to 65535.
        """
        if values.dtype != np.uint16:
            low, high = _range(values)
            # Written so that NaN fails.
            good = low >= 0 and high <= 0xFFFF
            if values.dtype.kind == "f" and good:
                good = bool(np.all(values == np.rint(values)))
            if not good:
                wrong = ~((values >= 0) & (values <= 0xFFFF))
                if values.dtype.kind == "f":
                    wrong |= values != np.rint(values)
                self._refuse(wrong, values, first_event, axis, "a pixel number from 0 to 65535")
        np.copyto(out, values, casting="unsafe")

    def polarities(self, values: NDArray[Any], out: NDArray[np.uint8], first_event: int) -> None:
        """Polarities 0/1 into `out`; `values` are bool, 0/1 or -1/+1, shape (event,).

        Raises
        ------
        SourceError
            If one is none of -1, 0, 1.
        """
        if values.dtype.kind == "b":
            np.copyto(out, values)
            self._has_zero = True
            return
        low, high = _range(values)
        if not (low >= -1 and high <= 1) or values.dtype.kind == "f":
            wrong = ~((values == -1) | (values == 0) | (values == 1))
            self._refuse(wrong, values, first_event, "polarity", "one of -1, 0, 1")
        if low < 0:
            self._has_minus = True
            self._has_zero = self._has_zero or bool(np.any(values == 0))
        else:
            self._has_zero = self._has_zero or low == 0
        np.greater(values, 0, out=out.view(np.bool_))

    def _note_rounding(self, rounding_us: float) -> None:
        # A float that stands for a whole number of µs is off by its own resolution; that is no loss.
        if rounding_us > max(1e-3, self._roundings_us[-1]):
            self._roundings_us.append(rounding_us)

    def _refuse(
        self, wrong: NDArray[np.bool_], values: NDArray[Any], first_event: int, what: str, expected: str
    ) -> None:
        if np.any(wrong):
            at = int(np.argmax(wrong))
            raise SourceError(
                f"{self._name!r}: {what} {values[at].item()!r} of event {first_event + at} is not "
                f"{expected}; correct the file, or say which columns and units it has"
            )


def _range(values: NDArray[Any]) -> tuple[Any, Any]:
    """Smallest and largest value as Python numbers, (0, 0) for none; NaN if there is any."""
    return (values.min().item(), values.max().item()) if values.size else (0, 0)
