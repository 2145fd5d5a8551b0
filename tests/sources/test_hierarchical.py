"""Datasets of HDF5 files, NetCDF variables, Zarr arrays."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazystore.errors import MissingExtraError, SourceError
from lazystore.sources.registry import open_sources, recognise
from tests.sources.reading import check_reads

h5py = pytest.importorskip("h5py")
xr = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")

RNG = np.random.default_rng(11)


@pytest.fixture
def h5_path(tmp_path: Path) -> Path:
    return tmp_path / "a.h5"


@pytest.mark.parametrize("chunks", [None, (7, 4, 3), (64, 8, 6)], ids=["contiguous", "small", "large"])
@pytest.mark.parametrize("dtype", ["f4", ">i2", "u1"])
def test_hdf5_reads_equal_h5py(h5_path: Path, chunks: Any, dtype: str) -> None:
    """Reads equal h5py for contiguous and chunked datasets, in native byte order."""
    array = RNG.integers(0, 100, (90, 8, 6)).astype(dtype)
    with h5py.File(h5_path, "w") as file:
        dataset = file.create_dataset("rec/movie", data=array, chunks=chunks)
        dataset.attrs["units"] = "counts"
        file["small"] = np.arange(4)
    assert recognise(h5_path) == ("hdf5", "stack" if dtype == "u1" else "field")
    source = open_sources(h5_path)[0]
    assert source.info.attributes["dataset"] == "/rec/movie"
    assert source.info.columns[0].attributes["units"] == "counts"
    check_reads(source, array.astype(np.dtype(dtype).newbyteorder("=")))


def test_hdf5_lists_what_it_could_be(h5_path: Path) -> None:
    """Several datasets are listed; the option chooses; a wrong path is told."""
    with h5py.File(h5_path, "w") as file:
        for number in range(14):
            file[f"rec/cam{number}"] = np.zeros((5, 2, number + 1), "f4")
    with pytest.raises(SourceError, match=r"/rec/cam0 \(5, 2, 1\) float32.* and 2 more; .*dataset=PATH"):
        open_sources(h5_path)
    assert open_sources(h5_path, options={"dataset": "rec/cam3"})[0].info.columns[0].shape == (5, 2, 4)
    with pytest.raises(SourceError, match="has no dataset 'rec/cam99'"):
        open_sources(h5_path, options={"dataset": "rec/cam99"})


def test_hdf5_without_numbers_is_an_error(h5_path: Path) -> None:
    """A file of text only says that it has no numbers."""
    with h5py.File(h5_path, "w") as file:
        file["note"] = "hello"
    with pytest.raises(SourceError, match="it has: none with numbers"):
        open_sources(h5_path)
    with pytest.raises(SourceError, match="holds no plain numbers"):
        open_sources(h5_path, options={"dataset": "note"})


def test_hdf5_times_come_from_option_or_siblings(h5_path: Path) -> None:
    """`timestamps` beside the data is used, as is NWB's starting time and rate."""
    times = np.array([1.0, 1.5, 2.25])
    with h5py.File(h5_path, "w") as file:
        file["a/data"] = np.zeros((3, 4))
        file["a/timestamps"] = times
        file["b/data"] = np.zeros((3, 4))
        file["b/starting_time"] = 12.5
        file["b/starting_time"].attrs["rate"] = 30.0
    explicit = open_sources(h5_path, options={"dataset": "a/data"})[0].info.ticks
    assert explicit is not None
    assert explicit.values is not None
    np.testing.assert_array_equal(explicit.values * float(explicit.time_base), times)
    regular = open_sources(h5_path, options={"dataset": "b/data"})[0].info.ticks
    assert regular is not None
    assert regular.start * regular.time_base == Fraction(25, 2)
    assert regular.step * regular.time_base == Fraction(1, 30)
    borrowed = open_sources(h5_path, options={"dataset": "b/data", "times": "a/timestamps"})[0].info.ticks
    assert borrowed is not None
    assert borrowed.values is not None
    with pytest.raises(SourceError, match="no dataset 'c' to take the times from"):
        open_sources(h5_path, options={"dataset": "a/data", "times": "c"})
    with pytest.raises(SourceError, match=r"times 'a/data' have shape \(3, 4\).* but there are 3 records"):
        open_sources(h5_path, options={"dataset": "b/data", "times": "a/data"})


def test_hdf5_plugin_filters_are_read(h5_path: Path) -> None:
    """A dataset in a filter of the plugin package reads like any other."""
    hdf5plugin = pytest.importorskip("hdf5plugin")
    array = RNG.random((50, 8))
    with h5py.File(h5_path, "w") as file:
        file.create_dataset("x", data=array, chunks=(10, 8), **hdf5plugin.Zstd())
    check_reads(open_sources(h5_path)[0], array)


def test_hdf5_plugin_filters_name_the_extra(h5_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the plugin package the error says what to install."""
    hdf5plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(h5_path, "w") as file:
        file.create_dataset("x", data=np.zeros((50, 8)), chunks=(10, 8), **hdf5plugin.Zstd())
    monkeypatch.setitem(__import__("sys").modules, "hdf5plugin", None)
    with pytest.raises(MissingExtraError, match=r'HDF5 filter 32015; pip install "lazystore\[events\]"'):
        open_sources(h5_path)


def test_damaged_hdf5_is_an_error(h5_path: Path) -> None:
    """A cut file does not open; a damaged chunk is an error with its records."""
    with h5py.File(h5_path, "w") as file:
        file.create_dataset(
            "x", data=RNG.random((500, 40)), chunks=(50, 40), compression="gzip", fletcher32=True
        )
        offset = file["x"].id.get_chunk_info(5).byte_offset
    whole = h5_path.read_bytes()
    flipped = bytearray(whole)
    flipped[offset + 100] ^= 0xFF
    h5_path.write_bytes(flipped)
    source = open_sources(h5_path)[0]
    with pytest.raises(SourceError, match="records 250 to 300 of '/x' cannot be read"):
        source.read(250, 300)
    source.close()
    h5_path.write_bytes(whole[:3000])
    with pytest.raises(SourceError, match="is no readable HDF5 file"):
        open_sources(h5_path, format="hdf5")


def movie(**coords: Any) -> Any:
    values = RNG.random((20, 4, 5)).astype("f4")
    return xr.DataArray(
        values, dims=("time", "lat", "lon"), coords=coords, name="rate", attrs={"units": "Hz"}
    )


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"], ids=["netcdf4", "netcdf3"])
def test_netcdf_reads_equal_xarray(tmp_path: Path, engine: str) -> None:
    """The variable, its times and its coordinates are those that xarray sees."""
    pytest.importorskip(engine)
    path = tmp_path / "a.nc"
    array = movie(time=("time", np.arange(20) * 0.25, {"units": "s"}), lat=[1.0, 2.0, 3.0, 4.0])
    array.to_netcdf(path, engine=engine)
    assert recognise(path)[0] == "netcdf"
    source = open_sources(path)[0]
    info = source.info
    assert (info.kind, info.columns[0].dims) == ("field", ("time", "y", "x"))
    assert info.columns[0].attributes["units"] == "Hz"
    assert info.ticks is not None
    assert info.ticks.step * info.ticks.time_base == Fraction(1, 4)
    assert [(side.path, side.dims, side.attributes["long_name"]) for side in info.side] == [
        ("y", ("y",), "lat")
    ]
    np.testing.assert_array_equal(info.side[0].values, [1.0, 2.0, 3.0, 4.0])
    check_reads(source, array.values)


def test_netcdf_is_known_without_its_ending(tmp_path: Path) -> None:
    """A NetCDF 4 file that is called .h5 is recognised by the library's mark."""
    pytest.importorskip("h5netcdf")
    path = tmp_path / "a.h5"
    movie().to_netcdf(path, engine="h5netcdf")
    source = open_sources(path)[0]
    assert source.info.format == "netcdf"
    source.close()


def test_netcdf_candidates_and_groups(tmp_path: Path) -> None:
    """Two variables are listed; a group is opened by its path; no file stays open after an error."""
    pytest.importorskip("h5netcdf")
    path = tmp_path / "a.nc"
    pair = xr.Dataset({"a": movie().variable, "b": movie().variable})
    pair.to_netcdf(path, engine="h5netcdf")
    movie().to_netcdf(path, engine="h5netcdf", group="deep", mode="a")
    with pytest.raises(SourceError, match=r"it has: a \{'time': 20, 'lat': 4, 'lon': 5\}, b .*variable=NAME"):
        open_sources(path)
    with pytest.raises(SourceError, match="has no variable 'c'"):
        open_sources(path, options={"variable": "c"})
    with pytest.raises(SourceError, match="is no readable NetCDF file"):
        open_sources(path, options={"group": "nowhere"})
    grouped = open_sources(path, options={"group": "deep"})[0]
    assert grouped.info.attributes["variable"] == "rate"
    grouped.close()


def test_damaged_netcdf_is_an_error(tmp_path: Path) -> None:
    """Garbage after the magic bytes is one line."""
    path = tmp_path / "a.nc"
    path.write_bytes(b"CDF\x01" + b"\xff" * 100)
    with pytest.raises(SourceError, match="is no readable NetCDF file"):
        open_sources(path)


def test_netcdf_without_an_engine_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no engine is installed the error names one."""
    pytest.importorskip("scipy")
    path = tmp_path / "a.nc"
    movie().to_netcdf(path, engine="scipy")
    monkeypatch.setattr(xr.backends, "list_engines", dict)
    with pytest.raises(
        MissingExtraError, match="format 'netcdf' needs 'scipy', which is missing; pip install"
    ):
        open_sources(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
def test_zarr_groups_read_as_xarray_reads_them(tmp_path: Path, zarr_format: Any, consolidated: bool) -> None:
    """A labelled group gives its variable with times in datetime64, for both formats, without a warning."""
    path = tmp_path / "a.zarr"
    stamps = np.datetime64("2026-01-02T03:04:05", "ns") + np.arange(20) * np.timedelta64(40, "ms")
    array = movie(time=stamps)
    with warnings.catch_warnings():
        # zarr-python warns that consolidated metadata is not in the v3 specification; we only read it.
        warnings.simplefilter("ignore")
        array.to_dataset().to_zarr(path, zarr_format=zarr_format, consolidated=consolidated)
    assert recognise(path) == ("zarr", "field")
    source = open_sources(path)[0]
    ticks = source.info.ticks
    assert ticks is not None
    assert ticks.start * ticks.time_base == Fraction(int(stamps[0].astype("i8")), 10**9)
    assert ticks.step * ticks.time_base == Fraction(1, 25)
    assert source.info.attributes["native_epoch_utc"] == "1970-01-01T00:00:00Z"
    check_reads(source, array.values)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_bare_zarr_arrays_read_as_zarr_reads_them(tmp_path: Path, zarr_format: Any) -> None:
    """An array without a group or names is read by zarr itself."""
    path = tmp_path / "a.zarr"
    values = RNG.integers(0, 9, (33, 6, 7)).astype("u2")
    array = zarr.create_array(path, shape=values.shape, chunks=(8, 6, 7), dtype="u2", zarr_format=zarr_format)
    array[:] = values
    source = open_sources(path)[0]
    assert (source.info.kind, source.info.format) == ("stack", "zarr")
    assert source.info.identity[0].size_bytes > 0
    check_reads(source, values)


def test_zarr_v2_groups_without_names_are_read(tmp_path: Path) -> None:
    """xarray cannot open a v2 group whose arrays name no dimensions; zarr can."""
    path = tmp_path / "a.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    values = RNG.random((6, 4))
    group.create_array("one", shape=values.shape, dtype="f8")[:] = values
    check_reads(open_sources(path)[0], values)
    group.create_array("two", shape=(6, 5), dtype="f8")
    group.create_group("inner")
    with pytest.raises(SourceError, match=r"one \(6, 4\) float64, two .*groups: inner; .*variable=NAME"):
        open_sources(path)
    assert open_sources(path, options={"variable": "two"})[0].info.columns[0].shape == (6, 5)
    with pytest.raises(SourceError, match="does not say which array is the recording"):
        open_sources(path, options={"variable": "three"})
    with pytest.raises(SourceError, match="has no Zarr metadata; expected zarr.json"):
        open_sources(path, options={"group": "nowhere"})


def test_damaged_zarr_is_an_error(tmp_path: Path) -> None:
    """Metadata that is no metadata is one line."""
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array", "shape": "no"}')
    with pytest.raises(SourceError, match="is no readable Zarr store"):
        open_sources(path)
