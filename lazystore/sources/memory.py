"""Arrays of a running program as sources: NumPy, anything that slices like it, xarray objects."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Block, Source, SourceIdentity, SourceInfo
from lazystore.sources.arrays.labelled import LabelledSource
from lazystore.sources.frames import ARRAY_KINDS, RATE_OPTION, default_kind, even_ticks, frame_column
from lazystore.sources.identity import identify_array
from lazystore.sources.options import Option, parse_options

MEMORY_OPTIONS = (
    RATE_OPTION,
    Option("variable", "text", "name of the variable of an xarray Dataset"),
)


class ArraySource:
    """Anything with `shape`, `dtype` and slices along axis 0: ndarray, memmap, h5py, zarr, dask.

    Parameters
    ----------
    array
        Shape (time, bin), (time, y, x), (time, y, x, channel), or a series.
    kind
        One of field, stack, series; None chooses by shape and dtype.
    rate_hz
        Records a second; None assumes 1 and marks it as a guess.
    format_name, identity
        Where the array is a file's after all.
    """

    def __init__(
        self,
        array: Any,
        *,
        kind: str | None = None,
        rate_hz: Fraction | None = None,
        format_name: str = "array",
        identity: SourceIdentity | None = None,
    ) -> None:
        shape, dtype = tuple(map(int, array.shape)), np.dtype(array.dtype)
        chosen = kind or default_kind(shape, dtype)
        self._array = array
        self._info = SourceInfo(
            kind=chosen,
            format=format_name,
            columns=(frame_column(shape, dtype, chosen, "array" if identity is None else identity.name),),
            identity=(identity or identify_array(array),),
            ticks=even_ticks(rate_hz),
        )

    @property
    def info(self) -> SourceInfo:
        """What the array is."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Records [start, stop), a copy: the caller's array may change while shards are written."""
        column = self._info.columns[0]
        values = np.array(self._array[start:stop], dtype=column.dtype, order="C", copy=True)
        return Block(start, {"data": values.reshape(stop - start, *column.shape[1:])})

    def close(self) -> None:
        """Nothing to release: the array is the caller's."""


class _Rows:
    """A list of equally long 1-D arrays, seen as one array (time, bin)."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows
        first = np.asarray(rows[0])
        self.shape = (len(rows), *first.shape)
        self.dtype = first.dtype
        for number, row in enumerate(rows):
            if np.shape(row) != first.shape:
                raise SourceError(
                    f"array {number} of the list has shape {np.shape(row)}, the first has {first.shape}; "
                    "expected equal shapes"
                )

    def __getitem__(self, part: slice) -> Any:
        return np.stack([np.asarray(row, dtype=self.dtype) for row in self._rows[part]])


def open_memory(
    source: Any, *, kind: str | None = None, options: Mapping[str, Any] | None = None
) -> list[Source]:
    """The source of an object in memory.

    Parameters
    ----------
    source
        An ndarray or something that slices like one, a list of arrays (one a record), an xarray
        DataArray, or a Dataset (option ``variable`` where it has several).

    Raises
    ------
    UsageError
        If it is none of these, or an option is unknown.
    SourceError
        If the array has no records, or cannot be of that kind.
    """
    parsed = parse_options("array", MEMORY_OPTIONS, options or {})
    if kind is not None and kind not in ARRAY_KINDS:
        raise UsageError(
            f"an array in memory cannot become kind {kind!r}; it can become {', '.join(ARRAY_KINDS)}"
        )
    rate_hz = parsed.get("rate_hz")
    xarray = sys.modules.get("xarray")
    if xarray is not None and isinstance(source, xarray.Dataset):
        source = source[choose_variable(source, parsed.get("variable"), "the Dataset")]
    elif "variable" in parsed:
        raise UsageError(
            f"option variable={parsed['variable']!r} is for an xarray Dataset, not {type(source).__name__}"
        )
    if xarray is not None and isinstance(source, xarray.DataArray):
        name = str(source.name or "array")
        return [
            LabelledSource(source, name, identify_array(source, name), "xarray", kind=kind, rate_hz=rate_hz)
        ]
    if isinstance(source, list | tuple) and source:
        source = _Rows(source)
    if not all(hasattr(source, attribute) for attribute in ("shape", "dtype", "__getitem__")):
        raise UsageError(
            f"cannot read a {type(source).__name__}; expected a path, a list of paths, an array, "
            "or an xarray object"
        )
    return [ArraySource(source, kind=kind, rate_hz=rate_hz)]


def choose_variable(dataset: Any, wanted: str | None, where: str) -> str:
    """Name of the variable of an xarray Dataset that holds the recording.

    Raises
    ------
    SourceError
        If `wanted` is not there, or the choice is not obvious; the candidates are listed.
    """
    shown = ", ".join(f"{name} {dict(array.sizes)}" for name, array in dataset.data_vars.items())
    if wanted is not None:
        if wanted not in dataset.data_vars:
            raise SourceError(f"{where} has no variable {wanted!r}; it has: {shown or 'none'}")
        return wanted
    candidates = [
        str(name)
        for name, array in dataset.data_vars.items()
        if array.ndim >= 2 and array.dtype.kind in "biuf" and array.size
    ]
    if len(candidates) != 1:
        raise SourceError(
            f"{where} does not say which variable is the recording; it has: {shown or 'none'}; "
            "say which with the option variable=NAME"
        )
    return candidates[0]
