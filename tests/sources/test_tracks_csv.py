from __future__ import annotations

from contextlib import closing
from fractions import Fraction

import numpy as np
import pytest

from lazystore.errors import SourceError, UnknownFormatError, UsageError
from lazystore.sources.registry import open_path, recognise
from lazystore.sources.tables.table_kinds import classify_columns, header_lines
from lazystore.testing.sources import check_source


@pytest.fixture
def write(tmp_path):
    def write_table(text, name="table.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_table


def source_of(path, **options):
    kind = options.pop("kind", None)
    (source,) = open_path(path, kind=kind, options=options)
    return source


def info_of(path, **options):
    with closing(source_of(path, **options)) as source:
        return source.info


def side_of(info):
    return {side.path: side.values.tolist() for side in info.side}


def test_plain_trajectory(write):
    """t, x, y become one individual with one keypoint; decimal times are exact ticks."""
    path = write("t,x,y\n0.00,1.5,2\n0.04,,3\n0.12,4,0.1\n")
    assert recognise(path) == ("csv-tracks", "tracks")
    expected = np.array([[1.5, 2], [np.nan, 3], [4, 0.1]]).reshape(3, 1, 1, 2)
    check_source(lambda: source_of(path), {"position": expected})
    info = info_of(path, units="cm")
    assert side_of(info) == {
        "individual": ["individual_0"],
        "keypoint": ["position"],
        "space": ["x", "y"],
    }
    assert info.columns[0].attributes["units"] == "cm"
    assert info.ticks.time_base == Fraction(1, 1000)
    np.testing.assert_array_equal(info.ticks.values, [0, 40, 120])
    assert info.attributes["time"] == {"column": "t", "unit": "s", "exact": True}


def test_keypoints_with_confidence_and_skeleton(write):
    """Columns name_x, name_y, name_likelihood make keypoints; a part that is missing is NaN."""
    path = write(
        "time_ms;nose_x;nose_y;nose_likelihood;tail_x;tail_y;tail_z\n"
        "0;1;2;0.9;3;4;5\n10;6;7;0.8;8;9;10\n", "k.tsv"
    )  # fmt: skip
    nan = np.nan
    position = np.array([[[[1, 2, nan], [3, 4, 5]]], [[[6, 7, nan], [8, 9, 10]]]])
    confidence = np.array([[[0.9, nan]], [[0.8, nan]]])
    check_source(lambda: source_of(path), {"position": position, "confidence": confidence})
    info = info_of(path, skeleton="nose:tail")
    assert side_of(info)["keypoint"] == ["nose", "tail"]
    assert info.item_attributes == {"skeleton": [[0, 1]]}
    assert (info.ticks.time_base * info.ticks.step, info.ticks.values) == (Fraction(1, 100), None)


def test_times_that_no_tick_says_are_kept_beside(write):
    """Irregular float times are rounded to ns, and the floats are a column of their own."""
    times = np.cumsum(np.random.default_rng(3).random(50))
    rows = [f"{t!r},{i},{-i}" for i, t in enumerate(times.tolist())]
    path = write("\n".join(["time,x,y", *rows]))
    position = np.stack([np.arange(50.0), -np.arange(50.0)], axis=1).reshape(50, 1, 1, 2)
    check_source(lambda: source_of(path), {"position": position, "source_time": times})
    assert info_of(path).attributes["time"]["exact"] is False


def test_frame_numbers_and_rates(write):
    """Frame numbers count at the rate given; gaps stay gaps; no rate is an assumption."""
    path = write("frame,x,y\n0,1,1\n1,1,1\n5,1,1\n")
    info = info_of(path, rate_hz="25")
    assert (info.ticks.time_base, info.ticks.known) == (Fraction(1, 25), True)
    np.testing.assert_array_equal(info.ticks.values, [0, 1, 5])
    assert not info_of(path).ticks.known
    bare = write("x,y\n1,2\n3,4\n", "bare.csv")
    assert info_of(bare, rate_hz="30000/1001").ticks.time_base == Fraction(1001, 30000)
    assert not info_of(bare).ticks.known


def test_other_columns_are_named_as_left_out(write):
    """What is no position is not dropped in silence."""
    info = info_of(write("t,x,y,speed,behaviour\n0,1,2,3,rest\n"))
    assert "left out: speed, behaviour" in info.problems[0]


def test_columns_can_be_named_by_option(write):
    """A table without a header is read with the names given."""
    path = write("0,1,2\n1,3,4\n", "bare.txt")
    (source,) = open_path(path, format="csv-tracks", options={"columns": "t,x,y"})
    with closing(source):
        np.testing.assert_array_equal(source.read(1, 2).columns["position"], [[[[3, 4]]]])


@pytest.mark.parametrize(
    ("text", "options", "error", "match"),
    [
        ("t,x,y\n0,1\n", {}, SourceError, "line 2 has 2 fields, the header has 3"),
        ("t,x,y\n0,1,2\n1,a,2\n", {}, SourceError, "line 3: 'a' in column 'x' is no number"),
        ("t,x,y\n,1,2\n", {}, SourceError, "line 2: column 't' has no value"),
        ("t,x,y\n", {}, SourceError, "has a header but no rows"),
        ("t,x,y\n0,1,2\n", {"time_column": "q"}, SourceError, "time_column='q' is none of the columns"),
        ("t,x,y\n0,1,2\n", {"skeleton": "a:b"}, UsageError, "'a:b' is not two of the keypoints position"),
        ("t,x,y\n0,1,2\n", {"skeleton": "position"}, UsageError, "with a colon between them"),
        ("frame,x,y\n0.5,1,2\n", {}, SourceError, "'frame' of row 0 is 0.5; expected a whole number"),
        ("track,frame_idx,nose.x,nose.y\n0,0,1,2\n", {}, SourceError, r"export the analysis \.h5"),
    ],
)
def test_broken_tracks(write, text, options, error, match):
    """A bad table or option is refused when it is opened."""
    with pytest.raises(error, match=match):
        source_of(write(text), **options)


def test_no_positions(write):
    """Asking for tracks where there are none lists the columns."""
    path = write("a,b\n1,2\n")
    with pytest.raises(SourceError, match="no columns x and y, nor pairs .* its columns are: a, b"):
        open_path(path, format="csv-tracks")


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("t,x,y", "tracks"),
        ("Frame,Nose_X,Nose_Y,Nose_Likelihood", "tracks"),
        ("t,x,y,p", "events"),
        ("x,y,polarity,timestamp", "events"),
        ("start,stop", "intervals"),
        ("onset,end_time,label", "intervals"),
        ("spike_times", "spikes"),
        ("time,cluster_id", "spikes"),
        ("time,speed", "series"),
        ("a,b", None),
        ("t", None),
    ],
)
def test_column_names_tell_the_kind(header, kind):
    """Which names mean what."""
    assert classify_columns(header.split(",")) == kind


def test_tables_without_telling_names_are_a_likely_series(write):
    """Numbers under names are a series; prose and bare numbers are nothing that is known."""
    assert recognise(write("a,b\n1,2\n")) == ("csv-series", "series")
    with pytest.raises(UnknownFormatError):
        recognise(write("Hello, world\nthis is, prose\n", "note.txt"))
    with pytest.raises(UnknownFormatError):
        recognise(write("1,2\n3,4\n", "numbers.csv"))


def test_long_headers_are_read_whole(tmp_path):
    """A header line longer than the first 4 KiB is still a header."""
    names = [f"keypoint_number_{n}_{axis}" for n in range(300) for axis in "xy"]
    path = tmp_path / "wide.csv"
    path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    assert recognise(path) == ("csv-tracks", "tracks")
    lines = header_lines(path, path.read_bytes()[:4096], 1)
    assert lines == [names]
