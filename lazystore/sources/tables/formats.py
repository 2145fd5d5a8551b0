"""What formats of one kind of container share: a text table or an .npz archive holds one recording.

The container is closed where opening the recording fails; afterwards the recording closes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lazystore.errors import SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.arrays.npz import ZIP_MAGIC
from lazystore.sources.arrays.npz_arrays import NpzArrays
from lazystore.sources.options import Option
from lazystore.sources.tables.table_kinds import recognise_table
from lazystore.sources.tables.text_fields import TEXT_EXTENSIONS
from lazystore.sources.tables.text_table import TextTable

COLUMNS_OPTION = Option("columns", "text", "names of the columns of a file without a header, as in t,x,y")


class TextTableFormat(ABC):
    """A kind of recording in a table of text, known by the names of its columns."""

    name: str
    kinds: tuple[str, ...]
    options: tuple[Option, ...]
    extensions = TEXT_EXTENSIONS

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Certain by the columns that `classify_columns` knows for the kind."""
        return recognise_table(path, head, self.kinds[0])

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The one recording of the file."""
        table = _open_table(path, options)
        try:
            return [self.source(table, options)]
        except BaseException:
            table.close()
            raise

    @abstractmethod
    def source(self, table: TextTable, options: Mapping[str, Any]) -> Source:
        """The recording in an open table."""


class NpzFormat(ABC):
    """A kind of recording in an .npz archive, known by the names and shapes of its arrays."""

    name: str
    kinds: tuple[str, ...]
    options: tuple[Option, ...]
    extensions = (".npz",)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Certain by what `claim` says of the arrays."""
        if not head.startswith(ZIP_MAGIC):
            return None
        try:
            arrays = NpzArrays(path)
        except SourceError:
            return None
        evidence = self.claim(arrays)
        return None if evidence is None else Recognition(True, evidence)

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The one recording of the archive."""
        arrays = NpzArrays(path)
        try:
            return [self.source(arrays, options)]
        except BaseException:
            arrays.close()
            raise

    @abstractmethod
    def claim(self, arrays: NpzArrays) -> str | None:
        """Which arrays say that it is of this kind; None if none do."""

    @abstractmethod
    def source(self, arrays: NpzArrays, options: Mapping[str, Any]) -> Source:
        """The recording in an open archive."""


def _open_table(path: Path, options: Mapping[str, Any]) -> TextTable:
    """The table of a file whose first line names the columns, or whose columns an option names."""
    names = options.get("columns")
    if names is None:
        return TextTable(path)
    return TextTable(path, header_rows=0, names=[name.strip() for name in names.split(",")])
