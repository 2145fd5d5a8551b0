"""The contract suites accept what keeps its promises and name the promise that a mutant breaks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lazystore.chunks import ChunkIndex
from lazystore.errors import DamagedStoreError
from lazystore.protocols import (
    Block,
    ChunkReader,
    Column,
    SideArray,
    Source,
    SourceIdentity,
    SourceInfo,
    Ticks,
)
from lazystore.testing import (
    ArrayChunkReader,
    ColumnsSource,
    ContractError,
    CountingReader,
    FailingReader,
    GatedReader,
    SlowReader,
    check_chunk_reader,
    check_source,
    check_source_info,
)

RNG = np.random.default_rng(5)
MOVIE = RNG.integers(0, 255, (25, 4, 6)).astype(np.uint8)
FIELD = np.where(RNG.random((40, 7)) < 0.1, np.nan, RNG.normal(size=(40, 7)))
EVENTS = {
    "t": np.sort(RNG.integers(0, 1000, 300)),
    "x": RNG.integers(0, 64, 300).astype(np.uint16),
    "p": RNG.integers(0, 2, 300).astype(np.uint8),
}

# --- sources --------------------------------------------------------------------------------------

GOOD_SOURCES: dict[str, tuple[Callable[[], Source], dict[str, Any] | None]] = {
    "movie": (lambda: ColumnsSource({"data": MOVIE}), {"data": MOVIE}),
    "field with NaN": (lambda: ColumnsSource({"data": FIELD}, kind="field"), {"data": FIELD}),
    "events": (lambda: ColumnsSource(EVENTS, kind="events"), EVENTS),
    "lost records": (lambda: ColumnsSource({"data": MOVIE}, missing=[3, 4, 24]), None),
    "ticks": (
        lambda: ColumnsSource({"data": MOVIE}, ticks=Ticks(Fraction(1, 90_000), np.arange(25) * 3003)),
        {"data": MOVIE},
    ),
    "side arrays": (
        lambda: ColumnsSource(
            {"data": FIELD},
            dims={"data": ("time", "bin")},
            side=[
                SideArray("centre", ("bin",), np.arange(7.0)),
                SideArray("name", ("bin",), np.array(list("abcdefg"))),
            ],
        ),
        {"data": FIELD},
    ),
    "one record": (lambda: ColumnsSource({"data": MOVIE[:1]}), {"data": MOVIE[:1]}),
}


@pytest.mark.parametrize("case", GOOD_SOURCES)
def test_good_sources_pass(case: str) -> None:
    """A source that keeps every promise passes, whole and in windows."""
    make, expected = GOOD_SOURCES[case]
    check_source(make, expected)
    check_source(make, expected, max_records=9)


class Mutant(ColumnsSource):
    """A source over `MOVIE` that a test breaks in one place."""

    def __init__(self) -> None:
        super().__init__({"data": MOVIE})


class LyingStart(Mutant):
    def read(self, start: int, stop: int) -> Block:
        return replace(super().read(start, stop), start=0 if start else 1)


class ShortBlock(Mutant):
    def read(self, start: int, stop: int) -> Block:
        return Block(start, {"data": super().read(start, stop).columns["data"][: max(1, stop - start - 1)]})


class OtherDtype(Mutant):
    def read(self, start: int, stop: int) -> Block:
        return Block(start, {"data": super().read(start, stop).columns["data"].astype(np.int16)})


class OtherColumn(Mutant):
    def read(self, start: int, stop: int) -> Block:
        return Block(start, {"image": super().read(start, stop).columns["data"]})


class Forgetful(Mutant):
    """Reads on from where it stands, wherever it is asked to."""

    position = 0

    def read(self, start: int, stop: int) -> Block:
        count = stop - start
        data = np.take(MOVIE, range(self.position, self.position + count), axis=0, mode="wrap")
        self.position += count
        return Block(start, {"data": data})


class AlignedOnly(Mutant):
    """Right only for windows that begin at the beginning."""

    def read(self, start: int, stop: int) -> Block:
        data = super().read(start, stop).columns["data"]
        return Block(start, {"data": data if start == 0 else data + 1})


class GivesItsOwn(Mutant):
    def read(self, start: int, stop: int) -> Block:
        return Block(start, {"data": self._columns["data"][start:stop]})


class ReusesItsBuffer(Mutant):
    def __init__(self) -> None:
        super().__init__()
        self._buffer = np.zeros_like(MOVIE)

    def read(self, start: int, stop: int) -> Block:
        self._buffer[: stop - start] = MOVIE[start:stop]
        return Block(start, {"data": self._buffer[: stop - start]})


class MissingOutside(Mutant):
    def read(self, start: int, stop: int) -> Block:
        return replace(super().read(start, stop), missing=(99,))


class ReasonWithoutLoss(Mutant):
    def read(self, start: int, stop: int) -> Block:
        return replace(super().read(start, stop), reasons={start: "corrupt packet"})


class LongReason(Mutant):
    def read(self, start: int, stop: int) -> Block:
        return replace(super().read(start, stop), missing=(start,), reasons={start: "corrupt\npacket"})


class MissingDisordered(Mutant):
    def read(self, start: int, stop: int) -> Block:
        return replace(super().read(start, stop), missing=(start + 1, start) if stop - start > 1 else ())


class MissingDependsOnWindow(Mutant):
    def read(self, start: int, stop: int) -> Block:
        return replace(super().read(start, stop), missing=(start,))


class SharedState(Mutant):
    """Two open sources disturb each other."""

    living = 0

    def __init__(self) -> None:
        super().__init__()
        SharedState.living += 1
        self.alone = True

    def read(self, start: int, stop: int) -> Block:
        block = super().read(start, stop)
        return block if SharedState.living < 2 else Block(start, {"data": block.columns["data"] + 1})

    def close(self) -> None:
        if not self.is_closed:
            SharedState.living -= 1
        super().close()


class CountsItsReads(Mutant):
    @property
    def info(self) -> SourceInfo:
        return replace(super().info, attributes={"reads": len(self.reads)})


class NeverTheSame(Mutant):
    opened = 0

    def __init__(self) -> None:
        super().__init__()
        NeverTheSame.opened += 1
        self._info = replace(self._info, attributes={"opened": NeverTheSame.opened})


class ClosesOnce(Mutant):
    def close(self) -> None:
        if self.is_closed:
            raise ValueError("closed twice")
        super().close()


BROKEN_SOURCES: list[tuple[type[Mutant], str]] = [
    (LyingStart, r"read\(0, 25\) says that it starts at 1"),
    (ShortBlock, r"gives 'data' of shape \(24, 4, 6\), not \(25, 4, 6\)"),
    (OtherDtype, "gives 'data' as int16, its info says uint8"),
    (OtherColumn, r"gives columns \['image'\] instead of \['data'\]"),
    (Forgetful, "differs from the same part of read|read again, in another order: column 'data' differs"),
    (AlignedOnly, "differs from the same part of read"),
    (GivesItsOwn, "writing into what was read changes 'data'"),
    (ReusesItsBuffer, "a later read changes 'data' of an earlier one|differs"),
    (MissingOutside, r"lists missing records outside itself: \[99\]"),
    (ReasonWithoutLoss, "says why record 0 is missing, but does not list it"),
    (LongReason, "gives a reason of more than one line"),
    (MissingDisordered, "lists missing records out of order"),
    (MissingDependsOnWindow, r"misses \(\d+,\), but read\(0, 25\) misses \(\) there"),
    (SharedState, "of the first of two open sources: column 'data' differs"),
    (CountsItsReads, "info changes while records are read"),
    (NeverTheSame, "a source that is opened again has another info"),
]


@pytest.mark.parametrize(
    ("mutant", "message"), BROKEN_SOURCES, ids=lambda value: getattr(value, "__name__", "")
)
def test_broken_sources_are_caught(mutant: type[Mutant], message: str) -> None:
    """Each broken promise is found and named."""
    with pytest.raises(ContractError, match=message):
        check_source(mutant)


def test_closing_twice_must_be_possible() -> None:
    """An error of the source itself comes through as it is."""
    with pytest.raises(ValueError, match="closed twice"):
        check_source(ClosesOnce)


def test_other_values_than_expected_are_caught() -> None:
    """A source that agrees with itself but not with the oracle fails."""
    with pytest.raises(ContractError, match=r"records \[0, 25\) of 'data' are not the expected ones"):
        check_source(Mutant, {"data": MOVIE[::-1]})
    with pytest.raises(ContractError, match="there is no column 'image'"):
        check_source(Mutant, {"image": MOVIE})


COLUMN = Column("data", ("time", "y"), (5, 3), np.dtype("u1"))
INFO = SourceInfo("stack", "fake", (COLUMN,), (SourceIdentity("a.npy", 10, 0, "00"),))
HALF = Column("t", ("time",), (4,), np.dtype("f4"))

BROKEN_INFOS: list[tuple[SourceInfo, str]] = [
    (replace(INFO, kind="film"), "kind 'film' is not one of field, video"),
    (replace(INFO, format=""), "format is empty"),
    (replace(INFO, columns=()), "there are no columns"),
    (replace(INFO, columns=(COLUMN, COLUMN)), "two arrays have one name"),
    (replace(INFO, columns=(COLUMN, HALF)), "'t' runs over 'time' of 4, 'data' over 'time' of 5"),
    (replace(INFO, columns=(replace(COLUMN, shape=()),)), "column 'data' has no record axis"),
    (replace(INFO, columns=(replace(COLUMN, shape=(5,)),)), r"has dims \('time', 'y'\) but shape \(5,\)"),
    (replace(INFO, columns=(replace(COLUMN, dims=("time", "time")),)), "has a dimension twice"),
    (replace(INFO, columns=(replace(COLUMN, dtype=np.dtype(">i4")),)), "not in native byte order"),
    (replace(INFO, columns=(replace(COLUMN, dtype=np.dtype("O")),)), "is object: no number, no text"),
    (
        replace(INFO, columns=(replace(COLUMN, attributes={"a": float("nan")}),)),
        "column 'data' cannot be kept as JSON",
    ),
    (replace(INFO, attributes={"path": b"x"}), "attributes cannot be kept as JSON"),
    (replace(INFO, item_attributes={"x": float("inf")}), "item_attributes cannot be kept as JSON"),
    (replace(INFO, side=(SideArray("y", ("y",), np.arange(4)),)), "'y' has 4 along 'y', others have 3"),
    (replace(INFO, ticks=Ticks(Fraction(0))), "ticks have time base 0"),
    (replace(INFO, ticks=Ticks(Fraction(1), step=0)), "regular ticks have step 0"),
    (replace(INFO, ticks=Ticks(Fraction(1), np.arange(4))), r"ticks have shape \(4,\) for 5 records"),
    (replace(INFO, ticks=Ticks(Fraction(1), np.arange(5.0))), "ticks are float64; expected int64"),  # type: ignore[arg-type]
    (replace(INFO, identity=()), "identity names no file"),
    (replace(INFO, identity=(SourceIdentity("a/b.npy", 1, 0, ""),)), "identity 'a/b.npy' holds a folder"),
    (replace(INFO, identity=(SourceIdentity("b.npy", -1, 0, ""),)), "identity of 'b.npy' has -1 bytes"),
    (replace(INFO, problems=("one\ntwo",)), "is more than one line"),
]


@pytest.mark.parametrize(("info", "message"), BROKEN_INFOS, ids=[message[:30] for _, message in BROKEN_INFOS])
def test_broken_infos_are_caught(info: SourceInfo, message: str) -> None:
    """What a conversion relies on before it reads is checked before anything is read."""
    with pytest.raises(ContractError, match=message):
        check_source_info(info)


def test_a_whole_info_passes() -> None:
    """The record that the cases above break is itself in order."""
    check_source_info(INFO)


def test_empty_recordings_are_caught() -> None:
    """A source without records should have been refused when it was opened."""
    with pytest.raises(ContractError, match="the recording has no records"):
        check_source(lambda: ColumnsSource({"data": MOVIE[:0]}))


# --- readers --------------------------------------------------------------------------------------

ARRAYS: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
    "one axis": (np.arange(10), (3,)),
    "cut at both ends": (RNG.normal(size=(7, 5)), (3, 2)),
    "bool": (RNG.random((4, 4)) < 0.5, (2, 4)),
    "NaN": (FIELD, (8, 7)),
    "one chunk": (MOVIE, (25, 4, 6)),
    "many chunks": (np.arange(1000, dtype=np.int16), (1,)),
    "empty": (np.zeros((0, 3)), (1, 3)),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_good_readers_pass(case: str) -> None:
    """The reader over an array, and every wrapper that does not interfere, keeps the promises."""
    array, chunks = ARRAYS[case]
    check_chunk_reader(lambda: ArrayChunkReader(array, chunks), array, max_chunks=50)
    check_chunk_reader(
        lambda: CountingReader(SlowReader(ArrayChunkReader(array, chunks), 0)), array, max_chunks=20
    )
    check_chunk_reader(
        lambda: FailingReader(ArrayChunkReader(array, chunks), lambda _: None), array, max_chunks=20
    )


class MutantReader(ArrayChunkReader):
    """A reader over `MOVIE` that a test breaks in one place."""

    def __init__(self) -> None:
        super().__init__(MOVIE, (4, 4, 6))


class NotClipped(MutantReader):
    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        chunk = super().read_chunk(chunk_index)
        return np.pad(chunk, [(0, 4 - len(chunk)), (0, 0), (0, 0)])


class FillsGaps(MutantReader):
    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        try:
            return super().read_chunk(chunk_index)
        except IndexError:
            return np.zeros((4, 4, 6), np.uint8)


class WrongOrder(MutantReader):
    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        return super().read_chunks(sorted(chunk_indices))


class DropsTwins(MutantReader):
    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        return super().read_chunks(list(dict.fromkeys(chunk_indices)))


class InventsChunks(MutantReader):
    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        return super().read_chunks(chunk_indices) or [MOVIE]


class LendsItsArray(MutantReader):
    def __init__(self) -> None:
        super().__init__()
        self._array = self._array.copy()


class NotThreadSafe(MutantReader):
    """Answers with what another thread asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._owner = threading.get_ident()

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        if threading.get_ident() != self._owner:
            return super().read_chunk((0, 0, 0))
        return super().read_chunk(chunk_index)


class StaysClosed(MutantReader):
    closed = False

    def close(self) -> None:
        self.closed = True

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        chunk = super().read_chunk(chunk_index)
        return chunk[:0] if self.closed else chunk


class LyingSpec(MutantReader):
    def __init__(self) -> None:
        super().__init__()
        self._spec = replace(self._spec, shape=(26, 4, 6))


BROKEN_READERS: list[tuple[type[MutantReader], str]] = [
    (NotClipped, r"chunk \(6, 0, 0\) read alone is uint8 \(4, 4, 6\) with other values"),
    (FillsGaps, r"chunk \(7, 1, 1\) lies outside the grid \(7, 1, 1\), but it was read"),
    (WrongOrder, "read with others"),
    (DropsTwins, r"read_chunks gives 7 chunks for 14 indexes"),
    (InventsChunks, "reading no chunks gives something"),
    (LendsItsArray, r"writing into chunk .* changes it for the next reader"),
    (NotThreadSafe, "read from 4 threads"),
    (StaysClosed, "read after close"),
    (LyingSpec, r"spec has shape \(26, 4, 6\), the array \(25, 4, 6\)"),
]


@pytest.mark.parametrize(
    ("mutant", "message"), BROKEN_READERS, ids=lambda value: getattr(value, "__name__", "")
)
def test_broken_readers_are_caught(mutant: type[MutantReader], message: str) -> None:
    """Each broken promise is found and named."""
    with pytest.raises(ContractError, match=message):
        check_chunk_reader(mutant, MOVIE)


@pytest.mark.parametrize(
    ("array", "message"),
    [(MOVIE.astype(np.int16), "spec has dtype uint8, the array int16"), (MOVIE[:, :, :3], "spec has shape")],
)
def test_another_array_than_expected_is_caught(array: NDArray[Any], message: str) -> None:
    """What the reader says of the array must be so."""
    with pytest.raises(ContractError, match=message):
        check_chunk_reader(MutantReader, array)


# --- fakes ----------------------------------------------------------------------------------------


def test_counts() -> None:
    """Chunks, calls and closes are counted apart."""
    reader = CountingReader(MutantReader())
    reader.read_chunk((0, 0, 0))
    reader.read_chunks([(0, 0, 0), (1, 0, 0)])
    reader.close()
    assert (dict(reader.chunks), reader.calls, reader.closes) == ({(0, 0, 0): 2, (1, 0, 0): 1}, 2, 1)


def test_failures_hit_the_chosen_chunks() -> None:
    """A chosen error is raised for the chosen chunk, alone or among others."""
    error = DamagedStoreError("flipped bit")
    reader = FailingReader(MutantReader(), lambda chunk_index: error if chunk_index == (1, 0, 0) else None)
    assert reader.read_chunk((0, 0, 0)).shape == (4, 4, 6)
    with pytest.raises(DamagedStoreError, match="flipped bit"):
        reader.read_chunk((1, 0, 0))
    with pytest.raises(DamagedStoreError, match="flipped bit"):
        reader.read_chunks([(0, 0, 0), (1, 0, 0)])


def test_a_gate_holds_reads_back() -> None:
    """Reads wait until the gate is opened, and a test can wait for their coming."""
    reader = GatedReader(MutantReader())
    done: list[int] = []
    threads = [
        threading.Thread(target=lambda: done.append(len(reader.read_chunk((0, 0, 0))))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    reader.wait_until_arrived(3)
    assert (done, reader.arrived) == ([], [(0, 0, 0)] * 3)
    reader.open_gate()
    for thread in threads:
        thread.join()
    assert done == [4, 4, 4]
    assert len(reader.read_chunks([(1, 0, 0)])) == 1


def test_a_shut_gate_gives_up() -> None:
    """A test that forgot to open the gate fails instead of hanging."""
    reader = GatedReader(MutantReader(), give_up_s=0.01)
    with pytest.raises(TimeoutError, match=r"the gate stayed shut for 0.01 s before \[\(0, 0, 0\)\]"):
        reader.read_chunk((0, 0, 0))
    with pytest.raises(TimeoutError, match=r"1 of 2 chunks arrived in 0.01 s"):
        reader.wait_until_arrived(2)
    reader.open_gate()
    reader.read_chunk((0, 0, 0))
    reader.shut_gate()
    with pytest.raises(TimeoutError, match="the gate stayed shut"):
        reader.read_chunk((0, 0, 0))


def test_a_slow_reader_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One delay a call, however many chunks."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    reader: ChunkReader = SlowReader(MutantReader(), 0.05)
    reader.read_chunk((0, 0, 0))
    reader.read_chunks([(0, 0, 0), (1, 0, 0)])
    assert slept == [0.05, 0.05]


def test_a_columns_source_notes_its_use() -> None:
    """Reads and the close are there to be looked at."""
    source = ColumnsSource({"data": MOVIE})
    source.read(3, 5)
    source.close()
    assert (source.reads, source.is_closed) == ([(3, 5)], True)
