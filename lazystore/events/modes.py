"""What a frame of events shows: one class a representation, each with its definition.

In all of them t_ref is the end of a frame's window, an event at (x, y) counts at row y, column x,
and ON is 1, OFF is 0 along an axis of polarities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.events.compiling import loop_if_ready
from lazystore.events.window import EventWindow
from lazystore.schema import JSON

MODES = ("count", "signed", "polarity", "decay", "time_surface", "voxel")
DECAYS = ("exponential", "linear")
# exp(-5) is 0.7 %: what is older shows no more, and a frame needs no more history than this.
LOOK_BACK_TAUS = 5
_MOST_I2 = 32_767


class Mode(Protocol):
    """How the events of a window become one frame."""

    @property
    def look_back_us(self) -> int | None:
        """How far before t_ref events matter; None for exactly the frame's own window."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes before (y, x): ``("polarity",)``, ``("bin",)`` or none."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of `dims`."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the frame."""

    def frame(self, window: EventWindow) -> NDArray[Any]:
        """The frame, shape (*shape, y, x). Runs outside the GIL once compiled."""

    def facts(self) -> Mapping[str, JSON]:
        """For the attributes of the frames."""


@dataclass(frozen=True, slots=True)
class Count:
    """Events at each pixel, uint16 (uint32 with ``dtype="u4"``), staying at the largest value.

    The event histogram, as in Maqueda et al., "Event-based vision meets deep learning" (CVPR 2018);
    with `by_polarity` one image each for OFF and ON.
    """

    by_polarity: bool = False
    counts: str = "u2"

    @property
    def look_back_us(self) -> None:
        return None

    @property
    def dims(self) -> tuple[str, ...]:
        return ("polarity",) if self.by_polarity else ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,) if self.by_polarity else ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.counts)

    def frame(self, window: EventWindow) -> NDArray[Any]:
        planes = _planes(window, self.by_polarity, self.dtype)
        most = int(np.iinfo(self.dtype).max)
        count = loop_if_ready(f"count_events:{self.counts}")
        count(*window.columns.values(), int(self.by_polarity), most, planes)
        return planes if self.by_polarity else planes[0]

    def facts(self) -> Mapping[str, JSON]:
        return {"mode": "count", "long_name": "events", "units": "1"}


@dataclass(frozen=True, slots=True)
class Signed:
    """ON events minus OFF events at each pixel, int16, staying within its range.

    The brightness increment image of Gallego et al., "Event-based vision: a survey" (2020), in units
    of the contrast threshold.
    """

    @property
    def look_back_us(self) -> None:
        return None

    @property
    def dims(self) -> tuple[str, ...]:
        return ()

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int16)

    def frame(self, window: EventWindow) -> NDArray[Any]:
        sums: NDArray[Any] = np.zeros((1, *window.sensor[::-1]), np.int32)
        loop_if_ready("sum_signs")(*window.columns.values(), sums)
        if len(window) > _MOST_I2:  # else no sum can be beyond it
            np.clip(sums, -_MOST_I2 - 1, _MOST_I2, out=sums)
        image: NDArray[Any] = sums[0].astype(np.int16)
        return image

    def facts(self) -> Mapping[str, JSON]:
        return {"mode": "signed", "long_name": "ON minus OFF events", "units": "1"}


@dataclass(frozen=True, slots=True)
class PolarityImage:
    """uint8: 127 where nothing happened, 255 where ON events, 0 where any OFF event.

    The picture of evio's viewer; OFF wins where both happened, whatever their order.
    """

    @property
    def look_back_us(self) -> None:
        return None

    @property
    def dims(self) -> tuple[str, ...]:
        return ()

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def frame(self, window: EventWindow) -> NDArray[Any]:
        image: NDArray[Any] = np.full((1, *window.sensor[::-1]), 127, np.uint8)
        loop_if_ready("mark_polarity")(*window.columns.values(), image)
        plane: NDArray[Any] = image[0]
        return plane

    def facts(self) -> Mapping[str, JSON]:
        return {"mode": "polarity", "long_name": "127 nothing, 255 ON, 0 OFF"}


@dataclass(frozen=True, slots=True)
class Decay:
    """Sum over events of a weight that falls with age a = t_ref - t, float32.

    ``exponential``: exp(-a / tau), over the last 5 tau; ``linear``: max(0, 1 - a / tau), over the
    last tau. The exponentially decaying accumulation of Lagorce et al., "HOTS" (PAMI 2017), summed as
    in Sironi et al., "HATS" (CVPR 2018), without their normalisation. The window's own length does
    not matter, only its end.
    """

    tau_us: int
    kind: str = "exponential"
    by_polarity: bool = False

    @property
    def look_back_us(self) -> int:
        return self.tau_us * (LOOK_BACK_TAUS if self.kind == "exponential" else 1)

    @property
    def dims(self) -> tuple[str, ...]:
        return ("polarity",) if self.by_polarity else ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,) if self.by_polarity else ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def frame(self, window: EventWindow) -> NDArray[Any]:
        planes = _planes(window, self.by_polarity, self.dtype)
        columns, split = window.columns.values(), int(self.by_polarity)
        if self.kind == "exponential":
            tables = decay_tables(self.look_back_us, self.tau_us)
            loop_if_ready("sum_exponential")(*columns, window.t_stop, *tables, split, planes)
        else:
            loop_if_ready("sum_linear")(*columns, window.t_stop, float(self.tau_us), split, planes)
        return planes if self.by_polarity else planes[0]

    def facts(self) -> Mapping[str, JSON]:
        return {"mode": "decay", "decay": self.kind, "tau_us": self.tau_us, "long_name": "decayed events"}


@dataclass(frozen=True, slots=True)
class TimeSurface:
    """exp(-(t_ref - t_last) / tau) of each pixel's latest event, float32, 0 where it is older than 5 tau.

    Lagorce et al., "HOTS: a hierarchy of event-based time-surfaces" (PAMI 2017); one surface for each
    polarity unless `by_polarity` is false. Looks back 5 tau before t_ref, also before the window.
    """

    tau_us: int
    by_polarity: bool = True

    @property
    def look_back_us(self) -> int:
        return self.tau_us * LOOK_BACK_TAUS

    @property
    def dims(self) -> tuple[str, ...]:
        return ("polarity",) if self.by_polarity else ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,) if self.by_polarity else ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def frame(self, window: EventWindow) -> NDArray[Any]:
        planes = _planes(window, self.by_polarity, self.dtype)
        tables = decay_tables(self.look_back_us, self.tau_us)
        columns, split = window.columns.values(), int(self.by_polarity)
        loop_if_ready("latest_surface")(*columns, window.t_stop, *tables, split, planes)
        return planes if self.by_polarity else planes[0]

    def facts(self) -> Mapping[str, JSON]:
        return {"mode": "time_surface", "tau_us": self.tau_us, "long_name": "decayed time of latest event"}


@dataclass(frozen=True, slots=True)
class Voxel:
    """ON minus OFF events in bins along the window, each event shared between the two next to it, float32.

    Zhu et al., "Unsupervised event-based learning of optical flow, depth, and egomotion" (CVPR 2019):
    t* = (bins - 1) (t - t0) / (t1 - t0), and bin b gets p max(0, 1 - |b - t*|) with p = ±1. Here t0
    and t1 are the window's own bounds instead of its first and last event, so that frames of equal
    length have bins of equal length. (tonic scales by `bins` instead of `bins - 1`.)
    """

    bins: int = 5

    @property
    def look_back_us(self) -> None:
        return None

    @property
    def dims(self) -> tuple[str, ...]:
        return ("bin",)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.bins,)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def frame(self, window: EventWindow) -> NDArray[Any]:
        volume = np.zeros((self.bins, *window.sensor[::-1]), np.float32)
        scale = (self.bins - 1) / (window.t_stop - window.t_start)
        loop_if_ready("fill_voxels")(*window.columns.values(), window.t_start, scale, volume)
        return volume

    def facts(self) -> Mapping[str, JSON]:
        return {"mode": "voxel", "bins": self.bins, "long_name": "ON minus OFF events, shared between bins"}


def _planes(window: EventWindow, by_polarity: bool, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.zeros((2 if by_polarity else 1, *window.sensor[::-1]), dtype)


@lru_cache(maxsize=16)
def decay_tables(look_back_us: int, tau_us: int) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """exp(-age / tau) of every age up to `look_back_us`, as a product of two table entries.

    An exponential an event takes three times as long as everything else in a loop. Ages are whole µs:
    exp of the high bits times exp of the low bits is right to some units in float64's last place.

    >>> bits, low, high = decay_tables(50_000, 10_000)
    >>> bool(abs(high[12_345 >> bits] * low[12_345 % 2**bits] / np.exp(-1.2345) - 1) < 1e-15)
    True
    """
    bits = max(1, (look_back_us.bit_length() + 1) // 2)
    low = np.exp(np.arange(1 << bits) / -tau_us)
    high = np.exp((np.arange((look_back_us >> bits) + 1) << bits) / -tau_us)
    return bits, low, high


def choose_mode(
    name: str,
    *,
    by_polarity: bool | None = None,
    tau_us: int | None = None,
    decay: str | None = None,
    bins: int | None = None,
    dtype: Any = None,
) -> Mode:
    """The representation of a name, with the options that it knows.

    Raises
    ------
    UsageError
        If the name is unknown, or an option is not its own or out of range.
    """
    given = {
        "by_polarity": by_polarity, "tau": tau_us, "decay": decay, "bins": bins, "dtype": dtype
    }  # fmt: skip
    known = {
        "count": ("by_polarity", "dtype"),
        "signed": (),
        "polarity": (),
        "decay": ("by_polarity", "tau", "decay"),
        "time_surface": ("by_polarity", "tau"),
        "voxel": ("bins",),
    }
    if name not in known:
        raise UsageError(f"mode={name!r} is not one of {', '.join(MODES)}")
    for option, value in given.items():
        if value is not None and option not in known[name]:
            takes = ", ".join(known[name]) or "no options"
            raise UsageError(f"{option}={value!r} means nothing for mode {name!r}, which takes {takes}")
    if name in ("decay", "time_surface") and tau_us is None:
        raise UsageError(f"mode {name!r} needs tau, its time constant; pass for example tau=10_000")
    if name == "count":
        counts = np.dtype(dtype or np.uint16)
        if counts not in (np.uint8, np.uint16, np.uint32):
            raise UsageError(f"dtype={dtype!r} cannot count events; expected one of u1, u2, u4")
        return Count(bool(by_polarity), counts.str[1:])
    if name == "signed":
        return Signed()
    if name == "polarity":
        return PolarityImage()
    if name == "voxel":
        bins = 5 if bins is None else bins
        if not isinstance(bins, int) or bins < 2:
            raise UsageError(f"bins={bins!r} is not a whole number above 1; a voxel grid has at least 2 bins")
        return Voxel(bins)
    assert tau_us is not None
    if name == "time_surface":
        return TimeSurface(tau_us, by_polarity is not False)
    kind = decay or "exponential"
    if kind not in DECAYS:
        raise UsageError(f"decay={decay!r} is not one of {', '.join(DECAYS)}")
    return Decay(tau_us, kind, bool(by_polarity))
