"""A text table (CSV, TSV) read by rows in bounded memory, with every value checked.

The file is scanned once when it is opened: rows are counted, ragged lines refused, values tried,
and the byte offset of every block noted, so that later any range of rows is one seek away.

Numbers are parsed by Python's float, which rounds correctly (fast parsers are off by one bit now
and then), some million a second. A row with a field too few is an error, not a NaN.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.sources.tables.text_fields import find_delimiter, parse_number, split_line

BLOCK_BYTES = 1 << 20
# A line longer than this is no table; without a bound a binary file would be read whole.
MAX_LINE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a block of whole lines begins: byte, and the numbers of its first row and line."""

    byte: int
    row: int
    line: int


class TextTable:
    """Rows of numbers in a text file.

    Parameters
    ----------
    path
        UTF-8 text; lines that begin with ``#`` before the header, and empty lines, do not count.
    header_rows
        Lines of names; 0 where `names` are given instead.
    names
        Column names of a file without a header.
    delimiter
        None for whichever of comma, tab and semicolon the first line has most of.

    Attributes
    ----------
    header
        One list of stripped fields for each header row.
    n_rows
        Rows below the header, once `scan` was called.

    Raises
    ------
    SourceError
        If the file cannot be read, or has no header, or nothing below it.
    """

    def __init__(
        self,
        path: Path,
        *,
        header_rows: int = 1,
        names: Sequence[str] | None = None,
        delimiter: str | None = None,
    ) -> None:
        self.path = path
        self.n_rows = 0
        self._marks: list[_Mark] = []
        self._cached: tuple[int, tuple[int, ...], NDArray[np.float64]] | None = None
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise SourceError(f"cannot read {str(path)!r}: {error.strerror}") from error
        try:
            lines = self._first_lines(header_rows)
            self.delimiter = delimiter or find_delimiter(lines[0])
            self.header = [split_line(line, self.delimiter) for line in lines[:header_rows]]
            self._first_row = split_line(lines[-1], self.delimiter)
            self._width = len(split_line(lines[0], self.delimiter))
            for number, row in enumerate(self.header):
                if len(row) != self._width:
                    raise SourceError(
                        f"{self.name}: header row {number + 1} has {len(row)} fields, the first has "
                        f"{self._width}; expected equal counts"
                    )
            self.names = tuple(self.header[0] if names is None else names)
            if len(self.names) != self._width:
                raise SourceError(
                    f"{self.name}: {len(self.names)} column names were given for {self._width} columns"
                )
        except BaseException:
            self._file.close()
            raise

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._file.close()
        self._cached = None

    def scan(self, columns: Sequence[int], keep: int | None = None) -> NDArray[np.float64]:
        """Check every row, note where blocks begin, and give the values of column `keep`.

        Parameters
        ----------
        columns
            Numbers of the columns whose values must be numbers (or missing).
        keep
            A column whose values are wanted, and which may not have missing ones.

        Returns
        -------
        np.ndarray
            Shape (row,), float64; empty if `keep` is None.

        Raises
        ------
        SourceError
            If a line is ragged, a value is no number, `keep` is missing one, or there are no rows.
        """
        self._marks, self.n_rows, self._cached = [], 0, None
        wanted = sorted({*columns, *(() if keep is None else (keep,))})
        kept: list[NDArray[np.float64]] = []
        for mark, block in self._blocks():
            count = self._check_widths(mark, block)
            if not count:
                continue
            self._marks.append(_Mark(mark.byte, self.n_rows, mark.line))
            values = self._parse(self._marks[-1], block, wanted)
            if keep is not None:
                column = values[:, wanted.index(keep)].copy()
                missing = np.flatnonzero(np.isnan(column))
                if missing.size:
                    raise SourceError(
                        f"{self.name}, line {self._line_of(mark, block, int(missing[0]))}: column "
                        f"{self.names[keep]!r} has no value; expected a time in every row"
                    )
                kept.append(column)
            self.n_rows += count
        if not self.n_rows:
            raise SourceError(f"{self.name} has a header but no rows; expected at least one")
        return np.concatenate(kept) if kept else np.empty(0)

    def read(self, start: int, stop: int, columns: Sequence[int]) -> NDArray[np.float64]:
        """Rows [start, stop) of some columns, shape (row, column), float64, NaN where missing."""
        wanted = tuple(sorted(set(columns)))
        parts = []
        first = bisect.bisect_right(self._marks, start, key=lambda mark: mark.row) - 1
        for number in range(first, len(self._marks)):
            mark = self._marks[number]
            if mark.row >= stop:
                break
            values = self._block_values(number, wanted)
            parts.append(values[max(0, start - mark.row) : stop - mark.row])
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return rows[:, [wanted.index(column) for column in columns]]

    def texts(self, column: int) -> list[str]:
        """All fields of one column as text, stripped. Holds the whole column."""
        fields = []
        for _, block in self._blocks():
            lines = block.decode("utf-8").split("\n")
            for line in lines:
                if line.strip():
                    fields.append(split_line(line, self.delimiter)[column])
        return fields

    def texts_of_first_row(self) -> list[str]:
        """The fields of the first row as text."""
        return list(self._first_row)

    # --- blocks of whole lines --------------------------------------------------------------

    def _first_lines(self, header_rows: int) -> list[str]:
        """The header and the first row (the row alone without a header); leaves the data's place."""
        lines: list[str] = []
        self._data_byte, self._data_line, line_number = 0, 1, 0
        while len(lines) < header_rows + 1:
            begin = self._file.tell()
            raw = self._file.readline(MAX_LINE_BYTES)
            line_number += 1
            if not raw:
                break
            if len(raw) == MAX_LINE_BYTES:
                raise SourceError(f"{self.name}, line {line_number} has no end within 16 MiB; is it a table?")
            text = self._decode(raw.removeprefix(b"\xef\xbb\xbf") if begin == 0 else raw, line_number)
            if not text.strip() or (not lines and text.startswith("#")):
                continue
            if len(lines) == header_rows:
                self._data_byte, self._data_line = begin, line_number
            lines.append(text)
        if len(lines) < max(1, header_rows):
            raise SourceError(f"{self.name} has no line of column names; expected names such as t,x,y")
        if len(lines) == header_rows:
            raise SourceError(f"{self.name} has a header but no rows; expected at least one")
        return lines

    def _decode(self, raw: bytes, line_number: int) -> str:
        try:
            return raw.decode("utf-8").strip("\r\n")
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{self.name}, line {line_number} is not UTF-8 text ({error.reason}); save it as UTF-8"
            ) from error

    def _blocks(self) -> Iterator[tuple[_Mark, bytes]]:
        """Blocks of whole lines, about `BLOCK_BYTES` each, from the first data line on."""
        byte, line, rest = self._data_byte, self._data_line, b""
        self._file.seek(byte)
        while True:
            part = self._file.read(BLOCK_BYTES)
            block = rest + part
            cut = block.rfind(b"\n") + 1 if part else len(block)
            if cut:
                yield _Mark(byte, 0, line), block[:cut]
                byte, line = byte + cut, line + block.count(b"\n", 0, cut)
                self._file.seek(byte + len(block) - cut)  # a caller may have read elsewhere
            if not part:
                return
            rest = block[cut:]
            if len(rest) > MAX_LINE_BYTES:
                raise SourceError(f"{self.name}, line {line} has no end within 16 MiB; is it a table?")

    def _check_widths(self, mark: _Mark, block: bytes) -> int:
        """Rows in a block, each of as many fields as the header."""
        buffer = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(buffer == 10)
        if not ends.size or ends[-1] != buffer.size - 1:
            ends = np.append(ends, buffer.size)
        if b'"' in block:
            widths = np.array(
                [
                    self._quoted_width(mark, n, raw)
                    for n, raw in enumerate(block.removesuffix(b"\n").split(b"\n"))
                ]
            )
        else:
            marks = np.concatenate([[0], np.cumsum(buffer == ord(self.delimiter))])
            widths = np.diff(marks[np.minimum(ends, buffer.size)], prepend=0) + 1
            lengths = np.diff(ends, prepend=-1) - 1
            lengths -= (lengths > 0) & (buffer[np.maximum(ends - 1, 0)] == 13)
            # A short line may hold nothing but blanks; those few are looked at one by one.
            for n in np.flatnonzero((lengths < 4) & (widths == 1)):
                begin = 0 if n == 0 else int(ends[n - 1]) + 1
                if not block[begin : int(ends[n])].strip():
                    widths[n] = 0
        wrong = np.flatnonzero((widths != self._width) & (widths != 0))
        if wrong.size:
            raise SourceError(
                f"{self.name}, line {mark.line + int(wrong[0])} has {int(widths[wrong[0]])} fields, the "
                f"header has {self._width}; expected as many in every line"
            )
        return int(np.count_nonzero(widths))

    def _quoted_width(self, mark: _Mark, number: int, raw: bytes) -> int:
        if raw.count(b'"') % 2:
            raise SourceError(
                f"{self.name}, line {mark.line + number} has a quote without its pair; "
                "quoted line breaks are not read"
            )
        line = self._decode(raw, mark.line + number)
        return len(split_line(line, self.delimiter)) if line.strip() else 0

    def _block_values(self, number: int, wanted: tuple[int, ...]) -> NDArray[np.float64]:
        # Conversion asks for neighbouring ranges: one block is kept between calls.
        if self._cached is not None and self._cached[:2] == (number, wanted):
            return self._cached[2]
        mark = self._marks[number]
        if self._file.closed:
            self._file = self.path.open("rb")
        self._file.seek(mark.byte)
        if number + 1 < len(self._marks):
            block = self._file.read(self._marks[number + 1].byte - mark.byte)
            rows = self._marks[number + 1].row - mark.row
        else:
            block = self._file.read()
            rows = self.n_rows - mark.row
        values = self._parse(mark, block, wanted)
        if len(values) != rows:
            raise SourceError(f"{self.name} changed while it was read; convert it again")
        self._cached = (number, wanted, values)
        return values

    def _parse(self, mark: _Mark, block: bytes, wanted: Sequence[int]) -> NDArray[np.float64]:
        """Values of a block, shape (row, wanted column)."""
        fields = self._fields(mark, block)
        values = np.empty((len(fields) // self._width, len(wanted)))
        for place, column in enumerate(wanted):
            texts = fields[column :: self._width]
            try:
                # Python reads 1_000 as a number, tables do not.
                numbers = None if b"_" in block else list(map(float, texts))
            except ValueError:  # a missing value, or no number at all
                numbers = None
            if numbers is None:
                numbers = [n for n in map(parse_number, texts) if n is not None]
                if len(numbers) < len(texts):
                    self._refuse(mark, block, wanted)
            values[:, place] = numbers
        return values

    def _fields(self, mark: _Mark, block: bytes) -> list[bytes]:
        """All fields of a block, row after row."""
        lines = [line for line in block.split(b"\n") if line.strip()]
        if b'"' not in block:
            delimiter = self.delimiter.encode()
            return delimiter.join(lines).split(delimiter)
        rows = [split_line(line.decode("utf-8"), self.delimiter) for line in lines]
        return [field.encode() for row in rows for field in row]

    def _line_of(self, mark: _Mark, block: bytes, row: int) -> int:
        """Line number of a block's row."""
        count = -1
        for number, raw in enumerate(block.split(b"\n")):
            count += bool(raw.strip())
            if count == row:
                return mark.line + number
        return mark.line

    def _refuse(self, mark: _Mark, block: bytes, wanted: Sequence[int]) -> NoReturn:
        """Name the first field of a block that is no number, by line and column."""
        for number, raw in enumerate(block.split(b"\n")):
            line = self._decode(raw, mark.line + number)
            if line.strip():
                fields = split_line(line, self.delimiter)
                for column in wanted:
                    if parse_number(fields[column].encode()) is None:
                        raise SourceError(
                            f"{self.name}, line {mark.line + number}: {fields[column]!r} in column "
                            f"{self.names[column]!r} is no number; correct it, or leave the field empty"
                        )
        raise SourceError(f"{self.name}, lines from {mark.line} on cannot be parsed")
