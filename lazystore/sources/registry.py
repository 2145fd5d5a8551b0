"""Which formats there are, which one a file is, and how to open it.

A format's module is imported only when a file may be one of its own. Content decides before the
name does: formats that claim the ending are asked first, and only when none of them is certain
are the others asked.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import KINDS, Source
from lazystore.sources.concat import ConcatSource
from lazystore.sources.frames import ARRAY_KINDS
from lazystore.sources.memory import open_memory
from lazystore.sources.options import Option, parse_options
from lazystore.sources.recognition import FormatRow, claim_file, existing_path, missing_extra
from lazystore.sources.stacks.images import ENDINGS as IMAGE_ENDINGS
from lazystore.sources.stacks.images import IMAGES, are_single_images
from lazystore.sources.tables.text_fields import TEXT_EXTENSIONS
from lazystore.sources.video.container import EXTENSIONS as VIDEO_EXTENSIONS

ENTRY_POINT_GROUP = "lazystore.sources"


# The order decides between formats that are equally sure and give the same kind: special layouts
# first, the general container last. One line a format.
FORMATS: tuple[FormatRow, ...] = (
    # --- events -----------------------------------------------------------------------------
    FormatRow("evt2", "lazystore.sources.events.raw:EVT2", (".raw",), ("events",)),
    FormatRow("evt21", "lazystore.sources.events.raw:EVT21", (".raw",), ("events",)),
    FormatRow("evt3", "lazystore.sources.events.raw:EVT3", (".raw",), ("events",)),
    FormatRow("dat", "lazystore.sources.events.dat:DAT", (".dat",), ("events",)),
    FormatRow("evio", "lazystore.sources.events.hdf5:EVIO", (".h5", ".hdf5"), ("events",), "events"),
    FormatRow("dsec", "lazystore.sources.events.hdf5:DSEC", (".h5", ".hdf5"), ("events",), "events"),
    FormatRow("mvsec", "lazystore.sources.events.hdf5:MVSEC", (".h5", ".hdf5"), ("events",), "events"),
    FormatRow(
        "metavision",
        "lazystore.sources.events.metavision:METAVISION",
        (".h5", ".hdf5"),
        ("events",),
        "events",
    ),
    FormatRow("aedat4", "lazystore.sources.events.aedat4:AEDAT4", (".aedat4",), ("events",), "events"),
    FormatRow(
        "ros", "lazystore.sources.events.ros:ROS", (".bag", ".mcap", ".db3", "/"), ("events",), "events"
    ),
    FormatRow(
        "numpy-events", "lazystore.sources.events.numpy_files:NUMPY_EVENTS", (".npz", ".npy"), ("events",)
    ),
    FormatRow(
        "text-events", "lazystore.sources.events.text:TEXT_EVENTS", (".txt", ".csv", ".tsv"), ("events",)
    ),
    FormatRow("nmnist", "lazystore.sources.events.nmnist:NMNIST", (".bin",), ("events",)),
    # --- tracks, series, spikes, intervals --------------------------------------------------
    FormatRow(
        "sleap-analysis",
        "lazystore.sources.tables.tracks_sleap:SLEAP",
        (".h5", ".hdf5"),
        ("tracks",),
        "events",
    ),
    FormatRow(
        "dlc-h5", "lazystore.sources.tables.tracks_dlc:DLC_HDF5", (".h5", ".hdf5"), ("tracks",), "events"
    ),
    FormatRow("dlc-csv", "lazystore.sources.tables.tracks_dlc:DLC_CSV", (".csv",), ("tracks",)),
    FormatRow("csv-tracks", "lazystore.sources.tables.tracks:CSV_TRACKS", TEXT_EXTENSIONS, ("tracks",)),
    FormatRow("csv-spikes", "lazystore.sources.tables.spikes:CSV_SPIKES", TEXT_EXTENSIONS, ("spikes",)),
    FormatRow(
        "csv-intervals", "lazystore.sources.tables.intervals:CSV_INTERVALS", TEXT_EXTENSIONS, ("intervals",)
    ),
    FormatRow("csv-series", "lazystore.sources.tables.series:CSV_SERIES", TEXT_EXTENSIONS, ("series",)),
    FormatRow("npz-tracks", "lazystore.sources.tables.tracks_npz:NPZ_TRACKS", (".npz",), ("tracks",)),
    FormatRow("npz-spikes", "lazystore.sources.tables.spikes:NPZ_SPIKES", (".npz",), ("spikes",)),
    FormatRow("npz-intervals", "lazystore.sources.tables.intervals:NPZ_INTERVALS", (".npz",), ("intervals",)),
    # --- video ------------------------------------------------------------------------------
    FormatRow("video", "lazystore.sources.video.recording:VIDEO", VIDEO_EXTENSIONS, ("video",), "video"),
    # --- stacks and fields ------------------------------------------------------------------
    FormatRow(
        "images", "lazystore.sources.stacks.images:IMAGES", (*IMAGE_ENDINGS, "/"), ("stack",), "stacks"
    ),
    FormatRow(
        "tiff", "lazystore.sources.stacks.tiff:TIFF", (".tif", ".tiff", ".btf", ".tf8"), ("stack",), "stacks"
    ),
    FormatRow("npy", "lazystore.sources.arrays.npy:NPY", (".npy",), ARRAY_KINDS),
    FormatRow(
        "netcdf", "lazystore.sources.arrays.datasets:NETCDF", (".nc", ".nc4", ".cdf", ".netcdf"), ARRAY_KINDS
    ),
    FormatRow("zarr", "lazystore.sources.arrays.datasets:ZARR", (".zarr",), ARRAY_KINDS),
    FormatRow("npz", "lazystore.sources.arrays.npz:NPZ", (".npz",), ARRAY_KINDS),
    FormatRow(
        "hdf5",
        "lazystore.sources.arrays.hierarchical:HDF5",
        (".h5", ".hdf5", ".hdf", ".he5", ".nwb"),
        ARRAY_KINDS,
        "events",
    ),
)


@functools.cache
def _outside_formats() -> tuple[FormatRow, ...]:
    """Formats that other packages bring; loaded once, because only the object knows its endings."""
    return tuple(_outside_row(entry) for entry in entry_points(group=ENTRY_POINT_GROUP))


def _outside_row(entry: EntryPoint) -> FormatRow:
    try:
        loaded = entry.load()
        return FormatRow(entry.name, entry.value, tuple(loaded.extensions), tuple(loaded.kinds))
    except Exception as error:  # A broken plugin must not take the other formats with it.
        note = f"broken:{type(error).__name__}: {error}"
        return FormatRow(entry.name, note, (), ())


def list_formats() -> list[FormatRow]:
    """Every format, lazystore's own first, then those of other packages."""
    return [*FORMATS, *(row for row in _outside_formats() if row.kinds)]


def find_format(name: str) -> FormatRow:
    """The format of a name.

    Raises
    ------
    UsageError
        If there is none, or the package that brings it does not load.
    """
    for row in list_formats():
        if row.name == name:
            return row
    for row in _outside_formats():
        if row.name == name:
            raise UsageError(
                f"format {name!r} is installed but does not load ({row.target.partition(':')[2]}); "
                "update or remove the package that brings it"
            )
    known = ", ".join(row.name for row in list_formats())
    raise UsageError(f"unknown format {name!r}; the formats are: {known}")


def recognise(path: str | os.PathLike[str], *, kind: str | None = None) -> tuple[str, str]:
    """Name of the format that a file is in, and the kind it would become.

    Raises
    ------
    UsageError
        If `kind` is none of the kinds.
    SourceError
        If the file is missing, empty, unknown (`UnknownFormatError`), or several formats claim it.
    MissingExtraError
        If only a format whose package is missing could tell.
    """
    row, claim = claim_file(existing_path(path), list_formats(), _checked_kind(kind))
    return row.name, kind or claim.kind or row.kinds[0]


def open_path(
    path: str | os.PathLike[str],
    *,
    kind: str | None = None,
    format: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Source]:
    """The streams of one file or folder, the main one first.

    Parameters
    ----------
    path
        A file, or a folder of images, or a Zarr folder.
    kind, format
        Override what the content says; see `list_formats`.
    options
        What the format is told; each format declares its own.

    Raises
    ------
    UsageError
        If `kind`, `format` or an option is unknown, or the format cannot become that kind.
    SourceError
        If the file is missing, empty, unknown or damaged.
    MissingExtraError
        If the package that reads it is not installed.
    """
    kind = _checked_kind(kind)
    named = None if format is None else find_format(format)
    existing = existing_path(path)
    if named is None:
        row, claim = claim_file(existing, list_formats(), kind)
        if kind is None and claim.kind and len(row.kinds) > 1:
            kind = claim.kind
    else:
        row = named
    if kind is not None and kind not in row.kinds:
        raise UsageError(
            f"format {row.name!r} cannot become kind {kind!r}; it can become {', '.join(row.kinds)}"
        )
    loaded = row.load()
    declared: Sequence[Option] = getattr(loaded, "options", ())
    parsed = parse_options(row.name, declared, options or {})
    if kind is not None:
        parsed["kind"] = kind
    try:
        sources = list(loaded.open(existing, parsed))
    except ModuleNotFoundError as error:
        raise missing_extra(row, error) from error
    if not sources:
        raise SourceError(f"{existing.name!r} ({row.name}) holds no recording; nothing to read")
    return sources


def open_sources(
    source: Any,
    *,
    kind: str | None = None,
    format: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Source]:
    """The streams of a recording, the main one first.

    Parameters
    ----------
    source
        A path (file or folder), a list of paths that are one recording split over files, in the
        order wanted, an array, a list of 1-D arrays, or an xarray object.
    kind, format
        Override what the content says; see `list_formats`.
    options
        What the format is told; each format declares its own.

    Raises
    ------
    UsageError
        If `kind`, `format` or an option is unknown, or `source` is nothing of the above.
    SourceError
        If a file is missing, empty, unknown or damaged, or files do not fit each other.
    MissingExtraError
        If the package that reads it is not installed.
    """
    if isinstance(source, str | os.PathLike):
        return open_path(source, kind=kind, format=format, options=options)
    if isinstance(source, list | tuple) and source and all(isinstance(s, str | os.PathLike) for s in source):
        return _open_joined(source, kind=kind, format=format, options=options)
    if format is not None:
        raise UsageError(f"format={format!r} is for files, not for a {type(source).__name__} in memory")
    return open_memory(source, kind=_checked_kind(kind), options=options)


def _open_joined(paths: Sequence[str | os.PathLike[str]], **how: Any) -> list[Source]:
    """Recordings split over files, joined stream by stream."""
    if how["format"] in (None, "images") and how["kind"] in (None, "stack"):
        files = [existing_path(path) for path in paths]
        # One reader for all: thousands of single images would be thousands of sources.
        if are_single_images(files):
            parsed = parse_options("images", IMAGES.options, how["options"] or {})
            try:
                return list(IMAGES.open_files(files[0].parent.name, files, parsed))
            except ModuleNotFoundError as error:
                raise missing_extra(find_format("images"), error) from error
    opened: list[list[Source]] = []
    try:
        for path in paths:
            opened.append(open_path(path, **how))
            if len(paths) > 1:
                # Known now, and opened again when read: thousands of files cannot all stay open.
                for source in opened[-1]:
                    source.close()
            suffixes = [[source.info.suffix for source in streams] for streams in (opened[0], opened[-1])]
            if suffixes[0] != suffixes[1]:
                raise SourceError(
                    f"{os.fspath(path)!r} has the streams {suffixes[1]!r}, "
                    f"the first file has {suffixes[0]!r}; join recordings of one layout"
                )
        if len(opened) == 1:
            return opened[0]
        return [ConcatSource(streams) for streams in zip(*opened, strict=True)]
    except BaseException:
        for streams in opened:
            for source in streams:
                source.close()
        raise


def _checked_kind(kind: str | None) -> str | None:
    if kind is not None and kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}; the kinds are: {', '.join(KINDS)}")
    return kind
