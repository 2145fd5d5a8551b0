"""Coordinates, read when first asked for, and positions for labels with xarray's meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lazystore.array.indexing import Selection, full_selection
from lazystore.array.reading import read_selection
from lazystore.cache.guard import check_budget
from lazystore.errors import LabelError, UsageError
from lazystore.protocols import ChunkReader
from lazystore.schema import JSON

type Method = Literal["nearest", "pad", "ffill", "backfill", "bfill"]

# Frames of events every microsecond have labels for hours.
LABEL_BYTES = 8
_METHODS = ("nearest", "pad", "ffill", "backfill", "bfill")


def whole_array(reader: ChunkReader) -> NDArray[Any]:
    """All values of a small stored array; ``functools.partial`` of it is a loader that pickles."""
    return read_selection(reader, full_selection(reader.spec.shape))


def regular_values(start: float, step: float, size: int) -> NDArray[np.float64]:
    """Labels of a regular axis.

    >>> regular_values(2.0, 0.5, 3).tolist()
    [2.0, 2.5, 3.0]
    """
    return start + step * np.arange(size, dtype=np.float64)


class Coordinate:
    """Labels along some axes of an array.

    Parameters
    ----------
    dims
        Names of the array's axes that it labels: ``("time",)``.
    values
        Its values, or a function that reads them. The function is called at the first use, once
        a process (twice at most, when two threads meet there), and must pickle with the array.
    attributes
        ``units``, ``long_name``.
    """

    __slots__ = ("_load", "_loaded", "attributes", "dims")

    def __init__(
        self,
        dims: Sequence[str],
        values: NDArray[Any] | Callable[[], NDArray[Any]],
        attributes: Mapping[str, JSON] | None = None,
    ) -> None:
        self.dims = tuple(dims)
        self.attributes = dict(attributes or {})
        self._loaded: NDArray[Any] | None = None
        self._load: Callable[[], NDArray[Any]] | None = None
        if callable(values):
            self._load = values
        else:
            self._loaded = _read_only(np.asarray(values))

    def __getstate__(self) -> dict[str, Any]:
        # What can be read again does not travel.
        loaded = self._loaded if self._load is None else None
        return {"dims": self.dims, "attributes": self.attributes, "_load": self._load, "_loaded": loaded}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    @property
    def is_loaded(self) -> bool:
        """Whether `values` costs nothing."""
        return self._loaded is not None

    @property
    def values(self) -> NDArray[Any]:
        """All labels, read-only; reads at the first use."""
        if self._loaded is None:
            assert self._load is not None
            self._loaded = _read_only(np.asarray(self._load()))
        return self._loaded


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    # A view, so that the caller's own array keeps its flag.
    view = values.view()
    view.flags.writeable = False
    return view


class Coordinates(Mapping[str, NDArray[Any]]):
    """The coordinates of a view by name; each is read when it is first asked for.

    Looking at the names reads nothing; labels beyond the memory budget are refused. Values are
    read-only arrays, cut like the view; a coordinate of an axis that was indexed away is an array of
    no axes.
    """

    __slots__ = ("_base", "_dims", "_selection", "_shape")

    def __init__(
        self,
        base: Mapping[str, Coordinate],
        dims: Sequence[str],
        shape: Sequence[int],
        selection: Selection,
    ) -> None:
        self._base = base
        self._dims = tuple(dims)
        self._shape = tuple(shape)
        self._selection = selection

    def __getitem__(self, name: str) -> NDArray[Any]:
        coordinate = self._base[name]
        if not self.is_loaded(name):
            n_labels = math.prod(self._shape[self._dims.index(dim)] for dim in coordinate.dims)
            remedy = "Select by position, or take longer steps"
            check_budget(n_labels * LABEL_BYTES, f"coordinate {name!r}: its {n_labels} labels are", remedy)
        values = coordinate.values
        for axis, dim in reversed(list(enumerate(coordinate.dims))):
            entry = self._selection[self._dims.index(dim)]
            if isinstance(entry, range):
                # range.stop is -1 where a reversed view reaches the first label.
                entry_slice = slice(entry.start, entry.stop if entry.stop >= 0 else None, entry.step)
                values = values[(slice(None),) * axis + (entry_slice if len(entry) else slice(0),)]
            else:
                values = values[(slice(None),) * axis + (entry,)]
        return _read_only(np.asarray(values))

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)

    def __contains__(self, name: object) -> bool:
        return name in self._base

    def __repr__(self) -> str:
        return f"Coordinates({', '.join(self._base)})"

    def dims_of(self, name: str) -> tuple[str, ...]:
        """Axes that a coordinate still has in this view."""
        return tuple(
            dim
            for dim in self._base[name].dims
            if not isinstance(self._selection[self._dims.index(dim)], int)
        )

    def attributes_of(self, name: str) -> dict[str, JSON]:
        """Units and the like of a coordinate."""
        return dict(self._base[name].attributes)

    def is_loaded(self, name: str) -> bool:
        """Whether the values are already in memory."""
        return self._base[name].is_loaded


def position_of(
    values: NDArray[Any], label: Any, name: str, method: Method | None = None, tolerance: float | None = None
) -> int:
    """Position of one label, with xarray's meaning of `method` and `tolerance`.

    Parameters
    ----------
    values
        Shape (n,): the labels of an axis, in any order.
    label
        A number, or text.
    name
        The axis, for the message.
    method
        None asks for the label itself; ``"nearest"`` (the larger of two as near), ``"pad"`` /
        ``"ffill"`` the last label not above, ``"backfill"`` / ``"bfill"`` the first not below
        (the other way round along a decreasing axis).
    tolerance
        Greatest distance that a method may bridge, in the labels' unit.

    Raises
    ------
    LabelError
        If no label fits, or several do.
    UsageError
        For an unknown method, or one that asks for distances between texts.

    >>> position_of(np.array([0.0, 0.5, 1.0]), 0.6, "time", "nearest")
    1
    """
    if method is not None and method not in _METHODS:
        raise UsageError(f"method {method!r} along {name!r} is unknown; expected one of {_METHODS} or None")
    if method is None:
        found = np.flatnonzero(values == label)
        if found.size == 1:
            return int(found[0])
        if found.size:
            raise LabelError(
                f"{name} {label!r} stands at {found.size} positions, first {int(found[0])}; select a "
                f"range with sel({name}=slice(...)), or one position with isel({name}={int(found[0])})"
            )
        raise LabelError(f"no {name} {label!r}; {_hint(values, label, name)}")
    if not (_is_numeric(values) and _is_numeric(label)):
        raise UsageError(
            f"method {method!r} needs numbers along {name!r}; labels are {values.dtype}, the label is "
            f"{label!r}"
        )
    distance = np.asarray(values, np.float64) - float(label)
    # "The label before" is the one before in the axis' order, which may run down.
    falling = bool(values.size) and bool(values[0] > values[-1])
    if method in (("backfill", "bfill") if falling else ("pad", "ffill")):
        distance = np.where(distance <= 0, distance, np.nan)
    elif method != "nearest":
        distance = np.where(distance >= 0, distance, np.nan)
    gap = np.abs(distance)
    if not gap.size or np.isnan(gap).all():
        raise LabelError(f"no {name} {label!r} by method {method!r}; {_hint(values, label, name)}")
    nearest = np.nanmin(gap)
    if tolerance is not None and nearest > tolerance:
        raise LabelError(f"no {name} within {tolerance!r} of {label!r}; the nearest is {nearest:.6g} away")
    candidates = np.flatnonzero(gap == nearest)
    return int(candidates[np.argmax(values[candidates])])


def positions_between(values: NDArray[Any], labels: slice, name: str) -> slice:
    """Positions of a slice of labels; both ends are included, as in xarray.

    Parameters
    ----------
    values
        Shape (n,), increasing or decreasing. Along a decreasing axis the first bound is the larger.
    labels
        Either bound may be None. A step counts positions.

    Raises
    ------
    UsageError
        If the labels are in no order: a range of them then means nothing. If a bound is no number where
        they are.

    >>> positions_between(np.array([0.0, 0.5, 1.0, 1.5]), slice(0.5, 1.0), "time")
    slice(1, 3, None)
    """
    for bound in (labels.start, labels.stop):
        if bound is not None and _is_numeric(values) and not _is_numeric(bound):
            raise UsageError(f"{bound!r} is no number, as the labels of {name!r} are; pass for example 12.5")
    ascending = bool((values[1:] >= values[:-1]).all())
    if not ascending and not bool((values[1:] <= values[:-1]).all()):
        raise UsageError(
            f"{name!r} is neither increasing nor decreasing, so {labels!r} is no range of it; use a mask: "
            f"a[(coords[{name!r}] >= start) & (coords[{name!r}] <= stop)]"
        )
    size = len(values)
    start, stop = 0, size
    if ascending:
        if labels.start is not None:
            start = int(np.searchsorted(values, labels.start, "left"))
        if labels.stop is not None:
            stop = int(np.searchsorted(values, labels.stop, "right"))
    else:
        mirrored = values[::-1]
        if labels.start is not None:
            start = size - int(np.searchsorted(mirrored, labels.start, "right"))
        if labels.stop is not None:
            stop = size - int(np.searchsorted(mirrored, labels.stop, "left"))
    return slice(start, max(start, stop), labels.step)


def _is_numeric(labels: Any) -> bool:
    return np.asarray(labels).dtype.kind in "biuf"


def _hint(values: NDArray[Any], label: Any, name: str) -> str:
    if not values.size:
        return f"{name!r} is empty"
    if _is_numeric(values) and _is_numeric(label):
        gap = np.abs(np.asarray(values, np.float64) - float(label))
        if not np.isnan(gap).all():
            nearest = values[int(np.nanargmin(gap))]
            low, high = np.nanmin(values), np.nanmax(values)
            return f"it runs from {low} to {high}; the nearest is {nearest}: pass method='nearest'"
    shown = ", ".join(repr(str(value)) for value in values[:8])
    return f"expected one of {shown}{', …' if len(values) > 8 else ''}"
