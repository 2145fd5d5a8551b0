"""Real recordings end to end: converted into one store, and read back by us, by zarr and by xarray.

Every file of the corpus is here, each beside an oracle that knows nothing of lazystore.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import av
import h5py
import hdf5plugin  # noqa: F401  # registers the filter that DSEC files use
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

import lazystore as ls
from lazystore.dataset import Store
from lazystore.schema import spec_from_metadata
from lazystore.store.direct import DirectChunkReader

type Columns = dict[str, np.ndarray[Any, Any]]

GRAY = {"color": "gray"}


def decoded(path: Path, *, pix_fmt: str | None = None) -> Columns:
    """All frames and times of a video, decoded from first to last: its Y plane, or as RGB."""
    times, frames = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            times.append(frame.pts)
            if pix_fmt is not None:
                frames.append(frame.to_ndarray(format=pix_fmt))
            else:
                dtype = np.dtype("<u2" if frame.format.components[0].bits > 8 else "u1")
                plane = frame.planes[0]
                rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
                frames.append(rows[:, : plane.width].copy())
    return {"data": np.stack(frames), "pts": np.array(times)}


def rotated(path: Path) -> Columns:
    """As a player shows it: the camera was held upright."""
    columns = decoded(path)
    return {**columns, "data": np.rot90(columns["data"], 1, axes=(1, 2))}


def event_columns(t: Any, x: Any, y: Any, p: Any) -> Columns:
    kinds = {"t": "i8", "x": "u2", "y": "u2", "p": "u1"}
    return {
        name: np.asarray(values).astype(kinds[name])
        for name, values in zip("txyp", (t, x, y, p), strict=True)
    }


def hdf5_events(path: Path) -> Columns:
    with h5py.File(path) as file:
        offset = int(file["t_offset"][()]) if "t_offset" in file else 0
        columns = [file[f"events/{name}"][:] for name in "txyp"]
    return event_columns(columns[0].astype("i8") + offset, *columns[1:])


def dat_events(path: Path) -> Columns:
    data = path.read_bytes()
    records = np.frombuffer(data, [("t", "<u4"), ("word", "<u4")], offset=data.index(b"% end\n") + 8)
    word = records["word"]
    return event_columns(records["t"], word & 0x3FFF, word >> 14 & 0x3FFF, word >> 28)


def evt2_events(path: Path) -> Columns:
    # evlib points HDF5_PLUGIN_PATH at hdf5plugin, which breaks its filters for child processes.
    with mock.patch.dict(os.environ):
        evlib = pytest.importorskip("evlib")
        table = evlib.load_events(str(path)).collect()
    t = table["t"].dt.total_microseconds().to_numpy()
    return event_columns(t, table["x"].to_numpy(), table["y"].to_numpy(), table["polarity"].to_numpy() > 0)


def aedat4_packets(path: Path, kind: str) -> list[Any]:
    aedat = pytest.importorskip("aedat")
    return [packet[kind] for packet in aedat.Decoder(str(path)) if kind in packet]


def aedat4_events(path: Path) -> Columns:
    events = np.concatenate(aedat4_packets(path, "events"))
    return event_columns(events["t"], events["x"], events["y"], events["on"])


def aedat4_frames(path: Path) -> Columns:
    return {"data": np.stack([frame["pixels"] for frame in aedat4_packets(path, "frame")])}


def ncaltech_events(path: Path) -> Columns:
    rows = np.fromfile(path, np.uint8).reshape(-1, 5).astype(np.int64)
    times = (rows[:, 2] & 127) << 16 | rows[:, 3] << 8 | rows[:, 4]
    return event_columns(times, rows[:, 0], rows[:, 1], rows[:, 2] >> 7)


def images(folder: Path) -> Columns:
    return {"data": np.stack([iio.imread(path) for path in sorted(folder.glob("*.png"))])}


# Item: file, options, oracle. A name with a dot is a stream of the item before the dot.
RECORDINGS: dict[str, tuple[str, dict[str, Any], Callable[[Path], Columns]]] = {
    "bikes": ("video/bikes.mp4", {"source_options": GRAY}, decoded),
    "carphone": ("video/carphone_pristine.mp4", {}, lambda path: decoded(path, pix_fmt="rgb24")),
    "water": ("video/bulk-water.mov", {"source_options": GRAY, "codec": "fast"}, decoded),
    "ten_bits": ("video/h264_10bits.mp4", {"source_options": GRAY}, decoded),
    "rotated": ("video/nasa_13013_rotated.mp4", {"source_options": GRAY}, rotated),
    "late": ("video/test_non_zero_start.mp4", {}, lambda path: decoded(path, pix_fmt="rgb24")),
    "stuck": ("stack/stuck.tif", {"codec": "small"}, lambda path: {"data": tifffile.imread(path)}),
    "brightfield": ("stack/brightfield", {}, images),
    "evt2": ("events/faery_evt2.raw", {}, evt2_events),
    "dsec": ("events/dsec_layout.h5", {}, hdf5_events),
    "evio": ("events/evio_layout.h5", {"codec": "fast"}, hdf5_events),
    "dat": ("events/dat_v2_layout.dat", {}, dat_events),
    "davis": ("events/evl_sample.aedat4", {}, aedat4_events),
    "davis_frames": ("events/evl_sample.aedat4", {}, aedat4_frames),
    "faces": ("events/evl_faces_easy_0001.bin", {}, ncaltech_events),
}


@pytest.fixture(scope="module")
def store_of_all(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store with every recording of the corpus."""
    path = tmp_path_factory.mktemp("corpus") / "all.zarr"
    for name, (file, options, _) in RECORDINGS.items():
        if name != "davis_frames":
            # Plain Zarr reads pixels.
            options = {"codec": "balanced" if file.startswith("video/") else None, **options}
            ls.convert(corpus / file, path, name=name, **options)
    return path


def test_no_recording_is_left_out(corpus: Path) -> None:
    """Every file and folder of the corpus is converted here."""
    there = {
        f"{folder.name}/{entry.name}"
        for folder in corpus.iterdir()
        if folder.is_dir()
        for entry in folder.iterdir()
    }
    assert there == {file for file, _, _ in RECORDINGS.values()}


@pytest.mark.parametrize("name", RECORDINGS)
def test_recordings_read_back_equal_to_their_oracles(name: str, corpus: Path, store_of_all: Path) -> None:
    """Values, types and order of every record, through `ls.open`."""
    file, _, oracle = RECORDINGS[name]
    expected = oracle(corpus / file)
    with ls.open(store_of_all) as store:
        item = store[name]
        if isinstance(item, ls.EventStream):
            assert len(item) == len(expected["t"])
            window = item.window(item.t_start, item.t_stop, unit="us")
            found = {column: np.asarray(getattr(window, column)) for column in expected}
        else:
            found = {"data": item.load()}
            if "pts" in expected:
                found["pts"] = np.asarray(item.coords["pts"])
    for column, values in expected.items():
        assert found[column].dtype == values.dtype
        np.testing.assert_array_equal(found[column], values, err_msg=column)


def test_videos_keep_their_times(corpus: Path, store_of_all: Path) -> None:
    """Session seconds are the presentation times, also where these do not begin at 0."""
    with ls.open(store_of_all) as store, av.open(str(corpus / RECORDINGS["late"][0])) as container:
        wanted = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
        assert wanted[0] > 0
        np.testing.assert_allclose(store["late"].coords["time"], wanted, atol=1e-9)


def test_every_array_is_read_directly(store_of_all: Path) -> None:
    """No array that we write needs zarr-python to be read: `spec_from_metadata` takes every document."""
    counted = 0
    with ls.open(store_of_all) as store:
        assert isinstance(store, Store)
        for document in store_of_all.rglob("zarr.json"):
            metadata = json.loads(document.read_text())
            if metadata["node_type"] == "array":
                spec = spec_from_metadata(document.parent.name, metadata)
                item, path = split_item(store, document.parent.relative_to(store_of_all).as_posix())
                assert not (path in store.specs(item) and spec.shape != store.specs(item)[path].shape)
                if not spec.is_text:
                    assert isinstance(store.reader(store.records[item], path), DirectChunkReader), path
                    counted += 1
    assert counted > 100


def split_item(store: Store, key: str) -> tuple[str, str]:
    item = max((name for name in store.records if key.startswith(f"{name}/")), key=len)
    return item, key[len(item) + 1 :]


PLAIN = """
import sys, hashlib, json
import importlib.abc

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lazystore":
            raise ImportError("lazystore is blocked here")

sys.meta_path.insert(0, Blocked())
# The package's entry point names a backend that cannot be imported here; plain users have none.
import importlib.metadata as metadata
real = metadata.entry_points
def without_ours(**chosen):
    found = real(**chosen)
    return metadata.EntryPoints(one for one in found if not one.value.startswith("lazystore"))
metadata.entry_points = without_ours

import numpy as np, xarray as xr, zarr

def digest(values):
    values = np.ascontiguousarray(values)
    head = f"{values.dtype.str} {values.shape}".encode()
    return hashlib.sha256(head + values.tobytes()).hexdigest()

group = zarr.open_group(sys.argv[1], mode="r")
tree = xr.open_datatree(sys.argv[1], engine="zarr", decode_times=True)
result, n_arrays = {}, 0
for key in json.loads(sys.argv[2]):
    item, column = key.split(":")
    result[key] = [digest(group[item][column][...]), digest(tree[item][column].values)]
for node in tree.subtree:
    for name, variable in node.to_dataset(inherit=False).variables.items():
        n_arrays += 1
        if variable.nbytes < 1_000_000:
            theirs = group[f"{node.path.strip('/')}/{name}"][...]
            assert np.array_equal(theirs, variable.values, equal_nan=theirs.dtype.kind == "f"), name
assert not [name for name in sys.modules if name.split(".")[0] == "lazystore"]
print(json.dumps({"digests": result, "arrays": n_arrays}))
"""


def digest(values: np.ndarray[Any, Any]) -> str:
    head = f"{values.dtype.str} {values.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(values).tobytes()).hexdigest()


def test_plain_zarr_and_xarray_read_the_same(corpus: Path, store_of_all: Path) -> None:
    """Without lazystore, and with every warning an error: all items, all values, native types."""
    expected = {
        f"{name}:{column}": digest(values)
        for name, (file, _, oracle) in RECORDINGS.items()
        for column, values in oracle(corpus / file).items()
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PLAIN, str(store_of_all), json.dumps(list(expected))],
        capture_output=True, text=True, cwd=store_of_all.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    wrong = [key for key, found in report["digests"].items() if found != [expected[key]] * 2]
    assert not wrong
    assert report["arrays"] > 100


def test_the_store_of_all_is_sound(store_of_all: Path) -> None:
    """No file is missing, stray or altered after fourteen conversions into one store."""
    with ls.open(store_of_all) as store:
        report = store.verify()
    assert report.exit_status == 0, report.findings


@pytest.mark.parametrize("name", ["bikes", "late"])
def test_packets_kept_as_they_are_decode_to_the_same(name: str, corpus: Path, tmp_path: Path) -> None:
    """codec="encoded" shows the frames of a sequential decode from a store about as large as the file."""
    path = corpus / RECORDINGS[name][0]
    report = ls.convert(path, tmp_path / "s.zarr", name=name, codec="encoded", source_options=GRAY)
    expected = decoded(path)["data"]
    with ls.open(tmp_path / "s.zarr") as store:
        np.testing.assert_array_equal(store[name].load(), expected)
    assert report.items[0].decoded_bytes == expected.nbytes
