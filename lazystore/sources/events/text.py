"""Events in text: RPG's ``t x y p`` lines, CSV with and without a header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.events.blocks import CheckpointedEvents, DecodedBlock
from lazystore.sources.events.columns import EventColumns
from lazystore.sources.events.info import SENSOR_OPTION, RecordingFacts
from lazystore.sources.events.names import COLUMNS_OPTION, describe_choice
from lazystore.sources.events.text_layout import HEAD_BYTES, TextLayout, find_text_layout
from lazystore.sources.events.values import TIME_UNIT_OPTION

BLOCK_BYTES = 256 * 1024
# The shortest line of an event, "0 0 0 0" and its end.
MIN_LINE_BYTES = 8

_EXPONENTS = {"s": 6, "ms": 3, "us": 0, "ns": -3}
_FAULTS = {
    1: "has too few fields",
    2: "has a field that is no number",
    3: "has an x or y that is no whole number from 0 to 65535",
    4: "has a polarity that is none of -1, 0, 1",
    5: "has a time that is too large",
}


class TextDecoder:
    """A `BlockDecoder` of one text file; its checkpoints are byte offsets of lines."""

    def __init__(self, path: Path, layout: TextLayout) -> None:
        self._path = path
        self._layout = layout
        self._handle: FileIO | None = None
        self._size = path.stat().st_size
        self._buffer: NDArray[np.uint8] | None = None
        self._columns = EventColumns.empty(0)
        self.restore(None)

    @property
    def sensor(self) -> tuple[int, int] | None:
        return self._layout.sensor

    def restore(self, checkpoint: Any) -> None:
        from lazystore.sources.events.kernels import text

        if checkpoint is None:
            self._offset, self._state = self._layout.data_offset, np.zeros(text.STATE_SIZE, np.int64)
        else:
            self._offset, self._state = checkpoint[0], checkpoint[1].copy()
        self._cut_line = ""
        self._has_open_end = False

    def checkpoint(self) -> tuple[int, NDArray[np.int64]]:
        return self._offset, self._state.copy()

    def next_block(self) -> DecodedBlock | None:
        from lazystore.sources.events.kernels import text

        if self._offset >= self._size:
            return None
        if self._buffer is None:
            # One byte more, for the newline that the last line may lack.
            self._buffer = np.empty(BLOCK_BYTES + 1, np.uint8)
            self._columns = EventColumns.empty(BLOCK_BYTES // MIN_LINE_BYTES + 1)
        length, is_open = self._read_lines(self._buffer)
        at = self._layout.columns
        columns = self._columns
        n = text.parse_lines(
            self._buffer, length, at["t"], at["x"], at["y"], at["p"],
            _EXPONENTS[self._layout.time_unit], self._state, columns.t, columns.x, columns.y, columns.p,
        )  # fmt: skip
        self._has_open_end = is_open
        if self._state[text.FAULT]:
            self._explain(self._buffer[:length], is_open)
        self._offset += length - is_open
        return DecodedBlock(columns.part(0, n))

    def facts(self) -> RecordingFacts:
        from lazystore.sources.events.kernels import text

        layout = self._layout
        state = self._state
        has_minus, has_zero = bool(state[text.HAS_MINUS]), bool(state[text.HAS_ZERO])
        rounding_us = float(state[text.ROUNDING]) * 1e-9
        problems = []
        if rounding_us > 1e-3:
            problems.append(f"times were rounded to whole µs, by up to {rounding_us:.3g} µs")
        if has_minus and has_zero:
            problems.append("polarities are -1, 0 and perhaps 1; -1 and 0 both became OFF")
        if self._cut_line:
            problems.append(f"the last line is cut off ({self._cut_line!r}); ignored")
        elif self._has_open_end:
            problems.append("the last line has no end; it may be cut off")
        return RecordingFacts(
            format="text-events",
            decoder="lazystore.text-events/1",
            sensor=layout.sensor,
            file_time_unit=layout.time_unit,
            polarity="-1/+1" if has_minus and not has_zero else "0/1",
            header=layout.header,
            counts={
                "lines": int(state[text.LINES]),
                "comment_lines": int(state[text.COMMENTS]),
                "decode_errors": int(bool(self._cut_line)),
            },
            problems=tuple(problems),
            extra={
                "columns": describe_choice(layout.columns),
                "columns_from": layout.columns_from,
                "time_unit_from": layout.time_unit_from,
            },
        )

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None, "_buffer": None, "_columns": EventColumns.empty(0)}

    def _read_lines(self, buffer: NDArray[np.uint8]) -> tuple[int, bool]:
        """Fill the buffer with whole lines; its length, and whether a newline had to be added."""
        if self._handle is None:
            self._handle = self._path.open("rb", buffering=0)
        self._handle.seek(self._offset)
        wanted = min(BLOCK_BYTES, self._size - self._offset)
        view = memoryview(buffer)[:wanted]
        filled = 0
        while filled < wanted:
            got = self._handle.readinto(view[filled:])
            if not got:
                raise SourceError(
                    f"{self._path.name!r} ends at byte {self._offset + filled}, before byte {self._size} "
                    "where it ended when it was opened; it changed meanwhile, convert again"
                )
            filled += got
        last = bytes(view[max(0, filled - HEAD_BYTES) : filled]).rfind(b"\n")
        if self._offset + filled == self._size:
            if buffer[filled - 1] == ord("\n"):
                return filled, False
            buffer[filled] = ord("\n")
            return filled + 1, True
        if last < 0:
            raise SourceError(
                f"{self._path.name!r}: the line before byte {self._offset + filled} has no end within "
                f"{HEAD_BYTES} bytes; it is no text file of events"
            )
        return max(0, filled - HEAD_BYTES) + last + 1, False

    def _explain(self, lines: NDArray[np.uint8], is_open: bool) -> None:
        """Note a last line that is cut off; raise for any other line that is no event."""
        from lazystore.sources.events.kernels import text

        begin = int(self._state[text.FAULT_AT])
        line, _, rest = bytes(lines[begin:]).partition(b"\n")
        shown = line[:60].decode("utf-8", "replace").strip()
        fault = int(self._state[text.FAULT])
        self._state[text.FAULT] = 0
        if is_open and not rest:
            self._cut_line = shown
            return
        # Lines before the rows were not counted by the kernel.
        number = int(self._state[text.LINES]) + 1
        raise SourceError(
            f"{self._path.name!r}: row {number} {_FAULTS[fault]}: {shown!r}; expected fields "
            f"{describe_choice(self._layout.columns)} (from 0); correct it, or say columns=..."
        )


class TextEventFormat:
    """Events in text files as a `SourceFormat`."""

    name = "text-events"
    kinds = ("events",)
    extensions = (".txt", ".csv", ".tsv")
    options = (SENSOR_OPTION, TIME_UNIT_OPTION, COLUMNS_OPTION)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        layout = find_text_layout(head, path.stat().st_size, path.name, {})
        if layout is None:
            return None
        return Recognition(layout.is_certain, f"columns {describe_choice(layout.columns)}")

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError as error:
            raise SourceError(f"cannot read {str(path)!r}: {error.strerror}") from error
        layout = find_text_layout(head, path.stat().st_size, path.name, options)
        if layout is None:
            raise SourceError(
                f"{path.name!r} is no text of events: expected lines of t, x, y, p with x and y whole and "
                "p one of -1, 0, 1; say columns=t,x,y,p if the order is another one"
            )
        return [CheckpointedEvents(path, TextDecoder(path, layout), options)]


TEXT_EVENTS = TextEventFormat()
