"""One picture: what every item of the store shows at the same session second."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.dataset import Store
from lazystore.errors import MissingExtraError
from lazystore.geometry import ACTIVE_MASK_PATH, BIN_CENTERS_PATH, Geometry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EVENT_WINDOW_S = 0.04
TRAIL_S = 4.0


def draw_session(store: Store, session_s: float, path: Path) -> None:
    """Write the picture as PNG.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            f'the picture needs matplotlib: pip install "lazystore[all]" ({error})'
        ) from error
    figure = Figure(figsize=(11, 6.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(f"One session second, four recordings: t = {session_s:.2f} s", fontsize=13)
    grid = figure.add_gridspec(3, 3, height_ratios=(3, 1, 0.05))
    field, video, events = (figure.add_subplot(grid[0, column]) for column in range(3))
    _draw_field(field, store, session_s)
    _draw_video(video, store, session_s)
    _draw_events(events, store, session_s)
    for axes in (field, video, events):
        _draw_track(axes, store, session_s)
        axes.set(xlim=(0, 100), ylim=(0, 80), aspect="equal", xlabel="x (cm)")
    field.set_ylabel("y (cm)")
    _draw_series(figure.add_subplot(grid[1, :]), store, session_s)
    figure.savefig(path, dpi=90)


def field_image(store: Store, session_s: float) -> tuple[NDArray[np.float64], Geometry]:
    """The place field at a second on its grid, shape (grid_x, grid_y), NaN outside the arena."""
    record = store.records["place_field"]
    arrays = {path: store.array_values("place_field", path) for path in (ACTIVE_MASK_PATH, BIN_CENTERS_PATH)}
    geometry = Geometry.from_item(record.attributes["geometry"], arrays)
    values = store["place_field"].sel(time=session_s, method="nearest")
    assert geometry.active_mask is not None
    image = np.full(geometry.active_mask.shape, np.nan)
    image[geometry.active_mask] = values
    return image, geometry


def _draw_field(axes: Axes, store: Store, session_s: float) -> None:
    image, geometry = field_image(store, session_s)
    low, high = store["place_field"].range(percentile=(1, 99.9))
    (x0, x1), (y0, y1) = geometry.extent or ((0, 1), (0, 1))
    axes.imshow(image.T, origin="lower", extent=(x0, x1, y0, y1), vmin=low, vmax=high, cmap="viridis")
    axes.set_title("place_field (25 Hz, starts at 3.0 s)", fontsize=10)


def _draw_video(axes: Axes, store: Store, session_s: float) -> None:
    frame = store["mouse"].sel(time=session_s, method="nearest")
    matrix = np.array(store.records["mouse"].attributes["transform"]["matrix"])
    x0, y1 = matrix @ (0, 0, 1)
    x1, y0 = matrix @ (frame.shape[1], frame.shape[0], 1)
    axes.imshow(frame, extent=(x0, x1, y0, y1), cmap="gray")
    axes.set_title("mouse.mp4 (30 Hz, starts at 1.5 s)", fontsize=10)


def _draw_events(axes: Axes, store: Store, session_s: float) -> None:
    stream = store["drone"]
    half = EVENT_WINDOW_S / 2
    window = stream.window(session_s - half, session_s + half, unit="s")
    matrix = np.array(store.records["drone"].attributes["transform"]["matrix"])
    x, y = matrix @ np.stack([window.x, window.y, np.ones(len(window.t))])
    for polarity, color in ((0, "tab:blue"), (1, "tab:red")):
        chosen = np.asarray(window.p) == polarity
        axes.plot(x[chosen], y[chosen], ".", ms=2.5, color=color, label=("OFF", "ON")[polarity])
    axes.set_facecolor("0.94")
    axes.legend(loc="upper right", fontsize=8, markerscale=3)
    axes.set_title(f"drone.h5 events (±{half * 1e3:.0f} ms, own clock)", fontsize=10)


def _draw_track(axes: Axes, store: Store, session_s: float) -> None:
    trail = store["trajectory"].sel(time=slice(session_s - TRAIL_S, session_s)).load()
    places = trail.reshape(len(trail), -1, trail.shape[-1])[:, 0]
    axes.plot(places[:, 0], places[:, 1], "-", color="white", lw=2.5, alpha=0.8)
    axes.plot(places[:, 0], places[:, 1], "-", color="tab:orange", lw=1.3)
    axes.plot(*places[-1], "o", mfc="none", mec="tab:orange", ms=13, mew=2)


def _draw_series(axes: Axes, store: Store, session_s: float) -> None:
    """Event rate over the whole recording, and the span that each recording covers."""
    stream: Any = store["drone"]
    rate = stream.rate()
    times = np.asarray(stream.clock.to_session(np.asarray(rate.t) / 1e6))
    axes.plot(times, rate.per_second / 1e3, color="0.35", lw=0.8)
    axes.set(ylabel="events (thousand/s)", xlabel="session time (s)", ylim=(0, None))
    top = axes.get_ylim()[1]
    for row, name in enumerate(("place_field", "mouse", "trajectory")):
        span = np.asarray(store[name].coords["time"])[[0, -1]]
        axes.plot(span, [top * (0.12 + 0.13 * row)] * 2, lw=5, solid_capstyle="butt", label=name)
    axes.axvline(session_s, color="tab:orange")
    axes.legend(loc="lower right", fontsize=8, ncols=3)
    axes.set_title("event rate of drone.h5, and what the others cover", fontsize=10)
