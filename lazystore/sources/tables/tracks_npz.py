"""Tracks from an .npz archive: an array of positions, or arrays x and y."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Column, Source, SourceInfo
from lazystore.sources.arrays.npz_arrays import NpzArrays, times_of_arrays
from lazystore.sources.assembled import AssembledSource
from lazystore.sources.identity import identify_file
from lazystore.sources.options import Option
from lazystore.sources.tables.formats import NpzFormat
from lazystore.sources.tables.table_kinds import POLARITY_NAMES
from lazystore.sources.tables.tracks import TIME_OPTIONS
from lazystore.sources.tables.tracks_layout import (
    ONE_INDIVIDUAL,
    SKELETON_OPTION,
    SPACE_NAMES,
    UNITS_OPTION,
    TrackNames,
    parse_skeleton,
    skeleton_attribute,
)

POSITION_NAMES = ("position", "positions", "tracks", "pose", "poses", "xy", "coords", "coordinates")
CONFIDENCE_NAMES = ("confidence", "confidences", "likelihood", "scores", "score", "point_scores")
KEYPOINT_NAMES = ("keypoint", "keypoints", "node_names", "bodyparts", "nodes")
INDIVIDUAL_NAMES = ("individual", "individuals", "track_names", "animals")
EDGE_NAMES = ("skeleton", "edges", "edge_inds")


class NpzTracks(NpzFormat):
    """``.npz`` with positions: (time, space), (time, keypoint, space), or with individuals between."""

    name = "npz-tracks"
    kinds = ("tracks",)
    options = (
        Option("array", "text", "name of the array of positions"),
        *TIME_OPTIONS,
        UNITS_OPTION,
        SKELETON_OPTION,
    )

    def claim(self, arrays: NpzArrays) -> str | None:
        """Certain by an array of positions, or arrays x and y without polarities."""
        lowered = {name.lower() for name in arrays.headers}
        found = arrays.find(POSITION_NAMES)
        if found is not None and _is_position(arrays.headers[found].shape):
            return f"{found} {arrays.headers[found].shape}"
        if {"x", "y"} <= lowered and not lowered & POLARITY_NAMES:
            return "x and y"
        return None

    def source(self, arrays: NpzArrays, options: Mapping[str, Any]) -> Source:
        """The recording in an open archive."""
        named = options.get("array")
        if (
            named is None
            and arrays.find(POSITION_NAMES) is None
            and arrays.find(("x",))
            and arrays.find(("y",))
        ):
            parts = [name for axis in SPACE_NAMES if (name := arrays.find((axis,))) is not None]
        else:
            parts = [arrays.need(named, POSITION_NAMES, "array", "positions")]
        shape = _whole_shape(arrays, parts)
        names = TrackNames(
            ONE_INDIVIDUAL if shape[1] == 1 and arrays.find(INDIVIDUAL_NAMES) is None
            else arrays.names(INDIVIDUAL_NAMES, shape[1], "individual"),
            ("position",) if shape[2] == 1 and arrays.find(KEYPOINT_NAMES) is None
            else arrays.names(KEYPOINT_NAMES, shape[2], "keypoint"),
            SPACE_NAMES[: shape[3]],
        )  # fmt: skip
        confidence = _confidence(arrays, shape)
        dtype = np.result_type(*(arrays.headers[part].dtype for part in parts)).newbyteorder("=")
        columns = list(names.columns(shape[0], dtype, confidence is not None, options.get("units")))
        if confidence is not None:
            own = arrays.headers[confidence].dtype.newbyteorder("=")
            columns[1] = Column("confidence", columns[1].dims, shape[:3], own, columns[1].attributes)
        times, time_name = times_of_arrays(arrays, shape[0], options)
        edges = parse_skeleton(options.get("skeleton"), names.keypoints) or _edges(arrays, names)
        info = SourceInfo(
            kind="tracks",
            format=self.name,
            columns=(*columns, *times.columns),
            identity=(identify_file(arrays.path),),
            ticks=times.ticks,
            side=names.side(),
            attributes={"arrays": parts, **times.facts},
            item_attributes=skeleton_attribute(edges),
            problems=times.problems,
        )

        def read(start: int, stop: int) -> dict[str, NDArray[Any]]:
            count = stop - start
            values = [arrays.read(part, start, stop) for part in parts]
            stacked = values[0] if len(parts) == 1 else np.stack(values, axis=-1)
            block: dict[str, NDArray[Any]] = {}
            block["position"] = stacked.reshape(count, *shape[1:]).astype(dtype, copy=False)
            if confidence is not None:
                block["confidence"] = arrays.read(confidence, start, stop).reshape(count, *shape[1:3])
            if times.columns and time_name is not None:
                block["source_time"] = arrays.read(time_name, start, stop).astype("f8", copy=False)
            return block

        return AssembledSource(info, read, arrays.close)


def _is_position(shape: tuple[int, ...]) -> bool:
    return 2 <= len(shape) <= 4 and shape[-1] in (2, 3)


def _whole_shape(arrays: NpzArrays, parts: Sequence[str]) -> tuple[int, int, int, int]:
    """(time, individual, keypoint, space) of the positions."""
    shapes = {part: arrays.headers[part].shape for part in parts}
    first = shapes[parts[0]]
    shape = (*first, len(parts)) if len(parts) > 1 else first
    broken = [part for part in parts if arrays.headers[part].dtype.kind not in "iuf"]
    if len(set(shapes.values())) > 1 or not _is_position(shape) or 0 in shape or broken:
        shown = ", ".join(f"{part} {shapes[part]} {arrays.headers[part].dtype}" for part in parts)
        raise SourceError(
            f"{arrays.path.name}: {shown} are no positions; expected numbers of shape (time, space), "
            "(time, keypoint, space) or (time, individual, keypoint, space), space being 2 or 3"
        )
    middle = (1,) * (4 - len(shape)) + shape[1:-1]
    return (shape[0], middle[0], middle[1], shape[-1])


def _confidence(arrays: NpzArrays, shape: tuple[int, ...]) -> str | None:
    found = arrays.find(CONFIDENCE_NAMES)
    if found is None:
        return None
    header = arrays.headers[found]
    squeezed = [size for size in header.shape[1:] if size != 1]
    if header.shape[:1] != shape[:1] or squeezed != [size for size in shape[1:3] if size != 1]:
        raise SourceError(
            f"{arrays.path.name}: {found} has shape {header.shape}, which does not fit positions of "
            f"(time, individual, keypoint, space) {shape}; expected one number for each position"
        )
    return found


def _edges(arrays: NpzArrays, names: TrackNames) -> list[list[int]]:
    found = arrays.find(EDGE_NAMES)
    if found is None or arrays.headers[found].dtype.kind not in "iu":
        return []
    edges = arrays.whole(found)
    if (
        edges.ndim != 2
        or edges.shape[1] != 2
        or (edges.size and not 0 <= edges.min() <= edges.max() < len(names.keypoints))
    ):
        raise SourceError(
            f"{arrays.path.name}: {found} has shape {edges.shape} and does not pair keypoints "
            f"0 to {len(names.keypoints) - 1}; expected (edge, 2)"
        )
    return [[int(start), int(end)] for start, end in edges]


NPZ_TRACKS = NpzTracks()
