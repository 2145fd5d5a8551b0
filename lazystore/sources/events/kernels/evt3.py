"""RAW EVT 3.0: 16-bit words, of which each changes a part of what the next events share.

The type is in the upper four bits. Row, base column, polarity and the two halves of the 24-bit
time are kept until a word changes them. The time wraps every 16.8 s; a repeated TIME_HIGH changes
nothing, a new one sets the lower half to 0, and a TIME_LOW that steps back is kept as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.sources.events.kernels.compiling import compiled, count_wraps
from lazystore.sources.events.kernels.evt2 import (
    DROPPED_EVENTS,
    HAS_TIME,
    OTHER_WORDS,
    TIME_HIGH,
    TIME_WRAPS,
    UNKNOWN_WORDS,
)

MAX_EVENTS = 12
COLUMNS = 2048

# Entries of the state beyond those that all word decoders share.
TIME_LOW = 6
ROW = 7
BASE_COLUMN = 8
BASE_POLARITY = 9

# ROW before any row word, and BASE_COLUMN before any base word: their events have no place.
NOWHERE = -1

ADDR_Y = 0x0
OTHER_ADDR_Y = 0x1
ADDR_X = 0x2
VECT_BASE_X = 0x3
VECT_12 = 0x4
VECT_8 = 0x5
WORD_TIME_LOW = 0x6
CONTINUED_4 = 0x7
WORD_TIME_HIGH = 0x8
EXT_TRIGGER = 0xA
WORD_IMU = 0xD
OTHERS = 0xE
CONTINUED_12 = 0xF


@compiled
def decode_evt3(
    words: NDArray[np.uint16],
    state: NDArray[Any],
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    trigger_t: NDArray[np.int64],
    trigger_id: NDArray[np.uint16],
    trigger_p: NDArray[np.uint8],
) -> tuple[int, int]:
    """Decode all `words`; the columns hold at least 12 events and one trigger a word.

    Returns the number of events and of triggers written.
    """
    n = 0
    m = 0
    high = state[TIME_HIGH]
    low = state[TIME_LOW]
    wraps = state[TIME_WRAPS]
    has_time = state[HAS_TIME] != 0
    # Stored plus one, so that a state of zeros is the beginning.
    row = state[ROW] - 1
    base_column = state[BASE_COLUMN] - 1
    base_polarity = state[BASE_POLARITY]
    time = (wraps << 24) + (high << 12) + low
    for i in range(words.shape[0]):
        word = np.int64(words[i])
        kind = word >> 12
        content = word & 0xFFF
        if kind == ADDR_X:
            if has_time and row >= 0:
                t[n] = time
                x[n] = content & 2047
                y[n] = row
                p[n] = content >> 11
                n += 1
            else:
                state[DROPPED_EVENTS] += 1
        elif kind == ADDR_Y:
            # Bit 11 tells master from slave camera.
            row = content & 2047
        elif kind == WORD_TIME_LOW:
            low = content
            time = (wraps << 24) + (high << 12) + low
        elif kind in (VECT_12, VECT_8):
            width = 12 if kind == VECT_12 else 8
            valid = content if kind == VECT_12 else content & 0xFF
            placed = has_time and row >= 0 and base_column != NOWHERE
            column = base_column
            while valid:
                if valid & 1:
                    if placed and column < COLUMNS:
                        t[n] = time
                        x[n] = column
                        y[n] = row
                        p[n] = base_polarity
                        n += 1
                    else:
                        state[DROPPED_EVENTS] += 1
                valid >>= 1
                column += 1
            if base_column != NOWHERE:
                base_column += width
        elif kind == VECT_BASE_X:
            base_column = content & 2047
            base_polarity = content >> 11
        elif kind == WORD_TIME_HIGH:
            if not has_time or content != high:
                wraps = count_wraps(high, content, 1 << 12, wraps) if has_time else wraps
                high = content
                low = 0
                has_time = True
                time = (wraps << 24) + (high << 12)
        elif kind == EXT_TRIGGER:
            if has_time:
                trigger_t[m] = time
                trigger_id[m] = content >> 8
                trigger_p[m] = content & 1
                m += 1
            else:
                state[DROPPED_EVENTS] += 1
        elif kind in (OTHERS, CONTINUED_4, CONTINUED_12, WORD_IMU):
            state[OTHER_WORDS] += 1
        else:
            if kind == OTHER_ADDR_Y:
                # A row of something that is no change event: what follows has no place here.
                row = NOWHERE
            state[UNKNOWN_WORDS] += 1
    state[TIME_HIGH] = high
    state[TIME_LOW] = low
    state[TIME_WRAPS] = wraps
    state[HAS_TIME] = has_time
    state[ROW] = row + 1
    state[BASE_COLUMN] = base_column + 1
    state[BASE_POLARITY] = base_polarity
    return n, m
