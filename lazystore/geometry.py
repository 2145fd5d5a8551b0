"""Where the bins of a field lie: enough to draw it without the package that made it.

A plain record of arrays. Sources fill it from an environment, the store keeps it, renderers read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.schema import JSON

ACTIVE_MASK_PATH = "geometry/active_mask"
BIN_CENTERS_PATH = "geometry/bin_centers"


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """The bins of an environment.

    Attributes
    ----------
    type
        ``"grid"``: the bins are the active cells of a regular grid, in C order of the mask;
        ``"points"``: bins with centres only (hexagons, a track's graph, triangles).
    n_bins, n_dims
        Number of bins, and of spatial dimensions (1 to 3).
    bin_centers
        Shape (n_bins, n_dims), float64, in `units`.
    grid_shape
        Cells along each dimension, x first; None for points.
    active_mask
        Shape `grid_shape`, bool, with exactly `n_bins` True; None for points.
    units
        Unit of the centres, ``""`` where the environment does not say.
    extent
        Lowest and highest coordinate along each dimension, in `units`; None if unknown.

    Raises
    ------
    UsageError
        If the sizes contradict each other.
    """

    type: str
    n_bins: int
    n_dims: int
    bin_centers: NDArray[np.float64]
    grid_shape: tuple[int, ...] | None = None
    active_mask: NDArray[np.bool_] | None = None
    units: str = ""
    extent: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        if self.type not in ("grid", "points"):
            raise UsageError(f"geometry type {self.type!r} is neither 'grid' nor 'points'")
        if self.bin_centers.shape != (self.n_bins, self.n_dims):
            raise UsageError(
                f"bin centres of shape {self.bin_centers.shape} do not fit {self.n_bins} bins in "
                f"{self.n_dims} dimensions; expected {(self.n_bins, self.n_dims)}"
            )
        if self.extent is not None and len(self.extent) != self.n_dims:
            raise UsageError(
                f"extent {self.extent!r} does not have one pair for each of {self.n_dims} dimensions"
            )
        if self.type == "points":
            return
        if self.grid_shape is None or self.active_mask is None:
            raise UsageError("a grid geometry needs both grid_shape and active_mask")
        if self.active_mask.shape != self.grid_shape:
            raise UsageError(
                f"active mask of shape {self.active_mask.shape} does not fit the grid {self.grid_shape}"
            )
        active = int(np.count_nonzero(self.active_mask))
        if active != self.n_bins:
            raise UsageError(f"the active mask has {active} active cells, but there are {self.n_bins} bins")

    @property
    def is_image(self) -> bool:
        """Whether a field on it is drawn as an image: a grid of two dimensions."""
        return self.grid_shape is not None and len(self.grid_shape) == 2

    def describe(self) -> dict[str, JSON]:
        """The `geometry` entry of ``attrs.lazystore``."""
        return {
            "type": self.type,
            "grid_shape": None if self.grid_shape is None else list(self.grid_shape),
            "n_bins": self.n_bins,
            "n_dims": self.n_dims,
            "units": self.units,
            "extent": None if self.extent is None else [list(pair) for pair in self.extent],
        }

    @classmethod
    def from_item(cls, attributes: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Geometry:
        """The geometry of a stored item.

        Parameters
        ----------
        attributes
            What `describe` gave: the item's ``attrs.lazystore["geometry"]``.
        arrays
            The side arrays at ``"geometry/bin_centers"`` and, for a grid, ``"geometry/active_mask"``.

        Raises
        ------
        UsageError
            If an entry is missing or the sizes contradict each other.
        """
        try:
            grid_shape, extent = attributes["grid_shape"], attributes["extent"]
            mask = arrays[ACTIVE_MASK_PATH] if attributes["type"] == "grid" else None
            return cls(
                type=str(attributes["type"]),
                n_bins=int(attributes["n_bins"]),
                n_dims=int(attributes["n_dims"]),
                bin_centers=np.asarray(arrays[BIN_CENTERS_PATH], dtype=np.float64),
                grid_shape=None if grid_shape is None else tuple(int(size) for size in grid_shape),
                active_mask=None if mask is None else np.asarray(mask, dtype=np.bool_),
                units=str(attributes["units"] or ""),
                extent=None if extent is None else tuple((float(low), float(high)) for low, high in extent),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f"the item's geometry is not readable: {error!r}; convert it again with env="
            ) from error

    def check_field_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse a field (time, bin) or (time, y, x) whose frames have another number of bins.

        Raises
        ------
        SourceError
            With both numbers.
        """
        if len(shape) == 2:
            if shape[1] != self.n_bins:
                raise SourceError(
                    f"the field has {shape[1]} bins, but the environment has {self.n_bins}; "
                    "pass the environment that the field was computed on"
                )
            return
        frame = tuple(shape[1:])
        if self.grid_shape is None or sorted(frame) != sorted(self.grid_shape):
            cells = "no grid" if self.grid_shape is None else f"a grid of {self.grid_shape}"
            raise SourceError(
                f"the field has frames of {frame} ({math.prod(frame)} values), but the environment has "
                f"{cells} with {self.n_bins} bins; pass the environment that the field was computed on"
            )
