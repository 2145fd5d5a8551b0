"""N-MNIST and N-Caltech101: records of five bytes, ``x:8 y:8 p:1 t:23``, the most significant first.

A record with y = 240, a row that the sensor does not have, is no event: the camera put one in
whenever its 13-bit counter ran over, and all later times grow by 2**13 µs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.sources.events.kernels.compiling import compiled, count_wraps
from lazystore.sources.events.kernels.evt2 import HAS_TIME, OTHER_WORDS, TIME_HIGH, TIME_WRAPS

RECORD_BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13


@compiled
def decode_nmnist(
    data: NDArray[np.uint8],
    state: NDArray[Any],
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    trigger_t: NDArray[np.int64],
    trigger_id: NDArray[np.uint16],
    trigger_p: NDArray[np.uint8],
) -> tuple[int, int]:
    """Decode all records of `data`; the format has no triggers.

    Returns the number of events written, and 0.
    """
    n = 0
    last = state[TIME_HIGH]
    wraps = state[TIME_WRAPS]
    for i in range(data.shape[0] // 5):
        at = 5 * i
        if data[at + 1] == OVERFLOW_ROW:
            state[OTHER_WORDS] += 1
            continue
        value = (np.int64(data[at + 2]) & 127) << 16 | np.int64(data[at + 3]) << 8 | np.int64(data[at + 4])
        if state[HAS_TIME]:
            wraps = count_wraps(last, value, 1 << 23, wraps)
        state[HAS_TIME] = 1
        last = value
        t[n] = value + (wraps << 23) + state[OTHER_WORDS] * OVERFLOW_US
        x[n] = data[at]
        y[n] = data[at + 1]
        p[n] = data[at + 2] >> 7
        n += 1
    state[TIME_HIGH] = last
    state[TIME_WRAPS] = wraps
    return n, 0
