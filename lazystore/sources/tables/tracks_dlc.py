"""DeepLabCut's results: CSV with three or four header rows, and the HDF5 that pandas writes.

The columns are named by (scorer, bodypart, coord) or (scorer, individual, bodypart, coord), coord
being x, y (z) and likelihood; rows are video frames. Unique bodyparts of a multi-animal project
belong to the individual ``single``; a pair of individual and bodypart without columns is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Recognition, Source, SourceIdentity, SourceInfo
from lazystore.sources.assembled import AssembledSource
from lazystore.sources.frames import RATE_OPTION
from lazystore.sources.identity import identify_file
from lazystore.sources.record_times import RecordTimes, times_from_frames
from lazystore.sources.tables.pandas_hdf import PandasFrame, find_frames
from lazystore.sources.tables.table_kinds import header_lines
from lazystore.sources.tables.text_fields import is_number
from lazystore.sources.tables.text_table import TextTable
from lazystore.sources.tables.tracks_layout import (
    ONE_INDIVIDUAL,
    SKELETON_OPTION,
    SPACE_NAMES,
    UNITS_OPTION,
    TrackNames,
    TrackTable,
    parse_skeleton,
    skeleton_attribute,
)

OPTIONS = (RATE_OPTION, UNITS_OPTION, SKELETON_OPTION)
LIKELIHOOD = "likelihood"


def layout_of_labels(labels: Sequence[Sequence[str]], file_name: str, first_column: int = 0) -> TrackTable:
    """Where each coordinate is, from the labels of the value columns.

    Parameters
    ----------
    labels
        (scorer, bodypart, coord) or (scorer, individual, bodypart, coord) for each column.
    file_name
        For messages.
    first_column
        Number of the first of these columns in its table.

    Raises
    ------
    SourceError
        If a coordinate is unknown, or named twice.
    """
    places: dict[tuple[str, str, str], int] = {}
    for number, label in enumerate(labels):
        individual = label[1] if len(label) == 4 else ONE_INDIVIDUAL[0]
        place = (individual, label[-2], label[-1].lower())
        if place[2] not in (*SPACE_NAMES, LIKELIHOOD):
            raise SourceError(
                f"{file_name}: column {'/'.join(label)} is none of x, y, z, likelihood; "
                "expected DeepLabCut's coords"
            )
        if place in places:
            raise SourceError(
                f"{file_name}: column {'/'.join(label)} occurs twice; expected one scorer in a file"
            )
        places[place] = first_column + number
    individuals = tuple(dict.fromkeys(individual for individual, _, _ in places))
    keypoints = tuple(dict.fromkeys(keypoint for _, keypoint, _ in places))
    space = tuple(axis for axis in SPACE_NAMES if any(coord == axis for _, _, coord in places))
    position = [[[places.get((i, k, axis), -1) for axis in space] for k in keypoints] for i in individuals]
    confidence = np.array([[places.get((i, k, LIKELIHOOD), -1) for k in keypoints] for i in individuals])
    if len(space) < 2:
        raise SourceError(f"{file_name} has no columns x and y; expected DeepLabCut's coords")
    return TrackTable(
        TrackNames(individuals, keypoints, space),
        np.array(position, dtype=np.intp),
        confidence.astype(np.intp) if (confidence >= 0).any() else None,
    )


def _info(
    name: str,
    layout: TrackTable,
    times: RecordTimes,
    n_records: int,
    scorer: str,
    identity: SourceIdentity,
    options: Mapping[str, Any],
) -> SourceInfo:
    names = layout.names
    units = options.get("units", "px")
    return SourceInfo(
        kind="tracks",
        format=name,
        columns=names.columns(n_records, np.dtype("f8"), layout.confidence is not None, units),
        identity=(identity,),
        ticks=times.ticks,
        side=names.side(),
        attributes={"scorer": scorer, **times.facts},
        item_attributes=skeleton_attribute(parse_skeleton(options.get("skeleton"), names.keypoints)),
        problems=times.problems,
    )


class DlcCsv:
    """DeepLabCut's ``.csv``."""

    name = "dlc-csv"
    kinds = ("tracks",)
    extensions = (".csv",)
    options = OPTIONS

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Certain by the header rows scorer, (individuals,) bodyparts, coords."""
        return Recognition(True) if _header_rows(path, head) is not None else None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The one recording of the file."""
        with path.open("rb") as file:
            rows = _header_rows(path, file.read(4096))
        if rows is None:
            raise SourceError(
                f"{path.name} does not begin with rows scorer, bodyparts, coords; is it DeepLabCut's CSV?"
            )
        table = TextTable(path, header_rows=rows)
        try:
            return [self._source(table, options)]
        except BaseException:
            table.close()
            raise

    def _source(self, table: TextTable, options: Mapping[str, Any]) -> Source:
        labels = list(zip(*table.header, strict=True))[1:]
        layout = layout_of_labels(labels, table.name, first_column=1)
        first = table.texts_of_first_row()[0]
        if not is_number(first):
            raise SourceError(
                f"{table.name}: the first row is labelled {first!r}, not with a frame number; hand labels of "
                "single images are no recording: convert the result of an analysed video"
            )
        # The header's first row repeats the scorer: these names tell columns apart in messages.
        table.names = ("frame", *("/".join(label[1:]) for label in labels))
        frames = table.scan(layout.columns, keep=0)
        times = times_from_frames(frames, options.get("rate_hz"), "frame", table.name)
        info = _info(self.name, layout, times, table.n_rows, labels[0][0], identify_file(table.path), options)

        def read(start: int, stop: int) -> dict[str, NDArray[Any]]:
            return layout.take(table.read(start, stop, layout.columns))

        return AssembledSource(info, read, table.close)


def _header_rows(path: Path, head: bytes) -> int | None:
    """3 or 4 for DeepLabCut's CSV, None for anything else."""
    lines = header_lines(path, head, 4)
    if lines is None or len(lines) < 3:
        return None
    titles = [line[0] for line in lines]
    for expected in (["scorer", "bodyparts", "coords"], ["scorer", "individuals", "bodyparts", "coords"]):
        if titles[: len(expected)] == expected:
            return len(expected)
    return None


class DlcHdf5:
    """DeepLabCut's ``.h5``: a pandas frame, usually under the key ``df_with_missing``."""

    name = "dlc-h5"
    kinds = ("tracks",)
    extensions = (".h5", ".hdf5")
    options = OPTIONS

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Certain by a pandas frame whose columns end in x, y."""
        try:
            frames = find_frames(path, head)
        except SourceError:
            return None  # labels that are no names are not DeepLabCut's; `open` says what is wrong
        if not frames or not {"x", "y"} <= {label[-1] for label in frames[0].labels}:
            return None
        return Recognition(True, f"pandas frame {frames[0].key!r}")

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The one recording of the file."""
        with path.open("rb") as file:
            frames = find_frames(path, file.read(4096))
        if len(frames) != 1:
            raise SourceError(
                f"{path.name} holds {len(frames)} pandas frames of numbers; expected DeepLabCut's one"
            )
        return [self._source(frames[0], options)]

    def _source(self, frame: PandasFrame, options: Mapping[str, Any]) -> Source:
        layout = layout_of_labels(frame.labels, frame.path.name)
        rate: Fraction | None = options.get("rate_hz")
        times = times_from_frames(frame.index(), rate, "index", frame.path.name)
        scorer = frame.labels[0][0]
        info = _info(self.name, layout, times, frame.n_rows, scorer, identify_file(frame.path), options)

        def read(start: int, stop: int) -> dict[str, NDArray[Any]]:
            return layout.take(frame.read(start, stop)[:, layout.columns])

        return AssembledSource(info, read, frame.close)


DLC_CSV = DlcCsv()
DLC_HDF5 = DlcHdf5()
