"""How the event kernels are compiled: outside the GIL, and once a machine instead of once a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba

# int or np.int64; Any, because a type checker does not know that numba's sums of both are integers.
# Only signed integers may meet in a kernel: numba turns int64 with uint64 into float64.
type Integer = Any


def compiled[F: Callable[..., Any]](function: F) -> F:
    """The function as machine code that releases the GIL, cached on disk."""
    return cast(F, numba.njit(nogil=True, cache=True)(function))


@compiled
def count_wraps(previous: Integer, value: Integer, span: Integer, wraps: Integer) -> Integer:
    """Times a counter of `span` values has run over once it goes from `previous` to `value`.

    A drop by more than half of the range is an overflow; a smaller one is time that really steps
    back. Right after an overflow a value from just below it (1/64 of the range) is jitter around
    the border and belongs to the old turn.
    """
    if value < previous - span // 2:
        return wraps + 1
    if wraps > 0 and previous < span // 64 and value >= span - span // 64:
        return wraps - 1
    return wraps
