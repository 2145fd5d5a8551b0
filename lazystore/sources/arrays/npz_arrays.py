"""The arrays of an .npz archive by name: small ones whole, long ones in blocks of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.sources.arrays.npy import NpyArray, NpyHeader
from lazystore.sources.arrays.npz import member_bytes, read_member_headers
from lazystore.sources.record_times import RecordTimes, times_from_rate, times_from_values
from lazystore.sources.ticks import time_unit

MAX_WHOLE_BYTES = 256 << 20
TIME_NAMES = ("time", "times", "t", "timestamps", "timestamp", "frame_times", "time_s")


class NpzArrays:
    """Access to the arrays of one archive; reads stream from the zip.

    Raises
    ------
    SourceError
        If the archive is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.headers: Mapping[str, NpyHeader] = read_member_headers(path)
        self._open: dict[str, NpyArray] = {}

    def find(self, wanted: Sequence[str]) -> str | None:
        """The first array, in the order of `wanted`, of one of these names (any case)."""
        lowered = {name.lower(): name for name in self.headers}
        return next((lowered[name] for name in wanted if name in lowered), None)

    def need(self, chosen: str | None, wanted: Sequence[str], option: str, what: str) -> str:
        """The array chosen, or of a telling name.

        Raises
        ------
        SourceError
            If there is none; the arrays there are get listed.
        """
        found = chosen if chosen in self.headers else None if chosen else self.find(wanted)
        if found is None:
            asked = f"{option}={chosen!r}" if chosen else f"{what} ({', '.join(wanted[:4])})"
            raise SourceError(
                f"{self.path.name} has no array {asked}; it has: {self.describe()}; "
                f"say which with the option {option}=NAME"
            )
        return found

    def describe(self) -> str:
        """The arrays with shapes and dtypes, for messages."""
        shown = [f"{name} {header.shape} {header.dtype}" for name, header in self.headers.items()]
        return ", ".join(shown) or "none"

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Records [start, stop) of one array."""
        if name not in self._open:
            header = self.headers[name]
            self._open[name] = NpyArray(header, member_bytes(self.path, name, header))
        return self._open[name].read(start, stop)

    def whole(self, name: str) -> NDArray[Any]:
        """One array, whole.

        Raises
        ------
        SourceError
            If it takes more than 256 MiB, or has no axis.
        """
        header = self.headers[name]
        if not header.shape or header.data_bytes > MAX_WHOLE_BYTES:
            raise SourceError(
                f"array {name!r} of {self.path.name} has shape {header.shape} and {header.data_bytes} bytes; "
                "expected a list of at most 256 MiB"
            )
        return self.read(name, 0, header.shape[0]) if header.shape[0] else np.empty(0, header.dtype)

    def names(self, wanted: Sequence[str], count: int, default: str) -> tuple[str, ...]:
        """Names along an axis: from a text array, else ``default_0``, ``default_1``, ...

        Raises
        ------
        SourceError
            If the text array has another length.
        """
        found = self.find(wanted)
        if found is None or self.headers[found].dtype.kind not in "US":
            return tuple(f"{default}_{number}" for number in range(count))
        values = self.whole(found)
        if values.shape != (count,):
            raise SourceError(
                f"{self.path.name}: {found!r} has shape {values.shape} for {count} of them; "
                f"expected ({count},)"
            )
        texts = values.astype(np.str_) if values.dtype.kind == "U" else np.strings.decode(values, "utf-8")
        return tuple(map(str, texts))

    def close(self) -> None:
        """Release the files. Idempotent."""
        for array in self._open.values():
            array.close()
        self._open.clear()


def times_of_arrays(
    arrays: NpzArrays, length: int, options: Mapping[str, Any]
) -> tuple[RecordTimes, str | None]:
    """Times of an archive's records, and the name of the array they come from, if any.

    Parameters
    ----------
    arrays
        The archive.
    length
        Number of records.
    options
        ``time_column``, ``time_unit``, ``rate_hz``.

    Raises
    ------
    SourceError
        If the times are not one number a record.
    """
    chosen = options.get("time_column")
    name = arrays.need(chosen, (), "time_column", "times") if chosen else arrays.find(TIME_NAMES)
    if name is None:
        return times_from_rate(options.get("rate_hz")), None
    header = arrays.headers[name]
    if header.shape != (length,) or header.dtype.kind not in "iuf":
        raise SourceError(
            f"times {name!r} of {arrays.path.name} have shape {header.shape} {header.dtype} for "
            f"{length} records; expected one number a record"
        )
    return times_from_values(arrays.whole(name), time_unit(name, options.get("time_unit")), name), name
