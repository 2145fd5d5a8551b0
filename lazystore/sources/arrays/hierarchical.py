"""One dataset of an HDF5 file as a source, read in blocks straight into place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lazystore.errors import MissingExtraError, SourceError
from lazystore.protocols import Block, Column, Recognition, Source, SourceInfo, Ticks
from lazystore.sources.arrays.labelled import plain_attributes
from lazystore.sources.arrays.npz import PREFERRED_NAMES
from lazystore.sources.frames import (
    ARRAY_KINDS,
    RATE_OPTION,
    default_kind,
    even_ticks,
    frame_column,
)
from lazystore.sources.identity import identify_file
from lazystore.sources.options import Option
from lazystore.sources.ticks import fit_ticks

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# Filters below this number come with HDF5 itself; the others need the plugin package.
_FIRST_PLUGIN_FILTER = 256
_MAX_OBJECTS = 10_000
_DEFAULT_CACHE_BYTES = 1024 * 1024
_MAX_CACHE_BYTES = 128 * 1024 * 1024


def list_datasets(file: Any) -> list[Any]:
    """Numeric datasets with records, at most the first 10,000 objects looked at."""
    import h5py

    found: list[Any] = []
    seen = 0

    def visit(_: str, node: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if (
            isinstance(node, h5py.Dataset)
            and node.shape
            and 0 not in node.shape
            and node.dtype.kind in "biuf"
        ):
            found.append(node)
        return True if seen >= _MAX_OBJECTS else None

    file.visititems(visit)
    return found


def choose_dataset(file: Any, wanted: str | None, name: str) -> Any:
    """The dataset that holds the recording.

    Raises
    ------
    SourceError
        If `wanted` is not there, or the choice is not obvious; the candidates are listed.
    """
    datasets = list_datasets(file)
    shown = ", ".join(f"{d.name} {d.shape} {d.dtype}" for d in datasets[:12]) or "none with numbers"
    if len(datasets) > 12:
        shown += f" and {len(datasets) - 12} more"
    if wanted is not None:
        node = file.get(wanted)
        if node is None or not hasattr(node, "dtype"):
            raise SourceError(f"{name!r} has no dataset {wanted!r}; it has: {shown}")
        return node
    candidates = [dataset for dataset in datasets if len(dataset.shape) >= 2 and dataset.shape[0] > 1]
    preferred = [d for d in candidates if d.name.rpartition("/")[2].lower() in PREFERRED_NAMES]
    for choice in (candidates, preferred):
        if len(choice) == 1:
            return choice[0]
    raise SourceError(
        f"{name!r} does not say which dataset is the recording; it has: {shown}; "
        "say which with the option dataset=PATH"
    )


class Hdf5Source:
    """A dataset (time, ...) of an HDF5 file.

    Parameters
    ----------
    path
        The file.
    options
        ``dataset``, ``times``, ``rate_hz``, ``kind``.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        with _open(path) as file:
            dataset = choose_dataset(file, options.get("dataset"), path.name)
            self._dataset_name = str(dataset.name)
            shape, dtype = tuple(map(int, dataset.shape or ())), np.dtype(dataset.dtype)
            _require_filters(dataset, path.name)
            chunk_records = dataset.chunks[0] if dataset.chunks else 1
            attributes = plain_attributes(dataset.attrs)
            label = f"{path.name}:{dataset.name}"
            chosen = options.get("kind") or default_kind(shape, dtype)
            column = frame_column(shape, dtype, chosen, label)
            ticks = _find_ticks(file, dataset, options, label)
        self._path = path
        # A read that ends inside a row of chunks leaves the rest of the row to the next read.
        row_bytes = chunk_records * dtype.itemsize * math.prod(shape[1:])
        self._cache_bytes = min(_MAX_CACHE_BYTES, max(_DEFAULT_CACHE_BYTES, row_bytes * 5 // 4))
        self._file: Any = None
        self._info = SourceInfo(
            kind=chosen,
            format="hdf5",
            columns=(Column(column.name, column.dims, column.shape, column.dtype, attributes),),
            identity=(identify_file(path),),
            ticks=ticks,
            attributes={"dataset": self._dataset_name},
        )

    @property
    def info(self) -> SourceInfo:
        """What the dataset is."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Records [start, stop)."""
        column = self._info.columns[0]
        values = np.empty((stop - start, *column.shape[1:]), column.dtype)
        try:
            if self._file is None:
                self._file = _open(self._path, rdcc_nbytes=self._cache_bytes)
            dataset = self._file[self._dataset_name]
            dataset.read_direct(values.reshape(stop - start, *dataset.shape[1:]), np.s_[start:stop])
        except (OSError, KeyError, RuntimeError) as error:
            raise SourceError(
                f"{self._path.name!r}: records {start} to {stop} of {self._dataset_name!r} "
                f"cannot be read: {error}"
            ) from error
        return Block(start, {"data": values})

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _open(path: Path, **settings: Any) -> Any:
    import h5py

    try:
        return h5py.File(path, "r", **settings)
    except OSError as error:
        raise SourceError(f"{path.name!r} is no readable HDF5 file: {error}") from error


def _require_filters(dataset: Any, name: str) -> None:
    properties = dataset.id.get_create_plist()
    numbers = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    if all(number < _FIRST_PLUGIN_FILTER for number in numbers):
        return
    try:
        import hdf5plugin  # noqa: F401  # importing it registers the filters
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{name!r} is compressed with HDF5 filter {max(numbers)}; pip install "lazystore[events]"'
        ) from error


def _find_ticks(file: Any, dataset: Any, options: Mapping[str, Any], label: str) -> Ticks:
    """Times from the option, else from the siblings that NWB files keep beside their data."""
    rate_hz, wanted = options.get("rate_hz"), options.get("times")
    siblings = dataset.parent
    times = file.get(wanted) if wanted is not None else siblings.get("timestamps")
    if wanted is not None and times is None:
        raise SourceError(f"{label!r}: there is no dataset {wanted!r} to take the times from")
    fits = times is not None and times.shape == dataset.shape[:1] and times.dtype.kind in "iuf"
    if wanted is not None and not fits:
        raise SourceError(
            f"{label!r}: times {wanted!r} have shape {times.shape} {times.dtype}, but there are "
            f"{dataset.shape[0]} records; expected one number a record, in seconds"
        )
    if fits and (wanted is not None or rate_hz is None):
        return fit_ticks(times[()]).ticks
    starting = siblings.get("starting_time")
    if rate_hz is None and starting is not None and "rate" in starting.attrs and starting.shape == ():
        rate = float(starting.attrs["rate"])
        if rate > 0 and math.isfinite(rate):
            return even_ticks(Fraction(str(rate)), first_s=float(starting[()]))
    return even_ticks(rate_hz)


class Hdf5Format:
    """Any HDF5 file with a dataset of frames; special layouts are other formats."""

    name = "hdf5"
    kinds = ARRAY_KINDS
    extensions = (".h5", ".hdf5", ".hdf", ".he5", ".nwb")
    options = (
        Option("dataset", "text", "path of the dataset that is the recording"),
        Option("times", "text", "path of a dataset of times in seconds, one a record"),
        RATE_OPTION,
    )

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Likely, if it is HDF5 with numbers; layouts with known names are certain and come first."""
        if not head.startswith(HDF5_MAGIC):
            return None
        try:
            with _open(path) as file:
                dataset = choose_dataset(file, None, path.name)
                shape, dtype = tuple(dataset.shape), np.dtype(dataset.dtype)
                return Recognition(False, f"{dataset.name} {shape} {dtype}", default_kind(shape, dtype))
        except SourceError:
            return Recognition(False, "several datasets")

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The chosen dataset."""
        return [Hdf5Source(path, options)]


HDF5 = Hdf5Format()
