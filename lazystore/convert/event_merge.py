"""Sums over the shares of an event recording, in bounded memory, and the side arrays they become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div
from lazystore.convert.event_rows import sum_bins
from lazystore.protocols import SideArray
from lazystore.schema import JSON

# Finest bin of the rate curve. Wider bins are its multiples by powers of two, so that bins of
# different shares nest.
RATE_STEP_US = 1000
# 8 MB of counts at most: 17 minutes at 1 ms, 35 at 2 ms, a day at 128 ms.
MAX_RATE_BINS = 1 << 20
MAX_PREVIEW_PICTURES = 128


def order_and_counts(events: int, index: Mapping[str, NDArray[Any]]) -> dict[str, JSON]:
    """Counts, time bounds (µs, both inclusive) and disorder of a recording from its index rows."""
    borders = int(np.count_nonzero(index["t_first"][1:] < index["t_last"][:-1]))
    disorder = int(index["disorder"].sum(dtype=np.int64)) + borders
    on = int(index["on_count"].sum(dtype=np.int64))
    counts: dict[str, JSON] = {"count": events, "on": on, "off": events - on}
    if events:
        counts |= {"t_min_us": int(index["t_min"].min()), "t_max_us": int(index["t_max"].max())}
    # Disorder counts the events that are earlier than the one before them in the file.
    return {**counts, "sorted": disorder == 0, "disorder": disorder}


_INDEX_NAMES = {
    "t_min": ("earliest event of each chunk", "us"),
    "t_max": ("latest event of each chunk", "us"),
    "sorted": ("whether times never fall inside the chunk", ""),
    "on_count": ("ON events of each chunk", "1"),
    "x_min": ("leftmost column of each chunk", "pixel"),
    "x_max": ("rightmost column of each chunk", "pixel"),
    "y_min": ("topmost row of each chunk", "pixel"),
    "y_max": ("lowest row of each chunk", "pixel"),
}


def index_arrays(index: Mapping[str, NDArray[Any]], chunk_events: int) -> list[SideArray]:
    """The index rows that are stored, with what each means."""
    arrays = []
    for name, (long_name, units) in _INDEX_NAMES.items():
        attributes: dict[str, JSON] = {"long_name": long_name, "chunk_events": chunk_events}
        if units:
            attributes["units"] = units
        arrays.append(SideArray(f"index/{name}", ("chunk",), index[name], attributes))
    return arrays


class RateSum:
    """Adds sparse rate curves; widens the bins so that they stay at most `MAX_RATE_BINS`."""

    def __init__(self) -> None:
        self._step_us = RATE_STEP_US
        self._bins, self._on, self._off = (np.empty(0, np.int64) for _ in range(3))

    def add(self, step_us: int, bins: NDArray[Any], on: NDArray[Any], off: NDArray[Any]) -> None:
        step = max(step_us, self._step_us)
        mine = self._bins // (step // self._step_us)
        theirs = bins.astype(np.int64) // (step // step_us)
        self._step_us = step
        self._replace(
            np.concatenate([mine, theirs]),
            np.concatenate([self._on, on.astype(np.int64)]),
            np.concatenate([self._off, off.astype(np.int64)]),
        )
        while self._bins.size and self._bins[-1] - self._bins[0] >= MAX_RATE_BINS:
            self._step_us *= 2
            self._replace(self._bins >> 1, self._on, self._off)

    def _replace(self, bins: NDArray[np.int64], on: NDArray[np.int64], off: NDArray[np.int64]) -> None:
        self._bins, self._on, self._off = sum_bins(bins, on, off)

    def arrays(self) -> list[SideArray]:
        """The whole curve, empty bins included."""
        first = int(self._bins[0]) if self._bins.size else 0
        size = int(self._bins[-1]) - first + 1 if self._bins.size else 0
        most = max(int(self._on.max(initial=0)), int(self._off.max(initial=0)))
        curves = np.zeros((2, size), np.uint32 if most < 1 << 32 else np.uint64)
        curves[0, self._bins - first] = self._on
        curves[1, self._bins - first] = self._off
        t = (np.arange(size, dtype=np.int64) + first) * self._step_us
        step: dict[str, JSON] = {"step_us": self._step_us}
        dims = ("rate_bin",)
        return [
            SideArray("rate/t", dims, t, {"long_name": "start of the bin", "units": "us", **step}),
            SideArray("rate/on", dims, curves[0], {"long_name": "ON events in the bin", **step}),
            SideArray("rate/off", dims, curves[1], {"long_name": "OFF events in the bin", **step}),
        ]


class PreviewSum:
    """Adds chunk pictures in pairs whenever there are more than `MAX_PREVIEW_PICTURES`."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._pictures = np.zeros((2 * MAX_PREVIEW_PICTURES, *shape), np.uint32)
        self._chunks_per_picture = 1
        self._chunks = 0

    def add(self, pictures: NDArray[Any]) -> None:
        for picture in pictures:
            at = self._chunks // self._chunks_per_picture
            if at == len(self._pictures):
                half = self._pictures[0::2] + self._pictures[1::2]
                self._pictures[: len(half)] = half
                self._pictures[len(half) :] = 0
                self._chunks_per_picture *= 2
                at //= 2
            self._pictures[at] += picture
            self._chunks += 1

    def arrays(self, index: Mapping[str, NDArray[Any]], chunk_events: int, cell: int) -> list[SideArray]:
        pictures, width = self._pictures, self._chunks_per_picture
        count = ceil_div(self._chunks, width)
        if count > MAX_PREVIEW_PICTURES:
            pictures, width = pictures[0::2] + pictures[1::2], width * 2
            count = ceil_div(self._chunks, width)
        starts = np.arange(count) * width
        t_start, t_stop = np.empty((2, 0), np.int64)
        if count:
            t_start = np.minimum.reduceat(index["t_min"], starts)
            t_stop = np.maximum.reduceat(index["t_max"], starts) + 1
        facts: dict[str, JSON] = {
            "long_name": "events in coarse cells, for groups of consecutive events",
            "events_per_picture": width * chunk_events,
            "pixels_per_cell": cell,
        }
        dims = ("preview", "preview_y", "preview_x")
        us: dict[str, JSON] = {"units": "us"}
        return [
            SideArray("summary/preview", dims, pictures[:count].copy(), facts),
            SideArray("summary/preview_t_start", dims[:1], t_start, us),
            SideArray("summary/preview_t_stop", dims[:1], t_stop, us),
        ]
