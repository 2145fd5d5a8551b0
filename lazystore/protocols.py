"""Every seam of lazystore on one page.

A source gives records of one recording, in order, on request. A chunk reader gives decoded chunks
of one stored array. A prefetch policy says which chunks will be wanted. An observer hears what
happened. Implementations live in `sources`, `store` and `cache`; they meet only through these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ChunkIndex
from lazystore.schema import JSON, ArraySpec

type Kind = Literal["field", "video", "stack", "events", "tracks", "series", "spikes", "intervals"]

KINDS: tuple[str, ...] = (
    "field", "video", "stack", "events", "tracks", "series", "spikes", "intervals",
)  # fmt: skip


# --- what a source says of itself ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """An array that is streamed record by record: `data` of a movie, `t` of an event recording.

    Attributes
    ----------
    name
        Path inside the item, e.g. ``"data"``.
    dims
        Dimension names; the first is the record axis (`time` or `event`), shared by all columns.
    shape
        Sizes in the order of `dims`; shape[0] is the number of records.
    dtype
        Native byte order.
    attributes
        ``units``, ``long_name`` and whatever else a plain xarray user should see.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attributes: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SideArray:
    """A small array that is known whole before conversion: `y`, `x`, bin centres, triggers.

    `path` may name a child group (``"triggers/t"``). `values` may hold str (dtype ``U``).
    """

    path: str
    dims: tuple[str, ...]
    values: NDArray[Any]
    attributes: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ticks:
    """When each record was taken, in the recording's own clock.

    A record's native time in seconds is ``tick * time_base``. Either `values` holds one int64 tick
    a record (stored under `name`, e.g. ``"pts"``), or the axis is regular: tick i is
    ``start + i * step``. `known` is False where the rate itself is a guess (a bare .npy). Beside `values`,
    `step` is how long a record lasts that no other one follows.
    """

    time_base: Fraction
    values: NDArray[np.int64] | None = None
    start: int = 0
    step: int = 1
    name: str = "tick"
    known: bool = True


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """What tells that a source is still the same one: size, mtime, sampled hash of each file.

    `name` is the file's name without its folder: no path of a machine lands in a store.
    """

    name: str
    size_bytes: int
    mtime_ns: int
    sha256_sampled: str


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """All that is known of a recording before its records are read.

    Attributes
    ----------
    kind, format
        What it becomes, and what it is (``"npy"``, ``"mp4/h264"``, ``"evt2"``).
    columns
        Streamed arrays; all share the record axis and its length. Exact: a source that cannot
        tell its length scans itself when it is opened.
    ticks
        Times of the records; None for events, whose column `t` is their time.
    side
        Small arrays that go into the store as they are.
    attributes
        JSON facts for ``attrs.lazystore["source"]``: sensor size, colour range, header, counts.
    item_attributes
        JSON facts for ``attrs.lazystore`` itself: ``geometry``, ``sensor``, ``skeleton``.
    problems
        One line for each thing that is wrong but survivable (counted packets, disorder).
    suffix
        Name of this stream where one file gives several items (``""`` for the main one).
    """

    kind: str
    format: str
    columns: tuple[Column, ...]
    identity: tuple[SourceIdentity, ...]
    ticks: Ticks | None = None
    side: tuple[SideArray, ...] = ()
    attributes: Mapping[str, JSON] = field(default_factory=dict)
    item_attributes: Mapping[str, JSON] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    suffix: str = ""

    @property
    def length(self) -> int:
        """Number of records."""
        return self.columns[0].shape[0]


@dataclass(frozen=True, slots=True)
class Block:
    """Records [start, stop) of every column; `missing` lists the records the source lost.

    `reasons` says why, by record, for those of `missing` where the source knows. `doubtful` are records
    that came out of damaged data and may be made up in parts; `broken_packets` are those of its
    groups that the decoder has refused so far.
    """

    start: int
    columns: Mapping[str, NDArray[Any]]
    missing: tuple[int, ...] = ()
    reasons: Mapping[int, str] = field(default_factory=dict)
    doubtful: tuple[int, ...] = ()
    broken_packets: tuple[int, ...] = ()


@runtime_checkable
class Source(Protocol):
    """One recording.

    Notes
    -----
    Calls come from one thread at a time. Reads in ascending order are the fast path; any order is
    correct. Memory held is bounded by the block asked for, whatever the recording's size.
    """

    @property
    def info(self) -> SourceInfo:
        """What the recording is; free of cost once the source is open."""

    def read(self, start: int, stop: int) -> Block:
        """Exactly the records [start, stop), 0 <= start < stop <= length."""

    def close(self) -> None:
        """Release files. Idempotent; the next read opens them again."""


@runtime_checkable
class TwinSource(Source, Protocol):
    """A source that can be opened once more, for another thread."""

    def twin(self, threads: int) -> Source | None:
        """The same recording, decoded on so many threads; None where it cannot be. The caller closes it."""


@runtime_checkable
class PartSource(Source, Protocol):
    """A source that may be a part of a recording whose other parts are sources of their own."""

    @property
    def first_record(self) -> int:
        """Number, in the recording, of the part's first record."""

    @property
    def recording_info(self) -> SourceInfo:
        """`info`, with the number and the times of the records of all parts: they share a clock."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """A format's claim on a file: `certain` when its content proves it, else by name only.

    `kind` is what this very file would become, where a format has several; ``""`` is the first.
    """

    certain: bool
    note: str = ""
    kind: str = ""


@runtime_checkable
class SourceFormat(Protocol):
    """A family of files: how to know one, and how to open it (entry point `lazystore.sources`)."""

    @property
    def name(self) -> str:
        """Short name, as in ``--format``."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds this format can become, the default first."""

    @property
    def extensions(self) -> tuple[str, ...]:
        """Lower-case file endings with the dot."""

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """A claim on the file (or folder) from its first 4 KiB; must not import extras."""

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The recording's streams, the main one first.

        Raises
        ------
        SourceError
            If the file is damaged beyond recovery.
        MissingExtraError
            If the package that reads it is not installed.
        """


# --- reading a store ----------------------------------------------------------------------------


@runtime_checkable
class ChunkReader(Protocol):
    """Decoded inner chunks of one stored array, from any thread.

    A cache is a reader around a reader. Chunks are C-contiguous or views, clipped to the array's
    shape, and read-only when they are shared.
    """

    @property
    def spec(self) -> ArraySpec:
        """Shape, dtype, chunks of the array."""

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        """One chunk. Blocks; raises DamagedStoreError, never answers with fill values."""

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """Several chunks in one go; neighbours in a shard may share one ranged read."""

    def close(self) -> None:
        """Release files. Idempotent; a closed reader reopens on the next read."""


@runtime_checkable
class InPlaceReader(ChunkReader, Protocol):
    """A chunk reader that decodes into memory it is given: no second copy of what a cache keeps."""

    def read_chunks_into(
        self, chunk_indices: Sequence[ChunkIndex], memories: Sequence[memoryview]
    ) -> list[NDArray[Any]]:
        """As `read_chunks`, each chunk decoded into its own memory.

        Parameters
        ----------
        memories
            As many as chunks, writable, C-contiguous, at least `spec.chunk_nbytes` bytes each; what they
            hold after an error is undefined.

        Returns
        -------
        list of np.ndarray
            Each begins where its memory does; a view of it where the chunk is cut at the array's end.
        """


@runtime_checkable
class GroupedReader(ChunkReader, Protocol):
    """A chunk reader whose chunks are cheaper together: frames that are predicted from each other."""

    def group_of(self, chunk_index: ChunkIndex) -> range:
        """Chunk numbers along axis 0 that one pass of `read_chunks` gives about as quickly as this one."""


@runtime_checkable
class PrefetchPolicy(Protocol):
    """Which chunks along axis 0 will be wanted, soonest first; a pure function of the past."""

    def __call__(self, history: Sequence[tuple[float, int]], n_chunks: int, max_chunks: int) -> Sequence[int]:
        """`history` holds (monotonic seconds, chunk number) of recent demands, oldest first."""


type Observer = Callable[[str, Mapping[str, float]], None]
"""Hears an event's name and its numbers; must be quick and must not raise."""
