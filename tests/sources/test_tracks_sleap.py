from __future__ import annotations

from contextlib import closing
from fractions import Fraction

import h5py
import numpy as np
import pytest

from lazystore.errors import SourceError
from lazystore.sources.registry import open_path, recognise
from lazystore.testing.sources import check_source

NODES = ["nose", "neck", "tail"]


def write(path, *, tracks=None, scores=True, drop=(), **changes):
    """An analysis file as SLEAP exports it: arrays transposed, names as bytes."""
    rng = np.random.default_rng(0)
    tracks = rng.random((2, 2, 3, 30)) if tracks is None else tracks
    n_tracks, _, n_nodes, n_frames = tracks.shape
    data = {
        "tracks": tracks,
        "track_names": np.array([b"a", b"b"][:n_tracks]),
        "node_names": np.array([name.encode() for name in NODES[:n_nodes]]),
        "edge_inds": np.array([[0, 1], [1, 2], [0, 2]]),
        "edge_names": np.array([[b"nose", b"neck"], [b"neck", b"tail"], [b"nose", b"tail"]]),
        "video_path": "/home/someone/videos/day1.mp4",
    }
    if scores:
        data["point_scores"] = rng.random((n_tracks, n_nodes, n_frames))
        data["instance_scores"] = rng.random((n_tracks, n_frames))
    with h5py.File(path, "w") as file:
        for name, values in {**data, **changes}.items():
            if name not in drop:
                is_array = isinstance(values, np.ndarray) and values.size
                file.create_dataset(name, data=values, **({"compression": "gzip"} if is_array else {}))
    return path, data


def source_of(path, **options):
    (source,) = open_path(path, options=options)
    return source


def info_of(path, **options):
    with closing(source_of(path, **options)) as source:
        return source.info


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_analysis_file(tmp_path, dtype):
    """(track, space, node, frame) becomes (time, individual, keypoint, space), bit for bit."""
    tracks = np.random.default_rng(1).random((2, 2, 3, 30)).astype(dtype)
    tracks[0, :, 1, 4] = np.nan
    path, data = write(tmp_path / "v.analysis.h5", tracks=tracks)
    assert recognise(path) == ("sleap-analysis", "tracks")
    expected = {
        "position": tracks.transpose(3, 0, 2, 1),
        "confidence": data["point_scores"].transpose(2, 0, 1),
        "instance_score": data["instance_scores"].T,
    }
    check_source(lambda: source_of(path), expected)
    info = info_of(path, rate_hz="25")
    assert {side.path: side.values.tolist() for side in info.side} == {
        "individual": ["a", "b"],
        "keypoint": NODES,
        "space": ["x", "y"],
    }
    assert info.item_attributes == {"skeleton": [[0, 1], [1, 2], [0, 2]]}
    assert info.ticks.time_base == Fraction(1, 25)
    assert info.columns[0].dtype == dtype
    assert info.attributes == {"video": "day1.mp4"}


def test_little_files(tmp_path):
    """No track names, no scores, no edges: numbered tracks, positions alone."""
    path, _ = write(
        tmp_path / "v.h5", scores=False, track_names=np.array([], "S1"), edge_inds=np.empty((0, 2), "i8"),
        drop=("video_path",),
    )  # fmt: skip
    info = info_of(path)
    assert [column.name for column in info.columns] == ["position"]
    assert info.side[0].values.tolist() == ["track_0", "track_1"]
    assert info.item_attributes == {}
    assert not info.ticks.known
    assert info_of(path, skeleton="nose:tail").item_attributes == {"skeleton": [[0, 2]]}


TWO_EDGES = np.array([[b"nose", b"neck"], [b"neck", b"tail"]])
TWO_EDGES_OF_ONE = np.array([[b"nose", b"neck"], [b"nose", b"tail"]])


@pytest.mark.parametrize(
    ("changes", "skeleton"),
    [
        ({"edge_inds": np.array([[0, 1, 0], [1, 2, 2]])}, [[0, 1], [1, 2], [0, 2]]),
        (
            {"edge_inds": np.array([[0, 1], [1, 2]]), "edge_names": TWO_EDGES},
            [[0, 1], [1, 2]],
        ),
        (
            {"edge_inds": np.array([[0, 0], [1, 2]]), "edge_names": TWO_EDGES_OF_ONE},
            [[0, 1], [0, 2]],
        ),
    ],
)  # fmt: skip
def test_edges_either_way_round(tmp_path, changes, skeleton):
    """Edges may be stored (edge, 2) or (2, edge); two edges are told apart by their names."""
    path, _ = write(tmp_path / "v.h5", **changes)
    assert info_of(path).item_attributes["skeleton"] == skeleton


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tracks": np.zeros((2, 5, 3, 4))}, r"'tracks' has shape \(2, 5, 3, 4\)"),
        ({"tracks": np.zeros((2, 2, 3, 0))}, r"expected floats of \(track, 2 or 3, node, frame\)"),
        ({"node_names": np.array([b"nose"])}, "2 track names and 1 node names do not fit"),
        (
            {"edge_inds": np.array([[0, 9], [0, 1], [1, 2]])},
            r"'edge_inds' of shape \(3, 2\) does not pair nodes",
        ),
        ({"point_scores": np.zeros((2, 3, 7))}, r"'point_scores' has shape \(2, 3, 7\); expected floats"),
        ({"drop": ("node_names",)}, "0 node names do not fit"),
        ({"drop": ("tracks",)}, "is no whole SLEAP analysis file"),
    ],
)
def test_broken_files(tmp_path, changes, match):
    """Shapes that do not fit each other are named."""
    path, _ = write(tmp_path / "v.h5", **changes)
    with pytest.raises(SourceError, match=match):
        open_path(path, format="sleap-analysis")


def test_frames_that_cannot_be_read_are_named(tmp_path):
    """Damage that shows only while reading is an error with its frames."""
    path, _ = write(tmp_path / "v.h5")
    with closing(source_of(path)) as source:
        with h5py.File(path, "a") as file:
            del file["tracks"]
        with pytest.raises(SourceError, match="frames 0 to 2 cannot be read"):
            source.read(0, 2)
