"""xarray objects as sources: a NetCDF or Zarr variable, or a DataArray from a script.

Nothing here imports xarray: whoever hands over an object has imported it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Block, Column, SideArray, SourceIdentity, SourceInfo, Ticks
from lazystore.schema import JSON, is_plain_dtype
from lazystore.sources.frames import compact_ticks, default_kind, even_ticks, frame_column
from lazystore.sources.ticks import fit_ticks

_MAX_COORDINATE_BYTES = 64 * 1024 * 1024
_NANOSECOND = Fraction(1, 1_000_000_000)
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class CoordinateTimes:
    """Times of a coordinate: ticks, facts for the store, and what is wrong with them."""

    ticks: Ticks
    facts: Mapping[str, JSON]
    problems: tuple[str, ...] = ()


def times_of_coordinate(values: NDArray[Any], units: str | None) -> CoordinateTimes:
    """What a time coordinate says.

    Parameters
    ----------
    values
        Shape (time,): numbers in `units`, ``timedelta64``, or ``datetime64`` (ticks since 1970).
    units
        Unit of numbers; where it is missing or no unit of time, seconds are taken, and the ticks
        marked as a guess.

    Raises
    ------
    SourceError
        If a value is missing (NaT, NaN), or the values are no times.
    """
    kind = values.dtype.kind
    if kind in "mM":
        if np.isnat(values).any():
            raise SourceError("the time coordinate holds NaT; every record needs a time")
        stamps: NDArray[np.int64] = values.astype(f"{kind}8[ns]").astype(np.int64)
        epoch: dict[str, JSON] = {"native_epoch_utc": _EPOCH} if kind == "M" else {}
        return CoordinateTimes(compact_ticks(_NANOSECOND, stamps), epoch)
    if kind not in "iuf":
        raise SourceError(f"the time coordinate has dtype {values.dtype!s}; expected numbers or dates")
    try:
        fit, symbol = fit_ticks(values, units or ""), str(units)
    except UsageError:
        fit, symbol = fit_ticks(values, "s"), "s"
        fit = replace(fit, ticks=replace(fit.ticks, known=False))
    return CoordinateTimes(fit.ticks, {"time": fit.attributes("time", symbol)}, fit.problems())


class LabelledSource:
    """One xarray DataArray, read slice by slice.

    Parameters
    ----------
    array
        A DataArray, lazy or in memory. The record axis is ``time`` where there is one, else the first.
    name
        For messages.
    identity
        Of the file or the object.
    format_name
        ``"netcdf"``, ``"zarr"`` or ``"xarray"``.
    kind, rate_hz
        Override what shape, dtype and coordinate say.
    closer
        Something with `close`, released with the source.
    """

    def __init__(
        self,
        array: Any,
        name: str,
        identity: SourceIdentity,
        format_name: str,
        *,
        kind: str | None = None,
        rate_hz: Fraction | None = None,
        closer: Any = None,
    ) -> None:
        record_dim = "time" if "time" in array.dims else (array.dims[0] if array.dims else None)
        if record_dim is not None:
            array = array.transpose(record_dim, ...)
        shape, dtype = tuple(map(int, array.shape)), np.dtype(array.dtype)
        chosen = kind or default_kind(shape, dtype)
        column = frame_column(shape, dtype, chosen, name)
        times = CoordinateTimes(even_ticks(rate_hz), {})
        if rate_hz is None and record_dim in array.coords and array.coords[record_dim].ndim == 1:
            coordinate = array.coords[record_dim]
            times = times_of_coordinate(coordinate.values, coordinate.attrs.get("units"))
        attributes: dict[str, JSON] = {
            "variable": str(array.name) if array.name is not None else None,
            "dims": [str(dim) for dim in array.dims],
            **times.facts,
        }
        described = Column(
            column.name, column.dims, column.shape, column.dtype, plain_attributes(array.attrs)
        )
        self._info = SourceInfo(
            kind=chosen,
            format=format_name,
            columns=(described,),
            identity=(identity,),
            ticks=times.ticks,
            side=tuple(_side_arrays(array, column.dims)),
            attributes=attributes,
            problems=times.problems,
        )
        self._array = array
        self._closer = closer

    @property
    def info(self) -> SourceInfo:
        """What the variable is."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Records [start, stop)."""
        column = self._info.columns[0]
        record_dim = self._array.dims[0]
        selected = self._array.isel({record_dim: slice(start, stop)}).values
        # A copy: an object of the running program may change while shards are written.
        values = np.array(selected, dtype=column.dtype, order="C", copy=True)
        return Block(start, {"data": values.reshape(stop - start, *column.shape[1:])})

    def close(self) -> None:
        """Release the file behind the variable."""
        if self._closer is not None:
            self._closer.close()
            self._closer = None


def plain_attributes(attributes: Mapping[Any, Any]) -> dict[str, JSON]:
    """Those attributes that JSON can hold: text, finite numbers, short lists of them.

    >>> import numpy as np
    >>> plain_attributes({"units": "Hz", "n": np.int16(3), "bad": float("nan"), "table": object()})
    {'units': 'Hz', 'n': 3}
    """
    kept: dict[str, JSON] = {}
    for name, value in attributes.items():
        plain = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(plain, np.generic | np.ndarray):
            plain = plain.tolist() if plain.size <= 64 else None
        parts = plain if isinstance(plain, list | tuple) else [plain]
        if parts and all(isinstance(part, str | bool | int) or _is_finite(part) for part in parts):
            kept[str(name)] = list(parts) if isinstance(plain, list | tuple) else plain
    return kept


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and bool(np.isfinite(value))


def _side_arrays(array: Any, dims: tuple[str, ...]) -> list[SideArray]:
    """Coordinates along the other axes, under the names that those axes get in the store."""
    found = []
    for own, stored in list(zip(array.dims, dims, strict=False))[1:]:
        if own not in array.coords or array.coords[own].ndim != 1:
            continue
        coordinate = array.coords[own]
        values = np.asarray(coordinate.values)
        if values.nbytes > _MAX_COORDINATE_BYTES:
            continue
        if values.dtype.kind in "OT":
            values = np.asarray([str(value) for value in values])
        if values.dtype.kind == "U" or is_plain_dtype(values.dtype):
            attributes = plain_attributes(coordinate.attrs)
            attributes.setdefault("long_name", str(own))
            native = values.astype(values.dtype.newbyteorder("="))
            found.append(SideArray(stored, (stored,), native, attributes))
    return found
