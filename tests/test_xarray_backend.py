"""``engine="lazystore"`` shows what plain Zarr shows; and plain Zarr needs no lazystore."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import lazystore as ls
from lazystore.errors import HostileStoreError, MissingFrameError, UsageError
from lazystore.store.location import LocalLocation
from lazystore.xarray_backend import LazystoreBackend

from .samples import make_events, make_field, make_stack, make_track, make_video

MAKERS = {"fields.npy": make_field, "mouse.mp4": make_video, "drone.h5": make_events,
          "cells.tif": make_stack, "track.csv": make_track}  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a field, a video, events, a stack and a track; one of them in a folder."""
    folder = tmp_path_factory.mktemp("session")
    store = folder / "session.zarr"
    for name, make in MAKERS.items():
        make(folder / name)
        pixels = "balanced" if name == "mouse.mp4" else None  # plain Zarr has no frames of packets
        ls.convert(folder / name, store, name="day2/cells" if name == "cells.tif" else None, codec=pixels)
    return store


def test_the_tree_is_the_one_that_plain_zarr_shows(session: Path) -> None:
    """Groups, dims, coordinates, attributes, names and every value are identical."""
    theirs = xr.open_datatree(session, engine="zarr")
    ours = xr.open_datatree(session, engine="lazystore")
    assert ours.groups == theirs.groups
    xr.testing.assert_identical(ours.load(), theirs.load())
    assert "/day2/cells/stats" in ours.groups
    ours.close()
    theirs.close()


def test_opening_reads_no_chunk(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only labels of axes are read, to make the indexes; a frame reads its own chunk."""
    from lazystore.store.direct import DirectChunkReader

    read: list[str] = []
    plain = DirectChunkReader.read_chunk

    def noting(self: DirectChunkReader, chunk_index: tuple[int, ...]) -> np.ndarray:
        read.append(self.prefix)
        return plain(self, chunk_index)

    monkeypatch.setattr(DirectChunkReader, "read_chunk", noting)
    tree = xr.open_datatree(session, engine="lazystore")
    assert not [prefix for prefix in read if prefix.endswith("/data") or "/stats/" in prefix]
    read.clear()
    tree["fields/data"][3].load()
    assert set(read) <= {"fields/data"}
    tree.close()


def test_one_group_as_a_dataset(session: Path) -> None:
    """A group by its path, with slashes or without; nested and child groups too."""
    theirs = xr.open_dataset(session, engine="zarr", group="day2/cells")
    for group in ("day2/cells", "/day2/cells/"):
        ours = xr.open_dataset(session, engine="lazystore", group=group)
        xr.testing.assert_identical(ours.load(), theirs.load())
    stats = xr.open_dataset(session, engine="lazystore", group="fields/stats", drop_variables=["min"])
    assert "max" in stats
    assert "min" not in stats
    below = xr.open_datatree(session, engine="lazystore", group="day2")
    assert below.groups == (
        "/",
        "/cells",
        *[g[5:] for g in xr.open_datatree(session).groups if "cells/" in g],
    )
    theirs.close()


def test_groups_that_are_not_there(session: Path, tmp_path: Path) -> None:
    """The error lists those that are; without a name there must be one item."""
    with pytest.raises(UsageError, match=r"no group 'mouze'; its groups are 'day2', 'day2/cells'"):
        xr.open_dataset(session, engine="lazystore", group="mouze")
    with pytest.raises(UsageError, match=r"no group 'fields/data'"):
        xr.open_dataset(session, engine="lazystore", group="fields/data")
    with pytest.raises(UsageError, match=r"holds 5 items; pass group= one of 'day2/cells', 'drone'"):
        xr.open_dataset(session, engine="lazystore")
    make_field(tmp_path / "only.npy")
    ls.convert(tmp_path / "only.npy", tmp_path / "one.zarr")
    assert xr.open_dataset(tmp_path / "one.zarr", engine="lazystore").sizes["time"] == 200


def test_dask_blocks_are_whole_shards_and_pickle(session: Path) -> None:
    """``chunks={}`` cuts along shards; datasets travel to workers and still read."""
    tree = xr.open_datatree(session, engine="lazystore", chunks={})
    data = tree["fields/data"]
    spec = ls.open(session).specs("fields")["data"]
    assert data.data.chunksize == tuple(map(min, spec.write_shape, spec.shape))
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy[150:152].compute(), np.load(session.parent / "fields.npy")[150:152])


def test_an_open_store_gives_its_tree(session: Path) -> None:
    """`to_xarray`, and the engine on a store that is already open."""
    with ls.open(session) as store:
        theirs = xr.open_datatree(session, engine="zarr")
        xr.testing.assert_identical(store.to_xarray().load(), theirs.load())
        xr.testing.assert_identical(xr.open_datatree(store, engine="lazystore").load(), theirs.load())


def test_only_our_stores_are_claimed(session: Path, tmp_path: Path) -> None:
    """Our marker decides; other stores, rubbish and addresses are left to others, without an error."""
    guess = LazystoreBackend().guess_can_open
    assert guess(session)
    assert guess(str(session))
    other = tmp_path / "other.zarr"
    xr.Dataset({"a": ("x", np.arange(3))}).to_zarr(other, consolidated=False)
    for wrong in (other, tmp_path, tmp_path / "absent", "s3://bucket/a.zarr", b"bytes", 3, None):
        assert not guess(wrong)
    for rubbish in (b"", b"[]", b"[" * 100_000, b'{"attributes": {"lazystore": 3}}', b"\xff"):
        LocalLocation(tmp_path / "bad").write("zarr.json", [rubbish])
        assert not guess(tmp_path / "bad")
    assert "lazystore" in xr.backends.list_engines()


def test_text_and_unfamiliar_arrays_in_a_tree(session: Path) -> None:
    """Names of keypoints come as text, as plain Zarr gives them."""
    ours = xr.open_dataset(session, engine="lazystore", group="track")
    theirs = xr.open_dataset(session, engine="zarr", group="track")
    assert ours["space"].values.tolist() == theirs["space"].values.tolist()
    assert ours["space"].dtype == theirs["space"].dtype


def test_lost_frames_do_not_close_the_tree(tmp_path: Path) -> None:
    """One damaged image of a session: its times are known, and all but that frame can be read."""
    iio = pytest.importorskip("imageio.v3")
    folder = tmp_path / "plate"
    folder.mkdir()
    for number in range(6):
        iio.imwrite(folder / f"{number}.png", np.full((8, 9), 40 + number, np.uint8))
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:50])
    ls.convert(folder, tmp_path / "s.zarr", source_options={"rate_hz": 10})
    with xr.open_datatree(tmp_path / "s.zarr", engine="lazystore") as tree:
        plate = tree["plate"]
        np.testing.assert_allclose(plate["time"].values, np.arange(6) / 10)
        assert int(plate["data"].sel(time=0.3)[0, 0]) == 43
        assert tree["plate/stats/valid_count"].values.tolist() == [72, 72, 0, 72, 72, 72]
        with pytest.raises(MissingFrameError, match="frame 2 of 'plate' is missing"):
            plate["data"].isel(time=2).load()
        with pytest.raises(MissingFrameError, match="frame 2 of 'plate/stats/min' is missing"):
            tree["plate/stats/min"].load()
    with ls.open(tmp_path / "s.zarr") as store:
        assert len(store["plate/time"].load()) == 6


def test_huge_labels_do_not_fill_the_memory(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels above the limit are refused when an index is made of them, and read in parts without."""
    monkeypatch.setattr("lazystore.xarray_tree.MAX_COORDINATE_BYTES", 1000)
    with pytest.raises(HostileStoreError, match=r"labels 'fields/time' take 1600 bytes where at most 1000"):
        xr.open_dataset(session, engine="lazystore", group="fields")
    data = xr.open_dataset(session, engine="lazystore", group="fields", create_default_indexes=False)
    assert data["time"][10:20].load().size == 10
    with pytest.raises(HostileStoreError, match="create_default_indexes=False"):
        data["time"].load()


# Plain readers, in an interpreter that cannot import lazystore at all and takes warnings as errors.
PLAIN = """
import json, sys, warnings

class NoLazystore:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lazystore":
            raise ImportError("lazystore is not installed here")

sys.meta_path.insert(0, NoLazystore())
import importlib.metadata
plain = importlib.metadata.entry_points

def without_ours(**params):
    return plain(**params).select() if not params else importlib.metadata.EntryPoints(
        point for point in plain(**params) if not point.value.startswith("lazystore")
    )

importlib.metadata.entry_points = without_ours
try:
    import lazystore
except ImportError:
    pass
else:
    raise SystemExit("lazystore could be imported: this proves nothing")

import numpy as np
import xarray as xr
import zarr

warnings.simplefilter("error")
path = sys.argv[1]
root = zarr.open_group(path, mode="r")
arrays = {}

def visit(group, prefix):
    for name, member in group.members():
        if isinstance(member, zarr.Array):
            values = np.asarray(member[...])
            is_text = values.dtype.kind in "OT"
            arrays[prefix + name] = values.astype(object).astype(str) if is_text else values
        else:
            visit(member, prefix + name + "/")

visit(root, "")
tree = xr.open_datatree(path, engine="zarr")
tree.load()
for name, values in arrays.items():
    node, _, leaf = name.rpartition("/")
    np.testing.assert_array_equal(tree[node][leaf].values.astype(object).astype(values.dtype), values)
data = xr.open_dataset(path, engine="zarr", group="fields")
assert data["data"].dims == ("time", "y", "x"), data
assert data["time"].attrs["units"] == "s", data["time"].attrs
assert data["time"].dtype == np.float64
json.dump({name: [list(values.shape), str(values.dtype)] for name, values in arrays.items()}, sys.stdout)
"""


def test_plain_zarr_and_xarray_read_a_finished_store_without_us(session: Path) -> None:
    """No lazystore, no warning: every array of every kind, labels and units."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PLAIN, str(session)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    seen = json.loads(done.stdout)
    with ls.open(session) as store:
        expected = {
            f"{name}/{path}": list(spec.shape) for name in store for path, spec in store.specs(name).items()
        }
        assert {path: shape for path, (shape, _) in seen.items()} == expected
