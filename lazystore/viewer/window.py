"""Layers into a napari window; the only module that knows napari."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import napari
import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt, QThread, QTimer
from qtpy.QtWidgets import QLabel

from lazystore.dataset import Store
from lazystore.viewer.aligned import AlignedMovie
from lazystore.viewer.layers import EVENT_COLORMAP, LayerSpec, layers_of
from lazystore.viewer.scrub import Scrub, ScrubbedMovie, has_pictures
from lazystore.viewer.timeline import Timeline, timeline_of

logger = logging.getLogger("lazystore")
POINT_SIZE_SHARE = 0.04
FIELD_OPACITY = 0.6
# A frame that nobody waits for any more is decoded to its end; the next one starts beside it.
READ_THREADS = 2
# How late a frame may be that is there already.
LOOK_EVERY_MS = 4
LABEL_NAME = "lazystore-seconds"
LABEL_STYLE = "color: white; background: rgba(0, 0, 0, 150); padding: 3px 6px;"


def _has_event_loop() -> bool:
    """Whether the calling thread returns to an event loop, so that it can show a frame later.

    A script that moves the slider and takes pictures does not, and gets exact frames.
    """
    return bool(QThread.currentThread().loopLevel() > 0)


def open_viewer(
    store: Store, items: Sequence[str] | None, *, rate_hz: float | None, show: bool, scrub: Scrub
) -> napari.Viewer:
    """A viewer with a layer an item; see `lazystore.viewer.view`."""
    specs, notes = layers_of(store, items, rate_hz=rate_hz)
    for note in notes:
        logger.info(note)
    timeline = timeline_of([spec.samples for spec in specs], rate_hz)
    viewer = napari.Viewer(title=f"lazystore: {store.location.url}", show=show)
    worlds = {spec.units for spec in specs}
    executor = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="lazystore-scrub")
    viewer.window._qt_window.destroyed.connect(lambda: executor.shutdown(wait=False, cancel_futures=True))
    for spec in specs:
        if spec.is_points:
            _add_points(viewer, spec, timeline, worlds)
        elif scrub == "overview" and has_pictures(spec.data):
            _add_scrubbed(viewer, spec, timeline, worlds, executor)
        else:
            _add_movie(viewer, spec, timeline, worlds)
    viewer.dims.axis_labels = ("time", "y", "x")
    if any(spec.affine[0, 0] < 0 for spec in specs):
        # A world whose y points up; images alone keep napari's y, which points down.
        viewer.camera.orientation2d = ("up", "right")
    # Pixels of one camera and centimetres have no place in common: side by side then.
    viewer.canvas.grid.enabled = len(worlds) > 1
    viewer.dims.set_current_step(0, 0)
    viewer.reset_view()
    if not all(spec.is_points for spec in specs):
        _show_seconds(viewer, timeline)
    return viewer


def _show_seconds(viewer: napari.Viewer, timeline: Timeline) -> None:
    """The session second in a corner: napari's slider counts steps.

    Text that OpenGL draws has its shaders linked anew at every change, which took as long as all else of a
    step (24 instead of 12 ms, drawn in software); so it is a label. Pictures of the canvas do not show it:
    for those napari's own text overlay says the same once somebody makes it visible.
    """
    label = QLabel(viewer.window._qt_window._qt_viewer.canvas.native)
    label.setObjectName(LABEL_NAME)
    label.setStyleSheet(LABEL_STYLE)
    label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    overlay, moved = viewer.canvas.overlays.text, viewer.dims.events.current_step

    def show(_: Any = None) -> None:
        text = f"{timeline.second(viewer.dims.current_step[0]):.3f} s"
        label.setText(text)
        label.adjustSize()
        if overlay.visible:
            overlay.text = text

    moved.connect(show)
    overlay.events.visible.connect(show)
    label.destroyed.connect(lambda: moved.disconnect(show))
    show()
    label.show()


def _placed(spec: LayerSpec) -> NDArray[np.float64]:
    """The affine of (time, y, x): time is placed by scale and translate alone."""
    affine = np.eye(4)
    affine[1:, 1:] = spec.affine
    return affine


def _units(spec: LayerSpec, worlds: set[str]) -> tuple[str, str, str]:
    # Layers of one window must agree on a unit; centimetres beside pixels are both drawn as numbers.
    unit = spec.units if len(worlds) == 1 else "px"
    return "second", *(("pixel", "pixel") if unit in ("px", "") else (unit, unit))


def _add_scrubbed(
    viewer: napari.Viewer, spec: LayerSpec, timeline: Timeline, worlds: set[str], executor: Executor
) -> None:
    """A movie that shows a small picture until a jump's frame is there."""
    # The window's own: it goes with it. While a frame is on its way, and only then.
    timer = QTimer(viewer.window._qt_window)
    timer.setInterval(LOOK_EVERY_MS)
    movie = ScrubbedMovie(spec.data, executor, _has_event_loop, timer.start)
    layer = _add_movie(viewer, replace(spec, data=movie), timeline, worlds)

    def look() -> None:
        if movie.has_arrived:
            timer.stop()
            layer.refresh(extent=False)

    timer.timeout.connect(look)


def _add_movie(viewer: napari.Viewer, spec: LayerSpec, timeline: Timeline, worlds: set[str]) -> Any:
    movie = AlignedMovie(spec.data, spec.samples, timeline)
    colours: dict[str, Any] = (
        {"rgb": True}
        if spec.is_rgb
        else {"contrast_limits": spec.contrast_limits, "colormap": _colormap(spec.colormap)}
    )
    return viewer.add_image(
        movie,
        name=spec.name,
        scale=(timeline.step_s, 1.0, 1.0),
        translate=(timeline.start_s, 0.0, 0.0),
        affine=_placed(spec),
        units=_units(spec, worlds),
        axis_labels=("time", "y", "x"),
        # A field over a video lets it shine through.
        opacity=FIELD_OPACITY if spec.kind == "field" and len(viewer.layers) else 1.0,
        multiscale=False,
        **colours,
    )


def _colormap(name: str) -> Any:
    if name != EVENT_COLORMAP:
        return name
    colors = [[0.15, 0.45, 1.0, 1.0], [0.5, 0.5, 0.5, 0.0], [1.0, 0.25, 0.1, 1.0]]
    return napari.utils.Colormap(colors, name=EVENT_COLORMAP)


def _add_points(viewer: napari.Viewer, spec: LayerSpec, timeline: Timeline, worlds: set[str]) -> None:
    """Positions at the slider's second: a few points, replaced at each step."""

    def positions() -> NDArray[np.float64]:
        # Before the first movie is there, napari has no slider.
        step = viewer.dims.current_step[0] if viewer.dims.ndim == 3 else 0
        index = spec.samples.nearest(timeline.second(step))
        if index is None:
            return np.empty((0, 2))
        places = np.asarray(spec.data[index], np.float64).reshape(-1, spec.data.shape[-1])[:, :2]
        return places[np.isfinite(places).all(axis=1)][:, ::-1]

    _, _, unit = _units(spec, worlds)
    extent = viewer.layers.extent.world if len(viewer.layers) else np.array([[0, 0, 0], [0, 100, 100]])
    size = float(np.ptp(extent[:, -2:], axis=0).max()) * POINT_SIZE_SHARE
    layer = viewer.add_points(
        positions(),
        name=spec.name,
        ndim=2,
        size=max(size, 1e-6),
        face_color="transparent",
        border_color="orange",
        border_width=0.2,
        units=(unit, unit),
        axis_labels=("y", "x"),
    )

    def move(_: Any = None) -> None:
        layer.data = positions()

    viewer.dims.events.current_step.connect(move)
    move()
