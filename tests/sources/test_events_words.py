"""EVT 2.0, 2.1, 3.0, DAT and N-MNIST against slow decoders, word by word."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazystore.errors import SourceChangedError, SourceError
from lazystore.protocols import Source
from lazystore.sources.events import blocks as events_blocks
from lazystore.sources.events import dat as events_dat
from lazystore.sources.events import nmnist as events_nmnist
from lazystore.sources.events import words as events_words
from lazystore.sources.events.dat import DAT
from lazystore.sources.events.nmnist import NMNIST
from lazystore.sources.events.raw import EVT2, EVT3, EVT21
from lazystore.testing import check_source
from tests.sources import event_oracles as oracles
from tests.sources.event_files import (
    HEIGHT,
    WIDTH,
    WORD_DTYPES,
    Events,
    evt2_words,
    evt3_words,
    raw_header,
    some_events,
    words_file,
    write_dat,
    write_nmnist,
    write_raw,
)

FORMATS = {"evt2": EVT2, "evt21": EVT21, "evt3": EVT3, "dat": DAT, "nmnist": NMNIST}
SLOW = {"evt2": oracles.decode_evt2, "evt21": oracles.decode_evt21, "evt3": oracles.decode_evt3}
ENDINGS = {"dat": ".dat", "nmnist": ".bin"}
WRITERS: dict[str, Callable[[Path, Events], None]] = {
    name: write_raw(name) for name in ("evt2", "evt21", "evt3")
} | {"dat": write_dat, "nmnist": write_nmnist}

EXTENT = {"sensor": "extent"}


def open_one(name: str, path: Path, options: dict[str, Any] | None = None) -> Source:
    (source,) = FORMATS[name].open(path, options or {})
    return source


def contents(name: str, path: Path, options: dict[str, Any] | None = None) -> dict[str, np.ndarray[Any, Any]]:
    source = open_one(name, path, options)
    try:
        return read_all(source)
    finally:
        source.close()


def read_all(source: Source) -> dict[str, np.ndarray[Any, Any]]:
    return dict(source.read(0, source.info.length).columns)


def counts(source: Source) -> dict[str, int]:
    found: Any = source.info.attributes["counts"]
    return dict(found)


def triggers_of(source: Source) -> list[tuple[int, int, int]]:
    side = {array.path: array.values.tolist() for array in source.info.side}
    columns = [side.get(f"triggers/{name}", []) for name in ("t", "id", "p")]
    return list(zip(*columns, strict=True))


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in "txyp":
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def sample_events(name: str) -> Events:
    events = some_events(800, width=256 if name == "nmnist" else WIDTH)
    return Events(events.t, events.x, events.y, events.p) if name in ENDINGS else events


@pytest.mark.parametrize("name", FORMATS)
def test_recordings_keep_the_contract(tmp_path: Path, name: str) -> None:
    """Whole, in windows, in any order, twice at once: always the events that were written."""
    events = sample_events(name)
    path = tmp_path / f"a{ENDINGS.get(name, '.raw')}"
    WRITERS[name](path, events)
    check_source(lambda: open_one(name, path), events.columns)
    check_source(lambda: open_one(name, path), events.columns, max_records=60)
    source = open_one(name, path)
    assert triggers_of(source) == sorted(events.triggers)
    info = source.info
    assert counts(source)["events"] == len(events)
    assert info.attributes["sensor_from"] == ("extent" if name == "nmnist" else "file")
    if name != "nmnist":
        assert info.item_attributes["sensor"] == [WIDTH, HEIGHT]
    assert info.problems == ()
    source.close()


def words_of(name: str) -> st.SearchStrategy[list[int]]:
    """Streams of mostly known words with small, repeated and jumping times, and junk."""
    bits = {"evt2": 32, "evt21": 64, "evt3": 16}[name]
    shift = bits - 4
    content = st.integers(0, (1 << shift) - 1)
    kinds = {"evt2": (0, 1, 8, 10, 14), "evt21": (0, 1, 8, 10, 14), "evt3": (0, 2, 3, 4, 5, 6, 8, 10, 14)}[
        name
    ]
    known = st.builds(lambda kind, rest: kind << shift | rest, st.sampled_from(kinds), content)
    low = 32 if name == "evt21" else 0
    high_bits = 12 if name == "evt3" else 28
    border = st.sampled_from([0, 1, 2, (1 << high_bits) - 1, (1 << high_bits) - 2, 1 << high_bits - 1])
    time = st.builds(lambda value: 8 << shift | value << low, border)
    junk = st.integers(0, (1 << bits) - 1)
    return st.lists(st.one_of(known, known, known, time, junk), min_size=1, max_size=200)


def kernel_of(name: str) -> Callable[..., tuple[int, int]]:
    return FORMATS[name].words.load_kernel()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", SLOW)
@settings(max_examples=150)
@given(data=st.data())
def test_kernels_equal_slow_decoders(name: str, data: st.DataObject) -> None:
    """Any stream of words, cut into blocks anywhere, gives what a word-by-word decoder gives."""
    words = data.draw(words_of(name))
    cut = data.draw(st.integers(0, len(words)))
    expected = SLOW[name](words)
    state = np.zeros(16, np.int64)
    per_word = FORMATS[name].words.max_events  # type: ignore[union-attr]
    events: list[tuple[int, ...]] = []
    triggers: list[tuple[int, ...]] = []
    for part in (words[:cut], words[cut:]):
        size = max(1, len(part) * per_word)
        out = [np.zeros(size, kind) for kind in ("i8", "u2", "u2", "u1")]
        edges = [np.zeros(max(1, len(part)), kind) for kind in ("i8", "u2", "u1")]
        n, m = kernel_of(name)(np.array(part, WORD_DTYPES[name]), state, *out, *edges)
        events += list(zip(*(column[:n].tolist() for column in out), strict=True))
        triggers += list(zip(*(column[:m].tolist() for column in edges), strict=True))
    assert events == expected.events
    assert triggers == expected.triggers
    assert state[:4].tolist() == [expected.other, expected.unknown, expected.dropped, expected.wraps]


EVT3_VECTORS = {
    "single events": (
        [0x8001, 0x6002, 0x0005, 0x2803, 0x2004],
        [(4098, 3, 5, 1), (4098, 4, 5, 0)],
    ),
    "vector of 12, 12, 8": (
        [0x8000, 0x6010, 0x0007, 0x3864, 0x4801, 0x4001, 0x5080],
        [(16, 100, 7, 1), (16, 111, 7, 1), (16, 112, 7, 1), (16, 131, 7, 1)],
    ),
    "a vector goes on after another row": (
        [0x8000, 0x0001, 0x3000, 0x4001, 0x0002, 0x4001],
        [(0, 0, 1, 0), (0, 12, 2, 0)],
    ),
    "time low that steps back is kept": (
        [0x8000, 0x6064, 0x0001, 0x2001, 0x6063, 0x2002],
        [(100, 1, 1, 0), (99, 2, 1, 0)],
    ),
    "repeated time high changes nothing": (
        [0x8002, 0x6009, 0x0001, 0x2001, 0x8002, 0x2002, 0x8002, 0x8002, 0x2003],
        [(8201, 1, 1, 0), (8201, 2, 1, 0), (8201, 3, 1, 0)],
    ),
    "a new time high begins at low 0": (
        [0x8002, 0x6FFF, 0x0001, 0x2001, 0x8003, 0x2002],
        [(12287, 1, 1, 0), (12288, 2, 1, 0)],
    ),
    "a time low behind a new time high counts from that one": (
        [0x8001, 0x6FFF, 0x0001, 0x2001, 0x8002, 0x6001, 0x2002, 0x6FFF, 0x2003],
        [(8191, 1, 1, 0), (8193, 2, 1, 0), (12287, 3, 1, 0)],
    ),
    "a smaller time low alone is no turn of the clock": (
        [0x8FFF, 0x6FFF, 0x0001, 0x2001, 0x6000, 0x2002, 0x8000, 0x6000, 0x2003],
        [((1 << 24) - 1, 1, 1, 0), (0xFFF000, 2, 1, 0), (1 << 24, 3, 1, 0)],
    ),
    "24-bit wrap": (
        [0x8FFF, 0x6FFF, 0x0001, 0x2001, 0x8000, 0x6001, 0x2002],
        [((1 << 24) - 1, 1, 1, 0), ((1 << 24) + 1, 2, 1, 0)],
    ),
    "jitter around a wrap goes back one turn": (
        [0x8FFF, 0x0001, 0x2001, 0x8000, 0x2002, 0x8FFF, 0x2003, 0x8000, 0x2004],
        [(0xFFF000, 1, 1, 0), (1 << 24, 2, 1, 0), (0xFFF000, 3, 1, 0), (1 << 24, 4, 1, 0)],
    ),
    "a small step back is no wrap": (
        [0x8800, 0x0001, 0x2001, 0x87FF, 0x2002],
        [(0x800000, 1, 1, 0), (0x7FF000, 2, 1, 0)],
    ),
    "slave camera bit is no part of the row": ([0x8000, 0x0803, 0x2001], [(0, 1, 3, 0)]),
    "events before time or row are dropped": (
        [0x0001, 0x2001, 0x8000, 0x1001, 0x2002, 0x0001, 0x4001, 0x2003],
        [(0, 3, 1, 0)],
    ),
}


@pytest.mark.parametrize("case", EVT3_VECTORS)
def test_evt3_vectors(tmp_path: Path, case: str) -> None:
    """The quirks of EVT 3.0, by hand."""
    words, expected = EVT3_VECTORS[case]
    # Junk is 10% of a real file at most: time words that change nothing make it so.
    path = words_file(tmp_path / "a.raw", "evt3", [*words, *[0xE000] * 30])
    columns = contents("evt3", path)
    assert list(zip(*(columns[name].tolist() for name in "txyp"), strict=True)) == expected


@pytest.mark.parametrize(("name", "turn"), [("evt2", 1 << 34), ("evt21", 1 << 34), ("evt3", 1 << 24)])
def test_clock_wraps_are_undone(tmp_path: Path, name: str, turn: int) -> None:
    """Times go on over any number of wraps, also where a read begins in the middle."""
    events = some_events(600, start=turn - 400)
    gap = np.where(np.arange(600) > 400, turn // 3, 0) + np.where(np.arange(600) > 500, turn // 2, 0)
    events = Events(events.t + gap, events.x, events.y, events.p)
    path = tmp_path / "a.raw"
    WRITERS[name](path, events)
    source = open_one(name, path)
    assert counts(source)["time_wraps"] == int(events.t[-1]) // turn >= 1
    assert_same(dict(source.read(550, 600).columns), {n: c[550:] for n, c in events.columns.items()})
    assert_same(read_all(source), events.columns)
    source.close()


def test_dat_wraps_after_71_minutes(tmp_path: Path) -> None:
    """DAT's 32-bit time runs over twice."""
    steps = np.array([0, 10, *[1 << 30] * 5, 5, *[(1 << 31) - 9] * 3, 7])
    t = 100 + np.cumsum(steps)
    ones = np.ones(len(t), int)
    write_dat(tmp_path / "a.dat", Events(t, ones.astype("u2"), ones.astype("u2"), ones.astype("u1")))
    source = open_one("dat", tmp_path / "a.dat")
    assert read_all(source)["t"].tolist() == t.tolist()
    assert counts(source)["time_wraps"] == t[-1] >> 32
    source.close()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), min_size=1, max_size=50))
def test_dat_kernel_equals_slow_decoder(rows: list[tuple[int, int]]) -> None:
    """Any records decode as record by record."""
    words = [word for row in rows for word in row]
    expected = oracles.decode_dat(words)
    out = [np.zeros(len(rows), kind) for kind in ("i8", "u2", "u2", "u1")]
    state = np.zeros(16, np.int64)
    edges = [np.zeros(1, kind) for kind in ("i8", "u2", "u1")]
    kernel = events_dat.WORDS.load_kernel()
    n, _ = kernel(np.array(words, "u4"), state, *out, *edges)
    assert list(zip(*(column[:n].tolist() for column in out), strict=True)) == expected.events
    assert (state[1], state[3]) == (expected.unknown, expected.wraps)


@settings(max_examples=60)
@given(st.binary(min_size=5, max_size=300))
def test_nmnist_kernel_equals_slow_decoder(data: bytes) -> None:
    """Any bytes decode as record by record; row 240 is an overflow, not an event."""
    whole = data[: len(data) // 5 * 5]
    expected = oracles.decode_nmnist(whole)
    out = [np.zeros(len(whole), kind) for kind in ("i8", "u2", "u2", "u1")]
    edges = [np.zeros(1, kind) for kind in ("i8", "u2", "u1")]
    kernel = events_nmnist.WORDS.load_kernel()
    n, _ = kernel(np.frombuffer(whole, "u1"), np.zeros(16, np.int64), *out, *edges)
    assert list(zip(*(column[:n].tolist() for column in out), strict=True)) == expected.events


@pytest.mark.parametrize(
    ("name", "order"), [("evt2", "big"), ("evt21", "big"), ("evt21", "legacy"), ("evt3", "big")]
)
def test_word_orders(tmp_path: Path, name: str, order: str) -> None:
    """Big-endian words, and 64-bit words in two halves, by header or by option."""
    events = some_events(300)
    plain = tmp_path / "plain.raw"
    WRITERS[name](plain, events)
    body = np.frombuffer(plain.read_bytes()[len(raw_header(name)) :], WORD_DTYPES[name])
    stored = body.byteswap() if order == "big" else body.view("<u4").reshape(-1, 2)[:, ::-1]
    said = tmp_path / "said.raw"
    said.write_bytes(raw_header(name, extra=f";endianness={order}") + stored.tobytes())
    told = tmp_path / "told.raw"
    told.write_bytes(raw_header(name) + stored.tobytes())
    for path, options in ((said, {}), (told, {"word_order": order})):
        source = open_one(name, path, options)
        assert_same(read_all(source), events.columns)
        assert source.info.attributes["word_order"] == order
        source.close()


def test_unknown_word_order_is_refused(tmp_path: Path) -> None:
    """A header with a word order that the encoding does not have is an error, not a guess."""
    path = words_file(tmp_path / "a.raw", "evt3", [0x8000], raw_header("evt3", extra=";endianness=legacy"))
    with pytest.raises(SourceError, match=r"word order 'legacy' is none that EVT 3.0 has; say word_order"):
        open_one("evt3", path)


def test_words_of_another_encoding_are_refused(tmp_path: Path) -> None:
    """A file whose header lies is found out by its words."""
    words = np.array(evt3_words(some_events(2000)), "<u2")
    words = words[: len(words) // 2 * 2].view("<u4")
    path = words_file(tmp_path / "a.raw", "evt2", words.tolist())
    with pytest.raises(
        SourceError, match=r"of \d+ words are none of EVT 2.0; the file is in another encoding"
    ):
        open_one("evt2", path, EXTENT)


def test_few_unknown_words_are_counted(tmp_path: Path) -> None:
    """Damage here and there costs the damaged words alone, and is reported."""
    words = evt2_words(some_events(400))
    words[50:50] = [0x7 << 28, 0x5 << 28]
    words[0:0] = [1 << 28 | 5]
    source = open_one("evt2", words_file(tmp_path / "a.raw", "evt2", words))
    assert source.info.length == 400
    assert counts(source)["decode_errors"] == 3
    unknown, dropped = source.info.problems
    assert "2 of" in unknown
    assert "none of EVT 2.0; skipped" in unknown
    assert dropped == "1 events come before the words that give them a time or a place; dropped"
    source.close()


def test_a_record_cut_in_two_is_reported(tmp_path: Path) -> None:
    """The bytes after the last whole word are named, and the rest is there."""
    path = words_file(tmp_path / "a.raw", "evt2", evt2_words(some_events(40)))
    path.write_bytes(path.read_bytes() + b"\x01\x02\x03")
    source = open_one("evt2", path)
    assert source.info.length == 40
    assert source.info.problems == ("the file ends within a record: 3 of 4 bytes; ignored",)
    source.close()


@pytest.mark.parametrize("name", ["evt2", "evt3", "evt21"])
def test_random_access_goes_through_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With many checkpoints any order of reads, pickled or closed in between, gives the same events."""
    monkeypatch.setattr(events_blocks, "CHECKPOINT_EVENTS", 500)
    monkeypatch.setattr(events_words, "BLOCK_BYTES", 1024)
    events = some_events(6000)
    path = tmp_path / "a.raw"
    WRITERS[name](path, events)
    source: Any = open_one(name, path)
    assert len(source._checkpoints) > 8
    rng = np.random.default_rng(1)
    for turn in range(60):
        start = int(rng.integers(0, 5900))
        stop = int(rng.integers(start + 1, 6001))
        assert_same(
            dict(source.read(start, stop).columns), {n: c[start:stop] for n, c in events.columns.items()}
        )
        if turn == 20:
            source.close()
        if turn == 40:
            source.close()
            source = pickle.loads(pickle.dumps(source))
    source.close()


def test_long_silence_gets_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stretch of time words alone is not decoded again for every read behind it."""
    monkeypatch.setattr(events_blocks, "CHECKPOINT_BLOCKS", 4)
    monkeypatch.setattr(events_words, "BLOCK_BYTES", 1024)
    words = [0x8 << 28 | 1, 5, *[0x8 << 28 | 1] * 20_000, 6]
    source: Any = open_one("evt2", words_file(tmp_path / "a.raw", "evt2", words))
    assert len(source._checkpoints) > 15
    assert source.read(1, 2).columns["y"].tolist() == [6]
    assert source.read(0, 1).columns["y"].tolist() == [5]
    source.close()


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    """Bytes that are gone when they are read are an error, never events of zeros."""
    path = tmp_path / "a.raw"
    WRITERS["evt2"](path, some_events(400))
    source = open_one("evt2", path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(SourceError, match=r"before byte \d+ where it ended when it was opened"):
        source.read(0, 400)
    source.close()


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    """Fewer events than were counted are an error, and the source stays usable up to there."""
    path = tmp_path / "a.raw"
    words = evt2_words(some_events(400))
    words_file(path, "evt2", words)
    source = open_one("evt2", path)
    words_file(path, "evt2", [0x8 << 28] * len(words))
    with pytest.raises(SourceChangedError, match=r"gave 400 events when it was opened and 0 now"):
        source.read(0, 400)
    words_file(path, "evt2", words)
    assert len(source.read(0, 400).columns["t"]) == 400
    source.close()
