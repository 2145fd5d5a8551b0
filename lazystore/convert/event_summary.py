"""What one pass over an event recording leaves beside it: index, rate, pixel counts, preview.

Each shard of events gives a share, a dictionary of small arrays that stands in the progress area;
the shares merge, in shard order, into the item's side arrays. A share depends on its own events
only, so that a resumed conversion ends with the same bytes as an undisturbed one.

Everything is plain numpy: about 150 million events a second on one core, against the 20 or so
that compression allows, so a compiled kernel would only cost its import.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div
from lazystore.convert.event_merge import (
    RATE_STEP_US,
    PreviewSum,
    RateSum,
    index_arrays,
    order_and_counts,
)
from lazystore.convert.event_rows import index_rows, rate_bins, sum_bins
from lazystore.errors import SourceError, UsageError
from lazystore.protocols import SideArray
from lazystore.schema import JSON

MAX_RATE_BINS_PER_SHARE = 1 << 16
# A preview picture has at most this many cells along the longer side.
MAX_PREVIEW_CELLS = 80
# np.bincount allocates the whole sensor at each call, so several chunks share one.
_CHUNKS_PER_COUNT = 16

type Share = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class MergedEvents:
    """What the shares of a whole recording add up to.

    Attributes
    ----------
    side
        Arrays of the item: ``index/*`` over ("chunk",), ``rate/*`` over ("rate_bin",),
        ``summary/pixel_count`` over ("sensor_y", "sensor_x"), ``summary/preview`` over
        ("preview", "preview_y", "preview_x") with its event times.
    attributes
        For ``attrs.lazystore["events"]``: counts, first and last time, order.
    """

    side: tuple[SideArray, ...]
    attributes: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class EventSummary:
    """Computes the shares of one recording, and merges them.

    Attributes
    ----------
    sensor
        (width, height) in pixels.
    chunk_events
        Events in an inner chunk of the columns; every share starts on a chunk border.
    """

    sensor: tuple[int, int]
    chunk_events: int

    @property
    def preview_shift(self) -> int:
        """A preview cell covers 2**shift x 2**shift pixels."""
        shift = 0
        while (max(self.sensor) - 1) >> shift >= MAX_PREVIEW_CELLS:
            shift += 1
        return shift

    @property
    def preview_shape(self) -> tuple[int, int]:
        """Cells along y and x."""
        cell = 1 << self.preview_shift
        return ceil_div(self.sensor[1], cell), ceil_div(self.sensor[0], cell)

    def share(self, start: int, columns: Mapping[str, NDArray[Any]]) -> Share:
        """What the events [start, start + n) add, as small arrays that may be stored in an .npz.

        Parameters
        ----------
        start
            Number of the first event in the recording, a multiple of `chunk_events`.
        columns
            ``t`` (int64, µs), ``x``, ``y`` (uint16), ``p`` (uint8, 0/1), shape (event,), not empty.

        Raises
        ------
        UsageError
            If `start` is no chunk border.
        SourceError
            If an event lies outside the sensor or its polarity is neither 0 nor 1.
        """
        t, x, y, p = (columns[name] for name in ("t", "x", "y", "p"))
        if start % self.chunk_events or t.size == 0:
            raise UsageError(
                f"a share of {t.size} events from event {start} does not begin at a multiple of "
                f"{self.chunk_events} events; pass whole chunks"
            )
        rows = index_rows(t, x, y, p, self.chunk_events)
        self._check_events(start, rows, x, y, p)
        step, bins, on, off = RATE_STEP_US, *rate_bins(t, p, RATE_STEP_US)
        while bins.size > MAX_RATE_BINS_PER_SHARE:
            step, (bins, on, off) = step * 2, sum_bins(bins >> 1, on, off)
        pixels = self._pixel_counts(x, y)
        crowded = np.flatnonzero(pixels > 255)
        preview = self._preview(x, y)
        return {
            "start": np.array([start], np.int64),
            "events": np.array([t.size], np.int64),
            **{f"index_{name}": values for name, values in rows.items()},
            "rate_step_us": np.array([step], np.int64),
            "rate_bin": bins,
            "rate_on": on.astype(np.uint32),
            "rate_off": off.astype(np.uint32),
            # Few pixels see more than 255 events of a shard: a byte each and a list of the rest
            # is a quarter of plain counts.
            "pixel_low": (pixels & 255).astype(np.uint8).reshape(self.sensor[::-1]),
            "pixel_at": crowded.astype(np.uint32),
            "pixel_high": (pixels[crowded] >> 8).astype(np.uint32),
            "preview": preview.astype(np.min_scalar_type(int(preview.max()))),
        }

    def merge(self, shares: Iterable[Mapping[str, NDArray[Any]]]) -> MergedEvents:
        """The side arrays of the whole recording, from its shares in order.

        `shares` is gone through once; memory is that of the result, not of all shares.

        Raises
        ------
        UsageError
            If a share is missing or out of order.
        """
        width, height = self.sensor
        rate = RateSum()
        preview = PreviewSum(self.preview_shape)
        pixels = np.zeros(height * width, np.uint64)
        index_parts: list[Share] = []
        events = 0
        for share in shares:
            start = int(share["start"][0])
            if start != events or events % self.chunk_events:
                raise UsageError(
                    f"a share begins at event {start}, expected {events}; merge all shares in order"
                )
            events += int(share["events"][0])
            index_parts.append(
                {k.removeprefix("index_"): v for k, v in share.items() if k.startswith("index_")}
            )
            step = int(share["rate_step_us"][0])
            rate.add(step, share["rate_bin"], share["rate_on"], share["rate_off"])
            pixels += share["pixel_low"].reshape(-1)
            pixels[share["pixel_at"]] += share["pixel_high"].astype(np.uint64) << np.uint64(8)
            preview.add(share["preview"])
        t, xy, p = np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint8)
        empty = index_rows(t, xy, xy, p, self.chunk_events)
        index = {
            name: np.concatenate([values, *(part[name] for part in index_parts)])
            for name, values in empty.items()
        }
        attributes = order_and_counts(events, index)
        widest = np.uint32 if events < 1 << 32 else np.uint64
        side = [
            *index_arrays(index, self.chunk_events),
            *rate.arrays(),
            SideArray(
                "summary/pixel_count",
                ("sensor_y", "sensor_x"),
                pixels.reshape(height, width).astype(widest),
                {"long_name": "events at each pixel in the whole recording", "units": "1"},
            ),
            *preview.arrays(index, self.chunk_events, 1 << self.preview_shift),
        ]
        return MergedEvents(tuple(side), attributes)

    def _check_events(
        self, start: int, rows: Share, x: NDArray[Any], y: NDArray[Any], p: NDArray[Any]
    ) -> None:
        width, height = self.sensor
        if rows["x_max"].max() >= width or rows["y_max"].max() >= height:
            first = int(np.flatnonzero((x >= width) | (y >= height))[0])
            raise SourceError(
                f"event {start + first} lies at x={int(x[first])}, y={int(y[first])}, outside the "
                f"sensor of {width} x {height} pixels; give the sensor's true size with "
                "--option sensor=WIDTHxHEIGHT"
            )
        if p.max() > 1:
            first = int(np.flatnonzero(p > 1)[0])
            raise SourceError(
                f"event {start + first} has polarity {int(p[first])}; expected 0 (OFF) or 1 (ON)"
            )

    def _pixel_counts(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.int64]:
        width, height = self.sensor
        counts = np.zeros(height * width, np.int64)
        part = _CHUNKS_PER_COUNT * self.chunk_events
        for begin in range(0, x.size, part):
            at = y[begin : begin + part].astype(np.intp)
            at *= width
            at += x[begin : begin + part]
            counts += np.bincount(at, minlength=counts.size)
        return counts

    def _preview(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.int64]:
        """Counts of each chunk in coarse cells, shape (chunk, preview_y, preview_x)."""
        rows, columns = self.preview_shape
        shift = self.preview_shift
        pictures = np.empty((ceil_div(x.size, self.chunk_events), rows, columns), np.int64)
        for number, picture in enumerate(pictures):
            part = slice(number * self.chunk_events, (number + 1) * self.chunk_events)
            at = (y[part] >> shift).astype(np.intp)
            at *= columns
            at += x[part] >> shift
            picture[...] = np.bincount(at, minlength=picture.size).reshape(rows, columns)
        return pictures
