"""DAT version 2: records of 8 bytes, a 32-bit time in µs and ``p:4 y:14 x:14``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.sources.events.kernels.compiling import compiled, count_wraps
from lazystore.sources.events.kernels.evt2 import HAS_TIME, TIME_HIGH, TIME_WRAPS, UNKNOWN_WORDS


@compiled
def decode_dat(
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
    """Decode all records of `words`, two words each; the format has no triggers.

    The time wraps every 71.6 minutes. A polarity other than 0 and 1 counts as an unknown word; its
    event stays, as ON.

    Returns the number of events written, and 0.
    """
    n = words.shape[0] // 2
    last = state[TIME_HIGH]
    wraps = state[TIME_WRAPS]
    if state[HAS_TIME] == 0 and n:
        last = np.int64(words[0])
        state[HAS_TIME] = 1
    for i in range(n):
        value = np.int64(words[2 * i])
        word = words[2 * i + 1]
        wraps = count_wraps(last, value, 1 << 32, wraps)
        last = value
        t[i] = value + (wraps << 32)
        x[i] = word & 0x3FFF
        y[i] = (word >> 14) & 0x3FFF
        polarity = word >> 28
        p[i] = polarity != 0
        state[UNKNOWN_WORDS] += polarity > 1
    state[TIME_HIGH] = last
    state[TIME_WRAPS] = wraps
    return n, 0
