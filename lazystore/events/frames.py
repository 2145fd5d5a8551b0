"""Frames of events as a lazy array: a frame is made when it is looked at, and cached like a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.labels import Coordinate
from lazystore.array.lazy_array import LazyArray
from lazystore.cache import cached
from lazystore.chunks import ChunkIndex, ceil_div
from lazystore.clock import Clock
from lazystore.errors import UsageError
from lazystore.events.bounds import ticks_of_duration, ticks_of_time
from lazystore.events.filters import HotPixels
from lazystore.events.modes import Mode, choose_mode
from lazystore.events.window import MICROSECOND
from lazystore.schema import JSON, ArraySpec

if TYPE_CHECKING:
    from lazystore.events.base import Events


class FrameReader:
    """Frames of events, one a chunk, behind the interface of stored chunks.

    Parameters
    ----------
    events
        Where windows come from.
    start_us, period_us, duration_us, n_frames
        Frame k shows [start + k * period, start + k * period + duration).
    mode
        What a frame shows.

    Notes
    -----
    Thread-safe; a read blocks while the window's chunks are read. Pickles with its events.
    """

    def __init__(
        self, events: Events, start_us: int, period_us: int, duration_us: int, n_frames: int, mode: Mode
    ) -> None:
        self.events = events
        self.start_us, self.period_us, self.duration_us = start_us, period_us, duration_us
        self.mode = mode
        frame = (*mode.shape, *events.sensor[::-1])
        self._spec = ArraySpec(
            "frames", ("time", *mode.dims, "y", "x"), (n_frames, *frame), mode.dtype, (1, *frame)
        )

    @property
    def spec(self) -> ArraySpec:
        """Shape and dtype of all frames; a chunk is one of them."""
        return self._spec

    def window_of(self, frame: int) -> tuple[int, int]:
        """The half-open window of a frame in µs: what it shows, or may look back on."""
        begin = self.start_us + frame * self.period_us
        end = begin + self.duration_us
        look_back = self.mode.look_back_us
        return (begin if look_back is None else end - look_back), end

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        """One frame, shape (1, ..., y, x), read-only; IndexError outside the grid."""
        frame = chunk_index[0]
        if not 0 <= frame < self._spec.shape[0] or any(chunk_index[1:]):
            raise IndexError(f"chunk {chunk_index} lies outside {self._spec.shape[0]} frames of events")
        image = self.mode.frame(self.events.select(*self.window_of(frame)))[np.newaxis]
        image.flags.writeable = False
        return image

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """Frames in the order asked for."""
        return [self.read_chunk(chunk_index) for chunk_index in chunk_indices]

    def close(self) -> None:
        """Nothing to release: the events' own readers are closed by whoever opened them."""


def frame_times(clock: Clock, first_us: int, period_us: int, n_frames: int) -> NDArray[np.float64]:
    """Session seconds of frames, shape (frame,)."""
    return clock.ticks_to_session(first_us + period_us * np.arange(n_frames, dtype=np.int64), MICROSECOND)


def make_frames(
    events: Events,
    period: float,
    duration: float | None = None,
    *,
    unit: str = "us",
    mode: str = "count",
    t0: float | None = None,
    t1: float | None = None,
    by_polarity: bool | None = None,
    tau: float | None = None,
    decay: str | None = None,
    bins: int | None = None,
    dtype: Any = None,
    drop_hot_pixels: bool | NDArray[np.bool_] = False,
) -> LazyArray:
    """Images made of events, one every `period`.

    Parameters
    ----------
    events
        A recording, or a filtered view of one.
    period, duration
        Time from one frame's beginning to the next, and length of its half-open window; the period
        where left out. Longer windows overlap, shorter ones leave gaps. Whole µs.
    unit
        Of every time here: ``"us"``, ``"ms"`` or ``"s"``. For `t0` and `t1`, ``"s"`` is session seconds.
    mode
        ``"count"``, ``"signed"``, ``"polarity"``, ``"decay"``, ``"time_surface"`` or ``"voxel"``; see
        `lazystore.events.modes` for definitions.
    t0, t1
        The first frame begins at t0; the last one before t1. The whole recording by default.
    by_polarity
        For count, decay and time_surface: an axis (OFF, ON) after time.
    tau
        For decay and time_surface: the time constant.
    decay
        ``"exponential"`` or ``"linear"``.
    bins
        For voxel, at least 2; 5 by default.
    dtype
        For count: u1, u2 (default) or u4; counts stay at its largest value.
    drop_hot_pixels
        Leave out the pixels that `hot_pixels()` finds, or those of a mask of shape (y, x).

    Returns
    -------
    LazyArray
        Shape (time, y, x), or (time, polarity, y, x), or (time, bin, y, x). Its `time` is the session
        second of each window's beginning, for decay and time_surface that of its end.

    Raises
    ------
    UsageError
        If an argument is out of range or not one of the mode's own.
    """
    period_us = ticks_of_duration(period, unit, "period")
    duration_us = period_us if duration is None else ticks_of_duration(duration, unit, "duration")
    tau_us = None if tau is None else ticks_of_duration(tau, unit, "tau")
    chosen = choose_mode(mode, by_polarity=by_polarity, tau_us=tau_us, decay=decay, bins=bins, dtype=dtype)
    start = events.t_start if t0 is None else ticks_of_time(t0, unit, events.clock, "t0")
    stop = events.t_stop if t1 is None else ticks_of_time(t1, unit, events.clock, "t1")
    if not events.t_start - 2**53 < start < stop < events.t_stop + 2**53:
        raise UsageError(
            f"frames from t0={t0!r} to t1={t1!r} {unit} have no length; expected t0 < t1, both finite, "
            f"around [{events.t_start}, {events.t_stop}) us"
        )
    if drop_hot_pixels is not False:
        events = events.filtered(HotPixels(_mask(events, drop_hot_pixels)))
    n_frames = ceil_div(stop - start, period_us)
    reader = FrameReader(events, start, period_us, duration_us, n_frames, chosen)
    shown_us = start if chosen.look_back_us is None else start + duration_us
    facts: dict[str, JSON] = {**chosen.facts(), "period_us": period_us, "duration_us": duration_us}
    if "filters" in events.attrs:
        facts["filters"] = events.attrs["filters"]
    return LazyArray(
        cached(reader),
        name=f"{events.name}/{mode}",
        coords=_coordinates(events, shown_us, period_us, n_frames, chosen),
        attrs=facts,
    )


def _mask(events: Events, wanted: bool | NDArray[np.bool_]) -> NDArray[np.bool_]:
    if isinstance(wanted, np.ndarray):
        return wanted
    return events.hot_pixels()


def _coordinates(
    events: Events, first_us: int, period_us: int, n_frames: int, mode: Mode
) -> dict[str, Coordinate]:
    width, height = events.sensor
    load = partial(frame_times, events.clock, first_us, period_us, n_frames)
    pixel: dict[str, JSON] = {"units": "pixel"}
    coords = {
        "time": Coordinate(("time",), load, {"units": "s", "long_name": "session time"}),
        "y": Coordinate(("y",), np.arange(height), pixel),
        "x": Coordinate(("x",), np.arange(width), pixel),
    }
    if "polarity" in mode.dims:
        coords["polarity"] = Coordinate(("polarity",), np.array(["off", "on"]))
    return coords
