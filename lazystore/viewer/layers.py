"""A store's items as layers, in plain data: what to show, when, where, in which colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.dataset import Store
from lazystore.errors import unknown_item
from lazystore.geometry import ACTIVE_MASK_PATH, BIN_CENTERS_PATH, Geometry
from lazystore.render.scalar import ScalarFieldImages
from lazystore.viewer.timeline import DEFAULT_STEP_S, ListedSamples, RegularSamples, Samples

# In the order they are stacked, the lowest first.
SHOWN_KINDS = ("video", "stack", "field", "events", "tracks")
# Signed counts of one step rarely exceed this; a fixed limit keeps one meaning of a colour.
EVENT_LIMIT = 3.0
EVENT_COLORMAP = "lazystore-signed"
# float32 percentiles of a field leave out what one hot bin does to the colours.
FIELD_PERCENTILES = (1.0, 99.9)


@dataclass(frozen=True, slots=True, eq=False)
class LayerSpec:
    """One layer.

    Attributes
    ----------
    name, kind
        The item.
    data
        A movie (time, y, x[, 3]), or positions (time, individual, keypoint, space).
    samples
        When its records were taken.
    is_rgb
        Whether the last axis is colour.
    contrast_limits
        (low, high) for scalars; None for colour and points.
    colormap
        Name of a napari colour map, or `EVENT_COLORMAP`: OFF blue, none clear, ON red.
    affine
        Shape (3, 3): (row, column, 1) of a pixel to world (y, x, 1); points are in the world.
    units
        Unit of the world: ``"cm"``, ``"px"``.
    """

    name: str
    kind: str
    data: Any
    samples: Samples
    is_rgb: bool
    contrast_limits: tuple[float, float] | None
    colormap: str
    affine: NDArray[np.float64]
    units: str

    @property
    def is_points(self) -> bool:
        """Whether it is drawn as points."""
        return self.kind == "tracks"


def layers_of(
    store: Store, items: Sequence[str] | None = None, *, rate_hz: float | None = None
) -> tuple[list[LayerSpec], list[str]]:
    """The layers of a store's items, movies first, and a note for each item that is none.

    Raises
    ------
    UnknownItemError
        If there is no such item.
    """
    unknown = [name for name in items or () if name not in store]
    if unknown:
        raise unknown_item(unknown[0], store.location.url, store)
    names = list(items) if items is not None else list(store)
    notes = [
        f"{name}: {store.records[name].kind} is not drawn"
        for name in names
        if store.records[name].kind not in SHOWN_KINDS
    ]
    shown = [name for name in names if store.records[name].kind in SHOWN_KINDS]
    shown.sort(key=lambda name: SHOWN_KINDS.index(store.records[name].kind))
    specs: list[LayerSpec] = []
    for name in shown:
        if store.records[name].kind == "events":
            intervals = [spec.samples.interval_s for spec in specs if spec.samples.interval_s > 0]
            step_s = 1 / rate_hz if rate_hz else min(intervals, default=DEFAULT_STEP_S)
            specs.append(_events_layer(store, name, step_s))
        else:
            specs.append(_layer(store, name))
    return specs, notes


def _samples(store: Store, name: str) -> Samples:
    """Regular axes from the attributes alone; others read their times."""
    regular = store.records[name].attributes.get("time")
    if regular:
        return RegularSamples(float(regular["start"]), float(regular["step"]), int(regular["size"]))
    return ListedSamples(np.asarray(store[name].coords["time"]))


def _layer(store: Store, name: str) -> LayerSpec:
    record, array = store.records[name], store[name]
    samples = _samples(store, name)
    affine, units = _affine(record.attributes.get("transform"))
    if record.kind == "tracks":
        unit = str(array.attrs.get("units", "px"))
        return LayerSpec(name, "tracks", array, samples, False, None, "", affine, unit)
    if record.kind == "field" and "geometry" in record.attributes:
        paths = [path for path in (ACTIVE_MASK_PATH, BIN_CENTERS_PATH) if path in record.documents]
        arrays = {path: store.array_values(name, path) for path in paths}
        geometry = Geometry.from_item(record.attributes["geometry"], arrays)
        low, high = array.range(percentile=FIELD_PERCENTILES)
        movie = ScalarFieldImages(geometry, array, contrast_limits=_open_range(low, high))
        placed = _geometry_affine(geometry)
        return LayerSpec(
            name,
            "field",
            movie,
            samples,
            False,
            _open_range(low, high),
            "viridis",
            placed,
            geometry.units or "px",
        )
    is_rgb = array.ndim == 4 and array.shape[3] in (3, 4)
    if is_rgb and array.dtype.itemsize == 1:
        return LayerSpec(name, record.kind, array, samples, True, None, "", affine, units)
    low, high = array.range()
    colormap = "viridis" if record.kind == "field" else "gray"
    return LayerSpec(
        name, record.kind, array, samples, is_rgb, _open_range(low, high), colormap, affine, units
    )


def _events_layer(store: Store, name: str, step_s: float) -> LayerSpec:
    frames = store[name].frames(max(1, round(step_s * 1e6)), unit="us", mode="signed")
    samples = ListedSamples(np.asarray(frames.coords["time"]))
    affine, units = _affine(store.records[name].attributes.get("transform"))
    return LayerSpec(
        name, "events", frames, samples, False, (-EVENT_LIMIT, EVENT_LIMIT), EVENT_COLORMAP, affine, units
    )


def _open_range(low: float, high: float) -> tuple[float, float]:
    low, high = float(low), float(high)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _affine(transform: Any) -> tuple[NDArray[np.float64], str]:
    """An item's transform, (x, y) in pixels to the world, in napari's order of axes."""
    if not transform:
        return np.eye(3), "px"
    (a, b, c), (d, e, f) = transform["matrix"]
    return np.array([[e, d, f], [b, a, c], [0.0, 0.0, 1.0]]), str(transform["units"])


def _geometry_affine(geometry: Geometry) -> NDArray[np.float64]:
    """Where the image of a grid lies: its first row is the top, at the largest y."""
    if geometry.extent is None or geometry.grid_shape is None or len(geometry.grid_shape) != 2:
        return np.eye(3)
    (x0, x1), (y0, y1) = geometry.extent
    dx, dy = (x1 - x0) / geometry.grid_shape[0], (y1 - y0) / geometry.grid_shape[1]
    return np.array([[-dy, 0.0, y1 - dy / 2], [0.0, dx, x0 + dx / 2], [0.0, 0.0, 1.0]])
