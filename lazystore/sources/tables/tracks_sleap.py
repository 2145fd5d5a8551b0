"""SLEAP's analysis HDF5: tracks (track, space, node, frame), written for column-major readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Column, Recognition, Source, SourceInfo
from lazystore.schema import JSON
from lazystore.sources.assembled import AssembledSource
from lazystore.sources.frames import RATE_OPTION, even_ticks
from lazystore.sources.identity import identify_file
from lazystore.sources.tables.pandas_hdf import HDF5_MAGIC
from lazystore.sources.tables.tracks_layout import (
    SKELETON_OPTION,
    SPACE_NAMES,
    UNITS_OPTION,
    TrackNames,
    parse_skeleton,
    skeleton_attribute,
)

# Scores beside the positions: dataset -> (column of the item, its dims).
SCORES = {
    "point_scores": ("confidence", ("time", "individual", "keypoint")),
    "instance_scores": ("instance_score", ("time", "individual")),
    "tracking_scores": ("tracking_score", ("time", "individual")),
}
# SLEAP compresses with chunks that span frames; a row of them must fit or each is inflated again.
_CACHE_BYTES = 64 << 20
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError)


class SleapAnalysis:
    """``.analysis.h5`` as exported by SLEAP: row i is video frame i."""

    name = "sleap-analysis"
    kinds = ("tracks",)
    extensions = (".h5", ".hdf5")
    options = (RATE_OPTION, UNITS_OPTION, SKELETON_OPTION)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Certain by a four-dimensional ``tracks`` and ``node_names``."""
        if not head.startswith(HDF5_MAGIC):
            return None
        import h5py

        try:
            with h5py.File(path, "r") as file:
                if "node_names" in file and getattr(file.get("tracks"), "ndim", 0) == 4:
                    return Recognition(True, f"tracks {file['tracks'].shape}")
        except _DAMAGE:
            return None
        return None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The one recording of the file."""
        return [_open_source(path, options)]


def _open_source(path: Path, options: Mapping[str, Any]) -> Source:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            shape = tuple(map(int, file["tracks"].shape))
            dtype = np.dtype(file["tracks"].dtype).newbyteorder("=")
            if len(shape) != 4 or shape[1] not in (2, 3) or dtype.kind != "f" or 0 in shape:
                raise SourceError(
                    f"{path.name}: 'tracks' has shape {shape} and dtype {dtype}; expected floats of "
                    "(track, 2 or 3, node, frame)"
                )
            n_tracks, n_space, n_nodes, n_frames = shape
            keypoints = _names(file, "node_names")
            individuals = _names(file, "track_names") or tuple(f"track_{n}" for n in range(n_tracks))
            if (len(individuals), len(keypoints)) != (n_tracks, n_nodes):
                raise SourceError(
                    f"{path.name}: {len(individuals)} track names and {len(keypoints)} node names do not fit "
                    f"tracks of shape {shape}; expected {n_tracks} and {n_nodes}"
                )
            edges = _edges(file, keypoints, path.name)
            scores = _scores(file, (n_frames, n_tracks, n_nodes), path.name)
            facts = _facts(file)
    except _DAMAGE as error:
        raise SourceError(f"{path.name} is no whole SLEAP analysis file: {error}") from error
    names = TrackNames(individuals, keypoints, SPACE_NAMES[:n_space])
    position = names.columns(n_frames, dtype, False, options.get("units", "px"))
    asked = parse_skeleton(options.get("skeleton"), keypoints)
    info = SourceInfo(
        kind="tracks",
        format="sleap-analysis",
        columns=(*position, *scores.values()),
        identity=(identify_file(path),),
        ticks=even_ticks(options.get("rate_hz")),
        side=names.side(),
        attributes=facts,
        item_attributes=skeleton_attribute(asked or edges),
    )
    reader = _Reader(path, ("tracks", *scores))

    def read(start: int, stop: int) -> dict[str, NDArray[Any]]:
        parts = reader.read(start, stop)
        # (track, space, node, frame) -> (frame, track, node, space); scores are (..., track, frame).
        block = {"position": parts["tracks"].transpose(3, 0, 2, 1)}
        for dataset, column in scores.items():
            axes = (2, 0, 1) if len(column.dims) == 3 else (1, 0)
            block[column.name] = parts[dataset].transpose(axes)
        return {name: np.ascontiguousarray(values) for name, values in block.items()}

    return AssembledSource(info, read, reader.close)


class _Reader:
    """Frames [start, stop) of datasets whose last axis is the frame."""

    def __init__(self, path: Path, datasets: Sequence[str]) -> None:
        self._path = path
        self._datasets = tuple(datasets)
        self._file: Any = None

    def read(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        import h5py

        try:
            if self._file is None:
                self._file = h5py.File(self._path, "r", rdcc_nbytes=_CACHE_BYTES)
            return {name: self._file[name][..., start:stop] for name in self._datasets}
        except _DAMAGE as error:
            raise SourceError(
                f"{self._path.name}: frames {start} to {stop} cannot be read: {error}"
            ) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _names(file: Any, dataset: str) -> tuple[str, ...]:
    values = file[dataset][()] if dataset in file else ()
    return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values)


def _edges(file: Any, keypoints: Sequence[str], file_name: str) -> list[list[int]]:
    """Edges as pairs of node numbers, whichever way round the file has them."""
    if "edge_inds" not in file or not file["edge_inds"].size:
        return []
    edges = np.asarray(file["edge_inds"][()])
    if edges.ndim == 2 and edges.shape[1] != 2 and edges.shape[0] == 2:
        edges = edges.T
    elif edges.shape == (2, 2) and "edge_names" in file:
        # Square: only the names tell rows from columns.
        named = [[_name(value) for value in row] for row in file["edge_names"][()]]
        if [[keypoints[node] for node in row] for row in edges] != named:
            edges = edges.T
    is_whole = edges.dtype.kind in "iu" or bool(np.all(edges == np.rint(edges)))
    if edges.ndim != 2 or edges.shape[1] != 2 or not is_whole or not _all_nodes(edges, len(keypoints)):
        raise SourceError(
            f"{file_name}: 'edge_inds' of shape {edges.shape} does not pair nodes 0 to {len(keypoints) - 1}; "
            "expected (edge, 2)"
        )
    return [[int(start), int(end)] for start, end in edges]


def _name(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _all_nodes(edges: NDArray[Any], n_nodes: int) -> bool:
    return bool(edges.min() >= 0 and edges.max() < n_nodes)


def _scores(file: Any, shape: tuple[int, int, int], file_name: str) -> dict[str, Column]:
    """The score datasets there are, as columns."""
    found = {}
    for dataset, (column, dims) in SCORES.items():
        if dataset not in file or not file[dataset].size:
            continue
        wanted = shape[: len(dims)]
        stored = (*wanted[1:], wanted[0])
        if file[dataset].shape != stored or file[dataset].dtype.kind != "f":
            raise SourceError(
                f"{file_name}: {dataset!r} has shape {file[dataset].shape}; expected floats of {stored}"
            )
        dtype = np.dtype(file[dataset].dtype).newbyteorder("=")
        found[dataset] = Column(column, dims, wanted, dtype, {"long_name": dataset.replace("_", " ")})
    return found


def _facts(file: Any) -> dict[str, JSON]:
    """The video's file name, without the folders of the machine it was on."""
    if "video_path" not in file:
        return {}
    text = _name(file["video_path"][()])
    return {"video": PureWindowsPath(PurePosixPath(text).name).name}


SLEAP = SleapAnalysis()
