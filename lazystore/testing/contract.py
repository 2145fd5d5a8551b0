"""What the contract suites share: the error of a broken promise, and equality that knows NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class ContractError(AssertionError):
    """A promise of a protocol that an implementation does not keep."""


def require(kept: bool, message: str) -> None:
    """Raise ContractError unless a promise is kept; not `assert`, which `python -O` removes."""
    if not kept:
        raise ContractError(message)


def same_values(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays have equal shape, dtype and values; NaN equals NaN.

    >>> same_values(np.array([1.0, np.nan]), np.array([1.0, np.nan]))
    True
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
