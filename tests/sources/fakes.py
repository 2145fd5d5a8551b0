"""Sources made of arrays, for tests of what wraps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.protocols import Block, Column, SideArray, SourceIdentity, SourceInfo, Ticks

DIMS: Mapping[str, tuple[str, ...]] = {
    "stack": ("time", "y", "x"),
    "field": ("time", "bin"),
    "events": ("event",),
    "spikes": ("spike",),
    "intervals": ("interval",),
    "tracks": ("time", "individual", "keypoint", "space"),
}


class FakeSource:
    """Columns that are given, with times, gaps and a record of what was read."""

    def __init__(
        self,
        kind: str,
        columns: Mapping[str, NDArray[Any]],
        *,
        ticks: Ticks | None = None,
        name: str = "fake",
        missing: Sequence[int] = (),
        side: Sequence[SideArray] = (),
        item_attributes: Mapping[str, Any] | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        self.columns = columns
        self.missing = missing
        self.reads: list[tuple[int, int]] = []
        self.is_closed = False
        self.info = SourceInfo(
            kind=kind,
            format="fake",
            columns=tuple(
                Column(key, DIMS[kind][: values.ndim], values.shape, values.dtype)
                for key, values in columns.items()
            ),
            identity=(SourceIdentity(name, 1, 1, "0"),),
            ticks=ticks,
            side=tuple(side),
            item_attributes=item_attributes or {},
            problems=tuple(problems),
        )

    def read(self, start: int, stop: int) -> Block:
        assert 0 <= start < stop <= self.info.length
        self.reads.append((start, stop))
        columns = {key: values[start:stop].copy() for key, values in self.columns.items()}
        missing = tuple(index for index in self.missing if start <= index < stop)
        # Every second one has a reason, as where a source does not know why.
        return Block(start, columns, missing, {index: f"lost {index}" for index in missing if index % 2})

    def close(self) -> None:
        self.is_closed = True


def stack(
    n_frames: int = 30, *, height: int = 4, width: int = 6, ticks: Ticks | None = None, **more: Any
) -> FakeSource:
    """A stack whose every value is different."""
    values = np.arange(n_frames * height * width, dtype="i4").reshape(n_frames, height, width)
    return FakeSource("stack", {"data": values}, ticks=ticks, **more)
