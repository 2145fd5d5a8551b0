"""Refusals of what would fill the memory, before anything is read or allocated."""

from __future__ import annotations

import os

from lazystore.cache.memory import budget_from_environment, free_memory_bytes, parse_bytes
from lazystore.errors import MemoryBudgetError

MEMORY_VARIABLE = "LAZYSTORE_MEMORY_BYTES"
# Below this nobody needs protection, and asking the system for its free memory costs more than the read.
ALWAYS_FITS_BYTES = 32 * 1024 * 1024


def check_budget(nbytes: int, what: str, remedy: str) -> None:
    """Refuse what happens by accident and needs more than the budget.

    Parameters
    ----------
    nbytes
        What it needs.
    what
        The beginning of the message: ``"'movie': this would load"``.
    remedy
        What to do instead; setting the variable is added.

    Raises
    ------
    MemoryBudgetError
        Above the budget: the environment variable, else a quarter of what is free.
    """
    if nbytes <= ALWAYS_FITS_BYTES:
        return
    budget = budget_from_environment(MEMORY_VARIABLE)
    if nbytes > budget:
        raise MemoryBudgetError(
            f"{what} {nbytes} bytes; the memory budget is {budget} bytes. {remedy}, or set {MEMORY_VARIABLE}"
        )


def check_free(nbytes: int, what: str, remedy: str) -> None:
    """Refuse what was asked for, but cannot fit the memory that is free now.

    A budget in the environment that is larger is believed: what is free is an estimate on some systems.

    Raises
    ------
    MemoryBudgetError
        If it does not fit.
    """
    if nbytes <= ALWAYS_FITS_BYTES or nbytes <= (free := free_memory_bytes()):
        return
    given = os.environ.get(MEMORY_VARIABLE)
    if not given or nbytes > parse_bytes(given, MEMORY_VARIABLE):
        raise MemoryBudgetError(
            f"{what} {nbytes} bytes; {free} bytes of memory are free. {remedy}, or set {MEMORY_VARIABLE} to "
            "more if it fits all the same"
        )
