"""Run by test_neurospatial_facade in a process of its own, on a screen; prints what it saw as JSON."""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray


class CountingFields:
    """Lazy fields that know their range and note which frames are read."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> NDArray[Any]:
        self.reads.append(index)
        return self.values[index]

    def range(self) -> tuple[float, float]:
        return float(self.values.min()), float(self.values.max())


def environment() -> Any:
    from neurospatial import Environment

    mask = np.add.outer((np.arange(30) - 15) ** 2, (np.arange(40) - 20) ** 2) < 200
    return Environment.from_grid_mask(mask, grid_edges=(np.arange(31.0), np.arange(41.0)))


def picture_at(viewer: Any, frame: int) -> NDArray[np.uint8]:
    """The canvas once it has come to rest: on a busy machine layouts and overlays lag behind a step."""
    from qtpy.QtWidgets import QApplication

    # napari remembers the size of the window before: the same one for all, then the same view.
    viewer.window.resize(1000, 700)
    QApplication.processEvents()
    viewer.reset_view()
    viewer.dims.set_current_step(0, frame)
    last = None
    for _ in range(30):
        QApplication.processEvents()
        time.sleep(0.05)
        picture = np.asarray(viewer.screenshot(canvas_only=True, flash=False))
        if last is not None and np.array_equal(picture, last):
            break
        last = picture
    return picture


def main() -> dict[str, Any]:
    warnings.simplefilter("ignore")  # napari's and neurospatial's own, at import and at each viewer
    # Not at the top: pytest imports every file here to look for doctests.
    from neurospatial.animation import HeadDirectionOverlay, PositionOverlay, core

    import lazystore.neurospatial
    from lazystore.geometry import Geometry

    env, rng = environment(), np.random.default_rng(0)
    values = rng.random((200, env.n_bins)).astype("f4")
    times = np.arange(200) / 30
    path = np.cumsum(rng.normal(size=(200, 2)), axis=0) + np.array([15, 20])
    overlays = [
        PositionOverlay(positions=path, times=times),
        HeadDirectionOverlay(headings=times, times=times),
    ]
    given = {"frame_times": times, "backend": "napari", "overlays": overlays, "scale_bar": True}
    seen: dict[str, Any] = {}

    theirs = core.animate_fields(env, values, **given)
    expected = picture_at(theirs, 77)
    theirs.close()

    fields = CountingFields(values)
    ours = lazystore.neurospatial.animate_fields(env, fields, **given)
    layer = ours.layers["Spatial Fields"]
    opened = len(fields.reads)
    pictures = [picture_at(ours, frame) for frame in (77, 78, 77)]
    seen["renderer"] = type(layer.data).__module__
    seen["reads_to_open"], seen["distinct_reads"] = opened, sorted(set(fields.reads))
    seen["reads_of_shown"] = [fields.reads[opened:].count(frame) for frame in (77, 78)]
    seen["same_picture"] = bool(
        np.array_equal(pictures[0], expected) and np.array_equal(pictures[2], expected)
    )
    seen["pictures_differ"] = not np.array_equal(pictures[0], pictures[1])
    seen["colours"] = len(np.unique(expected.reshape(-1, 4), axis=0))
    seen["layers"] = sorted(one.name for one in ours.layers)
    seen["slider"] = [int(ours.dims.nsteps[0]), ours.playback_controller.n_frames]
    ours.close()

    shape, extent = tuple(env.layout.grid_shape), tuple(env.dimension_ranges)
    geometry = Geometry(
        "grid", env.n_bins, 2, env.bin_centers, shape, env.layout.active_mask, env.units or "", extent
    )
    stored = lazystore.neurospatial.animate_fields(geometry, CountingFields(values), **given)
    seen["same_picture_from_geometry"] = bool(np.array_equal(picture_at(stored, 77), expected))
    stored.close()

    several = [CountingFields(values), CountingFields(values * 2)]
    viewer = lazystore.neurospatial.animate_fields(
        env, several, frame_times=times, backend="napari", layout="horizontal", layer_names=["a", "b"]
    )
    viewer.dims.set_current_step(0, 50)
    seen["several"] = {one.name: type(one.data).__module__ for one in viewer.layers}
    seen["several_limits"] = [[float(one.data.vmin), float(one.data.vmax)] for one in viewer.layers]
    seen["several_reads"] = [sorted(set(fields.reads)) for fields in several]
    viewer.close()
    return seen


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
