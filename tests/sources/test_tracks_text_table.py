from __future__ import annotations

from contextlib import closing, contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazystore.errors import SourceError
from lazystore.sources.tables import text_table
from lazystore.sources.tables.text_fields import find_delimiter, is_number, split_line
from lazystore.sources.tables.text_table import TextTable


@contextmanager
def open_table(tmp_path, text, **options):
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with closing(TextTable(path, **options)) as table:
        yield table


def values_of(tmp_path, text, **options):
    with open_table(tmp_path, text, **options) as table:
        table.scan(range(len(table.names)))
        return table.read(0, table.n_rows, range(len(table.names)))


@given(
    rows=st.lists(
        st.tuples(*[st.floats(allow_infinity=True) | st.integers(-(10**15), 10**15)] * 3), min_size=1
    ),
    block=st.integers(1, 200),
    cut=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    line_break=st.sampled_from(["\n", "\r\n"]),
    closed=st.booleans(),
)
@settings(max_examples=80)
def test_any_range_of_rows_is_what_python_reads(tmp_path_factory, rows, block, cut, line_break, closed):
    """Every float comes back bit for bit, whatever the block borders and the range asked for."""
    lines = ["a,b,c", *(",".join(map(repr, row)) for row in rows)]
    text = line_break.join(lines) + (line_break if closed else "")
    expected = np.array([[float(repr(v)) for v in row] for row in rows])
    tmp_path = tmp_path_factory.mktemp("table")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_table, "BLOCK_BYTES", block)
        with open_table(tmp_path, text) as table:
            table.scan([0, 1, 2])
            assert table.n_rows == len(rows)
            start, stop = sorted(n % (len(rows) + 1) for n in cut)
            if start < stop:
                np.testing.assert_array_equal(
                    table.read(start, stop, [2, 0]), expected[start:stop][:, [2, 0]]
                )
            np.testing.assert_array_equal(table.read(0, len(rows), [1]), expected[:, [1]])


def test_missing_values_blanks_and_quotes(tmp_path):
    """Empty fields and the usual words are NaN; blanks around fields and empty lines do not count."""
    text = '\ufeff# note\n"t", "x, left",y\n\n 1 , 2.5 ,NA\n   \n3,,"4"\n\n5,nan,None\n'
    with open_table(tmp_path, text) as table:
        assert table.names == ("t", "x, left", "y")
        np.testing.assert_array_equal(table.scan([1, 2], keep=0), [1, 3, 5])
        nan = np.nan
        np.testing.assert_array_equal(
            table.read(0, 3, [0, 1, 2]), [[1, 2.5, nan], [3, nan, 4], [5, nan, nan]]
        )


def test_text_columns_come_as_they_stand(tmp_path):
    """Text is unquoted and stripped, one entry a row, in any script."""
    with open_table(tmp_path, 'a;b\n1; grün \n\n2;"x;y"\n') as table:
        assert table.texts(1) == ["grün", "x;y"]


def test_files_without_header_get_names(tmp_path):
    """Names that are given stand for a header, and the first line is data."""
    np.testing.assert_array_equal(
        values_of(tmp_path, "1\t2\n3\t4", header_rows=0, names=["a", "b"]), [[1, 2], [3, 4]]
    )
    with (
        pytest.raises(SourceError, match="3 column names were given for 2 columns"),
        open_table(tmp_path, "1,2\n", header_rows=0, names=["a", "b", "c"]),
    ):
        pass


def test_a_closed_table_reopens(tmp_path):
    """Closing frees the file, reading opens it again."""
    with open_table(tmp_path, "a\n1\n2\n") as table:
        table.scan([0])
        table.close()
        np.testing.assert_array_equal(table.read(1, 2, [0]), [[2]])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,b\n1,2\n3\n", r"table.csv, line 3 has 1 fields, the header has 2"),
        ("a,b\n1,2\n\n3,4,5\n", r"line 4 has 3 fields"),
        ('a,b\n1,"2"\n3,4,5\n', r"line 3 has 3 fields"),
        ('a,b\n1,"2\n3",4\n', r"line 2 has a quote without its pair"),
        ("a,b\n1,2\n\n3,abc\n", r"line 4: 'abc' in column 'b' is no number"),
        ("a,b\n1,2\n3,0x1F\n", r"line 3: '0x1F' in column 'b' is no number"),
        ("a,b\n1,2\n3,1_000\n", r"line 3: '1_000' in column 'b' is no number"),
        ("a,b\n", r"has a header but no rows"),
        ("a,b\n\n \n", r"has a header but no rows"),
        ("# only\n", r"has no line of column names"),
        (b"a,b\n1,\xff\n", r"line 2 is not UTF-8 text"),
        ("a,b\n1,2\r3,4\n", r"line 2 has 3 fields"),
        ("a\n1\r3\n", r"line 2: '1 3' in column 'a' is no number"),
    ],
)
def test_broken_tables_name_the_line(tmp_path, text, match):
    """Whatever is wrong is told with its line number, when the file is opened."""
    with pytest.raises(SourceError, match=match):
        values_of(tmp_path, text)


def test_times_may_not_be_missing(tmp_path):
    """An empty time is named with its line."""
    with (
        open_table(tmp_path, "t,x\n1,2\n\n,3\n") as table,
        pytest.raises(SourceError, match="line 4: column 't' has no value"),
    ):
        table.scan([1], keep=0)


def test_header_rows_must_agree(tmp_path):
    """A second header row of another width is refused."""
    with (
        pytest.raises(SourceError, match="header row 2 has 1 fields, the first has 2"),
        open_table(tmp_path, "a,b\nc\n1,2\n", header_rows=2),
    ):
        pass


def test_lines_without_end_are_no_table(tmp_path, monkeypatch):
    """A binary file is not read whole in search of a line break."""
    monkeypatch.setattr(text_table, "MAX_LINE_BYTES", 64)
    with pytest.raises(SourceError, match="line 1 has no end within"), open_table(tmp_path, "x" * 100):
        pass
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 16)
    with (
        open_table(tmp_path, "a\n1\n" + "1" * 200) as table,
        pytest.raises(SourceError, match="line 3 has no end within"),
    ):
        table.scan([0])


def test_a_table_that_changes_is_noticed(tmp_path):
    """Rows that vanish between scan and read are an error, not shorter data."""
    with open_table(tmp_path, "a\n1\n2\n") as table:
        table.scan([0])
        (tmp_path / "table.csv").write_text("a\n1\n\n\n")
        with pytest.raises(SourceError, match="changed while it was read"):
            table.read(0, 2, [0])


def test_missing_file_is_named(tmp_path):
    """No file, no table."""
    with pytest.raises(SourceError, match=r"cannot read .*nothing\.csv"):
        TextTable(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("field", "answer"),
    [("1", True), ("-1e5", True), ("inf", True), ("", True), ("NA", True), ("abc", False), ("1_0", False)],
)
def test_numbers_are_told_from_text(field, answer):
    """What counts as a number in a table."""
    assert is_number(field) is answer


def test_split_and_delimiter():
    """Quotes protect delimiters; the commonest delimiter wins."""
    assert split_line('a, "b,c"', ",") == ["a", "b,c"]
    assert find_delimiter("a\tb\tc,d") == "\t"
