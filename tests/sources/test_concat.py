"""Recordings split over files."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Block, SideArray, Ticks
from lazystore.sources.concat import MAX_OPEN, ConcatSource, join_ticks
from lazystore.sources.registry import open_sources
from tests.sources.fakes import FakeSource, stack
from tests.sources.reading import check_reads


def seconds(ticks: Ticks, length: int) -> list[Fraction]:
    values = ticks.values if ticks.values is not None else ticks.start + ticks.step * np.arange(length)
    return [int(value) * ticks.time_base for value in values]


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), data=st.data())
def test_joined_reads_equal_a_concatenation(lengths: list[int], data: st.DataObject) -> None:
    """Reads across any number of borders equal np.concatenate, missing records at their new places."""
    parts, expected_missing, reasons, offset = [], [], {}, 0
    for length in lengths:
        missing = data.draw(st.lists(st.integers(0, length - 1), max_size=2, unique=True).map(sorted))
        parts.append(stack(length, ticks=Ticks(Fraction(1, 30)), missing=missing))
        expected_missing += [offset + index for index in missing]
        reasons |= {offset + index: f"lost {index}" for index in missing if index % 2}
        offset += length
    expected = np.concatenate([part.columns["data"] for part in parts])
    source = ConcatSource(parts)
    whole = source.read(0, offset)
    assert whole.missing == tuple(expected_missing)
    assert whole.reasons == reasons
    check_reads(source, expected, n_reads=8)
    assert all(part.is_closed for part in parts)


class _Opened(FakeSource):
    """Knows whether it would hold its file open."""

    def read(self, start: int, stop: int) -> Block:
        self.is_open = True
        return super().read(start, stop)

    def close(self) -> None:
        self.is_open = False
        super().close()


@pytest.mark.parametrize("kind", ["stack", "events"])
def test_only_the_files_read_last_stay_open(kind: str) -> None:
    """However many there are, in any order of reading; and the values stay right."""
    name = "t" if kind == "events" else "data"
    values = np.arange(300) if kind == "events" else np.arange(300 * 4).reshape(300, 2, 2)
    parts = [_Opened(kind, {name: values[i * 3 : i * 3 + 3]}) for i in range(100)]
    source = ConcatSource(parts)

    def n_open() -> int:
        return sum(getattr(part, "is_open", False) for part in parts)

    assert n_open() <= MAX_OPEN
    rng = np.random.default_rng(1)
    for start in [*range(0, 290, 7), *rng.integers(0, 290, 60)]:
        block = source.read(int(start), int(start) + 9)
        np.testing.assert_array_equal(block.columns[name], values[start : start + 9])
        assert n_open() <= MAX_OPEN
    # Going back and forth between two of them opens neither again.
    for part in parts:
        part.is_closed = False
    for start in (0, 60, 0, 60):
        source.read(start, start + 1)
    assert not parts[0].is_closed
    assert not parts[20].is_closed
    source.close()
    assert n_open() == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files")
@pytest.mark.parametrize("ending", ["npy", "tif"])
def test_many_files_are_joined_with_few_open(ending: str, tmp_path: Path) -> None:
    """Of real files too: not while they are opened, not while they are read."""
    tifffile = pytest.importorskip("tifffile")
    values = np.arange(60 * 2 * 5 * 4, dtype=np.uint16).reshape(60, 2, 5, 4)
    paths = []
    for number, part in enumerate(values):
        paths.append(tmp_path / f"{number:03}.{ending}")
        if ending == "npy":
            np.save(paths[-1], part)
        else:
            tifffile.imwrite(paths[-1], part, photometric="minisblack", compression="zlib")
    before = len(os.listdir("/proc/self/fd"))
    (source,) = open_sources(paths, kind="stack")
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    np.testing.assert_array_equal(source.read(0, 120).columns["data"], values.reshape(120, 5, 4))
    assert len(os.listdir("/proc/self/fd")) <= before + MAX_OPEN
    np.testing.assert_array_equal(source.read(3, 9).columns["data"], values.reshape(120, 5, 4)[3:9])
    source.close()


def test_regular_parts_that_count_from_zero_go_on() -> None:
    """Files of one rate that each begin at 0 stay one regular axis."""
    joined = join_ticks([Ticks(Fraction(1, 30))] * 3, [4, 5, 6])
    assert joined.ticks == Ticks(Fraction(1, 30))
    assert joined.shifts == (0, 4, 9)


def test_a_gap_between_files_is_kept() -> None:
    """A file that begins later keeps its times, and the axis becomes explicit."""
    parts = [Ticks(Fraction(1, 10), start=0), Ticks(Fraction(1, 10), start=10)]
    joined = join_ticks(parts, [3, 2])
    assert joined.shifts == (0, 0)
    assert seconds(joined.ticks, 5) == [Fraction(n, 10) for n in (0, 1, 2, 10, 11)]
    assert joined.ticks.values is not None


def test_absolute_times_with_jitter_are_not_moved() -> None:
    """A file that begins a little sooner than one step after the last frame is still in order."""
    first = Ticks(Fraction(1, 1000), np.array([0, 33, 67, 100]))
    second = Ticks(Fraction(1, 1000), np.array([128, 166]))
    joined = join_ticks([first, second], [4, 2])
    assert joined.shifts == (0, 0)
    assert joined.ticks.values is not None
    assert joined.ticks.values.tolist() == [0, 33, 67, 100, 128, 166]


def test_different_time_bases_are_exact() -> None:
    """The common tick divides both, so no time is rounded."""
    parts = [Ticks(Fraction(1001, 30000)), Ticks(Fraction(1, 25), start=100)]
    joined = join_ticks(parts, [3, 2])
    assert seconds(joined.ticks, 5) == [
        0, Fraction(1001, 30000), Fraction(2002, 30000), Fraction(4), Fraction(101, 25),
    ]  # fmt: skip


def test_names_and_guesses_survive_only_if_shared() -> None:
    """`pts` stays `pts`; one guessed rate makes the whole a guess."""
    pts = Ticks(Fraction(1, 90), np.array([0, 3, 7]), name="pts")
    assert join_ticks([pts, pts], [3, 3]).ticks.name == "pts"
    mixed = join_ticks([pts, Ticks(Fraction(1), known=False)], [3, 2]).ticks
    assert (mixed.name, mixed.known) == ("tick", False)


def test_one_record_files() -> None:
    """A file of one record lasts one tick where nothing tells how long."""
    single = Ticks(Fraction(1, 1000), np.array([5]))
    assert join_ticks([single, single, single], [1, 1, 1]).shifts == (0, 1, 2)
    told = replace(single, step=40)
    assert join_ticks([told, told, single], [1, 1, 1]).ticks.values.tolist() == [5, 45, 85]


def test_the_files_are_recorded() -> None:
    """Names, record ranges and shifts are told, identities and problems of all files kept."""
    parts = [
        stack(3, ticks=Ticks(Fraction(1, 30)), name="a.mp4", problems=["one packet lost"]),
        stack(4, ticks=Ticks(Fraction(1, 30)), name="b.mp4"),
    ]
    info = ConcatSource(parts).info
    assert info.attributes["concat"] == [
        {"name": "a.mp4", "start": 0, "stop": 3, "shift_ticks": 0},
        {"name": "b.mp4", "start": 3, "stop": 7, "shift_ticks": 3},
    ]
    assert [identity.name for identity in info.identity] == ["a.mp4", "b.mp4"]
    assert info.problems[0] == "a.mp4: one packet lost"
    assert "1 of 2 files count their time from a start of their own" in info.problems[1]


def test_a_guessed_rate_is_no_problem() -> None:
    """Bare arrays have no times of their own that could be moved."""
    parts = [stack(3, ticks=Ticks(Fraction(1), known=False)) for _ in range(2)]
    assert ConcatSource(parts).info.problems == ()


def test_events_keep_their_times() -> None:
    """Files that step back in time are told, not moved; triggers are joined."""
    side = (
        SideArray("triggers/t", ("trigger",), np.array([1, 2])),
        SideArray("lens", ("axis",), np.zeros(2)),
    )
    parts = [
        FakeSource("events", {"t": np.array(t)}, name=name, side=side)
        for name, t in (("a.raw", [5, 9]), ("b.raw", [9, 20]), ("c.raw", [3, 4]))
    ]
    source = ConcatSource(parts)
    assert source.info.ticks is None
    assert source.info.problems == (
        "c.raw begins at 3 µs, before the end of the file in front of it at 20 µs; "
        "times are kept as they are",
    )
    assert {array.path: array.values.tolist() for array in source.info.side} == {
        "triggers/t": [1, 2, 1, 2, 1, 2], "lens": [0, 0],
    }  # fmt: skip
    assert source.read(1, 5).columns["t"].tolist() == [9, 9, 20, 3]


def with_side(path: str, dims: tuple[str, ...], values: Any) -> FakeSource:
    return stack(3, ticks=Ticks(Fraction(1)), side=(SideArray(path, dims, np.asarray(values)),), name="b")


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (FakeSource("field", {"data": np.zeros((2, 2))}, name="b"), "it is of kind 'field', not 'stack'"),
        (
            FakeSource("stack", {"data": np.zeros((2, 4, 7), "i4")}, name="b"),
            r"records of \(4, 7\) int32, not \(4, 6\) int32",
        ),
        (
            FakeSource("stack", {"data": np.zeros((2, 4, 6), "i2")}, name="b"),
            r"\(4, 6\) int16, not \(4, 6\) int32",
        ),
        (
            FakeSource("stack", {"pixels": np.zeros((2, 4, 6), "i4")}, name="b"),
            r"has the columns \['pixels'\], not \['data'\]",
        ),
        (stack(2, name="b"), "only one of them has times"),
        (
            stack(2, name="b", ticks=Ticks(Fraction(1)), item_attributes={"sensor": [1, 2]}),
            r"its sensor is \[1, 2\], not None",
        ),
    ],
    ids=["kind", "shape", "dtype", "columns", "times", "sensor"],
)
def test_recordings_that_do_not_fit_are_refused(other: FakeSource, match: str) -> None:
    """The file that differs is named with both sides of the difference."""
    with pytest.raises(SourceError, match=f"'b' cannot follow 'fake': .*{match}"):
        ConcatSource([stack(ticks=Ticks(Fraction(1))), other])


def test_side_arrays_must_agree() -> None:
    """Coordinates are equal in all files; arrays along time are joined, and belong to all files."""
    with pytest.raises(SourceError, match="'b' cannot follow 'b': its 'y' differs; expected the same"):
        ConcatSource([with_side("y", ("y",), [1, 2, 3, 4]), with_side("y", ("y",), [1, 2, 3, 5])])
    nan = ConcatSource([with_side("y", ("y",), [1, np.nan])] * 2)
    assert len(nan.info.side[0].values) == 2
    joined = ConcatSource([with_side("light", ("time",), [1, 2, 3])] * 2)
    assert joined.info.side[0].values.tolist() == [1, 2, 3, 1, 2, 3]
    with pytest.raises(SourceError, match="only some of the files have 'light', which every record needs"):
        ConcatSource([with_side("light", ("time",), [1, 2, 3]), stack(3, ticks=Ticks(Fraction(1)))])


def test_nothing_cannot_be_joined() -> None:
    """An empty list is a usage error."""
    with pytest.raises(UsageError, match="the list of recordings is empty"):
        ConcatSource([])
