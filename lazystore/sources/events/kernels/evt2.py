"""RAW EVT 2.0: 32-bit words with 6 time bits; a word of its own carries the upper 28 bits.

An event word is ``type:4 time:6 x:11 y:11``, a trigger ``type:4 time:6 unused:9 id:5 unused:7
value:1``. Words of other types are counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.sources.events.kernels.compiling import compiled, count_wraps

# The first entries mean the same in the state of every word decoder.
OTHER_WORDS = 0
UNKNOWN_WORDS = 1
DROPPED_EVENTS = 2
TIME_WRAPS = 3
# The last value of the counter that wraps, and whether there has been one.
TIME_HIGH = 4
HAS_TIME = 5
STATE_SIZE = 16

CD_ON = 0x1
WORD_TIME_HIGH = 0x8
WORD_TRIGGER = 0xA
WORD_IMU = 0xD
WORD_OTHERS = 0xE
WORD_CONTINUED = 0xF


@compiled
def decode_evt2(
    words: NDArray[np.uint32],
    state: NDArray[Any],
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    trigger_t: NDArray[np.int64],
    trigger_id: NDArray[np.uint16],
    trigger_p: NDArray[np.uint8],
) -> tuple[int, int]:
    """Decode all `words`; the columns hold at least one event and one trigger a word.

    Returns the number of events and of triggers written.
    """
    n = 0
    m = 0
    high = state[TIME_HIGH]
    wraps = state[TIME_WRAPS]
    has_time = state[HAS_TIME] != 0
    base = (high + (wraps << 28)) << 6
    for i in range(words.shape[0]):
        word = np.int64(words[i])
        kind = word >> 28
        if kind <= CD_ON:
            if has_time:
                t[n] = base + ((word >> 22) & 63)
                x[n] = (word >> 11) & 2047
                y[n] = word & 2047
                p[n] = kind
                n += 1
            else:
                state[DROPPED_EVENTS] += 1
        elif kind == WORD_TIME_HIGH:
            value = word & 0xFFFFFFF
            wraps = count_wraps(high, value, 1 << 28, wraps) if has_time else wraps
            high = value
            has_time = True
            base = (high + (wraps << 28)) << 6
        elif kind == WORD_TRIGGER:
            if has_time:
                trigger_t[m] = base + ((word >> 22) & 63)
                trigger_id[m] = (word >> 8) & 31
                trigger_p[m] = word & 1
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
