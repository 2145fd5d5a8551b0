"""An environment's bins -> a `Geometry`, and a source that carries it.

The environment is an object of neurospatial (or anything shaped like it), or the pair of files
that `Environment.to_file` writes, which is read here without neurospatial and without pickle.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.geometry import ACTIVE_MASK_PATH, BIN_CENTERS_PATH, Geometry
from lazystore.protocols import Block, SideArray, Source, SourceInfo
from lazystore.sources.arrays.npz import read_member, read_member_headers

# Layouts whose bins are no rectangles, although some of them keep a grid of cells.
_POINT_LAYOUTS = ("hexagonal", "graph", "triangular")
_MAX_JSON_BYTES = 1024 * 1024 * 1024


def load_geometry(env: Any) -> Geometry:
    """The geometry of an environment.

    Parameters
    ----------
    env
        A neurospatial Environment (anything with `bin_centers` and `layout`), a `Geometry`, or the
        path of a saved one: ``NAME``, ``NAME.json`` or ``NAME.npz``, with both files there.

    Raises
    ------
    SourceError
        If the files are missing, damaged, or contradict each other.
    UsageError
        If the object is no environment.
    """
    if isinstance(env, Geometry):
        return env
    if isinstance(env, str | os.PathLike):
        return _from_files(Path(env))
    return _from_object(env)


def _from_object(env: Any) -> Geometry:
    if not hasattr(env, "bin_centers") or not hasattr(env, "layout"):
        raise UsageError(
            f"env={type(env).__name__} is no environment; expected an object with bin_centers and layout, "
            "or the path of a saved one"
        )
    layout = env.layout
    ranges = getattr(env, "dimension_ranges", None)
    return _build(
        is_grid=bool(getattr(layout, "is_grid_compatible", False)),
        bin_centers=env.bin_centers,
        grid_shape=getattr(layout, "grid_shape", None),
        active_mask=getattr(layout, "active_mask", None),
        units=getattr(env, "units", None),
        ranges=ranges,
    )


def _from_files(path: Path) -> Geometry:
    base = path.with_suffix("") if path.suffix.lower() in (".json", ".npz") else path
    facts_path, arrays_path = base.with_name(f"{base.name}.json"), base.with_name(f"{base.name}.npz")
    for part in (facts_path, arrays_path):
        if not part.is_file():
            raise SourceError(
                f"environment {path.name!r}: {part.name!r} is not there; "
                "expected the two files that Environment.to_file writes (.json and .npz)"
            )
    try:
        if facts_path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError(f"{facts_path.stat().st_size} bytes of JSON are no environment")
        facts = json.loads(facts_path.read_bytes())
        layout_type = str(facts["layout_type"]).lower()
        headers = read_member_headers(arrays_path)
        bin_centers = read_member(arrays_path, headers, "bin_centers")
        active_mask = read_member(arrays_path, headers, "active_mask") if "active_mask" in headers else None
        grid_shape = facts.get("grid_shape")
        geometry = _build(
            is_grid=grid_shape is not None and not any(name in layout_type for name in _POINT_LAYOUTS),
            bin_centers=bin_centers,
            grid_shape=grid_shape,
            active_mask=active_mask,
            units=facts.get("units"),
            ranges=facts.get("dimension_ranges"),
        )
        declared = int(facts["n_bins"])
    except (OSError, ValueError, KeyError, TypeError, SourceError) as error:
        raise SourceError(
            f"environment {path.name!r} is not readable: {error}; save it again with Environment.to_file"
        ) from error
    if declared != geometry.n_bins:
        raise SourceError(
            f"environment {path.name!r}: the .json says {declared} bins, the .npz holds {geometry.n_bins}; "
            "the two files are not of one environment"
        )
    return geometry


def _build(
    *,
    is_grid: bool,
    bin_centers: Any,
    grid_shape: Any,
    active_mask: Any,
    units: Any,
    ranges: Any,
) -> Geometry:
    centers: NDArray[np.float64] = np.array(bin_centers, dtype=np.float64)
    if centers.ndim == 1:
        centers = centers[:, np.newaxis]
    if centers.ndim != 2 or not len(centers):
        raise SourceError(f"bin centres have shape {centers.shape}; expected (n_bins, n_dims)")
    n_bins, n_dims = centers.shape
    shape = tuple(int(size) for size in grid_shape) if is_grid and grid_shape is not None else None
    mask: NDArray[np.bool_] | None = None
    if shape is not None:
        # A grid without a mask is active everywhere, which only holds if the counts agree.
        mask = np.ones(shape, np.bool_) if active_mask is None else np.array(active_mask, dtype=np.bool_)
    return Geometry(
        type="points" if shape is None else "grid",
        n_bins=n_bins,
        n_dims=n_dims,
        bin_centers=centers,
        grid_shape=shape,
        active_mask=mask,
        units=str(units) if units else "",
        extent=_extent(ranges, n_dims),
    )


def _extent(ranges: Any, n_dims: int) -> tuple[tuple[float, float], ...] | None:
    if ranges is None:
        return None
    pairs = tuple((float(low), float(high)) for low, high in ranges)
    # JSON holds no infinity, and a pair that is not finite says nothing.
    is_usable = len(pairs) == n_dims and all(map(math.isfinite, sum(pairs, ())))
    return pairs if is_usable else None


def geometry_arrays(geometry: Geometry) -> tuple[SideArray, ...]:
    """The side arrays that keep a geometry in a store."""
    units: Mapping[str, Any] = {"units": geometry.units} if geometry.units else {}
    centers = SideArray(
        BIN_CENTERS_PATH,
        ("bin_geometry", "axis"),
        geometry.bin_centers,
        {"long_name": "bin centres, x first", **units},
    )
    if geometry.active_mask is None:
        return (centers,)
    dims = tuple(f"grid_{axis}" for axis in range(geometry.active_mask.ndim))
    mask = SideArray(
        ACTIVE_MASK_PATH, dims, geometry.active_mask, {"long_name": "cells that are bins, in C order"}
    )
    return (mask, centers)


class GeometrySource:
    """A field that knows where its bins lie.

    Parameters
    ----------
    source
        A source of kind field, data (time, bin) or (time, y, x).
    geometry
        Its environment.

    Raises
    ------
    SourceError
        If the source is no field, or its frames have another number of bins.
    """

    def __init__(self, source: Source, geometry: Geometry) -> None:
        info = source.info
        if info.kind != "field":
            raise SourceError(
                f"an environment belongs to a field, but {info.identity[0].name!r} is of kind {info.kind!r}; "
                "leave env out, or say --kind field"
            )
        geometry.check_field_shape(info.columns[0].shape)
        taken = (ACTIVE_MASK_PATH, BIN_CENTERS_PATH)
        self._source = source
        self._info = replace(
            info,
            side=(*(s for s in info.side if s.path not in taken), *geometry_arrays(geometry)),
            item_attributes={**info.item_attributes, "geometry": geometry.describe()},
        )

    @property
    def info(self) -> SourceInfo:
        """What the field is, with its geometry."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Records [start, stop)."""
        return self._source.read(start, stop)

    def close(self) -> None:
        """Release the field's files."""
        self._source.close()
