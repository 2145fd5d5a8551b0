"""Tracks: which individuals and keypoints there are, and where each coordinate comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Column, SideArray
from lazystore.schema import JSON
from lazystore.sources.options import Option

SKELETON_OPTION = Option("skeleton", "text", "pairs of keypoints that are joined, as in nose:neck,neck:tail")
UNITS_OPTION = Option("units", "text", "unit of the positions, as in px or cm")
ONE_INDIVIDUAL = ("individual_0",)
SPACE_NAMES = ("x", "y", "z")


@dataclass(frozen=True, slots=True)
class TrackNames:
    """Names along the axes of a recording of tracks."""

    individuals: tuple[str, ...]
    keypoints: tuple[str, ...]
    space: tuple[str, ...]

    def columns(
        self, n_records: int, dtype: np.dtype[Any], has_confidence: bool, units: str | None
    ) -> tuple[Column, ...]:
        """`position` (time, individual, keypoint, space), and `confidence` without the last axis."""
        shape = (n_records, len(self.individuals), len(self.keypoints), len(self.space))
        dims = ("time", "individual", "keypoint", "space")
        facts: dict[str, JSON] = {"long_name": "position, NaN where not seen"}
        if units:
            facts["units"] = units
        position = Column("position", dims, shape, dtype, facts)
        if not has_confidence:
            return (position,)
        confidence: dict[str, JSON] = {"long_name": "confidence of the tracker"}
        return (position, Column("confidence", dims[:3], shape[:3], dtype, confidence))

    def side(self) -> tuple[SideArray, ...]:
        """The names, as text along each axis."""
        return (
            SideArray("individual", ("individual",), np.array(self.individuals, dtype=np.str_)),
            SideArray("keypoint", ("keypoint",), np.array(self.keypoints, dtype=np.str_)),
            SideArray("space", ("space",), np.array(self.space, dtype=np.str_)),
        )


@dataclass(frozen=True, slots=True)
class TrackTable:
    """Which column of a table each value is; -1 where there is none (it becomes NaN).

    Attributes
    ----------
    names
        Names along the axes.
    position
        Shape (individual, keypoint, space), int.
    confidence
        Shape (individual, keypoint), int, or None if no column holds a confidence.
    """

    names: TrackNames
    position: NDArray[np.intp]
    confidence: NDArray[np.intp] | None

    @property
    def columns(self) -> list[int]:
        """Numbers of the table's columns that are used, ascending."""
        parts = [self.position.ravel()]
        if self.confidence is not None:
            parts.append(self.confidence.ravel())
        return [int(column) for column in np.unique(np.concatenate(parts)) if column >= 0]

    def take(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """`position` and `confidence` from rows of the used columns, shape (row, column)."""
        padded = np.concatenate([rows, np.full((len(rows), 1), np.nan, rows.dtype)], axis=1)
        used = self.columns
        place = np.full(max(used) + 2, len(used))
        place[used] = np.arange(len(used))
        place[-1] = len(used)  # where column -1 looks
        taken = {"position": padded[:, place[self.position]]}
        if self.confidence is not None:
            taken["confidence"] = padded[:, place[self.confidence]]
        return taken


def table_of_keypoints(keypoints: Mapping[str, Mapping[str, int]]) -> TrackTable:
    """The layout of one individual, from columns by keypoint and part (x, y, z, confidence)."""
    space = tuple(axis for axis in SPACE_NAMES if any(axis in parts for parts in keypoints.values()))
    position = [[[parts.get(axis, -1) for axis in space] for parts in keypoints.values()]]
    confidence = [[parts.get("confidence", -1) for parts in keypoints.values()]]
    has_confidence = any("confidence" in parts for parts in keypoints.values())
    return TrackTable(
        TrackNames(ONE_INDIVIDUAL, tuple(keypoints), space),
        np.array(position, dtype=np.intp),
        np.array(confidence, dtype=np.intp) if has_confidence else None,
    )


def parse_skeleton(text: str | None, keypoints: Sequence[str]) -> list[list[int]]:
    """Pairs of keypoint numbers from ``"nose:neck,neck:tail"``.

    Raises
    ------
    UsageError
        If an entry is no pair of keypoints of this recording.

    >>> parse_skeleton("a:b, b:c", ["a", "b", "c"])
    [[0, 1], [1, 2]]
    """
    edges = []
    for entry in (text or "").split(","):
        if not entry.strip():
            continue
        ends = [name.strip() for name in entry.split(":")]
        if len(ends) != 2 or not set(ends) <= set(keypoints):
            raise UsageError(
                f"skeleton entry {entry.strip()!r} is not two of the keypoints {', '.join(keypoints)} "
                "with a colon between them"
            )
        edges.append([keypoints.index(end) for end in ends])
    return edges


def skeleton_attribute(edges: Sequence[Sequence[int]]) -> dict[str, JSON]:
    """The entry `skeleton` of ``attrs.lazystore``; none without edges."""
    return {"skeleton": [list(edge) for edge in edges]} if edges else {}


def whole_numbers(values: NDArray[Any], what: str, file_name: str) -> NDArray[np.int64]:
    """Frame numbers and the like as int64.

    Raises
    ------
    SourceError
        If a value is no whole number.
    """
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    broken = np.flatnonzero(~(np.isfinite(values) & (np.rint(values) == values)))
    if broken.size:
        raise SourceError(
            f"{file_name}: {what} of row {int(broken[0])} is {float(values[broken[0]])!r}; "
            "expected a whole number"
        )
    return values.astype(np.int64)
