"""Pure index arithmetic: what a numpy-style key asks of an array of a given shape.

A selection holds one entry for each axis of the stored array: an int (the axis is gone), a range,
or an array of positions. Selecting from a selection gives a selection, so views of views are
exact, and nothing is read before the last moment.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import normalize_index

type Positions = NDArray[np.intp]
type Entry = int | range | Positions
type Selection = tuple[Entry, ...]
type Part = int | slice | Positions
"""One axis' share of a key, after Ellipsis, masks and missing axes have been spelled out."""


def full_selection(shape: Sequence[int]) -> Selection:
    """Everything.

    >>> full_selection((2, 3))
    (range(0, 2), range(0, 3))
    """
    return tuple(range(size) for size in shape)


def spell_out(key: Any, shape: Sequence[int], dims: Sequence[str]) -> list[Part]:
    """One part an axis for any key that numpy takes, except None.

    Parameters
    ----------
    key
        int, slice, Ellipsis, sequence or array of integers, boolean mask, or a tuple of these.
    shape, dims
        Sizes and names of the axes that are indexed.

    Returns
    -------
    list
        One int, slice or integer array for each axis. Positions are non-negative. A boolean mask
        over k axes becomes k arrays, as ``np.nonzero`` gives them.

    Raises
    ------
    IndexError
        For a position outside an axis, too many indices, a mask of another shape, two Ellipses,
        None, or anything that is no index.

    >>> spell_out((..., 2), (5, 4), ("time", "x"))
    [slice(None, None, None), 2]
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    if all(type(part) is slice for part in keys) and len(keys) <= len(shape):
        # What viewers ask for at every step.
        return keys + [slice(None)] * (len(shape) - len(keys))
    ellipses = [position for position, part in enumerate(keys) if part is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError(f"key {key!r} has {len(ellipses)} Ellipses; at most one can be filled in")
    parts: list[Any] = []
    for part in keys:
        if isinstance(part, list | tuple | range) or (hasattr(part, "__array__") and np.ndim(part)):
            part = _positions(part)
        parts.append(part)
    consumed = sum(part.ndim if _is_mask(part) else 1 for part in parts if part is not Ellipsis)
    if consumed > len(shape):
        raise IndexError(f"key {key!r} has {consumed} indices; the array has {len(shape)} axes {tuple(dims)}")
    gap = [slice(None)] * (len(shape) - consumed)
    place = ellipses[0] if ellipses else len(parts)
    parts[place : place + 1] = gap
    result: list[Part] = []
    for part in parts:
        axis = len(result)
        if _is_mask(part):
            _check_mask(part, shape[axis : axis + part.ndim], dims[axis : axis + part.ndim])
            result.extend(np.nonzero(part))
        else:
            result.append(_part(part, shape[axis], dims[axis]))
    return result


def _is_mask(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype.kind == "b"


def _positions(values: Any) -> NDArray[Any]:
    array = np.asarray(values)
    # An empty list is float to numpy, yet a valid empty index.
    return array.astype(np.intp) if array.size == 0 and not hasattr(values, "dtype") else array


def _part(part: Any, size: int, name: str) -> Part:
    if isinstance(part, slice):
        return part
    if part is None:
        raise IndexError(
            "None (np.newaxis) is no index of a lazy array; index the values, for example a[10][None], "
            "or a.load()[None]"
        )
    if isinstance(part, bool | np.bool_):
        raise IndexError(
            f"{part!r} is no index along axis {name!r}; pass an int, or a mask as long as the axis"
        )
    if isinstance(part, np.ndarray) and part.ndim:
        if part.dtype.kind not in "iu":
            raise IndexError(
                f"index array along axis {name!r} has dtype {part.dtype}; expected integers or booleans"
            )
        positions = part.astype(np.intp)
        low, high = (int(positions.min()), int(positions.max())) if positions.size else (0, -1)
        if low < -size or high >= size:
            bad = low if low < -size else high
            raise IndexError(f"index {bad} is out of bounds for axis {name!r} of size {size}")
        return np.where(positions < 0, positions + size, positions) if low < 0 else positions
    try:
        position = operator.index(part)
    except TypeError:
        raise IndexError(
            f"{part!r} is no index along axis {name!r}; expected an int, a slice, a list of ints or a mask "
            "(labels go through .sel)"
        ) from None
    return normalize_index(position, size, name)


def _check_mask(mask: NDArray[Any], sizes: Sequence[int], names: Sequence[str]) -> None:
    if mask.shape != tuple(sizes):
        raise IndexError(
            f"mask of shape {mask.shape} does not fit axes {tuple(names)} of shape {tuple(sizes)}"
        )


def entry_of(entry: range | Positions, part: Part) -> Entry:
    """Select from one axis of a selection.

    >>> entry_of(range(0, 20, 2), slice(None, None, -3))
    range(18, -2, -6)
    >>> entry_of(range(5, 9), 1)
    6
    """
    if isinstance(part, np.ndarray):
        if isinstance(entry, range):
            return entry.start + part * entry.step
        return entry[part]
    if isinstance(part, slice):
        return entry[part]
    return int(entry[part])


def select(selection: Selection, parts: Sequence[Part]) -> Selection:
    """A selection from a selection; `parts` has one entry for each axis that is left.

    >>> select((range(10), 3, range(4)), [slice(2, 8, 2), 1])
    (range(2, 8, 2), 3, 1)
    """
    remaining = iter(parts)
    return tuple(entry if isinstance(entry, int) else entry_of(entry, next(remaining)) for entry in selection)


def selection_shape(selection: Selection) -> tuple[int, ...]:
    """Shape of what a selection gives; axes with an int are gone.

    >>> selection_shape((range(2, 8, 2), 3, range(4)))
    (3, 4)
    """
    return tuple(len(entry) for entry in selection if not isinstance(entry, int))


def is_lazy(parts: Sequence[Part]) -> bool:
    """Whether the answer is a view: nothing but a position or a list on axis 0 reads.

    >>> is_lazy([slice(0, 5), 3]), is_lazy([3, slice(0, 5)])
    (True, False)
    """
    return bool(parts) and isinstance(parts[0], slice)


def is_orthogonal(parts: Sequence[Part]) -> bool:
    """Whether selecting axis by axis gives what numpy gives for the whole key.

    numpy pairs several index arrays (an int counts as one of them) and may move the paired axis to
    the front; with a single one-dimensional array beside nothing but slices, or beside ints that
    are its neighbours, it does neither.

    >>> is_orthogonal([slice(None), 1, np.array([0, 2])]), is_orthogonal([1, slice(None), np.array([0])])
    (True, False)
    """
    arrays = [axis for axis, part in enumerate(parts) if isinstance(part, np.ndarray)]
    if not arrays:
        return True
    only = parts[arrays[0]]
    if len(arrays) > 1 or not isinstance(only, np.ndarray) or only.ndim != 1:
        return False
    advanced = [axis for axis, part in enumerate(parts) if not isinstance(part, slice)]
    return advanced[-1] - advanced[0] == len(advanced) - 1


def paired_size(parts: Sequence[Part], shape: Sequence[int]) -> int:
    """How many values a key gives that pairs its index arrays; each position as often as it is named.

    Raises
    ------
    IndexError
        If the arrays do not fit each other, as from numpy.

    >>> paired_size([np.array([3, 1, 3]), np.array([0, 0, 2]), slice(0, 2)], (5, 5, 9))
    6
    """
    try:
        paired = np.broadcast_shapes(*(part.shape for part in parts if isinstance(part, np.ndarray)))
    except ValueError as error:
        raise IndexError(str(error)) from None
    sizes = zip(parts, shape, strict=True)
    return math.prod(paired) * math.prod(
        len(range(*part.indices(size))) for part, size in sizes if isinstance(part, slice)
    )


def box_and_rest(parts: Sequence[Part]) -> tuple[list[Part], tuple[Any, ...]]:
    """Split a key that pairs index arrays: an axis-by-axis part to read, and what numpy does to it.

    ``values[tuple(parts)]`` equals ``values[np.ix_-like box][rest]``; the box holds each needed
    position once.

    >>> box, rest = box_and_rest([np.array([3, 1, 3]), np.array([0, 0, 2])])
    >>> [part.tolist() for part in box], [part.tolist() for part in rest]
    ([[1, 3], [0, 2]], [[1, 0, 1], [0, 0, 1]])
    """
    box: list[Part] = []
    rest: list[Any] = []
    for part in parts:
        if isinstance(part, slice):
            box.append(part)
            rest.append(slice(None))
        elif isinstance(part, int):
            box.append(np.array([part], np.intp))
            rest.append(0)
        else:
            unique, inverse = np.unique(part, return_inverse=True)
            box.append(unique)
            rest.append(inverse.reshape(part.shape))
    return box, tuple(rest)
