"""Events in text and in NumPy files: columns found by name or by value, times exact."""

from __future__ import annotations

import pickle
from contextlib import closing
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Source
from lazystore.sources.events import text as events_text
from lazystore.sources.events.kernels import text as text_kernel
from lazystore.sources.events.names import columns_by_values
from lazystore.sources.events.numpy_files import NUMPY_EVENTS
from lazystore.sources.events.text import TEXT_EVENTS
from lazystore.sources.events.values import ValueConverter
from lazystore.testing import check_source
from tests.sources.event_files import (
    some_events,
    write_csv,
    write_npz,
    write_rpg,
    write_structured_npy,
)

EVENTS = some_events(700)
COLUMNS = EVENTS.columns


def open_text(path: Path, **options: Any) -> Source:
    (source,) = TEXT_EVENTS.open(path, options)
    return source


def open_numpy(path: Path, **options: Any) -> Source:
    (source,) = NUMPY_EVENTS.open(path, options)
    return source


def text(path: Path, content: str) -> Path:
    path.write_text(content, newline="")
    return path


def rows(source: Source) -> list[tuple[int, ...]]:
    with closing(source):
        columns = source.read(0, source.info.length).columns
        return list(zip(*(columns[name].tolist() for name in "txyp"), strict=True))


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_rpg, write_csv])
def test_text_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any) -> None:
    """RPG lines and a CSV with a header, in one block or many, give the events that were written."""
    path = tmp_path / "a.txt"
    write(path, EVENTS)
    check_source(lambda: open_text(path), COLUMNS, max_records=300)
    monkeypatch.setattr(events_text, "BLOCK_BYTES", 512)
    check_source(lambda: open_text(path), COLUMNS, max_records=300)
    with closing(open_text(path)) as source:
        assert source.info.problems == ()
        again = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(again.read(9, 600).columns["t"], EVENTS.t[9:600])
        again.close()


LAYOUTS = {
    "spaces, seconds": ("0.000001 3 4 1\n1.5 5 6 0\n", [(1, 3, 4, 1), (1_500_000, 5, 6, 0)], "s"),
    "tabs": ("1\t3\t4\t1\n2\t5\t6\t0\n", [(1, 3, 4, 1), (2, 5, 6, 0)], "us"),
    "commas with spaces": ("1 , 3, 4 ,1\n2,5,6,0\n", [(1, 3, 4, 1), (2, 5, 6, 0)], "us"),
    "semicolons and Windows ends": ("1;3;4;1\r\n2;5;6;0\r\n", [(1, 3, 4, 1), (2, 5, 6, 0)], "us"),
    "no end of the last line": ("1 3 4 1\n2 5 6 0", [(1, 3, 4, 1), (2, 5, 6, 0)], "us"),
    "x, y, p, t by values": ("3,4,1,70\n9,9,0,80\n", [(70, 3, 4, 1), (80, 9, 9, 0)], "us"),
    "x, y, t, p by values": ("9,4,70,1\n3,2,80,-1\n", [(70, 9, 4, 1), (80, 3, 2, 0)], "us"),
    "byte order mark": ("\ufefft,x,y,p\n1,3,4,1\n", [(1, 3, 4, 1)], "us"),
    "names in any order": ("polarity,y,x,timestamp\n1,4,3,1\n", [(1, 3, 4, 1)], "us"),
    "unit in the name": ("x,y,p,t [ms]\n3,4,1,2\n", [(2000, 3, 4, 1)], "ms"),
    "unit after an underscore": ("x y p time_ns\n3 4 1 2501\n", [(3, 3, 4, 1)], "ns"),
    "names in a comment": ("# t x y p\n1 3 4 1\n", [(1, 3, 4, 1)], "us"),
    "comments, empty lines": ("% me\n\n1 3 4 1\n# half\n\n2 5 6 0\n", [(1, 3, 4, 1), (2, 5, 6, 0)], "us"),
    "sensor size first": ("240 180\n1 3 4 1\n2 5 6 0\n", [(1, 3, 4, 1), (2, 5, 6, 0)], "us"),
    "more columns": ("t,x,y,p,frame\n1,3,4,1,7\n", [(1, 3, 4, 1)], "us"),
    "numpy.savetxt": (
        "1.000000000000000021e-03 3.0e+00 4.000000000000000000e+00 -1.000000000000000000e+00\n"
        "2.5e-03 1.2e1 4 1\n",
        [(1000, 3, 4, 0), (2500, 12, 4, 1)],
        "s",
    ),
    "words for polarity": ("1 3 4 True\n2 5 6 false\n", [(1, 3, 4, 1), (2, 5, 6, 0)], "us"),
    "leading signs and zeros": ("+001 +3 004 +1\n2 5 6 0\n", [(1, 3, 4, 1), (2, 5, 6, 0)], "us"),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS)
def test_text_layouts(tmp_path: Path, case: str) -> None:
    """Every spelling that is met in the wild."""
    content, expected, unit = LAYOUTS[case]
    path = text(tmp_path / "a.txt", content)
    source = open_text(path)
    assert source.info.attributes["file_time_unit"] == unit
    if case == "sensor size first":
        assert source.info.item_attributes["sensor"] == [240, 180]
    assert rows(source) == expected


def test_text_options(tmp_path: Path) -> None:
    """The caller's columns and unit come before what names and values suggest."""
    path = text(tmp_path / "a.csv", "a,b,c,d,e\n1,0,9,3,4\n0,0,8,5,6\n")
    assert TEXT_EVENTS.recognise(path, path.read_bytes()) is None
    source = open_text(path, columns="p,-,t,x,y", time_unit="ms")
    assert source.info.attributes["columns_from"] == "option"
    assert source.info.attributes["time_unit_from"] == "option"
    assert rows(source) == [(9000, 3, 4, 1), (8000, 5, 6, 0)]
    with pytest.raises(SourceError, match=r"has 5 columns, columns='-,-,p,-,t,x,y' names more"):
        open_text(path, columns="-,-,p,-,t,x,y")
    with pytest.raises(UsageError, match=r"columns='t,x,y' does not name each of t, x, y, p once"):
        open_text(path, columns="t,x,y")


BAD_LINES = {
    "a field too few": ("1 3 4 1\n2 5 6\n3 1 1 0\n", r"row 2 has too few fields: '2 5 6'; expected fields"),
    "no number": ("1 3 4 1\n2 5 6 0\n3 4x 1 0\n", r"row 3 has a field that is no number: '3 4x 1 0'"),
    "an exponent without digits": ("1 3 4 1\n2e 5 6 0\n3 4 1 0\n", r"row 2 has a field that is no number"),
    "x with a fraction": ("1 3 4 1\n2 5.5 6 0\n3 4 1 0\n", r"row 2 has an x or y that is no whole number"),
    "x too large": ("1 3 4 1\n2 70000 6 0\n3 4 1 0\n", r"row 2 has an x or y that is no whole number"),
    "polarity of 2": ("1 3 4 1\n2 5 6 2\n3 4 1 0\n", r"row 2 has a polarity that is none of -1, 0, 1"),
    "time too large": ("1 3 4 1\n2e30 5 6 0\n3 4 1 0\n", r"row 2 has a time that is too large"),
    "negative time": ("1 3 4 1\n-2 5 6 0\n3 4 1 0\n", r"1 of 43 events have negative times"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_lines_are_named(tmp_path: Path, case: str) -> None:
    """A line that is no event is an error with its number, wherever it stands in the file."""
    content, message = BAD_LINES[case]
    good = "".join(f"{t} 1 1 1\n" for t in range(100, 140))
    path = text(tmp_path / "a.txt", content + good)
    with pytest.raises(SourceError, match=message):
        open_text(path, columns="t,x,y,p", time_unit="us")


def test_a_last_line_that_is_cut_off_is_reported(tmp_path: Path) -> None:
    """A recording that stopped within a line keeps all whole lines and says what was lost."""
    path = text(tmp_path / "a.txt", "1 3 4 1\n2 5 6 0\n3 7")
    source = open_text(path)
    assert source.info.problems == ("the last line is cut off ('3 7'); ignored",)
    assert rows(source) == [(1, 3, 4, 1), (2, 5, 6, 0)]
    path = text(tmp_path / "b.txt", "1 3 4 1\n2 5 6 0\n3 7 8 1")
    source = open_text(path)
    assert source.info.problems == ("the last line has no end; it may be cut off",)
    assert len(rows(source)) == 3


def test_text_that_is_no_events_is_refused(tmp_path: Path) -> None:
    """Prose, too few columns, other names, and lines without end are not taken for events."""
    prose = "once upon a time\n"
    few = "1 2 3 1\nend\n"
    contents = (prose, few, "1,2,3\n4,5,6\n", "a,b,c,d\n1,2,3,1\n", "1 2.5 3 1\n" * 40)
    for number, content in enumerate(contents):
        path = text(tmp_path / f"{number}.txt", content)
        assert TEXT_EVENTS.recognise(path, path.read_bytes()) is None
        with pytest.raises(SourceError, match=r"is no text of events: expected lines of t, x, y, p"):
            open_text(path)
    path = text(tmp_path / "long.txt", "1 2 3 1\n" * 9000 + "1 2 3 1 " + "9" * 600_000)
    with pytest.raises(SourceError, match=r"has no end within 65536 bytes; it is no text file of events"):
        open_text(path)


def test_a_tracked_point_is_no_event(tmp_path: Path) -> None:
    """Columns t, x, y and a probability p belong to a track."""
    path = text(tmp_path / "a.csv", "t,x,y,p\n0.1,3.5,4.25,0.9\n0.2,3.6,4.3,0.8\n")
    assert TEXT_EVENTS.recognise(path, path.read_bytes()) is None


def test_few_rows_are_a_guess_many_are_proof(tmp_path: Path) -> None:
    """Without names a claim is only certain once enough rows fit."""
    few = text(tmp_path / "few.txt", "1 3 4 1\n2 5 6 0\n")
    many = text(tmp_path / "many.txt", "".join(f"{t} 3 4 1\n" for t in range(60)))
    claims = [TEXT_EVENTS.recognise(path, path.read_bytes()) for path in (few, many)]
    assert [claim is not None and claim.certain for claim in claims] == [False, True]


def parse_time(field: str, exponent: int) -> tuple[int, int]:
    """Time and fault that the kernel gives for one field."""
    line = f"{field} 1 2 1\n".encode()
    state = np.zeros(text_kernel.STATE_SIZE, np.int64)
    out = [np.zeros(1, kind) for kind in ("i8", "u2", "u2", "u1")]
    text_kernel.parse_lines(np.frombuffer(line, "u1"), len(line), 0, 1, 2, 3, exponent, state, *out)
    return int(out[0][0]), int(state[text_kernel.FAULT])


@settings(max_examples=300)
@given(
    digits=st.integers(0, 10**17 - 1),
    point=st.integers(0, 17),
    power=st.one_of(st.none(), st.integers(-12, 3)),
    unit=st.sampled_from([6, 3, 0, -3]),
    sign=st.sampled_from(["", "-", "+"]),
)
def test_times_are_exact(digits: int, point: int, power: int | None, unit: int, sign: str) -> None:
    """Any decimal becomes the nearest µs, computed without floating point."""
    shown = str(digits).rjust(point + 1, "0")
    field = sign + (f"{shown[:-point]}.{shown[-point:]}" if point else shown)
    field += "" if power is None else f"e{power}"
    exact = Decimal(field).scaleb(unit).to_integral_value(ROUND_HALF_UP)
    time, fault = parse_time(field, unit)
    if abs(exact) >= 2**62:
        assert fault == text_kernel.TOO_LARGE
    else:
        assert (time, fault) == (int(exact), 0)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_the_parser_stays_within_its_buffer(junk: bytes) -> None:
    """Any bytes end in events or a fault at a line's beginning."""
    data = np.frombuffer(junk + b"\n", "u1")
    state = np.zeros(text_kernel.STATE_SIZE, np.int64)
    out = [np.zeros(40, kind) for kind in ("i8", "u2", "u2", "u1")]
    n = text_kernel.parse_lines(data, len(data), 0, 1, 2, 3, 0, state, *out)
    assert 0 <= n <= len(junk) // 7
    assert 0 <= state[text_kernel.FAULT] <= text_kernel.TOO_LARGE
    at = int(state[text_kernel.FAULT_AT])
    assert at == 0 or (junk + b"\n")[at - 1 : at] == b"\n"


def test_lost_fractions_of_a_microsecond_are_reported(tmp_path: Path) -> None:
    """Nanoseconds that µs cannot hold are counted as rounding, floats that stand for µs are not."""
    path = text(tmp_path / "a.txt", "0.0000014 3 4 1\n0.0000020001 5 6 0\n")
    source = open_text(path)
    assert source.info.problems == ("times were rounded to whole µs, by up to 0.4 µs",)
    assert rows(source) == [(1, 3, 4, 1), (2, 5, 6, 0)]


# --- NumPy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_npz, write_structured_npy])
def test_numpy_keeps_the_contract(tmp_path: Path, write: Any) -> None:
    """Four arrays of an archive, or one array with fields, give the events that were written."""
    path = tmp_path / f"a{'.npz' if write is write_npz else '.npy'}"
    write(path, EVENTS)
    check_source(lambda: open_numpy(path), COLUMNS, max_records=300)
    with closing(open_numpy(path)) as source:
        again = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(again.read(9, 600).columns["t"], EVENTS.t[9:600])
        again.close()


MATRIX = np.stack([EVENTS.x, EVENTS.y, EVENTS.t / 1e6, EVENTS.p * 2.0 - 1.0], axis=1)


@pytest.mark.parametrize(
    ("arrays", "options"),
    [
        ({"ts": EVENTS.t, "xs": EVENTS.x, "ys": EVENTS.y, "ps": EVENTS.p}, {}),
        ({"timestamp_ns": EVENTS.t * 1000, "x": EVENTS.x, "y": EVENTS.y, "polarity": EVENTS.p}, {}),
        (
            {"t": EVENTS.t / 1e6, "x": EVENTS.x, "y": EVENTS.y, "p": EVENTS.p, "frames": np.zeros((3, 4, 5))},
            {},
        ),
        ({"t": EVENTS.t / 1000, "x": EVENTS.x, "y": EVENTS.y, "p": EVENTS.p}, {"time_unit": "ms"}),
        ({"t": EVENTS.t.astype("f8"), "x": EVENTS.x, "y": EVENTS.y, "p": EVENTS.p}, {}),
        ({"events": MATRIX}, {}),
        ({"a": MATRIX[:, [3, 2, 0, 1]], "b": np.zeros(3)}, {"columns": "p,t,x,y", "array": "a"}),
        ({"events": np.asfortranarray(MATRIX)}, {}),
        ({"events": MATRIX.astype(">f8")}, {}),
    ],
    ids=["plurals", "ns", "s", "ms", "whole floats", "matrix", "columns", "fortran", "big-endian"],
)
def test_numpy_layouts(tmp_path: Path, arrays: dict[str, Any], options: dict[str, str]) -> None:
    """Names, units, orders and dtypes that are met in the wild."""
    np.savez(tmp_path / "a.npz", **arrays)
    with closing(open_numpy(tmp_path / "a.npz", **options)) as source:
        for name, values in source.read(0, len(EVENTS)).columns.items():
            np.testing.assert_array_equal(values, COLUMNS[name])


def test_a_plain_array_is_a_guess(tmp_path: Path) -> None:
    """Rows of four numbers may be events, but names are what proves it."""
    np.save(tmp_path / "a.npy", MATRIX)
    claim = NUMPY_EVENTS.recognise(tmp_path / "a.npy", (tmp_path / "a.npy").read_bytes()[:4096])
    assert claim is not None
    assert not claim.certain
    with closing(open_numpy(tmp_path / "a.npy")) as source:
        np.testing.assert_array_equal(source.read(0, 99).columns["t"], EVENTS.t[:99])


def test_numpy_files_without_events_are_refused(tmp_path: Path) -> None:
    """Other arrays, objects, empty or unequal columns, and cut files."""
    zeros = np.zeros(5)
    others: list[dict[str, Any]] = [
        {"a": zeros},
        {"t": zeros, "x": zeros, "y": zeros, "p": np.zeros(4)},
        {"t": zeros[:0], "x": zeros[:0], "y": zeros[:0], "p": zeros[:0]},
        {"events": np.full((9, 4), 0.5)},
        {"t": np.array([None] * 5), "x": zeros, "y": zeros, "p": zeros},
    ]
    for number, arrays in enumerate(others):
        path = tmp_path / f"{number}.npz"
        np.savez(path, **arrays)
        assert NUMPY_EVENTS.recognise(path, path.read_bytes()[:4096]) is None
        with pytest.raises(SourceError, match=r"holds no arrays or fields named t, x, y, p of one length"):
            open_numpy(path)
    write_structured_npy(tmp_path / "cut.npy", EVENTS)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-9])
    with pytest.raises(SourceError, match=r"is cut off: shape \(700,\) of .* needs \d+ bytes"):
        open_numpy(tmp_path / "cut.npy")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    """Bytes that do not match the archive's checksum are an error."""
    path = tmp_path / "a.npz"
    np.savez(path, **COLUMNS)
    data = bytearray(path.read_bytes())
    at = data.index(EVENTS.t[300:310].tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"damaged"):
        open_numpy(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"is no whole zip archive"):
        open_numpy(path)


def test_unknown_time_unit_is_refused() -> None:
    """A unit that is none of the four is a mistake of the caller."""
    with pytest.raises(UsageError, match=r"time unit 'h' is none of s, ms, us, ns"):
        ValueConverter("a", "h")


def test_mixed_polarities_are_reported(tmp_path: Path) -> None:
    """A file with -1 and 0 does not say which of them is OFF; both are, and that is told."""
    path = text(tmp_path / "a.txt", "1 3 4 1\n2 5 6 0\n3 5 6 -1\n")
    source = open_text(path)
    assert source.info.problems == ("polarities are -1, 0 and perhaps 1; -1 and 0 both became OFF",)
    assert [row[3] for row in rows(source)] == [1, 0, 0]
    np.savez(tmp_path / "a.npz", t=[1, 2, 3], x=[3, 5, 5], y=[4, 6, 6], p=[1, 0, -1])
    with closing(open_numpy(tmp_path / "a.npz")) as source:
        assert source.info.problems == ("polarities are -1, 0 and perhaps 1; -1 and 0 both became OFF",)


def test_orders_that_do_not_fit_are_not_guessed() -> None:
    """Values that no common order explains stay unexplained."""
    assert columns_by_values(np.array([[0.5, 0.5, 0.5, 1.0]])) is None
    assert columns_by_values(np.zeros((0, 4))) is None


def test_text_that_shrinks_is_noticed(tmp_path: Path) -> None:
    """Lines that are gone when they are read are an error."""
    path = tmp_path / "a.txt"
    write_rpg(path, EVENTS)
    with closing(open_text(path)) as source:
        path.write_bytes(path.read_bytes()[:900])
        with pytest.raises(SourceError, match=r"ends at byte 900, before byte \d+ where it ended"):
            source.read(0, 700)


def test_a_damaged_sample_is_refused(tmp_path: Path) -> None:
    """An array whose first rows cannot be read is an error when it is opened."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, events=MATRIX)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 60] = bytes(60)
    path.write_bytes(data)
    assert NUMPY_EVENTS.recognise(path, bytes(data[:4096])) is None
    with pytest.raises(SourceError, match=r"damaged|cannot be read"):
        open_numpy(path)
