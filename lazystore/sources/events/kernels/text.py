"""Lines of numbers to events; times by integer arithmetic, so that decimal seconds stay exact.

A field is ``[sign] digits [. digits] [e [sign] digits]``, or begins with T or F for a polarity.
Fields are separated by white space, or by a comma or semicolon with white space around it. Empty
lines and lines that begin with ``#`` or ``%`` are skipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.sources.events.kernels.compiling import Integer, compiled

# Entries of the state.
LINES = 0
COMMENTS = 1
HAS_MINUS = 2
HAS_ZERO = 3
# Largest rounding of a time, in 1e-9 µs.
ROUNDING = 4
# Why parsing stopped, and the byte of the line's beginning.
FAULT = 5
FAULT_AT = 6
STATE_SIZE = 8

MISSING_FIELD = 1
NO_NUMBER = 2
NO_PIXEL = 3
NO_POLARITY = 4
TOO_LARGE = 5

NEWLINE = 10
_SPACE = 32
_TAB = 9
_RETURN = 13
_COMMA = 44
_SEMICOLON = 59
_HASH = 35
_PERCENT = 37
_PLUS = 43
_MINUS = 45
_POINT = 46
_ZERO = 48
_NINE = 57

# More digits than these do not fit an int64; further ones only shift the exponent.
_MAX_DIGITS = 18
_MAX_EXPONENT = 400
_MAX_TIME = 1 << 62


@compiled
def _is_space(byte: Integer) -> Any:
    return byte == _SPACE or byte == _TAB or byte == _RETURN  # a tuple is 20% slower


@compiled
def _ends_field(byte: Integer) -> Any:
    return byte <= _SPACE or byte == _COMMA or byte == _SEMICOLON  # as above


@compiled
def _digits(data: NDArray[np.uint8], at: Integer) -> tuple[Integer, Integer]:
    """Value of the digits from `at` on and where they end; the value is right up to 18 digits."""
    value = np.int64(0)
    while _ZERO <= data[at] <= _NINE:
        value = value * 10 + np.int64(data[at] - _ZERO)
        at += 1
    return value, at


@compiled
def _number(data: NDArray[np.uint8], at: Integer, out: NDArray[Any]) -> Integer:
    """Parse the number at `at` into out = (mantissa, exponent); where it ends, or -1."""
    # Most fields are a few digits, perhaps with a point in between.
    value, end = _digits(data, at)
    if end > at and end - at <= _MAX_DIGITS:
        if _ends_field(data[end]):
            out[0] = value
            out[1] = 0
            return end
        if data[end] == _POINT:
            fraction, stop = _digits(data, end + 1)
            if stop - at - 1 <= _MAX_DIGITS and _ends_field(data[stop]):
                scale = np.int64(1)
                for _ in range(stop - end - 1):
                    scale *= 10
                out[0] = value * scale + fraction
                out[1] = end + 1 - stop
                return stop
    negative = data[at] == _MINUS
    if negative or data[at] == _PLUS:
        at += 1
    mantissa = np.int64(0)
    exponent = 0
    digits = 0
    seen = 0
    while _ZERO <= data[at] <= _NINE:
        if digits < _MAX_DIGITS:
            mantissa = mantissa * 10 + np.int64(data[at] - _ZERO)
            digits += mantissa != 0
        else:
            exponent += 1
        seen += 1
        at += 1
    if data[at] == _POINT:
        at += 1
        while _ZERO <= data[at] <= _NINE:
            if digits < _MAX_DIGITS:
                mantissa = mantissa * 10 + np.int64(data[at] - _ZERO)
                digits += mantissa != 0
                exponent -= 1
            seen += 1
            at += 1
    if seen == 0:
        return -1
    if data[at] | 32 == 101:
        at += 1
        negative_exponent = data[at] == _MINUS
        if negative_exponent or data[at] == _PLUS:
            at += 1
        if not _ZERO <= data[at] <= _NINE:
            return -1
        power: Integer = 0
        while _ZERO <= data[at] <= _NINE:
            power = min(power * 10 + np.int64(data[at] - _ZERO), _MAX_EXPONENT)
            at += 1
        exponent += -power if negative_exponent else power
    if not _ends_field(data[at]):
        return -1
    out[0] = -mantissa if negative else mantissa
    out[1] = exponent
    return at


@compiled
def _scaled(mantissa: Integer, exponent: Integer, state: NDArray[Any]) -> Integer:
    """Mantissa * 10**exponent to the nearest integer, halves away from zero; _MAX_TIME if too large."""
    if mantissa == 0:
        return mantissa
    while exponent > 0:
        if abs(mantissa) > _MAX_TIME // 10:
            return np.int64(_MAX_TIME)
        mantissa *= 10
        exponent -= 1
    if exponent == 0:
        return mantissa
    if exponent < -_MAX_DIGITS:
        return np.int64(0)
    divisor = np.int64(1)
    for _ in range(-exponent):
        divisor *= 10
    size = abs(mantissa)
    whole = size // divisor
    rest = size - whole * divisor
    if 2 * rest >= divisor:
        whole += 1
        rest = divisor - rest
    if rest:
        state[ROUNDING] = max(state[ROUNDING], np.int64(rest * 1e9 / divisor))
    return -whole if mantissa < 0 else whole


@compiled
def _whole(mantissa: Integer, exponent: Integer) -> Integer:
    """Mantissa * 10**exponent if that is a whole number below 10**6, else -1 << 32."""
    while exponent < 0 and mantissa % 10 == 0 and mantissa != 0:
        mantissa //= 10
        exponent += 1
    while exponent > 0 and abs(mantissa) < 1_000_000:
        mantissa *= 10
        exponent -= 1
        if mantissa == 0:
            break
    if mantissa == 0:
        return mantissa
    return mantissa if exponent == 0 and abs(mantissa) < 1_000_000 else np.int64(-1 << 32)


@compiled
def parse_lines(
    data: NDArray[np.uint8],
    length: int,
    t_field: int,
    x_field: int,
    y_field: int,
    p_field: int,
    time_exponent: int,
    state: NDArray[Any],
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
) -> int:
    """Parse the lines in data[:length], which ends with a newline; one event a line at most.

    `time_exponent` is the power of ten between the file's unit and µs. Returns the number of
    events; where a line is none of an event, parsing stops with FAULT and FAULT_AT set.
    """
    n = 0
    at: Integer = 0
    parts = np.zeros(2, np.int64)
    last_field = max(max(t_field, x_field), max(y_field, p_field))
    while at < length:
        line = at
        while _is_space(data[at]):
            at += 1
        if data[at] == NEWLINE or data[at] == _HASH or data[at] == _PERCENT:
            state[COMMENTS] += data[at] != NEWLINE
            while data[at] != NEWLINE:
                at += 1
            at += 1
            state[LINES] += 1
            continue
        fault = 0
        for field in range(last_field + 1):
            wanted = field in (t_field, x_field, y_field, p_field)
            if data[at] == NEWLINE or (wanted and _ends_field(data[at])):
                fault = MISSING_FIELD
                break
            if not wanted:
                while not _ends_field(data[at]):
                    at += 1
            elif field == p_field and (data[at] | 32 == 116 or data[at] | 32 == 102):
                p[n] = data[at] | 32 == 116
                state[HAS_ZERO] = 1
                while not _ends_field(data[at]):
                    at += 1
            else:
                at = _number(data, at, parts)
                if at < 0:
                    fault = NO_NUMBER
                    break
                if field == t_field:
                    time = _scaled(parts[0], parts[1] + time_exponent, state)
                    if abs(time) >= _MAX_TIME:
                        fault = TOO_LARGE
                        break
                    t[n] = time
                else:
                    value = _whole(parts[0], parts[1])
                    if field == p_field:
                        if value < -1 or value > 1:
                            fault = NO_POLARITY
                            break
                        p[n] = value == 1
                        if value == -1:
                            state[HAS_MINUS] = 1
                        elif value == 0:
                            state[HAS_ZERO] = 1
                    elif value < 0 or value > 0xFFFF:
                        fault = NO_PIXEL
                        break
                    elif field == x_field:
                        x[n] = value
                    else:
                        y[n] = value
            while _is_space(data[at]):
                at += 1
            if data[at] == _COMMA or data[at] == _SEMICOLON:
                at += 1
                while _is_space(data[at]):
                    at += 1
        if fault:
            state[FAULT] = fault
            state[FAULT_AT] = line
            break
        while data[at] != NEWLINE:
            at += 1
        at += 1
        state[LINES] += 1
        n += 1
    return n
