"""Series, spikes and intervals from text tables and archives."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from lazystore.errors import SourceError
from lazystore.sources.registry import open_path, recognise
from lazystore.testing.sources import check_source


@pytest.fixture
def write(tmp_path):
    def write_file(content, name=None):
        if isinstance(content, dict):
            path = tmp_path / (name or "arrays.npz")
            np.savez(path, **content)
        else:
            path = tmp_path / (name or "table.csv")
            path.write_text(content)
        return path

    return write_file


def source_of(path, format=None, **options):
    (source,) = open_path(path, format=format, options=options)
    return source


def info_of(path, format=None, **options):
    with closing(source_of(path, format, **options)) as source:
        return source.info


def side_of(info):
    return {side.path: side.values.tolist() for side in info.side}


# --- series -------------------------------------------------------------------------------------


def test_series_has_a_channel_for_each_column(write):
    """Every column of numbers is a channel, named; text columns are left out and said so."""
    path = write("time,speed,phase,heading\n0,1,run,0.5\n0.1,,run,0.25\n")
    assert recognise(path) == ("csv-series", "series")
    check_source(lambda: source_of(path), {"data": np.array([[1, 0.5], [np.nan, 0.25]])})
    info = info_of(path, units="cm/s")
    assert side_of(info) == {"channel": ["speed", "heading"]}
    assert info.columns[0].attributes["units"] == "cm/s"
    assert "columns that hold text are left out: phase" in info.problems[0]


def test_series_channels_can_be_chosen(write):
    """Channels come in the order asked for, and may come from a table of positions."""
    path = write("t,x,y,speed\n0,1,2,3\n1,4,5,6\n")
    (source,) = open_path(path, kind="series", options={"channels": "speed, x"})
    with closing(source):
        np.testing.assert_array_equal(source.read(0, 2).columns["data"], [[3, 1], [6, 4]])


def test_series_keeps_times_that_no_tick_says(write):
    """The floats of an irregular time column are a column beside the data."""
    times = np.cumsum(np.random.default_rng(0).random(20))
    path = write("\n".join(["t,v", *(f"{t!r},{k}" for k, t in enumerate(times.tolist()))]))
    check_source(lambda: source_of(path), {"data": np.arange(20.0)[:, None], "source_time": times})


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        ("t,v\n0,1\n", {"channels": "w"}, "has no column 'w'; its columns are: t, v"),
        ("t,v\n0,a\n", {}, "no column of numbers beside the times"),
        ("t,v\n0,1\n1,a\n", {}, "line 3: 'a' in column 'v' is no number"),
    ],
)
def test_broken_series(write, text, options, match):
    """A bad table or choice is refused when it is opened."""
    with pytest.raises(SourceError, match=match):
        source_of(write(text), "csv-series", **options)


# --- spikes -------------------------------------------------------------------------------------


def test_spikes_with_numbered_units(write):
    """Times stay bit for bit; unit numbers stay numbers."""
    rng = np.random.default_rng(0)
    times, units = np.sort(rng.random(30) * 100), rng.integers(0, 5, 30)
    path = write(
        "\n".join(["time,unit_id", *(f"{t!r},{u}" for t, u in zip(times.tolist(), units, strict=True))])
    )
    assert recognise(path) == ("csv-spikes", "spikes")
    check_source(lambda: source_of(path), {"spike_time": times, "unit": units})
    archive = write({"spike_times": times, "unit": units})
    assert recognise(archive) == ("npz-spikes", "spikes")
    check_source(lambda: source_of(archive), {"spike_time": times, "unit": units})


def test_spikes_with_named_units(write):
    """Names become places in a list of names, in the order in which they fire."""
    path = write("spike_time,unit\n1,b\n2,a\n3,b\n")
    check_source(lambda: source_of(path), {"spike_time": np.array([1.0, 2, 3]), "unit": np.array([0, 1, 0])})
    assert side_of(info_of(path)) == {"unit_name": ["b", "a"]}
    archive = write({"times": np.array([1.0, 2, 3]), "cluster": np.array(["b", "a", "b"])})
    assert side_of(info_of(archive)) == {"unit_name": ["b", "a"]}


def test_spikes_divided_among_units(write):
    """A flat list with the end of each unit, as NWB has it, becomes a unit for each spike."""
    arrays = {"spike_times": np.array([1.0, 2, 3, 4]), "spike_times_index": np.array([1, 1, 4])}
    path = write(arrays)
    check_source(
        lambda: source_of(path),
        {"spike_time": np.array([1.0, 2, 3, 4]), "unit": np.array([0, 2, 2, 2])},
    )
    named = write({**arrays, "unit_id": np.array([10, 11, 12])}, "named.npz")
    check_source(
        lambda: source_of(named), {"spike_time": np.array([1.0, 2, 3, 4]), "unit": np.array([10, 12, 12, 12])}
    )


def test_spikes_without_units_and_in_other_time_units(write):
    """Milliseconds become seconds; a list of times alone is one unit and has no unit column."""
    path = write("spike_time\n100\n250\n")
    check_source(lambda: source_of(path, time_unit="ms"), {"spike_time": np.array([0.1, 0.25])})
    archive = write({"spike_times": np.array([100, 250])})
    check_source(lambda: source_of(archive, time_unit="ms"), {"spike_time": np.array([0.1, 0.25])})
    assert info_of(archive, time_unit="us").attributes["time"] == {"column": "spike_times", "unit": "us"}


@pytest.mark.parametrize(
    ("content", "options", "match"),
    [
        ("time,unit\n1,2\n,3\n", {}, "line 3: column 'time' has no value"),
        ("time,unit\n1,2.5\n", {}, "unit of spike 0 is 2.5; expected a whole number"),
        ("time,unit\n1,2\n2,\n", {}, "unit of spike 1 is nan"),
        ("a,b\n1,2\n", {}, r"has no column of spike times \(spike_time, .*the option time_column=NAME"),
        ("time,unit\n1,2\n", {"unit_column": "q"}, "unit_column='q' is none of the columns: time, unit"),
        ({"spike_times": np.array([1.0, np.inf])}, {}, "spike time 1 of 'spike_times' is not finite"),
        ({"spike_times": np.zeros((2, 2))}, {}, r"have shape \(2, 2\) and dtype float64"),
        ({"spike_times": np.zeros(2), "unit": np.zeros(3)}, {}, r"units 'unit' have shape \(3,\)"),
        ({"spike_times": np.zeros(2), "spike_times_index": np.array([1])}, {}, "does not divide 2 spikes"),
        (
            {"spike_times": np.zeros(2), "spike_times_index": np.array([2]), "unit": np.zeros(2)},
            {},
            r"'unit' has shape \(2,\), but 'spike_times_index' divides the spikes among 1 units",
        ),
        ({"a": np.zeros(2)}, {}, r"has no array spike times .*it has: a \(2,\) float64"),
    ],
)
def test_broken_spikes(write, content, options, match):
    """What is wrong is named, when the file is opened."""
    name = "npz-spikes" if isinstance(content, dict) else "csv-spikes"
    with pytest.raises(SourceError, match=match):
        source_of(write(content), name, **options)


# --- intervals ----------------------------------------------------------------------------------


def test_intervals_with_labels(write):
    """Start, stop and label, from a table and from an archive."""
    path = write("onset,end,state\n0.5,1.5,run\n2,2,rest\n")
    expected = {"start": np.array([0.5, 2]), "stop": np.array([1.5, 2])}
    assert recognise(path) == ("csv-intervals", "intervals")
    check_source(lambda: source_of(path), expected)
    assert side_of(info_of(path)) == {"label": ["run", "rest"]}
    archive = write({**expected, "label": np.array(["run", "rest"])})
    assert recognise(archive) == ("npz-intervals", "intervals")
    check_source(lambda: source_of(archive), expected)
    assert side_of(info_of(archive)) == {"label": ["run", "rest"]}


def test_intervals_in_other_units_and_columns(write):
    """Columns and the unit of time can be named; labels may be missing or numbers."""
    path = write("from,to,what\n100,200,3\n")
    info = info_of(
        path, "csv-intervals", start_column="from", stop_column="to", label_column="what", time_unit="ms"
    )
    assert side_of(info) == {"label": ["3"]}
    with closing(
        source_of(path, "csv-intervals", start_column="from", stop_column="to", time_unit="ms")
    ) as source:
        block = source.read(0, 1).columns
    assert (block["start"].tolist(), block["stop"].tolist()) == ([0.1], [0.2])
    assert not source.info.side
    archive = write({"start": np.array([1]), "stop": np.array([2]), "label": np.array([b"a"])})
    assert side_of(info_of(archive)) == {"label": ["a"]}
    numbered = write({"start": np.array([1]), "stop": np.array([2]), "label": np.array([7])}, "n.npz")
    assert side_of(info_of(numbered)) == {"label": ["7"]}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("start,stop\n1,0.5\n", "interval 0 goes from 1.0 s to 0.5 s"),
        ("start,stop\n1,\n", "interval 0 goes from 1.0 s to nan s"),
        ("start,b\n1,2\n", "has no column of stops"),
        ({"start": np.zeros(2), "stop": np.zeros(3)}, "do not fit each other: start .2,. float64"),
        ({"start": np.zeros(2), "stop": np.zeros(2), "label": np.array(["a"])}, "do not fit each other"),
    ],
)
def test_broken_intervals(write, content, match):
    """What is wrong is named, when the file is opened."""
    name = "npz-intervals" if isinstance(content, dict) else "csv-intervals"
    with pytest.raises(SourceError, match=match):
        source_of(write(content), name)
