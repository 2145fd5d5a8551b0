"""A source put together from what it is, how blocks of it are read, and how it is closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lazystore.protocols import Block, SourceInfo


@dataclass(frozen=True, slots=True)
class AssembledSource:
    """One recording of a table-like file.

    Attributes
    ----------
    info
        What the recording is.
    read_columns
        Records [start, stop) of every column, by name.
    release
        Closes the files; the next read may open them again. Idempotent.
    """

    info: SourceInfo
    read_columns: Callable[[int, int], Mapping[str, NDArray[Any]]]
    release: Callable[[], None]

    def read(self, start: int, stop: int) -> Block:
        """Records [start, stop)."""
        return Block(start, self.read_columns(start, stop))

    def close(self) -> None:
        """Release the files."""
        self.release()
