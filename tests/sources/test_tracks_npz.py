from __future__ import annotations

from contextlib import closing
from fractions import Fraction

import numpy as np
import pytest

from lazystore.errors import SourceError
from lazystore.sources.registry import open_path, recognise
from lazystore.sources.tables.tracks_npz import NPZ_TRACKS
from lazystore.testing.sources import check_source


@pytest.fixture
def save(tmp_path):
    def save_arrays(compressed=False, **arrays):
        path = tmp_path / "tracks.npz"
        (np.savez_compressed if compressed else np.savez)(path, **arrays)
        return path

    return save_arrays


def source_of(path, **options):
    (source,) = open_path(path, options=options)
    return source


def info_of(path, **options):
    with closing(source_of(path, **options)) as source:
        return source.info


def side_of(info):
    return {side.path: side.values.tolist() for side in info.side}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_individuals_and_keypoints(save, compressed, dtype):
    """All four axes, names, confidence, skeleton and times, in the archive's own dtype."""
    rng = np.random.default_rng(0)
    position = (rng.random((40, 2, 3, 2)) * 100).astype(dtype)
    confidence = rng.random((40, 2, 3)).astype("f4")
    path = save(
        compressed,
        position=position,
        confidence=confidence,
        keypoints=np.array(["nose", "neck", "tail"]),
        individuals=np.array(["a", "b"]),
        edges=np.array([[0, 1], [1, 2]]),
        time=np.arange(40) / 25,
    )
    assert recognise(path) == ("npz-tracks", "tracks")
    check_source(lambda: source_of(path), {"position": position, "confidence": confidence})
    info = info_of(path)
    assert info.columns[0].dtype == dtype
    assert side_of(info) == {
        "individual": ["a", "b"],
        "keypoint": ["nose", "neck", "tail"],
        "space": ["x", "y"],
    }
    assert info.item_attributes["skeleton"] == [[0, 1], [1, 2]]
    assert info.ticks.time_base * info.ticks.step == Fraction(1, 25)
    assert info_of(path, skeleton="nose:tail").item_attributes["skeleton"] == [[0, 2]]


@pytest.mark.parametrize(
    ("shape", "stored"),
    [((9, 2), (9, 1, 1, 2)), ((9, 4, 3), (9, 1, 4, 3)), ((9, 2, 4, 2), (9, 2, 4, 2))],
)
def test_axes_that_are_left_out(save, shape, stored):
    """(time, space) and (time, keypoint, space) get axes of length 1, and numbered names."""
    position = np.random.default_rng(1).random(shape)
    path = save(poses=position)
    check_source(lambda: source_of(path), {"position": position.reshape(stored)})
    names = side_of(info_of(path))
    assert len(names["keypoint"]) == stored[2]
    assert names["space"] == ["x", "y", "z"][: stored[3]]


def test_separate_coordinates(save):
    """Arrays x, y, z of one number a record are positions."""
    x, y, z = np.random.default_rng(2).random((3, 7))
    times = np.cumsum(x)
    path = save(x=x, y=y, z=z, t=times)
    expected = {"position": np.stack([x, y, z], axis=1).reshape(7, 1, 1, 3), "source_time": times}
    check_source(lambda: source_of(path), expected)


def test_event_archives_are_not_tracks(save):
    """x and y beside polarities are an event recording."""
    path = save(x=np.arange(3), y=np.arange(3), t=np.arange(3), p=np.ones(3))
    assert NPZ_TRACKS.recognise(path, path.read_bytes()[:4096]) is None


def test_byte_names(save):
    """Names stored as bytes are text."""
    info = info_of(save(position=np.zeros((2, 1, 2)), keypoints=np.array([b"n\xc3\xa4"])))
    assert side_of(info)["keypoint"] == ["nä"]


@pytest.mark.parametrize(
    ("arrays", "options", "match"),
    [
        (
            {"position": np.zeros((3, 2)), "time": np.arange(4)},
            {},
            r"times 'time' .* \(4,\) .* for 3 records",
        ),
        ({"position": np.zeros((3, 2)), "time": np.array([0, np.nan, 1])}, {}, "record 1 is nan"),
        ({"position": np.zeros((3, 2))}, {"time_column": "q"}, "has no array time_column='q'"),
        (
            {"position": np.zeros((3, 5, 2)), "keypoints": np.array(["a"])},
            {},
            r"'keypoints' has shape \(1,\)",
        ),
        ({"position": np.zeros((3, 2)), "confidence": np.zeros(4)}, {}, "does not fit positions"),
        ({"position": np.zeros((3, 2)), "edges": np.array([[0, 3]])}, {}, "does not pair keypoints 0 to 0"),
        ({"position": np.zeros((3, 2)), "edges": np.array([[-1, 0]])}, {}, "does not pair keypoints"),
        ({"x": np.zeros(3), "y": np.zeros(4)}, {}, r"x \(3,\) float64, y \(4,\) float64 are no positions"),
        ({"position": np.zeros((3, 2)), "a": np.zeros((3, 5))}, {"array": "a"}, "are no positions"),
        ({"position": np.zeros((3, 2))}, {"array": "b"}, "has no array array='b'; it has: position"),
    ],
)
def test_archives_that_do_not_fit(save, arrays, options, match):
    """What does not fit is named with shapes, when the archive is opened."""
    path = save(**arrays)
    with pytest.raises(SourceError, match=match):
        open_path(path, format="npz-tracks", options=options)


def test_whole_arrays_are_bounded(save, monkeypatch):
    """An array that must be held whole may not be larger than memory allows."""
    monkeypatch.setattr("lazystore.sources.arrays.npz_arrays.MAX_WHOLE_BYTES", 10)
    with pytest.raises(SourceError, match="expected a list of at most"):
        open_path(save(position=np.zeros((3, 2)), time=np.arange(3)), format="npz-tracks")
