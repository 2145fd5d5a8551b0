"""Times files: every way people write them, and every way they go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazystore.convert import times as times_module
from lazystore.convert.times import read_times, split_times_argument
from lazystore.errors import SourceError, UsageError

EXPECTED = [0.0, 0.5, 1.25]

TEXTS: dict[str, tuple[str, str | int | None]] = {
    "one a line": ("0\n0.5\n1.25\n", None),
    "no last line end": ("0\n0.5\n1.25", None),
    "windows line ends": ("0\r\n0.5\r\n1.25\r\n", None),
    "byte order mark": ("\ufeff0\n0.5\n1.25\n", None),
    "remarks and blank lines": ("# from the DAQ\n\n0\n0.5\n\n1.25\n", None),
    "one heading": ("time_s\n0\n0.5\n1.25\n", None),
    "comma, by name": ("frame,time\n0,0\n1,0.5\n2,1.25\n", "time"),
    "comma, by number": ("frame,time\n0,0\n1,0.5\n2,1.25\n", 1),
    "comma, number as text": ("frame,time\n0,0\n1,0.5\n2,1.25\n", "1"),
    "comma, no heading": ("0,0\n1,0.5\n2,1.25\n", 1),
    "semicolon": ("frame;time\n0;0\n1;0.5\n2;1.25\n", "time"),
    "tab": ("frame\ttime\n0\t0\n1\t0.5\n2\t1.25\n", "time"),
    "blanks": ("0  0.0\n1  5e-1\n2  1.25\n", 1),
    "quoted with a comma": ('"frame, no.",time\n"0",0\n"1",0.5\n"2",1.25\n', "time"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_is_read(tmp_path: Path, case: str) -> None:
    """Separator, heading and column are understood."""
    text, column = TEXTS[case]
    path = tmp_path / "times.csv"
    path.write_bytes(text.encode())
    times = read_times(path, column)
    assert times.dtype == np.float64
    assert times.tolist() == EXPECTED


ARRAYS: dict[str, tuple[Any, str | int | None]] = {
    "float": (np.array(EXPECTED), None),
    "float32": (np.array(EXPECTED, dtype=np.float32), None),
    "two columns": (np.column_stack([np.arange(3), EXPECTED]), "1"),
    "one column in two dimensions": (np.array(EXPECTED)[:, np.newaxis], None),
    "structured": (np.array([(1, 0.0), (2, 0.5), (3, 1.25)], dtype=[("frame", "i4"), ("t", "f8")]), "t"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_are_read(tmp_path: Path, case: str) -> None:
    """.npy files of one or two dimensions and structured ones give the same times."""
    values, column = ARRAYS[case]
    np.save(tmp_path / "times.npy", values)
    assert read_times(tmp_path / "times.npy", column).tolist() == EXPECTED


BAD_TEXTS: dict[str, tuple[str, str | int | None, type[Exception], str]] = {
    "empty": ("", None, SourceError, "holds no times; expected one number"),
    "heading only": ("time\n", None, SourceError, "holds no times"),
    "word": ("0\nhalf past\n1", None, SourceError, "has 'half' in line 2"),
    "short line": ("0,1\n2\n", 1, SourceError, "has 1 columns in line 2; column 1 was expected"),
    "no choice made": ("frame,time\n0,0\n", None, UsageError, "has 2 columns .'frame', 'time'.; say which"),
    "no such name": ("frame,time\n0,0\n", "t", UsageError, "has no column 't'; it has 'frame', 'time'"),
    "no such number": ("0,0\n", 2, UsageError, "has no column 2; it has columns 0 to 1"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_bad_text_is_refused(tmp_path: Path, case: str) -> None:
    """The file, the line or the column that is wrong stands in the message."""
    text, column, error, message = BAD_TEXTS[case]
    path = tmp_path / "times.csv"
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_times(path, column)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere is said, with what was expected."""
    with pytest.raises(SourceError, match="does not exist; expected a .csv, .txt or .npy"):
        read_times(tmp_path / "none.csv")


def test_binary_is_no_text(tmp_path: Path) -> None:
    """A file that is no text ends in one line, not in a decoding traceback."""
    (tmp_path / "times.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(SourceError, match="is not text"):
        read_times(tmp_path / "times.csv")


def test_endless_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A huge line is no table of times."""
    monkeypatch.setattr(times_module, "MAX_LINE_CHARACTERS", 10)
    (tmp_path / "times.csv").write_text("0\n" + "1" * 11 + "\n")
    with pytest.raises(SourceError, match="has 12 characters in line 2"):
        read_times(tmp_path / "times.csv")


def test_a_damaged_npy_is_refused(tmp_path: Path) -> None:
    """Text renamed .npy, and pickled objects, are refused."""
    (tmp_path / "text.npy").write_text("0\n1\n")
    with pytest.raises(SourceError, match="is no .npy array"):
        read_times(tmp_path / "text.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(SourceError, match="is no .npy array"):
        read_times(tmp_path / "objects.npy")


@pytest.mark.parametrize("values", [np.zeros((2, 2, 2)), np.array(["a"]), np.array(1.0)])
def test_arrays_that_are_no_times_are_refused(tmp_path: Path, values: Any) -> None:
    """Shape and dtype of what was found stand in the message."""
    np.save(tmp_path / "times.npy", values)
    with pytest.raises(SourceError, match=r"holds .* of shape .*; expected numbers of seconds"):
        read_times(tmp_path / "times.npy")


def test_column_of_a_one_dimensional_array_must_be_its_only_one(tmp_path: Path) -> None:
    """Asking for a column that is not there is an error, not the only column there is."""
    np.save(tmp_path / "times.npy", np.array(EXPECTED))
    with pytest.raises(UsageError, match="has no column 't'; it has columns 0 to 0"):
        read_times(tmp_path / "times.npy", "t")


@pytest.mark.parametrize(
    ("text", "path", "column"),
    [
        ("times.csv", "times.csv", None),
        ("times.csv:camera", "times.csv", "camera"),
        ("C:/data/times.csv", "C:/data/times.csv", None),
        ("C:\\data\\times.csv", "C:\\data\\times.csv", None),
        ("C:\\data\\times.csv:camera", "C:\\data\\times.csv", "camera"),
        ("//nas/share/times.csv:2", "//nas/share/times.csv", "2"),
        ("times.csv:", "times.csv:", None),
    ],
)
def test_arguments_are_split(text: str, path: str, column: str | None) -> None:
    """Drives are no columns."""
    assert split_times_argument(text) == (Path(path), column)


def test_a_file_with_a_colon_in_its_name_is_itself(tmp_path: Path) -> None:
    """What exists under the whole text is meant by the whole text."""
    path = tmp_path / "12:30.csv"
    path.write_text("1\n")
    assert split_times_argument(str(path)) == (path, None)
