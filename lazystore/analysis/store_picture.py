"""A store at a glance: small pictures of each item in session seconds, and its values over time."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.analysis.event_plots import empty_figure, save_picture
from lazystore.array.lazy_array import LazyArray
from lazystore.dataset import Store, open_own
from lazystore.errors import UsageError, unknown_item
from lazystore.events.stream import EventStream
from lazystore.overviews.levels import is_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS = (".png", ".svg", ".pdf")
N_PICTURES = 8
# A curve has at most this many places; each stands for the mean and the extremes of its frames.
MAX_PLACES = 1500
# More lines than this cannot be told apart.
MAX_LINES = 8
# The same of units, and of the ticks of one row.
MAX_ROWS, MAX_TICKS = 64, 20_000
# A step of time that is so many times longer than the others is a pause.
PAUSE_STEPS = 50
# Of the span of all items: one that covers less has an axis of its own.
LEAST_SHARE = 0.2
# Longer side of a picture in the strip, in pixels.
PICTURE_SIDE = 128
STRIP_INCHES, CURVE_INCHES = 1.5, 1.5
LEGEND: dict[str, Any] = {"loc": "upper right", "fontsize": 7, "ncols": 4, "framealpha": 0.7}


def draw_store(store: str, item: str | None, path: Path) -> None:
    """Write a picture of all items of a store, or of one.

    Raises
    ------
    UsageError
        For an item that the store does not have, a store without items, another ending than .png,
        .svg or .pdf, or a folder that is not there.
    MissingExtraError
        If matplotlib is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"picture {str(path)!r} does not end in one of {', '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise UsageError(f"picture {str(path)!r} cannot be written: there is no folder {str(path.parent)!r}")
    with open_own(store) as opened:
        if item is not None and item not in opened:
            raise unknown_item(item, opened.location.url, opened)
        names = list(opened) if item is None else [item]
        if not names:
            raise UsageError(f"{opened.location.url} has no item to draw")
        strips = {name: _strip(opened, name) for name in names}
        heights = [CURVE_INCHES + (STRIP_INCHES if strips[name] else 0.0) for name in names]
        figure = empty_figure(11.0, sum(heights) + 0.3)
        # One part an item; figures of one part come bare.
        parts = np.atleast_1d(figure.subfigures(len(names), 1, height_ratios=heights))
        curves = []
        for part, name in zip(parts, names, strict=True):
            curves.append(_draw_item(part, opened, name, strips[name]))
        timed = [axes for axes in curves if axes.get_xlabel().startswith("session")]
        _align(timed)
        save_picture(figure, path)


def _align(curves: list[Axes]) -> None:
    """One span of seconds for all curves, unless one of them could not be seen in it."""
    spans = [(axes.dataLim.x0, axes.dataLim.x1) for axes in curves]
    if not spans:
        return
    low, high = min(start for start, _ in spans), max(stop for _, stop in spans)
    if min(stop - start for start, stop in spans) < LEAST_SHARE * (high - low):
        return
    margin = 0.01 * (high - low) or 0.5
    for axes in curves:
        axes.set_xlim(low - margin, high + margin)


# --- pictures -------------------------------------------------------------------------------------

type Strip = list[tuple[float | None, NDArray[Any]]]
"""Session seconds (None: unknown) and picture."""


def _strip(store: Store, name: str) -> Strip:
    item = store[name]
    if isinstance(item, EventStream):
        return _event_strip(store, name, item)
    if not isinstance(item, LazyArray) or item.dtype.kind not in "biuf" or 0 in item.shape:
        return []
    n_channels = item.shape[3] if item.ndim == 4 else 3
    if not is_image(item.dims) or n_channels not in (1, 3, 4) or len(item.missing_frames) == len(item):
        return []
    pictures = item.preview(N_PICTURES, min(1.0, PICTURE_SIDE / max(item.shape[1:3])))
    seconds = pictures.coords["time"] if "time" in pictures.coords else [None] * len(pictures)
    return [
        (None if at is None else float(at), np.asarray(picture))
        for at, picture in zip(seconds, pictures, strict=True)
    ]


def _event_strip(store: Store, name: str, stream: EventStream) -> Strip:
    specs = store.specs(name)
    if not len(stream) or "summary/preview" not in specs:
        return []
    counts = store[f"{name}/summary/preview"]
    start, stop = (store.array_values(name, f"summary/preview_t_{end}") for end in ("start", "stop"))
    middles = np.asarray(stream.clock.to_session((start + (stop - start) / 2) / 1e6))
    places = np.unique(np.rint(np.linspace(0, len(counts) - 1, min(N_PICTURES, len(counts)))).astype(int))
    return [(float(middles[place]), np.asarray(counts[int(place)])) for place in places]


def _draw_strip(axes: list[Axes], strip: Strip) -> None:
    values = np.concatenate([np.ravel(picture) for _, picture in strip]).astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99.5)) if finite.size else (0.0, 1.0)
    for one, (seconds, picture) in zip(axes, strip, strict=False):
        is_color = picture.ndim == 3 and picture.shape[2] in (3, 4)
        if is_color and picture.dtype != np.uint8:
            scaled = (picture.astype(np.float64) - low) / (high - low or 1.0)
            picture = np.clip(np.nan_to_num(scaled), 0, 1)
        elif not is_color:
            picture = picture.reshape(picture.shape[:2]).astype(np.float64)
        one.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest")
        one.set_title("" if seconds is None else f"{seconds:.2f} s", fontsize=8)
    for one in axes:
        one.set_axis_off()


# --- curves ---------------------------------------------------------------------------------------


def _draw_item(part: Any, store: Store, name: str, strip: Strip) -> Axes:
    kind = store.records[name].kind
    part.suptitle(f"{name} ({kind})", fontsize=10, x=0.01, ha="left")
    if strip:
        grid = part.add_gridspec(2, N_PICTURES, height_ratios=(STRIP_INCHES, CURVE_INCHES))
        _draw_strip([part.add_subplot(grid[0, column]) for column in range(N_PICTURES)], strip)
        curve: Axes = part.add_subplot(grid[1, :])
    else:
        curve = part.add_subplot()
    curve.tick_params(labelsize=8)
    _draw_curve(curve, store, name)
    for seconds, _ in strip:
        if seconds is not None:
            curve.plot([seconds], [1.0], "v", ms=4, color="0.3", transform=curve.get_xaxis_transform(),
                       clip_on=False, scalex=False)  # fmt: skip
    curve.xaxis.label.set_fontsize(8)
    curve.yaxis.label.set_fontsize(8)
    return curve


def _draw_curve(axes: Axes, store: Store, name: str) -> None:
    item, kind = store[name], store.records[name].kind
    if isinstance(item, EventStream):
        if len(item):
            rate = item.rate()
            seconds = np.asarray(item.clock.to_session(np.asarray(rate.t) / 1e6))
            edges = _edges(len(seconds))
            per_place = np.add.reduceat(rate.per_second, edges) / np.diff(edges, append=len(seconds))
            axes.plot(seconds[edges], per_place / 1e3, lw=0.9, color="tab:blue")
        axes.set(xlabel="session time (s)", ylabel="events\n(thousand/s)", ylim=(0, None))
    elif kind == "intervals":
        _draw_intervals(axes, store, name)
    elif kind == "spikes":
        _draw_spikes(axes, store, name)
    elif item.ndim == 0 or not len(item):
        axes.set(yticks=[], ylabel="no frames")
    elif kind in ("tracks", "series"):
        _draw_lines(axes, item)
    else:
        _draw_intensity(axes, item)


def _draw_intervals(axes: Axes, store: Store, name: str) -> None:
    """Bars, a colour a label."""
    starts, stops = (store.array_values(name, path) for path in ("start", "stop"))
    has_labels = "label" in store.specs(name)
    labels = store.array_values(name, "label") if has_labels else np.full(len(starts), "")
    known = sorted(set(labels.tolist()))
    for number, label in enumerate(known):
        mine = labels == label
        bars = list(zip(starts[mine], (stops - starts)[mine], strict=True))
        axes.broken_barh(bars, (0, 1), color=f"C{number % 10}", alpha=0.6, label=str(label))
    if has_labels and 0 < len(known) <= MAX_LINES:
        axes.legend(**LEGEND)
    axes.set(xlabel="session time (s)", yticks=[])


def _draw_spikes(axes: Axes, store: Store, name: str) -> None:
    """A row of ticks a unit; of more than can be told apart, how many there are a second."""
    seconds = store.array_values(name, "spike_time")
    units = store.array_values(name, "unit") if "unit" in store.specs(name) else np.zeros(len(seconds))
    known, rows = np.unique(units, return_inverse=True)
    axes.set_xlabel("session time (s)")
    if len(known) <= MAX_ROWS and len(seconds) <= MAX_TICKS:
        axes.plot(seconds, rows, "|", color="0.2", ms=max(1.0, 60 / max(8, len(known))))
        shown = range(0, len(known), max(1, len(known) // 6))
        axes.set(ylabel="unit", ylim=(-0.6, len(known) - 0.4))
        axes.set_yticks(list(shown), [str(known[row]) for row in shown])
        return
    counts, borders = np.histogram(seconds, bins=200)
    axes.stairs(counts / np.diff(borders), borders, fill=True, color="0.35")
    axes.set_ylabel(f"spikes/s\n{len(known)} units" if len(known) > 1 else "spikes/s")


def _edges(n: int) -> NDArray[np.intp]:
    """Where each place of a curve over `n` values, at least 1, begins."""
    return np.unique(np.linspace(0, n, min(n, MAX_PLACES) + 1).astype(np.intp))[:-1]


def _time_of(axes: Axes, item: LazyArray) -> NDArray[np.float64]:
    has_time = "time" in item.coords
    axes.set_xlabel("session time (s)" if has_time else "frame")
    return np.asarray(item.coords["time"] if has_time else np.arange(len(item)), np.float64)


def _draw_lines(axes: Axes, item: LazyArray) -> None:
    times = _time_of(axes, item)
    # Values between those drawn are left out, and the label says so.
    step = max(1, -(-len(item) // (20 * MAX_PLACES)))
    values = np.asarray(item[::step], np.float64).reshape(len(times[::step]), -1)
    axes.plot(times[::step], values[:, :MAX_LINES], lw=0.8, label=_line_names(item)[:MAX_LINES])
    if 1 < values.shape[1] <= MAX_LINES:
        axes.legend(**LEGEND)
    label = str(item.attrs.get("units") or "value")
    if values.shape[1] > MAX_LINES:
        label += f"\n{MAX_LINES} of {values.shape[1]} lines"
    if step > 1:
        label += f"\nevery {step}th value"
    axes.set_ylabel(label)


def _line_names(item: LazyArray) -> list[str]:
    """What each line of an item shows: ``nose x``, in the order of the values of one record."""
    names = []
    for dim, size in zip(item.dims[1:], item.shape[1:], strict=True):
        # An axis of one does not tell lines apart.
        labels = item.coords[dim] if dim in item.coords else np.arange(size)
        names.append([str(label) for label in labels] if size > 1 else [""])
    return [" ".join(filter(None, parts)) for parts in itertools.product(*names)]


def _pauses(times: NDArray[np.float64]) -> NDArray[np.intp]:
    """Where times go on after a pause: many times longer than the steps between them.

    >>> _pauses(np.array([0.0, 1, 2, 3, 90, 91])).tolist()
    [4]
    """
    steps = np.diff(times)
    return np.flatnonzero(steps > PAUSE_STEPS * np.median(steps)) + 1 if len(steps) else np.zeros(0, np.intp)


def _draw_intensity(axes: Axes, item: LazyArray) -> None:
    """Mean of each frame, and the span between its smallest and its largest value, from statistics."""
    times = _time_of(axes, item)
    statistics = item.view.statistics
    names = ("sum", "valid_count", "min", "max")
    facts = [None if statistics is None else statistics.per_frame(name, 0, len(item)) for name in names]
    axes.set_ylabel(f"value\n({item.attrs['units']})" if item.attrs.get("units") else "value")
    if any(fact is None for fact in facts):
        axes.plot(times[[0, -1]], [0, 0], lw=0)
        axes.text(0.5, 0.5, "no statistics", transform=axes.transAxes, ha="center", fontsize=8)
        return
    total, count, low, high = (np.asarray(fact, np.float64) for fact in facts)
    lost = (count == 0) | np.isin(np.arange(len(item)), item.missing_frames)
    mean = np.where(lost, np.nan, total / np.maximum(count, 1))
    low, high = (np.where(lost, np.nan, values) for values in (low, high))
    edges = _edges(len(item))
    frames = np.add.reduceat(~lost, edges)
    sums = np.add.reduceat(np.where(lost, 0.0, mean), edges)
    mean = np.where(frames > 0, sums / np.maximum(frames, 1), np.nan)
    low, high = np.fmin.reduceat(low, edges), np.fmax.reduceat(high, edges)
    at, pauses = times[edges], _pauses(times[edges])
    # Nothing is drawn where nothing was recorded.
    at, mean, low, high = (np.insert(row, pauses, np.nan) for row in (at, mean, low, high))
    axes.fill_between(at, low, high, color="tab:blue", alpha=0.2, lw=0, label="smallest to largest")
    axes.plot(at, mean, lw=0.9, color="tab:blue", label="mean")
    axes.legend(**LEGEND)
