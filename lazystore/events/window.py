"""The events of one window, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.clock import Clock
from lazystore.schema import JSON

if TYPE_CHECKING:
    import xarray

COLUMNS = ("t", "x", "y", "p")
MICROSECOND = Fraction(1, 10**6)
# What tonic's transforms take.
STRUCTURED = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])

UNITS: Mapping[str, JSON] = {"t": "us", "x": "pixel", "y": "pixel"}
LONG_NAMES: Mapping[str, JSON] = {
    "t": "time in the recording's own clock",
    "x": "column",
    "y": "row",
    "p": "polarity: 1 ON, 0 OFF",
}


class OutsideRecordingWarning(UserWarning):
    """A window that lies wholly before or behind the recording, and so has no events."""


@dataclass(frozen=True, slots=True, eq=False)
class EventWindow:
    """Events in file order.

    Attributes
    ----------
    t
        Shape (event,), int64, µs in the recording's own clock, read-only.
    x, y
        Shape (event,), uint16, pixels, read-only.
    p
        Shape (event,), uint8, 1 for ON and 0 for OFF, read-only.
    t_start, t_stop
        The half-open window [t_start, t_stop) that was asked for, µs.
    sensor
        (width, height) in pixels.
    clock
        How the recording's seconds map to session seconds.
    attrs
        What the window was restricted to: ``roi``, ``polarity``, ``filters``.

    Notes
    -----
    Columns are views of cached chunks where the window lies in one chunk, copies elsewhere.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]
    t_start: int
    t_stop: int
    sensor: tuple[int, int]
    clock: Clock = field(default_factory=Clock)
    attrs: Mapping[str, JSON] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.t)

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """The four columns by name."""
        return {"t": self.t, "x": self.x, "y": self.y, "p": self.p}

    def seconds(self) -> NDArray[np.float64]:
        """Session seconds of the events, shape (event,), float64."""
        return self.clock.ticks_to_session(self.t, MICROSECOND)

    def take(self, keep: NDArray[Any], attrs: Mapping[str, JSON] | None = None) -> EventWindow:
        """The events that a mask, slice or list of places picks; `attrs` are added."""
        t, x, y, p = (read_only(column[keep]) for column in (self.t, self.x, self.y, self.p))
        facts = {**self.attrs, **(attrs or {})}
        return EventWindow(t, x, y, p, self.t_start, self.t_stop, self.sensor, self.clock, facts)

    def to_numpy(self) -> NDArray[np.void]:
        """One structured array, shape (event,), with fields x, y (int16), t (int64), p (bool)."""
        events = np.empty(len(self), STRUCTURED)
        for name, column in self.columns.items():
            events[name] = column
        return events

    def to_xarray(self) -> xarray.Dataset:
        """A Dataset of the columns over ``event``, with session seconds as the coordinate ``time``."""
        import xarray

        facts = {name: {"long_name": LONG_NAMES[name]} for name in COLUMNS}
        for name, unit in UNITS.items():
            facts[name]["units"] = unit
        return xarray.Dataset(
            {name: ("event", column, facts[name]) for name, column in self.columns.items()},
            coords={"time": ("event", self.seconds(), {"units": "s", "long_name": "session time"})},
            attrs={
                "t_start_us": self.t_start,
                "t_stop_us": self.t_stop,
                "sensor": list(self.sensor),
                **self.attrs,
            },
        )

    def __repr__(self) -> str:
        return f"<EventWindow {len(self):,} events in [{self.t_start}, {self.t_stop}) us>"


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written: cached chunks are shared, and kernels see one kind of array."""
    if values.flags.writeable:
        values = values.view()
        values.flags.writeable = False
    return values
