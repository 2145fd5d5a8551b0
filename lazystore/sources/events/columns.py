"""Events as four columns, and the other things a recording's bytes decode to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Events in file order.

    Attributes
    ----------
    t
        Shape (event,), int64, in µs of the recording's own clock.
    x, y
        Shape (event,), uint16, in pixels from the left and the top.
    p
        Shape (event,), uint8: 1 for ON (brighter), 0 for OFF.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.t)

    @classmethod
    def empty(cls, length: int) -> EventColumns:
        """Uninitialised columns of `length` events."""
        return cls(
            np.empty(length, np.int64),
            np.empty(length, np.uint16),
            np.empty(length, np.uint16),
            np.empty(length, np.uint8),
        )

    def part(self, start: int, stop: int) -> EventColumns:
        """Views of the events [start, stop)."""
        return EventColumns(self.t[start:stop], self.x[start:stop], self.y[start:stop], self.p[start:stop])

    def copy_from(self, other: EventColumns, at: int) -> None:
        """Overwrite the events from `at` on with all of `other`."""
        stop = at + len(other)
        self.t[at:stop] = other.t
        self.x[at:stop] = other.x
        self.y[at:stop] = other.y
        self.p[at:stop] = other.p


@dataclass(frozen=True, slots=True)
class Triggers:
    """Edges seen on the camera's trigger inputs, in file order.

    Attributes
    ----------
    t
        Shape (trigger,), int64, in µs of the recording's own clock.
    id
        Shape (trigger,), uint16, number of the input.
    p
        Shape (trigger,), uint8: 1 for a rising edge, 0 for a falling one.
    """

    t: NDArray[np.int64]
    id: NDArray[np.uint16]
    p: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.t)

    @classmethod
    def empty(cls, length: int = 0) -> Triggers:
        """Uninitialised columns of `length` triggers."""
        return cls(np.empty(length, np.int64), np.empty(length, np.uint16), np.empty(length, np.uint8))

    @classmethod
    def joined(cls, parts: list[Triggers]) -> Triggers:
        """All triggers of `parts`, one after the other."""
        if not parts:
            return cls.empty()
        return cls(
            np.concatenate([part.t for part in parts]),
            np.concatenate([part.id for part in parts]),
            np.concatenate([part.p for part in parts]),
        )

    def copied(self, length: int) -> Triggers:
        """The first `length` triggers, in memory of their own."""
        return Triggers(self.t[:length].copy(), self.id[:length].copy(), self.p[:length].copy())
