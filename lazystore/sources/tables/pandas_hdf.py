"""Frames that pandas wrote to HDF5, read with h5py alone: neither PyTables nor pickles are run.

pandas' ``table`` format is one compound dataset ``<key>/table`` with an ``index`` and blocks
``values_block_<n>`` of equal dtype; the column labels are the group's attribute ``non_index_axes``
and each block's ``values_block_<n>_kind``, pickled lists of str or tuples of str. The ``fixed``
format has datasets ``block<n>_values`` and labels in ``block<n>_items_level<k>`` / ``_label<k>``.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# Labels of thousands of columns; more is no list of names.
_MAX_PICKLE_BYTES = 4 << 20
# h5py's own errors for damaged files, and what a pickle that is none raises.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError)

type Label = tuple[str, ...]


class _NamesOnly(pickle.Unpickler):
    """Builds lists, tuples and text; anything that would import or call is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise SourceError(f"a pickled label asks for {module_name}.{global_name}; only plain names are read")

    def persistent_load(self, pid: Any) -> Any:
        raise SourceError(f"a pickled label asks for the object {pid!r}; only plain names are read")


def unpickle_names(data: bytes) -> Any:
    """Lists and tuples of text from a pickle, without running anything in it.

    Raises
    ------
    SourceError
        If it asks for a class or function, or is no pickle.

    >>> unpickle_names(pickle.dumps([("a", "x")], protocol=0))
    [('a', 'x')]
    """
    if len(data) > _MAX_PICKLE_BYTES:
        raise SourceError(
            f"pickled labels of {len(data)} bytes are too long for names; expected 4 MiB at most"
        )
    try:
        return _NamesOnly(io.BytesIO(data)).load()
    except SourceError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise SourceError(f"column labels are no readable pickle: {type(error).__name__}: {error}") from error


@dataclass(slots=True)
class PandasFrame:
    """One frame of numbers.

    Attributes
    ----------
    path, key
        The file, and the group in it.
    labels
        A tuple of text for each column, in the frame's order.
    n_rows
        Number of rows.
    """

    path: Path
    key: str
    labels: tuple[Label, ...]
    n_rows: int
    _index: tuple[str, str]
    # For each block: dataset, field ("" for none), and the frame's columns it holds, in its order.
    _blocks: tuple[tuple[str, str, NDArray[np.intp]], ...]
    _file: Any = field(default=None)

    def index(self) -> NDArray[Any]:
        """The rows' index, shape (row,), whole numbers or floats.

        Raises
        ------
        SourceError
            If it is text, as in hand labels of images.
        """
        try:
            values = self._get(self._index, 0, self.n_rows)
        finally:
            self.close()
        if values.dtype.kind not in "iuf" or values.ndim != 1:
            raise SourceError(
                f"{self.path.name}: the rows of {self.key!r} are not numbered by frame (index of dtype "
                f"{values.dtype}); hand labels of single images are no recording"
            )
        return values

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Rows [start, stop), shape (row, column), float64."""
        rows = np.empty((stop - start, len(self.labels)))
        for dataset, name, columns in self._blocks:
            rows[:, columns] = self._get((dataset, name), start, stop)
        return rows

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _get(self, where: tuple[str, str], start: int, stop: int) -> NDArray[Any]:
        import h5py

        try:
            if self._file is None:
                self._file = h5py.File(self.path, "r")
            dataset = self._file[where[0]]
            part = dataset.fields(where[1])[start:stop] if where[1] else dataset[start:stop]
        except _DAMAGE as error:
            raise SourceError(
                f"{self.path.name}: rows {start} to {stop} of {self.key!r} cannot be read: {error}"
            ) from error
        values: NDArray[Any] = np.asarray(part)
        return values


def find_frames(path: Path, head: bytes) -> list[PandasFrame]:
    """The frames of a file, by key; none if it is no HDF5 file or holds no frames of numbers.

    Raises
    ------
    SourceError
        If the labels of a frame are damaged, or hold a pickle that is more than names.
    """
    if not head.startswith(HDF5_MAGIC):
        return []
    import h5py

    frames = []
    try:
        with h5py.File(path, "r") as file:
            for key, group in file.items():
                kind = group.attrs.get("pandas_type") if isinstance(group, h5py.Group) else None
                if kind is None:
                    continue
                if _text(kind) == "frame_table":
                    frames.append(_table_frame(path, key, group))
                elif _text(kind) == "frame":
                    frames.append(_fixed_frame(path, key, group))
    except _DAMAGE as error:
        raise SourceError(f"{path.name}: its pandas frames cannot be read: {error}") from error
    return [frame for frame in frames if frame.n_rows and frame.labels]


def _text(value: Any) -> str:
    return bytes(value).decode() if isinstance(value, bytes) else str(value)


def _label(value: Any) -> Label:
    parts = value if isinstance(value, tuple) else (value,)
    # Nested tuples may be a bomb: a few bytes of pickle whose text has 2^60 characters.
    if not all(isinstance(part, str | int | float) for part in parts):
        raise SourceError(f"a column label has parts of type {type(parts[0]).__name__}; expected names")
    return tuple(map(str, parts))


def _table_frame(path: Path, key: str, group: Any) -> PandasFrame:
    axes = unpickle_names(bytes(group.attrs["non_index_axes"]))
    labels = tuple(_label(value) for value in axes[0][1])
    table = group["table"]
    place = {label: number for number, label in enumerate(labels)}
    blocks = []
    for name in table.dtype.names:
        if name.startswith("values_block_"):
            mine = unpickle_names(bytes(table.attrs[f"{name}_kind"]))
            columns = np.array([place[_label(value)] for value in mine], dtype=np.intp)
            _check_block(path, key, table.dtype[name].base, table.dtype[name].shape, columns)
            blocks.append((f"{key}/table", name, columns))
    _check_complete(path, key, labels, blocks)
    return PandasFrame(path, key, labels, table.shape[0], (f"{key}/table", "index"), tuple(blocks))


def _fixed_frame(path: Path, key: str, group: Any) -> PandasFrame:
    labels = _fixed_labels(group, "axis0")
    place = {label: number for number, label in enumerate(labels)}
    blocks, n_rows = [], group["axis1"].shape[0]
    for number in range(int(group.attrs["nblocks"])):
        columns = np.array(
            [place[label] for label in _fixed_labels(group, f"block{number}_items")], dtype=np.intp
        )
        values = group[f"block{number}_values"]
        _check_block(path, key, values.dtype, values.shape[1:], columns)
        blocks.append((f"{key}/block{number}_values", "", columns))
    _check_complete(path, key, labels, blocks)
    return PandasFrame(path, key, labels, n_rows, (f"{key}/axis1", ""), tuple(blocks))


def _fixed_labels(group: Any, name: str) -> tuple[Label, ...]:
    levels = int(group.attrs.get(f"{name}_nlevels", 0))
    if not levels:
        return tuple((_text(value),) for value in group[name][()])
    parts = []
    for level in range(levels):
        texts = [_text(value) for value in group[f"{name}_level{level}"][()]]
        parts.append([texts[code] for code in group[f"{name}_label{level}"][()]])
    return tuple(zip(*parts, strict=True))


def _check_block(
    path: Path, key: str, dtype: np.dtype[Any], shape: tuple[int, ...], columns: NDArray[np.intp]
) -> None:
    if dtype.kind not in "iuf" or shape != columns.shape:
        raise SourceError(
            f"{path.name}: a block of {key!r} has dtype {dtype} and {shape} columns for "
            f"{columns.size} names; expected numbers with a name each"
        )


def _check_complete(
    path: Path, key: str, labels: Sequence[Label], blocks: Sequence[tuple[str, str, NDArray[np.intp]]]
) -> None:
    held = sorted(int(column) for _, _, columns in blocks for column in columns)
    if held != list(range(len(labels))):
        raise SourceError(
            f"{path.name}: the blocks of {key!r} do not hold each of its {len(labels)} columns once"
        )
