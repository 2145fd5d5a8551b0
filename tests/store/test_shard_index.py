"""Shard indexes kept within a bound, and reads planned from them."""

from __future__ import annotations

from array import array

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lazystore.store.shard_index import (
    ABSENT,
    FEW_NUMBERS,
    IndexCache,
    ShardIndex,
    Want,
    index_problem,
    parse_index,
    runs_of,
)


def index_of(n_chunks: int) -> ShardIndex:
    return ShardIndex(array("Q", range(2 * n_chunks)), None)


@st.composite
def extents(draw: st.DrawFn) -> list[Want]:
    """Chunks of one shard in random order, with gaps between them, some asked for twice."""
    wants, offset = [], 0
    for _ in range(draw(st.integers(1, 12))):
        offset += draw(st.integers(0, 30))
        length = draw(st.integers(4, 40))
        wants.append((offset, length))
        offset += length
    asked = draw(st.lists(st.sampled_from(wants), min_size=1, max_size=15))
    return [Want(place, *extent) for place, extent in enumerate(asked)]


@given(extents(), st.integers(0, 40), st.integers(1, 150))
def test_runs_bring_every_chunk_once_within_their_bounds(
    wants: list[Want], gap_bytes: int, run_bytes: int
) -> None:
    """Each chunk lies in exactly one run; no run is long for nothing; none starts or ends in waste."""
    runs = list(runs_of(wants, gap_bytes, run_bytes))
    assert sorted(want.place for run in runs for want in run.wants) == list(range(len(wants)))
    for run in runs:
        assert run.offset == min(want.offset for want in run.wants)
        assert run.offset + run.length == max(want.offset + want.length for want in run.wants)
        assert run.length <= run_bytes or len({want.offset for want in run.wants}) == 1
        stop = run.offset
        for want in sorted(run.wants, key=lambda want: want.offset):
            assert want.offset - stop <= gap_bytes
            stop = max(stop, want.offset + want.length)
    assert [run.offset for run in runs] == sorted(run.offset for run in runs)


def test_neighbours_join_where_the_bounds_allow() -> None:
    """Not merely correct: adjacent chunks do share a read."""
    wants = [Want(place, place * 10, 10) for place in range(10)]
    assert len(list(runs_of(wants, 0, 1000))) == 1
    assert len(list(runs_of(wants, 0, 50))) == 2
    assert len(list(runs_of(wants[::2], 10, 1000))) == 1
    assert len(list(runs_of(wants[::2], 9, 1000))) == 5


def test_kept_indexes_stay_within_their_bytes() -> None:
    """The least recently used goes first; the newest stays even where it is too large alone."""
    one = index_of(4).nbytes
    cache = IndexCache(3 * one)
    for number in range(3):
        cache.put((number,), index_of(4))
    assert cache.get((0,)) is not None
    cache.put((3,), index_of(4))
    assert cache.get((1,)) is None
    assert cache.get((0,)) is not None
    cache.put((3,), index_of(4))  # again: counted once
    assert len(cache) == 3
    cache.put((9,), index_of(4000))
    assert len(cache) == 1
    assert cache.get((9,)) is not None
    cache.drop((9,))
    cache.drop((9,))
    for number in range(3):
        cache.put((number,), index_of(4))
    assert len(cache) == 3
    cache.drop()
    assert len(cache) == 0


def test_an_extent_tells_absent_chunks() -> None:
    """The marker that Zarr uses for a chunk that is not there is no offset."""
    index = ShardIndex(array("Q", [0, 9, ABSENT, ABSENT]), None)
    assert index.extent(0) == (0, 9)
    assert index.extent(1) is None
    assert index_problem(np.array([[ABSENT, ABSENT]], "u8"), 0, 10) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 4, 9, 20, 2**62, 2**64 - 3, ABSENT]), st.sampled_from([0, 4, 11, ABSENT])
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([None, 0, 20, 24, 2**63]),
)
def test_the_quick_look_at_an_index_says_what_the_careful_one_says(
    entries: list[tuple[int, int]], data_bytes: int | None
) -> None:
    """Sound, in any order, absent, overlapping, beyond the end, beyond 64 bits: the same answer."""
    numbers = np.array(entries, np.uint64)
    parsed = parse_index(numbers.astype("<u8").tobytes() + b"csum", data_bytes, 11, None)
    assert (parsed if isinstance(parsed, str) else None) == index_problem(numbers, data_bytes, 11)
    if isinstance(parsed, ShardIndex):
        assert [parsed.extents[2 * place] for place in range(len(entries))] == [pair[0] for pair in entries]


def test_indexes_above_the_quick_look_are_checked_too() -> None:
    """The last of many chunks lies beyond the end."""
    numbers = np.array([(4 * place, 4) for place in range(FEW_NUMBERS)], np.uint64)
    data = numbers.astype("<u8").tobytes() + b"csum"
    assert isinstance(parse_index(data, 4 * FEW_NUMBERS, 4, None), ShardIndex)
    assert parse_index(data, 4 * FEW_NUMBERS - 1, 4, None) == "bytes beyond its end"
