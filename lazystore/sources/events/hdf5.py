"""Event layouts in HDF5 with one number a value: evio, DSEC and MVSEC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lazystore.errors import SourceError
from lazystore.sources.events.hdf5_file import (
    EventDatasets,
    Hdf5Columns,
    Hdf5EventFormat,
    Hdf5Matrix,
    attribute_size,
)

_COLUMNS = {name: f"events/{name}" for name in ("t", "x", "y", "p")}


def _has_columns(file: Any) -> bool:
    return all(path in file and hasattr(file[path], "shape") for path in _COLUMNS.values())


def _is_dsec(file: Any) -> bool:
    return "t_offset" in file or "ms_to_idx" in file


def _find_evio(file: Any, options: Mapping[str, Any]) -> Sequence[EventDatasets]:
    """`/events/{t, x, y, p}`, t in µs; width and height as attributes of the file or the group."""
    if not _has_columns(file) or _is_dsec(file):
        return ()
    unit = "s" if file["events/t"].dtype.kind == "f" else "us"
    sensor = attribute_size(file) or attribute_size(file["events"])
    return (EventDatasets("evio", "lazystore.evio/1", _COLUMNS, unit, sensor),)


def _find_dsec(file: Any, options: Mapping[str, Any]) -> Sequence[EventDatasets]:
    """`/events/{t, x, y, p}`, t in µs after `/t_offset`; `/ms_to_idx` is an index per millisecond."""
    if not _has_columns(file) or not _is_dsec(file):
        return ()
    offset = 0
    problems: tuple[str, ...] = ()
    if "t_offset" in file:
        stored = file["t_offset"]
        if stored.size != 1 or stored.dtype.kind not in "iu":
            raise SourceError(
                f"{Path(file.filename).name!r}: dataset 't_offset' holds {stored.dtype} of shape "
                f"{stored.shape}; expected one whole number of µs"
            )
        offset = int(stored[()].reshape(-1)[0]) if stored.shape else int(stored[()])
    else:
        problems = ("the file has no t_offset; times count from the recording's own start",)
    extra = {"ms_to_idx_entries": int(file["ms_to_idx"].shape[0]) if "ms_to_idx" in file else None}
    return (
        EventDatasets(
            "dsec", "lazystore.dsec/1", _COLUMNS, "us", None, offset, extra=extra, problems=problems
        ),
    )


def _find_mvsec(file: Any, options: Mapping[str, Any]) -> Sequence[EventDatasets]:
    """`/davis/left/events` and `/davis/right/events`, rows of x, y, t in s since 1970, p as -1/+1."""
    found: list[EventDatasets] = []
    for side in ("left", "right"):
        path = f"davis/{side}/events"
        if path in file and getattr(file[path], "ndim", 0) == 2 and file[path].shape[1] == 4:
            suffix = side if found else ""
            found.append(
                EventDatasets(
                    "mvsec", "lazystore.mvsec/1", {"t": path}, "s", unix_epoch=True, extra={"camera": side},
                    suffix=suffix,
                )
            )  # fmt: skip
    return found


EVIO = Hdf5EventFormat(
    "evio", "evio", "datasets events/t, events/x, events/y, events/p without t_offset and ms_to_idx",
    _find_evio, Hdf5Columns,
)  # fmt: skip
DSEC = Hdf5EventFormat(
    "dsec", "DSEC", "datasets events/t, events/x, events/y, events/p, and t_offset or ms_to_idx",
    _find_dsec, Hdf5Columns,
)  # fmt: skip
MVSEC = Hdf5EventFormat(
    "mvsec", "MVSEC", "a dataset davis/left/events or davis/right/events of shape (events, 4)",
    _find_mvsec, Hdf5Matrix,
)  # fmt: skip
