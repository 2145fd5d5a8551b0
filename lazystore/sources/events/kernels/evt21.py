"""RAW EVT 2.1: 64-bit words, each up to 32 neighbouring pixels of one row, time and polarity.

An event word is ``type:4 time:6 x:11 y:11 valid:32``; bit i of `valid` is an event at x + i. A time
word is ``type:4 time_high:28 unused:32``, a trigger ``type:4 time:6 unused:9 id:5 unused:7 value:1
unused:32``. Words of other types are counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.sources.events.kernels.compiling import Integer, compiled, count_wraps
from lazystore.sources.events.kernels.evt2 import (
    CD_ON,
    DROPPED_EVENTS,
    HAS_TIME,
    OTHER_WORDS,
    TIME_HIGH,
    TIME_WRAPS,
    UNKNOWN_WORDS,
    WORD_IMU,
    WORD_TIME_HIGH,
    WORD_TRIGGER,
)

MAX_EVENTS = 32
COLUMNS = 2048


@compiled
def decode_evt21(
    words: NDArray[np.uint64],
    state: NDArray[Any],
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    trigger_t: NDArray[np.int64],
    trigger_id: NDArray[np.uint16],
    trigger_p: NDArray[np.uint8],
) -> tuple[int, int]:
    """Decode all `words`; the columns hold at least 32 events and one trigger a word.

    Returns the number of events and of triggers written.
    """
    n = 0
    m = 0
    high = state[TIME_HIGH]
    wraps = state[TIME_WRAPS]
    has_time = state[HAS_TIME] != 0
    base = (high + (wraps << 28)) << 6
    for i in range(words.shape[0]):
        upper = np.int64(words[i] >> np.uint64(32))
        kind = upper >> 28
        if kind <= CD_ON:
            valid = np.int64(words[i] & np.uint64(0xFFFFFFFF))
            column: Integer = (upper >> 11) & 2047
            time = base + ((upper >> 22) & 63)
            row = upper & 2047
            if not has_time:
                column = COLUMNS
            while valid:
                # Groups of eight without an event are common; going bit by bit would cost most.
                if valid & 0xFF == 0:
                    valid >>= 8
                    column += 8
                    continue
                if valid & 1:
                    if column < COLUMNS:
                        t[n] = time
                        x[n] = column
                        y[n] = row
                        p[n] = kind
                        n += 1
                    else:
                        state[DROPPED_EVENTS] += 1
                valid >>= 1
                column += 1
        elif kind == WORD_TIME_HIGH:
            value = upper & 0xFFFFFFF
            wraps = count_wraps(high, value, 1 << 28, wraps) if has_time else wraps
            high = value
            has_time = True
            base = (high + (wraps << 28)) << 6
        elif kind == WORD_TRIGGER:
            if has_time:
                trigger_t[m] = base + ((upper >> 22) & 63)
                trigger_id[m] = (upper >> 8) & 31
                trigger_p[m] = upper & 1
                m += 1
            else:
                state[DROPPED_EVENTS] += 1
        elif kind >= WORD_IMU:
            state[OTHER_WORDS] += 1
        else:
            state[UNKNOWN_WORDS] += 1
    state[TIME_HIGH] = high
    state[TIME_WRAPS] = wraps
    state[HAS_TIME] = has_time
    return n, m
