"""numpy functions over lazy arrays: reductions run out of core, the rest loads within the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lazystore.cache import guard

# numpy function -> (method, options that go with it). Keywords beyond axis, keepdims and ddof
# (`out`, `where`, `dtype`, `initial`) need numpy itself.
_REDUCTIONS: dict[Any, tuple[str, Mapping[str, Any]]] = {
    np.mean: ("mean", {}),
    np.sum: ("sum", {}),
    np.min: ("min", {}),
    np.max: ("max", {}),
    np.amin: ("min", {}),
    np.amax: ("max", {}),
    np.std: ("std", {}),
    np.var: ("var", {}),
    np.nanmean: ("mean", {"skipna": True}),
    np.nansum: ("sum", {"skipna": True}),
    np.nanmin: ("min", {"skipna": True}),
    np.nanmax: ("max", {"skipna": True}),
    np.nanstd: ("std", {"skipna": True}),
    np.nanvar: ("var", {"skipna": True}),
}
_FACTS: dict[Any, Callable[[Any], Any]] = {
    np.shape: lambda array: array.shape,
    np.ndim: lambda array: array.ndim,
    np.size: lambda array: array.size,
}


def _loaded(value: Any, kind: type) -> Any:
    """The argument with every lazy array in it read."""
    if isinstance(value, kind):
        return np.asarray(value)
    if isinstance(value, list | tuple):
        return type(value)(_loaded(part, kind) for part in value) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        return {key: _loaded(part, kind) for key, part in value.items()}
    return value


def apply_function(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], kind: type) -> Any:
    """What a numpy function gives for lazy arrays among its arguments.

    Raises
    ------
    MemoryBudgetError
        If it has to read an array larger than the memory budget.
    """
    first: Any = args[0] if args else None
    is_lazy = isinstance(first, kind)
    if is_lazy:
        if function in _FACTS and len(args) == 1 and not kwargs:
            return _FACTS[function](first)
        if function in _REDUCTIONS:
            method, options = _REDUCTIONS[function]
            given = dict(kwargs)
            if len(args) == 2:
                given.setdefault("axis", args[1])
            allowed = {"axis", "keepdims"} | ({"ddof"} if method in ("std", "var") else set())
            if len(args) <= 2 and set(given) <= allowed and first.dtype.kind in "biuf":
                return getattr(first, method)(**given, **options)
    return function(*_loaded(tuple(args), kind), **_loaded(dict(kwargs), kind))


def apply_ufunc(
    ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: Mapping[str, Any], kind: type
) -> Any:
    """What a ufunc gives; a lazy array cannot be its output.

    Raises
    ------
    MemoryBudgetError
        If it has to read an array larger than the memory budget.
    TypeError
        If a lazy array is asked to take the result.
    """
    if any(isinstance(out, kind) for out in kwargs.get("out", ())):
        raise TypeError(
            f"{ufunc.__name__}: a lazy array cannot be written to; pass out= an ndarray, or leave it out"
        )
    if method == "__call__":
        _check_result(ufunc, inputs, kind)
    return getattr(ufunc, method)(*_loaded(tuple(inputs), kind), **_loaded(dict(kwargs), kind))


def _check_result(ufunc: np.ufunc, inputs: Sequence[Any], kind: type) -> None:
    """Refuse what fits the memory budget before a ufunc, and not with what it makes of it."""
    lazy: list[Any] = [value for value in inputs if isinstance(value, kind)]
    n_bytes = sum(value.nbytes for value in lazy)
    # The widest results have 16 bytes a value.
    if n_bytes + 16 * ufunc.nout * max((value.size for value in lazy), default=0) <= guard.ALWAYS_FITS_BYTES:
        return
    ones = [_one_value(value) if isinstance(value, np.ndarray | kind) else value for value in inputs]
    with np.errstate(all="ignore"):
        made = ufunc(*ones)
    n_values = math.prod(np.broadcast_shapes(*(np.shape(value) for value in inputs)))
    n_bytes += n_values * sum(result.dtype.itemsize for result in (made if ufunc.nout > 1 else (made,)))
    guard.check_budget(
        n_bytes,
        f"{lazy[0].name!r}: this would load it and make {n_values} values by {ufunc.__name__}, together",
        "Take a slice, call .load() and work in place",
    )


def _one_value(array: Any) -> Any:
    return np.ones(1, array.dtype)
