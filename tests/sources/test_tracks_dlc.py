from __future__ import annotations

import pickle
from contextlib import closing
from fractions import Fraction

import h5py
import numpy as np
import pytest

from lazystore.errors import SourceError
from lazystore.sources.registry import open_path, recognise
from lazystore.sources.tables.pandas_hdf import find_frames, unpickle_names
from lazystore.testing.sources import check_source

SINGLE = [("net", part, coord) for part in ("nose", "tail") for coord in ("x", "y", "likelihood")]
MULTI = [
    ("net", who, part, coord)
    for who, parts in {"m1": ("nose", "tail"), "m2": ("nose", "tail"), "single": ("corner",)}.items()
    for part in parts
    for coord in ("x", "y", "likelihood")
]


def write_csv(path, labels, values, index=None):
    titles = ["scorer", "bodyparts", "coords"] if len(labels[0]) == 3 else [
        "scorer", "individuals", "bodyparts", "coords"
    ]  # fmt: skip
    lines = [",".join([title, *row]) for title, row in zip(titles, zip(*labels, strict=True), strict=True)]
    frames = range(len(values)) if index is None else index
    lines += [
        ",".join([str(frame), *("" if np.isnan(v) else repr(v) for v in row)])
        for frame, row in zip(frames, values.tolist(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def names_attribute(labels):
    return np.bytes_(pickle.dumps(list(labels), protocol=0))


def write_table_h5(path, labels, values, index=None, key="df_with_missing"):
    """The layout of pandas' table format, as PyTables writes it."""
    frames = np.arange(len(values)) if index is None else np.asarray(index)
    rows = np.zeros(len(values), [("index", frames.dtype), ("values_block_0", "<f8", (len(labels),))])
    rows["index"], rows["values_block_0"] = frames, values
    with h5py.File(path, "w") as file:
        group = file.create_group(key)
        group.attrs["pandas_type"] = np.bytes_(b"frame_table")
        group.attrs["non_index_axes"] = names_attribute([(1, list(labels))])
        table = group.create_dataset("table", data=rows, chunks=(min(16, len(rows)),))
        table.attrs["values_block_0_kind"] = names_attribute(labels)
    return path


def write_fixed_h5(path, labels, values):
    """The layout of pandas' fixed format: labels by level, here with the columns in two blocks."""
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_(b"frame")
        group.attrs["nblocks"] = 2

        def put_labels(name, rows):
            group.attrs[f"{name}_nlevels"] = len(labels[0])
            for level, names in enumerate(zip(*rows, strict=True)):
                distinct = sorted(set(names))
                group[f"{name}_level{level}"] = np.array(distinct, dtype="S")
                group[f"{name}_label{level}"] = np.array([distinct.index(n) for n in names], "i1")

        put_labels("axis0", labels)
        group["axis1"] = np.arange(len(values))
        for number in range(2):
            put_labels(f"block{number}_items", labels[number::2])
            group[f"block{number}_values"] = values[:, number::2]
    return path


WRITERS = {".csv": write_csv, ".h5": write_table_h5, ".hdf5": write_fixed_h5}


def values_of(labels, n=40):
    values = np.random.default_rng(0).random((n, len(labels))) * 100
    values[1, :3] = np.nan
    return values


def source_of(path, **options):
    (source,) = open_path(path, options=options)
    return source


@pytest.mark.parametrize("ending", WRITERS)
def test_one_animal(tmp_path, ending):
    """Position and likelihood of each bodypart, rows being video frames."""
    values = values_of(SINGLE)
    path = WRITERS[ending](tmp_path / f"video{ending}", SINGLE, values)
    assert recognise(path) == ("dlc-csv" if ending == ".csv" else "dlc-h5", "tracks")
    parts = values.reshape(-1, 1, 2, 3)
    check_source(lambda: source_of(path), {"position": parts[..., :2], "confidence": parts[..., 2]})
    with closing(source_of(path, rate_hz="30", skeleton="nose:tail")) as source:
        info = source.info
    assert {side.path: side.values.tolist() for side in info.side} == {
        "individual": ["individual_0"],
        "keypoint": ["nose", "tail"],
        "space": ["x", "y"],
    }
    assert info.attributes["scorer"] == "net"
    assert info.item_attributes == {"skeleton": [[0, 1]]}
    assert (info.ticks.time_base, info.ticks.values, info.ticks.known) == (Fraction(1, 30), None, True)


@pytest.mark.parametrize("ending", WRITERS)
def test_several_animals(tmp_path, ending):
    """Individuals are an axis; bodyparts that an individual lacks are NaN."""
    values = values_of(MULTI)
    path = WRITERS[ending](tmp_path / f"video{ending}", MULTI, values)
    expected = np.full((40, 3, 3, 3), np.nan)
    expected[:, :2, :2] = values[:, :12].reshape(-1, 2, 2, 3)
    expected[:, 2, 2] = values[:, 12:]
    check_source(lambda: source_of(path), {"position": expected[..., :2], "confidence": expected[..., 2]})
    with closing(source_of(path)) as source:
        names = {side.path: side.values.tolist() for side in source.info.side}
    assert (names["individual"], names["keypoint"]) == (["m1", "m2", "single"], ["nose", "tail", "corner"])


@pytest.mark.parametrize("ending", [".csv", ".h5"])
def test_frame_numbers_are_the_times(tmp_path, ending):
    """Frames that were left out stay gaps; without a rate the seconds are an assumption."""
    path = WRITERS[ending](tmp_path / f"v{ending}", SINGLE, values_of(SINGLE, 3), index=[0, 1, 7])
    with closing(source_of(path)) as source:
        np.testing.assert_array_equal(source.info.ticks.values, [0, 1, 7])
        assert not source.info.ticks.known


def test_broken_csv(tmp_path):
    """Headers and values that are not DeepLabCut's are named."""
    values = values_of(SINGLE, 2)
    hand = write_csv(tmp_path / "hand.csv", SINGLE, values, index=["labeled-data/a.png"] * 2)
    with pytest.raises(SourceError, match=r"labelled 'labeled-data/a\.png', not with a frame number"):
        open_path(hand)
    for labels, match in [
        ([*SINGLE[:5], ("net", "tail", "depth")], "column net/tail/depth is none of x, y, z, likelihood"),
        ([*SINGLE[:5], ("net", "tail", "x")], "column net/tail/x occurs twice"),
        ([("net", "nose", "x")] + [("net", f"p{n}", "x") for n in range(5)], "no columns x and y"),
    ]:
        with pytest.raises(SourceError, match=match):
            open_path(write_csv(tmp_path / "b.csv", labels, values))
    good = write_csv(tmp_path / "c.csv", SINGLE, values)
    good.write_text(good.read_text() + "2,1,2,oops,4,5,6\n")
    with pytest.raises(SourceError, match="line 6: 'oops' in column 'nose/likelihood' is no number"):
        open_path(good)
    other = tmp_path / "other.csv"
    other.write_text("t,x,y\n0,1,2\n")
    with pytest.raises(SourceError, match="does not begin with rows scorer, bodyparts, coords"):
        open_path(other, format="dlc-csv")


def test_pickles_are_never_run(tmp_path):
    """Labels that ask for a function are refused, and so are bombs of nested tuples."""
    with pytest.raises(SourceError, match=r"asks for (nt|posix|builtins)\.\w+; only plain names"):
        unpickle_names(pickle.dumps(print))
    with pytest.raises(SourceError, match="no readable pickle"):
        unpickle_names(b"\x80\x04garbage")
    with pytest.raises(SourceError, match="too long for names"):
        unpickle_names(b"N" * (5 << 20))
    with pytest.raises(SourceError, match="asks for the object '7'"):
        unpickle_names(b"P7\n.")
    bomb = ()
    for _ in range(60):
        bomb = (bomb, bomb)
    path = write_table_h5(tmp_path / "bomb.h5", [("net", "nose", "x")], np.zeros((2, 1)))
    with h5py.File(path, "a") as file:
        file["df_with_missing"].attrs["non_index_axes"] = names_attribute([(1, [bomb])])
    with pytest.raises(SourceError, match="a column label has parts of type tuple"):
        open_path(path, format="dlc-h5")


def test_broken_h5(tmp_path):
    """Frames whose blocks and labels disagree, or that hold no numbers, are refused."""
    values = values_of(SINGLE, 4)

    def broken(name, change):
        path = write_table_h5(tmp_path / name, SINGLE, values)
        with h5py.File(path, "a") as file:
            change(file["df_with_missing"])
        return path

    def set_kind(labels):
        def change(group):
            group["table"].attrs["values_block_0_kind"] = names_attribute(labels)

        return change

    def drop(name):
        return lambda group: group.__delitem__(name)

    for change, match in [
        (set_kind(SINGLE[:5]), r"has dtype float64 and \(6,\) columns for 5 names"),
        (set_kind([*SINGLE[:5], SINGLE[0]]), "do not hold each of its 6 columns once"),
        (set_kind([*SINGLE[:5], ("q",)]), "frames cannot be read"),
        (drop("table"), "frames cannot be read"),
    ]:
        with pytest.raises(SourceError, match=match):
            open_path(broken(f"{len(list(tmp_path.iterdir()))}.h5", change), format="dlc-h5")
    text = write_table_h5(tmp_path / "text.h5", SINGLE, values, index=np.array([b"a.png"] * 4))
    with pytest.raises(SourceError, match="not numbered by frame"):
        open_path(text)
    plain = tmp_path / "plain.h5"
    with h5py.File(plain, "w") as file:
        file["a"] = np.zeros((4, 4))
    with pytest.raises(SourceError, match="holds 0 pandas frames"):
        open_path(plain, format="dlc-h5")
    assert find_frames(plain, b"not hdf5") == []


def test_rows_that_cannot_be_read_are_named(tmp_path):
    """Damage that shows only while reading is an error with its rows."""
    path = write_table_h5(tmp_path / "v.h5", SINGLE, values_of(SINGLE, 4))
    with closing(source_of(path)) as source:
        with h5py.File(path, "a") as file:
            del file["df_with_missing"]["table"]
        with pytest.raises(SourceError, match="rows 0 to 2 of 'df_with_missing' cannot be read"):
            source.read(0, 2)
