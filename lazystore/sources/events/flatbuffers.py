"""Reading FlatBuffers tables without generated code, every offset checked.

A table begins with the distance back to its vtable; the vtable lists where each field lies in the
table, 0 for fields that have their default. References are u32 distances forward.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FlatTable:
    """One table in a buffer.

    Raises
    ------
    ValueError
        From every method, if an offset points outside the buffer.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        vtable = position - _unpack("<i", data, position)
        size = _unpack("<H", data, vtable)
        if size < 4 or vtable + size > len(data):
            raise ValueError(f"a vtable of {size} bytes at {vtable} of {len(data)}")
        self._fields: tuple[int, ...] = struct.unpack_from(f"<{size // 2 - 2}H", data, vtable + 4)

    @classmethod
    def root(cls, data: bytes, position: int = 0) -> FlatTable:
        """The root table of the buffer that begins at `position`."""
        return cls(data, position + _unpack("<I", data, position))

    def number(self, field: int, kind: str, default: Any = 0) -> Any:
        """A scalar field; `kind` as in `struct`, such as ``"<q"``."""
        where = self._where(field)
        return _unpack(kind, self._data, where) if where else default

    def text(self, field: int) -> str:
        """A string field, empty if it is not there."""
        start, length = self.vector(field)
        if start + length > len(self._data):
            raise ValueError(f"a text of {length} bytes at {start} of {len(self._data)}")
        return self._data[start : start + length].decode("utf-8", "replace")

    def vector(self, field: int) -> tuple[int, int]:
        """Position of the first element of a vector field, and how many it says there are."""
        where = self._where(field)
        if not where:
            return len(self._data), 0
        start = where + _unpack("<I", self._data, where)
        return start + 4, _unpack("<I", self._data, start)

    def array(self, field: int, dtype: np.dtype[Any] | str) -> NDArray[Any]:
        """A vector field of numbers or structs, a view of the buffer."""
        start, length = self.vector(field)
        kind = np.dtype(dtype)
        if start + length * kind.itemsize > len(self._data):
            raise ValueError(f"a vector of {length} x {kind.itemsize} bytes at {start} of {len(self._data)}")
        return np.frombuffer(self._data, kind, length, start)

    def tables(self, field: int, columns: Mapping[int, str]) -> list[NDArray[Any]]:
        """Some fields of a vector of tables as arrays.

        Parameters
        ----------
        columns
            dtype of each wanted field, by its number.

        Returns
        -------
        list of np.ndarray
            One array a column, shape (table,), 0 where a table has no such field.
        """
        start, _ = self.vector(field)
        offsets = self.array(field, "<u4").astype(np.int64)
        data = np.frombuffer(self._data, np.uint8)
        positions = start + 4 * np.arange(len(offsets)) + offsets
        vtables = positions - _gather(data, positions, "<i4").astype(np.int64)
        sizes = _gather(data, vtables, "<u2").astype(np.int64)
        found = []
        for number, kind in columns.items():
            entry = 4 + 2 * number
            has_entry = sizes >= entry + 2
            where = np.zeros(len(positions), np.int64)
            where[has_entry] = _gather(data, vtables[has_entry] + entry, "<u2")
            values = np.zeros(len(positions), kind)
            is_set = where > 0
            values[is_set] = _gather(data, positions[is_set] + where[is_set], kind)
            found.append(values)
        return found

    def _where(self, field: int) -> int:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._position + offset if offset else 0


def _unpack(kind: str, data: bytes, position: int) -> Any:
    if not 0 <= position <= len(data) - struct.calcsize(kind):
        raise ValueError(f"an offset to byte {position} of {len(data)}")
    return struct.unpack_from(kind, data, position)[0]


def _gather(data: NDArray[np.uint8], positions: NDArray[np.int64], kind: str) -> NDArray[Any]:
    """The values of dtype `kind` at each of `positions`, which need no alignment."""
    dtype = np.dtype(kind)
    if len(positions) == 0:
        return np.empty(0, dtype)
    if positions.min() < 0 or positions.max() > len(data) - dtype.itemsize:
        raise ValueError(f"an offset outside the {len(data)} bytes of the buffer")
    raw = data[positions[:, None] + np.arange(dtype.itemsize)]
    return np.ascontiguousarray(raw).view(dtype).reshape(-1)
