"""Files that are one long run of fixed-size words, decoded by a kernel with a small state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.schema import JSON
from lazystore.sources.events.blocks import DecodedBlock
from lazystore.sources.events.columns import EventColumns, Triggers
from lazystore.sources.events.info import RecordingFacts

# A block of 128 kB and the events from it stay in the second-level cache: 64 kB and 256 kB decode
# within 5% of this, 1 MB a quarter slower.
BLOCK_BYTES = 128 * 1024
# Words whose type the format does not know are rare damage. Above this share the file is in another
# encoding or word order than its header says: read wrongly, EVT 3.0 gives 70% of them, 2.1 as 2.0 or
# with its halves swapped 4-7%, 2.0 as 3.0 30%. (2.0 as 2.1 gives none: the header has to be right.)
MAX_UNKNOWN_SHARE = 0.02
# Below this number a share says nothing.
FEW_UNKNOWN_WORDS = 16

# "legacy" is a 64-bit word sent as two little-endian halves, the upper half first.
WORD_ORDERS = ("little", "big", "legacy")

type Kernel = Callable[..., tuple[int, int]]


@dataclass(frozen=True, slots=True)
class WordFormat:
    """How a run of words is decoded.

    Attributes
    ----------
    name, title
        As in ``--format``, and as people call it.
    decoder
        Name and version of the decoder, recorded in the store.
    record_bytes, word
        Size of the unit that a file holds whole, and the unsigned dtype that the kernel reads.
    max_events
        Events that one record can hold.
    load_kernel
        Gives the kernel; compiling or importing it waits until a file is read.
    """

    name: str
    title: str
    decoder: str
    record_bytes: int
    word: str
    max_events: int
    load_kernel: Callable[[], Kernel]


@dataclass(frozen=True, slots=True)
class WordFile:
    """Where the words of one file are, and what its header says.

    Attributes
    ----------
    data_offset
        Where the words begin, in bytes.
    sensor
        (width, height) that the header declares, or None.
    header
        The header's lines.
    word_order
        One of `WORD_ORDERS`.
    extra
        Further facts for the store.
    """

    path: Path
    data_offset: int
    sensor: tuple[int, int] | None = None
    header: tuple[str, ...] = ()
    word_order: str = "little"
    extra: Mapping[str, JSON] = field(default_factory=dict)


class WordDecoder:
    """A `BlockDecoder` of one file of words.

    Raises
    ------
    SourceError
        If the file cannot be read, or most of its words are not of this format.
    """

    def __init__(self, word_format: WordFormat, file: WordFile) -> None:
        self._format = word_format
        self._file = file
        self._handle: FileIO | None = None
        size = file.path.stat().st_size - file.data_offset
        self._tail_bytes = size % word_format.record_bytes
        # A file that grows while it is recorded ends here where it ended when it was opened.
        self._stop = file.data_offset + size - self._tail_bytes
        self._offset = file.data_offset
        self._state = _initial_state()
        self._scratch: _Scratch | None = None

    @property
    def sensor(self) -> tuple[int, int] | None:
        return self._file.sensor

    def restore(self, checkpoint: Any) -> None:
        if checkpoint is None:
            self._offset, self._state = self._file.data_offset, _initial_state()
        else:
            self._offset, self._state = checkpoint[0], checkpoint[1].copy()

    def checkpoint(self) -> tuple[int, NDArray[np.int64]]:
        return self._offset, self._state.copy()

    def next_block(self) -> DecodedBlock | None:
        if self._offset >= self._stop:
            return None
        scratch = self._scratch = self._scratch or _Scratch(self._format)
        words = self._read_words(scratch.buffer)
        events, triggers = scratch.events, scratch.triggers
        n, m = scratch.kernel(
            words, self._state,
            events.t, events.x, events.y, events.p, triggers.t, triggers.id, triggers.p,
        )  # fmt: skip
        found = Triggers(triggers.t[:m], triggers.id[:m], triggers.p[:m]) if m else None
        return DecodedBlock(events.part(0, n), found)

    def facts(self) -> RecordingFacts:
        from lazystore.sources.events.kernels import evt2 as layout

        name = self._file.path.name
        records = (self._offset - self._file.data_offset) // self._format.record_bytes
        unknown = int(self._state[layout.UNKNOWN_WORDS])
        dropped = int(self._state[layout.DROPPED_EVENTS])
        if unknown > max(FEW_UNKNOWN_WORDS, MAX_UNKNOWN_SHARE * records):
            raise SourceError(
                f"{name!r}: {unknown} of {records} words are none of {self._format.title}; the file is in "
                "another encoding or word order than its header says, or damaged; record or export it again"
            )
        problems = []
        if unknown:
            problems.append(f"{unknown} of {records} words are none of {self._format.title}; skipped")
        if dropped:
            problems.append(
                f"{dropped} events come before the words that give them a time or a place; dropped"
            )
        if self._tail_bytes:
            problems.append(
                f"the file ends within a record: {self._tail_bytes} of {self._format.record_bytes} bytes; "
                "ignored"
            )
        return RecordingFacts(
            format=self._format.name,
            decoder=self._format.decoder,
            sensor=self._file.sensor,
            header=self._file.header,
            counts={
                "records": records,
                "other_words": int(self._state[layout.OTHER_WORDS]),
                "decode_errors": unknown + dropped,
                "time_wraps": int(self._state[layout.TIME_WRAPS]),
                "truncated_bytes": self._tail_bytes,
            },
            problems=tuple(problems),
            extra=self._file.extra,
        )

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None, "_scratch": None}

    def _read_words(self, buffer: NDArray[np.uint8]) -> NDArray[Any]:
        if self._handle is None:
            self._handle = self._file.path.open("rb", buffering=0)
        view = memoryview(buffer)[: min(len(buffer), self._stop - self._offset)]
        self._handle.seek(self._offset)
        filled = 0
        while filled < len(view):
            got = self._handle.readinto(view[filled:])
            if not got:
                raise SourceError(
                    f"{self._file.path.name!r} ends at byte {self._offset + filled}, before byte "
                    f"{self._stop} where it ended when it was opened; it changed meanwhile, convert again"
                )
            filled += got
        self._offset += filled
        words = buffer[:filled].view(self._format.word)
        if self._file.word_order == "big":
            return words.byteswap()
        if self._file.word_order == "legacy":
            return words << np.uint64(32) | words >> np.uint64(32)
        return words


class _Scratch:
    """Memory and the kernel for decoding blocks; made once a file is really read."""

    def __init__(self, word_format: WordFormat) -> None:
        records = BLOCK_BYTES // word_format.record_bytes
        self.kernel = word_format.load_kernel()
        self.buffer = np.empty(records * word_format.record_bytes, np.uint8)
        self.events = EventColumns.empty(records * word_format.max_events)
        self.triggers = Triggers.empty(records)


def _initial_state() -> NDArray[np.int64]:
    from lazystore.sources.events.kernels import evt2 as layout

    return np.zeros(layout.STATE_SIZE, np.int64)
