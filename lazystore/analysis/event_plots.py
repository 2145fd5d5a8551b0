"""Pictures of an event recording for the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lazystore.dataset import open_own
from lazystore.errors import MissingExtraError, UsageError
from lazystore.events.modes import Count
from lazystore.events.stream import EventStream

MODES = ("count", "signed", "polarity")


def draw_rate(store: str, item: str, path: Path) -> None:
    """Events a second over session time, ON above and OFF below zero.

    Raises
    ------
    UsageError
        If the item is no event recording, or the picture cannot be written there.
    """
    with open_own(store) as opened:
        stream = _stream(opened, item)
        rate = stream.rate()
        seconds = np.asarray(stream.clock.to_session(np.asarray(rate.t) / 1e6))
        figure, axes = _figure(9.0, 3.2)
        scale = 1e6 / rate.step_us / 1e3
        axes.fill_between(seconds, np.asarray(rate.on) * scale, step="post", color="tab:red", label="ON")
        axes.fill_between(
            seconds, -(np.asarray(rate.off) * scale), step="post", color="tab:blue", label="OFF"
        )
        axes.set(
            xlabel="session time (s)", ylabel="events (thousand/s)", title=f"{item}: {len(stream):,} events"
        )
        axes.axhline(0, color="0.3", lw=0.6)
        axes.legend(loc="upper right")
        save_picture(figure, path)


def draw_frame(
    store: str, item: str, path: Path, *, start_s: float | None, duration_s: float, mode: str
) -> None:
    """The events of [start, start + duration) in session seconds, accumulated.

    Raises
    ------
    UsageError
        If the item is no event recording, the mode unknown, or the duration not above 0.
    """
    if mode not in MODES:
        raise UsageError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    if not duration_s > 0:
        raise UsageError(f"duration {duration_s!r} s is not above 0")
    with open_own(store) as opened:
        stream = _stream(opened, item)
        if start_s is None:
            start_s = float(stream.clock.to_session((stream.t_start + stream.t_stop) / 2e6))
        window = stream.window(start_s, start_s + duration_s, unit="s")
        width, height = stream.sensor
        counts = Count(by_polarity=True, counts="u4").frame(window).astype(np.int64)
        figure, axes = _figure(7.0, 7.0 * height / width + 0.7)
        off, on = counts
        if mode == "count":
            image = axes.imshow(off + on, cmap="magma", interpolation="nearest")
        elif mode == "signed":
            limit = max(1, int(np.abs(on - off).max()))
            image = axes.imshow(on - off, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        else:
            shades = np.where(off > 0, 0, np.where(on > 0, 255, 127))
            image = axes.imshow(shades, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        figure.colorbar(
            image, ax=axes, shrink=0.8, label={"count": "events", "signed": "ON - OFF"}.get(mode, "grey")
        )
        axes.set_title(f"{item}: {len(window.t):,} events in {duration_s * 1e3:g} ms from {start_s:.4f} s")
        save_picture(figure, path)


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure; UsageError for an ending or a folder that there is not."""
    endings = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in endings:
        raise UsageError(
            f"picture {str(path)!r} ends in no format there is; expected for example .png or .svg"
        )
    if not path.parent.is_dir():
        raise UsageError(f"picture {str(path)!r} cannot be written: there is no folder {str(path.parent)!r}")
    figure.savefig(path, dpi=110)


def _stream(opened: Any, item: str) -> EventStream:
    stream = opened.get(item)
    if not isinstance(stream, EventStream):
        known = [name for name, record in opened.records.items() if record.kind == "events"]
        raise UsageError(f"{item!r} is no event recording of {opened.location.url}; it holds: {known}")
    return stream


def _figure(width: float, height: float) -> tuple[Any, Any]:
    figure = empty_figure(width, height)
    return figure, figure.add_subplot()


def empty_figure(width: float, height: float) -> Any:
    """A figure of so many inches, without a screen; MissingExtraError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            f'pictures need matplotlib: pip install "lazystore[plot]" ({error})'
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
